"""Folders with a table of boxes, and synthetic scenes, as images with objects."""

import json

import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import objects, synthetic_scenes

HEAD = "path,split,class,x0,y0,x1,y1"
ROWS = (
    "a.png,train,cat,0,0,10,5",
    "a.png,train,dog,4,2,20,16",
    "b.png,train,,,,,",
    "c.png,test,dog,1,1,3,4",
)


def folder(root, rows=ROWS, head=HEAD):
    for name in ("a", "b", "c"):
        Image.new("RGB", (20, 16), "red").save(root / f"{name}.png")
    (root / "boxes.csv").write_text("\n".join((head, *rows)) + "\n")
    return root


def test_a_table_says_which_classes_an_image_has_and_where(tmp_path):
    train = objects.object_folder(folder(tmp_path), "train")
    assert train.images.classes == ("cat", "dog")
    assert train.present.tolist() == [[True, True], [False, False]]
    assert [own.tolist() for own in train.labels] == [[0, 1], []]
    assert train.images.labels.tolist() == [0, -1]
    found = objects.boxes(train, [0, 1])
    assert found[0].tolist() == [[0, 0, 10, 5], [4, 2, 20, 16]]
    assert found[1].shape == (0, 4)
    test = objects.object_folder(tmp_path, "test")
    # A class is counted as in training, whatever the test has.
    assert test.labels[0].tolist() == [1] and test.images.name(0) == "c.png"


def test_boxes_turn_with_a_photo(tmp_path):
    folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 16)).save(tmp_path / "a.jpg", exif=exif)
    row = "a.jpg,train,cat,0,0,10,5"
    folder(tmp_path, (row,))
    (found,) = objects.boxes(objects.object_folder(tmp_path, "train"), [0])
    # The stored left edge is the upper edge of the photo as it is seen.
    assert found.tolist() == [[11, 0, 16, 10]]


