import functools
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused

from unlir_jax import adapters, cli, filters, tree
from unlir_jax.adapters import file as files
from unlir_jax.models import pretrained
from unlir_jax.weights import budget, readers

NAME = "cifar_resnet8"
SELECT = "layer[23]/.*"


@functools.cache
def network(seed=0, name=NAME):
    """Load an untrained network."""
    return pretrained.load(name, "random", seed=seed)


@functools.cache
def fingerprint(seed=0):
    """Hash it."""
    return adapters.fingerprint(network(seed).variables)


def learnt(seed, mode="output"):
    """Draw weights as they are after learning."""
    random = np.random.default_rng(seed)
    start = filters.init(network().variables, SELECT, mode)
    return {
        name: random.normal(1, 0.12, leaf.shape).astype(np.float32)
        for name, leaf in start.items()
    }


def adapter(seed=1, mode="output", classes=0, **metadata):
    """Make an adapter, with a head for some classes."""
    random = np.random.default_rng(seed + 100)
    head = {}
    if classes:
        kernel = random.normal(size=(64, classes)).astype(np.float32)
        head = {"kernel": kernel, "bias": random.normal(size=classes)}
    return adapters.Adapter(
        learnt(seed, mode), NAME, fingerprint(), SELECT, mode, head, metadata
    )


@pytest.fixture
def file(tmp_path):
    """Write an adapter with a head."""
    return adapters.save(tmp_path / "one.safetensors", **adapter(classes=5)._asdict())


@pytest.mark.parametrize("mode", ["output", "output+input", "filter", "kronecker"])
def test_what_is_saved_is_loaded(tmp_path, mode):
    kept = adapter(mode=mode, classes=3, class_names=["crow", "jay", "wren"])
    found = adapters.load(adapters.save(tmp_path / "a.safetensors", **kept._asdict()))
    assert found._replace(weights={}, head={}) == kept._replace(weights={}, head={})
    assert set(found.weights) == set(kept.weights)
    for name, leaf in kept.weights.items():
        assert found.weights[name].dtype == np.float32
        # Half of the last of eleven binary digits of the distance from 1, and one
        # rounding of the sum.
        bound = 2.0**-11 * np.abs(leaf - 1) + 2e-7
        assert (np.abs(found.weights[name] - leaf) <= bound).all()
    np.testing.assert_allclose(found.head["kernel"], kept.head["kernel"], rtol=5e-4)
    np.testing.assert_allclose(found.head["bias"], kept.head["bias"], rtol=1e-7)
    adapters.check(found, NAME, network().variables)


def test_weights_of_one_are_kept_exactly(tmp_path):
    ones = filters.init(network().variables)
    path = adapters.save(
        tmp_path / "a.safetensors", ones, backbone=NAME, fingerprint=fingerprint()
    )
    assert all((leaf == 1).all() for leaf in adapters.load(path).weights.values())


def test_heads_of_bytes_are_exact_to_half_a_step_of_each_class(tmp_path):
    kept = adapter(classes=7)
    kept.head["kernel"][:, 2] = 0
    kept.head["kernel"][:, 3] *= 1000
    path = adapters.save(tmp_path / "a.safetensors", **kept._asdict(), head_type="int8")
    found = adapters.load(path)
    largest = np.abs(kept.head["kernel"]).max(0)
    apart = np.abs(found.head["kernel"] - kept.head["kernel"]).max(0)
    assert (apart <= largest / 254 * (1 + 1e-5)).all() and apart[3] > 0


def mobilenet(select="(block([7-9]|1[0-7])|top)/.*"):
    """Give what `save` takes of an adapter of MobileNetV2."""
    pairing = filters.pairs("mobilenet_v2")
    start = filters.init(
        network(name="mobilenet_v2").variables, select, pairing=pairing
    )
    random = np.random.default_rng(0)
    weights = {n: random.normal(1, 0.1, leaf.shape) for n, leaf in start.items()}
    mark = {"backbone": "mobilenet_v2", "fingerprint": "0" * 64, "select": select}
    return mark | {"weights": weights}


