"""Write vit.npz beside this file: CP-LRP and AttnLRP by lxt on a torchvision ViT.

    python make_transformer.py

Weights are those of `../attention/attention_weights.py`; all is float64.
"""

import importlib.util
import pathlib
import sys
import types

import numpy as np
import torch

# lxt imports the models of transformers 4, which are not needed.
skipped = types.ModuleType("lxt.efficient.models")
place = importlib.util.find_spec("lxt").submodule_search_locations[0]
skipped.__path__ = [f"{place}/efficient/models"]
skipped.get_default_map = lambda module: None
sys.modules["lxt.efficient.models"] = skipped

from lxt.efficient.core import monkey_patch  # noqa: E402
from lxt.efficient.models.vit_torch import cp_LRP  # noqa: E402
from lxt.efficient.patches import wrap_attention_forward  # noqa: E402
from lxt.efficient.zennit_patches import monkey_patch_zennit  # noqa: E402
from torchvision.models import vision_transformer  # noqa: E402
from zennit import rules  # noqa: E402
from zennit.composites import LayerMapComposite  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "attention"))

from attention_weights import images, state_dict  # noqa: E402

HERE = pathlib.Path(__file__).parent
LABELS = (1, 0)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
monkey_patch(vision_transformer, cp_LRP)
monkey_patch_zennit()


def softmax_attention(module, query, key, value):
    """Mix values by the weights of queries and keys, `[batch, heads, tokens, c]`."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return scores.softmax(-1) @ value


def shared_forward(self, tokens, *_, **__):
    """Attend as torch does, by products that lxt's wrapper divides."""
    projected = torch.nn.functional.linear(
        tokens, self.in_proj_weight, self.in_proj_bias
    )
    parts = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = wrap_attention_forward(softmax_attention)(self, *parts)
    mixed = mixed.transpose(1, 2).flatten(2)
    weight, bias = self.out_proj.weight, self.out_proj.bias
    return torch.nn.functional.linear(mixed, weight, bias), None


def relevance(net, pixels, patch, dense):
    """Maps of two pictures by the rule gamma in linear layers."""
    composite = LayerMapComposite(
        [
            (torch.nn.Conv2d, rules.Gamma(patch, stabilizer=1e-12)),
            (torch.nn.Linear, rules.Gamma(dense, stabilizer=1e-12)),
        ]
    )
    composite.register(net)
    given = pixels.clone().requires_grad_()
    logits = net(given)
    logits[[0, 1], LABELS].sum().backward()
    composite.remove()
    return (given * given.grad).sum(1).detach().numpy()


def main():
    net = vision_transformer.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=2,
        hidden_dim=64,
        mlp_dim=256,
        num_classes=5,
    ).eval()
    shapes = {name: tuple(v.shape) for name, v in net.state_dict().items()}
    texts = [",".join(map(str, shape)) for shape in shapes.values()]
    state = state_dict(shapes, texts)
    net.load_state_dict(
        {name: torch.from_numpy(v).double() for name, v in state.items()}
    )
    pixels = torch.from_numpy(
        ((images(32, 32) - 0.5) / 0.5).transpose(0, 3, 1, 2).copy()
    ).double()
    facts = {
        "names": np.array(list(shapes)),
        "shapes": np.array(texts),
        "labels": np.array(LABELS),
    }
    facts["logits"] = net(pixels).detach().numpy()
    settings = {"default": (0.25, 0.05), "strong": (100.0, 1.0)}
    for key, gammas in settings.items():
        facts[key] = relevance(net, pixels, *gammas)
    vision_transformer.nn.MultiheadAttention.forward = shared_forward
    for key, gammas in settings.items():
        facts[f"shared_{key}"] = relevance(net, pixels, *gammas)
    for key in ("default", "strong", "shared_default", "shared_strong"):
        print(key, facts[key].sum((1, 2)), facts["logits"][[0, 1], LABELS])
    np.savez_compressed(HERE / "vit.npz", **facts)


if __name__ == "__main__":
    main()
