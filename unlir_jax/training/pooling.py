"""Training of a network that pools by attention: its head, and its classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import tree
from unlir_jax.core import choices
from unlir_jax.core.document_types import Settings
from unlir_jax.models import drawing, heads, pretrained
from unlir_jax.objectives.objective import Hook, Session
from unlir_jax.training import (
    attention_start,
    classifier_start,
    optim,
    queries_start,
)
from unlir_jax.types import Variables

Classifier = Literal["auto", "frozen", "learned"]
ClassifierStart = Literal["random", "average"]
_PREFIX = "classifier/"
_FITTED = {queries_start.START: "queries", attention_start.START: "attention"}


def head(settings: Settings, classes: int) -> dict[str, Any]:
    """Say for `pretrained.load` which head a network gets, and for which images.

    One that pools by attention keeps the classes of its weights; `for_classes` chooses
    among them.

    Raises:
        ValueError: It is asked for two heads, or for an unknown classifier.
    """
    decision = settings.model.decision.to_dict()
    pooled = settings.model.attention_pooling.to_dict()
    group = "model.attention_pooling"
    choices.check(f"{group}.classifier", pooled.pop("classifier"), Classifier)
    start = pooled.pop("classifier_start")
    choices.check(f"{group}.classifier_start", start, ClassifierStart)
    size = settings.data.image_size
    if not pooled["name"]:
        decision = decision if decision["name"] else None
        size = pretrained.made_for(settings.model.name, size)
        return {"num_classes": classes, "decision": decision, "image_size": size}
    if decision["name"]:
        raise ValueError(
            f"`model.attention_pooling.name`={pooled['name']!r} with "
            f"`model.decision.name`={decision['name']!r}; expected one of them."
        )
    return {"trunk_only": True, "decision": pooled, "image_size": size or None}


def for_classes(
    network: pretrained.Pretrained, names: Sequence[str], seed: int
) -> tuple[pretrained.Pretrained, list[str]]:
    """Give a network the classes of data: its own by name, or new ones.

    Args:
        network: Loaded with the classes of its weights.
        names: Names of the data's classes.
        seed: Seed of a new classifier.

    Returns:
        The network, whose classifier counts as new unless it knew all names, and
        sentences about what was taken.
    """
    if not network.new_classifier and heads.is_same(network.class_names, names):
        return network._replace(class_names=tuple(names)), []
    module = network.module.clone(num_classes=len(names))
    leaves = tree.flatten(network.variables)
    width = network.module.pool.channels[-1]
    generator = np.random.default_rng(seed)
    drawn = {
        f"{heads.HEAD}{name}": jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in (("bias", (len(names),)), ("kernel", (width, len(names))))
    }
    own = {path: drawing.leaf_of(generator, path, drawn[path]) for path in drawn}
    new, said = True, []
    if not network.new_classifier:
        carried = heads.carry(leaves, own, network.class_names, names)
        own, said = carried.leaves, [carried.sentence(network.source)]
        new = bool(carried.new) or carried.by_order
    variables = jax.tree.map(jnp.asarray, tree.unflatten({**leaves, **own}))
    changed = network._replace(module=module, variables=variables)
    return changed._replace(class_names=tuple(names), new_classifier=new), said


def with_classifier(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
) -> tuple[dict[str, optim.Rule], list[str]]:
    """Freeze the classifier of a network that pools by attention, where it is to be.

    Args:
        settings: Settings of the training.
        network: As `for_classes` gives it.
        rules: Rules of all parameters.

    Returns:
        The rules, and a sentence about it.

    Raises:
        ValueError: A new classifier is to be frozen.
    """
    pooled = settings.model.attention_pooling
    begins = begins_on_averages(settings, network)
    wish, fits = pooled.classifier, begins or not network.new_classifier
    if not pooled.name or wish == "learned":
        return dict(rules), []
    if wish == "auto" and not (fits and pooled.name == "ca_stream"):
        return dict(rules), []
    if not (fits or settings.init_from):
        raise ValueError(
            "`model.attention_pooling.classifier`='frozen', but the weights' own does "
            "not know all classes of the data by name; expected 'learned' or 'auto'."
        )
    frozen = optim.Rule(train=False)
    kept = {p: frozen if p.startswith(_PREFIX) else rule for p, rule in rules.items()}
    if begins:
        return kept, ["the classifier learns on averages, before attention does"]
    return kept, ["the classifier is the weights' own, and does not learn"]


def begins_on_averages(settings: Settings, network: pretrained.Pretrained) -> bool:
    """Tell whether a new classifier learns on average-pooled features first.

    Raises:
        ValueError: It is to, but features are not kept.
    """
    pooled = settings.model.attention_pooling
    wanted = pooled.name and pooled.classifier_start == "average"
    if not wanted or settings.init_from or not network.new_classifier:
        return False
    if not settings.features.cache:
        raise ValueError(
            "`model.attention_pooling.classifier_start`='average' trains a classifier "
            "on kept features; expected features.cache=True, or 'random'."
        )
    return True


def fitted_first(settings: Settings) -> str:
    """Name the start that is fitted to kept features before the first step, or "".

    Raises:
        ValueError: There is one, but features are not kept.
    """
    start = settings.model.attention_pooling.get("start")
    if start not in _FITTED or settings.init_from:
        return ""
    if not settings.features.cache:
        raise ValueError(
            f"`model.attention_pooling.start`={start!r} fits {_FITTED[start]} to kept "
            "features; expected features.cache=True, or 'average'."
        )
    return start


def hooks(
    settings: Settings,
    network: pretrained.Pretrained,
    rules: Mapping[str, optim.Rule],
    steps: int,
) -> list[Hook]:
    """Make the hooks of a network that pools by attention.

    Args:
        settings: Settings of the training.
        network: As `for_classes` gives it.
        rules: Rules of all parameters.
        steps: Number of steps.
    """
    found = [_record(network, rules)]
    learns_first = begins_on_averages(settings, network)
    if learns_first:
        found.append(classifier_start.hook(settings, network, rules, _PREFIX, steps))
    start = fitted_first(settings)
    if start == queries_start.START:
        found.append(queries_start.hook(network, settings.seed))
    if start == attention_start.START:
        given = settings, network, rules, _PREFIX, steps
        found.append(attention_start.hook(*given, is_new=learns_first))
    return found


def _record(network: pretrained.Pretrained, rules: Mapping[str, optim.Rule]) -> Hook:
    """Record whose classifier there is, and whether it learns."""
    learns = any(rule.train for p, rule in rules.items() if p.startswith(_PREFIX))
    whose = "new" if network.new_classifier else "the weights' own"
    entry = {"classifier": {"from": whose, "learns": learns}}

    def start(
        variables: Variables, session: Session
    ) -> tuple[Variables, Mapping[str, object]]:
        del session
        return variables, entry

    return Hook(before_first_step=start)
