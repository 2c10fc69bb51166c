r"""CA-Stream's table for plain CNNs: drop, gain, increase, insertion, deletion.

    unlir evaluate --config configs/ca_stream_table.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.model.weights=resnet50.pth \
        --workdir runs/average

The rows with attention are of a training with configs/attention_pooling.py, whose
workdir is the model:

    unlir train \
        --config configs/attention_pooling.py:backbone=resnet50,recipe=resnet \
        --config.data.path=DIR --config.model.weights=resnet50.pth --workdir runs/stream
    unlir evaluate --config configs/ca_stream_table.py:model=runs/stream,data=imagenet \
        --config.data.options.data_dir=TFDS --workdir runs/attention

Torres Figueroa, Zhang, Sicre, Avrithis and Ayache, *CA-Stream*, CVPR Workshops 2024.
Score-CAM weighs filters by the masked images' probabilities, without a softmax over the
filters, as the authors do. The values differ from Opti-CAM's for the same methods,
because weights and the blur of insertion differ: theirs is 5 pixels wide, RISE's here
is 11.

Arguments: as in `configs/evaluate.py`.

Expected: on ImageNet's validation set, as published, ResNet-50 (AD, AG, AI, insertion,
deletion, in per cent), first with average pooling, then with CA-Stream:

    Grad-CAM      13.04  17.56  44.47  72.57  13.24
    Grad-CAM++    13.79  15.87  42.08  72.32  13.33
    Score-CAM      8.83  17.97  48.46  71.99  14.31
    Grad-CAM      12.54  22.67  48.56  75.53  13.50
    Grad-CAM++    13.99  19.29  44.60  75.21  13.78
    Score-CAM      7.09  23.65  54.20  74.91  14.68

With attention, gain, increase and insertion are better for all; drop is worse for
Grad-CAM++, and deletion for all. docs/results/saliency.md has small runs.

Time: 2,500 network passes an image, nearly all for Score-CAM.
"""

from unlir_jax.evaluation import settings


def get_config(argument=""):
    """Give the settings."""
    found, _ = settings.choose(
        argument,
        model="resnet50",
        methods=("grad_cam", "grad_cam_plus_plus", "score_cam"),
        metrics=(
            "average_drop",
            "average_gain",
            "average_increase",
            "insertion",
            "deletion",
        ),
        method_options={"score_cam": {"weighting": "probability"}},
    )
    found.batch_size = 8
    return found
