"""The networks that can be asked for by name."""

import re

from unlir_jax.core import choices

# Importing a backbone registers it. The order is that of lists and tables.
# isort: off
from unlir_jax.models import mobilenet_v2 as mobilenet_v2
from unlir_jax.models import efficientnet_lite as efficientnet_lite
from unlir_jax.models import resnet as resnet
from unlir_jax.models import vgg as vgg
from unlir_jax.models import strided as strided
from unlir_jax.models import vit as vit
from unlir_jax.models import deit as deit
from unlir_jax.models import dino as dino
from unlir_jax.models import clip as clip
from unlir_jax.models import cait as cait
from unlir_jax.models import xcit as xcit
from unlir_jax.models import convnext as convnext
from unlir_jax.models import swin as swin
from unlir_jax.models import b_cos as b_cos

# isort: on
from unlir_jax.models.backbone import NETWORKS, Network
from unlir_jax.storage import paths

SIZES = (
    "atto femto pico nano tiny small medium base large xlarge huge giant so400m"
).split()
"""Words for the sizes of networks."""


def networks() -> dict[str, Network]:
    """List every network by name."""
    return dict(NETWORKS)


def synonyms() -> dict[str, str]:
    """List other names of networks, and ours for them."""
    return {word: name for name, known in NETWORKS.items() for word in known.synonyms}


def is_known(name: str) -> bool:
    """Tell whether a network has this name, or this synonym."""
    return name in NETWORKS or name in synonyms()


def find(name: str, setting: str = "name") -> tuple[str, Network]:
    """Look a network up, by our name or by timm's.

    Args:
        name: The name.
        setting: Name of its setting, for messages.

    Returns:
        Our name, and the network.

    Raises:
        ValueError: There is none of that name; the message has the nearest ones, and
            the kinds of all.
    """
    chosen = synonyms().get(name, name)
    listed = f"known, where * is a size: {', '.join(patterns())}"
    wrong = f"`{setting}`={paths.shown(name)} is not a network"
    choices.pick(chosen, NETWORKS, wrong, listed)
    return chosen, NETWORKS[chosen]


def patterns() -> tuple[str, ...]:
    """List the kinds of names, with `*` for what is a size; versions stay."""
    sizes = "|".join(SIZES)
    size = rf"_(?:{sizes})(?=_|$)|(?<!\d)(?<!v)(?<!deit)(?<!reg)\d+"
    return tuple(dict.fromkeys(re.sub(size, _star, name) for name in NETWORKS))


def _star(found: re.Match[str]) -> str:
    return "_*" if found[0].startswith("_") else "*"


def layer_path(network: Network, layer: str) -> str:
    """Translate another library's name of a layer, such as `features.13`, into ours."""
    return network.aliases.get(layer, layer.replace(".", "/"))
