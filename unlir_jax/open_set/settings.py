"""Every setting of an evaluation of open sets; configs change some of them."""

from typing import cast

from ml_collections import ConfigDict

from unlir_jax.training import defaults

KIND = "open_set"


def open_set() -> ConfigDict:
    """Give the settings, for a config file to fill in."""
    whole = defaults.training()
    return ConfigDict(
        {
            "kind": KIND,
            # Seed of the splits, of folds, and of the start of parts.
            "seed": 0,
            **_classes(),
            # Share of images of known classes that the rejecter keeps.
            "kept": 0.95,
            # Whether unknown classes are also scored in halves: the ones that are most
            # like a known class (hard), and the others (easy). Where a protocol or a
            # file says which are hard, they are always scored apart.
            "similarity": False,
            # Filled in by `score_names.choose`: names of scores, and best, which is the
            # one or the average that is chosen on known classes; and their settings.
            "scores": (),
            "score_options": {},
            # prototypes (cosines of whitened features), lda or softmax (regression).
            "head": "prototypes",
            # Share of the targets of softmax that all classes have alike.
            "label_smoothing": 0.0,
            # Pooling of maps: average, max, gem or rmac, and token of a transformer;
            # "": gem, or token.
            "pooling": "",
            # Whether pooled features get unit length before anything is fitted.
            "unit_length": True,
            # Of the score `parts`: their number, and of how many training images their
            # cells are clustered.
            "detectors": {"parts": 256, "images": 400},
            "data": whole.data,
            "model": {
                "name": "mobilenet_v2",
                "weights": cast(ConfigDict, whole.model).get_ref("weights"),
                "weights_key": "",
            },
            # Where features are kept; "": the user's cache folder.
            "features": {"folder": ""},
            "batch_size": 32,
            "statistics": {"confidence": 0.95, "resamples": 10_000},
            # Most confusing images in the report, of either side.
            "gallery": 12,
        }
    )


def _classes() -> dict[str, int | float | str]:
    """Give the settings that say which images are known and unknown."""
    return {
        # The first so many draws of known classes; with `unknown` there is one.
        "splits": 5,
        # Share of the classes that are known; 1 needs `near` or `far` sets.
        "known": 0.5,
        # A file with the names of unknown classes, one a line, in place of draws; or
        # JSON with known and unknown ones, see `semantic_shift.read`.
        "unknown": "",
        # A file with the names of known classes; "": all that are not unknown.
        "known_classes": "",
        # Splits of the field in place of draws, one of `protocols.PROTOCOLS`.
        "protocol": "",
        # Images of no known class, each PATH or NAME=PATH, joined by commas: near
        # sets, such as other species, and far ones; see `unknown_sets.opened`.
        "near": "",
        "far": "",
    }
