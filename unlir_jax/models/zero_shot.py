"""Classes by texts: images and texts in one space, compared by their angle.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
ICML 2021 (CLIP); Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023
(SigLIP). The texts come as embeddings that the other half of the network has made.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unlir_jax import split
from unlir_jax.models import text_files, wrapping
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.storage import paths
from unlir_jax.types import (
    Array,
    Attended,
    Features,
    Images,
    Logits,
    SplitModel,
    Variables,
)

CLIP_SCALE = 100.0
"""The largest factor that CLIP may learn, which its released weights have."""


def zero_shot(
    network: Pretrained,
    texts: Array | str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    scale: float | None = None,
    bias: float | None = None,
) -> Pretrained:
    """Have a network that embeds images choose between texts.

    A logit is `scale · cos(image, text) + bias`. For CLIP their softmax is meant, and
    for SigLIP the sigmoid of each, which is the score `sigmoid`.

    Args:
        network: An image tower, of CLIP or SigLIP; any whose logits are an embedding.
        texts: Embeddings of the texts, `[classes, width]`, of any length above 0; or a
            file of them and their names, see `text_files.read`.
        class_names: What each text stands for; needed where no file says it.
        scale: Factor of the cosines; by default `exp(logit_scale)` of the file of texts
            or of the network's weights, and 100 for CLIP where neither has it.
        bias: What is added; by default the `logit_bias` of the same files, and 0 for
            CLIP.

    Returns:
        A network with a class each text. Its variables are the tower's, under
        `network`, and `texts`: `embeddings` of length 1, `scale` and `bias`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Embeddings of another width, that are not finite or all zero; names
            that are missing or not as many; or a SigLIP without scale and bias.

    Example:
        >>> import numpy as np, unlir_jax
        >>> tower = unlir_jax.load("vit_base_patch32_clip_224", "random")
        >>> texts = np.eye(2, 512)  # Of a text tower.
        >>> network = unlir_jax.zero_shot(tower, texts, ["a cat", "a dog"])
        >>> network.class_names
        ('a cat', 'a dog')
    """
    if isinstance(texts, str | os.PathLike):
        known, source = text_files.read(texts), paths.told(str(texts))
    else:
        known, source = text_files.Texts(np.asarray(texts)), "an array"
    names = known.class_names if class_names is None else tuple(class_names)
    embeddings = _checked(known.embeddings, names, network)
    terms = _terms(network, known.terms, scale, bias)
    variables = {"network": network.variables, "texts": {"embeddings": embeddings}}
    variables["texts"] |= {n: np.asarray(term, np.float32) for n, term in terms.items()}
    found = wrapping.wrap(
        compared(network.model),
        variables,
        image_size=network.image_size,
        class_names=names,
        crop=network.crop,
        interpolation=network.interpolation,
        name=network.name,
        layer=network.layer,
    )
    with_texts = f" with {len(names)} texts ({source})"
    return found._replace(
        preprocess=network.preprocess,
        source=network.source + with_texts,
        prepared_by=network.prepared_by,
        weights_key=network.weights_key,
        frame=network.frame,
        told=(network.told or paths.told(network.source)) + with_texts,
        positions=network.positions,
    )


def compared(model: SplitModel) -> SplitModel:
    """Compare what a cut network embeds with texts.

    Args:
        model: A network whose logits are an embedding, `[batch, width]`.

    Returns:
        The network with a logit each text; its variables are `network` and `texts`, see
        `zero_shot`. It is cut at the same layer.
    """

    def features(variables: Variables, images: Images) -> Features:
        return model.features(variables["network"], images)

    def head(variables: Variables, cut: Features) -> Logits:
        return logits(model.head(variables["network"], cut), variables["texts"])

    def run(variables: Variables, images: Images) -> Any:
        if model.run is None:
            return None
        return logits(model.run(variables["network"], images), variables["texts"])

    found = model._replace(
        features=features,
        head=jax.jit(head),
        run=run if model.run else None,
    )
    known = model.attention
    if known is None:
        return found

    def attend(variables: Variables, *given: Any) -> Attended:
        attended = known.run(variables["network"], *given)
        return attended._replace(logits=logits(attended.logits, variables["texts"]))

    own = known.classify

    def classify(variables: Variables, *given: Any) -> jax.Array | None:
        if own is None:
            return None
        return logits(own(variables["network"], *given), variables["texts"])

    both = {"run": attend, "classify": classify if own else None}
    return found._replace(attention=known._replace(**both))


def logits(embedded: Logits, texts: Mapping[str, jax.Array]) -> jax.Array:
    """Give `scale · cos(image, text) + bias`, in float32 or more.

    Args:
        embedded: Embeddings of images, `[batch, width]`; that of length 0 has no
            direction, and cosines of 0.
        texts: `embeddings`, `[classes, width]` of length 1, `scale` and `bias`.
    """
    embedded = jnp.asarray(embedded)
    wide = embedded.astype(jnp.promote_types(embedded.dtype, jnp.float32))
    squares = jnp.sum(wide**2, axis=-1, keepdims=True)
    known = squares != 0  # Also what is not a number, to be found in the logits.
    image = jnp.where(known, wide / jnp.sqrt(jnp.where(known, squares, 1)), 0)
    rows = texts["embeddings"].astype(wide.dtype)
    cosines = jnp.einsum("bd,cd->bc", image, rows, precision="highest")
    scale, bias = (jnp.reshape(texts[name], (1, 1)) for name in ("scale", "bias"))
    return cosines * scale.astype(wide.dtype) + bias.astype(wide.dtype)


def _checked(
    embeddings: np.ndarray, names: Sequence[str], network: Pretrained
) -> np.ndarray:
    """Refuse what are no embeddings for a network; give them of length 1."""
    side, shape = network.image_size, embeddings.shape
    one = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    width = jax.eval_shape(split.whole(network.model), network.variables, one).shape[1]
    if embeddings.dtype.kind != "f" or len(shape) != 2 or shape[1] != width:
        raise ValueError(
            f"`texts` are {embeddings.dtype} {list(shape)}; expected floating point "
            f"numbers [classes, {width}], since {network.name} embeds images in "
            f"{width} numbers."
        )
    if not len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            "`texts` have no names; expected `class_names`, or a file with a name for "
            "each text."
        )
    if len(names) != len(embeddings):
        raise ValueError(
            f"`texts` are {len(embeddings)}, with {len(names)} names; expected a name "
            "for each text."
        )
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    wrong = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"`texts` are not finite, or all zero, for {names[row]!r} (row {row}); "
            "expected a vector with a direction for each text."
        )
    return (wide / lengths).astype(np.float32)


def _terms(
    network: Pretrained,
    told: Mapping[str, float],
    scale: float | None,
    bias: float | None,
) -> dict[str, float]:
    """Choose scale and bias: as asked for, else of the texts, else of the weights."""
    known = {**network.similarity, **told}
    pools = getattr(network.module, "pooled", "") == "attention"
    if scale is None and "logit_scale" in known:
        scale = float(np.exp(known["logit_scale"]))
    if bias is None:
        bias = known.get("logit_bias", None if pools else 0.0)
    if scale is None and not pools:
        scale = CLIP_SCALE
    if scale is None or bias is None:
        raise ValueError(
            f"`scale`={scale} and `bias`={bias} of {network.name}, whose weights and "
            "texts do not have them; expected both, as SigLIP has learned them."
        )
    if not (np.isfinite(scale) and scale > 0 and np.isfinite(bias)):
        raise ValueError(
            f"`scale`={scale} and `bias`={bias}; expected a positive number, and one "
            "that is finite."
        )
    return {"scale": scale, "bias": bias}
