"""Write the .npz files beside this file, from PyTorch networks on made weights.

    python make.py OFFICIAL                  # all files
    python make.py OFFICIAL timm_plain …     # these only

OFFICIAL is a folder with checkouts of the official codes, see README.md.
"""

import functools
import importlib.metadata
import pathlib
import sys
import tempfile

import named_weights
import numpy as np
import safetensors.numpy
import timm
import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).parent
OFFICIAL = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(OFFICIAL / name) for name in ("", "openai", "dino")]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
THEIRS = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}

watched = []


def softmax(values, dim=-1, dtype=None, _stacklevel=3):
    """Stand for torch's function, and keep what it gives."""
    found = watched_softmax(values, dim, dtype=dtype)
    watched.append(found)
    return found


def attend(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None
):
    """Stand for torch's fused function, by its definition."""
    assert not dropout_p and not is_causal
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale
    scores = scores if attn_mask is None else scores + attn_mask
    return softmax(scores, -1) @ value


watched_softmax = torch.softmax
torch.Tensor.softmax = softmax
functional.softmax = softmax
functional.scaled_dot_product_attention = attend
torch.backends.mha.set_fastpath_enabled(False)
timm.layers.set_fused_attn(False)


def vit(**settings):
    """Build timm's vision transformer."""
    usual = SMALL | {"mlp_ratio": 2, "num_classes": 10}
    return timm.models.vision_transformer.VisionTransformer(**usual | settings)


def distilled():
    """Build timm's DeiT, which averages two classifiers."""
    settings = SMALL | {"mlp_ratio": 2, "num_classes": 10}
    return timm.models.deit.VisionTransformerDistilled(**settings)


def of_transformers(kind, config, **settings):
    """Build a model of transformers."""
    config = getattr(transformers, config)(**THEIRS | settings)
    return getattr(transformers, kind)(config)


def dinov2(registers):
    """Build the official DINOv2."""
    from dinov2.models import vision_transformer

    return vision_transformer.DinoVisionTransformer(
        **SMALL,
        mlp_ratio=2,
        init_values=1.0,
        block_chunks=0,
        num_register_tokens=registers,
        block_fn=functools.partial(
            vision_transformer.Block, attn_class=vision_transformer.MemEffAttention
        ),
    )


def dino():
    """Build the official DINO."""
    import vision_transformer

    norm = functools.partial(nn.LayerNorm, eps=1e-6)
    settings = SMALL | {"img_size": [32], "mlp_ratio": 2, "qkv_bias": True}
    return vision_transformer.VisionTransformer(**settings, norm_layer=norm)


def openai():
    """Build the official image tower of CLIP."""
    import clip.model

    # Theirs computes in float32, whatever the type of its parameters.
    clip.model.LayerNorm.forward = nn.LayerNorm.forward

    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = clip.model.VisionTransformer(32, 8, 64, 2, 2, 16)

        def forward(self, values):
            return self.visual(values)

    return Clip()


def convnext(**settings):
    """Build timm's ConvNeXt."""
    usual = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 64), "num_classes": 10}
    return timm.models.convnext.ConvNeXt(**usual | settings)


def torchvision_convnext():
    """Build torchvision's ConvNeXt."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths, depths = (16, 24, 32, 64), (1, 1, 2, 1)
    pairs = zip(widths, (*widths[1:], None), depths, strict=True)
    stages = [CNBlockConfig(width, wider, depth) for width, wider, depth in pairs]
    return ConvNeXt(stages, num_classes=10)


def convnext_of_transformers(version):
    """Build transformers' ConvNeXt."""
    config = getattr(transformers, f"ConvNext{version}Config")
    config = config(hidden_sizes=[16, 24, 32, 64], depths=[1, 1, 2, 1], num_labels=10)
    return getattr(transformers, f"ConvNext{version}ForImageClassification")(config)


def swin(**settings):
    """Build timm's Swin: the grid of 10 x 10 is padded to windows of 4 x 4."""
    usual = {
        "img_size": 40,
        "patch_size": 4,
        "window_size": 4,
        "embed_dim": 32,
        "depths": (2, 2),
        "num_heads": (2, 4),
        "num_classes": 10,
        "mlp_ratio": 2,
    }
    return timm.models.swin_transformer.SwinTransformer(**usual | settings)


def torchvision_swin():
    """Build torchvision's Swin."""
    norm = functools.partial(nn.LayerNorm, eps=1e-5)
    return torchvision.models.swin_transformer.SwinTransformer(
        [4, 4], 32, [2, 2], [2, 4], [4, 4], 2, num_classes=10, norm_layer=norm
    )


def swin_of_transformers():
    """Build transformers' Swin."""
    config = transformers.SwinConfig(
        image_size=40,
        patch_size=4,
        window_size=4,
        embed_dim=32,
        depths=[2, 2],
        num_heads=[2, 4],
        mlp_ratio=2,
        num_labels=10,
    )
    return transformers.SwinForImageClassification(config)


