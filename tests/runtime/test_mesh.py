"""Layouts over four devices; nothing here computes a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiers
from helpers import same
from jax.sharding import PartitionSpec

from unlir_jax.runtime import mesh

RANDOM = np.random.default_rng(0)
STATE = {
    "step": np.int32(7),
    "kernel": RANDOM.normal(size=(3, 8, 4)).astype(np.float32),
    "bias": RANDOM.normal(size=5).astype(np.float32),
    "nested": [{"x": np.arange(16, dtype=np.int32)}, np.ones((6, 4), np.float16)],
}
BATCH = {
    "image": np.arange(8 * 2 * 2 * 3).reshape(8, 2, 2, 3).astype(np.uint8),
    "position": np.arange(8, dtype=np.int32),
}
LAYOUTS = ["jit", "sharded", "pmap"]


def laid_out(how, devices=None):
    if how == "sharded":
        return mesh.layout("jit", 4, devices)
    return mesh.layout(how, 0, devices)


# Layouts


def test_all_devices_by_default():
    laid = mesh.layout()
    assert laid.mesh.size == laid.local_devices == jax.device_count() == 4
    assert laid.axis_name is None and mesh.layout("pmap").axis_name == mesh.AXIS
    assert mesh.is_first()


def test_devices_lie_in_order():
    devices = jax.devices()[:3]
    laid = mesh.layout(devices=devices[::-1])
    assert list(laid.mesh.devices.flat) == devices and laid.local_devices == 3


def test_layouts_that_make_no_sense(unchecked):
    with pytest.raises(
        ValueError, match="`mode`='gspmd' is unknown; expected one of .'jit', 'pm"
    ):
        mesh.layout("gspmd")
    with pytest.raises(ValueError, match="`shard_above`=9 with `mode`='pmap'"):
        mesh.layout("pmap", 9)


def test_batch_sizes():
    laid = mesh.layout()
    for size, parts in ((4, 1), (8, 1), (8, 2), (48, 3)):
        mesh.check_batch_size(laid, size, parts)
    wrong = {
        (6, 1): "`batch_size`=6 .* to 4 devices; expected a multiple of 4, such as 4 o",
        (100, 2): "x 2 accumulated parts; expected a multiple of 8, such as 96 or 104",
        (3, 1): "such as 4.",
        (0, 1): "such as 4.",
        (-4, 1): "such as 4.",
        (4, 2): "such as 8.",
    }
    for (size, parts), message in wrong.items():
        with pytest.raises(ValueError, match=message):
            mesh.check_batch_size(laid, size, parts)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 8, 4), (None, "data", None)),
        ((4, 6), ("data", None)),  # The longest, 6, cannot be cut by 4.
        ((4, 4), ("data", None)),
        ((5, 7), (None, None)),
        ((4,), ("data",)),
        ((3,), (None,)),
        ((), ()),
    ],
)
def test_the_longest_axis_that_divides_is_cut(shape, expected):
    leaf = np.zeros(shape)
    cut = mesh.sharding(mesh.layout("jit", 4), leaf)
    assert cut.spec == PartitionSpec(*expected)
    whole = mesh.sharding(mesh.layout("jit", leaf.size + 1), leaf)
    assert whole.is_fully_replicated
    assert mesh.sharding(mesh.layout(), leaf).is_fully_replicated


# Where arrays lie


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("how", LAYOUTS)
def test_a_state_goes_to_the_devices_and_back(how, count):
    laid = laid_out(how, jax.devices()[:count])
    put = mesh.put_state(laid, STATE)
    same(mesh.get_state(laid, put), STATE)
    same(mesh.gather(laid, put), STATE)
    same(mesh.gather(laid, mesh.put_state(laid, mesh.get_state(laid, put))), STATE)


def test_a_sharded_state_is_moved_to_another_layout():
    put = mesh.put_state(laid_out("sharded"), STATE)
    assert not put["kernel"].is_fully_replicated
    again = mesh.put_state(mesh.layout(), put)
    assert again["kernel"].is_fully_replicated
    same(mesh.gather(mesh.layout(), again), STATE)


def test_a_cut_leaf_is_cut():
    put = mesh.put_state(laid_out("sharded"), STATE)
    shapes = {shard.data.shape for shard in put["kernel"].addressable_shards}
    assert shapes == {(3, 2, 4)}
    assert {shard.data.shape for shard in put["bias"].addressable_shards} == {(5,)}


def test_rows_of_a_batch_keep_their_order():
    laid = mesh.layout()
    put = mesh.put_batch(laid, BATCH)
    same(put, BATCH)
    for place, device in enumerate(jax.devices()):
        (shard,) = (s for s in put["image"].addressable_shards if s.device == device)
        np.testing.assert_array_equal(shard.data, BATCH["image"][2 * place :][:2])
    dealt = mesh.put_batch(mesh.layout("pmap"), BATCH)
    assert dealt["image"].shape == (4, 2, 2, 2, 3)
    np.testing.assert_array_equal(dealt["position"], np.arange(8).reshape(4, 2))


# Steps


def one_more(state):
    return jax.tree.map(lambda leaf: leaf + 1, state)


def compiled(how, count):
    """Compile a step that sums rows, draws a number a row and gathers them."""
    laid = laid_out(how, jax.devices()[:count])
    key = jax.random.key(3)

    def update(state, batch):
        rows = batch["position"]
        noise = jax.vmap(jax.random.normal)(mesh.per_row_keys(key, rows))
        report = {
            "sum": mesh.total(rows.sum(), laid.axis_name),
            "noise": mesh.every_row(noise, laid.axis_name),
            "image": mesh.every_row(batch["image"], laid.axis_name),
        }
        return one_more(state), report

    return laid, update


@pytest.mark.parametrize("count", tiers.by_tier([2, 4], {2}))
@pytest.mark.parametrize("how", LAYOUTS)
def test_a_step_is_the_same_however_it_is_spread(how, count):
    laid, update = compiled(how, count)
    run = mesh.compile_update(laid, update)
    state = mesh.put_state(laid, STATE)
    places = jax.tree.map(lambda leaf: getattr(leaf, "sharding", None), state)
    state, report = run(state, mesh.put_batch(laid, BATCH))
    same(mesh.gather(laid, state), one_more(STATE))
    assert int(report["sum"]) == 28
    np.testing.assert_array_equal(report["image"], BATCH["image"])
    noise = [
        jax.random.normal(jax.random.fold_in(jax.random.key(3), i)) for i in range(8)
    ]
    np.testing.assert_array_equal(report["noise"], jnp.stack(noise))
    if how != "pmap":
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == places
    state, _ = run(state, mesh.put_batch(laid, BATCH))
    same(mesh.gather(laid, state), one_more(one_more(STATE)))


@pytest.mark.parametrize("how", LAYOUTS)
def test_the_old_state_is_used_up_by_an_update_but_not_by_a_measure(how):
    laid, update = compiled(how, 2)
    batch = mesh.put_batch(laid, BATCH)
    run = mesh.compile_update(laid, update)
    state, _ = run(mesh.put_state(laid, STATE), batch)
    measure = mesh.compile_measure(laid, lambda state, batch: update(state, batch)[1])
    assert int(measure(state, batch)["sum"]) == 28
    assert not state["kernel"].is_deleted()
    run(state, batch)
    assert state["kernel"].is_deleted()


# Several processes


def test_without_a_word_there_is_one_process():
    assert not mesh.join_processes({})
    empty = {"UNLIR_COORDINATOR": "", "UNLIR_PROCESSES": "", "UNLIR_DISTRIBUTED": ""}
    assert not mesh.join_processes(empty)


@pytest.fixture
def joined(monkeypatch):
    """Note what JAX is asked for, without joining anybody."""
    calls = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *arguments: calls.append(arguments)
    )
    return calls


def test_processes_are_joined(joined):
    assert mesh.join_processes({"UNLIR_DISTRIBUTED": "auto"})
    given = dict(zip(mesh_names(), ["host:123", "4", "3"], strict=True))
    assert mesh.join_processes(given)
    assert joined == [(), ("host:123", 4, 3)]


def mesh_names():
    return ["UNLIR_COORDINATOR", "UNLIR_PROCESSES", "UNLIR_PROCESS"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["host:1", "", ""], "UNLIR_COORDINATOR without UNLIR_PROCESSES, UNLIR_PROC"),
        (["", "2", "0"], "UNLIR_PROCESSES, UNLIR_PROCESS without UNLIR_COORDINATOR"),
        (["host:1", "2", "2"], "UNLIR_PROCESS='2' of UNLIR_PROCESSES='2'; expected a"),
        (["host:1", "two", "0"], "UNLIR_PROCESSES='two'; expected a number"),
        (["host:1", "2", "-1"], "UNLIR_PROCESS='-1'"),
        (["host:1", "2", "²"], "UNLIR_PROCESS='²'"),
    ],
)
def test_environments_that_make_no_sense(joined, values, message):
    given = dict(zip(mesh_names(), values, strict=True))
    with pytest.raises(ValueError, match=message):
        mesh.join_processes(given)
    with pytest.raises(ValueError, match="UNLIR_DISTRIBUTED='yes'; expected 'auto'"):
        mesh.join_processes({"UNLIR_DISTRIBUTED": "yes"})
    assert not joined
