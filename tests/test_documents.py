"""JSON from anybody: a sentence for what is wrong, and memory for the file's size."""

import json
import subprocess
import sys

import pytest

from unlir_jax.storage import documents, locks


@pytest.mark.parametrize(
    "data, told",
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"", "is no JSON"),
        (b"\xff\xfe{", "is no JSON"),
        (b'{"a": 1', "is no JSON"),
        (b"[" + b"[]," * 3_000_000 + b"[]]", "small parts"),
        (b"[" + b'"",' * 3_000_000 + b'""]', "small parts"),
    ],
)
def test_what_is_no_document_gets_a_sentence(tmp_path, data, told):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=told) as caught:
        documents.read_json(path, "a report")
    assert str(path) in str(caught.value) and "expected a report" in str(caught.value)


def test_depth_is_bounded_alike_in_every_python():
    deep = "[" * documents.MOST_DEPTH + "]" * documents.MOST_DEPTH
    assert documents.parse_json(deep, "it") == json.loads(deep)
    assert documents.parse_json("[[], 1, {}]" + " " * 300, "it") == [[], 1, {}]
    for text in (f"[{deep}]", f'{{"a": {deep}}}', f"[[], {{}}, {deep}]"):
        with pytest.raises(ValueError, match="it is nested too deeply"):
            documents.parse_json(text, "it")


def test_an_ordinary_document_is_read_whatever_its_size(tmp_path):
    path = tmp_path / "a.json"
    document = {"pictures": [{"image": f"{n:06d}.jpg"} for n in range(200_000)]}
    path.write_text(json.dumps(document))
    assert documents.read_object(path) == document
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no JSON object"):
        documents.read_object(path)
    with pytest.raises(FileNotFoundError):
        documents.read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="cannot be read"):
        documents.read_json(tmp_path)


def test_a_lock_is_one_process_s_and_ends_with_it(tmp_path):
    path = tmp_path / locks.LOCK
    code = (
        "import sys, time\nfrom unlir_jax.storage import locks\n"
        f"with locks.alone({str(path)!r}):\n print('in', flush=True)\n sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"in\n"
    assert locks.held(path)
    with (
        pytest.raises(ValueError, match="Another process is training"),
        locks.alone(path, doing="training"),
    ):
        pass
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    assert not locks.held(path)
    with locks.alone(path):
        assert path.exists()
    assert not locks.held(tmp_path / "none")
