"""Batches must be a function of seed and step, whoever makes them."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import pipeline, preprocessing
from unlir_jax.data.source import Source

AUGMENT = "random_resized_crop|flip|rand_augment|color(0.3)"
SIZE = 16


def pictures(size=10, bad=(), annotations=()):
    """Make a source of noise; label i is picture i."""

    def read(index):
        if index in bad:
            raise ValueError(f"image {index} is torn")
        random = np.random.default_rng(index)
        example = {
            "image": random.integers(256, size=(20, 24, 3), dtype=np.uint8),
            "label": index,
            "boxes": np.array([[2, 2, 12, 10]], np.float32),
            "mask": np.full((20, 24), 7, np.uint8),
            "keypoints": np.array([[12, 10, 1], [0, 0, 0]], np.float32),
        }
        return {
            name: value
            for name, value in example.items()
            if name in ("image", "label", *annotations)
        }

    return Source(
        read,
        size,
        tuple(map(str, range(size))),
        lambda index: f"image/{index}",
        annotations=tuple(annotations),
        parts=("head", "tail"),
        boxes=3,
    )


def take(batches, count):
    """Take some batches and close the rest."""
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()


def train(count=5, *, source=None, **settings):
    settings = {
        "batch_size": 4,
        "seed": 3,
        "image_size": SIZE,
        "augment": AUGMENT,
        "threads": 2,
    } | settings
    return take(pipeline.training(source or pictures(), **settings), count)


def check_equal(these, those):
    assert len(these) == len(those) > 0
    for this, that in zip(these, those, strict=True):
        assert this.keys() == that.keys()
        for name in this:
            np.testing.assert_array_equal(this[name], that[name], err_msg=name)
            assert this[name].dtype == that[name].dtype


def joined(shares):
    """Put the batches of several processes together, in order of process."""
    return [
        {name: np.concatenate([share[name] for share in rows]) for name in rows[0]}
        for rows in zip(*shares, strict=True)
    ]


def test_a_batch_is_what_is_promised():
    names = ("boxes", "mask", "keypoints")
    source = pictures(annotations=names)
    (batch,) = train(1, source=source, augment="", annotations=names)
    found = {name: (values.shape, values.dtype) for name, values in batch.items()}
    assert found == {
        "image": ((4, SIZE, SIZE, 3), np.uint8),
        "label": ((4,), np.int32),
        "weight": ((4,), np.float32),
        "index": ((4,), np.int32),
        "position": ((4,), np.int32),
        "boxes": ((4, 3, 4), np.float32),
        "mask": ((4, SIZE, SIZE), np.uint8),
        "keypoints": ((4, 2, 3), np.float32),
    }
    np.testing.assert_array_equal(batch["label"], batch["index"])
    np.testing.assert_array_equal(batch["position"], range(4))
    assert (batch["weight"] == 1).all() and (batch["mask"] == 7).all()
    # The centre of the picture is the centre of the frame; the rest is padding.
    np.testing.assert_allclose(batch["keypoints"][:, 0], [[8, 8, 1]] * 4, atol=0.5)
    assert (batch["boxes"][:, 0, 2:] > batch["boxes"][:, 0, :2]).all()
    assert not batch["boxes"][:, 1:].any() and not batch["keypoints"][:, 1].any()


def test_annotations_come_only_if_asked_for():
    source = pictures(annotations=("mask", "keypoints"))
    (batch,) = train(1, source=source, annotations=["mask"])
    assert "mask" in batch and "keypoints" not in batch and "boxes" not in batch
    with pytest.raises(ValueError, match="'boxes'.*it has: mask, keypoints"):
        train(1, source=source, annotations=["boxes"])
    with pytest.raises(ValueError, match="it has: none"):
        train(1, annotations=["mask"])


def test_every_epoch_is_a_new_permutation_without_a_gap():
    indices = np.concatenate([batch["index"] for batch in train(15)]).reshape(6, 10)
    np.testing.assert_array_equal(np.sort(indices, 1), [range(10)] * 6)
    assert len({tuple(epoch) for epoch in indices.tolist()}) == 6


def test_a_neighbouring_seed_is_not_the_next_epoch():
    epochs = [
        np.concatenate([batch["index"] for batch in train(5, seed=seed)])
        for seed in (0, 1, 2)
    ]
    assert (epochs[0][10:] != epochs[1][:10]).any()
    assert (epochs[0][:10] != epochs[1][:10]).any()
    assert (epochs[1][10:] != epochs[2][:10]).any()


def test_a_batch_may_be_larger_than_the_data():
    (batch,) = train(1, batch_size=25)
    np.testing.assert_array_equal(np.sort(batch["index"][:10]), range(10))
    np.testing.assert_array_equal(np.sort(batch["index"][10:20]), range(10))
    # The same picture is augmented otherwise each time.
    first, second = (np.flatnonzero(batch["index"][:20] == 0)).tolist()
    assert (batch["image"][first] != batch["image"][second]).any()
    (batch,) = train(1, source=pictures(1), batch_size=3)
    np.testing.assert_array_equal(batch["index"], [0, 0, 0])


def test_starting_later_gives_the_same_batches():
    check_equal(train(9)[7:], train(2, start=7))


def test_starting_late_reads_nothing_of_what_came_before():
    read = []
    source = pictures()
    source = source._replace(
        read=lambda index: read.append(index) or pictures().read(index)
    )
    begin = time.perf_counter()
    train(1, source=source, start=10**9, threads=1)
    assert time.perf_counter() - begin < 2
    # The batch itself and at most three that are made ahead.
    assert 4 <= len(read) <= 20


@pytest.mark.parametrize("processes", (2, 4))
def test_processes_share_the_same_batches(processes):
    shares = [
        train(5, process=process, processes=processes, start=1)
        for process in range(processes)
    ]
    check_equal(joined(shares), train(5, start=1))


def test_threads_change_nothing():
    check_equal(train(8, threads=1), train(8, threads=4))


def test_seeds_change_everything():
    this, that = train(1)[0], train(1, seed=4)[0]
    assert (this["index"] != that["index"]).any()
    order = train(1, source=pictures(1)), train(1, source=pictures(1), seed=4)
    assert (order[0][0]["image"] != order[1][0]["image"]).any()


# Without a guard of `__main__`, and unclosed at the end: both are common. The shape
# checks of the tests cannot be pickled, so this has to be a process of its own.
SCRIPT = """
import itertools
import test_pipeline as tests
from unlir_jax.data import pipeline

