"""Boxes, keypoints and masks beside pictures, and tables and masks that are wrong."""

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from unlir_jax.data import folder, source

WIDTH, HEIGHT = 40, 20


@pytest.fixture
def data(tmp_path):
    """Give a folder with two pictures of 40 x 20 pixels."""
    for name in ("a", "b"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{name}.png")
    return tmp_path


def table(path, *lines, name="index.csv"):
    (path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def examples(path):
    source = folder.folder(path, "all")
    return source, [source.read(index) for index in range(source.size)]


def save_mask(path, values, mode=None):
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if mode == "P":
        image.putpalette([c for k in range(256) for c in (k, 255 - k, 7 * k % 256)])
    elif mode:
        image = image.convert(mode)
    image.save(path)
    return path


def values(*numbers):
    """Make a mask of 40 x 20 pixels with bands of these values, and background."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, number in enumerate(numbers):
        mask[:, 10 * place : 10 * place + 10] = number
    return mask


def test_boxes(data):
    table(
        data,
        "path,x0,y0,x1,y1,note",
        "a.png,1,2,3.5,4,first",
        "b.png,,,,,nothing to be seen",
        "a.png,0,0,40,20,all of it",
    )
    source, (a, b) = examples(data)
    assert source.annotations == ("boxes",) and source.boxes == 2
    np.testing.assert_array_equal(a["boxes"], [[1, 2, 3.5, 4], [0, 0, 40, 20]])
    assert a["boxes"].dtype == b["boxes"].dtype == np.float32
    assert b["boxes"].shape == (0, 4)


def test_boxes_of_no_picture_count_as_one(data):
    table(data, "path,x0,y0,x1,y1", "a.png,,,,", "b.png,,,,")
    assert examples(data)[0].boxes == 1


def test_a_box_may_be_a_pixel_out(data):
    table(data, "path,x0,y0,x1,y1", "a.png,-1,0,41,20.5", "b.png,0,0,1,1")
    _, (a, _) = examples(data)
    np.testing.assert_array_equal(a["boxes"], [[0, 0, 40, 20]])


@pytest.mark.parametrize(
    "box", ["-2,0,5,5", "0,0,42,20", "0,0,5,22", "40,0,41,20", "50,50,60,60"]
)
def test_boxes_out_of_the_picture(data, box):
    table(data, "path,x0,y0,x1,y1", f"a.png,{box}", "b.png,0,0,1,1")
    source = folder.folder(data, "all")
    with pytest.raises(ValueError, match=r"a.png' has 40 x 20 pixels and the box"):
        source.read(0)
    assert source.read(1)["boxes"].tolist() == [[0, 0, 1, 1]]


INDEX = {
    "three columns": (["path,x0,y0,x1", "a.png,1,2,3"], "columns x0, y0, x1 of boxes"),
    "text": (["path,x0,y0,x1,y1", "a.png,1,2,three,4"], "Line 2 .* x1='three'; exp"),
    "infinite": (["path,x0,y0,x1,y1", "a.png,1,2,inf,4"], "Line 2 .* x1='inf'; exp"),
    "half a box": (["path,x0,y0,x1,y1", "a.png,1,2,,4"], "Line 2 .* x1=''; expected a"),
    "turned": (["path,x0,y0,x1,y1", "a.png,3,2,1,4"], "the box 3, 2, 1, 4; expected x"),
    "flat": (["path,x0,y0,x1,y1", "a.png,1,2,3,2"], "expected x0 < x1 and y0 < y1"),
    "no mask": (["path,mask", "a.png,a.png", "b.png,"], "Line 3 .* has mask=''; expec"),
    "lost mask": (
        ["path,mask", "a.png,m.png", "b.png,b.png"],
        "mask='m.png'; expected",
    ),
    "mask outside": (["path,mask", "a.png,../a.png", "b.png,"], "and in it"),
    "two masks": (
        ["path,mask", "a.png,a.png", "a.png,b.png", "b.png,b.png"],
        "Line 3 .* another mask for 'a.png'",
    ),
}


@pytest.mark.parametrize("case", INDEX)
def test_wrong_index(data, case):
    lines, message = INDEX[case]
    table(data, *lines)
    with pytest.raises(ValueError, match=message) as caught:
        folder.folder(data, "all")
    assert "\n" not in str(caught.value)


def test_boxes_for_some_only(tmp_path):
    """Where folders say what the pictures are, the table has to know all of them."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name / "1.png")
    lines = ["path,x0,y0,x1,y1", "x/1.png,1,2,3,4", "lost.png,1,2,3,4"]
    table(tmp_path, *lines)
    with pytest.raises(ValueError, match="has no row for 'y/1.png'"):
        folder.folder(tmp_path, "all")
    table(tmp_path, *lines, "y/1.png,5,6,7,8")
    assert examples(tmp_path)[1][1]["boxes"].tolist() == [[5, 6, 7, 8]]


def test_keypoints(data):
    table(
        data,
        "name,orig_w,box_x0,left eye_x,left eye_y,left eye_vis,tail_x,tail_y,tail_vis",
        "a,500,139,1.5,2.5,1,3,4,0",
        "b,500,139,,,0,40,20,1.0",
        "strange,1,1,,,,,,",
        name="parts.csv",
    )
    source, (a, b) = examples(data)
    # Neither the size nor the box of the picture before it was cut is of this one.
    assert source.annotations == ("keypoints",)
    assert source.parts == ("left eye", "tail")
    np.testing.assert_array_equal(a["keypoints"], [[1.5, 2.5, 1], [0, 0, 0]])
    np.testing.assert_array_equal(b["keypoints"], [[0, 0, 0], [40, 20, 1]])
    assert a["keypoints"].dtype == np.float32


def test_keypoints_without_a_column_of_visibility(data):
    lines = ["name,eye_x,eye_y", "a,5,6", "b,,"]
    table(data, *lines, name="parts.csv")
    _, (a, b) = examples(data)
    np.testing.assert_array_equal(a["keypoints"], [[5, 6, 1]])
    assert not b["keypoints"].any()


def test_a_keypoint_may_be_a_pixel_out(data):
    lines = ["name,eye_x,eye_y,eye_vis", "a,-0.1,3,1", "b,3,20.5,1"]
    table(data, *lines, name="parts.csv")
    a, b = (example["keypoints"] for example in examples(data)[1])
    np.testing.assert_array_equal(a, [[0, 3, 1]])
    np.testing.assert_array_equal(b, [[3, 20, 1]])


@pytest.mark.parametrize("place", ["-1.5,3", "3,22", "41.5,3", "100,-100"])
def test_a_keypoint_beyond_the_edge_is_refused_or_hidden(data, place):
    lines = ["name,tip_x,tip_y,tip_vis,eye_x,eye_y,eye_vis", f"a,5,6,1,{place},1"]
    table(data, *lines, "b,1,1,1,-50,-50,0", name="parts.csv")
    source = folder.folder(data, "all")
    message = (
        r"a.png' has 40 x 20 pixels and the keypoint 'eye' at .*; expected it inside, "
        r"eye_vis=0 where .* or `keypoints_outside`='hide'"
    )
    with pytest.raises(ValueError, match=message) as caught:
        source.read(0)
    assert "\n" not in str(caught.value)
    # One that is said to be invisible may lie anywhere.
    np.testing.assert_array_equal(source.read(1)["keypoints"], [[1, 1, 1], [0, 0, 0]])
    source = folder.folder(data, "all", keypoints_outside="hide")
    np.testing.assert_array_equal(source.read(0)["keypoints"], [[5, 6, 1], [0, 0, 0]])


def test_who_does_not_ask_for_keypoints_is_spared_them(data):
    lines = ["name,eye_x,eye_y", "a,99,3", "b,3,3"]
    table(data, *lines, name="parts.csv")
    table(data, "path,x0,y0,x1,y1", "a.png,1,2,3,4", "b.png,1,2,3,4")
    whole = folder.folder(data, "all")
    ways = [source.subset(whole, np.array([0])), source.cached(whole), whole]
    for each in ways:
        bare = source.narrowed(each)
        assert bare.annotations == () and set(bare.read(0)) == {"image", "label"}
        boxed = source.narrowed(each, ("boxes",))
        assert boxed.annotations == ("boxes",) and "boxes" in boxed.read(0)
        with pytest.raises(ValueError, match="keypoint 'eye'"):
            source.narrowed(each, ("keypoints",)).read(0)
        assert "keypoint 'eye'" in source.reason(each, 0, ("keypoints",))
        assert source.reason(each, 0) == ""


def test_settings_of_annotations(data):
    with pytest.raises(ValueError, match="`annotations`='shown'; expected 'stored'"):
        folder.folder(data, "all", annotations="shown")
    with pytest.raises(ValueError, match="`keypoints_outside`='cut'; expected 'refuse"):
        folder.folder(data, "all", keypoints_outside="cut")


PARTS = {
    "no keypoints": (["name,eye", "a,1", "b,1"], "has no keypoints; expected columns"),
    "half": (["name,eye_x", "a,1", "b,1"], "has no keypoints; expected columns"),
    "text": (["name,e_x,e_y,e_vis", "a,1,?,1", "b,,,0"], "Line 2 .* e_y='[?]'; expect"),
    "nowhere": (
        ["name,e_x,e_y,e_vis", "a,1,,1", "b,,,0"],
        "Line 2 .* e_y=''; expected",
    ),
    "visible": (["name,e_x,e_y,e_vis", "a,1,2,2", "b,,,0"], "e_vis='2'; expected 0 or"),
    "missing": (["name,e_x,e_y", "a,1,2"], "parts.csv' has no row for 'b.png'"),
    "twice": (["name,e_x,e_y", "a,1,2", "a,1,2", "b,1,2"], "Line 3 .* second row for"),
}


@pytest.mark.parametrize("case", PARTS)
def test_wrong_parts(data, case):
    lines, message = PARTS[case]
    table(data, *lines, name="parts.csv")
    with pytest.raises(ValueError, match=message):
        folder.folder(data, "all")


def test_rows_of_another_split_do_not_matter(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / split / "cat" / "1.png")
    lines = ["path,e_x,e_y,e_vis", "train/cat/1.png,1,2,1"]
    table(tmp_path, *lines, name="parts.csv")
    assert folder.folder(tmp_path, "train").read(0)["keypoints"].any()
    with pytest.raises(ValueError, match="no row for 'test/cat/1.png'"):
        folder.folder(tmp_path, "test")


def test_everything_at_once_survives_a_pickle(data):
    table(data, "path,x0,y0,x1,y1", "a.png,1,2,3,4", "b.png,1,2,3,4")
    table(data, "name,e_x,e_y", "a,1,2", "b,3,4", name="parts.csv")
    for name in ("a", "b"):
        save_mask(data / "masks" / f"{name}.png", values(1, 2))
    source, expected = examples(data)
    assert source.annotations == ("boxes", "mask", "keypoints")
    travelled = cloudpickle.loads(cloudpickle.dumps(source))
    for index, example in enumerate(expected):
        found = travelled.read(index)
        assert found.keys() == example.keys()
        for name in source.annotations:
            np.testing.assert_array_equal(found[name], example[name])


def test_masks_by_name(tmp_path):
    """Beside `images/`, below the name of the class, or by the name alone."""
    for place in ("images/a.v1.jpg", "masks/a.v1.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 1).save(tmp_path / place)
    source, (example,) = examples(tmp_path)
    assert source.annotations == ("mask",) and source.name(0) == "images/a.v1.jpg"
    assert (example["mask"] == 1).all() and example["mask"].dtype == np.uint8


def test_masks_by_class(tmp_path):
    for number, name in enumerate(("x", "y"), start=1):
        for place in (name, f"masks/{name}"):
            (tmp_path / place).mkdir(parents=True)
            Image.new("L", (4, 4), number).save(tmp_path / place / "1.png")
    source, found = examples(tmp_path)
    assert source.classes == ("x", "y")
    assert [example["mask"].max() for example in found] == [1, 2]


def test_masks_for_some_only(data):
    save_mask(data / "masks" / "a.png", values(1))
    with pytest.raises(
        ValueError, match=r"masks' has no mask for 'b.png', but for oth"
    ):
        folder.folder(data, "all")
    (data / "masks" / "a.png").rename(data / "masks" / "other.png")
    assert folder.folder(data, "all").annotations == ()


def test_masks_by_table(data):
    save_mask(data / "labels" / "1.png", values(3))
    table(data, "path,mask,class", "a.png,labels/1.png,x", "b.png,labels/1.png,x")
    # The mask is a picture too, but no example: the table names those.
    source, found = examples(data)
    assert source.size == 2 and (found[0]["mask"] == values(3)).all()
    (data / "labels" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Mask .*1.png' does not exist"):
        source.read(0)


def test_a_mask_of_another_size_is_named_when_it_is_read(data):
    save_mask(data / "masks" / "a.png", values(1))
    save_mask(data / "masks" / "b.png", values(1).T)
    source = folder.folder(data, "all")
    assert source.read(0)["mask"].shape == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"b.png' has 20 x 40 pixels"):
        source.read(1)


def test_a_name_that_fits_two_pictures(data):
    Image.new("RGB", (4, 4)).save(data / "a.jpg")
    lines = ["name,e_x,e_y", "a,1,2", "b,1,2"]
    table(data, *lines, name="parts.csv")
    with pytest.raises(ValueError, match="fits 'a.jpg' and 'a.png'; expected a column"):
        folder.folder(data, "all")
