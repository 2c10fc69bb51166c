"""Networks of this library, cut in two at a layer."""

import functools

from unlir_jax import split
from unlir_jax.models import attention_pooling
from unlir_jax.models.backbone import Network
from unlir_jax.split import mode
from unlir_jax.types import Module, SplitModel


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
