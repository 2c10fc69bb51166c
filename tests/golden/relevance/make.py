"""Write the .npz files beside this file: relevance by zennit on torchvision's networks.

    python make.py

Weights and pictures are those of `../backbones/random_state.py`; all is float64.
"""

import pathlib
import sys

import numpy as np
import torch
import torchvision
import zennit
from zennit import attribution, composites
from zennit import torchvision as canonizers

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "backbones"))

from random_state import images, state_dict  # noqa: E402

HERE = pathlib.Path(__file__).parent
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
LABELS = (3, 700)
SIDE = 32
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
LOW, HIGH = (
    torch.tensor((end - MEAN) / STD)[None, :, None, None] for end in (0.0, 1.0)
)
COMPOSITES = {
    "epsilon_plus": (composites.EpsilonPlus, {}),
    "epsilon_plus_flat": (composites.EpsilonPlusFlat, {}),
    "epsilon_alpha2_beta1": (composites.EpsilonAlpha2Beta1, {}),
    "epsilon_gamma_box": (composites.EpsilonGammaBox, {"low": LOW, "high": HIGH}),
}


def make(name, canonizer):
    net = torchvision.models.get_model(name, weights=None)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    state = state_dict(shapes.keys(), shapes.values())
    net.load_state_dict(
        {
            k: torch.from_numpy(v).double()
            if v.dtype == np.float32
            else torch.from_numpy(v)
            for k, v in state.items()
        }
    )
    net.eval()
    pixels = torch.from_numpy(
        ((images(SIDE, SIDE) - MEAN) / STD).transpose(0, 3, 1, 2).copy()
    )
    start = torch.zeros(2, 1000)
    facts = {
        "names": np.array(list(shapes)),
        "shapes": np.array([",".join(map(str, s)) for s in shapes.values()]),
    }
    for key, (kind, options) in COMPOSITES.items():
        composite = kind(canonizers=[canonizer()], stabilizer=1e-12, **options)
        with attribution.Gradient(model=net, composite=composite) as attributor:
            output = net(pixels)
            for index, label in enumerate(LABELS):
                start[index, label] = output.detach()[index, label]
            _, found = attributor(pixels, start)
        facts[key] = found.sum(1).numpy()
        facts["logits"] = output.detach().numpy()[[0, 1], LABELS]
        print(name, key, facts[key].sum((1, 2)), facts["logits"])
    facts["labels"] = np.array(LABELS)
    facts["library"] = np.array(
        f"zennit {zennit.__version__ if hasattr(zennit, '__version__') else '1.0.0'}, torch {torch.__version__}"
    )
    np.savez_compressed(HERE / f"{name}.npz", **facts)


if __name__ == "__main__":
    make("resnet18", canonizers.ResNetCanonizer)
    make("vgg11_bn", canonizers.VGGCanonizer)
