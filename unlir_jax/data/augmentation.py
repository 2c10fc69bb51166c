"""Augmentation, written as a short text: `random_resized_crop|flip|color(0.4)`."""

import ast
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from unlir_jax.core import choices
from unlir_jax.core.document_types import Record
from unlir_jax.data import geometry, preprocessing, rand_augment, resizing, source

Range = tuple[float, float]
Operation = Callable[[source.Example, np.random.Generator], source.Example]
Frame = Callable[[Image.Image], Image.Image]
"""`(example, random) -> example`; image and mask are Pillow images."""

# The mean colour of ImageNet, which normalisation makes about zero.
MEAN = (124, 116, 104)


def build(text: str, image_size: int) -> Operation:
    """Make the augmentation that a text describes.

    The text names operations in order, joined by `|`, with literal arguments where the
    defaults shall not be taken: `random_resized_crop(area=(0.25, 1.0))|flip`. The
    operations are listed in `OPERATIONS`. Where none of them sets the size, `frame`
    comes first; so "" is the frame of evaluation.

    Boxes, mask and keypoints follow the image (`geometry`).

    Note:
        A mirrored image keeps the order of its parts: what was the left wing is still
        called the left wing, although it now looks like a right one.

    Args:
        text: For example `pad_crop(4)|flip`.
        image_size: Side of the resulting images in pixels.

    Returns:
        `(example, random) -> example` with uint8 `[image_size, image_size, 3]` as
        `image`, a function of the example and the generator's state only.

    Raises:
        ValueError: An operation or argument that does not exist or makes no sense.
    """
    _check_size(image_size)
    calls = _parse(text)
    if not any(name in SIZING for name, _ in calls):
        calls = [("frame", ast.Call(ast.Name("frame"), [], [])), *calls]
    return _chain([_make(name, call, image_size) for name, call in calls])


def evaluation(
    image_size: int,
    crop: float,
    interpolation: str = preprocessing.BILINEAR,
    own: Frame | None = None,
) -> Operation:
    """Make what stands for augmentation in evaluation: `frame`, and nothing random.

    Args:
        image_size: Side of the images in pixels.
        crop: See `frame`.
        interpolation: See `frame`.
        own: A function that stands for `frame`.
    """
    _check_size(image_size)
    if own is None:
        return _chain([frame(image_size, crop, interpolation)])
    # Nothing here is random.
    return _chain([lambda example, _: {**example, "image": own(example["image"])}])


def _chain(operations: list[Operation]) -> Operation:
    def augment(example: source.Example, random: np.random.Generator) -> source.Example:
        example = geometry.opened(example)
        for operation in operations:
            example = operation(example, random)
        return geometry.closed(example)

    return augment


def _parse(text: str) -> list[tuple[str, ast.Call]]:
    """Split a text into the operations' names and calls, without evaluating it."""
    if not text.strip():
        return []
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"`augment`={text!r} cannot be read; {_expected()}") from error
    nodes: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        nodes.append(node.right)
        node = node.left
    nodes.append(node)
    calls = []
    for node in reversed(nodes):
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name):
            part = ast.unparse(node)
            raise ValueError(f"`augment` holds {part!r}; {_expected()}")
        name = call.func.id
        wrong = f"`augment` holds {name!r}, which is no operation"
        choices.pick(name, OPERATIONS, wrong, "expected some of {}, joined by |")
        calls.append((name, call))
    return calls


def _expected() -> str:
    return f"expected some of {', '.join(OPERATIONS)}, joined by |."


