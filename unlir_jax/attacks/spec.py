"""Specs of attacks: all that is said of a method, and the checks of every call.

An attack is one file: a factory under `@attack(...)`, imported once. Commands, reports,
tables of the documentation and tests read the tables below.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from unlir_jax.attacks import checks
from unlir_jax.attacks.losses import Aim
from unlir_jax.attacks.search import Seen
from unlir_jax.core import choices, memoize
from unlir_jax.types import (
    Images,
    Labels,
    RandomKey,
    SplitModel,
    Variables,
)

NONE: Mapping[str, Any] = MappingProxyType({})


class Attacked(NamedTuple):
    """Hold what an attack returns, and what it took.

    Attributes:
        images: `[batch, height, width, channels]` in [0, 1].
        gradients: Passes forward and backward that each image took, `[batch]`.
        forwards: Passes forward alone that each image took besides, `[batch]`.
        winner: Place of the attack that succeeded in an ensemble, -1 where none did,
            `[batch]`; None of other attacks.
    """

    images: jax.Array
    gradients: jax.Array
    forwards: jax.Array
    winner: jax.Array | None = None


class Crafted(NamedTuple):
    """Hold what the function of a factory gives the guard.

    Attributes:
        images: As in `Attacked`.
        gradients: As in `Attacked`.
        forwards: As in `Attacked`; None stands for zeros.
        seen: What the network has shown. None: the guard runs the network once more.
        winner: As in `Attacked`.
    """

    images: jax.Array
    gradients: jax.Array
    forwards: jax.Array | None = None
    seen: Seen | None = None
    winner: jax.Array | None = None


Craft = Callable[[Variables, jax.Array, Aim, RandomKey | None], Crafted]
"""`(variables, images, aim, key) -> Crafted`: what a factory returns.

