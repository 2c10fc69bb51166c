"""Every setting of learning from few images; configs change some of them."""

from typing import cast

from ml_collections import ConfigDict

from unlir_jax.training import defaults

KIND, TRAINING = "few_shot", "supervised"


def kind(settings: ConfigDict) -> str:
    """Tell what a config trains: `few_shot`, or `supervised`, as one without `kind`.

    Configs of few shots of an earlier version have no `kind`, but `draws`.

    Raises:
        ValueError: `kind` is another one than that of the other settings.
    """
    meant = KIND if "draws" in settings else TRAINING
    found = settings.get("kind", meant)
    if found != meant:
        raise ValueError(
            f"`kind`={found!r}, but the other settings are those of {meant!r}; "
            f"expected {meant!r}, or another config file."
        )
    return meant


def few_shot() -> ConfigDict:
    """Give the settings, for a config file to fill in."""
    whole = defaults.training()
    return ConfigDict(
        {
            "kind": KIND,
            # Seed of order, crops and mixtures; draws have numbers instead.
            "seed": 0,
            # Images of each class that are learnt from.
            "k": 5,
            # Classes, drawn; 0: all.
            "ways": 0,
            # The first so many draws, the same images for every method.
            "draws": 5,
            # One of `few_shot.methods.METHODS`.
            "method": "filters",
            # For several runs by one command, side by side: all combinations of
            # these with these; (): only the two above. ("all",) is every method.
            "shots": (),
            "methods": (),
            # So many other training images (or "all") are learnt from unlabelled.
            "unlabelled": "0",
            "data": whole.data,
            "model": {
                "name": "mobilenet_v2",
                "weights": cast(ConfigDict, whole.model).get_ref("weights"),
                "weights_key": "",
                # Filters behind this block have weights; "auto": 40 % are in front.
                "after": "auto",
            },
            # Steps of an adapter, 0: as many as suit the number of images.
            "steps": 0,
            "batch_size": 50,
            "head_rate": 1e-3,
            # Head of adapters: cosine, from the means of the classes, or linear. A
            # linear head on `pooling` "average" can become a network's classifier, see
            # `unlir adapters apply`.
            "head": "cosine",
            # What a linear head starts from: ridge (regression) or lda.
            "head_start": "ridge",
            # Pooling of adapters: average, max, gem, rmac or token; "": the method's.
            "pooling": "",
            # Added to the loss of adapters: towards_one, l1 or hard_concrete, see
            # `filters.sparsity`; the last two make filters redundant, and want
            # method=filters_single, for several adapters together need all filters.
            "penalty": {"name": "", "weight": 0.0, "select": ""},
            # Both sides of an image, in training and at test.
            "flips": True,
            # Random crops of each image, for adapters that learn from them.
            "crops": 4,
        }
    )
