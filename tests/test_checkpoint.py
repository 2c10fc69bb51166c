"""What is saved is what is restored, or the one before it, or an error in words."""

import json
import shutil
import subprocess
import sys
import textwrap
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from unlir_jax import tree
from unlir_jax.runtime import checkpoint, mesh

# What a damaged file makes Orbax's reader leave behind is not the subject.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def numbers(step):
    """Make a state with a leaf of each kind that networks have."""
    random = np.random.default_rng(step)
    params = {
        "kernel": random.normal(size=(16, 8, 3)).astype("f"),
        "half": random.normal(size=(8, 4)).astype(ml_dtypes.bfloat16),
    }
    chain = optax.chain(optax.clip(1.0), optax.adam(0.1))
    kept = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, chain.init(params))
    return {"step": np.int32(step), "params": params, "optimizer": kept, "none": {}}


LAYOUTS = {
    "one": lambda: mesh.layout(devices=jax.devices()[:1]),
    "four": lambda: mesh.layout(),
    "sharded": lambda: mesh.layout("jit", 8),
    "two sharded": lambda: mesh.layout("jit", 8, jax.devices()[:2]),
    "pmap": lambda: mesh.layout("pmap"),
}


def laid_out(how, state):
    laid = LAYOUTS[how]()
    return mesh.get_state(laid, mesh.put_state(laid, state))


def same(actual, expected):
    found, wanted = tree.flatten(actual), tree.flatten(expected)
    assert list(found) == list(wanted)
    for path, leaf in wanted.items():
        assert found[path].dtype == leaf.dtype, path
        np.testing.assert_array_equal(found[path], leaf, path)


def save_all(folder, steps, how="one", metrics=None, **settings):
    """Save some steps, and give the steps that are there in the end."""
    with checkpoint.open_manager(folder, **settings) as manager:
        for place, step in enumerate(steps):
            value = {"accuracy": metrics[place]} if metrics else None
            state = laid_out(how, numbers(step))
            checkpoint.save(manager, step, state, {"step": step}, value)
        checkpoint.finish(manager)
    return sorted(int(path.name) for path in folder.iterdir())


