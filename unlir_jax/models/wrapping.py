"""A network of your own, with all that is needed to explain and to evaluate it."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from PIL import Image

from unlir_jax import split, tree
from unlir_jax.data import classes, preprocessing
from unlir_jax.data.levels import AUTO, WhiteLevel
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.split.functions import cut
from unlir_jax.types import Array, Features, Images, SplitModel, Variables
from unlir_jax.weights import exported

NAME = "own network"
GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey: ITU-R BT.601, as Pillow takes them."""
Preprocess = Callable[[Image.Image], Array]


class Outline(NamedTuple):
    """Say of a network that is none of this library's what records say of one."""

    num_classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def wrap(
    model: SplitModel,
    variables: Variables,
    *,
    image_size: int | None = None,
    class_names: Sequence[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    grey: bool = False,
    preprocess: Preprocess | None = None,
    crop: float = 1.0,
    interpolation: str = preprocessing.BILINEAR,
    name: str = NAME,
    layer: str = "",
) -> Pretrained:
    """Wrap a network of your own, so that it is what `unlir_jax.load` gives.

    Args:
        model: The network, cut by `split.from_linen`, `from_nnx` or `from_functions`.
        variables: Its variables.
        image_size: Side in pixels of its images, which are square.
        class_names: One name a class; "class 0", "class 1", … without.
        mean: Mean of the colours in [0, 1], one number or one a channel. Images in
            [0, 1] are standardised by `(images - mean) / std` before the network sees
            them. Without both, it sees values in [0, 1].
        std: Standard deviation of the colours.
        grey: Whether the network takes `[batch, height, width, 1]`.
        preprocess: RGB image of Pillow -> `[image_size, image_size, 3]` in [0, 1],
            uint8 or floating point, which is rounded to 8 bits. It stands for `crop`
            and `interpolation`; standardisation is not part of it.
        crop: Share of the shorter side of an image file that is kept, in (0, 1].
        interpolation: By which an image file is resized, one of
            `preprocessing.INTERPOLATIONS`.
        name: Name of the network in reports.
        layer: Description of the place where it is cut, in reports.

    Returns:
        The network, ready for explainers, metrics and commands.

    Raises:
        TypeError: The model is not cut, or an argument is of another type.
        ValueError: The image size is missing, the variables are of another network,
            there are more or fewer names than classes, the output is not finite or no
            logits, or another argument makes no sense.

    Example:
        >>> import numpy as np
        >>> import unlir_jax
        >>> from unlir_jax import split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> names = ("red", "green", "blue")
        >>> network = unlir_jax.wrap(model, {}, image_size=8, class_names=names)
        >>> network.name, network.preprocess(np.ones((20, 10, 3))).shape
        ('own network', (8, 8, 3))
    """
    if not isinstance(model, SplitModel):
        raise TypeError(
            f"`model` is a {type(model).__name__}; expected a network that is cut, by "
            "split.from_linen(module, at=…) or split.from_functions(features, head), "
            "or model and variables of split.from_nnx(module, at=…)."
        )
    size = _check_size(image_size)
    preprocessing.check_frame(crop, interpolation)
    colours = _colours(model, mean, std, grey)
    seen = _standardised(model, *colours, grey)
    count = _try(seen, variables, size)
    frame = None
    if preprocess is not None:
        frame = _framing(preprocess, size, (crop, interpolation))
    how = "unlir_jax.wrap"
    if frame is not None:
        how = f"the function {_name(preprocess)} given to {how}"
    return Pretrained(
        model=seen,
        variables=jax.device_put(variables),
        preprocess=_array(frame or preprocessing.framing(size, crop, interpolation)),
        class_names=_class_names(class_names, count),
        image_size=size,
        layer=layer,
        name=name,
        module=Outline(count, seen.mean, tuple(np.ravel(colours[1]).tolist())),
        source=how,
        sha256=_digest(variables),
        crop=crop,
        interpolation=interpolation,
        prepared_by=how,
        frame=frame,
        code=_code(seen, variables, size),
    )


def _check_size(size: int | None) -> int:
    if isinstance(size, int) and not isinstance(size, bool):
        if 1 <= size <= exported.MAX_IMAGE_SIZE:
            return size
    given = "is missing" if size is None else f"is {size!r}"
    raise ValueError(
        f"`image_size` {given}; expected the side in pixels of the images that the "
        f"network takes, 1 to {exported.MAX_IMAGE_SIZE}."
    )


def _class_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return classes.placeholders(count)
    found = () if isinstance(names, str) else tuple(names)
    if not all(isinstance(each, str) for each in found) or isinstance(names, str):
        raise TypeError("`class_names` are not a list of names; expected one a class.")
    if len(found) != count:
        raise ValueError(
            f"`class_names` has {len(found)} names, but the network gives {count} "
            "logits; expected one name a logit, in their order."
        )
    return found


def _colours(
    model: SplitModel,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    grey: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and standard deviation, one number or one a channel of the network."""
    if mean is not None and any(model.mean):
        raise ValueError(
            f"`mean`={mean} is given, but the network was cut with the mean "
            f"{model.mean}; expected only one: without `mean` here, the network "
            "standardises its images itself."
        )
    found = []
    for name, value, usual in (("mean", mean, 0.0), ("std", std, 1.0)):
        array = np.asarray(usual if value is None else value)
        fits = array.shape in ((), (1,), (1 if grey else 3,))
        if not fits or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(
                f"`{name}`={value!r}; expected one number, or one for each of "
                f"{1 if grey else 3} channels."
            )
        found.append(array.astype(np.float64))
    if (found[1] <= 0).any():
        raise ValueError(f"`std`={std}; expected positive numbers.")
    if (found[0] < 0).any() or (found[0] > 1).any():
        raise ValueError(
            f"`mean`={mean}; expected values in [0, 1]: divide those of 8-bit images, "
            "and their `std`, by 255."
        )
    return found[0], found[1]


def _standardised(
    model: SplitModel, mean: np.ndarray, std: np.ndarray, grey: bool
) -> SplitModel:
    """Put the standardisation of images in front of a network."""
    if not grey and not mean.any() and (std == 1).all():
        return model

    def standardised(images: Images) -> jax.Array:
        if grey:
            shares = jnp.asarray(GREY, images.dtype)
            images = jnp.sum(images * shares[None, None, None], 3, keepdims=True)
        centre, scale = (np.reshape(each, (1, 1, 1, -1)) for each in (mean, std))
        found = (images - centre.astype(images.dtype)) / scale.astype(images.dtype)
        return jnp.asarray(found)

    def features(variables: Variables, images: Images) -> Features:
        return model.features(variables, standardised(images))

    # What is compiled hides its modules: `run` and `attention` go around it.
    def run(variables: Variables, images: Images) -> Any:
        return model.run(variables, standardised(images)) if model.run else None

    def attend(variables: Variables, images: Images, *further: Any) -> Any:
        known = model.attention
        return known.run(variables, standardised(images), *further) if known else None

    seen = np.broadcast_to(mean, (3,)).tolist() if mean.any() else model.mean
    found = cut(features, model.head, tuple(seen))
    known = model.attention and model.attention._replace(run=attend)
    return found._replace(run=run if model.run else None, attention=known)


def _try(model: SplitModel, variables: Variables, size: int) -> int:
    """Run a network once, refuse what gives no logits, and count its classes."""
    ramp = np.linspace(0, 1, size * size * 3, dtype=np.float32)
    images = ramp.reshape(1, size, size, 3)
    whole = split.whole(model)
    try:
        logits = jax.eval_shape(whole, variables, images)
    except Exception as error:
        raise ValueError(
            f"The network cannot look at images [1, {size}, {size}, 3] in [0, 1] with "
            f"these `variables` ({said(error)}); expected the variables of the cut "
            "network, and the `image_size` that it takes."
        ) from error
    floating = jnp.issubdtype(logits.dtype, jnp.floating)
    if len(logits.shape) < 2 or logits.shape[0] != 1 or not floating:
        raise ValueError(
            f"The network gives {logits.dtype} {list(logits.shape)} for one image; "
            "expected floating-point logits [1, classes]."
        )
    if not np.isfinite(np.asarray(whole(variables, images), np.float32)).all():
        raise ValueError(
            "The network gives logits that are not finite for an image in [0, 1]; "
            "expected numbers: look at the weights, and at `mean` and `std`."
        )
    return logits.shape[-1]


def _framing(
    preprocess: Preprocess, size: int, frame: tuple[float, str]
) -> Callable[..., Image.Image]:
    """Make 8-bit images by a function of the user's, which is tried once."""
    if not callable(preprocess):
        raise TypeError(
            f"`preprocess` is a {type(preprocess).__name__}; expected a function of an "
            "image."
        )
    if frame != (1.0, preprocessing.BILINEAR):
        raise ValueError(
            "`preprocess` is given, and so is `crop` or `interpolation`; expected "
            "either the function, or the two."
        )

    def framed(
        picture: preprocessing.Picture, *, white_level: WhiteLevel = AUTO
    ) -> Image.Image:
        image = preprocessing.to_picture(picture, white_level=white_level)
        return _framed(preprocess, image, size)

    colours = np.arange(3 * (size + 8) * (size + 16)) % 256
    framed(colours.reshape(size + 8, size + 16, 3).astype(np.uint8))
    return framed


def _framed(preprocess: Preprocess, image: Image.Image, size: int) -> Image.Image:
    try:
        result = np.asarray(preprocess(image))
    except Exception as error:
        raise ValueError(
            f"`preprocess` fails for an image of {image.width} x {image.height} pixels "
            f"({said(error)}); expected {_expected(size)}."
        ) from error
    shapes = (size, size, 3), (size, size, 1), (size, size)
    if result.shape not in shapes or result.dtype.kind not in "fu":
        raise ValueError(
            f"`preprocess` gives {result.dtype} {list(result.shape)}; expected "
            f"{_expected(size)}."
        )
    try:
        return preprocessing.to_picture(result)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`preprocess` gives values from {result.min():.6g} to {result.max():.6g}; "
            f"expected {_expected(size)}: standardisation is for `mean` and `std`."
        ) from error


def _expected(size: int) -> str:
    return f"[{size}, {size}, 3] in [0, 1], or uint8"


def _array(
    frame: Callable[[preprocessing.Picture], Image.Image],
) -> Callable[[preprocessing.Picture], np.ndarray]:
    def preprocess(picture: preprocessing.Picture) -> np.ndarray:
        return np.asarray(frame(picture), np.float32) / 255

    return preprocess


def _digest(variables: Variables) -> str:
    """Hash variables; names may have slashes, as Haiku gives them."""
    leaves = tree.listed(variables).items()
    return tree.sha256({path.replace("/", ":"): leaf for path, leaf in leaves})


def _code(model: SplitModel, variables: Variables, size: int) -> str:
    """Hash what a network computes, apart from the values of its variables."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(model.features, variables, images)
    digest = hashlib.sha256()
    for half, given in ((model.features, images), (model.head, shapes)):
        traced = jax.make_jaxpr(half)(variables, given)
        # Functions are printed with their place in memory.
        digest.update(re.sub(r"0x[0-9a-f]+", "", str(traced)).encode())
        for constant in _constants(traced):
            digest.update(np.ascontiguousarray(constant).tobytes())
    return digest.hexdigest()


def _constants(traced: Any) -> Iterator[Array]:
    """Give the arrays that a traced function closes over, which are not printed."""
    yield from getattr(traced, "consts", ())
    for equation in getattr(traced, "jaxpr", traced).eqns:
        for name in equation.invars:
            if isinstance(name, core.Literal) and np.ndim(name.val):
                yield np.asarray(name.val)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _constants(inner)


def said(error: BaseException) -> str:
    """Put an error of somebody else's code in a line: its kind, and what it says."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text if len(text) <= 300 else f"{text[:300]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _name(function: Any) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "__qualname__", type(inner).__name__)
