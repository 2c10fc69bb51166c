"""Write the .npz files beside this file: what PyTorch's peers make of trained networks.

    python make.py MOBILENET_V2.pth EFFICIENTNET_LITE0.pth

Made with Python 3.12, torch 2.13.0, torchvision 0.28.0, grad-cam 1.5.7, captum 0.9.0, efficientnet-lite-pytorch 0.1.0,
scikit-image 0.26.0 and NumPy 2.4.6. All is computed in float64, but for Ablation-CAM's scores, which grad-cam makes float32.
"""

import functools
import pathlib
import sys

import numpy as np
import skimage.data
import skimage.transform
import torch
import torchvision
from captum.attr import GuidedBackprop, IntegratedGradients, Saliency
from efficientnet_lite_pytorch import EfficientNet
from pytorch_grad_cam import (
    AblationCAM,
    EigenCAM,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.metrics.cam_mult_image import CamMultImageConfidenceChange
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
)
from torch import nn

HERE = pathlib.Path(__file__).parent
SIDE = 128
# What the networks say of them: cup, space shuttle, tabby or Egyptian cat.
PICTURES = {"coffee": 968, "rocket": 657, "chelsea": 285}


class Zeroed(AblationLayer):
    """Set filters to 0, as the paper does.

    grad-cam subtracts 1e7 from the smallest value where the layer has negative ones.
    """

    def __call__(self, x):
        for row, number in zip(self.activations, self.indices, strict=False):
            row[number] = 0
        return self.activations


CAMS = {
    "grad_cam": GradCAM,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "xgrad_cam": XGradCAM,
    "hires_cam": HiResCAM,
    "layer_cam": LayerCAM,
    "elementwise_grad_cam": GradCAMElementWise,
    "eigen_cam": EigenCAM,
    "ablation_cam": functools.partial(AblationCAM, ablation_layer=Zeroed()),
    "score_cam": ScoreCAM,
}


class Clipped(nn.Module):
    """ReLU6 whose ReLU captum sees."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return torch.clamp(self.relu(x), max=6)


class Pixels(nn.Module):
    """A network of pixels in [0, 1]."""

    def __init__(self, network, mean, std):
        super().__init__()
        self.network = network
        shape = (1, 3, 1, 1)
        self.mean = torch.tensor(mean, dtype=torch.float64).reshape(shape)
        self.std = torch.tensor(std, dtype=torch.float64).reshape(shape)

    def forward(self, x):
        return self.network((x - self.mean) / self.std)


def visible(module):
    """Put every ReLU6 where captum sees it."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, Clipped())
        else:
            visible(child)
    return module


def pictures():
    """Cut the middle square of each picture, and make it small."""
    made = []
    for name in PICTURES:
        picture = getattr(skimage.data, name)()
        side = min(picture.shape[:2])
        top, left = ((size - side) // 2 for size in picture.shape[:2])
        square = picture[top : top + side, left : left + side] / 255
        small = skimage.transform.resize(square, (SIDE, SIDE), anti_aliasing=True)
        made.append(np.round(small * 255).astype(np.uint8))
    return np.stack(made)


def raw_map(kind, model, layer, x, labels):
    """Give a map of grad-cam before it is clipped, scaled and enlarged."""
    targets = [ClassifierOutputTarget(label) for label in labels]
    with kind(model=model, target_layers=[layer]) as cam:
        outputs = cam.activations_and_grads(x)
        loss = sum(
            target(output) for target, output in zip(targets, outputs, strict=True)
        )
        model.zero_grad()
        loss.backward(retain_graph=True)
        seen = cam.activations_and_grads
        activations, gradients = (
            held[0].cpu().data.numpy() for held in (seen.activations, seen.gradients)
        )
        return cam.get_cam_image(x, layer, targets, activations, gradients, False)


def shares(array):
    """Give an array as float16 shares of its largest value, and that value."""
    largest = np.abs(array).max()
    return (array / largest).astype(np.float16), largest


def channels_last(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def mobilenet(path, x, labels):
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(torch.load(path, weights_only=True))
    model = Pixels(
        visible(network.double().eval()), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    found = {"logits": model(x).detach().numpy()}
    inner, last = network.features[13], network.features[18]
    for name, kind in CAMS.items():
        few = slice(1) if name in ("ablation_cam", "score_cam") else slice(None)
        found[f"inner/{name}"] = raw_map(kind, model, inner, x[few], labels[few])
    for name in ("grad_cam", "layer_cam", "eigen_cam"):
        found[f"last/{name}"] = raw_map(CAMS[name], model, last, x, labels)
    one, label = x[:1], int(labels[0])
    found["gradient"], found["gradient_scale"] = shares(
        channels_last(Saliency(model).attribute(one.clone(), label, abs=False))
    )
    found["guided_backpropagation"], found["guided_backpropagation_scale"] = shares(
        channels_last(GuidedBackprop(model).attribute(one.clone(), label))
    )
    integrated = IntegratedGradients(model).attribute(
        one.clone(), 0 * one, label, n_steps=50, method="gausslegendre"
    )
    found["integrated_gradients"], found["integrated_gradients_scale"] = shares(
        channels_last(integrated)
    )
    with GradCAM(model=model, target_layers=[last]) as cam:
        targets = [ClassifierOutputTarget(label) for label in labels]
        masks = cam(x, targets)
    targets = [ClassifierOutputSoftmaxTarget(label) for label in labels]
    found["masks"] = np.round(masks * 255).astype(np.uint8)
    found["confidence_change"] = CamMultImageConfidenceChange()(
        x, found["masks"] / 255, targets, model
    )
    return found


def efficientnet(path, x, labels):
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    model = Pixels(network.double().eval(), (0.5,) * 3, (0.5,) * 3)
    found = {"logits": model(x).detach().numpy()}
    found["gradient"], found["gradient_scale"] = shares(
        channels_last(
            Saliency(model).attribute(x[:1].clone(), int(labels[0]), abs=False)
        )
    )
    return found


def main(mobilenet_file, efficientnet_file):
    torch.set_num_threads(1)
    images, labels = pictures(), np.asarray(list(PICTURES.values()))
    x = torch.from_numpy(images.transpose(0, 3, 1, 2) / 255)
    np.savez_compressed(HERE / "images.npz", images=images, labels=labels)
    for name, make, file in (
        ("mobilenet_v2", mobilenet, mobilenet_file),
        ("efficientnet_lite0", efficientnet, efficientnet_file),
    ):
        found = make(file, x, labels)
        found["logits"] = found["logits"].astype(np.float32)
        print(name, "says", found["logits"].argmax(1), "of", labels)
        for key, value in found.items():
            print(f"    {key} {value.dtype} {value.shape} largest {np.max(value):.4g}")
            assert np.isfinite(value).all()
        np.savez_compressed(HERE / f"{name}.npz", **found)
    files = sorted(HERE.glob("*.npz"))
    assert sum(file.stat().st_size for file in files) < 1_000_000
    print({file.name: file.stat().st_size for file in files})


if __name__ == "__main__":
    main(*sys.argv[1:])
