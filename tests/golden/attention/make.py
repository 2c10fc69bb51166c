"""Write the .npz files beside this file: maps of PyTorch's explainers for transformers.

    python make.py TRANSFORMER_EXPLAINABILITY   # a clone of hila-chefer's repository

Needs torch, timm and einops; README.md names the versions. All is float64.
"""

import contextlib
import pathlib
import sys

import numpy as np
import timm
import torch
from attention_weights import CLASSES, COMMON, NETWORKS, SIDE, images, state_dict

HERE = pathlib.Path(__file__).parent
LABELS = (1, 0)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def build(options):
    """A small timm network, and the shapes of its arrays."""
    net = timm.models.VisionTransformer(
        img_size=SIDE,
        embed_dim=64,
        num_heads=2,
        num_classes=CLASSES,
        **COMMON,
        **options,
    )
    shapes = {name: tuple(v.shape) for name, v in net.state_dict().items()}
    texts = [",".join(map(str, shape)) for shape in shapes.values()]
    state = state_dict(shapes, texts)
    net.load_state_dict(
        {name: torch.from_numpy(v).double() for name, v in state.items()}
    )
    for block in net.blocks:
        block.attn.fused_attn = False
    return net.eval(), {"names": np.array(list(shapes)), "shapes": np.array(texts)}


@contextlib.contextmanager
def watched(net):
    """Keep the attention of every block, and what comes out of the block."""
    weights, tokens, hooks = [], [], []
    for block in net.blocks:
        # What drops attention weights, and drops none here, sees them.
        hooks.append(
            block.attn.attn_drop.register_forward_hook(
                lambda m, a, out: weights.append(out)
            )
        )
        hooks.append(block.register_forward_hook(lambda m, a, out: tokens.append(out)))
    yield weights, tokens
    for hook in hooks:
        hook.remove()


def row(matrix, net):
    """What is classified: the class token, or the mean of all."""
    return matrix[0] if net.cls_token is not None else matrix.mean(0)


def own_maps(net, picture, label):
    """Maps from the formulas, for networks that the official code does not know."""
    with watched(net) as (weights, tokens):
        logit = net(picture)[0, label]
    slopes = torch.autograd.grad(logit, weights, retain_graph=True)
    eye = torch.eye(weights[0].shape[-1])
    found = {"raw": row(weights[-1][0].mean(0), net)}
    for key, start, normalise in (
        ("rollout", 0, True),
        ("rollout_plain", 0, False),
        ("rollout_1", 1, True),
    ):
        joint = eye
        for each in weights[start:]:
            mixed = each[0].mean(0) + eye
            joint = (
                mixed / mixed.sum(-1, keepdim=True) if normalise else mixed
            ) @ joint
        found[key] = row(joint, net)
    relevance = eye
    for each, slope in zip(weights, slopes, strict=True):
        relevance = relevance + (each * slope)[0].clamp(min=0).mean(0) @ relevance
    found["generic"] = row(relevance - eye, net)
    lead = net.num_prefix_tokens
    each, slope = (
        torch.stack([row(m, net) for m in v[0]]) for v in (weights[-1], slopes[-1])
    )
    found["grad_cam"] = (
        (each * slope[:, lead:].mean(1, keepdim=True)).mean(0).clamp(min=0)
    )
    norm = net.norm if isinstance(net.norm, torch.nn.LayerNorm) else net.fc_norm
    total = 0
    for each, out in zip(weights, tokens, strict=True):
        score = net.head(norm(out.mean(1)))[0, label]
        slope = torch.autograd.grad(score, each, retain_graph=True)[0]
        total = total + slope[0].clamp(min=0).mean((0, 1))
    found["legrad"] = total
    found = {
        key: value.detach()[lead:].reshape(4, 4).numpy() for key, value in found.items()
    }
    return found | {"logits": net(picture)[0].detach().numpy()}


def official_maps(net, picture, label):
    """Maps of the code of Chefer et al., CVPR 2021, run as it is."""
    from baselines.ViT.ViT_explanation_generator import compute_rollout_attention
    from baselines.ViT.ViT_LRP import VisionTransformer

    theirs = VisionTransformer(
        img_size=SIDE,
        patch_size=8,
        num_classes=CLASSES,
        embed_dim=64,
        depth=3,
        num_heads=2,
        qkv_bias=True,
    )
    theirs.load_state_dict(net.state_dict())
    theirs.norm.eps = 1e-6
    theirs.eval()
    logits = theirs(picture)
    logits[0, label].backward(retain_graph=True)
    start = torch.zeros_like(logits).detach()
    start[0, label] = 1
    found = {
        key: theirs.relprop(start, method=method, alpha=1, start_layer=layer)[0]
        for key, method, layer in (
            ("attribution", "transformer_attribution", 0),
            ("attribution_1", "transformer_attribution", 1),
            ("lrp_rollout", "rollout", 0),
        )
    }
    weights = [block.attn.get_attn() for block in theirs.blocks]
    slopes = [block.attn.get_attn_gradients() for block in theirs.blocks]
    heads = [each.mean(1) for each in weights]
    for key, layer in (("rollout", 0), ("rollout_1", 1)):
        found[key] = compute_rollout_attention(heads, start_layer=layer)[0, 0, 1:]
    weight, slope = weights[-1][0, :, 0, 1:], slopes[-1][0, :, 0, 1:]
    found["grad_cam"] = (weight * slope.mean(1, keepdim=True)).mean(0).clamp(min=0)
    found = {key: value.detach().reshape(4, 4).numpy() for key, value in found.items()}
    assert np.allclose(
        logits[0].detach().numpy(), net(picture)[0].detach().numpy(), atol=1e-10
    )
    return found


def main(clone):
    sys.path.insert(0, clone)
    for name, options in NETWORKS.items():
        net, facts = build(options)
        pictures = torch.from_numpy(
            (images(SIDE, SIDE).transpose(0, 3, 1, 2) - 0.5) / 0.5
        ).double()
        found = []
        for picture, label in zip(pictures, LABELS, strict=True):
            maps = own_maps(net, picture[None], label)
            if name == "class_token":
                official = official_maps(net, picture[None], label)
                for key in official.keys() & maps.keys():
                    assert abs(official[key] - maps[key]).max() < 1e-12, key
                maps |= official
            found.append(maps)
        facts |= {key: np.stack([each[key] for each in found]) for key in found[0]}
        facts |= {
            "labels": np.array(LABELS),
            "library": np.array(f"timm {timm.__version__}, torch {torch.__version__}"),
        }
        np.savez_compressed(HERE / f"{name}.npz", **facts)
        print(
            name,
            {
                key: (value.shape, float(abs(value).max()))
                for key, value in facts.items()
                if value.dtype == float
            },
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