def restore(folder, how="one", like=None, **settings):
    with checkpoint.open_manager(folder, **settings) as manager:
        return checkpoint.restore(manager, laid_out(how, like or numbers(0)))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Save steps 1 and 2, for copies to be damaged; and the same, cut in pieces."""
    folders = {}
    for how in ("one", "sharded"):
        folders[how] = tmp_path_factory.mktemp(how) / checkpoint.FOLDER
        assert save_all(folders[how], (1, 2), how, keep_last=2) == [1, 2]
    return folders


# There and back


@pytest.mark.parametrize("there", LAYOUTS)
@pytest.mark.parametrize("how", ["one", "sharded", "pmap"])
def test_there_and_back(tmp_path, how, there):
    save_all(tmp_path / "c", (7,), how)
    restored = restore(tmp_path / "c", there)
    assert restored.step == 7 and restored.notes == {"step": 7}
    same(restored.state, numbers(7))
    if there != "pmap":
        places = [leaf.sharding for leaf in jax.tree.leaves(restored.state)]
        like = jax.tree.leaves(laid_out(there, numbers(0)))
        assert places == [leaf.sharding for leaf in like]


def test_notes_are_json(tmp_path):
    notes = {"a": [1, 2.5, None, "é"], "nested": {"b": True}}
    with checkpoint.open_manager(tmp_path / "c") as manager:
        assert checkpoint.restore(manager, numbers(0)) is None
        checkpoint.save(manager, 3, laid_out("one", numbers(3)), notes)
        checkpoint.finish(manager)
        assert checkpoint.restore(manager, numbers(0)).notes == notes


def test_the_newest_are_kept(tmp_path):
    assert save_all(tmp_path / "c", (2, 4, 10, 6 + 10, 20), keep_last=2) == [16, 20]
    assert save_all(tmp_path / "c", (30,)) == [30]
    with pytest.raises(ValueError, match="`keep_last`=0; expected at least 1"):
        checkpoint.open_manager(tmp_path / "d", keep_last=0)


@pytest.mark.parametrize(("largest", "kept"), [(True, [2, 5]), (False, [3, 5])])
def test_the_best_is_kept(tmp_path, largest, kept):
    metrics = (0.5, 0.9, 0.1, 0.4, 0.6)
    settings = {"best": "accuracy", "largest": largest}
    assert save_all(tmp_path / "c", range(1, 6), metrics=metrics, **settings) == kept
    # It is still known after a pause.
    folder = tmp_path / "c"
    assert save_all(folder, (6,), metrics=(0.7,), **settings) == [kept[0], 6]


def test_a_checkpoint_that_was_not_measured_is_not_the_best(tmp_path):
    folder, settings = tmp_path / "c", {"best": "accuracy"}
    save_all(folder, (1,), metrics=(0.2,), **settings)
    assert save_all(folder, (2, 3), **settings) == [1, 3]


@pytest.mark.parametrize("how", ["one", "four", "sharded", "pmap"])
def test_what_is_saved_is_not_what_comes_after(tmp_path, how):
    """Steps that use the state up go on while it is being written."""
    laid = LAYOUTS[how]()

    def grow(state, batch):
        total = mesh.total(batch["x"].sum(), laid.axis_name)
        return jax.tree.map(lambda leaf: leaf + 1, state), total

    update = mesh.compile_update(laid, grow)
    batch = mesh.put_batch(laid, {"x": np.ones(4, np.float32)})
    state = {"a": np.zeros((1000, 500), "f"), "b": np.zeros(500_000, "f")}
    state = mesh.put_state(laid, state)
    count = 10
    with checkpoint.open_manager(tmp_path / "c", keep_last=count) as manager:
        for step in range(0, 4 * count, 4):
            checkpoint.save(manager, step, mesh.get_state(laid, state), {})
            for _ in range(4):
                state, _ = update(state, batch)
        checkpoint.finish(manager)
        for step in range(0, 4 * count, 4):
            saved = checkpoint.read_arrays(tmp_path / "c" / str(step))
            for leaf in saved.values():
                assert leaf.min() == leaf.max() == step


# Damage


def damaged(folder, tmp_path, change, how="one"):
    """Restore from a copy in which the files of step 2 are changed."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy / "2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored = restore(copy, how, keep_last=2)
    shutil.rmtree(copy)
    messages = [str(warning.message) for warning in caught]
    return restored, [text for text in messages if "checkpoint of step" in text]


def noted(folder, *changes):
    """Change the record of a checkpoint."""
    path = folder / "record" / "metadata"
    record = json.loads(path.read_text())
    for change in changes:
        change(record)
    path.write_text(json.dumps(record))


def without_sums(record):
    for entry in record["leaves"].values():
        del entry["crc32"]


