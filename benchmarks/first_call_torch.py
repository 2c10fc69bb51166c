"""Explain one photograph with torch and pytorch-grad-cam, as their users write it."""

# torch is in the peer's environment only, never in the one that pyright reads.
# pyright: reportMissingImports=false

import sys

import numpy as np
import torch
import torchvision
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image

photo, weights, output = sys.argv[1:]
network = torchvision.models.mobilenet_v2()
network.load_state_dict(torch.load(weights, weights_only=True))
network.eval()
prepare = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
image = Image.open(photo).convert("RGB")
with GradCAM(model=network, target_layers=[network.features[-1]]) as cam:
    saliency = cam(prepare(image)[None], targets=None)[0]
seen = np.asarray(image.resize((224, 224)), np.float32) / 255
Image.fromarray(show_cam_on_image(seen, saliency, use_rgb=True)).save(output)