@pytest.mark.parametrize("classes", [0, 50, 60, 200])
def test_adapters_of_mobilenet_are_small(tmp_path, classes):
    random = np.random.default_rng(0)
    head = {"kernel": random.normal(size=(1280, classes)).astype(np.float32)}
    names = [f"{index:03d}." + "n" * 26 for index in range(classes)]
    file = adapters.save(
        tmp_path / "a.safetensors",
        **mobilenet(),
        head=head if classes else {},
        head_type="int8",
        metadata={"class_names": names},
    )
    assert file.stat().st_size <= (100_000 if classes else 40_000)
    # Fifty species are one file, their head in it.
    beside = tmp_path / "a.head"
    assert beside.exists() == (classes > 50)
    found = adapters.load(file)
    assert found.metadata["class_names"] == names
    if classes:
        largest = np.abs(head["kernel"]).max(0)
        apart = np.abs(found.head["kernel"] - head["kernel"]).max(0)
        assert (apart <= largest / 254 * (1 + 1e-5)).all()


def test_all_norms_of_mobilenet_are_small(tmp_path):
    every = mobilenet("(?!classifier).*")
    file = adapters.save(tmp_path / "a.safetensors", **every)
    assert file.stat().st_size < 100_000


def test_a_head_beside_its_adapter_is_that_of_the_adapter(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 2_000)
    kept = adapter(classes=5)
    file = adapters.save(tmp_path / "a.safetensors", **kept._asdict())
    beside = tmp_path / "a.head"
    found = adapters.load(file)
    np.testing.assert_allclose(found.head["kernel"], kept.head["kernel"], rtol=5e-4)
    np.testing.assert_allclose(found.head["bias"], kept.head["bias"], rtol=1e-7)
    before = beside.read_bytes()
    for target in (file, tmp_path / "b.safetensors"):
        (tmp_path / "b.head").write_bytes(before)
        with pytest.raises(FileExistsError):
            adapters.save(target, **adapter(2, classes=5)._asdict())
    assert beside.read_bytes() == before and not (tmp_path / "b.safetensors").exists()
    other = adapters.save(tmp_path / "c.safetensors", **adapter(2, classes=5)._asdict())
    beside.write_bytes(other.with_suffix(".head").read_bytes())
    refused("head of another adapter", adapters.load, file)
    beside.unlink()
    refused("is not beside it", adapters.load, file, kind=FileNotFoundError)
    # One that needs no head leaves none of another behind.
    adapters.save(other, **adapter()._asdict(), overwrite=True)
    assert not other.with_suffix(".head").exists()
    assert adapters.load(other).head == {}


def test_files_whose_heads_were_not_packed_load_as_before(tmp_path, file):
    random = np.random.default_rng(0)
    kernel = random.integers(-127, 128, (64, 5)).astype(np.int8)
    step = random.random(5).astype(np.float32)
    arrays = {n: a for n, a in readers.read(file).items() if n.startswith("weights/")}
    arrays |= {"head/kernel": kernel, "step/kernel": step}
    old = tmp_path / "old.safetensors"
    readers.write_safetensors(old, arrays, readers.read_metadata(file))
    np.testing.assert_allclose(adapters.load(old).head["kernel"], kernel * step[None])


def test_nothing_is_overwritten_unasked(file):
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="exists"):
        adapters.save(file, **adapter(2)._asdict())
    assert file.read_bytes() == before
    adapters.save(file, **adapter(2)._asdict(), overwrite=True)
    assert file.read_bytes() != before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_applied_adapter_is_the_network_with_weights(tmp_path, capsys):
    images = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
    plain, own = network(), adapter()

    def run(network, variables):
        return network.model.head(variables, network.model.features(variables, images))

    found = adapters.apply(own, plain)
    expected = run(plain, filters.apply(plain.variables, own.weights))
    np.testing.assert_allclose(run(found, found.variables), expected, rtol=1e-5)
    assert np.abs(expected - run(plain, plain.variables)).max() > 0.01
    assert found.class_names == plain.class_names

    own = adapter(classes=3, head="linear", pooling="average")
    found = adapters.apply(own, plain)
    maps = found.model.features(found.variables, images).maps.mean((1, 2))
    expected = maps @ own.head["kernel"] + own.head["bias"][None]
    logits = run(found, found.variables)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert found.class_names == ("class 0", "class 1", "class 2")

    path = tmp_path / "network.safetensors"
    weights = tmp_path / "plain.safetensors"
    readers.write_safetensors(weights, tree.flatten(plain.variables))
    file = tmp_path / "a.safetensors"
    adapters.save(file, **own._asdict())
    words = ["adapters", "apply", NAME, str(file), str(path), "--weights", str(weights)]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert f"{tree.count(own.weights)} weights" in said and "its head" in said
    again = pretrained.load(NAME, path)
    np.testing.assert_allclose(run(again, again.variables), logits, rtol=0.01, atol=0.1)
    assert again.class_names == found.class_names


