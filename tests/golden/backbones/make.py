"""Write the .npz files beside this file: logits of PyTorch networks with the weights of random_state.py.

    python make.py                  # all files (2 minutes on one core, 3 GB of memory)
    python make.py timm_resnet50 …  # these only
    python make.py --precision torchvision_resnet50 …   # float32 against float64, writes nothing

Made with Python 3.11, torch 2.13.0+cpu, torchvision 0.28.0, timm 1.0.31, efficientnet-lite-pytorch 0.1.0
and NumPy 2.4.6.  No pretrained weights and no network access are needed.
"""

import gc
import importlib.metadata
import pathlib
import sys
import time

import numpy as np
import torch
from random_state import images, state_dict

try:
    import torchvision
except (
    RuntimeError
):  # its compiled library does not fit this torch: declare the operators that it misses
    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    operators = torch.library.Library("torchvision", "DEF")
    for name in "nms", "qnms":
        operators.define(
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision
import timm
from efficientnet_lite_pytorch import EfficientNet

HERE = pathlib.Path(__file__).parent
SIZES = [(64, 64), (75, 97)]
LARGE = (256, 288)  # VGG's last map is larger than 7x7: torchvision and timm differ
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESNETS = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
VGGS = [f"vgg{depth}{norm}" for norm in ("", "_bn") for depth in (11, 13, 16, 19)]
NETWORKS = {
    "torchvision": ["mobilenet_v2", *RESNETS, *VGGS],
    "timm": ["mobilenetv2_100", *RESNETS, *VGGS]
    + [f"{prefix}efficientnet_lite{i}" for prefix in ("", "tf_") for i in range(5)],
    "efficientnet_lite_pytorch": [f"lite{i}" for i in range(5)],
}


def build(library, name, **options):
    """The network, in evaluation mode, and what its file says about it besides."""
    padding, mean, std = "symmetric", *IMAGENET
    if library == "torchvision":
        model = torchvision.models.get_model(name, weights=None, **options)
    elif library == "timm":
        model = timm.create_model(name, pretrained=False, **options)
        mean, std = model.default_cfg["mean"], model.default_cfg["std"]
        padding = "same" if name.startswith("tf_") else "symmetric"
    else:
        model = EfficientNet.from_name("efficientnet-" + name, **options)
        padding, mean, std = "same", (0.5,) * 3, (0.5,) * 3
    eps = {
        module.eps
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    assert len(eps) <= 1
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state = state_dict(shapes.keys(), shapes.values())
    model.load_state_dict(
        {key: torch.from_numpy(value) for key, value in state.items()}, strict=True
    )
    facts = {
        "names": np.array(list(shapes)),
        "shapes": np.array([",".join(map(str, shape)) for shape in shapes.values()]),
        "mean": np.array(mean, np.float32),
        "std": np.array(std, np.float32),
        "eps": np.array(
            *eps or [np.nan], np.float64
        ),  # of BatchNorm; nan: the network has none
        "padding": np.array(padding),
        "library": np.array(
            f"{library} {importlib.metadata.version(library)}, torch {torch.__version__}"
        ),
    }
    return model.eval(), facts


@torch.inference_mode()
def logits(model, facts, size, dtype=torch.float32):
    x = torch.from_numpy(
        ((images(*size) - facts["mean"]) / facts["std"]).transpose(0, 3, 1, 2).copy()
    )
    return model(x.to(dtype)).numpy()


def lite_facts(model):
    """efficientnet_lite_pytorch pads for its nominal size, whatever the input's: write down how."""
    convolutions = {
        key: m for key, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)
    }
    pads = [
        getattr(m.static_padding, "padding", (0, 0, 0, 0))
        for m in convolutions.values()
    ]
    return {
        "static_names": np.array(list(convolutions)),
        "static_padding": np.array(pads, np.int64)[
            :, [2, 3, 0, 1]
        ],  # top, bottom, left, right
    }


def make(library, name):
    model, facts = build(library, name)
    if library == "efficientnet_lite_pytorch":
        facts |= lite_facts(model)
        nominal = (model.input_image_size,) * 2
        facts["logits_{}x{}".format(*nominal)] = logits(model, facts, nominal)
        # The same static padding on another size, and padding for that size (image_size=None).
        facts["static_logits_75x97"] = logits(model, facts, (75, 97))
        dynamic, _ = build(library, name, image_size=None)
        facts["dynamic_logits_75x97"] = logits(dynamic, facts, (75, 97))
    else:
        for size in [*SIZES, *([LARGE] if name.startswith("vgg") else [])]:
            facts["logits_{}x{}".format(*size)] = logits(model, facts, size)
    path = HERE / f"{library}_{name}.npz"
    np.savez_compressed(path, **facts)
    return path, facts


def precision(library, name):
    """The largest difference of float32 logits from float64's, relative to the largest logit."""
    model, facts = build(library, name)
    single = logits(model, facts, (75, 97))
    double = logits(model.double(), facts, (75, 97), torch.float64)
    difference = np.abs(single - double)
    print(
        f"{library}_{name}: abs {difference.max():.2e} rel {difference.max() / np.abs(double).max():.2e}",
        flush=True,
    )


def main(arguments):
    torch.set_num_threads(1)
    chosen = [argument for argument in arguments if argument != "--precision"]
    for library, names in NETWORKS.items():
        for name in names:
            if chosen and f"{library}_{name}" not in chosen:
                continue
            if "--precision" in arguments:
                precision(library, name)
                gc.collect()
                continue
            start = time.monotonic()
            path, facts = make(library, name)
            text = []
            for key, value in facts.items():
                if "logits" in key:
                    assert (
                        np.isfinite(value).all()
                        and value.shape == (2, 1000)
                        and value.dtype == np.float32
                    )
                    text.append(
                        f"{key} std {value.std():.3g} max {abs(value).max():.3g} "
                        f"between images {(value[0] - value[1]).std():.3g}"
                    )
            assert path.stat().st_size <= 50_000, path
            print(
                f"{path.name} {path.stat().st_size} B, {time.monotonic() - start:.1f} s:",
                "; ".join(text),
                flush=True,
            )
            del facts
            gc.collect()


if __name__ == "__main__":
    main(sys.argv[1:])
