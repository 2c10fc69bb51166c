"""Write the .npz files beside this file: relevance by zennit on torchvision's networks.

    python make.py                # all files
    python make.py mobilenet_v2   # these only

Weights and pictures are those of `../backbones/random_state.py`; all is float64.
"""

import importlib.metadata
import pathlib
import sys

import numpy as np
import torch
import torchvision
from torchvision.models import mobilenetv2
from zennit import attribution, composites, layer
from zennit import canonizers as base
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


class MobileNetCanonizer(base.CompositeCanonizer):
    """Fold norms, and give sums and the pooling modules of their own.

    zennit has none for MobileNetV2, whose sums would pass relevance twice.
    """

    def __init__(self):
        modules = base.AttributeCanonizer(self.attributes)
        super().__init__((base.SequentialMergeBatchNorm(), modules))

    @staticmethod
    def attributes(name, module):
        if isinstance(module, mobilenetv2.InvertedResidual):
            return {"added": layer.Sum(), "forward": add.__get__(module)}
        if isinstance(module, mobilenetv2.MobileNetV2):
            pooled = torch.nn.AdaptiveAvgPool2d(1)
            return {"pooled": pooled, "forward": classify.__get__(module)}
        return None


def add(block, values):
    """Do as a block does."""
    found = block.conv(values)
    if not block.use_res_connect:
        return found
    return block.added(torch.stack([values, found], dim=-1))


def classify(net, pixels):
    """Do as the network does."""
    return net.classifier(net.pooled(net.features(pixels)).flatten(1))


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
    norms = [each for each in net.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-5}
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
            for norm in norms:  # zennit 0.5.1 leaves it, and so no identity.
                norm.eps = 0.0
            output = net(pixels)
            for index, label in enumerate(LABELS):
                start[index, label] = output.detach()[index, label]
            _, found = attributor(pixels, start)
        for norm in norms:
            norm.eps = 1e-5
        facts[key] = found.sum(1).numpy()
        facts["logits"] = output.detach().numpy()[[0, 1], LABELS]
        print(name, key, facts[key].sum((1, 2)), facts["logits"])
    facts["labels"] = np.array(LABELS)
    facts["library"] = np.array(
        f"zennit {importlib.metadata.version('zennit')}, torch {torch.__version__}"
    )
    np.savez_compressed(HERE / f"{name}.npz", **facts)


NETWORKS = {
    "resnet18": canonizers.ResNetCanonizer,
    "vgg11_bn": canonizers.VGGCanonizer,
    "mobilenet_v2": MobileNetCanonizer,
}

if __name__ == "__main__":
    for each in sys.argv[1:] or NETWORKS:
        make(each, NETWORKS[each])