def test_heads_of_cosines_do_not_become_classifiers():
    own = adapter(classes=3, head="cosine", pooling="average")
    assert not adapters.decides(own, network())
    assert adapters.apply(own, network()).module.num_classes == 10


def test_stacked_adapters_are_adapters_one_by_one():
    each = [adapter(1), adapter(2)]
    variables = network().variables
    together = jax.vmap(filters.apply, in_axes=(None, 0))(
        variables, adapters.stack(each)
    )
    for index, own in enumerate(each):
        expected = tree.flatten(filters.apply(variables, own.weights))
        for path, leaf in tree.flatten(together).items():
            np.testing.assert_array_equal(leaf[index], expected[path], err_msg=path)


def test_adapters_share_the_frozen_network_in_memory():
    plain = network(name="resnet18")
    start = filters.init(plain.variables, "layer[234]/.*")
    frozen = tree.flatten(plain.variables)
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        weights = {n: random.normal(1, 0.1, leaf.shape) for n, leaf in start.items()}
        weights = {n: leaf.astype(np.float32) for n, leaf in weights.items()}
        mark = adapters.fingerprint(plain.variables)
        found = adapters.apply(adapters.Adapter(weights, "resnet18", mark), plain)
        leaves = tree.flatten(found.variables)
        own = {path for path, leaf in leaves.items() if leaf is not frozen[path]}
        assert {path.rpartition("/")[2] for path in own} == {"scale", "bias"}
        assert len(own) == 2 * len(start)
        size = sum(leaf.nbytes for leaf in frozen.values())
        assert sum(leaves[path].nbytes for path in own) < 0.01 * size


def test_heads_are_averaged_class_by_class_of_the_same_name():
    one = adapter(1, classes=3, class_names=["ant", "bee", "cow"])
    two = adapter(2, classes=3, class_names=["cow", "ant", "bee"])
    merged = adapters.merge([one, two])
    assert merged.metadata["class_names"] == ["ant", "bee", "cow"]
    for name in ("kernel", "bias"):
        expected = (one.head[name] + two.head[name][..., [1, 2, 0]]) / 2
        np.testing.assert_allclose(merged.head[name], expected, rtol=1e-5)
    other = adapter(3, classes=3, class_names=["ant", "bee", "dog"])
    assert adapters.merge([one, other]).head == {}


