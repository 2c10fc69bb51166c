"""Every setting of learning from few pictures; configs change some of them."""

from typing import cast

from ml_collections import ConfigDict

from unlir_jax.training import defaults


def few_shot() -> ConfigDict:
    """Give the settings, for a config file to fill in."""
    whole = defaults.training()
    return ConfigDict(
        {
            # Of the order of pictures, crops and mixtures; draws have numbers instead.
            "seed": 0,
            # Pictures of each class that are learnt from.
            "k": 5,
            # Classes, drawn; 0: all.
            "ways": 0,
            # The first so many draws, the same pictures for every method.
            "draws": 5,
            # One of `adaptation.methods.METHODS`.
            "method": "filters",
            # For several runs by one command, beside each other: all combinations of
            # these with these; (): only the two above. ("all",) is every method.
            "shots": (),
            "methods": (),
            # So many other training pictures, or "all", are learnt from without their
            # labels.
            "unlabelled": "0",
            "data": whole.data,
            "model": {
                "name": "mobilenet_v2",
                "weights": cast(ConfigDict, whole.model).get_ref("weights"),
                "weights_key": "",
                # Filters behind this block have weights; "auto": 40 % are in front.
                "after": "auto",
            },
            # Steps of an adapter, 0: as many as suit the number of pictures.
            "steps": 0,
            "batch_size": 50,
            "head_rate": 1e-3,
            # Of adapters: cosine, from the means of the classes, or linear. A linear
            # head on `pooling` "average" can become a network's classifier, see `unlir
            # adapters apply`.
            "head": "cosine",
            # What a linear head starts from: ridge (regression) or lda.
            "head_start": "ridge",
            # Of adapters' maps: average, max, gem or rmac; "": as the method has it.
            "pooling": "",
            # Added to the loss of adapters: towards_one, l1 or hard_concrete, see
            # `adaptation.sparsity`; the last two make filters superfluous, and want
            # method=filters_single, for several adapters together need all filters.
            "penalty": {"name": "", "weight": 0.0, "select": ""},
            # Both sides of a picture, in training and at test.
            "flips": True,
            # Random crops of each picture, for adapters that learn from them.
            "crops": 4,
        }
    )
