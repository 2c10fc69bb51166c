"""Names of the layers of vision transformers in other libraries' files.

They are those that `weights.token_names` gives: queries, keys and values apart.
"""

from collections.abc import Mapping
from typing import NamedTuple

from unlir_jax.models.vision_transformer import VisionTransformer
from unlir_jax.weights.layouts import Prefixes


class Naming(NamedTuple):
    """Say what a library calls the layers; `{}` stands for the number of a block.

    Attributes:
        outer: Layers and arrays around the blocks.
        inner: Layers of a block.
    """

    outer: dict[str, str]
    inner: dict[str, str]


_TIMM = Naming(
    {
        "patches": "patch_embed.proj",
        "tokens/position": "pos_embed",
        "tokens/class_token": "cls_token",
        "tokens/distillation_token": "dist_token",
        "tokens/register_tokens": "reg_token",
        "norm0": "norm_pre",
        "norm": "norm",
        "pool/latent": "attn_pool.latent",
        "pool/query": "attn_pool.q",
        "pool/key": "attn_pool.k",
        "pool/value": "attn_pool.v",
        "pool/output": "attn_pool.proj",
        "pool/norm": "attn_pool.norm",
        "pool/mlp/expand": "attn_pool.mlp.fc1",
        "pool/mlp/contract": "attn_pool.mlp.fc2",
        "classifier": "head",
        "distilled_classifier": "head_dist",
    },
    {
        "norm1": "blocks.{}.norm1",
        "attention/query": "blocks.{}.attn.q",
        "attention/key": "blocks.{}.attn.k",
        "attention/value": "blocks.{}.attn.v",
        "attention/query_norm": "blocks.{}.attn.q_norm",
        "attention/key_norm": "blocks.{}.attn.k_norm",
        "attention/output": "blocks.{}.attn.proj",
        "scale1/factor": "blocks.{}.ls1.gamma",
        "norm2": "blocks.{}.norm2",
        "mlp/expand": "blocks.{}.mlp.fc1",
        "mlp/gate": "blocks.{}.mlp.fc1_g",
        "mlp/contract": "blocks.{}.mlp.fc2",
        "scale2/factor": "blocks.{}.ls2.gamma",
    },
)
_GATED = {"mlp/expand": "blocks.{}.mlp.fc1_x"}
_OFFICIAL = Naming(
    {**_TIMM.outer, "tokens/register_tokens": "register_tokens"},
    _TIMM.inner,
)
_OFFICIAL_GATED = {
    "mlp/gate": "blocks.{}.mlp.w1",
    "mlp/expand": "blocks.{}.mlp.w2",
    "mlp/contract": "blocks.{}.mlp.w3",
}
_TORCHVISION = Naming(
    {
        "patches": "conv_proj",
        "tokens/position": "encoder.pos_embedding",
        "tokens/class_token": "class_token",
        "norm": "encoder.ln",
        "classifier": "heads.head",
    },
    {
        name: f"encoder.layers.encoder_layer_{{}}.{theirs}"
        for name, theirs in {
            "norm1": "ln_1",
            "attention/query": "self_attention.q",
            "attention/key": "self_attention.k",
            "attention/value": "self_attention.v",
            "attention/output": "self_attention.out_proj",
            "norm2": "ln_2",
            "mlp/expand": "mlp.0",
            "mlp/contract": "mlp.3",
        }.items()
    },
)
_EMBEDDINGS = {
    "patches": "embeddings.patch_embeddings.projection",
    "tokens/position": "embeddings.position_embeddings",
    "tokens/class_token": "embeddings.cls_token",
    "tokens/distillation_token": "embeddings.distillation_token",
    "tokens/register_tokens": "embeddings.register_tokens",
    "norm": "layernorm",
}
_LAYER = {
    "norm1": "layernorm_before",
    "attention/query": "attention.attention.query",
    "attention/key": "attention.attention.key",
    "attention/value": "attention.attention.value",
    "attention/output": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp/expand": "intermediate.dense",
    "mlp/contract": "output.dense",
}
_DINO_LAYER = {
    **_LAYER,
    "norm1": "norm1",
    "norm2": "norm2",
    "scale1/factor": "layer_scale1.lambda1",
    "scale2/factor": "layer_scale2.lambda1",
    "mlp/expand": "mlp.fc1",
    "mlp/contract": "mlp.fc2",
}
_DINO_GATED = {
    "mlp/gate": "mlp.weights_in.gate",
    "mlp/expand": "mlp.weights_in.value",
    "mlp/contract": "mlp.weights_out",
}
_IN_MEMORY = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.weights_in.gate": "mlp.gate_proj",
    "mlp.weights_in.value": "mlp.up_proj",
    "mlp.weights_out": "mlp.down_proj",
}
"""Names in files of transformers, and of version 5 in memory, as `torch.save` has."""
_CLIP_LAYER = {
    "norm1": "layer_norm1",
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/output": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp/expand": "mlp.fc1",
    "mlp/contract": "mlp.fc2",
}
_CLIP = Naming(
    {
        "patches": "embeddings.patch_embedding",
        "tokens/position": "embeddings.position_embedding.weight",
        "tokens/class_token": "embeddings.class_embedding",
        "norm0": "pre_layrnorm",
        "norm": "post_layernorm",
        "pool/latent": "head.probe",
        "pool/query": "head.attention.q",
        "pool/key": "head.attention.k",
        "pool/value": "head.attention.v",
        "pool/output": "head.attention.out_proj",
        "pool/norm": "head.layernorm",
        "pool/mlp/expand": "head.mlp.fc1",
        "pool/mlp/contract": "head.mlp.fc2",
        "classifier": "classifier",
    },
    {n: f"encoder.layers.{{}}.{t}" for n, t in _CLIP_LAYER.items()},
)
_OPENAI = Naming(
    {
        "patches": "conv1",
        "tokens/position": "positional_embedding",
        "tokens/class_token": "class_embedding",
        "norm0": "ln_pre",
        "norm": "ln_post",
        "classifier": "proj",
    },
    {
        name: f"transformer.resblocks.{{}}.{theirs}"
        for name, theirs in {
            "norm1": "ln_1",
            "attention/query": "attn.q",
            "attention/key": "attn.k",
            "attention/value": "attn.v",
            "attention/output": "attn.out_proj",
            "norm2": "ln_2",
            "mlp/expand": "mlp.c_fc",
            "mlp/contract": "mlp.c_proj",
        }.items()
    },
)