def _make(name: str, call: ast.Call, image_size: int) -> Operation:
    factory = OPERATIONS[name]
    parameters = dict(inspect.signature(factory).parameters)
    sized = next(iter(parameters), None) == "size"
    if sized:
        del parameters["size"]
    names = list(parameters)
    given: Record = {}
    pairs = list(zip(names, call.args, strict=False))
    pairs += [(keyword.arg or "**", keyword.value) for keyword in call.keywords]
    takes = f"{name} takes {', '.join(map(str, parameters.values())) or 'nothing'}."
    if len(call.args) > len(names):
        raise ValueError(f"`augment` gives {name} {len(call.args)} arguments; {takes}")
    for argument, node in pairs:
        if argument not in parameters or argument in given:
            problem = "twice" if argument in given else "which it does not have"
            raise ValueError(
                f"`augment` gives {name} the argument {argument!r}, {problem}; "
                f"{choices.meant(argument, set(names) - {argument})}{takes}"
            )
        try:
            value = ast.literal_eval(node)
        except ValueError as error:
            raise ValueError(
                f"`augment` gives {name} {argument}={ast.unparse(node)}, which is no "
                f"literal; {takes}"
            ) from error
        if not _fits(value, parameters[argument].annotation):
            raise ValueError(
                f"`augment` gives {name} {argument}={value!r}, of another type; {takes}"
            )
        given[argument] = _as_floats(value, parameters[argument].annotation)
    return factory(image_size, **given) if sized else factory(**given)


def _fits(value: object, kind: Any) -> bool:
    if kind is Range:
        if not (isinstance(value, tuple | list) and len(value) == 2):
            return False
        return all(_fits(item, float) for item in value)
    accepted = (int, float) if kind is float else kind
    finite = not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, accepted) and not isinstance(value, bool) and finite


def _as_floats(value: Any, kind: Any) -> object:
    """Let whole numbers stand for others, as they do in a text."""
    if kind is Range:
        return float(value[0]), float(value[1])
    return float(value) if kind is float else value


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"`image_size`={size}; expected at least 1.")


def _check_range(name: str, value: Range) -> Range:
    if not 0 < value[0] <= value[1]:
        raise ValueError(f"`{name}`={value}; expected two ascending positive numbers.")
    return value[0], value[1]


