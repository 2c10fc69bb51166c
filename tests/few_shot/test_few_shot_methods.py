"""What methods of few shots learn from, and which of their settings matter."""

import functools
import json

import few_colours
import jax
import numpy as np
import pytest
from scipy import stats

from unlir_jax import adapters, cli, tree
from unlir_jax.few_shot import (
    adapt,
    adapter_training,
    discriminant,
    fitting,
    frozen_features,
    methods,
    probes,
    setup,
)
from unlir_jax.models import pretrained


@functools.cache
def resnet():
    return pretrained.load("cifar_resnet8", "random").variables


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return few_colours.write(tmp_path_factory.mktemp("colours"))


def prepared(colours, method, **more):
    (given,) = setup.prepare(
        few_colours.settings(colours, f"k=2,method={method}", **more)
    )
    return given


@pytest.mark.exhaustive
def test_a_probe_gets_the_crops_that_adapters_get(colours, monkeypatch):
    shown = {}
    chosen, labels = np.asarray([0, 1, 5, 6, 10, 11]), np.repeat(np.arange(3), 2)

    def watched(views, labels, classes, num_labelled):
        shown[name] = np.asarray(views)
        return probes.by_cosine(views, labels, classes)

    monkeypatch.setitem(probes.PROBES, "logistic", watched)
    for name in ("probe_gem", "probe_gem_crops"):
        given = prepared(colours, name, crops=3)
        seen = frozen_features.FrozenFeatures(given)
        seen.prepare(chosen, crops=methods.crops(given.method))
        fitting.fit(given, seen, chosen, labels, 3, 0)
    both, more = shown["probe_gem"], shown["probe_gem_crops"]
    assert both.shape[:2] == (2, 6) and more.shape[:2] == (5, 6)
    np.testing.assert_array_equal(more[:2], both)
    seen.prepare(chosen, crops=True)
    cut = seen.pool(seen.cropped(chosen), "gem")
    np.testing.assert_allclose(more[2:], cut, rtol=1e-5)
    assert np.abs(more[2] - more[3]).max() > 1e-3


@pytest.mark.parametrize("method", ["filters", "filters_single", "bias", "ia3", "full"])
def test_only_weights_of_filters_rest_at_one_picture_a_class(colours, method):
    given = prepared(colours, method, k=1, steps=0)
    resting = method.startswith("filters")
    assert (setup.steps(given, 3) == 0) == resting
    assert setup.steps(prepared(colours, method, steps=0), 6) > 0


def test_low_ranks_are_added_to_all_but_depthwise_convolutions():
    made = methods.adaptation("lora", "cifar_resnet8", resnet(), "layer[23].*", "")
    kernels = {
        path: leaf
        for path, leaf in tree.flatten(resnet()["params"]).items()
        if path.startswith(("layer2", "layer3")) and path.endswith("/kernel")
    }
    assert set(made.start) == set(kernels)
    assert {leaf.shape[:2] for leaf in kernels.values()} == {(1, 1), (3, 3)}
    same = tree.flatten(made.adapt(resnet(), made.start)["params"])
    for path, leaf in kernels.items():
        np.testing.assert_array_equal(same[path], leaf)
    random = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), made.start)
    found = tree.flatten(made.adapt(resnet(), drawn)["params"])
    for path, leaf in kernels.items():
        added = np.asarray(found[path] - leaf).reshape(-1, leaf.shape[-1])
        sizes = np.linalg.svd(added, compute_uv=False)
        assert np.count_nonzero(sizes > 1e-4 * sizes[0]) == methods.RANK
    count = sum(
        methods.RANK * (leaf.size // leaf.shape[-1] + leaf.shape[-1])
        for leaf in kernels.values()
    )
    assert made.count == count
    mobile = pretrained.load("mobilenet_v2", "random").variables
    names = methods.adaptation("lora", "mobilenet_v2", mobile, "block7/.*", "").start
    assert list(names) == ["block7/expand/conv/kernel", "block7/project/conv/kernel"]


def test_what_is_frozen_has_no_state_in_the_optimiser():
    made = methods.adaptation(
        "filters", "cifar_resnet8", resnet(), "layer3.*", "layer3.*"
    )
    head = {"kernel": np.zeros((64, 3), np.float32), "bias": np.zeros(3, np.float32)}
    learnt = adapter_training.Learnt(made.start, head)
    state = adapter_training._optimizer(adapter_training.Plan()).init(learnt)
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(state)]
    # Adam keeps two numbers for each that learns; counts of steps are single ones.
    assert sum(size for size in sizes if size > 1) == 2 * (made.count + 64 * 3 + 3)
    assert made.count == sum(leaf.size for leaf in made.start.values()) < 1000