def _within(prefix: str, naming: Naming, classifier: str) -> Naming:
    """Put a prefix before all names but the classifier's."""
    outer, inner = (
        {ours: prefix + theirs for ours, theirs in names.items()} for names in naming
    )
    return Naming(outer | {"classifier": classifier}, inner)


def _transformers(
    kind: str, layer: Mapping[str, str], folder: str = ""
) -> dict[str, Naming]:
    """Name layers as transformers does: with a classifier, and without one.

    Args:
        kind: Prefix of all but the classifier.
        layer: Names in a block, in files.
        folder: Place of the blocks in the memory of version 5; "" for the files'.
    """
    in_memory = {ours: _IN_MEMORY.get(theirs, theirs) for ours, theirs in layer.items()}
    found = {}
    for version, names, blocks in (
        ("transformers", layer, "encoder.layer"),
        ("transformers 5", in_memory, folder or "encoder.layer"),
    ):
        inner = {ours: f"{blocks}.{{}}.{theirs}" for ours, theirs in names.items()}
        trunk = Naming(_EMBEDDINGS | {"classifier": "classifier"}, inner)
        whole = _within(f"{kind}.", trunk, "classifier")
        if kind == "deit":
            whole = _within(f"{kind}.", trunk, "cls_classifier")
            for each in (whole, trunk):
                each.outer["distilled_classifier"] = "distillation_classifier"
        found |= {version: whole, f"{version}, trunk": trunk}
    return found


def tables(module: VisionTransformer) -> dict[str, Prefixes]:
    """Name the layers of a network as timm, transformers and the official codes do.

    Args:
        module: The network.

    Returns:
        By the name of a layout, names of its layers.
    """
    dino = _DINO_LAYER | (_DINO_GATED if module.gated else {})
    timm, official = _TIMM, _OFFICIAL
    if module.gated:
        timm = timm._replace(inner=timm.inner | _GATED)
        official = official._replace(inner=official.inner | _OFFICIAL_GATED)
    if module.norm_after:
        timm = timm._replace(outer={**timm.outer, "norm": "fc_norm"})
    namings = {"timm": timm, "official": official}
    if module.scale is None and not module.distilled:
        namings["torchvision"] = _TORCHVISION
    if module.gated or module.scale is not None:
        kind = "dinov2_with_registers" if module.registers else "dinov2"
        namings |= _transformers(kind, dino)
    else:
        kind = "deit" if module.distilled else "vit"
        namings |= _transformers(kind, _LAYER, "layers")
    if module.norm_before or module.pooled == "attention":
        tower = _within("vision_model.", _CLIP, "visual_projection")
        namings = {"timm": timm, "transformers": tower, "transformers, trunk": _CLIP}
        if module.norm_before:
            namings["openai"] = _OPENAI
    return {name: _table(module, naming) for name, naming in namings.items()}


def _table(module: VisionTransformer, naming: Naming) -> Prefixes:
    table = dict(naming.outer)
    for index in range(module.depth):
        for ours, theirs in naming.inner.items():
            table[f"block{index}/{ours}"] = theirs.format(index)
    return table


def aliases(module: VisionTransformer) -> dict[str, str]:
    """Give our names of the layers that people of other libraries ask for."""
    found = {"norm": "norm", "patch_embed": "patches", "patch_embed.proj": "patches"}
    for index in range(module.depth):
        for inner in ("", ".norm1", ".norm2", ".mlp"):
            ours = f"block{index}{inner.replace('.', '/')}"
            found[f"blocks.{index}{inner}"] = ours
        found[f"blocks.{index}.attn"] = f"block{index}/attention"
        found[f"encoder.layer.{index}"] = f"block{index}"
    return found


def parameters(module: VisionTransformer, image_size: int) -> int:
    """Count the parameters of a network."""
    width, inner, places = module.width, module.inner, image_size // module.patch_size
    norm = 2 * width
    attention = 4 * width * width + (4 if module.bias else 1) * width
    if module.normalized:
        attention += 4 * (width // module.heads)
    mlp = (3 if module.gated else 2) * width * inner + width
    mlp += (2 if module.gated else 1) * inner
    block = 2 * norm + attention + mlp + (norm if module.scale is not None else 0)
    patches = 3 * module.patch_size**2 * width + module.patch_bias * width
    tokens = (places**2 + module.leading) * width
    heads = 1 + module.distilled if module.num_classes else 0
    head = heads * module.num_classes * (width + module.head_bias)
    whole = module.depth * block + patches + tokens + norm + head
    whole += norm if module.norm_before else 0
    if module.pooled == "attention":
        whole += width + 4 * width * (width + 1) + norm
        whole += 2 * width * inner + width + inner
    return whole
