"""Data sets of tensorflow-datasets, prepared here as their builders describe them.

Their features are the library's own; the examples are ours, written by the library as
ArrayRecord. (`tfds.testing.mock_data` writes nothing, and encodes by TensorFlow.)
"""

import io
import json
import re
import subprocess
import sys
from concurrent import futures

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import classes as class_names
from unlir_jax.data import datasets, object_datasets, objects, preprocessing, source
from unlir_jax.evaluation import evaluate
from unlir_jax.few_shot import adapt
from unlir_jax.runtime import config

pytestmark = pytest.mark.exhaustive
RANDOM = np.random.default_rng(0)
WIDTH, HEIGHT = 40, 20
PICTURES = RANDOM.integers(0, 256, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
TRIMAP = RANDOM.integers(1, 4, (HEIGHT, WIDTH), dtype=np.uint8)
OBJECT = RANDOM.integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
# ymin, xmin, ymax, xmax, as shares of 20 and 40 pixels.
BOX, SMALL = (0.25, 0.5, 0.75, 1.0), (0.0, 0.0, 0.05, 0.025)
SIZED = ("cifar10", "cifar100")


def library():
    """Import the library here, where it is asked: it takes many seconds."""
    import tensorflow_datasets

    return tensorflow_datasets


def builder(folder, *, name="spots", features=None, values=None, parts=None, year=""):
    """Make a builder as a user would, of Pillow images; these need no TensorFlow."""
    tensorflow_datasets = library()
    features = features or {
        "image": tensorflow_datasets.features.Image(),
        "label": tensorflow_datasets.features.ClassLabel(names=["plain", "spotted"]),
    }
    values = values or (
        lambda i: {"image": Image.fromarray(PICTURES[i]), "label": i % 2}
    )
    version = "1.0.0"
    if name in datasets.KNOWN:
        version = str(tensorflow_datasets.builder_cls(name).VERSION)
    if year:
        told = tensorflow_datasets.builder(f"{name}/{year}", data_dir=folder)
        version = str(told.version)

    class Mine(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        """Write some pictures."""

        VERSION = tensorflow_datasets.core.Version(version)
        BUILDER_CONFIGS = [
            tensorflow_datasets.core.BuilderConfig(name=own) for own in (year,) if own
        ]

        def _info(self):
            wanted = tensorflow_datasets.features.FeaturesDict(features)
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=wanted)

        def _split_generators(self, manager):
            counts = parts or {"train": 4}
            return {part: self._generate_examples(n) for part, n in counts.items()}

        def _generate_examples(self, count):
            yield from ((i, values(i)) for i in range(count))

    Mine.name = name
    return Mine(data_dir=folder, file_format="array_record")


def prepare(name, folder, parts=None):
    """Write examples of a known data set, with the features that the library says."""
    tensorflow_datasets = library()
    box, small_box = (tensorflow_datasets.features.BBox(*box) for box in (BOX, SMALL))
    info = tensorflow_datasets.builder(name, data_dir=folder).info

    def values(i):
        picture = Image.fromarray(PICTURES[i])
        small = picture.resize((32, 32))
        mask = TRIMAP if name == "oxford_iiit_pet" else OBJECT
        texts = ("file_name", "id", "image/filename", "label_name")
        given = dict.fromkeys(texts, f"{i}.jpg") | {
            "image": small if name in SIZED else picture,
            "label": i % 3,
            "bbox": box,
            "head_bbox": small_box,
            "coarse_label": 0,
            "species": 0,
            "objects": [{"bbox": small_box}] * i + [{"bbox": box}],
            "segmentation_mask": Image.fromarray(mask),
        }
        return {key: given[key] for key in info.features}

    parts = parts or {"train": 5, "test": 3}
    made = builder(
        folder, name=name, features=dict(info.features), values=values, parts=parts
    )
    made.download_and_prepare()


def pictures_of(source):
    return [np.asarray(source.read(i)["image"]) for i in range(source.size)]


@pytest.mark.parametrize("name", datasets.KNOWN)
def test_every_known_data_set(name, tmp_path):
    parts = {"train": 5, "validation": 3} if name == "imagenet2012" else None
    prepare(name, tmp_path, parts)
    for split, size in (("train", 5), ("test", 3), ("all", 8)):
        source = datasets.tfds(name, split, data_dir=tmp_path)
        assert source.size == size
        found = [source.read(i) for i in range(size)]
        for example in found:
            assert set(example) == {"image", "label", *source.annotations}
            assert example["image"].mode == "RGB"
            assert 0 <= example["label"] < len(source.classes)
        # Whatever number a class has here, it is the class that was stored.
        stored = library().builder(name, data_dir=tmp_path)
        theirs = stored.info.features["label"].names
        if name == "imagenet2012":
            theirs = preprocessing.imagenet_classes()
        train, test = [i % 3 for i in range(5)], [i % 3 for i in range(3)]
        wanted = {"train": train, "test": test, "all": train + test}[split]
        named = sorted(source.classes[example["label"]] for example in found)
        assert named == sorted(theirs[label] for label in wanted)
        assert source.classes == class_names.in_order(source.classes)
        known = [source.label(i) for i in range(size)]
        assert known == [example["label"] for example in found]
    part = "validation" if name == "imagenet2012" else "test"
    tested = datasets.tfds(name, "test", data_dir=tmp_path)
    assert tested.name(2) == f"{name}/{part}/2"


def test_number_and_names_of_classes(tmp_path):
    prepare("imagenet2012", tmp_path)
    prepare("cars196", tmp_path)
    prepare("stanford_dogs", tmp_path)
    classes = {
        name: datasets.tfds(name, "train", data_dir=tmp_path).classes
        for name in ("imagenet2012", "cars196", "stanford_dogs")
    }
    assert len(classes["imagenet2012"]) == 1000 and len(classes["cars196"]) == 196
    assert len(classes["stanford_dogs"]) == 120
    assert classes["imagenet2012"][0] == "tench"
    assert classes["cars196"][0] == "AM General Hummer SUV 2000"


@pytest.mark.parametrize("name", ["caltech_birds2011", "cars196"])
def test_boxes_in_pixels(name, tmp_path):
    prepare(name, tmp_path)
    source = datasets.tfds(name, "train", data_dir=tmp_path)
    assert "boxes" in source.annotations and source.boxes == 1
    np.testing.assert_array_equal(source.read(0)["boxes"], [[20, 5, 40, 15]])
    assert source.read(0)["boxes"].dtype == np.float32


def test_the_largest_boxes_are_kept(tmp_path, monkeypatch):
    parts = {"train": 8, "test": 8}
    monkeypatch.setitem(
        datasets.KNOWN,
        "stanford_dogs",
        datasets.KNOWN["stanford_dogs"]._replace(most=3),
    )
    prepare("stanford_dogs", tmp_path, parts)
    source = datasets.tfds("stanford_dogs", "train", data_dir=tmp_path)
    found = [source.read(i)["boxes"] for i in range(8)]
    # Example i has i small boxes and then a large one.
    assert sorted(len(boxes) for boxes in found) == [1, 2, 3, 3, 3, 3, 3, 3]
    for boxes in found:
        np.testing.assert_array_equal(boxes[-1], [20, 5, 40, 15])


def test_masks(tmp_path):
    prepare("oxford_iiit_pet", tmp_path)
    pets = datasets.tfds("oxford_iiit_pet", "train", data_dir=tmp_path)
    # The head's box is of no whole pet.
    assert pets.annotations == ("mask",)
    mask = pets.read(0)["mask"]
    # The pet, the background, and the border that nobody decides.
    np.testing.assert_array_equal(mask, np.array([9, 1, 0, source.VOID])[TRIMAP])
    prepare("caltech_birds2011", tmp_path)
    birds = datasets.tfds("caltech_birds2011", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(birds.read(0)["mask"], OBJECT)
    assert birds.read(0)["mask"].dtype == mask.dtype == np.uint8
    # Levels of agreement, as the five annotators of CUB gave them.
    levels = np.arange(0, 256, 51, dtype=np.uint8)[None]
    of_birds = datasets.KNOWN["caltech_birds2011"].values
    np.testing.assert_array_equal(of_birds(levels), [[0, 0, 0, 1, 1, 1]])


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_turns_pictures_boxes_and_masks(value):
    """Boxes and masks are places in the stored pixels."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[2:7, 4:16] = 255
    exif = Image.Exif()
    exif[0x0112] = value
    files = {}
    for key, image, tags in (
        ("image", Image.fromarray(pixels), {"exif": exif}),
        ("mask", Image.fromarray(pixels[..., 0] // 255), {}),
    ):
        stream = io.BytesIO()
        image.save(stream, "PNG", **tags)
        files[key] = stream.getvalue()
    known = datasets.Known(boxes=("bbox",), mask="mask", values=lambda values: values)
    example = files | {"bbox": np.array([2 / 20, 4 / 40, 7 / 20, 16 / 40])}
    found = datasets._converted(example, known, "x")
    bright = np.asarray(found["image"])[..., 0] > 127
    assert bright.shape == ((20, 40) if value < 5 else (40, 20))
    np.testing.assert_array_equal(found["mask"], bright)
    inside = np.zeros_like(bright)
    x0, y0, x1, y1 = found["boxes"][0].round().astype(int)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(inside, bright)


def test_a_mask_of_another_size_names_no_setting_that_there_is_not():
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {}
    for key, size, tags in (("image", (8, 4), {"exif": exif}), ("mask", (4, 8), {})):
        stream = io.BytesIO()
        Image.new("L", size).save(stream, "PNG", **tags)
        files[key] = stream.getvalue()
    known = datasets.Known(mask="mask", values=lambda values: values)
    said = "The mask of x has 4 x 8 pixels; expected 8 x 4 as its image has stored."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        datasets._converted(files, known, "x")


def test_an_evaluation_takes_a_data_set_by_its_name(tmp_path):
    prepare("caltech_birds2011", tmp_path)
    wanted = config.load(
        "configs/evaluate.py:model=cifar_resnet8,methods=grad_cam,"
        "metrics=official_metric+pointing_game,data=cub",
        ["model.weights=random", "labels=predicted", "batch_size=4"],
    )
    wanted.data.path = str(tmp_path)
    found = evaluate.run(wanted, tmp_path / "run").summary
    assert found["about"]["images"] == found["center/official_metric"]["n"] == 3
    assert found["center/pointing_game"]["n"] == 3


def test_few_shots_are_drawn_from_a_data_set(tmp_path):
    parts = {"train": 8, "test": 4}
    builder(tmp_path, parts=parts).download_and_prepare()
    wanted = config.load(
        "configs/few_shot.py:backbone=cifar_resnet8,data=tfds:spots,k=3,method=cosine",
        ["model.weights=random", "draws=1", "data.image_size=32"],
    )
    wanted.data.path = str(tmp_path)
    found = adapt.run(wanted, tmp_path / "run").summary
    assert found["ways"] == 2 and found["test_examples"] == 4
    (draw,) = (tmp_path / "run" / "draws").glob("*.json")
    drawn = json.loads(draw.read_text())["pictures"]
    train = datasets.tfds("spots", "train", data_dir=tmp_path)
    places = [int(name.rpartition("/")[2]) for name in drawn]
    labels = [train.read(place)["label"] for place in places]
    assert labels == [0] * 3 + [1] * 3
    # Labels alone, and through a choice of them, are those that are read.
    some = source.labelled(source.subset(train, np.asarray(places)))
    assert some.labels.tolist() == labels
    whole = source.labelled(train._replace(label=None))
    np.testing.assert_array_equal(whole.labels, source.labelled(train).labels)


def test_a_builder_of_ones_own(tmp_path):
    builder(tmp_path).download_and_prepare()
    source = datasets.tfds("spots", "train", data_dir=str(tmp_path))
    assert source.classes == ("plain", "spotted") and source.size == 4
    found = pictures_of(source)
    for picture in PICTURES[:4]:
        assert sum(np.array_equal(picture, shown) for shown in found) == 1
    half = datasets.tfds("spots", "train[50%:]", data_dir=tmp_path)
    np.testing.assert_array_equal(pictures_of(half), found[2:])


def test_grey_and_unlabelled(tmp_path):
    features = {"image": library().features.Image(shape=(None, None, 1))}

    def values(i):
        return {"image": Image.fromarray(PICTURES[i, ..., 0])}

    builder(tmp_path, features=features, values=values).download_and_prepare()
    source = datasets.tfds("spots", "train", data_dir=tmp_path)
    example = source.read(0)
    assert source.classes == () and example["label"] == -1
    shown = np.asarray(example["image"])
    np.testing.assert_array_equal(shown, np.repeat(PICTURES[0, ..., :1], 3, axis=-1))


def test_many_threads_and_a_pickle(tmp_path):
    builder(tmp_path, parts={"train": 8}).download_and_prepare()
    source = datasets.tfds("spots", "train", data_dir=tmp_path)
    expected = pictures_of(source)
    travelled = cloudpickle.loads(cloudpickle.dumps(source))
    datasets.opened.cache_clear()
    with futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: travelled.read(i % 8)["image"], range(400)))
    for i, picture in enumerate(found):
        np.testing.assert_array_equal(picture, expected[i % 8])


@pytest.mark.process
def test_another_process_reads_without_tensorflow_and_jax(tmp_path):
    builder(tmp_path).download_and_prepare()
    source = datasets.tfds("spots", "train", data_dir=tmp_path)
    (tmp_path / "source").write_bytes(cloudpickle.dumps(source))
    program = (
        "import pickle, sys, pathlib\n"
        "source = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(sum(source.read(i)['label'] for i in range(source.size)))\n"
        "print(sorted({'tensorflow', 'jax', 'cv2'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "source")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split("\n")[:2] == ["2", "[]"]


def test_a_corrupt_picture(tmp_path, monkeypatch):
    builder(tmp_path).download_and_prepare()
    source = datasets.tfds("spots", "train", data_dir=tmp_path)
    real = datasets.opened(str(tmp_path / "spots" / "1.0.0"), "train", ("image",))
    cut = [real[i] | {"image": real[i]["image"][:-100]} for i in range(4)]
    monkeypatch.setattr(datasets, "opened", lambda *_: cut)
    with pytest.raises(ValueError, match="Image spots/train/1 cannot be read"):
        source.read(1)


def test_not_prepared_says_how(tmp_path):
    with pytest.raises(ValueError) as error:
        datasets.tfds("cars196", "train", data_dir=tmp_path)
    message = str(error.value)
    assert "is not prepared" in message and repr(str(tmp_path)) in message
    assert "tfds build cars196 --file_format=array_record" in message


def test_prepared_in_a_format_without_random_access(tmp_path):
    builder(tmp_path).download_and_prepare()
    made = tmp_path / "spots" / "1.0.0" / "dataset_info.json"
    made.write_text(made.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="is prepared as tfrecord .* array_record"):
        datasets.tfds("spots", "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar", "train", "'cifar' is not a data set; did you mean .*cifar10"),
        ("spots", "trian", "'trian' is not in .*did you mean 'train'"),
        ("spots", "test", "'test' is not in data set 'spots'; .*known: train, all"),
        ("cifar10/no", "train", "BuilderConfig no not found"),
        ("a b", "train", "'a b' is not a data set"),
        ("", "train", "'' is not a data set"),
    ],
)
def test_wrong_names(name, split, message, tmp_path):
    builder(tmp_path).download_and_prepare()
    with pytest.raises(ValueError, match=message) as error:
        datasets.tfds(name, split, data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_no_images(tmp_path):
    features = {"note": library().features.Text()}
    made = builder(tmp_path, features=features, values=lambda i: {"note": "a"})
    made.download_and_prepare()
    with pytest.raises(ValueError, match="has note; expected `image`"):
        datasets.tfds("spots", "train", data_dir=tmp_path)


def test_boxes_of_voc_count_from_zero(tmp_path):
    info = library().builder("voc/2007", data_dir=tmp_path).info
    # The whole image and its last two columns: 1, 1, 40, 20 in VOC's pixels.
    edges = ((1 / HEIGHT, 1 / WIDTH), (1 / HEIGHT, 39 / WIDTH))
    whole, right = (library().features.BBox(*low, 1.0, 1.0) for low in edges)
    shared = {"pose": "left", "is_truncated": False}

    def values(i):
        every = [
            {"bbox": whole, "label": "dog", "is_difficult": i == 1, **shared},
            {"bbox": right, "label": "cat", "is_difficult": False, **shared},
        ]
        names = {"image/filename": f"{i}.jpg", "labels": [], "labels_no_difficult": []}
        image = Image.fromarray(PICTURES[0])
        return {"image": image, "objects": every[: 2 - i // 2], **names}

    parts = {"train": 3, "test": 3}
    given = {"features": dict(info.features), "values": values, "parts": parts}
    builder(tmp_path, name="voc", year="2007", **given).download_and_prepare()
    test = object_datasets.tfds_objects("voc", "test", data_dir=tmp_path)
    assert test.images.classes == ("cat", "dog") and test.rule == "voc07"
    found = objects.boxes(test, range(3))
    for boxes in found:
        both = [[0, 0, 40, 20], [38, 0, 40, 20]]
        np.testing.assert_allclose(boxes, both[: len(boxes)], atol=1e-4)
    # A difficult dog does not say that its image has one.
    assert sorted(test.present.tolist()) == [[False, True], [True, False], [True, True]]
    assert sum(own.sum() for own in test.ignored) == 1 and objects.count(test) == 4
    with pytest.raises(ValueError, match="`split`='trial' is not in data set"):
        object_datasets.tfds_objects("voc", "trial", data_dir=tmp_path)
