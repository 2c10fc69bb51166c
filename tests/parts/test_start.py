"""Starts in closed form, on maps that are planted."""

import jax
import numpy as np
import pytest
import tiers

from unlir_jax import tree
from unlir_jax.models import drawing, part_network, pretrained
from unlir_jax.parts import encoding, groups, products, start

PARTS, CLASSES, CHANNELS = 4, 3, 64


@pytest.fixture(scope="module")
def planted():
    """Give maps of cells that each look like one of four things, and a network."""
    decision = {"name": "descriptors", "parts": PARTS, "dimensions": [3, 3]}
    network = pretrained.load("cifar_resnet8", "random", num_classes=CLASSES)
    module = part_network.assemble(network.module, decision, CLASSES, 32)
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    )
    variables = drawing.random_variables(
        module, pretrained.zoo.find("cifar_resnet8")[1]
    )
    assert jax.tree.structure(shapes) == jax.tree.structure(variables)
    random = np.random.default_rng(0)
    looks = 4 * np.abs(random.normal(size=(PARTS, CHANNELS)))
    kinds = random.integers(PARTS, size=(90, 4, 4))
    labels = np.arange(90) % CLASSES
    maps = looks[kinds] + 0.1 * random.normal(size=(90, 4, 4, CHANNELS))
    # The first thing looks another way in each class, and nothing else does.
    maps[kinds == 0] += (
        2
        * np.repeat(np.eye(CLASSES), 22, 1)[:, :CHANNELS][
            np.broadcast_to(labels[:, None, None], kinds.shape)[kinds == 0]
        ]
    )
    return module, variables, np.maximum(maps, 0).astype(np.float32), kinds, labels


def begin(planted, **settings):
    module, variables, maps, _, labels = planted
    key = jax.random.key(0)
    return start.start(module, variables, maps, labels, key=key, **settings)


def read(planted, variables):
    module, _, maps, _, _ = planted
    return module.apply(variables, maps, method="read")


def test_planted_parts_are_found_and_the_right_one_decides(planted):
    _, _, maps, kinds, labels = planted
    begun = begin(planted)
    reading = read(planted, begun.variables)
    found = np.asarray(reading.shares).argmax(-1)
    table = np.zeros((PARTS, PARTS))
    np.add.at(table, (kinds.ravel(), found.ravel()), 1)
    assert (table.max(1) / table.sum(1) > 0.95).all()
    assert sorted(table.argmax(1)) == list(range(PARTS)), "one part for each thing"
    logits = reading.contributions.sum(1) + reading.bias[None]
    assert np.mean(np.asarray(logits).argmax(1) == labels) > 0.95
    assert begun.notes["start/left_out_accuracy"] > 0.9
    own = np.asarray(reading.contributions)[np.arange(len(labels)), :, labels]
    assert own.mean(0).argmax() == table.argmax(1)[0]


def test_cells_are_white_in_their_space(planted):
    module, _, maps, _, _ = planted
    leaves = tree.flatten(begin(planted, classifier="random").variables)
    at = "params/classifier/regions/last/"
    white = (maps.reshape(-1, CHANNELS) - leaves[at + "mean"]) @ leaves[at + "kernel"]
    covariance = np.cov(white.T)
    np.testing.assert_allclose(covariance, np.eye(3), atol=0.05)


def test_blocks_of_parts_give_what_all_parts_give(planted, monkeypatch):
    whole = tree.flatten(begin(planted).variables)
    # Room for three of four parts: blocks overlap, and each part counts once.
    monkeypatch.setattr(products, "BYTES", 3 * 4 * 90 * CHANNELS)
    blocks = tree.flatten(begin(planted).variables)
    for name in ("mean", "kernel", "bias"):
        path = f"params/classifier/{name}"
        np.testing.assert_allclose(blocks[path], whole[path], rtol=0.02, atol=2e-3)


def test_a_low_rank_keeps_what_matters(planted):
    module, variables, maps, kinds, labels = planted
    decision = part_network.specification(module) | {"rank": 8}
    low = part_network.assemble(module.backbone, decision, CLASSES, 32)
    leaves = tree.flatten(variables)
    leaves["params/classifier/basis"] = np.zeros((CHANNELS, 8), np.float32)
    leaves["params/classifier/kernel"] = np.zeros((PARTS, 8, CLASSES), np.float32)
    begun = start.start(
        low, tree.unflatten(leaves), maps, labels, key=jax.random.key(0)
    )
    logits = low.apply(begun.variables, maps, method="head")
    assert np.mean(np.asarray(logits).argmax(1) == labels) > 0.95


