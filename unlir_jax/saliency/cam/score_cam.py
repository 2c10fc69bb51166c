"""Score-CAM and its kin: each filter's map masks the image, and the network scores it.

Masks act on pixels in [0, 1], and the sum over filters is not rectified: its weights
are positive, so the papers' final ReLU changes nothing where maps have one themselves.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import maps, split
from unlir_jax.core import choices, loops
from unlir_jax.saliency import accumulation
from unlir_jax.saliency.cam.cam import check_maps, weigh
from unlir_jax.saliency.spec import explainer
from unlir_jax.split import scores
from unlir_jax.types import Explainer, PyTree, Saliency, SplitModel

Weighting = Literal["softmax", "increase", "probability"]
Alignment = Literal["half_pixel", "corners"]
NoiseOn = Literal["maps", "image"]
Mask = Callable[..., jax.Array]


@explainer(
    title="Score-CAM",
    family="cam",
    formula="filters weighted by the score of the image masked by each",
    passes="1 + 1 a filter",
    source="Wang et al., CVPR Workshops 2020",
    representative=True,
)
def score_cam(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    weighting: Weighting = "softmax",
    alignment: Alignment = "half_pixel",
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Weigh each filter by the score of the image that its own map masks.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        weighting: `softmax` over the filters' scores, which is the paper's and
            pytorch-grad-cam's; `increase`, the score less that of a black image,
            the paper's channel-wise increase of confidence (Eq. 6); `probability`,
            the masked image's probability of the label, as in the authors' code, for
            which `score` must be left as it is.
        alignment: How masks are enlarged: `half_pixel`, or `corners`, which is
            pytorch-grad-cam's.
        batch_size: Masked images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Wang et al., *Score-CAM: Score-Weighted Visual Explanations for Convolutional
        Neural Networks*, CVPR Workshops 2020, Eq. 6-9 and Algorithm 1.
    """
    choices.check("weighting", weighting, Weighting)
    choices.check("alignment", alignment, Alignment)
    if weighting == "probability":
        name = scores.resolve(score).name
        if name != "logit":
            raise ValueError(
                f"`score`={name!r} with `weighting`='probability', which is a "
                "score of its own; expected weighting 'softmax' or 'increase'."
            )
        score = "softmax"
    enlarge = maps.resize if alignment == "half_pixel" else _resize_to_corners

    def mask(chosen: jax.Array, images: jax.Array, *rest: jax.Array) -> jax.Array:
        del rest
        return maps.apply_mask(
            images, maps.normalize(enlarge(chosen, images.shape[1:3]))
        )

    return _masking(model, score, mask, weighting, np.zeros(1), batch_size, loop)


