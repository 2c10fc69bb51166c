"""Relevance within transformers: networks of other forms, and what is conserved."""

import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
import small_transformer
import tiers

from unlir_jax import saliency, split, tree

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 3)), jnp.float32)
LABELS = jnp.asarray([0, 3])
PLAIN = {"mean": (0.0,) * 3, "deviation": (1.0,) * 3}
FORMS = {
    "gated": {"gated": True, "scale": 0.5, "registers": 2},
    "mean": {"class_token": False, "pooled": "mean", "norm_after": True},
    "distilled": {"distilled": True},
    "normalized": {"normalized": True, "activation": "quick"},
}


def filled(variables, change):
    """Change arrays by a function of their path."""
    flat = tree.flatten(variables)
    return tree.unflatten({path: change(path, leaf) for path, leaf in flat.items()})


@pytest.mark.parametrize("form", tiers.by_tier(FORMS, {"gated"}))
def test_attribution_of_other_forms_depends_on_the_class(form):
    module, model = small_transformer.network(**FORMS[form])
    variables = small_transformer.variables(module)
    explain = saliency.transformer_attribution(model)
    first, second = (explain(variables, IMAGES, LABELS + n) for n in (0, 1))
    assert first.shape == (2, 4, 4) and np.isfinite(first).all()
    assert (first >= 0).all() and (np.ptp(first, axis=(1, 2)) > 0).all()
    assert not np.allclose(first, second, rtol=0.1)


@pytest.mark.exhaustive
def test_attribution_sees_a_layer_scale_as_part_of_the_layer_before_it(x64):
    """A positive factor in the output layer of a branch changes no share of it."""
    random = np.random.default_rng(1)
    factors = {f"scale{place}": random.uniform(0.3, 2, 8) for place in (1, 2)}
    layers = {"scale1": "attention/output", "scale2": "mlp/contract"}
    plain, model = small_transformer.network()
    variables = small_transformer.variables(plain)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    images = jnp.asarray(IMAGES, jnp.float64)
    flat, folded = dict(tree.flatten(variables)), {}
    for path, leaf in flat.items():
        factor = [factors[n] for n, layer in layers.items() if f"/{layer}/" in path]
        folded[path] = np.asarray(leaf) * factor[0] if factor else leaf
    for block in range(2):
        for name, factor in factors.items():
            flat[f"params/block{block}/{name}/factor"] = jnp.asarray(factor)
    _, scaled = small_transformer.network(scale=1.0)
    found = saliency.transformer_attribution(scaled)(
        tree.unflatten(flat), images, LABELS
    )
    expected = saliency.transformer_attribution(model)(
        tree.unflatten(folded), images, LABELS
    )
    # The stabilizer of 1e-9 is not scaled.
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_attribution_outside_of_linen_is_refused():
    network = own_networks.nnx_module(own_networks.ViT)
    model, state = split.from_nnx(network, at="blocks/0", tokens=(2, "square"))
    with pytest.raises(ValueError, match=r"no `run`|outside of Linen modules"):
        saliency.transformer_attribution(model)(state, IMAGES, LABELS)


@pytest.mark.parametrize("form", tiers.by_tier(["plain", "gated"], 1))
def test_without_biases_constant_attention_conserves_relevance(x64, form):
    module, model = small_transformer.network(**PLAIN, **FORMS.get(form, {}))
    variables = small_transformer.variables(module)

    def bare(path, leaf):
        shift = path.endswith("bias") or "/tokens/" in path
        return np.zeros(leaf.shape) if shift else np.asarray(leaf, np.float64)

    given = filled(variables, bare), jnp.asarray(IMAGES, jnp.float64), LABELS
    lost = {}
    for attention in ("constant", "shared"):
        explain = saliency.attn_lrp(model, attention=attention, stabilizer=1e-12)
        lost[attention] = saliency.conservation(model)(*given, explain(*given))
    np.testing.assert_allclose(lost["constant"], 0, atol=1e-9)
    # Softmax keeps some of what it gets.
    assert (np.abs(lost["shared"]) > 1e-6).all()


def test_a_form_of_attention_is_checked(unchecked):
    _, model = small_transformer.network()
    with pytest.raises(ValueError, match="'constant', 'shared'"):
        saliency.attn_lrp(model, attention="halved")