Images are in [0, 1], and labels and targets are arrays of classes."""


# No NamedTuple: JAX refers weakly to what it compiles, and takes tuples for arrays.
@dataclasses.dataclass(frozen=True, eq=False)
class Attack:
    """Change images so that a network errs; what a factory of attacks gives.

    Calling it gives images in [0, 1]. Under `jax.jit`, where pixels and labels cannot
    be checked, an image that would have been refused comes back as NaN.

    Attributes:
        name: Name of the factory.
        model: The network that is attacked.
        settings: All settings of the factory, also those by default.
        craft: The attack itself, without checks.
        sloped: Whether it needs a gradient of the network.
        norm: What `epsilon` or the search measures by, also without such a setting.
    """

    name: str
    model: SplitModel
    settings: Mapping[str, Any]
    craft: Craft
    sloped: bool = True
    norm: str = ""

    def __call__(
        self,
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        targets: Labels | None = None,
        key: RandomKey | None = None,
    ) -> jax.Array:
        """Attack images, `[batch, height, width, channels]` in [0, 1].

        Args:
            variables: Variables of the network.
            images: In [0, 1]; rounding errors up to 1e-4 are clipped.
            labels: Classes of the images, `[batch]`.
            targets: Classes to reach, `[batch]`; by default any but the label.
            key: Needed by attacks that start at random.

        Raises:
            TypeError: No arrays, or arrays of another type.
            ValueError: Images outside of [0, 1], a label or target that is no class, a
                target equal to the label, or a network that gives probabilities, NaN or
                no gradient.
        """
        return self.counted(variables, images, labels, targets=targets, key=key).images

    def counted(
        self,
        variables: Variables,
        images: Images,
        labels: Labels,
        *,
        targets: Labels | None = None,
        key: RandomKey | None = None,
    ) -> Attacked:
        """Attack images and count the passes of each; see `__call__`."""
        checks.check_call(
            *(self.model, variables, images, labels, targets, key), sloped=self.sloped
        )
        checks.check_reach(self.settings.get("epsilon"), self.norm, images)
        given = jnp.clip(jnp.asarray(images), 0, 1)
        goal = None if targets is None else jnp.asarray(targets)
        aim = Aim(jnp.asarray(labels), goal)
        found = self.craft(variables, given, aim, key)
        checks.check_seen(self.model, variables, given, found.images, found.seen)
        zeros = jnp.zeros(len(given), jnp.int32)
        forwards = zeros if found.forwards is None else found.forwards
        attacked = Attacked(found.images, found.gradients, forwards, found.winner)
        return checks.withheld(attacked, self.model, variables, images, aim)


Factory = Callable[..., Attack]

ATTACKS: dict[str, Factory] = {}
"""Factories by name; each takes the cut model and its own settings."""

SYNONYMS: dict[str, str] = {}
"""Names in other libraries, with the names in `ATTACKS`."""


class AttackSpec(NamedTuple):
    """Describe an attack; as a decorator, register the factory below.

    Attributes:
        title: Name for people.
        norms: Norms that the setting `norm` takes, or the only one without a setting.
        kind: `budget` stays within `epsilon`; `minimal` searches a small distortion.
        passes: Number of passes through the network, as `passes.count` reads it.
        source: Authors, venue and year.
        quick: Settings with which a test takes little time.
        synonyms: Names of the method in other libraries.
        random: Whether it needs a key with its settings by default.
        sloped: Whether it needs a gradient of the network.
    """

    title: str
    norms: tuple[str, ...]
    kind: Literal["budget", "minimal"]
    passes: str
    source: str
    quick: Mapping[str, Any] = NONE
    synonyms: tuple[str, ...] = ()
    random: bool = False
    sloped: bool = True

    def __call__[**P](self, factory: Callable[P, Craft]) -> Callable[P, Attack]:
        """Register a factory `(model, *, settings) -> Craft` under its own name.

        Settings named `norm`, `epsilon`, `steps`, `restarts` and `quantise` are checked
        here, once for all.

        Returns:
            A factory of attacks, which keeps what it made, see `memoize.remember`.

        Raises:
            ValueError: Another factory has the name, or a synonym.
        """
        name = factory.__name__
        for each in (name, *self.synonyms):
            owner = ATTACKS.get(SYNONYMS.get(each, each), factory).__module__
            if owner != factory.__module__:
                raise ValueError(
                    f"`{each}` is an attack of {owner}; expected another name."
                )
        signature = inspect.signature(factory)

        @functools.wraps(factory)
        def made(*args: P.args, **kwargs: P.kwargs) -> Attack:
            _check_names(name, kwargs, signature.parameters)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            settings = dict(bound.arguments)
            model = settings.pop("model")
            checks.check_settings(settings, self.norms)
            craft = factory(*args, **kwargs)
            given = MappingProxyType(settings)
            norm = settings.get("norm", self.norms[0])
            return Attack(name, model, given, craft, self.sloped, norm)

        remembered: Any = memoize.remember(made)
        SPECS[name], ATTACKS[name] = self, remembered
        SYNONYMS.update(dict.fromkeys(self.synonyms, name))
        return remembered


attack = AttackSpec


def _check_names(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a setting that a factory does not have, and say which it has."""
    settings = [each for each in known if each != "model"]
    for each in given:
        if each != "model" and each not in settings:
            likely = choices.meant(each, settings)
            raise TypeError(
                f"`{name}` has no setting `{each}`; {likely}expected some of "
                f"{', '.join(settings)}."
            )


def defaults(name: str) -> dict[str, Any]:
    """Give the settings of an attack by default, by its own name.

    Example:
        >>> from unlir_jax import attacks
        >>> attacks.defaults("fgsm")["norm"]
        'linf'
    """
    known = inspect.signature(ATTACKS[name]).parameters
    return {key: each.default for key, each in known.items() if key != "model"}


SPECS: dict[str, AttackSpec] = {}
"""Specs by name, in the order of the imports."""
