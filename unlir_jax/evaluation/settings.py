"""Every setting of an evaluation, with its default; configs change some of them."""

from ml_collections import ConfigDict, config_dict


def evaluation() -> ConfigDict:
    """Give the settings of an evaluation, for a config file to fill in."""
    return ConfigDict(
        {
            # Of random maps, baselines, intervals and tests.
            "seed": 0,
            # Over all devices of a process; memory grows with it.
            "batch_size": 16,
            # Of each process; 0: all there are.
            "devices": 0,
            # A name of `unlir models`, or the workdir of a training; where it is cut,
            # "" for its last maps.
            "model": {
                "name": "efficientnet_lite0",
                "weights": config_dict.placeholder(str),
                "layer": "",
            },
            "data": _data(),
            # Which class is explained: the data's own ("true") or the "predicted" one.
            "labels": "true",
            # Names of `unlir methods`, and settings of single ones.
            "methods": ("grad_cam", "opti_cam"),
            "method_options": {},
            "metrics": (
                "average_drop",
                "average_increase",
                "average_gain",
                "insertion",
                "deletion",
            ),
            "metric_options": {},
            # Scores maps that know nothing of the network beside all methods.
            "controls": True,
            "statistics": {"confidence": 0.95, "resamples": 10_000},
            # Pictures of each kind (best, worst, most disputed) in the report.
            "gallery": 3,
        }
    )


def _data() -> dict:
    return {
        # folder, npz, tfds, elpv or synthetic_parts.
        "source": "folder",
        "path": "",
        # "auto": test, validation or val where there is one, else all.
        "split": "auto",
        # What else the source takes.
        "options": {},
        # So many pictures, evenly spread; 0: all.
        "limit": 0,
        # 0: as the network was trained.
        "image_size": 0,
        "crop": 0.0,
        # Stop at a picture that cannot be read, instead of counting it.
        "strict": False,
        "workers": 0,
        "threads": 0,
    }