@explainer(
    title="SS-CAM",
    family="cam",
    formula="Score-CAM averaged over noisy masks",
    passes="1 + `samples` a filter",
    source="Wang et al., 2020",
    quick={"samples": 2},
)
def ss_cam(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    samples: int = 35,
    level: float = 0.2,
    noise_on: NoiseOn = "maps",
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average Score-CAM's scores over noise, and take their softmax.

    `samples` passes through the network for each filter; the explainer needs `key`.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        samples: Number of draws; the paper's 35.
        level: Std of the noise, as a share of the range of what it is added to.
        noise_on: `maps` adds it to the enlarged map, which is then normalised (the
            paper's first kind), `image` to the masked image (its second).
        batch_size: Masked images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Wang et al., *SS-CAM: Smoothed Score-CAM for Sharper Visual Feature
        Localization*, arXiv 2006.14255, Algorithm 1.

    Note:
        The paper's standard deviation of 2 is in units of the maps; a share of their
        range does not depend on how large they happen to be.
    """
    accumulation.check_samples(samples, level)
    choices.check("noise_on", noise_on, NoiseOn)

    def mask(
        chosen: jax.Array,
        images: jax.Array,
        image_keys: jax.Array,
        number: jax.Array,
        sample: jax.Array,
    ) -> jax.Array:
        own = jax.vmap(jax.random.fold_in)(image_keys, number)
        enlarged = maps.normalize(maps.resize(chosen, images.shape[1:3]))[..., None]
        if noise_on == "image":
            masked = images * enlarged
            return masked + accumulation.noise(own, sample, masked, level)
        noisy = enlarged + accumulation.noise(own, sample, enlarged, level)
        return maps.apply_mask(images, maps.normalize(noisy[..., 0]))

    draws = np.arange(samples)
    return _masking(model, score, mask, "softmax", draws, batch_size, loop, True)


@explainer(
    title="IS-CAM",
    family="cam",
    formula="Score-CAM averaged over masks of growing strength",
    passes="1 + `steps` a filter",
    source="Naidu et al., 2020",
    quick={"steps": 2},
)
def is_cam(
    model: SplitModel,
    *,
    score: scores.ScoreLike = "logit",
    steps: int = 10,
    batch_size: int = 32,
    loop: loops.Loop = "auto",
) -> Explainer:
    """Average Score-CAM's scores while the masked image fades in from black.

    `S_k = mean_i score(i / steps * mask_k * image)`, `i = 1 ... steps`, then a softmax
    over filters. `steps` passes through the network for each filter.

    Args:
        model: The cut network.
        score: Score to explain, see `scores.resolve`.
        steps: Points on the path; the paper's 10.
        batch_size: Masked images that go through the network at once.
        loop: `auto`, `host` or `device`; see `loops.place`.

    References:
        Naidu et al., *IS-CAM: Integrated Score-CAM for axiomatic-based explanations*,
        arXiv 2010.03023, Eq. 4.

    Note:
        The path ends at the masked image itself. torch-cam adds the shares up, which
        ends far outside [0, 1].
    """
    if steps < 1:
        raise ValueError(f"`steps`={steps}; expected 1 or more.")

    def mask(
        chosen: jax.Array,
        images: jax.Array,
        image_keys: jax.Array,
        number: jax.Array,
        share: jax.Array,
    ) -> jax.Array:
        del image_keys, number
        enlarged = maps.normalize(maps.resize(chosen, images.shape[1:3]))
        return maps.apply_mask(images, enlarged) * share.astype(images.dtype)

    shares = np.arange(1, steps + 1) / steps
    return _masking(model, score, mask, "softmax", shares, batch_size, loop)


def _masking(
    model: SplitModel,
    score: scores.ScoreLike,
    mask: Mask,
    weighting: Weighting,
    rounds: np.ndarray,
    batch_size: int,
    loop: loops.Loop,
    random: bool = False,
) -> Explainer:
    """Weigh filters by the mean score of the images that their maps mask.

    `mask(maps, images, keys, numbers, item)` makes images of the pairs in a chunk, for
    each item of `rounds`.
    """
    explained, network = scores.resolve(score), split.whole(model)
    masked = _masked_scores(model, explained, mask)

    def add(total: jax.Array, item: PyTree, *arguments: PyTree) -> jax.Array:
        _, images, _, stack, _ = arguments
        batch, *_, filters = stack.shape
        few = loops.few_enough(batch_size, images.shape[1:3], loop, item, *arguments)
        sizes, item = (batch, filters, few), jnp.asarray(item)
        found = loops.map_pairs(masked, *sizes, item, *arguments, loop=loop)
        return total + found.astype(total.dtype)

    @split.guarded(model, explained)
    def explain(variables, images, labels, *, key=None):
        features = model.features(variables, images)
        check_maps(features)
        stack = features.maps
        batch, *_, filters = stack.shape
        own = accumulation.image_keys(key, images) if random else jnp.zeros(batch)
        arguments = (variables, images, labels, stack, own)
        zeros = jnp.zeros((batch, filters), jnp.promote_types(images.dtype, float))
        weights = accumulation.fold(add, zeros, rounds, *arguments, loop=loop)
        weights = weights / len(rounds)
        if weighting == "softmax":
            weights = jax.nn.softmax(weights)
        elif weighting == "increase":
            black = network(variables, jnp.zeros_like(images))
            weights = weights - explained(black, labels)[:, None]
        return weigh(stack, weights)

    return explain


def _masked_scores(model: SplitModel, score: scores.Score, mask: Mask) -> PyTree:
    """Compile one chunk of pairs, see `loops.map_pairs`."""
    network = split.whole(model)

    @functools.partial(jax.jit, static_argnums=0)
    def masked_scores(size, start, item, variables, images, labels, stack, image_keys):
        batch, *_, filters = stack.shape
        image, number = loops.pairs(size, start, batch, filters)
        chosen = stack[image, :, :, number]
        shown = mask(chosen, images[image], image_keys[image], number, item)
        return score(network(variables, shown), labels[image])

    return masked_scores


def _resize_to_corners(saliency: Saliency, size: tuple[int, ...]) -> jax.Array:
    """Interpolate so that the corners' centres coincide (`align_corners=True`)."""
    saliency = jnp.asarray(saliency)
    down = _between_corners(saliency.shape[1], size[0]).astype(saliency.dtype)
    across = _between_corners(saliency.shape[2], size[1]).astype(saliency.dtype)
    rows = jnp.einsum("hr,brc->bhc", down, saliency, precision="highest")
    return jnp.einsum("wc,bhc->bhw", across, rows, precision="highest")


@functools.cache
def _between_corners(source: int, target: int) -> np.ndarray:
    """Weigh `source` samples for each of `target` samples, ends on ends."""
    places = np.arange(target) * (source - 1) / max(target - 1, 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(source)[None]))