def cait():
    """Build timm's CaiT."""
    settings = SMALL | {"mlp_ratio": 2, "num_classes": 10}
    model = timm.models.cait.Cait(**settings, mlp_ratio_token_only=2)
    for name, module in model.named_modules():
        if name.endswith("proj_w"):
            module.register_forward_hook(mixed)
    return model


def mixed(module, given, found):
    """Keep the weights of the values, instead of those behind the softmax."""
    watched[-1] = found.permute(0, 3, 1, 2)


def xcit(library="timm", **settings):
    """Build timm's XCiT, or the official one."""
    if library == "timm":
        from timm.models.xcit import Xcit as XCiT
    else:
        from xcit import XCiT

        settings["norm_layer"] = functools.partial(nn.LayerNorm, eps=1e-6)
        settings["eta"] = 1.0
    usual = SMALL | {"mlp_ratio": 2, "num_classes": 10, "tokens_norm": True}
    usual |= {"qkv_bias": True}
    model = XCiT(**usual | settings)
    if library != "timm":
        # Its waves are float32, whatever the type of the parameters.
        layer = model.pos_embeder.token_projection
        layer.register_forward_pre_hook(lambda layer, given: (given[0].double(),))
    return model


_clip_norm = functools.partial(nn.LayerNorm, eps=1e-5)
_clip = {"pre_norm": True, "norm_layer": _clip_norm, "num_classes": 16}
_fast = nn.SiLU
CASES = {
    "timm_plain": vit,
    "timm_registers_swiglu": lambda: vit(
        reg_tokens=4,
        no_embed_class=True,
        init_values=1.0,
        mlp_layer=timm.layers.SwiGLUPacked,
        act_layer=_fast,
        mlp_ratio=4,
        num_classes=0,
    ),
    "timm_registers": lambda: vit(reg_tokens=4),
    "timm_clip": lambda: vit(**_clip),
    "timm_clip_quickgelu": lambda: vit(**_clip, act_layer="quick_gelu"),
    "timm_siglip": lambda: vit(class_token=False, global_pool="map", num_classes=0),
    "timm_mean_qk_norm": lambda: vit(
        class_token=False, global_pool="avg", qk_norm=True
    ),
    "timm_deit_distilled": distilled,
    "timm_deit3": lambda: vit(no_embed_class=True, init_values=1.0),
    "torchvision_vit": lambda: torchvision.models.VisionTransformer(
        32, 8, 2, 2, 64, 128, num_classes=10
    ),
    "official_dino": dino,
    "official_dinov2": lambda: dinov2(0),
    "official_dinov2_registers": lambda: dinov2(4),
    "official_clip": openai,
    "transformers_vit": lambda: of_transformers(
        "ViTForImageClassification", "ViTConfig", intermediate_size=128, num_labels=10
    ),
    "transformers_vit_trunk": lambda: of_transformers(
        "ViTModel", "ViTConfig", intermediate_size=128
    ),
    "transformers_deit": lambda: of_transformers(
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        intermediate_size=128,
        num_labels=10,
    ),
    "transformers_dinov2": lambda: of_transformers(
        "Dinov2Model", "Dinov2Config", mlp_ratio=2
    ),
    "transformers_dinov2_swiglu": lambda: of_transformers(
        "Dinov2Model", "Dinov2Config", mlp_ratio=2, use_swiglu_ffn=True
    ),
    "transformers_dinov2_registers": lambda: of_transformers(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", mlp_ratio=2
    ),
    "transformers_clip": lambda: of_transformers(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        intermediate_size=128,
        projection_dim=16,
    ),
    "transformers_siglip": lambda: of_transformers(
        "SiglipVisionModel", "SiglipVisionConfig", intermediate_size=128
    ),
    "timm_cait": cait,
    "timm_xcit": xcit,
    "timm_xcit_nano": lambda: xcit(img_size=64, patch_size=16, tokens_norm=False),
    "official_xcit": lambda: xcit("official", num_classes=0),
    "timm_convnext": convnext,
    "timm_convnextv2": lambda: convnext(use_grn=True, ls_init_value=None),
    "torchvision_convnext": torchvision_convnext,
    "transformers_convnext": lambda: convnext_of_transformers(""),
    "transformers_convnextv2": lambda: convnext_of_transformers("V2"),
    "timm_swin": swin,
    "torchvision_swin": torchvision_swin,
    "transformers_swin": swin_of_transformers,
}
LARGE = {"timm_xcit_nano"}


def filled(model, state):
    """Put arrays into a network, by name."""
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    kept = {
        name: value
        for name, value in model.state_dict().items()
        if "relative_position_index" in name or "num_batches" in name
    }
    model.load_state_dict(tensors | kept, strict=True)
    return model


def drawn(shapes):
    """Draw arrays of what are no counters."""
    counters = "relative_position_index", "num_batches_tracked"
    kept = {n: s for n, s in shapes.items() if not n.endswith(counters)}
    return named_weights.state(kept, kept.values())