def test_one_key_gives_one_start(planted):
    first, second = (tree.flatten(begin(planted).variables) for _ in range(2))
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[path])


def test_bad_input_gets_one_sentence(planted, monkeypatch):
    with pytest.raises(ValueError, match="`start.parts`='best'; expected one of kmean"):
        begin(planted, parts="best")
    with pytest.raises(ValueError, match="`start.classifier`='lda'"):
        begin(planted, classifier="lda")
    monkeypatch.setattr(start, "MOST_PICTURES", 50)
    with pytest.raises(ValueError, match="pairs of 90 images; expected at most 50"):
        begin(planted)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("way", "solver"),
    tiers.by_tier(
        [
            ("lda", None),
            ("assignment", "hungarian"),
            ("ipfp", "ipfp"),
            ("soft_assign", "soft_assign"),
            ("groups", "hungarian"),
        ],
        {"lda"},
    ),
)
def test_other_ways_to_find_parts_start_a_network_that_decides(
    planted, way, solver, monkeypatch
):
    _, _, _, _, labels = planted
    learn, used = groups.learn, []

    def watched(*arguments, **settings):
        used.append(settings["solver"])
        return learn(*arguments, **settings)

    monkeypatch.setattr(groups, "learn", watched)
    begun = begin(planted, parts=way)
    assert used == [solver]
    reading = read(planted, begun.variables)
    logits = reading.contributions.sum(1) + reading.bias[None]
    assert np.mean(np.asarray(logits).argmax(1) == labels) > 0.8


def test_few_labels_are_drawn_and_no_others_are_looked_at(planted):
    module, variables, maps, _, labels = planted
    key = jax.random.key(0)
    known = start.draw_labels(labels, 4, key)
    assert len(known) == 12
    assert (np.bincount(labels[known]) == 4).all()
    settings = {"key": key, "labels_per_class": 4}
    first = start.start(module, variables, maps, labels, **settings)
    logits = module.apply(first.variables, maps, method="head")
    assert np.mean(np.asarray(logits).argmax(1) == labels) > 0.7
    # The say of the others' labels: none, whatever is drawn.
    other = labels.copy()
    rest = np.setdiff1d(np.arange(len(labels)), known)
    other[rest] = np.roll(other[rest], 1)
    gathered = products.gather(module, first.variables, maps)
    fitted = [
        start.decide(module, gathered, each, known, "none")[0]
        for each in (labels, other)
    ]
    for name, leaf in fitted[0].items():
        np.testing.assert_array_equal(leaf, fitted[1][name])


@pytest.mark.parametrize("per_class", tiers.by_tier([0, 6], 1))
def test_whitened_descriptors_are_ridge_regression_on_encodings(planted, per_class):
    module, _, maps, _, labels = planted
    begun = begin(planted, whitening="neighbours", labels_per_class=per_class)
    encoder = encoding.fit(module, begun.variables, maps)
    found = products.gather(module, begun.variables, maps)
    white = encoding.whiten(found.values)
    rows = np.asarray(encoding.encode(module, begun.variables, encoder, maps))
    unit = white.encodings / np.linalg.norm(white.encodings, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, unit, atol=2e-3)
    known = start.draw_labels(labels, per_class, jax.random.key(0))
    kernel, bias = start.ridge.classifier(
        white.encodings[known], labels[known], CLASSES
    )
    logits = module.apply(begun.variables, maps, method="head")
    wanted = white.encodings @ kernel + bias
    np.testing.assert_allclose(logits, wanted, rtol=0.02, atol=0.02)


def test_starts_that_make_no_sense_are_refused(planted):
    with pytest.raises(ValueError, match="at most as many as the smallest class"):
        begin(planted, labels_per_class=31)
    with pytest.raises(ValueError, match="are for start.classifier='ridge'"):
        begin(planted, classifier="random", whitening="neighbours")
    with pytest.raises(ValueError, match="`start.whitening`='all'"):
        begin(planted, whitening="all")
    with pytest.raises(ValueError, match="expected 0 for all"):
        begin(planted, labels_per_class=-1)
