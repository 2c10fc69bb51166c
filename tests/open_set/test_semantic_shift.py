"""Lists of known, easy and hard classes as the Semantic Shift Benchmark has them."""

import json
import pickle
import re

import pytest
from open_set_worlds import COUNT, draw_colours, read_settings

from unlir_jax.open_set import recognise, semantic_shift, setup

NAMES = [f"colour{number}" for number in range(8)]
LISTS = {
    "known_classes": [0, "colour1", 2, 3],
    "unknown_classes": {"Easy": [7], "Medium": [4], "Hard": ["colour5"]},
    "closed_set_open_set_pairs": {},
}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return draw_colours(tmp_path_factory.mktemp("colours"))


def written(folder, document):
    file = folder / "lists.json"
    file.write_text(json.dumps(document))
    return file


def test_medium_classes_are_hard(tmp_path):
    found = semantic_shift.read(written(tmp_path, LISTS), NAMES)
    assert found.known.tolist() == [0, 1, 2, 3]
    assert found.unknown.tolist() == [4, 5, 7] and found.hard.tolist() == [4, 5]
    # A list says of no class that it is hard; without known ones all others are.
    found = semantic_shift.read(
        written(tmp_path, {"unknown_classes": ["colour7", 4]}), NAMES
    )
    assert found.hard is None and found.known.tolist() == [0, 1, 2, 3, 5, 6]


def test_an_evaluation_scores_easy_and_hard_classes_apart(colours, tmp_path):
    file = written(tmp_path, LISTS)
    summary = recognise.run(
        read_settings(colours, "msp", unknown=file), tmp_path / "run"
    ).summary
    split = json.loads((tmp_path / "run" / "splits" / "000.json").read_text())
    assert split["hard"] == ["colour4", "colour5"]
    # Neither known nor unknown: not scored.
    assert len(split["images"]) == 7 * COUNT["test"]
    easy, hard, every = (
        summary[f"msp/auroc{half}"]["mean"] for half in ("_easy", "_hard", "")
    )
    assert (easy + 2 * hard) / 3 == pytest.approx(every)
    more = {"unknown": file, "known_classes": file}
    with pytest.raises(ValueError, match="`known_classes` with `unknown`="):
        setup.prepare(read_settings(colours, "msp", **more))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Hard and easy" in page and "hard as the list of classes says" in page
    # One split has no interval, so that none is drawn.
    assert not re.search(r"<td>[\d.]+ \[", page)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"known_classes": [0]}, "has no 'unknown_classes'; expected a JSON object"),
        ({"unknown_classes": 3}, "has 3 for classes; expected a JSON object"),
        ({"unknown_classes": {"Hardest": [3]}}, "has unknown classes 'Hardest'"),
        ({"unknown_classes": [8]}, "has the class 8, which is none of the data's 8"),
        ({"unknown_classes": [True]}, "has the class True"),
        ({"unknown_classes": ["grey"]}, "'grey', which is .* labels from 0 to 7, or"),
        ({"unknown_classes": {"Easy": [3], "Hard": [3]}}, "'colour3' more than once"),
        (LISTS | {"known_classes": [0, 4]}, "'colour4' and 0 others are known and"),
        ({"unknown_classes": []}, "8 of 8 classes are known and 0 unknown"),
        ([1], "is no JSON object"),
    ],
)
def test_wrong_lists_get_one_sentence(tmp_path, document, message):
    with pytest.raises(ValueError, match=message):
        semantic_shift.read(written(tmp_path, document), NAMES)


def test_a_pickle_is_not_read(tmp_path):
    file = tmp_path / "lists.pkl"
    file.write_bytes(pickle.dumps(LISTS))
    assert semantic_shift.is_published(str(file))
    with pytest.raises(ValueError, match="is a pickle, which may run code .* JSON"):
        semantic_shift.read(file, NAMES)
    with pytest.raises(ValueError, match="cannot be read .No such file"):
        semantic_shift.read(tmp_path / "none.json", NAMES)