def cases(name):
    """Give names of files and networks: transformers' by the names in files, too."""
    model = CASES[name]()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state = drawn(shapes)
    if not name.startswith("transformers"):
        yield name, filled(model, state), state
        return
    yield f"{name}_state", filled(model, state), state
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = pathlib.Path(folder, "model.safetensors")
        saved = safetensors.numpy.load_file(file)
        state = drawn({key: value.shape for key, value in saved.items()})
        safetensors.numpy.save_file(state, file, {"format": "pt"})
        yield name, type(model).from_pretrained(folder), state


def run(model, name):
    """Give logits, and attention after softmax, of the image."""
    watched.clear()
    side = 40 if "swin" in name else 64 if name in LARGE or "convnext" in name else 32
    pixels = named_weights.images(side, side).astype(np.float64)
    pixels = ((pixels - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
    model = model.double().eval()
    if hasattr(model, "set_attn_implementation") and "convnext" not in name:
        model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(torch.from_numpy(pixels.copy()))
    for key in ("logits", "image_embeds", "pooler_output"):
        if hasattr(found, key) and "vit_trunk" not in name:
            found = getattr(found, key)
            break
    if "vit_trunk" in name:
        found = found.last_hidden_state[:, 0]
    # XCiT's are of channels, but for those of the class token.
    kept = [each for each in watched if "xcit" not in name or each.shape[2:3] == (1,)]
    return found.numpy(), [each.numpy() for each in kept]


def make(name):
    """Write the files of one case."""
    for stem, model, state in cases(name):
        logits, attention = run(model, name)
        library = name.partition("_")[0]
        facts = {
            "names": np.array(list(state)),
            "shapes": np.array([",".join(map(str, a.shape)) for a in state.values()]),
            "logits": logits,
            "library": np.array(
                f"{library}, torch {torch.__version__}"
                if library == "official"
                else f"{library} {importlib.metadata.version(library)}"
            ),
        }
        for place, weights in enumerate(attention):
            # Of windows, the first few are enough.
            facts[f"attention{place}"] = weights[:3].astype(np.float32)
        np.savez_compressed(HERE / f"{stem}.npz", **facts)
        size = (HERE / f"{stem}.npz").stat().st_size
        print(stem, size, logits.shape, logits.std().round(3), len(attention))


def positions():
    """Write positions of 37 x 37 places on grids of 16 x 16 and 40 x 40."""
    places, width = 37 * 37, 1
    whole = named_weights.values("positions", (1, 1 + places, width))
    whole = torch.from_numpy(whole)
    found = {"positions": whole[:, 1:].numpy()}
    for side in (16, 40):
        pixels = 14 * side
        found[f"timm_{side}"] = timm.layers.resample_abs_pos_embed(
            whole, [side, side], num_prefix_tokens=1
        )
        found[f"torchvision_{side}"] = torchvision.models.vision_transformer
        found[f"torchvision_{side}"] = found[
            f"torchvision_{side}"
        ].interpolate_embeddings(pixels, 14, {"encoder.pos_embedding": whole})[
            "encoder.pos_embedding"
        ]
        for kind, config in (
            ("ViT", "ViTModel"),
            ("Dinov2", "Dinov2Model"),
            ("Dinov2WithRegisters", "Dinov2WithRegistersModel"),
        ):
            config = getattr(transformers, f"{kind}Config")(
                hidden_size=width,
                num_attention_heads=1,
                num_hidden_layers=1,
                image_size=518,
                patch_size=14,
            )
            embeddings = getattr(transformers, f"{kind}Model")(config).embeddings
            embeddings.position_embeddings.data = whole
            tokens = torch.zeros(1, 1 + side * side, width)
            found[f"transformers_{kind}_{side}"] = embeddings.interpolate_pos_encoding(
                tokens, pixels, pixels
            )
        for registers in (0, 4):
            from dinov2.models.vision_transformer import DinoVisionTransformer

            model = DinoVisionTransformer(
                img_size=518,
                patch_size=14,
                embed_dim=width,
                depth=1,
                num_heads=1,
                num_register_tokens=registers,
                interpolate_antialias=registers > 0,
                interpolate_offset=0.0 if registers else 0.1,
            )
            model.pos_embed.data = whole
            tokens = torch.zeros(1, 1 + side * side, width)
            found[f"official_{registers}_{side}"] = model.interpolate_pos_encoding(
                tokens, pixels, pixels
            )
    arrays = {
        name: np.asarray(
            value.detach()[:, 1:] if isinstance(value, torch.Tensor) else value,
            np.float32,
        )
        for name, value in found.items()
    }
    arrays = {n: a for n, a in arrays.items() if n != "positions"}
    np.savez_compressed(HERE / "positions.npz", **arrays)
    print("positions", (HERE / "positions.npz").stat().st_size)


def main(chosen):
    """Write the files that are asked for, or all."""
    torch.set_num_threads(1)
    for name in CASES:
        if not chosen or name in chosen:
            make(name)
    if not chosen or "positions" in chosen:
        positions()


if __name__ == "__main__":
    main(sys.argv[2:])