@pytest.mark.parametrize("kind", ["table", "xml", "json"])
def test_the_other_frame_is_named_as_a_detector_calls_it(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 16)).save(tmp_path / "a.jpg", exif=exif)
    if kind == "table":
        folder(tmp_path, ("a.jpg,train,cat,0,0,12,19",))
    elif kind == "xml":
        corners = "<xmin>1</xmin><ymin>1</ymin><xmax>12</xmax><ymax>19</ymax>"
        told = f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
        (tmp_path / "a.xml").write_text(f"<annotation>{told}</annotation>")
    else:
        image = {"id": 1, "file_name": "a.jpg", "width": 16, "height": 20}
        box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 12, 19]}
        names = [{"id": 1, "name": "cat"}]
        document = {"images": [image], "annotations": [box], "categories": names}
        (tmp_path / "annotations.coco.json").write_text(json.dumps(document))
    split = "train" if kind == "table" else "all"
    given = objects.object_folder(tmp_path, split, learned=split)
    with pytest.raises(ValueError, match="`frame`='seen', 16 x 20") as error:
        objects.boxes(given, [0])
    assert "would fit: --config.data.frame=seen" in str(error.value)
    assert "annotations=" not in str(error.value)
    given = objects.object_folder(tmp_path, split, learned=split, frame="seen")
    (found,) = objects.boxes(given, [0])
    assert found.tolist() == [[0, 0, 12, 19]]
    with pytest.raises(ValueError, match="`frame`='upright'; expected 'stored'"):
        objects.object_folder(tmp_path, split, frame="upright")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("d.png,train,cat,0,0,1,1",), "names 'd.png', which is not in the folder"),
        (("a.png,train,cat,5,5,4,9",), "add x0 and y0 to a width and a height"),
        (("a.png,train,cat,,,1,1",), "x0=''; expected a number"),
        (("a.png,train,,0,0,1,1",), "has a box of no class"),
        (("a.png,train,cat,0,0,1,1", "a.png,train,,,,,"), "which has 'cat' in another"),
        (("a.png,train,cat,0,0,x,1",), "x1='x'; expected a number"),
        ((*ROWS, "c.png,train,dog,1,1,2,2"), "expected one split"),
        (("a.png,test,cat,0,0,1,1",), "`split`='train' is not in table"),
        (("a.png,train,,,,,",), "names no class"),
        ((), "has no rows"),
        (("../a.png,train,cat,0,0,1,1",), "relative to the folder"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        objects.object_folder(folder(tmp_path, rows), "train")


def test_a_class_without_training_image_is_refused(tmp_path):
    folder(tmp_path, (*ROWS, "c.png,test,cow,1,1,2,2"))
    with pytest.raises(ValueError, match="Class 'cow' of .* has no training image"):
        objects.object_folder(tmp_path, "test")


def test_training_images_need_no_boxes(tmp_path):
    rows = ("a.png,train,cat,,,,", "b.png,train,dog,1,1,3,4", "c.png,test,dog,,,,")
    train = objects.object_folder(folder(tmp_path, rows), "train", with_boxes=False)
    assert train.present.tolist() == [[True, False], [False, True]]
    assert train.images.annotations == () and "boxes" not in train.images.read(1)
    for split, label in (("train", "cat"), ("test", "dog")):
        with pytest.raises(ValueError, match=f"has '{label}' without a box; expected"):
            objects.object_folder(tmp_path, split)
    lines = ("a.png,train,cat", "b.png,train,dog")
    folder(tmp_path, lines, "path,split,class")
    assert len(objects.object_folder(tmp_path, "train", with_boxes=False).labels) == 2


def test_a_box_outside_of_its_picture_is_refused_when_boxes_are_read(tmp_path):
    folder(tmp_path, ("a.png,train,cat,0,0,40,10",))
    train = objects.object_folder(tmp_path, "train")
    with pytest.raises(ValueError, match="the box 0, 0, 40, 10; expected a box in it"):
        objects.boxes(train, [0])


def test_boxes_in_shares_of_the_image_are_refused(tmp_path):
    """The corner pixel alone is a box, and so is a part of it next to others."""
    shares = "a.png,train,cat,0.1,0.2,0.5,0.9"
    said = "first pixel, such as 0.1, 0.2, 0.5, 0.9; expected pixels: multiply shares"
    with pytest.raises(ValueError, match=said):
        objects.object_folder(folder(tmp_path, (shares,)), "train")
    for rows in (("a.png,train,cat,0,0,1,1",), (shares, "b.png,train,cat,1,1,3,4")):
        train = objects.object_folder(folder(tmp_path, rows), "train")
        assert len(objects.boxes(train, [0])[0]) == 1


def test_a_table_without_a_column_or_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no boxes.csv, no XML of Pascal VOC"):
        objects.object_folder(tmp_path, "train")
    folder(tmp_path, head="path,split,class,x,y,w,h")
    with pytest.raises(ValueError, match="lacks x0, y0, x1, y1; expected the columns"):
        objects.object_folder(tmp_path, "train")
    folder(tmp_path)
    with pytest.raises(ValueError, match="`split`='validation' is not in table"):
        objects.object_folder(tmp_path, "validation")


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "", "nowhere"])
def test_what_is_no_path_is_one_short_sentence(path):
    for given in ({"path": path}, {"path": ".", "images": path or "x" * 5000}):
        with pytest.raises(ValueError, match="expected a") as error:
            objects.object_folder(split="train", **given)
        assert len(str(error.value)) < 400


def test_scenes_are_what_is_drawn():
    found = objects.scenes("test", 3, image_size=48, classes=3)
    for place in range(3):
        scene = synthetic_scenes.draw_scene("test", place, image_size=48, classes=3)
        read = found.images.read(place)
        np.testing.assert_array_equal(read["image"], scene.image)
        np.testing.assert_array_equal(read["boxes"], scene.boxes)
        assert found.labels[place].tolist() == scene.labels.tolist()
    with pytest.raises(ValueError, match="`size`=0"):
        objects.scenes("test", 0)