def test_a_linear_head_starts_as_ridge_regression():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 6)
    centres = 3 * random.normal(size=(3, 8))
    views, test = (
        (centres[labels] + random.normal(size=(2, 18, 8))).astype(np.float32)
        for _ in range(2)
    )
    plan = adapter_training.Plan(head="linear")
    head = adapter_training.start_head(plan, views, labels, 3)
    logits = np.asarray(
        adapter_training.logits(plan, head, jax.numpy.asarray(test.mean(0)))
    )
    # One against all, on the means of both views; the scale is for the softmax.
    rows = views.mean(0) - views.mean((0, 1))
    hot = np.eye(3)[labels]
    best = 0.0
    for penalty in np.logspace(-6, 0.5, 40) * np.mean(np.sum(rows**2, 1)):
        inverse = np.linalg.inv(rows.T @ rows + penalty * np.eye(8))
        expected = (
            (test.mean(0) - views.mean((0, 1))) @ inverse @ rows.T @ (hot - 1 / 3)
        )
        flat = [each - each.mean(1, keepdims=True) for each in (logits, expected)]
        best = max(best, np.corrcoef(*map(np.ravel, flat))[0, 1])
    assert best > 0.9999
    assert (logits.argmax(1) == labels).mean() > 0.9


def test_covariances_shrink_as_much_as_ledoit_and_wolf_say():
    rows = np.random.default_rng(0).normal(size=(12, 5)) * np.arange(1, 6)
    covariance, share = discriminant.shrunken(rows - rows.mean(0))
    # sklearn.covariance.ledoit_wolf of scikit-learn 1.9.1, assume_centered=True.
    assert share == pytest.approx(0.3465330586969267, rel=1e-12)
    found = covariance[0, 0], covariance[3, 4]
    assert found == pytest.approx((3.5143300593931643, 5.9294597554740545), rel=1e-12)


def test_discriminants_are_ratios_of_gaussian_densities():
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), (9, 5, 7))
    rows = random.normal(size=(21, 6)) @ random.normal(size=(6, 6)) + labels[:, None]
    means = np.stack([rows[labels == label].mean(0) for label in range(3)])
    covariance, _ = discriminant.shrunken(rows - means[labels])
    expected = np.stack(
        [
            stats.multivariate_normal.logpdf(rows, mean, covariance) + np.log(share)
            for mean, share in zip(means, np.bincount(labels) / 21, strict=True)
        ],
        axis=1,
    )
    kernel, bias = discriminant.classifier(rows, labels, 3)
    found = rows @ kernel + bias
    np.testing.assert_allclose(
        found - found[:, :1], expected - expected[:, :1], rtol=1e-4, atol=1e-4
    )


def test_discriminants_of_one_picture_a_class_are_the_nearest_mean():
    rows = np.random.default_rng(2).normal(size=(4, 6))
    kernel, bias = discriminant.classifier(rows, np.arange(4), 4)
    test = np.random.default_rng(3).normal(size=(50, 6))
    nearest = np.square(test[:, None] - rows).sum(2).argmin(1)
    np.testing.assert_array_equal((test @ kernel + bias).argmax(1), nearest)
    with pytest.raises(ValueError, match="one and the same descriptor"):
        discriminant.classifier(np.ones((4, 6)), np.arange(4), 4)
    with pytest.raises(ValueError, match="expected each of 5"):
        discriminant.classifier(rows, np.arange(4), 5)


def test_a_linear_head_starts_as_discriminants_if_asked(colours):
    views = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)
    labels = np.arange(9) % 3
    plan = adapter_training.Plan(head="linear", head_start="lda")
    head = adapter_training.start_head(plan, views, labels, 3)
    kernel, _ = discriminant.classifier(views.mean(0), labels, 3)
    np.testing.assert_array_equal(head["kernel"], kernel)
    with pytest.raises(ValueError, match="starts from the means"):
        prepared(colours, "filters_single", head_start="lda")


