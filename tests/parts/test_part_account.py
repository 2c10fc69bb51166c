"""Why a part network decided so: sums without a rest, maps in their place."""

from decimal import Decimal

import jax.numpy as jnp
import numpy as np
import pytest
import small_parts

from unlir_jax import split
from unlir_jax.explanation import explainers
from unlir_jax.features import receptive_field
from unlir_jax.models import pretrained
from unlir_jax.parts import attribution
from unlir_jax.report import part_panel


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    root = tmp_path_factory.mktemp("account")
    small_parts.write_pictures(root)
    return small_parts.run(root).network


@pytest.fixture(scope="module")
def images(network):
    pictures = [network.preprocess(small_parts.picture(i)) for i in (0, 6, 11)]
    return np.stack(pictures)


@pytest.fixture(scope="module")
def accounts(network, images):
    return attribution.reader(network)(images)


@pytest.mark.exhaustive
def test_the_ledger_adds_up_to_the_logit(network, images, accounts):
    logits = split.whole(network.model)(network.variables, images)
    for row in range(len(images)):
        for label in range(3):
            entry = attribution.account(accounts, row, label, small_parts.CLASSES)
            logit = float(logits[row, label])
            assert entry["total"] == pytest.approx(logit, abs=1e-5)
            shown = sum(line["contribution"] for line in entry["shown"])
            rest = entry["others"]["contribution"] + entry["bias"]
            assert shown + rest == pytest.approx(logit, abs=1e-5)
            whole = sum(entry["contributions"]) + entry["bias"]
            assert whole == pytest.approx(logit, abs=1e-5)
            contrast = entry["contrast"]
            others = [logits[row, i] for i in range(3) if i != label]
            assert contrast["logit"] == pytest.approx(float(max(others)), abs=1e-5)
            assert contrast["class"]["index"] != label
            difference = logit - contrast["logit"]
            assert contrast["total"] == pytest.approx(difference, abs=1e-5)
            for line in contrast["shown"]:
                gap = line["own"] - line["rival"]
                assert line["contribution"] == pytest.approx(gap, abs=1e-6)


def test_printed_ledgers_add_up():
    random = np.random.default_rng(0)
    for count in (2, 6, 9):
        amounts = random.normal(0, 2, 9)
        entry = attribution.ledger(amounts, 0.237, count)
        *lines, (name, total) = part_panel.lines(entry)
        assert name == "total"
        assert sum((amount for _, amount in lines), Decimal(0)) == total
        assert float(total) == pytest.approx(entry["total"], abs=0.005 + 1e-9)
        assert len(lines) == count + (2 if count < 9 else 1)
        order = [line["contribution"] for line in entry["shown"]]
        assert order == sorted(order, reverse=True)
        kept = {line["part"] for line in entry["shown"]}
        assert kept == set(np.argsort(-np.abs(amounts))[:count].tolist())


@pytest.mark.exhaustive
def test_the_class_map_is_the_evidence_in_its_place(network, images):
    labels = np.array([0, 2, 1])
    module, variables = network.module, network.variables
    maps = module.apply(variables, images, method="features")
    evidence = module.apply(variables, maps, labels, method="evidence").sum(-1)
    explain = attribution.class_map(network)
    found = explain(variables, images, labels)
    even = receptive_field.even(*evidence.shape[1:])
    expected = receptive_field.place(jnp.maximum(evidence, 0), even, small_parts.SIZE)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = explain(variables, images[1:2], labels[1:2])
    np.testing.assert_allclose(alone[0], found[1], atol=1e-5)
    moved = receptive_field.Centres(*(tuple(x + 0.1 for x in axis) for axis in even))
    shifted = attribution.class_map(network, moved)(variables, images, labels)
    expected = receptive_field.place(jnp.maximum(evidence, 0), moved, small_parts.SIZE)
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def test_heat_is_where_the_cells_are(accounts):
    for part in range(small_parts.PARTS):
        heat = attribution.heat(accounts, 0, part, 64)
        assert heat.shape == (64, 64)
        assert 0 <= heat.min() and heat.max() <= 1
        shares = accounts.shares[0, ..., part]
        placed = np.asarray(receptive_field.place(shares[None], accounts.centres, 64))[
            0
        ]
        least = min(1, 4 / small_parts.PARTS)
        np.testing.assert_allclose(heat, placed / max(shares.max(), least), atol=1e-6)


def test_what_a_part_has_of_a_picture(accounts, network, images):
    maps = network.module.apply(network.variables, images, method="features")
    cells = maps.shape[1] * maps.shape[2]
    np.testing.assert_allclose(accounts.cells.sum(1), cells, rtol=1e-5)


def test_networks_without_parts_are_refused():
    plain = pretrained.load("cifar_resnet8", "random")
    with pytest.raises(ValueError, match="does not decide by parts"):
        attribution.class_map(plain)
    with pytest.raises(ValueError, match="does not decide by parts"):
        attribution.reader(plain)
    assert not attribution.decides_by_parts("cifar_resnet8")


@pytest.mark.parametrize(
    ("methods", "by_parts", "message"),
    [
        (["parts"], False, "the network does not decide by parts"),
        (["party"], True, "did you mean 'parts'"),
        ([], True, "`methods` is empty"),
    ],
)
def test_explainers_that_do_not_suit(methods, by_parts, message):
    with pytest.raises(ValueError, match=message):
        explainers.check(methods, by_parts=by_parts)


def test_a_part_network_is_explained_by_its_parts_first():
    assert explainers.default(True) == ("parts", "grad_cam", "opti_cam")
    assert explainers.default(False) == ("grad_cam", "opti_cam")