names = ("boxes", "keypoints")
source = tests.pictures(bad=(6,), annotations=names)
settings = dict(source=source, annotations=names, start=2, threads=1)
tests.check_equal(tests.train(5, **settings), tests.train(5, workers=2, **settings))

batches = pipeline.evaluation(
    source, batch_size=4, image_size=16, workers=2, threads=1, strict=True
)
print(next(batches)["index"].tolist())
try:
    next(batches)
except ValueError as error:
    print(str(error).splitlines()[0])

left = pipeline.training(source, batch_size=4, seed=0, image_size=16, workers=1)
next(left)
"""


@pytest.mark.process
def test_workers_change_nothing_and_their_errors_arrive(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folders = (Path(__file__).parent, Path(pipeline.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[0, 1, 2, 3]",
        "Example 'image/6' cannot be read (image 6 is torn); expected a good "
        "image, or strict=False, which gives it no weight.",
    ]


def test_unreadable_pictures_have_no_weight():
    batches = train(5, source=pictures(bad=(2, 5)), augment="")
    rows = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    np.testing.assert_array_equal(np.sort(rows["index"][:10]), range(10))
    torn = np.isin(rows["index"], (2, 5))
    assert torn.sum() == 4
    np.testing.assert_array_equal(rows["weight"], ~torn)
    assert not rows["image"][torn].any() and not rows["label"][torn].any()
    np.testing.assert_array_equal(rows["label"][~torn], rows["index"][~torn])
    assert rows["image"][~torn].any((1, 2, 3)).all()
    # Nothing else has changed.
    whole = np.concatenate([batch["image"] for batch in train(5, augment="")])
    np.testing.assert_array_equal(rows["image"][~torn], whole[~torn])


def test_a_source_without_a_readable_picture_ends_nothing():
    batches = list(train(3, source=pictures(bad=range(10))))
    assert len(batches) == 3
    assert not any(batch["weight"].any() for batch in batches)


@pytest.mark.parametrize("error", (FileNotFoundError, OSError, ValueError))
def test_strict_names_what_cannot_be_read(error):
    def read(index):
        raise error("gone")

    source = pictures()._replace(read=read)
    assert not train(1, source=source)[0]["weight"].any()
    with pytest.raises(ValueError, match="Example 'image/[0-9]'.*gone.*strict=False"):
        train(1, source=source, strict=True)


def test_a_mistake_in_the_source_is_not_taken_for_a_torn_picture():
    def read(index):
        raise KeyError("image")

    with pytest.raises(KeyError):
        train(1, source=pictures()._replace(read=read))


def evaluate(*, source=None, **settings):
    settings = {"batch_size": 4, "image_size": SIZE, "threads": 2} | settings
    return list(pipeline.evaluation(source or pictures(), **settings))


@pytest.mark.parametrize("size", (1, 8, 10))
@pytest.mark.parametrize("processes", (1, 2, 4))
def test_evaluation_sees_every_picture_once_and_in_order(size, processes):
    shares = [
        evaluate(source=pictures(size), process=process, processes=processes)
        for process in range(processes)
    ]
    batches = joined(shares)
    count = pipeline.evaluation_batches(size, 4)
    assert len(batches) == count == {1: 1, 8: 2, 10: 3}[size]
    padding = count * 4 - size
    rows = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    np.testing.assert_array_equal(rows["index"], [*range(size), *[-1] * padding])
    np.testing.assert_array_equal(rows["weight"], [1] * size + [0] * padding)
    np.testing.assert_array_equal(rows["label"], [*range(size), *[0] * padding])
    np.testing.assert_array_equal(rows["position"], [*range(4)] * count)
    assert not rows["image"][size:].any()


@pytest.mark.parametrize("crop", (0.875, 1.0))
def test_evaluation_has_the_pixels_of_preprocessing(crop):
    preprocess = preprocessing.preprocessing(SIZE, crop)
    source = pictures(4)
    (batch,) = evaluate(source=source, crop=crop)
    for index in range(4):
        expected = preprocess(source.read(index)["image"])
        np.testing.assert_array_equal(batch["image"][index] / np.float32(255), expected)


def test_evaluation_counts_what_cannot_be_read():
    batches = evaluate(source=pictures(bad=(9,)))
    np.testing.assert_array_equal(batches[-1]["index"], [8, 9, -1, -1])
    np.testing.assert_array_equal(batches[-1]["weight"], [1, 0, 0, 0])
    with pytest.raises(ValueError, match="image/9"):
        evaluate(source=pictures(bad=(9,)), strict=True)


def test_pictures_may_be_of_pillow_and_without_label():
    def read(index):
        return {"image": Image.new("RGB", (30, 20), (1, 2, 3)), "label": -1}

    (batch,) = evaluate(source=pictures(3)._replace(read=read))
    np.testing.assert_array_equal(batch["label"], [-1, -1, -1, 0])
    assert (batch["image"][:3] == (1, 2, 3)).all()


def test_closing_ends_the_threads():
    def ours():
        return {t for t in threading.enumerate() if "grain" in t.name}

    before = ours()
    batches = pipeline.training(
        pictures(1000), batch_size=64, seed=0, image_size=64, threads=2
    )
    next(batches)
    assert ours() - before
    batches.close()
    deadline = time.monotonic() + 5
    while ours() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not ours() - before
    with pytest.raises(StopIteration):
        next(batches)


def test_timed_adds_up_the_waiting():
    def slow():
        for step in range(3):
            time.sleep(0.05)
            yield {"index": np.array([step])}

    batches = pipeline.timed(slow())
    assert batches.seconds == 0
    steps = []
    for batch in batches:
        steps.append(int(batch["index"][0]))
        time.sleep(0.2)  # Work of the reader, which is no waiting.
    assert steps == [0, 1, 2]
    assert 0.15 <= batches.seconds < 0.55
    batches.close()


@pytest.mark.parametrize(
    "settings, message",
    (
        ({"source": pictures(0)}, "no examples"),
        ({"batch_size": 0}, "`batch_size`=0"),
        ({"batch_size": 6, "processes": 4}, "multiple of 4"),
        ({"process": 2, "processes": 2}, "`process`=2"),
        ({"processes": 0}, "`processes`=0"),
        ({"image_size": 0}, "`image_size`=0"),
        ({"workers": -1}, "`workers`=-1"),
        ({"threads": 0}, "`threads`=0"),
    ),
)
def test_settings_that_make_no_sense_are_refused_at_once(settings, message):
    for make, further in ((pipeline.training, {"seed": 0}), (pipeline.evaluation, {})):
        given = {"source": pictures(), "batch_size": 4, "image_size": SIZE}
        with pytest.raises(ValueError, match=message):
            make(**given | further | settings)


@pytest.mark.parametrize("seed", (-1, 2**32))
def test_seeds_have_32_bits(seed):
    with pytest.raises(ValueError, match=f"`seed`={seed}"):
        train(1, seed=seed)


def test_no_batch_comes_before_the_first():
    with pytest.raises(ValueError, match="`start`=-1"):
        train(1, start=-1)
