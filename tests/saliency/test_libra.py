"""LibraGrad against its rules in torch, and the completeness that it is made for."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
import small_transformer
import tiers
import toy

from unlir_jax import saliency, split, tree
from unlir_jax.models import placing, vit
from unlir_jax.models.cutting import cut
from unlir_jax.weights import contents, token_names

FOLDER = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(FOLDER / "attention"))

import attention_weights  # noqa: E402

SIZES = {"width": 64, "depth": 3, "heads": 2, "inner": 256}
OPTIONS = {"plain": {}, "gated": {"gated": True, "inner": 128, "registers": 2}}
IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 3)), jnp.float32)
LABELS = jnp.asarray([0, 3])


@pytest.mark.parametrize("name", tiers.by_tier(OPTIONS, 1))
def test_maps_equal_those_of_the_rules_in_torch(x64, name):
    with np.load(FOLDER / "relevance" / "libra.npz") as file:
        known = {key.removeprefix(f"{name}_"): file[key] for key in file.files}
    arrays = attention_weights.state_dict(known["names"], known["shapes"])
    shapes = {each: array.shape for each, array in arrays.items()}
    found = contents.Contents(shapes, lambda names: {n: arrays[n] for n in names})
    spelt = token_names.spelt(found)
    colours = {"mean": vit.HALF, "deviation": vit.HALF}
    network = vit.network("tiny", 8, 32, **SIZES | OPTIONS[name] | colours)
    module = network.build(num_classes=5)
    variables = placing.fill(module, network, spelt.read(spelt.shapes), name, name)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    model = cut(module, network, network.layer)
    images = jnp.asarray(attention_weights.images(32, 32), jnp.float64)
    labels = jnp.asarray(known["labels"])
    explain = saliency.libra_input_x_gradient(model)
    difference = np.abs(explain(variables, images, labels) - known["map"]).max()
    # Positions are added in float32 as the file is read.
    assert difference < 1e-6 * np.abs(known["map"]).max()
    logits = split.whole(saliency.libra_grad(model))(variables, images)
    np.testing.assert_allclose(logits, known["logits"], atol=1e-6)


FORMS = {
    "gated": {"gated": True, "scale": 0.5, "registers": 2},
    "quick": {"activation": "quick", "normalized": True, "distilled": True},
    "attention": {"class_token": False, "pooled": "attention"},
}


@pytest.mark.parametrize("form", tiers.by_tier(FORMS, 1))
def test_pixels_and_biases_add_up_to_the_score(x64, form):
    """Of a network that is complete: the definition, over everything that is added."""
    plain = {"mean": (0.0,) * 3, "deviation": (1.0,) * 3}
    module, model = small_transformer.network(**plain, **FORMS[form])
    variables = small_transformer.variables(module)
    flat = tree.flatten(variables)
    flat = {path: jnp.asarray(leaf, jnp.float64) for path, leaf in flat.items()}
    names = ("bias", "position", "token", "tokens", "latent")
    moving = {path for path in flat if path.endswith(names)}
    images = jnp.asarray(IMAGES, jnp.float64)

    def sums(model):
        network = split.whole(model)

        def total(images, added):
            return network(tree.unflatten(flat | added), images)[0, 2]

        given = images[:1], {path: flat[path] for path in moving}
        found = jax.grad(total, argnums=(0, 1))(*given)
        parts = jax.tree.map(lambda a, b: jnp.sum(a * b), given, found)
        return total(*given), sum(jax.tree.leaves(parts))

    score, found = sums(saliency.libra_grad(model))
    np.testing.assert_allclose(found, score, rtol=1e-9)
    score, found = sums(model)
    assert abs(found - score) > 0.01 * abs(score)


@pytest.mark.exhaustive
def test_it_is_relevance_without_a_gamma(x64):
    """CP-LRP by the rule epsilon of nothing is its gradient times the pixels."""
    plain = {"mean": (0.0,) * 3, "deviation": (1.0,) * 3}
    module, model = small_transformer.network(**plain)
    variables = small_transformer.variables(module)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    given = variables, jnp.asarray(IMAGES, jnp.float64), LABELS
    gammas = {"gamma": 0.0, "patch_gamma": 0.0}
    expected = saliency.attn_lrp(model, **gammas, stabilizer=1e-14)(*given)
    found = saliency.libra_input_x_gradient(model)(*given)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_a_network_of_rectifiers_keeps_its_gradient():
    module = toy.Plain()
    model = split.from_linen(module, "conv1")
    given = toy.random_variables(module, IMAGES), IMAGES, LABELS
    for factory in (saliency.gradient, saliency.grad_cam):
        found = factory(saliency.libra_grad(model))(*given)
        np.testing.assert_allclose(found, factory(model)(*given), atol=1e-6)


@pytest.mark.exhaustive
def test_it_balances_networks_of_other_libraries_and_explainers_of_attention():
    network = own_networks.nnx_module(own_networks.ViT)
    model, state = split.from_nnx(network, at="blocks/0", tokens=(2, "square"))
    balanced = saliency.libra_grad(model)
    expected = split.whole(model)(state, IMAGES)
    np.testing.assert_allclose(
        split.whole(balanced)(state, IMAGES), expected, atol=1e-5
    )
    for factory in (saliency.input_x_gradient, saliency.generic_attention):
        found, plain = (
            f(state, IMAGES, LABELS) for f in map(factory, (balanced, model))
        )
        assert np.isfinite(found).all() and not np.allclose(found, plain, rtol=0.01)


def test_what_is_not_a_network_of_logits_is_refused():
    def ends_in_softmax(variables, maps):
        return jax.nn.softmax(maps.mean((1, 2)))

    def loops(variables, maps):
        return jax.lax.scan(lambda m, _: (m * m, None), maps, length=2)[0].mean((1, 2))

    for head, words in ((ends_in_softmax, "gives logits"), (loops, "has a `scan`")):
        model = split.from_functions(lambda variables, images: images, head)
        explain = saliency.gradient(saliency.libra_grad(model))
        with pytest.raises(ValueError, match=words):
            explain({}, IMAGES, LABELS)
