"""Tables 6, A.12 and A.13 of Opti-CAM: its objectives, normalisations and layers.

    unlir evaluate --config configs/opti_cam_table6.py:model=vgg16_bn,data=imagenet \
        --config.data.options.data_dir=TFDS --config.data.limit=1000 \
        --config.model.weights=vgg16_bn.pth --workdir runs/table6_mask_range

    unlir evaluate --config \
configs/opti_cam_table6.py:model=mobilenet_v2,objective=diff,normalization=max \
        --config.data.path=imagenet200 --config.model.weights=FILE --workdir runs/small

Zhang, Torres, Sicre, Avrithis and Ayache, *Opti-CAM*, CVIU 248 (2024). One run a row.
The authors do not name their thousand images; these are spread evenly.

Arguments: as in `configs/evaluate.py`; `objective`, one of mask, diff, iomask and
iodiff; `normalization`, one of range, max and sigmoid; `steps`; `layer`.

Expected: as published, VGG-16 with norms at conv5_3, AD, AG and AI in per cent:

    mask    range    1.4  66.3  92.5      diff    range    7.1  18.5  54.9
    mask    max      1.6  66.2  90.3      diff    max      6.8  17.8  54.5
    mask    sigmoid  5.0  18.3  57.5      diff    sigmoid  6.5  10.0  45.3
    iomask  range    0.2   5.5  99.7      iodiff  range   25.9   7.6  42.6  (steps=50)

and at other layers, mask and range (the last convolution's index in brackets):

    conv5_1 (36)  1.7  66.1  90.3         conv3_2 (19)  2.9  67.3  84.9
    conv4_3 (32)  2.8  61.3  81.6         conv3_1 (16)  2.3  72.4  89.1
    conv4_2 (29)  1.6  78.0  93.9         conv2_2 (12)  4.1  61.9  82.4
    conv4_1 (26)  1.7  80.1  93.7         conv2_1 (9)   4.3  44.2  71.9
    conv3_3 (22)  3.3  68.8  84.8

Time: 300 network passes an image.
"""

from unlir_jax.evaluation import settings


def get_config(argument=""):
    """Give the settings."""
    found, given = settings.choose(
        argument,
        model="vgg16_bn",
        methods=("opti_cam",),
        metrics=("average_drop", "average_gain", "average_increase"),
        objective="mask",
        normalization="range",
        steps=100,
        layer="",
    )
    found.model.layer = given.layer
    for options in found.method_options.values():
        for name in ("objective", "normalization", "steps"):
            if name in options:
                options[name] = getattr(given, name)
    found.batch_size = 8
    return found
