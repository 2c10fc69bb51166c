"""CaiT and XCiT give the logits and the attention of timm's and the official ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
import tiers
from helpers import applied, refused

from unlir_jax import tree
from unlir_jax.models import backbone, cait, positions, pretrained, xcit

NAME = "small_late"
CASES = {
    "timm_cait": lambda: cait.network(64, 2, 32, heads=2, inner=128, patch_size=8),
    "timm_xcit": lambda: xcit.network(64, 2, 2, 8, 32, inner=128),
    "timm_xcit_nano": lambda: xcit.network(
        64, 2, 2, 16, 64, inner=128, norms_all=False
    ),
    "official_xcit": lambda: xcit.network(64, 2, 2, 8, 32, inner=128, num_classes=0),
}


@pytest.fixture
def load(tmp_path):
    """Load the weights of a case into a small network."""

    def loaded(case, weights=None, **settings):
        backbone.NETWORKS.pop(NAME, None)
        backbone.register(NAME, CASES[case]())
        if weights is None:
            weights = tmp_path / f"{case}.npz"
            np.savez(weights, **small.state(case))
        return pretrained.load(NAME, weights, **settings)

    yield loaded
    backbone.NETWORKS.pop(NAME, None)


def pictures(network):
    return jnp.asarray(small.images(network.image_size))


@pytest.mark.parametrize("case", tiers.by_tier(CASES, {"timm_cait", "timm_xcit"}))
def test_logits_and_attention_agree(case, load):
    network = load(case)
    images = pictures(network)
    attended = jax.jit(network.model.attention.run)(network.variables, images)
    logits, weights = small.expected(case)
    np.testing.assert_allclose(attended.logits, logits, atol=1e-4, rtol=0)
    for ours, theirs in zip(attended.weights, weights, strict="xcit" not in case):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert network.layer == "block1" and len(attended.weights) >= 2
    narrow = load(case, dtype="bfloat16")
    rounded = applied(narrow.module)(narrow.variables, images)
    assert rounded.dtype == jnp.float32
    assert np.abs(rounded - logits).max() < 0.05 * np.abs(logits).max()


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", ["timm_cait", "timm_xcit"])
def test_logits_agree_to_rounding_in_float64(case, load, x64):
    network = load(case)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), network.variables)
    images = pictures(network).astype(jnp.float64)
    found = network.module.apply(wide, images)
    np.testing.assert_allclose(found, small.expected(case)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", tiers.by_tier(["timm_cait", "timm_xcit"], 1))
def test_every_cut_has_the_grid_and_gives_the_logits(case, load):
    network = load(case)
    assert network.module.cuts() == ("block0", "block1", "class_block0")
    images = pictures(network)
    for layer in ("blocks.0", "class_block0", "block1/attention", "class_block1/norm1"):
        cut = load(case, layer=layer)
        features = cut.model.features(cut.variables, images)
        assert features.maps.shape == (1, 4, 4, 64), layer
        logits = cut.model.head(cut.variables, features)
        np.testing.assert_allclose(logits, small.expected(case)[0], atol=1e-4)
    split_in_two = network.module.apply(network.variables, images, method="features")
    logits = network.module.apply(network.variables, split_in_two, method="head")
    np.testing.assert_allclose(logits, small.expected(case)[0], atol=1e-4)


def test_positions_are_resized_and_waves_have_any_size(load):
    network = load("timm_cait", image_size=48)
    assert network.positions == "antialiased"
    own = small.state("timm_cait")["pos_embed"]
    found = network.variables["params"]["tokens"]["position"]
    expected = positions.resize(own, 36, "antialiased")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    refused("30 x 30 pixels.*8 x 8", load, "timm_cait", "random", image_size=30)
    network = load("timm_xcit", image_size=40)
    maps = network.model.features(network.variables, jnp.ones((1, 40, 24, 3))).maps
    assert maps.shape == (1, 5, 3, 64) and np.isfinite(maps).all()
    refused("no learned positions", load, "timm_xcit", positions="bicubic")
    # Sides end at 2 pi, however many places there are.
    np.testing.assert_allclose(xcit.waves(7, 3)[-1, -1, :2], (0, 1), atol=1e-5)
    first = xcit.waves(4, 3)[0, 1]
    np.testing.assert_allclose(first[:2], (1, 0), atol=1e-5)
    np.testing.assert_allclose(first[32], np.sin(4 / 3 * np.pi), atol=1e-5)


def test_folding_leaves_norms_that_follow_no_convolution(load):
    network, folded = load("timm_xcit"), load("timm_xcit", fold=True)
    norms = [p for p in tree.flatten(folded.variables) if p.startswith("batch_stats")]
    assert {path.split("/")[1] for path in norms} == {"block0", "block1"}
    assert "norm" not in folded.variables["params"]["patches"]["conv0"]
    found = applied(folded.module)(folded.variables, pictures(network))
    np.testing.assert_allclose(found, small.expected("timm_xcit")[0], atol=1e-4)


@pytest.mark.exhaustive
def test_a_training_step_moves_the_norms_of_batches(load):
    network = load("timm_xcit")
    _, state = network.module.apply(
        network.variables, pictures(network), train=True, mutable=["batch_stats"]
    )
    before = tree.flatten({"batch_stats": network.variables["batch_stats"]})
    after = tree.flatten(dict(state))
    assert before.keys() == after.keys()
    assert all((after[path] != before[path]).any() for path in before)


def test_training_files_of_dino_have_xcit_as_a_backbone(load, tmp_path):
    plain = load("official_xcit")
    arrays = {
        f"teacher.backbone.{name}": array
        for name, array in small.state("official_xcit").items()
    }
    arrays["teacher.head.last_layer.weight_v"] = np.ones((9, 4), np.float32)
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    network = load("official_xcit", tmp_path / "checkpoint.npz")
    assert tree.sha256(network.variables) == tree.sha256(plain.variables)
    assert network.module.num_classes == 0
