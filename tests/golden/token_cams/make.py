"""Write vit.npz and swin.npz beside this file: maps of pytorch-grad-cam on tokens.

    python make.py

Weights and pictures are those of `../attention/attention_weights.py` and
`../transformers/named_weights.py`; all is float64.
"""

import importlib.metadata
import pathlib
import sys

import numpy as np
import pytorch_grad_cam
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / name) for name in ("attention", "transformers")]

import attention_weights  # noqa: E402
import named_weights  # noqa: E402

LABELS = (1, 0)
METHODS = {
    "grad_cam": pytorch_grad_cam.GradCAM,
    "hires_cam": pytorch_grad_cam.HiResCAM,
    "grad_cam_plus_plus": pytorch_grad_cam.GradCAMPlusPlus,
    "layer_cam": pytorch_grad_cam.LayerCAM,
    "eigen_cam": pytorch_grad_cam.EigenCAM,
    "score_cam": pytorch_grad_cam.ScoreCAM,
}
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
timm.layers.set_fused_attn(False)


def vit():
    """A small ViT, as the goldens of attention have it."""
    net = timm.models.VisionTransformer(
        img_size=32,
        embed_dim=64,
        num_heads=2,
        num_classes=5,
        **attention_weights.COMMON,
    )
    return (
        net,
        attention_weights.state_dict,
        (net.blocks[-1].norm1, net.blocks[1].norm1),
    )


def swin():
    """A small Swin, as the goldens of transformers have it."""
    net = timm.models.swin_transformer.SwinTransformer(
        img_size=40,
        patch_size=4,
        window_size=4,
        embed_dim=32,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=10,
        mlp_ratio=2,
    )
    return net, named_weights.state, (net.norm, net.layers[1].blocks[1].norm1)


def vit_grid(tokens):
    """Leave the class token out, and put channels first."""
    count, _, width = tokens.shape
    return tokens[:, 1:].reshape(count, 4, 4, width).permute(0, 3, 1, 2)


def swin_grid(maps):
    """Put channels first."""
    return maps.permute(0, 3, 1, 2)


def explained(kind, net, layer, reshape, pixels):
    """Give raw maps, before they are rectified, enlarged and scaled."""
    found = []
    targets = [ClassifierOutputTarget(label) for label in LABELS]
    with kind(net, [layer], reshape_transform=reshape) as cam:
        own = cam.get_cam_image

        def noted(*arguments):
            found.append(own(*arguments))
            return found[-1]

        cam.get_cam_image = noted
        cam(pixels, targets)
    return found[0]


def make(name, build, reshape, side, mean, deviation):
    net, draw, layers = build()
    shapes = {
        key: tuple(value.shape)
        for key, value in net.state_dict().items()
        if "relative_position_index" not in key
    }
    texts = [",".join(map(str, shape)) for shape in shapes.values()]
    arrays = {k: torch.from_numpy(v).double() for k, v in draw(shapes, texts).items()}
    net.load_state_dict(arrays, strict=False)

    class Standardized(torch.nn.Module):
        """Take pixels in [0, 1], which Score-CAM masks."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            ends = [
                torch.tensor(each).reshape(1, 3, 1, 1) for each in (mean, deviation)
            ]
            return self.net((images - ends[0]) / ends[1])

    whole = Standardized().eval()
    pixels = attention_weights.images(side, side).transpose(0, 3, 1, 2)
    pixels = torch.from_numpy(pixels.copy()).double()
    facts = {
        "names": np.array(list(shapes)),
        "shapes": np.array(texts),
        "labels": np.array(LABELS),
        "logits": whole(pixels).detach().numpy(),
        "library": np.array(
            ", ".join(
                f"{each} {importlib.metadata.version(each)}"
                for each in ("grad-cam", "timm", "torch")
            )
        ),
    }
    for layer, place in zip(layers, ("default", "inner"), strict=True):
        for key, kind in METHODS.items():
            facts[f"{key}/{place}"] = explained(kind, whole, layer, reshape, pixels)
    np.savez_compressed(HERE / f"{name}.npz", **facts)
    for key, value in facts.items():
        if "/" in key:
            print(name, key, value.shape, value.dtype, value.min(), value.max())


if __name__ == "__main__":
    half = (0.5,) * 3
    make("vit", vit, vit_grid, 32, half, half)
    make("swin", swin, swin_grid, 40, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