@pytest.mark.exhaustive
def test_an_adapter_with_a_linear_head_becomes_a_plain_network(
    colours, tmp_path, capsys
):
    run, whole = tmp_path / "run", tmp_path / "whole.safetensors"
    plain = {"head": "linear", "pooling": "average", "flips": False}
    settings = few_colours.settings(
        colours, "k=2,method=filters_single", draws=1, steps=8, **plain
    )
    summary = adapt.run(settings, run).summary
    file = run / "adapters" / "0_mixup.safetensors"
    own = adapters.load(file)
    numbers = tree.count(own.weights) + 64 * 3 + 3
    assert summary["trained_parameters"] == numbers
    words = ["adapters", "apply", "cifar_resnet8", str(file), str(whole)]
    assert cli.main([*words, "--weights", "random"]) == 0
    assert "and its head" in capsys.readouterr().out
    network = pretrained.load("cifar_resnet8", whole)
    assert network.class_names == few_colours.CLASSES
    files = [
        colours / "test" / name / f"{index}.png"
        for name in few_colours.CLASSES
        for index in range(4)
    ]
    images = np.stack([network.preprocess(file) for file in files])
    logits = jax.jit(network.module.apply)(network.variables, images)
    right = (np.argmax(logits, 1) == np.repeat(np.arange(3), 4)).astype(int).tolist()
    draw = json.loads((run / "draws" / "000.json").read_text())
    assert draw["right"] == right and sum(right) > 9


@pytest.mark.exhaustive
def test_shifts_vote_beside_weights_and_have_files(colours, tmp_path):
    given = prepared(colours, "filters", steps=4)
    chosen, labels = np.asarray([0, 1, 5, 6, 10, 11]), np.repeat(np.arange(3), 2)
    seen = frozen_features.FrozenFeatures(given)
    seen.prepare(chosen, crops=True)
    fitted, voices = fitting.fit(given, seen, chosen, labels, 3, 0), []
    for method in methods.groups(given.method):
        alone = given._replace(method=method)
        own = fitting.fit(alone, seen, chosen, labels, 3, 0)
        voices.append((len(method.adapters), own))
    assert [count for count, _ in voices] == [1, 2]
    assert fitted.count == sum(own.count for _, own in voices)
    shown = seen.tested(np.arange(12))
    # Logarithms of probabilities, up to what is the same for all classes.
    found, weighted, shifted = (
        scores - scores.mean(1, keepdims=True)
        for scores in (each.classify(shown) for each in (fitted, voices[0][1], own))
    )
    np.testing.assert_allclose(found, (weighted + 2 * shifted) / 3, atol=1e-4)
    assert np.abs(weighted - shifted).max() > 1e-2
    fitting.save(fitted, given, tmp_path / "adapters", few_colours.CLASSES)
    files = sorted((tmp_path / "adapters").glob("*.safetensors"))
    names = ["0_crops", "1_shifts_flips", "2_shifts_mixup"]
    assert [file.stem for file in files] == names
    last = adapters.load(files[-1])
    assert last.mode == "shift" and all(
        name.endswith("/shift") for name in last.weights
    )
    assert max(np.abs(leaf - 1).max() for leaf in last.weights.values()) > 1e-3


def test_some_of_the_classes_are_drawn(colours, tmp_path):
    settings = few_colours.settings(colours, "k=2,method=cosine", ways=2)
    summary = adapt.run(settings, tmp_path / "run").summary
    assert summary["ways"] == 2 and summary["test_examples"] == 8
    for number in range(2):
        draw = json.loads((tmp_path / "run" / f"draws/00{number}.json").read_text())
        assert len(draw["classes"]) == 2
        assert {name.split("/")[-2] for name in draw["pictures"]} == set(
            draw["classes"]
        )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"head": "quadratic"},
            "`head`='quadratic'; expected one of 'cosine', 'linear'",
        ),
        ({"pooling": "median"}, "`pooling`='median'; expected one of '', 'average'"),
    ],
)
def test_bad_settings_get_one_sentence(colours, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        prepared(colours, "filters_single", **more)
