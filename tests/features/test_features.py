"""Features of a frozen trunk are those of the network, and are computed once."""

import errno
import json
import os

import jax
import numpy as np
import pytest
import tiers
from helpers import applied

from unlir_jax import tree
from unlir_jax.data import pipeline, source
from unlir_jax.features import cache, store, trunks
from unlir_jax.models import part_network as parts
from unlir_jax.models import pretrained

SIZE = 32


@pytest.fixture(scope="module")
def network():
    return pretrained.load("cifar_resnet8", "random")


def pictures(count=22, seed=0, broken=()):
    images = np.random.default_rng(seed).integers(0, 256, (count, 36, 32, 3), np.uint8)

    def read(index):
        if index in broken:
            raise ValueError("torn")
        return {"image": images[index], "label": index % 3}

    labels = np.arange(count, dtype=np.int32) % 3
    return source.Source(read, count, ("a", "b", "c"), str, labels)


def cached(of, network, folder, **changed):
    settings = {"name": "x", "image_size": SIZE, "crop": 1.0, "batch_size": 8}
    settings |= {"variables": network.variables, "module": network.module}
    return cache.cached(of, folder=folder, threads=1, **(settings | changed))


def test_a_disk_without_room_is_a_sentence_before_any_row(
    network, tmp_path, monkeypatch
):
    """A hole of a file that a full disk cannot fill would end the process."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(ValueError, match=r"features.npy' .* no space .* 5,632 by"):
            cached(pictures(), network, tmp_path)
    assert cached(pictures(), network, tmp_path).features.shape == (22, 1, 1, 64)


@pytest.mark.exhaustive
def test_they_are_the_pooled_maps_of_the_network(network, tmp_path):
    kept = cached(pictures(broken=[5]), network, tmp_path)
    (images,) = (
        np.concatenate([batch["image"] for batch in found])
        for found in [
            list(
                pipeline.evaluation(
                    pictures(), batch_size=22, image_size=SIZE, crop=1.0
                )
            )
        ]
    )
    apply = applied(network.module)
    maps = apply(network.variables, images.astype(np.float32) / 255, method="features")
    good = np.arange(22) != 5
    assert kept.features.shape == (22, 1, 1, 64)
    expected = np.asarray(maps).mean((1, 2))[good]
    np.testing.assert_allclose(kept.features[good, 0, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(kept.weight, good.astype(np.float32))
    np.testing.assert_array_equal(kept.label[good], (np.arange(22) % 3)[good])
    logits = apply(network.variables, kept.features[good], method="head")
    whole = apply(network.variables, maps[good], method="head")
    np.testing.assert_allclose(logits, whole, atol=1e-5)


def test_a_second_time_nothing_is_computed(network, tmp_path, monkeypatch):
    first = cached(pictures(), network, tmp_path)
    monkeypatch.delattr(pipeline, "evaluation")
    second = cached(pictures(), network, tmp_path)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(AttributeError):
        cached(pictures(seed=1), network, tmp_path)


@pytest.mark.exhaustive
def test_an_interruption_keeps_what_is_done(network, tmp_path, monkeypatch):
    def interrupt(share):
        if share > 0.5:
            raise InterruptedError(share)

    with pytest.raises(InterruptedError):
        cached(pictures(), network, tmp_path, progress=interrupt)
    asked = []
    evaluation = pipeline.evaluation

    def watched(of, **settings):
        asked.append(of.size)
        return evaluation(of, **settings)

    monkeypatch.setattr(pipeline, "evaluation", watched)
    resumed = cached(pictures(), network, tmp_path)
    assert asked == [22 - 16], "two batches of eight were kept"
    whole = cached(pictures(), network, tmp_path / "other")
    np.testing.assert_array_equal(resumed.features, whole.features)


@pytest.mark.exhaustive
def test_the_key_changes_with_all_that_matters(network):
    def key(of=None, variables=None, module=None, **changed):
        frame = {"name": "x", "image_size": SIZE, "crop": 1.0} | changed
        module = module or network.module
        known = variables or network.variables
        return cache.identity(of or pictures(), known, module, **frame)

    base = key()
    assert key() == base
    assert key(of=pictures(seed=1)) != base
    assert key(of=pictures(count=21)) != base
    assert key(of=pictures()._replace(fingerprint=lambda: "changed")) != base
    assert key(image_size=40) != base and key(crop=0.9) != base
    style = network.module.style._replace(dtype=jax.numpy.bfloat16)
    assert key(module=network.module.clone(style=style)) != base

    def moved(pattern):
        return tree.map_with_path(
            lambda path, leaf: leaf + 1 if pattern in path else leaf, network.variables
        )

    assert key(variables=moved("stem/conv")) != base
    assert key(variables=moved("stem/norm/mean")) != base
    assert key(variables=moved("classifier")) == base, "the head may learn"


def part_network(name):
    decision = {"name": name, "layer": ""}
    decision |= {"per_class": 2} if name == "prototypes" else {"parts": 4}
    return pretrained.load("cifar_resnet8", "random", num_classes=3, decision=decision)


@pytest.mark.parametrize("name", sorted(parts.DECISIONS))
def test_parts_need_every_cell(name, tmp_path):
    """Landmarks with large weights deal all cells to one part: a trial is misled."""
    of = part_network(name)
    assert not trunks.head_pools(of.module, SIZE)
    assert cached(pictures(), of, tmp_path).features.shape[1:3] == (8, 8)


def test_pooled_maps_are_not_mistaken_for_whole_ones(network, monkeypatch):
    def key():
        frame = {"name": "x", "image_size": SIZE, "crop": 1.0}
        return cache.identity(pictures(), network.variables, network.module, **frame)

    pooled = key()
    monkeypatch.setattr(trunks, "head_pools", lambda *_: False)
    assert pooled != key()


def test_heads_and_what_may_learn(network):
    head = trunks.head_paths(network.module, SIZE)
    assert head == {"params/classifier/kernel", "params/classifier/bias"}
    trunks.check_frozen(network.module, SIZE, sorted(head))
    with pytest.raises(ValueError, match="stem/conv/kernel of the trunk learn"):
        trunks.check_frozen(network.module, SIZE, ["params/stem/conv/kernel"])


def kept(size=10):
    maps = np.arange(size, dtype=np.float32).reshape(-1, 1, 1, 1)
    return cache.Features(maps, np.arange(size), np.ones(size, np.float32))


def take(count, **settings):
    batches = cache.training(kept(), batch_size=4, seed=3, **settings)
    return [next(batches) for _ in range(count)]


def test_each_epoch_of_training_is_a_permutation():
    rows = np.concatenate([batch["index"] for batch in take(10)])
    epochs = rows.reshape(4, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    for batch in take(3):
        np.testing.assert_array_equal(batch["features"][:, 0, 0, 0], batch["index"])


def test_training_goes_on_anywhere_and_is_shared_by_processes():
    for one, other in zip(take(8)[5:], take(3, start=5), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    halves = [take(8, process=process, processes=2) for process in range(2)]
    for step, whole in enumerate(take(8)):
        for name in whole:
            joined = np.concatenate([half[step][name] for half in halves])
            np.testing.assert_array_equal(joined, whole[name])


def test_evaluation_gives_each_row_once_and_pads():
    found = list(cache.evaluation(kept(), batch_size=4))
    assert [batch["weight"].sum() for batch in found] == [4, 4, 2]
    rows = np.concatenate([batch["index"] for batch in found])
    np.testing.assert_array_equal(rows, [*range(10), -1, -1])
    halves = [
        list(cache.evaluation(kept(), batch_size=4, process=p, processes=2))
        for p in range(2)
    ]
    assert len(halves[0]) == len(halves[1]) == 3


@pytest.mark.exhaustive
def test_maps_pooled_in_several_ways_are_kept_side_by_side(network, tmp_path):
    ways = ("max", "average", "gem")
    kept = cached(pictures(), network, tmp_path, poolings=ways)
    assert kept.features.shape == (22, 3, 1, 64)
    for way in ways:
        own = network.module.clone(pooling=way)
        assert trunks.head_pools(own, SIZE, way)
        alone = cached(pictures(), network, tmp_path, module=own)
        one = cache.pooled_by(kept, ways, way)
        assert one.features.shape == alone.features.shape == (22, 1, 1, 64)
        np.testing.assert_allclose(one.features, alone.features, atol=1e-5)
        # A head that pools in this way takes what is pooled as it takes the maps.
        frame = {"batch_size": 22, "image_size": SIZE, "crop": 1.0}
        (batch,) = pipeline.evaluation(pictures(), **frame)
        images = batch["image"] / np.float32(255)
        apply = applied(own)
        maps = apply(network.variables, images, method="features")
        whole = apply(network.variables, maps, method="head")
        logits = apply(network.variables, one.features, method="head")
        np.testing.assert_allclose(logits, whole, atol=1e-4)
    assert not trunks.head_pools(network.module.clone(pooling="gem"), SIZE)


def test_batches_of_some_examples_only(network, tmp_path):
    kept = cached(pictures(), network, tmp_path)
    known = np.array([3, 5, 8, 13, 21])
    rows = cache.training(kept, batch_size=5, seed=0, known=known)
    for _ in range(3):
        np.testing.assert_array_equal(np.sort(next(rows)["index"]), known)
    tested = list(cache.evaluation(kept, batch_size=4, known=known))
    np.testing.assert_array_equal(
        np.concatenate([batch["index"] for batch in tested]), [*known, -1, -1, -1]
    )
    np.testing.assert_array_equal(tested[1]["label"][:1], [21 % 3])


def damaged(folder, name, change):
    (final,) = (path for path in folder.iterdir() if (path / "about.json").is_file())
    path = final / name
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.unlink() if changed is None else path.write_bytes(changed)


def flipped(data):
    data[-3] ^= 1
    return data


@pytest.mark.parametrize(
    "name", tiers.by_tier(["features.npy", "label.npy", "weight.npy"], {"label.npy"})
)
@pytest.mark.parametrize(
    "change",
    [flipped, lambda data: data[:-4], lambda data: b"", lambda data: None],
    ids=["bit", "cut", "empty", "gone"],
)
def test_what_does_not_fit_is_moved_aside_and_computed_again(
    network, tmp_path, name, change
):
    whole = [np.array(part) for part in cached(pictures(), network, tmp_path)]
    damaged(tmp_path, name, change)
    with pytest.warns(UserWarning, match=r"moved to '.*damaged_\w+' and are computed"):
        again = cached(pictures(), network, tmp_path)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.glob("damaged_*"))) == 1
    cached(pictures(), network, tmp_path)  # No warning any more.


@pytest.mark.parametrize(
    "text", tiers.by_tier([b"", b"[" * 100_000, b"[]", b'{"network": "y"}'], 1)
)
def test_a_description_that_does_not_fit_is_no_description(network, tmp_path, text):
    cached(pictures(), network, tmp_path)
    damaged(tmp_path, "about.json", lambda data: text)
    with pytest.warns(UserWarning, match="are computed again"):
        cached(pictures(), network, tmp_path)


@pytest.mark.exhaustive
def test_features_of_another_network_are_not_taken(network, tmp_path):
    cached(pictures(), network, tmp_path / "a")
    other = pretrained.load("cifar_resnet8", "random", seed=1)
    cached(pictures(), other, tmp_path / "b")
    (mine,), (others,) = (list((tmp_path / k).glob("*/about.json")) for k in "ab")
    for part in ("about.json", "features.npy"):
        (mine.parent / part).write_bytes((others.parent / part).read_bytes())
        with pytest.warns(UserWarning, match="are computed again"):
            cached(pictures(), network, tmp_path / "a")


def test_what_was_kept_without_checksums_gets_them(network, tmp_path):
    cached(pictures(), network, tmp_path)
    (about,) = tmp_path.glob("*/about.json")
    document = json.loads(about.read_text())
    sums = document.pop("sums")
    about.write_text(json.dumps(document))
    cached(pictures(), network, tmp_path)
    assert json.loads(about.read_text())["sums"] == sums


def test_rows_of_an_interruption_are_checked(network, tmp_path):
    def interrupt(share):
        if share > 0.5:
            raise InterruptedError(share)

    with pytest.raises(InterruptedError):
        cached(pictures(), network, tmp_path, progress=interrupt)
    (partial,) = tmp_path.glob("*.partial")
    data = bytearray((partial / "features.npy").read_bytes())
    data[200] ^= 1
    (partial / "features.npy").write_bytes(data)
    with pytest.warns(UserWarning, match=r"half computed .* have changed"):
        again = cached(pictures(), network, tmp_path)
    whole = cached(pictures(), network, tmp_path / "other")
    np.testing.assert_array_equal(again.features, whole.features)


def test_features_that_are_not_finite_are_not_kept(tmp_path):
    final = tmp_path / "x"
    assert store.rows_done(final, {}, ["features"], 4) == 0
    rows = {"features": np.array([[1.0], [np.nan]]), "index": np.array([0, 1])}
    with pytest.raises(FloatingPointError, match="0 to 1 are not finite"):
        store.write([rows], final, ["features"], 0, 4, lambda share: None)
    assert not final.exists()
