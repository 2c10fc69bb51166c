"""Networks of this library, cut in two at a layer."""

import functools
from typing import Any

import jax

from unlir_jax import split
from unlir_jax.core import choices
from unlir_jax.models import attention_pooling, pooling
from unlir_jax.models.backbone import Network
from unlir_jax.split import mode
from unlir_jax.types import Array, Features, Module, SplitModel, Variables


def cut(module: Module, network: Network, layer: str) -> SplitModel:
    """Cut a network at the path of a layer."""
    mean = tuple(module.mean)
    if isinstance(module, attention_pooling.AttentionNet):
        return _cut_pooled(module, "" if layer == network.layer else layer)
    if hasattr(module, "cuts"):
        return cut_tokens(module, layer)
    if layer == network.layer:
        model = split.from_methods(module, mean=mean)
    else:
        backbone = getattr(module, "backbone", module)
        inside = layer if backbone is module else f"backbone/{layer}"
        tokens = None
        if hasattr(backbone, "cuts"):
            tokens = split.Tokens(backbone.leading)
        model = split.from_linen(module, inside, mean=mean, tokens=tokens)
    if not hasattr(module, "leading"):
        return model
    read = functools.partial(mode.apply, module)
    return model._replace(attention=split.attention.of_linen(read, module.leading))


def _cut_pooled(module: attention_pooling.AttentionNet, layer: str) -> SplitModel:
    """Cut a network that pools by attention, at its last maps by default."""
    mean = tuple(module.mean)
    if layer:
        model = split.from_linen(module, f"backbone/{layer}", mean=mean)
    else:
        model = split.from_methods(module, "features_at", "head_at", mean=mean)
    scores = functools.partial(mode.apply, module, method="scores")
    return model._replace(pooling=scores)


def cut_tokens(module: Module, layer: str) -> SplitModel:
    """Cut a network of tokens, whose attention can be read."""
    mean = tuple(module.mean)
    if layer in module.cuts():
        two = "features_at", "head_at"
        model = split.from_methods(module, *two, mean=mean, layer=layer)
    else:
        at = getattr(module, "leading_at", lambda layer: module.leading)
        leading = at(layer)
        tokens = None if leading is None else split.Tokens(leading)
        model = split.from_linen(module, layer, mean=mean, tokens=tokens)
    read = functools.partial(mode.apply, module)
    attention = split.attention.of_linen(read, module.leading, "classify_mean")
    return model._replace(attention=attention)


def describing(module: Module, network: Network, layer: str, how: str) -> SplitModel:
    """Cut a network whose output is its pooled maps, `[batch, channels]`.

    Args:
        module: The network.
        network: Its entry in the zoo.
        layer: Path of the layer.
        how: One of `pooling.POOLINGS`; of a network of tokens, one of its `ways`.

    Raises:
        ValueError: There is no such way to pool.
    """
    ways = getattr(module, "ways", pooling.POOLINGS)
    choices.pick(how, ways, f"`pooling`={how!r} is no way to pool")
    mean, last = tuple(module.mean), layer == network.layer
    if hasattr(module, "ways"):
        leading = getattr(module, "leading_at", lambda layer: module.leading)(layer)
        tokens = None if leading is None else split.Tokens(leading)
        given: dict[str, Any] = {"method": "describe", "how": how}
        model = split.from_linen(module, layer, mean=mean, tokens=tokens, **given)
    elif last:
        model = split.from_methods(module, mean=mean)
    else:
        inside = f"backbone/{layer}" if hasattr(module, "backbone") else layer
        model = split.from_linen(module, inside, mean=mean, method="features")

    def head(variables: Variables, cut: Features) -> Array:
        if hasattr(module, "ways"):
            return model.head(variables, cut)[:, 0, 0]
        maps = cut.maps if last else model.head(variables, cut)
        return pooling.POOLINGS[how](maps)

    return model._replace(head=jax.jit(head), attention=None, run=None)