def test_merging_averages():
    one, two = adapter(1, classes=2), adapter(2, classes=2)
    name = next(iter(one.weights))
    equal = adapters.merge([one, two])
    np.testing.assert_allclose(
        equal.weights[name], (one.weights[name] + two.weights[name]) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(
        equal.head["kernel"], (one.head["kernel"] + two.head["kernel"]) / 2, rtol=1e-5
    )
    shared = adapters.merge([one, two], [3.0, 1.0])
    np.testing.assert_allclose(
        shared.weights[name],
        0.75 * one.weights[name] + 0.25 * two.weights[name],
        rtol=1e-6,
    )
    alone = adapters.merge([one])
    np.testing.assert_array_equal(alone.weights[name], one.weights[name])
    others = two._replace(metadata={"class_names": ["a", "b"]})
    assert adapters.merge([one, others]).head == {}


def test_differences_by_layer():
    one, two = adapter(1), adapter(1)
    name = "layer3/block0/conv1/norm/output"
    two.weights[name][[5, 7]] += np.array([0.5, -1], np.float32)
    rows = adapters.diff(one, two, most=2)
    assert [row.layer for row in rows][0] == name
    assert [place[0] for place in rows[0].most] == [7, 5]
    count = one.weights[name].size
    np.testing.assert_allclose(rows[0].distance, np.sqrt(1.25 / count), rtol=1e-5)
    expected = np.corrcoef(one.weights[name], two.weights[name])[0, 1]
    np.testing.assert_allclose(rows[0].correlation, expected, rtol=1e-5)
    assert all(row.distance == 0 for row in rows[1:])
    flat = one._replace(
        weights={name: np.ones_like(leaf) for name, leaf in one.weights.items()}
    )
    assert all(row.correlation == 0 for row in adapters.diff(flat, one))


def test_the_command_applies_merges_and_compares(tmp_path, file, capsys):
    said = {"head": "linear", "pooling": "average", "class_names": ["ä", "b", "c"]}
    each = [adapter(seed, classes=3, **said) for seed in (1, 2)]
    written = [
        str(adapters.save(tmp_path / f"{seed}.safetensors", **own._asdict()))
        for seed, own in enumerate(each)
    ]
    merged, whole = str(tmp_path / "m.safetensors"), str(tmp_path / "w.safetensors")

    def run(*words, code=0):
        assert cli.main(["adapters", *words]) == code
        out, complaint = capsys.readouterr()
        assert complaint.count("\n") == (code != 0)
        return complaint or out

    said = f"Wrote the average of 2 adapters of {NAME}, with their heads.\n"
    assert run("merge", *written, "--output", merged) == said
    both = adapters.load(merged)
    for name, leaf in both.weights.items():
        expected = (each[0].weights[name] + each[1].weights[name]) / 2
        np.testing.assert_allclose(leaf, expected, atol=5e-4)
    assert "exists" in run("merge", *written, "--output", merged, code=2)
    table = run("diff", *written, "--layers", "2").splitlines()
    assert len(table) == 3
    furthest = max(
        each[0].weights,
        key=lambda name: np.mean((each[0].weights[name] - each[1].weights[name]) ** 2),
    )
    assert table[1].startswith(furthest)
    (first,) = json.loads(run("diff", *written, "--layers", "1", "--json"))
    assert first["layer"] == furthest and first["distance"] > 0
    assert set(first["most"][0]) == {"filter", "first", "second"}

    weights = ("--weights", "random")
    assert "and its head" in run("apply", NAME, merged, whole, *weights)
    found = pretrained.load(NAME, whole)
    assert found.class_names == ("ä", "b", "c")
    expected = tree.flatten(filters.fold(network().variables, both.weights))
    kernel = "params/classifier/kernel"
    for path, leaf in tree.flatten(found.variables).items():
        if path.startswith("params/classifier"):
            expected[path] = both.head[path.rpartition("/")[2]]
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)
    assert expected[kernel].shape == (64, 3)

    before = Path(whole).read_bytes()
    assert "exists" in run("apply", NAME, merged, whole, *weights, code=2)
    assert "not for" in run(
        *("apply", "cifar_resnet20", merged, whole, *weights, "--overwrite"), code=2
    )
    assert "is no adapter" in run("diff", whole, merged, code=2)
    assert "does not exist" in run(
        "merge", "none", "--output", "new.safetensors", code=2
    )
    other = adapters.save(
        tmp_path / "o.safetensors", **adapter(mode="filter")._asdict()
    )
    assert "weight other filters" in run("diff", str(other), merged, code=2)
    assert Path(whole).read_bytes() == before


def test_adapters_of_other_backbones_are_refused():
    own = adapter()
    refused(
        "for cifar_resnet8, not for",
        adapters.apply,
        own,
        network(name="cifar_resnet20"),
    )
    refused("other weights of", adapters.apply, own, network(1))
    odd = own._replace(weights=own.weights | {"layer9/norm/output": np.ones(3)})
    refused("layer9", adapters.apply, odd, network())
    wrong = own._replace(backbone="vgg11")
    refused("one frozen network", adapters.merge, [own, wrong])
    refused("of other weights", adapters.merge, [own, own._replace(fingerprint="1")])
    refused("in mode 'filter'", adapters.diff, own, adapter(mode="filter"))
    refused("is empty", adapters.merge, [])
    refused("expected 1 finite", adapters.merge, [own], [1.0, 2.0])
    refused("add up to 0", adapters.merge, [own, own], [1.0, -1.0])