def _check_area(value: Range) -> Range:
    if value[1] > 1:
        raise ValueError(f"`area`={value}; expected shares of the image, at most 1.")
    return _check_range("area", value)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}`={value}; expected a value in [0, 1].")


def random_resized_crop(
    size: int, area: Range = (0.08, 1.0), ratio: Range = (3 / 4, 4 / 3)
) -> Operation:
    """Cut out a box of random area and shape and resize it (Szegedy et al. 2015).

    Args:
        size: Side of the result.
        area: The box's least and largest share of the image.
        ratio: Its least and largest width per height.
    """
    area, ratio = _check_area(area), _check_range("ratio", ratio)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        box = _random_box(example["image"].size, area, ratio, random)
        return geometry.window(example, box, (size, size))

    return apply


def _random_box(
    size: tuple[int, int], area: Range, ratio: Range, random: np.random.Generator
) -> geometry.Box:
    """Draw a box that lies in the image; after ten tries take the central one."""
    width, height = size
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        pixels = width * height * random.uniform(*area)
        shape = math.exp(random.uniform(low, high))
        w, h = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < w <= width and 0 < h <= height:
            left = int(random.integers(width - w + 1))
            top = int(random.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(round(height * ratio[1]), 1))
    h = min(height, max(round(width / ratio[0]), 1))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def resize(size: int) -> Operation:
    """Squash the whole image to a square."""

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        return geometry.window(example, (0, 0, *example["image"].size), (size, size))

    return apply


def frame(
    size: int, crop: float = 0.875, interpolation: str = preprocessing.BILINEAR
) -> Operation:
    """Take the frame of evaluation: shorter side to `size / crop`, central square.

    The image's pixels equal `preprocessing.framing`'s, which cannot take masks,
    boxes and keypoints along.
    """
    preprocessing.check_frame(crop, interpolation)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        width, height = example["image"].size
        target = preprocessing.framed_size(width, height, size, crop)
        box, seen = resizing.central((width, height), target, size)
        if (width, height) == target:
            return geometry.window(example, box, (size, size))
        # What would be enlarged only to be cut is cut at once.
        if not resizing.is_small((width, height), target, size):
            square = size, size
            return geometry.window(example, seen, square, interpolation=interpolation)
        whole = 0, 0, width, height
        example = geometry.window(example, whole, target, interpolation=interpolation)
        return geometry.window(example, box, (size, size))

    return apply


def pad_crop(size: int, pixels: int = 4) -> Operation:
    """Pad with black and cut the old size out again, as is usual for CIFAR.

    An image of another size first has its shorter side resized and its longer one cut.
    """
    if pixels < 0:
        raise ValueError(f"`pixels`={pixels}; expected 0 or more.")
    whole = frame(size, 1.0)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        example = whole(example, random)
        left, top = random.integers(-pixels, pixels + 1, size=2).tolist()
        box = left, top, left + size, top + size
        return geometry.window(example, box, (size, size))

    return apply


def flip(p: float = 0.5) -> Operation:
    """Let left and right change places with probability `p`."""
    _check_share("p", p)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        if random.random() >= p:
            return example
        size = example["image"].size
        return geometry.window(example, (0, 0, *size), size, (True, False))

    return apply


def color(strength: float = 0.4, hue: float = 0.0) -> Operation:
    """Change brightness, contrast and saturation, in an order drawn at random.

    Args:
        strength: Each factor is drawn from [1 - strength, 1 + strength].
        hue: Largest turn of the hue either way, as a share of the whole circle.
    """
    _check_share("strength", strength)
    if not 0 <= hue <= 0.5:
        raise ValueError(f"`hue`={hue}; expected a value in [0, 0.5].")
    enhancers = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
    steps = len(enhancers) + bool(hue)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        image = example["image"]
        for number in random.permutation(steps).tolist():
            if number < len(enhancers):
                factor = 1 + strength * random.uniform(-1, 1)
                image = enhancers[number](image).enhance(factor)
            else:
                image = _turned_hue(image, random.uniform(-hue, hue))
        return {**example, "image": image}

    return apply


def _turned_hue(image: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shift = round(turn * 256)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def grayscale(p: float = 0.1) -> Operation:
    """Take the colours away with probability `p`."""
    _check_share("p", p)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        if random.random() >= p:
            return example
        return {**example, "image": example["image"].convert("L").convert("RGB")}

    return apply


def blur(p: float = 0.5, sigma: Range = (0.1, 2.0)) -> Operation:
    """Blur with probability `p`, by a Gaussian whose width in pixels is drawn."""
    _check_share("p", p)
    low, high = _check_range("sigma", sigma)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        if random.random() >= p:
            return example
        gaussian = ImageFilter.GaussianBlur(random.uniform(low, high))
        return {**example, "image": example["image"].filter(gaussian)}

    return apply


def erase(
    p: float = 0.25, area: Range = (0.02, 1 / 3), ratio: Range = (0.3, 3.3)
) -> Operation:
    """Paint over a box with probability `p` (Zhong et al., Random erasing, 2017).

    The colour is the mean of ImageNet. What is known of the places beneath stays true
    and is kept: it is hidden, not gone.

    Args:
        p: Probability.
        area: The box's least and largest share of the image.
        ratio: Its least and largest width per height.
    """
    _check_share("p", p)
    area, ratio = _check_area(area), _check_range("ratio", ratio)

    def apply(example: source.Example, random: np.random.Generator) -> source.Example:
        if random.random() >= p:
            return example
        image = example["image"].copy()
        image.paste(MEAN, _random_box(image.size, area, ratio, random))
        return {**example, "image": image}

    return apply


# What sets the size; the others keep it.
SIZING = {
    "frame": frame,
    "pad_crop": pad_crop,
    "random_resized_crop": random_resized_crop,
    "resize": resize,
}
OPERATIONS: dict[str, Callable[..., Operation]] = SIZING | {
    "blur": blur,
    "color": color,
    "erase": erase,
    "flip": flip,
    "grayscale": grayscale,
    "rand_augment": rand_augment.rand_augment,
}
