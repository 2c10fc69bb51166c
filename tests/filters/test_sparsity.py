"""Penalties under which weights of filters go to 0, or stay where they were."""

import numpy as np
import pytest
from PIL import Image

from unlir_jax import adapters
from unlir_jax.few_shot import adapt, adapter_training
from unlir_jax.filters import sparsity
from unlir_jax.runtime import config

Penalty = sparsity.Penalty
NAME = "gates/depthwise/norm/output"


def learn(penalty, steps=300):
    """Learn two gates of two channels, of which only the first tells two classes."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    rows = np.stack([2.0 * labels - 1, random.normal(size=40)], axis=1)
    rows = rows[:, None, None].astype(np.float32)
    head = {"kernel": np.asarray([[-3, 3], [0, 0]], np.float32), "bias": np.zeros(2)}
    network = adapter_training.Network(
        lambda known, inner: inner * known["gates"].reshape((1, 1, 1, -1)),
        lambda known, trunk: known | {"gates": trunk[NAME]},
        {},
    )
    plan = adapter_training.Plan(
        steps=steps,
        batch_size=20,
        learning_rate=0.05,
        head_rate=0.0,
        head="linear",
        pooling="average",
        penalty=penalty,
    )
    found = adapter_training.train(
        network,
        adapter_training.Learnt({NAME: np.ones(2, np.float32)}, head),
        [rows],
        np.eye(2, dtype=np.float32)[labels],
        plan,
        mixed=(False,),
    )
    assert set(found.trunk) == {NAME}
    return np.asarray(found.trunk[NAME][0])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "penalty", [Penalty("l1", 0.02), Penalty("hard_concrete", 0.02, "depthwise")]
)
def test_a_gate_that_does_not_matter_goes_to_0_and_one_that_does_stays(penalty):
    needed, superfluous = learn(penalty)
    assert superfluous == 0 and needed > 0.5


@pytest.mark.exhaustive
def test_weights_are_pulled_towards_where_they_started():
    # Without a pull the first gate grows for ever, for the loss only falls with it.
    free, held = learn(Penalty())[0], learn(Penalty("towards_one", 1.0))[0]
    assert free > 1.5
    # At the minimum of log(1 + exp(-6 g)) + (g - 1)^2 the derivative vanishes.
    np.testing.assert_allclose(
        2 * (held - 1), 6 / (1 + np.exp(6 * held)), atol=2e-3, rtol=0.05
    )


def test_l1_stops_where_the_loss_pulls_as_hard():
    gate = learn(Penalty("l1", 0.3))[0]
    # d/dg log(1 + exp(-6 g)) = -0.3
    np.testing.assert_allclose(gate, np.log(6 / 0.3 - 1) / 6, atol=0.02)


@pytest.mark.parametrize(
    ("penalty", "trunk", "sentence"),
    [
        (Penalty("l2", 1.0), "filters", "`penalty.name`='l2'; expected '' or one of"),
        (Penalty("l1"), "filters", "a name and a weight above 0"),
        (Penalty("", 0.1), "filters", "a name and a weight above 0"),
        (Penalty("l1", -1.0), "filters", "`penalty.weight`=-1.0"),
        (Penalty("l1", 1.0), "lora", "learns more than weights that multiply filters"),
    ],
)
def test_penalties_that_make_no_sense_get_one_sentence(penalty, trunk, sentence):
    with pytest.raises(ValueError, match=sentence):
        sparsity.check(penalty, trunk)
    with pytest.raises(ValueError, match="is in no name of a weight"):
        sparsity.begin({"a/output": np.ones(2)}, Penalty("l1", 1.0, "depthwise"))


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("greys")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, most in (("dark", 100), ("light", 256)):
            (folder / split / name).mkdir(parents=True)
            for index in range(2):
                pixels = random.integers(0, most, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def settings(folder, *more, method="filters_single"):
    given = [f"data.path={folder}", "model.weights=random", "draws=1", "steps=20"]
    given += ["data.image_size=32", "crops=1"]
    name = f"configs/few_shot.py:backbone=cifar_resnet8,k=2,method={method}"
    return config.load(name, [*given, *more])


@pytest.mark.exhaustive
def test_the_command_learns_under_a_penalty_and_draws_nothing_back(greys, tmp_path):
    far_above_the_loss = ("penalty.name=l1", "penalty.weight=100")
    adapt.run(settings(greys, *far_above_the_loss), tmp_path / "run")
    file = tmp_path / "run" / "adapters" / "0_mixup.safetensors"
    weights = np.concatenate(list(adapters.load(file).weights.values()))
    # Steps of Adam are as long as its rate here: 0.01, falling as a cosine does to 0.
    rates = 0.01 * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2
    np.testing.assert_allclose(weights, 1 - rates.sum(), atol=0.01)


def test_the_command_refuses_penalties_before_it_starts(greys, tmp_path):
    for more, method, sentence in (
        (("penalty.name=l1",), "filters_single", "a name and a weight above 0"),
        (
            ("penalty.name=l1", "penalty.weight=1"),
            "norm_affine",
            "learns more than weights that multiply filters",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            adapt.run(settings(greys, *more, method=method), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
