"""The job end to end, on tiny pictures and a small network."""

import json
import re
import warnings
from urllib import parse

import jax
import numpy as np
import pytest
import small_network
from PIL import Image

from unlir_jax import cli, maps, metrics, saliency
from unlir_jax.data import image_files
from unlir_jax.explanation import explain, measures
from unlir_jax.models import pretrained
from unlir_jax.report import html, overlay, words
from unlir_jax.storage import files as record
from unlir_jax.weights import readers

METHODS = ("grad_cam", "opti_cam")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(small_network.write(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Make a folder of pictures of every awkward kind, and two that are broken."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 256, (48, 60, 3), dtype=np.uint8))
    colour.save(folder / "cat.png")
    (folder / "below").mkdir()
    colour.transpose(Image.Transpose.ROTATE_90).save(folder / "below" / "Cat.webp")
    colour.convert("L").save(folder / "grey.png")
    colour.convert("RGBA").save(folder / "odd $name_1$ <b>&'é猫.png")
    Image.fromarray(random.integers(0, 65536, (40, 40), dtype=np.uint16)).save(
        folder / "deep.png"
    )
    upright = Image.Exif()
    upright[0x0112] = 6
    colour.save(folder / "turned.jpg", exif=upright)
    Image.new("RGB", (300, 2), (10, 200, 30)).save(folder / "wide.png")
    Image.new("RGB", (1, 1), (10, 200, 30)).save(folder / "dot.png")
    (folder / "text.png").write_text("This is no image.")
    whole = (folder / "turned.jpg").read_bytes()
    (folder / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("Not asked for.")
    return folder


@pytest.fixture(scope="module")
def report(photos, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "new" / "report"
    arguments = ["explain", str(photos), "--output", str(folder), "--steps", "2"]
    arguments += ["--model", small_network.NAME, "--weights", weights]
    assert cli.main([*arguments, "--batch-size", "3"]) == 1
    return folder


@pytest.fixture(scope="module")
def results(report):
    return json.loads((report / record.RESULTS).read_text("utf-8"))


def run(photos, weights, output, **settings):
    settings = {"methods": ("grad_cam",), "controls": False} | settings
    return explain.run(
        photos, output, model=small_network.NAME, weights=weights, **settings
    )


def test_everything_is_written(report, results):
    names = {path.name for path in report.iterdir()}
    assert names == set(results["files"])
    assert {"report.html", "results.json", "grey__sheet.png"} <= names
    for entry in results["images"]:
        drawn = [row["overlay"] for row in entry["methods"].values()]
        for file in (*drawn, entry["sheet"]):
            with Image.open(report / file) as image:
                image.load()
                assert min(image.size) >= 448
    assert not [path for path in report.parent.iterdir() if path != report]


def test_results_hold_what_was_promised(results, weights):
    assert results["schema"] == 1
    assert results["model"] == small_network.NAME
    assert results["layer"] == "layer3"
    assert results["weights"]["source"] == "small.safetensors"
    assert re.fullmatch("[0-9a-f]{64}", results["weights"]["sha256"])
    assert results["settings"]["methods"] == list(METHODS)
    assert results["settings"]["hyper_parameters"]["opti_cam"]["steps"] == 2
    assert results["settings"]["baselines"] == measures.BASELINES
    assert {"unlir_jax", "jax", "jaxlib", "flax", "python", "backend"} <= set(
        results["versions"]
    )
    assert results["not_finite"] == 0
    assert len(results["images"]) == 8
    for entry in results["images"]:
        label = entry["label"]
        assert label["source"] == "predicted"
        assert label["index"] == entry["top5"][0]["index"]
        assert label["name"] == f"class {label['index']}"
        chances = [guess["probability"] for guess in entry["top5"]]
        assert chances == sorted(chances, reverse=True)
        assert label["probability"] == chances[0]
        assert tuple(entry["methods"]) == METHODS
        assert tuple(entry["controls"]) == tuple(saliency.CONTROLS)
        for row in (*entry["methods"].values(), *entry["controls"].values()):
            for metric in (*words.COLUMNS, "masked_probability"):
                assert 0 <= row[metric] <= 1
            assert isinstance(row["flat"], bool)
            assert len(row["insertion_curve"]) == measures.CURVE_STEPS + 1
            # The last picture of insertion, and the first of deletion, is the picture.
            whole = pytest.approx(label["probability"], abs=1e-5)
            assert row["insertion_curve"][-1] == whole
            assert row["deletion_curve"][0] == whole
    for name, row in results["mean"].items():
        drops = [
            (entry["methods"] | entry["controls"])[name]["average_drop"]
            for entry in results["images"]
        ]
        assert row["average_drop"] == pytest.approx(np.mean(drops), abs=1e-6)


def test_broken_files_are_reported_and_the_rest_is_done(results):
    failed = {failure["file"].rpartition("/")[2] for failure in results["failed"]}
    assert failed == {"text.png", "torn.jpg"}
    assert all("cannot be read" in failure["error"] for failure in results["failed"])


def test_flat_maps_are_counted_and_said(report, results):
    """A picture of one colour has no edges, so that control is flat."""
    flat = [e["file"] for e in results["images"] if e["controls"]["edges"]["flat"]]
    assert {file.rpartition("/")[2] for file in flat} >= {"wide.png", "dot.png"}
    assert results["flat"]["edges"] == len(flat)


def test_the_page_stands_alone(report, results):
    page = (report / "report.html").read_text("utf-8")
    # Its one script is that of the package, and the browser runs no other.
    head, script, foot = re.split("<script>|</script>", page)
    assert script == html.script("panels.js").text
    assert f"script-src '{html.script('panels.js').hash}'" in head
    page = head + foot
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    files = {parse.quote(name) for name in results["files"]} - {"report.html"}
    linked = {each for each in addresses if not each.startswith(("data:image/", "#"))}
    assert linked == files
    assert "url(" not in page and "@import" not in page
    targets = {address[1:] for address in addresses if address.startswith("#")}
    assert targets <= set(re.findall(r' id="([^"]*)"', page))
    assert targets >= set(re.findall(r'<article id="([^"]*)"', page))
    assert {f"method-{name}" for name in (*METHODS, *saliency.CONTROLS)} < targets
    assert "odd $name_1$ &lt;b&gt;&amp;&#39;é猫.png" in page
    panels = 8 * (1 + 2 * len(METHODS) + len(saliency.CONTROLS))
    assert page.count("<img ") == page.count('alt="') == panels
    assert "cannot be read as an image" in page


def test_raw_maps_are_kept(report, results):
    with np.load(report / "maps.npz") as kept:
        names = {
            entry["sheet"].removesuffix("__sheet.png") for entry in results["images"]
        }
        kinds = (*METHODS, *saliency.CONTROLS)
        assert set(kept.files) == {f"{name}/{kind}" for name in names for kind in kinds}
        raw = kept["grey/grad_cam"]
        assert raw.dtype == np.float32 and raw.ndim == 2 and np.ptp(raw) > 0
        drawn = overlay.masks(raw[None], (448, 448))[0]
    with Image.open(report / "grey__grad_cam.png") as image:
        shown = np.asarray(image, float).sum(-1)
    # Inferno is bright where the map is high.
    assert np.corrcoef(drawn.ravel(), shown.ravel())[0, 1] > 0.5


def test_names_stay_apart(report, results):
    """Two files of one stem, even in other letters, do not overwrite each other."""
    sheets = [entry["sheet"].casefold() for entry in results["images"]]
    assert len(set(sheets)) == len(sheets)
    assert {"cat__sheet.png", "cat-2__sheet.png"} <= set(sheets)


@pytest.mark.exhaustive
def test_scores_are_those_of_the_library(photos, weights, results):
    """One picture alone, by the public functions, against the batch of the job."""
    network = pretrained.load(small_network.NAME, weights, fold=True)
    image = network.preprocess(photos / "cat.png")[None]
    entry = next(e for e in results["images"] if e["file"].endswith("cat.png"))
    labels = np.array([entry["label"]["index"]])
    variables = network.variables
    for name, group in (("grad_cam", "methods"), ("random", "controls")):
        explainer = saliency.METHODS[name](network.model)
        drawn = explainer(variables, image, labels, key=jax.random.key(0))
        row = entry[group][name]
        scores = metrics.average_scores(network.model)(variables, image, labels, drawn)
        insertion = metrics.insertion(network.model, baseline="blur", steps=28)
        scores |= insertion(variables, image, labels, drawn)
        for metric in ("average_drop", "average_gain", "insertion"):
            assert row[metric] == pytest.approx(float(scores[metric][0]), abs=2e-5)
        assert row["flat"] == bool(maps.is_flat(drawn)[0])


@pytest.mark.exhaustive
def test_pictures_of_shares_of_white(photos, weights, tmp_path, capsys):
    Image.fromarray(np.full((40, 40), 0.6, np.float32)).save(tmp_path / "deep.tif")
    (tmp_path / "phone.heic").touch()
    words = ["explain", str(tmp_path), "--model", small_network.NAME]
    words += ["--weights", weights, "--method", "grad_cam", "--no-controls"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main([*words, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "`white_level`=1 or `white_level`=255" in said
    assert said.count("1 file in folders left out") == 1 and ".heic (1)" in said
    (tmp_path / "phone.heic").unlink()
    words += ["--white-level", "1", "--output", str(tmp_path / "out")]
    assert cli.main(words) == 0
    results = json.loads((tmp_path / "out" / record.RESULTS).read_text("utf-8"))
    assert results["settings"]["white_level"] == "1"


def test_a_network_that_gives_no_numbers_is_no_report(photos, weights, tmp_path):
    arrays = readers.read(weights)
    large = {n: a * np.float32(1e30 if "kernel" in n else 1) for n, a in arrays.items()}
    file = tmp_path / "large.safetensors"
    readers.write_safetensors(file, large)
    command = ["explain", str(photos / "cat.png"), "--output", str(tmp_path / "out")]
    command += ["--model", small_network.NAME, "--weights", str(file)]
    assert cli.main([*command, "--method", "grad_cam"]) == cli.DIVERGED
    assert [path.name for path in tmp_path.iterdir()] == ["large.safetensors"]


def test_maps_that_are_no_numbers_are_no_report(photos, weights, tmp_path, monkeypatch):
    made = explain.explainers.make

    def broken(*given):
        explainer = made(*given)
        return lambda *a, **k: explainer(*a, **k) * np.float32(np.nan)

    monkeypatch.setattr(explain.explainers, "make", broken)
    with pytest.raises(FloatingPointError, match=r"maps of grad_cam .*cat\.png"):
        run([str(photos / "cat.png")], weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_label_by_name(photos, weights, tmp_path):
    outcome = run([str(photos / "cat.png")], weights, tmp_path / "out", label="CLASS_7")
    assert len(outcome.explained) == 1
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    label = document["images"][0]["label"]
    assert (label["index"], label["source"]) == (7, "given")
    assert document["images"][0]["controls"] == {}


@pytest.mark.exhaustive
def test_few_programs_are_lowered(photos, weights, tmp_path, caplog):
    """Each takes time at the first call: with two methods and four controls 25."""
    jax.clear_caches()
    settings = {"methods": METHODS, "steps": 2, "controls": True}
    with jax.log_compiles():
        run([str(photos / "cat.png")], weights, tmp_path / "out", **settings)
        once = _compiled(caplog)
        more = [str(photos / "cat.png"), str(photos / "grey.png")]
        run(more, weights, tmp_path / "more", **settings)
    assert 10 < len(once) <= 25
    # Any number of images needs the same programs: those that are kept will do.
    assert set(_compiled(caplog)) <= set(once)


def _compiled(caplog):
    """Name the programs since the last call, with the shapes that they take."""
    found = [text for text in caplog.messages if text.startswith("Compiling ")]
    caplog.clear()
    return [text.partition(" Argument mapping")[0] for text in found]


@pytest.mark.exhaustive
def test_only_a_previous_report_is_replaced(photos, weights, tmp_path):
    output = tmp_path / "out"
    both = [str(photos / "cat.png"), str(photos / "grey.png")]
    run(both, weights, output)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        run(both[:1], weights, output)
    run(both[:1], weights, output, overwrite=True)
    assert sorted(path.name for path in output.iterdir()) == [
        "cat__grad_cam.png",
        "cat__sheet.png",
        "maps.npz",
        "notes.txt",
        "report.html",
        "results.json",
    ]
    (output / "grey__sheet.png").write_text("mine too")
    with pytest.raises(ValueError, match="'grey__sheet.png', which no previous"):
        run(both, weights, output, overwrite=True)


@pytest.mark.exhaustive
def test_a_failure_leaves_nothing(photos, weights, tmp_path, monkeypatch):
    output = tmp_path / "out"
    run([str(photos / "cat.png")], weights, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(explain.explanation_page, "page", fail)
    with pytest.raises(OSError, match="No space"):
        run([str(photos / "grey.png")], weights, output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    with pytest.raises(OSError, match="No space"):
        run([str(photos / "grey.png")], weights, tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.exhaustive
def test_progress_grows_to_the_end(photos, weights, tmp_path):
    shares = []
    run(
        [str(photos / "cat.png"), str(photos / "grey.png")],
        weights,
        tmp_path / "out",
        batch_size=1,
        progress=lambda doing, share: shares.append(share),
    )
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def test_find_pictures(photos, monkeypatch):
    monkeypatch.chdir(photos)
    found = image_files.find_pictures(
        ["cat.png", ".", "*.jpg", "none*.png", "missing.png"]
    )
    names = [str(path) for path in found.files]
    assert names[0] == "cat.png"
    assert len(names) == len(set(names)) == 11
    assert "below/Cat.webp" in names and "missing.png" in names
    assert "notes.txt" not in names
    assert found.unmatched == ["none*.png"]
    outside = image_files.find_pictures(["."], outside="below")
    assert "below/Cat.webp" not in map(str, outside.files)


@pytest.mark.filterwarnings("default:.*left out")
def test_links_to_folders_are_followed_and_end(photos, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "deep").mkdir(parents=True)
    here.mkdir()
    for name in ("1.png", "deep/2.png", ".hidden.png"):
        (there / name).write_bytes((photos / "cat.png").read_bytes())
    (here / "linked").symlink_to(there)
    (here / "3.png").symlink_to(there / "deep" / "2.png")
    (here / "lost.png").symlink_to(there / "none.png")
    # Upwards, and two that lead to each other.
    (there / "deep" / "up").symlink_to(here)
    (there / "back").symlink_to(here / "linked")
    found = image_files.find_pictures([str(here)]).files
    # A picture that two names lead to is taken once, by the first of them.
    assert [path.relative_to(here).as_posix() for path in found] == [
        "3.png",
        "linked/1.png",
    ]
    # A pattern goes as deep, and ends as well.
    (there / "deep" / "here").symlink_to(there / "deep")
    names = {}
    for pattern in ("**/*.png", "*/**/1.png", "**/linked/*", "**/deep", "**", "**/2.*"):
        found = image_files.find_pictures([str(here / pattern)]).files
        names[pattern] = [path.name for path in found]
    assert names == {
        "**/*.png": ["3.png", "1.png"],
        "*/**/1.png": ["1.png"],
        "**/linked/*": ["1.png", "2.png"],
        "**/deep": ["2.png"],
        "**": ["3.png", "1.png"],
        "**/2.*": ["2.png"],
    }
    (here / "3.png").unlink()
    found = image_files.find_pictures([str(here)], outside=there / "deep").files
    assert [path.name for path in found] == ["1.png"]


def test_what_json_lacks_is_null_and_counted():
    text = record.to_json({"a": [float("nan"), 1.5], "b": {"c": float("-inf")}})
    assert json.loads(text) == {"a": [None, 1.5], "b": {"c": None}, "not_finite": 2}