def largest(folder):
    """Find the file with the arrays."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_middle(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def check_one_before(restored, messages):
    assert restored.step == 1 and restored.notes == {"step": 1}
    same(restored.state, numbers(1))
    (message,) = messages
    assert "The checkpoint of step 2 in" in message and "is skipped" in message
    assert "\n" not in message


@pytest.mark.parametrize("how", ["one", "sharded"])
def test_a_flipped_byte_in_any_file(two, tmp_path, how):
    """Either it does no harm, or it is noticed: never another state."""
    files = sorted(path for path in (two[how] / "2").rglob("*") if path.is_file())
    skipped = 0
    # Half of them each, for a restore takes half a second.
    for number, file in enumerate(files[how == "sharded" :: 2]):
        name, size = file.relative_to(two[how] / "2"), file.stat().st_size
        # One place in each file, each time another.
        place = (size // 3, size // 2, size - 1)[number % 3]

        def flip(folder, name=name, place=place):
            data = bytearray((folder / name).read_bytes())
            data[place] ^= 255
            (folder / name).write_bytes(data)

        restored, messages = damaged(two[how], tmp_path, flip, how)
        if messages:
            check_one_before(restored, messages)
            skipped += 1
        else:
            assert restored.step == 2
            same(restored.state, numbers(2))
    assert skipped > 1


@pytest.mark.parametrize("how", ["one", "sharded"])
def test_a_flipped_byte_in_an_array(two, tmp_path, how):
    def flip(folder):
        flip_middle(largest(folder))

    check_one_before(*damaged(two[how], tmp_path, flip, how))


def test_truncated_and_missing_files(two, tmp_path):
    def truncate(folder):
        file = largest(folder)
        file.write_bytes(file.read_bytes()[:-1000])

    changes = (
        truncate,
        lambda folder: (folder / "record" / "metadata").unlink(),
        lambda folder: (folder / "record" / "metadata").write_text("[]"),
        lambda folder: (folder / "record" / "metadata").write_text('{"leaves": {}}'),
        lambda folder: (folder / "record" / "metadata").write_text("[" * 100_000),
        lambda folder: noted(folder, lambda record: record.pop("notes")),
        lambda folder: noted(folder, lambda record: record.update(notes={"step": 3})),
        lambda folder: noted(folder, without_sums),
        lambda folder: noted(folder, without_sums, lambda record: record.pop("format")),
        lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
        lambda folder: shutil.rmtree(folder / "record"),
        lambda folder: shutil.rmtree(folder / "state" / "d"),
        lambda folder: shutil.rmtree(folder / "state"),
    )
    for change in changes:
        check_one_before(*damaged(two["one"], tmp_path, change))


@pytest.mark.parametrize("left", ["3.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp-1"])
def test_what_was_half_written_is_no_checkpoint(two, tmp_path, left):
    folder = tmp_path / "c"
    shutil.copytree(two["one"], folder)
    shutil.copytree(folder / "2", folder / left)
    (folder / left / "record" / "metadata").unlink()
    restored = restore(folder, keep_last=2)
    assert restored.step == 2
    assert [step for step in save_all(folder, (3,), keep_last=2) if step] == [2, 3]
    assert restore(folder).step == 3


def test_records_of_the_first_format_are_read(two, tmp_path):
    """They have no sum of their own, and none for what a process has parts of only."""

    def as_before(record):
        del record["format"], record["crc32"], record["leaves"]["params/half"]["crc32"]

    restored, messages = damaged(
        two["one"], tmp_path, lambda folder: noted(folder, as_before)
    )
    assert restored.step == 2 and not messages


def test_notes_of_another_kind_are_damage(two, tmp_path):
    def check(notes):
        if notes["step"] == 2:
            raise ValueError("no notes of ours")

    with (
        checkpoint.open_manager(two["one"], keep_last=2, read_only=True) as manager,
        pytest.warns(UserWarning, match="of step 2 .*no notes of ours"),
    ):
        like = laid_out("one", numbers(0))
        assert checkpoint.restore(manager, like, check).step == 1


def test_all_are_damaged(two, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(two["one"], folder)
    for step in ("1", "2"):
        (folder / step / "record" / "metadata").write_text("{")
    with (
        pytest.warns(UserWarning, match="of step 2 .*is skipped"),
        pytest.warns(UserWarning, match="of step 1 .*is skipped"),
        pytest.raises(ValueError, match="No checkpoint in .*of steps 2, 1; expected"),
    ):
        restore(folder, keep_last=2)


def test_another_model(two):
    like = numbers(0)
    like["params"]["more"] = np.zeros(3, "f")
    like["params"]["kernel"] = np.zeros((4, 2), "f")
    with pytest.raises(ValueError, match="belongs to another model: ") as caught:
        restore(two["one"], like=like, keep_last=2)
    message = str(caught.value)
    assert "params/kernel ([16, 8, 3] there, [4, 2] here)" in message
    assert "params/more (missing there, [3] here)" in message
    many = {f"leaf{place}": np.zeros(1, "f") for place in range(4)}
    with pytest.raises(ValueError, match=r" and \d+ more; expected the one"):
        restore(two["one"], like=many, keep_last=2)


# Reading alone


def test_read_only(two, tmp_path):
    before = sorted(two["one"].rglob("*"))
    assert restore(two["one"], read_only=True).step == 2
    assert sorted(two["one"].rglob("*")) == before
    with checkpoint.open_manager(two["one"], read_only=True) as manager:
        assert manager.all_steps() == [1, 2]


@pytest.mark.parametrize("how", ["one", "sharded"])
def test_arrays_of_whatever_model(two, how):
    for place in (two[how].parent, two[how], two[how] / "2"):
        arrays = checkpoint.read_arrays(place)
        assert int(arrays["step"]) == 2
        same(arrays["params"], numbers(2)["params"])
        leaves = tree.flatten(arrays)
        assert all(isinstance(leaf, np.ndarray) for leaf in leaves.values())
    assert int(checkpoint.read_arrays(two[how] / "1")["step"]) == 1


def test_arrays_that_are_none(two, tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint; expected a workdir of"):
        checkpoint.read_arrays(tmp_path)
    shutil.copytree(two["one"] / "2", tmp_path / "2")
    flip_middle(largest(tmp_path / "2"))
    with pytest.raises(ValueError, match="cannot be read .*one that is whole") as error:
        checkpoint.read_arrays(tmp_path)
    assert "\n" not in str(error.value)


# A disk that is full

FULL = """
    import json, pathlib, resource, signal, sys
    import jax, numpy as np
    jax.config.update("jax_num_cpu_devices", 1)
    from unlir_jax.runtime import checkpoint

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder = pathlib.Path(sys.argv[1])
    noise = np.random.default_rng(0).normal(size=100_000)
    states = {k: {"a": jax.numpy.asarray(noise + k)} for k in (1, 2, 3)}
    said = []

    def attempt(action):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        try:
            with checkpoint.open_manager(folder) as manager:
                action(manager)
        except OSError as error:
            said.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with checkpoint.open_manager(folder) as manager:
        checkpoint.save(manager, 1, states[1], {})
        checkpoint.finish(manager)

    def finish(manager):
        checkpoint.save(manager, 2, states[2], {})
        checkpoint.finish(manager)

    def again(manager):
        checkpoint.save(manager, 2, states[2], {})
        checkpoint.save(manager, 3, states[3], {})

    attempt(finish)
    attempt(again)
    with checkpoint.open_manager(folder) as manager:
        restored = checkpoint.restore(manager, states[1])
        same = bool((restored.state["a"] == states[1]["a"]).all())
        first = restored.step
        checkpoint.save(manager, 2, states[2], {})
        checkpoint.finish(manager)
        second = checkpoint.restore(manager, states[1]).step
    print(json.dumps({"said": said, "same": same, "steps": [first, second]}))
"""


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path):
    """Files may not grow beyond a limit in that process, which is root's limit too."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "c")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] and found["steps"] == [1, 2]
    assert len(found["said"]) == 2
    for sentence in found["said"]:
        assert "A checkpoint could not be written to" in sentence
        assert "File too large" in sentence and "\n" not in sentence
        assert sentence.endswith("complete ones there: 1.")


def test_arrays_need_not_be_numpys(tmp_path):
    state = {"a": jnp.arange(4.0), "b": np.arange(3)}
    with checkpoint.open_manager(tmp_path / "c") as manager:
        checkpoint.save(manager, 1, state, {})
        checkpoint.finish(manager)
        same(checkpoint.restore(manager, state).state, state)
