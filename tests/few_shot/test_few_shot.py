"""Learning from few pictures, on pictures whose classes are colours."""

import json

import few_colours
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers

from unlir_jax import cli
from unlir_jax.features import block_cut
from unlir_jax.few_shot import adapt, adapter_training, episodes, methods, probes
from unlir_jax.few_shot import settings as few_shots
from unlir_jax.models import pretrained
from unlir_jax.training import defaults

CONFIG = "configs/few_shot.py:backbone=cifar_resnet8,k=2,method={}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return few_colours.write(tmp_path_factory.mktemp("colours"))


def settings(folder, method="probe_gem", **more):
    return few_colours.settings(folder, f"k=2,method={method}", **more)


@pytest.mark.parametrize(
    "method",
    tiers.by_tier(
        ["probe_average", "lda", "prototypes", "filters", "lora", "last_block"],
        {"probe_average"},
    ),
)
def test_every_kind_of_method_learns_colours(pictures, tmp_path, method):
    found = adapt.run(settings(pictures, method), tmp_path / "run").summary
    assert len(found["test/accuracy_draws"]) == 2
    assert found["test/accuracy"] == pytest.approx(
        np.mean(found["test/accuracy_draws"])
    )
    assert found["test/accuracy"] > 0.8
    assert found["trained_parameters"] > 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {
        **found,
        "not_finite": 0,
    }


@pytest.mark.exhaustive
def test_all_methods_get_the_same_pictures_and_draws_are_kept(pictures, tmp_path):
    for method in ("cosine", "probe_max"):
        adapt.run(settings(pictures, method), tmp_path / method)
    first, second = (
        json.loads((tmp_path / method / "draws" / "001.json").read_text())["pictures"]
        for method in ("cosine", "probe_max")
    )
    assert first == second and len(first) == 6
    file = tmp_path / "cosine" / "draws" / "000.json"
    made = file.stat().st_mtime_ns
    (tmp_path / "cosine" / "summary.json").unlink()
    adapt.run(settings(pictures, "cosine"), tmp_path / "cosine")
    assert file.stat().st_mtime_ns == made
    again = adapt.run(settings(pictures, "cosine"), tmp_path / "cosine")
    assert again.message.startswith("Done before")


def test_draws_are_nested_even_and_differ():
    labels = np.repeat(np.arange(4), 10)
    few, classes = episodes.draw(labels, 2, 0)
    more, _ = episodes.draw(labels, 5, 0)
    assert classes.tolist() == [0, 1, 2, 3]
    assert set(few) <= set(more)
    assert (np.bincount(labels[more]) == 5).all()
    assert set(episodes.draw(labels, 2, 1)[0]) != set(few)
    some, chosen = episodes.draw(labels, 3, 0, ways=2)
    assert len(chosen) == 2 and set(labels[some]) == set(chosen)
    with pytest.raises(ValueError, match="`k`=11 .* class 0 has 10; expected 1 to 10"):
        episodes.draw(labels, 11, 0)
    with pytest.raises(ValueError, match="`ways`=5 of 4"):
        episodes.draw(labels, 2, 0, ways=5)


@pytest.mark.parametrize("name", list(probes.PROBES))
def test_probes_give_log_probabilities_and_tell_classes_apart(name):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 6)
    centres = 3 * random.normal(size=(3, 8))
    views = centres[labels] + random.normal(size=(2, 18, 8))
    test = centres[labels] + random.normal(size=(2, 18, 8))
    found = probes.PROBES[name](views.astype("float32"), labels, 3)(test)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=0.2)
    assert np.mean(found.argmax(1) == labels) > 0.9


