"""Every page is one file in which no name of a file, class or network is markup."""

import re
import types
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_samples import write_report

from unlir_jax.report import (
    evaluation,
    explanation_page,
    few_shots,
    filter_page,
    overlay,
    part_page,
    part_panel,
    words,
)
from unlir_jax.retrieval import retrieve

BAD = '<script>alert("a")</script>\'&amp;'
FILE = BAD.replace("/", "|")
MADE = "2026-11-29T10:00:00+00:00"
VERSIONS = {"unlir_jax": BAD, "jax": BAD, "python": "3", "backend": BAD, "device": BAD}
PICTURE = Image.new("RGB", (8, 8))
EMPTY = {"meta", "img", "line", "input"}


class Reader(HTMLParser):
    """Collect the text of a page, and check that its tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.text, self.said = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            self.said.append(value or "")
            if name == "src":
                assert value.startswith("data:image/")
            if name == "href":
                # A file next to the page; a colon would name a protocol.
                assert value.startswith("#") or re.fullmatch(r"[\w.%-]+", value)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def scores(share):
    curves = {"insertion_curve": [0.0, share], "deletion_curve": [share, float("nan")]}
    rest = dict.fromkeys((*words.COLUMNS, words.SHOWN), share)
    files = {"overlay": f"{FILE}__map.png", "flat": share == 0, "nearly_flat": True}
    return {**rest, **curves, **files}


def line(part, amount, **more):
    return {"part": part, "contribution": amount, "keypoint": BAD, "seen": 0, **more}


def account():
    entry = {
        "class": {"name": BAD},
        "shown": [line(0, 1.25), line(1, -0.5)],
        **{"others": {"parts": 2}, "bias": 0.1, "total": 1.0, "logit": 0.2},
    }
    entry["contrast"] = {**entry, "rival": {"name": BAD}, "logits": [1.0, 2.0]}
    return entry


def explain(methods=("grad_cam", BAD), controls=("center", "edges")):
    views = {
        name: overlay.View(PICTURE, PICTURE, signed)
        for name, signed in zip(methods, (False, True), strict=True)
    }
    label = {"index": 1, "name": BAD, "probability": 0.5, "source": "asked"}
    entry = {
        **{"file": f"folder/{FILE}", "sheet": f"{FILE}__sheet.png"},
        **{"label": label, "top5": [label, {**label, "index": 0}]},
        "methods": {name: scores(0.5 * n) for n, name in enumerate(methods)},
        "controls": {name: scores(0.25 + n) for n, name in enumerate(controls)},
    }
    told = part_panel.panel(BAD, account(), dict.fromkeys((0, 1), PICTURE), {}, BAD)
    small = dict.fromkeys(controls, PICTURE)
    article = explanation_page.article(BAD, PICTURE, entry, views, small, told)
    rows = entry["methods"] | entry["controls"]
    document = {
        **{"model": BAD, "layer": BAD, "created": MADE, "versions": VERSIONS},
        **{"weights": {"source": BAD, "sha256": "0" * 64}, "images": [entry] * 2},
        "settings": {"methods": list(methods), "controls": list(controls), "a": BAD},
        **{"mean": rows, "flat": dict.fromkeys(rows, 1), "failed": [{"error": BAD}]},
        "nearly_flat": dict.fromkeys(rows, 1),
    }
    return explanation_page.page(document, [article] * 2)


def evaluate():
    metrics, names = ["insertion", "road@" + BAD], ["grad_cam", BAD, "center"]
    figure = {"mean": 0.5, "low": 0.25, "high": 0.75}
    terms = dict.fromkeys(evaluation.terms.TERMS, BAD)
    contract = {**terms, "resize": BAD, "settings": {"baseline": BAD, "signs": None}}
    pair = {"metric": "insertion", "first": BAD, "second": "center", "holm": 0.5}
    ranking = {"methods": names, "reversals": 0.5, "always_first": BAD, "lowest": 0.0}
    found = {f"{name}/{m}": figure for name in names for m in metrics}
    found |= {
        "about": {
            **{"model": BAD, "layer": BAD, "images": 3, "methods": names[:2]},
            **{"controls": names[2:], "metrics": metrics, "versions": VERSIONS},
            **{"statistics": {"confidence": 0.95}, "flat": dict.fromkeys(names, 1)},
            **{"undefined": {"road": {"pictures": 1, "first": BAD}}, "notices": [BAD]},
            **{"unreadable": [BAD], "unreadable_why": BAD},
            "nearly_flat": dict.fromkeys(names, 1),
        },
        "contract": {name: contract for name in metrics},
        "comparisons": [
            {**pair, "difference": 0.1, "low": 0.0, "high": 1.0, "win_rate": 1.0}
        ],
        "rankings": {"road": {**ranking, "metrics": metrics}},
        **{"thresholds": {}, "cautions": [BAD]},
    }
    views = {name: overlay.View(PICTURE, PICTURE) for name in names}
    shown = types.SimpleNamespace(
        **{"kind": "best", "name": BAD, "picture": PICTURE, "views": views},
        **{"scores": dict.fromkeys(names, 0.5), "judge": "insertion", "framed": True},
    )
    rows = types.SimpleNamespace(curves={"insertion_curve": np.ones((2, 3, 4)) / 2})
    return evaluation.page(found, rows, [shown])


def shots():
    names, cell = [BAD, "probe"], {"test/accuracy": 0.5, "trained_parameters": 1234}
    cell |= {"test/accuracy_low": 0.4, "test/accuracy_high": 0.6, "seconds_per_draw": 2}
    against = "test/accuracy_against_probe"
    summary = {
        **{"methods": names, "k": [1, 5], "model": BAD, "ways": 5, "draws": 1},
        **{"test_examples": 9, "unlabelled": 3, "versions": VERSIONS},
        "1/best_probe": "probe",
    }
    for k in (1, 5):
        summary |= {f"{name}/{k}/{what}": cell[what] for name in names for what in cell}
        summary |= {f"{BAD}/{k}/{against}{end}": 0.1 for end in ("", "_low", "_high")}
    return few_shots.page(summary, b"png")


def filters():
    entry = {"name": f"{BAD}/norm/output", "place": [3], "weight": 1.1}
    entry["regions"] = [{"value": 3.0}, {"value": 1.0}]
    side = {"probability": 0.5, "first": {"name": BAD}}
    told = {"file": BAD, "folder": BAD, "label": {"name": "003.Cat"}}
    sections = [
        filter_page.layers(PICTURE),
        filter_page.filters("Raised", [(entry, [(BAD, PICTURE)])]),
        filter_page.filters("Lowered", []),
        filter_page.saliency(
            [({**told, "before": side, "after": side}, PICTURE, [PICTURE] * 2)], True
        ),
    ]
    weights = dict.fromkeys(("least", "largest", "raised", "lowered"), 0.5)
    document = {
        **{"adapter": {"file": BAD}, "model": BAD, "count": 12345, "weights": weights},
        **{"pictures": 3, "created": MADE, "versions": VERSIONS},
        "failed": [{"error": BAD}],
    }
    return filter_page.page(document, sections)


def parts():
    crops = [({"picture": BAD}, PICTURE)]
    known = [
        {
            **line(part, 0.5, strength=0.5, share=0.1, classes=[]),
            "classes": [{"class": 0, "contribution": 0.5}],
            "keypoint": {"name": BAD, "share": 0.5},
        }
        for part in (0, 1)
    ]
    category = {"class": 0, "pictures": 4}
    sections = [
        part_page.parts([(each, crops) for each in known], [BAD]),
        part_page.categories(
            [(category, [(known[0], crops), (known[1], crops)])], [BAD], known, [0]
        ),
        part_page.contrast(
            {**account()["contrast"], "pictures": 3}, [[[PICTURE]] * 2] * 2
        ),
    ]
    document = {
        **{"workdir": BAD, "model": BAD, "created": MADE, "versions": VERSIONS},
        **{"figures": {"test/nmi": 0.5}, "left_out": [BAD], "missing": ""},
        **{"shown": {"categories": [0]}, "contrast": {}},
    }
    gallery = {"parts": known, "classes": [BAD], "pictures": 8}
    return part_page.page(document, gallery, sections)


def found_again(tmp_path):
    path = tmp_path / "<b>" / '<script>alert("a")<|script>.png'
    path.parent.mkdir()
    PICTURE.save(path)
    document = {
        **{"model": BAD, "index": 3, "white_level": "auto"},
        "measured": {"classes": 2, "mean_average_precision": 0.5},
        "queries": [
            {"file": str(path), "matches": [{"file": str(path), "score": 0.5}]}
        ],
    }
    return retrieve._page(document, {path: str(path)})


PAGES = {
    "explain": explain,
    "evaluate": evaluate,
    "few shots": shots,
    "filters": filters,
    "parts": parts,
    "retrieve": found_again,
}


@pytest.mark.parametrize(
    ("panels", "row"),
    [(2, 2), (5, 5), (6, 3), (7, 4), (8, 4), (9, 3), (10, 5), (11, 4), (13, 5)],
)
def test_no_panel_is_alone_in_its_row(panels, row):
    assert explanation_page.columns(panels) == row
    assert panels % row != 1


def test_three_photographs_and_four_methods_are_small(tmp_path):
    """A megabyte and a half of WebP, though these pictures are noisier than most."""
    assert write_report(tmp_path / "report.html").stat().st_size <= 1_500_000


@pytest.mark.parametrize("name", PAGES)
def test_a_name_is_text_wherever_it_stands(name, tmp_path):
    page = PAGES[name](*([tmp_path] if name == "retrieve" else []))
    assert type(page) is str or page.__html__() == page
    reader = Reader(page)
    assert page.startswith("<!doctype html>")
    assert not {"link", "b"} & set(reader.seen)
    assert reader.seen.count("script") == (name == "explain")
    assert BAD in "".join(reader.text)
    # In the title at the least, and, where a picture has one, in its description.
    assert name == "few shots" or any("alert(" in value for value in reader.said)
    assert "&amp;lt;" not in page.replace("&#39;&amp;amp;", "")
