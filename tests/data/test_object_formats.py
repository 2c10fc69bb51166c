"""Boxes in XML of Pascal VOC and JSON of COCO, as people have them."""

import json

import pytest
from PIL import Image

from unlir_jax.data import objects, voc_xml

WHOLE = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>16</ymax></bndbox>"
PART = "<part><name>head</name><bndbox><xmin>7</xmin></bndbox></part>"


def annotation(*names, box=WHOLE, size=(20, 16), hard=""):
    """Write an annotation as VOC has it."""
    told = "".join(
        f"<object><name>{name}</name><difficult>{int(name == hard)}</difficult>"
        f"{box}{PART}</object>"
        for name in names
    )
    width, height = size
    sides = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation><filename>x.jpg</filename>{sides}{told}</annotation>"


def write(root, files):
    """Write texts, and images for None."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            Image.new("RGB", (20, 16)).save(path)
        else:
            path.write_text(text)
    return root


def voc(root):
    """Write a folder as VOC has it."""
    names = {"1": ("cat", "dog"), "2": ("dog",), "3": ("cat", "dog")}
    files = {f"JPEGImages/{name}.jpg": None for name in names}
    files |= {
        f"Annotations/{name}.xml": annotation(*own, hard="dog" if name == "3" else "")
        for name, own in names.items()
    }
    sets = {"train": "1\n2\n", "test": "3\n", "trainval": "1\n2\n", "cat_train": "1 -1"}
    files |= {f"ImageSets/Main/{name}.txt": text for name, text in sets.items()}
    return write(root, files)


def test_a_folder_of_voc(tmp_path):
    train = objects.object_folder(voc(tmp_path), "trainval", with_boxes=False)
    assert train.images.classes == ("cat", "dog")
    assert train.present.tolist() == [[True, True], [False, True]]
    test = objects.object_folder(tmp_path, "test", learned="trainval")
    (found,) = objects.boxes(test, [0])
    # VOC's 1, 1, 20, 16 is the whole image, and edges count from 0.
    assert found.tolist() == [[0, 0, 20, 16]] * 2 and test.rule == "voc10"
    # A difficult object need not be found, and says nothing of its image.
    assert test.ignored[0].tolist() == [False, True]
    assert test.present.tolist() == [[True, False]] and objects.count(test) == 1
    with pytest.raises(ValueError, match="`split`='dev' is not in folder"):
        objects.object_folder(tmp_path, "dev")


def test_xml_next_to_images_by_split_and_without(tmp_path):
    names = [f"{split}/{number}" for split in ("train", "test") for number in range(2)]
    files = {f"{name}.jpg": None for name in names}
    files |= {f"{name}.xml": annotation("cat") for name in names}
    root = write(tmp_path / "split", files | {"train/empty.xml": annotation()})
    write(root, {"train/empty.jpg": None})
    train = objects.object_folder(root, "train", with_boxes=False)
    assert train.present.tolist() == [[True], [True], [False]]
    assert objects.object_folder(root, "test").images.size == 2
    flat = {f"images/{number}.jpg": None for number in range(10)}
    flat |= {f"annotations/{number}.xml": annotation("cat") for number in range(10)}
    write(tmp_path / "flat", flat)
    with pytest.raises(ValueError, match="expected --config.data.holdout=0.2"):
        objects.object_folder(tmp_path / "flat", "train")
    parts = [
        objects.object_folder(tmp_path / "flat", split, holdout=0.2)
        for split in ("train", "test")
    ]
    named = [{part.images.name(i) for i in range(part.images.size)} for part in parts]
    assert list(map(len, named)) == [8, 2] and not named[0] & named[1]


def test_edges_that_count_from_zero(tmp_path):
    box = "<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>20</xmax><ymax>16</ymax></bndbox>"
    files = {"train/1.jpg": None, "train/1.xml": annotation("cat", box=box)}
    write(tmp_path, files)
    for first in (0, 1):
        found = objects.object_folder(tmp_path, "train", first_pixel=first)
        assert objects.boxes(found, [0])[0].tolist() == [[0, 0, 20, 16]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>&b;</annotation>',
            "has a DOCTYPE; expected XML",
        ),
        ("<annotation><object>", "is no XML"),
        ("<html></html>", "has the tag 'html' at depth 1"),
        ("<annotation>" + "<a>" * 30, "at depth 21"),
        (f"<annotation><filename>{'a' * 2000}</filename></annotation>", "has a filena"),
        (annotation(""), "has the name '' and difficult='1'"),
        (annotation("cat", size=(10, 16)), "but its boxes are of one of 10 x 16"),
        (annotation("cat", size=("x", 16)), "has width='x'; expected a number"),
        (annotation("cat", box=WHOLE.replace("20", "0")), "expected xmin <= xmax"),
        (annotation("cat", box=WHOLE.replace("20", "90")), "expected a box in it"),
        (annotation("cat", box=""), "has 'cat' without a box; expected one"),
    ],
)
def test_xml_that_is_no_annotation_is_refused(tmp_path, text, said):
    write(tmp_path, {"train/1.jpg": None, "train/1.xml": text})
    with pytest.raises(ValueError, match=said):
        objects.boxes(objects.object_folder(tmp_path, "train"), [0])


def test_large_xml_and_xml_without_image_are_refused(tmp_path, monkeypatch):
    write(tmp_path, {"train/1.jpg": None, "train/2.xml": annotation("cat")})
    with pytest.raises(ValueError, match="has no image; expected 2.jpg next to it"):
        objects.object_folder(tmp_path, "train")
    monkeypatch.setattr(voc_xml, "MOST_BYTES", 50)
    with pytest.raises(ValueError, match="has more than 50 bytes"):
        objects.object_folder(tmp_path, "train")


def coco(names=("1.jpg", "2.jpg"), **changes):
    """Write JSON of COCO: a cat in the first image, a crowd of dogs in the second."""
    images = [
        {"id": place, "file_name": name, "width": 20, "height": 16}
        for place, name in enumerate(names)
    ]
    cat = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [2, 3, 4, 5], "iscrowd": 0}
    dogs = {"id": 2, "image_id": 1, "category_id": 9, "bbox": [0, 0, 20, 16]}
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    return json.dumps(
        {
            "images": images,
            "annotations": [cat | changes, dogs | {"iscrowd": 1}],
            "categories": categories,
        }
    )


@pytest.mark.parametrize(
    ("train", "images"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("train/_annotations.coco.json", "train"),
        ("annotations_train.json", "images"),
    ],
)
def test_folders_of_coco(tmp_path, train, images):
    files = {f"{images}/{name}.jpg": None for name in (1, 2)} | {train: coco()}
    files |= {train.replace("train", "val"): coco(), "captions_train.json": "{}"}
    files |= {f"{images.replace('train', 'val')}/{name}.jpg": None for name in (1, 2)}
    found = objects.object_folder(write(tmp_path, files), "train")
    assert found.images.classes == ("cat", "dog") and found.rule == "coco"
    assert [found.images.name(i) for i in range(2)] == [
        f"{images}/{i}.jpg" for i in (1, 2)
    ]
    # x, y, width and height.
    assert objects.boxes(found, [0])[0].tolist() == [[2, 3, 6, 8]]
    # A crowd need not be found, but the image has it.
    assert found.present.tolist() == [[True, False], [False, True]]
    assert found.ignored[1].tolist() == [True] and objects.count(found) == 1
    assert objects.object_folder(tmp_path, "val").images.size == 2
    with pytest.raises(ValueError, match="`split`='test' is not in folder"):
        objects.object_folder(tmp_path, "test")


def test_one_file_of_coco_with_images_elsewhere(tmp_path):
    names = [f"{number}.jpg" for number in range(2)]
    write(
        tmp_path, {f"photos/{name}": None for name in names} | {"a.json": coco(names)}
    )
    given = {"images": tmp_path / "photos", "holdout": 0.5}
    with pytest.raises(ValueError, match="or --config.data.images=DIR"):
        objects.object_folder(tmp_path / "a.json", "train", holdout=0.5)
    with pytest.raises(ValueError, match="`images`='nowhere' is no folder"):
        objects.object_folder(tmp_path / "a.json", "train", images="nowhere")
    train = objects.object_folder(tmp_path / "a.json", "train", **given)
    assert train.images.size == 2 and train.images.file(1).endswith("photos/1.jpg")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bbox": [1, 2, 3]}, "expected x, y, width and height"),
        ({"bbox": [1, 2, 3, 1e999]}, "expected x, y, width and height"),
        ({"bbox": [5, 5, 0, 2]}, "expected a width and a height above 0"),
        ({"bbox": [5, 5, 50, 2]}, "expected a box in it"),
        ({"bbox": None}, "has 'cat' without a box"),
        ({"image_id": [3]}, "expected those of `images` and `categories`"),
        ({"category_id": 3}, "expected those of `images` and `categories`"),
        ({"iscrowd": 2}, "has iscrowd=2; expected 0 or 1"),
    ],
)
def test_json_that_contradicts_itself_is_refused(tmp_path, changes, said):
    files = {"train/1.jpg": None, "train/2.jpg": None}
    write(tmp_path, files | {"instances_train.json": coco(**changes)})
    with pytest.raises(ValueError, match=said):
        objects.boxes(objects.object_folder(tmp_path, "train"), [0])


def test_json_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "a.json"
    for text, said in (("[]", "has no list of images"), ("{", "is no JSON")):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            objects.object_folder(path, "train")
    for name in ("../1.jpg", "/1.jpg"):
        path.write_text(coco((name, "2.jpg")))
        with pytest.raises(ValueError, match="expected a path relative to the folder"):
            objects.object_folder(path, "train", holdout=0.5)
