"""Outcomes: whether attacked images deceive a network, and how far they have moved."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.attacks import checks, losses, norms, visibility
from unlir_jax.core import memoize
from unlir_jax.types import Array, Images, Labels, SplitModel, Variables

DISTORTIONS = ("l0", "l1", "l2", "linf", "ssim", "ciede2000")
"""Names of what `outcome` measures, besides `success`."""
Outcome = Callable[..., dict[str, jax.Array]]


@memoize.remember
def outcome(model: SplitModel) -> Outcome:
    """Make `(variables, images, adversarial, labels, *, targets=None) -> measures`.

    Success is found anew from the images that are given, which may have been stored and
    read again. The model may be another one than the attacked one: that measures
    transfer.

    Args:
        model: The network that is to be deceived.

    Returns:
        A function that gives, `[batch]` each: `success` (bool); `l0`, the number of
        pixels of which a channel has changed; `l1`, `l2` and `linf` over all channels;
        `ssim`, see `visibility.ssim`; and `ciede2000`, the mean colour difference of
        the pixels. Images whose attack failed have their distortions too: `summary`
        leaves them out. Images with other than 1 or 3 channels have no `ciede2000`.

    Raises:
        TypeError: When called: no arrays, or arrays of another type.
        ValueError: When called: shapes that differ, pixels outside of [0, 1], or a
            label or target that is no class.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks, split
        >>> model = split.from_functions(  # The logits are the mean colour.
        ...     lambda variables, images: images,
        ...     lambda variables, maps: maps.mean((1, 2)),
        ... )
        >>> red = jnp.zeros((1, 2, 2, 3)).at[..., 0].set(1)
        >>> changed = red.at[0, 0, :, 1].set(0.5)
        >>> found = attacks.outcome(model)({}, red, changed, jnp.asarray([0]))
        >>> {name: float(found[name][0]) for name in ("success", "l0", "l1", "linf")}
        {'success': 0.0, 'l0': 2.0, 'l1': 1.0, 'linf': 0.5}
    """
    network = split.whole(model)

    @jax.jit
    def deceived(variables, adversarial, aim):
        return losses.succeeded(network(variables, adversarial), aim)

    def measure(
        variables: Variables,
        images: Images,
        adversarial: Images,
        labels: Labels,
        *,
        targets: Labels | None = None,
    ) -> dict[str, jax.Array]:
        checks.check_call(model, variables, images, labels, targets, sloped=False)
        _check_same(images, adversarial)
        aim = losses.Aim(jnp.asarray(labels), _array(targets))
        success = deceived(variables, jnp.asarray(adversarial), aim)
        return {"success": success} | distortions(images, adversarial)

    return measure


def _array(values: Labels | None) -> jax.Array | None:
    return None if values is None else jnp.asarray(values)


def _check_same(images: Images, adversarial: Images) -> None:
    split.check_array("adversarial", adversarial, "[batch, height, width, channels]")
    if adversarial.shape != images.shape:
        raise ValueError(
            f"`adversarial` has shape {adversarial.shape}; expected {images.shape}, "
            "one changed copy of each image."
        )
    split.check_pixels(adversarial)


def distortions(images: Images, adversarial: Images) -> dict[str, jax.Array]:
    """Measure how far images have moved, `[batch]` each, see `outcome`.

    Where the images are known, all is computed in float64 and given as float32.
    """
    if split.traced(images, adversarial):
        return _measured(jnp.asarray(images), jnp.asarray(adversarial))
    with jax.enable_x64(True):
        one, other = (jnp.asarray(np.asarray(a, float)) for a in (images, adversarial))
        found = {name: np.asarray(a) for name, a in _measured(one, other).items()}
    kind = jnp.result_type(float)
    return {name: jnp.asarray(values.astype(kind)) for name, values in found.items()}


@jax.jit
def _measured(images: jax.Array, adversarial: jax.Array) -> dict[str, jax.Array]:
    changes = adversarial - images
    found = {name: norms.length(changes, name) for name in ("l0", "l1", "l2", "linf")}
    found["ssim"] = visibility.ssim(images, adversarial)
    if images.shape[3] in (1, 3):
        found["ciede2000"] = visibility.ciede2000(images, adversarial)
    return found


def summary(measures: Mapping[str, Array]) -> dict[str, float | int]:
    """Average what `outcome` gives, over the images whose attack succeeded alone.

    Args:
        measures: What `outcome` gives, or several of these joined.

    Returns:
        `images` and `successes`, which are counts; `success`, a share; and
        `mean_` and `median_` of each distortion. These are left out where no attack
        has succeeded.

    Raises:
        ValueError: There is no image.

    Example:
        >>> import jax.numpy as jnp
        >>> from unlir_jax import attacks
        >>> measures = {
        ...     "success": jnp.asarray([True, False]), "l2": jnp.asarray([0.5, 9.0])
        ... }
        >>> attacks.summary(measures)["mean_l2"]
        0.5
    """
    success = np.asarray(measures["success"])
    if not len(success):
        raise ValueError("`measures` has no image; expected at least one.")
    found: dict[str, float | int] = {
        "images": len(success),
        "successes": int(success.sum()),
        "success": float(success.mean()),
    }
    if success.any():
        for name in DISTORTIONS:
            if name in measures:
                values = np.asarray(measures[name], float)[success]
                found[f"mean_{name}"] = float(values.mean())
                found[f"median_{name}"] = float(np.median(values))
    return found