@pytest.mark.exhaustive
def test_a_cut_trunk_gives_the_whole_trunks_maps():
    network = pretrained.load("mobilenet_v2", "random")
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    after = block_cut.behind(network.module, 64)
    assert after == "block6"
    cut = block_cut.cut(network.module, after, 64)
    inner = jax.jit(cut.before)(network.variables, images)
    assert inner.shape == (2, 8, 8, 32)
    maps = jax.jit(cut.after)(network.variables, inner)
    whole = network.module.apply(network.variables, images, method="features")
    np.testing.assert_allclose(maps, whole, atol=1e-4)
    behind = block_cut.pattern(network.module, 64, after)
    made = methods.adaptation(
        "filters", "mobilenet_v2", network.variables, behind, behind
    )
    assert made.count == 15_296
    same = made.adapt(network.variables, made.start)
    for one, other in zip(
        jax.tree.leaves(same), jax.tree.leaves(network.variables), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="did you mean 'block6'"):
        block_cut.behind(network.module, 64, "blok6")


@pytest.mark.exhaustive
def test_adapters_in_one_batch_are_adapters_one_by_one():
    network = pretrained.load("cifar_resnet8", "random")
    cut = block_cut.cut(network.module, "layer2/block0", 32)
    behind = block_cut.pattern(network.module, 32, "layer2/block0")
    made = methods.adaptation(
        "filters", "cifar_resnet8", network.variables, behind, behind
    )
    random = np.random.default_rng(0)
    rows = random.random((2, 9, 16, 16, 32), np.float32)
    targets = np.eye(3, dtype=np.float32)[np.arange(9) % 3]
    head = {"kernel": random.normal(size=(64, 3)), "bias": np.zeros(3)}
    head = {name: leaf.astype(np.float32) for name, leaf in head.items()}
    plan = adapter_training.Plan(steps=4, batch_size=6)
    found = [
        adapter_training.train(
            adapter_training.Network(cut.after, made.adapt, network.variables),
            adapter_training.Learnt(made.start, head),
            rows,
            targets,
            plan,
            mixed=(False, True),
            loop=loop,
        )
        for loop in ("host", "device")
    ]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    moved = jax.tree.leaves(found[0].trunk)
    assert all(np.abs(np.asarray(leaf) - 1).max() > 1e-3 for leaf in moved)


def test_weights_are_drawn_back_half_way():
    start = {"a": jnp.ones(3)}
    learnt = {"a": jnp.asarray([[1.0, 2.0, 0.0]])}
    found = methods.drawn_back(start, learnt, 0.5)["a"]
    np.testing.assert_allclose(found, [[1.0, 1.5, 0.5]])


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"k": 9}, "`k`=9 images of each class, but class 'blue' has 5"),
        ({"method": "filter"}, "`method`='filter'; expected one of filters"),
        ({"draws": 0}, "`draws`=0"),
        ({"model.after": "layer9"}, "`model.after`='layer9' is no block"),
        ({"data.test": ""}, "nothing to test on"),
    ],
)
def test_bad_settings_get_one_sentence(pictures, tmp_path, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        adapt.run(settings(pictures, **more), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_the_command_says_what_came_out(pictures, tmp_path, capsys):
    words = ["train", "--config", CONFIG.format("cosine"), "--config.steps=1"]
    words += [f"--config.data.path={pictures}", "--config.model.weights=random"]
    words += ["--config.draws=1", "--config.data.image_size=32"]
    assert cli.main([*words, f"--workdir={tmp_path / 'run'}"]) == 0
    assert "Done: 1 draws" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_a_config_of_an_earlier_version_has_no_kind(pictures, tmp_path):
    given = settings(pictures, "ridge")
    assert few_shots.kind(given) == given.kind == "few_shot"
    adapt.run(given, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    older = json.loads(file.read_text())
    del older["kind"]
    file.write_text(json.dumps(older))
    assert adapt.run(given, tmp_path / "run").message.startswith("Done before")
    with given.unlocked():
        del given.kind
    assert few_shots.kind(given) == "few_shot"
    assert few_shots.kind(defaults.training()) == "supervised"
    with given.unlocked():
        given.kind = "supervised"
    with pytest.raises(ValueError, match="`kind`='supervised', but the other"):
        few_shots.kind(given)
