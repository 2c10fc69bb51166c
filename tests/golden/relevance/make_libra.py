"""Write libra.npz beside this file: input x gradient by the rules of LibraGrad.

    python make_libra.py

Rules are those of `notebooks/llama3.ipynb` of NightMachinery/LibraGrad: queries and
keys detached, the gates of GELU and SiLU detached, a gated product halved, the divisor
of a norm detached. They are written here for small networks of timm, in float64.
"""

import math
import pathlib
import sys

import numpy as np
import timm
import torch
from timm.layers import SwiGLU

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "attention"))

from attention_weights import CLASSES, COMMON, SIDE, images, state_dict  # noqa: E402

HERE = pathlib.Path(__file__).parent
LABELS = (1, 0)
NETWORKS = {
    "plain": {},
    "gated": {
        "mlp_layer": SwiGLU,
        "act_layer": torch.nn.SiLU,
        "mlp_ratio": 2.0,
        "reg_tokens": 2,
        "no_embed_class": True,
    },
}
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def norm(self, tokens):
    """Divide by a root that is constant."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    root = (centred.square().mean(-1, keepdim=True) + self.eps).sqrt().detach()
    return centred / root * self.weight + self.bias


def gelu(self, values):
    """Multiply by a gate that is constant."""
    return values * (0.5 + 0.5 * torch.erf(values / math.sqrt(2))).detach()


def gated(self, tokens):
    """Halve the derivative of a gated product."""
    gate = self.fc1_g(tokens)
    product = gate * torch.sigmoid(gate).detach() * self.fc1_x(tokens)
    return self.fc2(product / 2 + (product / 2).detach())


def attend(self, tokens, attn_mask=None, **_):
    """Mix values by weights that are constant."""
    parts = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))
    query, key, value = parts.permute(2, 0, 3, 1, 4)
    scores = query.detach() @ key.detach().transpose(-2, -1) * self.scale
    return self.proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def main():
    found = {"labels": np.array(LABELS)}
    for name, options in NETWORKS.items():
        sizes = {"img_size": SIDE, "embed_dim": 64, "num_heads": 2}
        net = timm.models.VisionTransformer(
            **sizes, num_classes=CLASSES, **COMMON, **options
        ).eval()
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        texts = [",".join(map(str, shape)) for shape in shapes.values()]
        state = state_dict(shapes, texts)
        net.load_state_dict({k: torch.from_numpy(v).double() for k, v in state.items()})
        pictures = torch.from_numpy(images(SIDE, SIDE).transpose(0, 3, 1, 2)).double()
        plain = net((pictures - 0.5) / 0.5)
        rules = {
            timm.models.vision_transformer.Attention: attend,
            type(net.norm): norm,
            type(net.blocks[0].mlp.act): gelu,
            SwiGLU: gated,
        }
        for module in net.modules():
            rule = rules.get(type(module))
            if rule is not None:
                module.forward = rule.__get__(module)
        pictures.requires_grad_()
        logits = net((pictures - 0.5) / 0.5)
        assert abs(logits - plain).max() < 1e-12
        logits[[0, 1], LABELS].sum().backward()
        maps = (pictures * pictures.grad).sum(1)
        found |= {
            f"{name}_names": np.array(list(shapes)),
            f"{name}_shapes": np.array(texts),
            f"{name}_logits": logits.detach().numpy(),
            f"{name}_map": maps.detach().numpy(),
        }
        print(name, abs(maps).max().item(), maps.sum((1, 2)).tolist())
    np.savez_compressed(HERE / "libra.npz", **found)


if __name__ == "__main__":
    main()
