"""Every setting of a study; configs change some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from unlir_jax.core.document_types import Document
from unlir_jax.data import presets
from unlir_jax.evaluation import settings as evaluations

KIND = "study"
KINDS = (KIND, "robustness", "open_set", "segmentation", "evaluation")
"""What `unlir evaluate` can be asked for."""
CAMS = (
    *("grad_cam", "grad_cam_plus_plus", "score_cam"),
    *("ablation_cam", "xgrad_cam", "layer_cam"),
)
FAITHFULNESS = (
    *("average_drop", "average_gain", "average_increase"),
    *("insertion", "deletion"),
)
DATA = "source", "path", "split", "options", "image_size", "crop", "interpolation"
"""What says which images are scored, of the group `data` of an evaluation."""
SANITY = ("cascading_randomization", "cascading_randomization@spearman")


def name(arm: str, seed: int) -> str:
    """Name the folder of a trained network, and its variant of the sweep."""
    return f"{arm}-{seed}"


def kind(settings: ConfigDict) -> str:
    """Tell what a config evaluates: `evaluation`, as one without `kind`, or others.

    Raises:
        ValueError: There is no such kind.
    """
    found = settings.get("kind", "evaluation")
    if found not in KINDS:
        raise ValueError(f"`kind`={found!r}; expected one of {KINDS}.")
    return found


def study(
    root: str,
    arms: Mapping[str, Document],
    seeds: int,
    given: Sequence[str] = (),
    data: str = "folder",
) -> ConfigDict:
    """Give the settings, for a config file to fill in.

    Args:
        root: Folder of the workdirs, see `name`.
        arms: What each arm sets in its training, `{"mixup": {"objective.mixup": 0.2}}`;
            the first is what all others are compared with.
        seeds: Number of seeds, from 0 on.
        given: Names of arms that are networks as they are, without a training; without
            other arms the first is what all others are compared with.
        data: Data of a study of given networks alone, see `presets.choose_data`.
    """
    found = _settings(root, arms, seeds, given)
    if not arms:
        # With other arms it is the test split of their trainings.
        found.data = _data(data)
    return found


def _data(name: str) -> ConfigDict:
    whole: Any = evaluations.evaluation()
    presets.choose_data(whole, name)
    if name == "folder":
        whole.data.options = presets.folder_options()
    return ConfigDict({key: whole.data[key] for key in DATA})


def _settings(
    root: str, arms: Mapping[str, Document], seeds: int, given: Sequence[str]
) -> ConfigDict:
    return ConfigDict(
        {
            "kind": KIND,
            # Of random maps, intervals and redrawn layers.
            "seed": 0,
            "batch_size": 16,
            "root": root,
            # The arm that all others are compared with.
            "baseline": next(iter((*arms, *given))),
            # What each arm sets in its training; all else is equal.
            "arms": {
                arm: tuple(f"{key}={value}" for key, value in sets.items())
                for arm, sets in arms.items()
            },
            "seeds": seeds,
            # Arms that are networks as they are: a name of `unlir models` with a file
            # of weights, a workdir, or a factory; with {seed} in it, one for each seed.
            "given": {
                arm: {"name": "", "weights": config_dict.placeholder(str)}
                for arm in given
            },
            # Images of the test split that are scored, evenly spread; the temperature
            # is fitted on half of the others, all but these measure calibration.
            "images": 100,
            # Whether all is scored at that temperature as well, in as much time again.
            "calibrated": True,
            # What is explained: Grad-CAM of the last layer, …; and by what it is
            # scored. Where the data has masks or boxes, `localization` is measured too.
            "methods": (*CAMS, "opti_cam"),
            "method_options": {},
            "metrics": FAITHFULNESS,
            "metric_options": {},
            "localization": "energy_pointing_game",
            # Of the sanity checks, which redraw layers.
            "sanity": {
                "images": 32,
                "methods": ("gradient", "grad_cam"),
                "metrics": SANITY,
            },
            # Attacks on the images that are scored: APGD within budgets of each norm,
            # and boundary projection; none without budgets, and with 0 steps.
            "robustness": {"steps": 20, "linf": (), "l2": (), "distance_steps": 0},
            "statistics": {"confidence": 0.95, "resamples": 10_000},
            # Images in the report.
            "gallery": 6,
        }
    )
