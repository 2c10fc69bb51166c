"""CA-Stream's table for plain CNNs: drop, gain, increase, insertion, deletion.

    unlir evaluate --config configs/ca_stream_table.py:model=resnet50,data=imagenet \
        --config.data.options.data_dir=TFDS --config.model.weights=resnet50.pth \
        --workdir runs/ca_stream

    unlir evaluate --config configs/ca_stream_table.py:model=mobilenet_v2 \
        --config.data.path=imagenet200 --config.model.weights=FILE --workdir runs/small

Torres Figueroa, Zhang, Sicre, Avrithis and Ayache, *CA-Stream*, CVPR Workshops 2024:
the rows with average pooling. The rows with its attention need its training, which this
library does not have. The values differ from Opti-CAM's for the same methods, because
weights and the blur of insertion differ: theirs is 5 pixels wide, RISE's here is 11.

Arguments: as in `configs/evaluate.py`.

Expected: on ImageNet's validation set, as published, ResNet-50 (AD, AG, AI, insertion,
deletion, in per cent):

    Grad-CAM      13.04  17.56  44.47  72.57  13.24
    Grad-CAM++    13.79  15.87  42.08  72.32  13.33
    Score-CAM      8.83  17.97  48.46  71.99  14.31

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
    )
    found.batch_size = 8
    return found