def test_bad_weights_are_not_saved(tmp_path, unchecked):
    path = tmp_path / "a.safetensors"
    settings = {"backbone": NAME, "fingerprint": fingerprint()}
    good, name = learnt(1), next(iter(learnt(1)))
    many = {n: np.stack([leaf, leaf]) for n, leaf in good.items()}
    refused("weights of one adapter", adapters.save, path, many, **settings)
    for value in (np.nan, 1e6):
        bad = good | {name: np.full_like(good[name], value)}
        refused("not finite or above", adapters.save, path, bad, **settings)
    head = {"kernel": np.full((2, 2), np.inf)}
    refused("not finite", adapters.save, path, good, **settings, head=head)
    head = {"kernel": np.ones((2, 2))}
    refused(
        "`head_type`='int4'",
        *(adapters.save, path, good),
        **settings,
        head=head,
        head_type="int4",
    )
    refused("is empty", adapters.save, path, {}, **settings)
    refused("ends in .safetensors", adapters.save, tmp_path / "a.npz", good, **settings)
    refused(
        "does not exist", adapters.save, tmp_path / "b" / path.name, good, **settings
    )
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_adapters_are_refused(tmp_path, file):
    path = tmp_path / "other.safetensors"
    refused("does not exist", adapters.load, path, kind=FileNotFoundError)
    readers.write_safetensors(path, {"a": np.ones(2)})
    refused("is no adapter", adapters.load, path)
    path.write_bytes(file.read_bytes()[:-10])
    refused("cannot be read", adapters.load, path)
    texts, arrays = readers.read_metadata(file), readers.read(file)
    name = next(name for name in arrays if name.startswith("weights/"))
    packed = np.frombuffer(zlib.compress(b"four"), np.uint8)
    for broken in (
        {name: arrays[name] * np.float16("nan")},
        {name: arrays[name][None]},
        {name: np.zeros(4, np.int64)},
        {"weights/layer1/other": arrays[name]},
        {"other": arrays[name]},
        {"head/kernel": np.ones((2, 2), np.int8)},
        {"packed/a": packed[:-4], "step/a": np.ones(2, np.float32)},
        {"packed/a": packed, "step/a": np.ones(3, np.float32)},
        {"packed/a": packed, "step/a": np.zeros(0, np.float32)},
        {"packed/a": np.zeros(9, np.uint8), "step/a": np.ones(2, np.float32)},
        {"packed/a": packed},
    ):
        readers.write_safetensors(path, arrays | broken, texts, overwrite=True)
        refused("no part of an adapter", adapters.load, path)
    for header in (
        *("{", json.dumps(3), "[" * 100_000),
        *('{"image_size": 40000}', '{"crop": 1e-9}', '{"crop": NaN}', '{"crop": "x"}'),
        *('{"class_names": "ab"}', '{"class_names": [1]}', '{"scale": 1e999}'),
    ):
        bad = texts | {"metadata": header}
        readers.write_safetensors(path, arrays, bad, overwrite=True)
        refused("cannot be understood", adapters.load, path)


def test_a_packed_head_takes_no_more_than_its_file_allows(tmp_path, file):
    texts, arrays = readers.read_metadata(file), readers.read(file)
    packed = np.frombuffer(zlib.compress(bytes(64_000_000), 9), np.uint8)
    head = {"packed/a": packed, "step/a": np.ones(1_000, np.float32)}
    path = tmp_path / "other.safetensors"
    readers.write_safetensors(path, arrays | head, texts)
    assert path.stat().st_size < 200_000
    refused("no part of an adapter", adapters.load, path)


def test_a_head_that_would_be_packed_too_well_is_not_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "FREE_BYTES", 6_000)
    kept = adapter(classes=5)
    width = kept.head["kernel"].shape[0]
    kept = kept._replace(head={"kernel": np.ones((width, 500), np.float32)})
    path = adapters.save(tmp_path / "a.safetensors", **kept._asdict(), head_type="int8")
    beside = path.with_suffix(".head")
    arrays = readers.read(beside if beside.exists() else path)
    assert "head/kernel" in arrays and "packed/kernel" not in arrays
    np.testing.assert_allclose(adapters.load(path).head["kernel"], 1, atol=1e-6)


def test_files_that_are_too_large_are_refused(file, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    refused("expected an adapter of at most 1,000", adapters.load, file)


@pytest.mark.exhaustive
def test_an_adapter_weighs_the_trunk_of_a_part_network(pictures):
    decision = {"name": "descriptors", "parts": 4, "layer": "layer2"}
    whole = pretrained.load(NAME, "random", num_classes=3, decision=decision)
    trunk = {"params": whole.variables["params"]["backbone"]} | {
        "batch_stats": whole.variables["batch_stats"]["backbone"]
    }
    own = adapter()._replace(fingerprint=adapters.fingerprint(trunk))
    weighed = adapters.weigh(own, whole)
    seen = whole.module.backbone.apply(
        filters.apply(trunk, own.weights), pictures, method="features"
    )
    maps = weighed.module.apply(weighed.variables, pictures, method="features")
    grid = weighed.module.apply(weighed.variables, maps, method="grid")
    np.testing.assert_allclose(grid.maps, seen, rtol=1e-4, atol=1e-5)
    assert (
        np.abs(
            grid.maps
            - whole.model.features(whole.variables, pictures).maps[
                ..., : grid.maps.shape[-1]
            ]
        ).max()
        > 1e-3
    )
    same = tree.flatten(weighed.variables["params"]["classifier"])
    for path, leaf in tree.flatten(whole.variables["params"]["classifier"]).items():
        np.testing.assert_array_equal(same[path], leaf)
    with pytest.raises(ValueError, match="other weights"):
        adapters.weigh(adapter(), whole)
