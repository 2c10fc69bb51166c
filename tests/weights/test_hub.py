import pathlib
import sys
import types

import pytest

from unlir_jax.weights import hub


class Failure(Exception):
    pass


def error_classes():
    """The classes of huggingface_hub and how they derive from each other."""
    errors = types.ModuleType("huggingface_hub.errors")
    http = type("HfHubHTTPError", (OSError,), {})
    absent = type("RepositoryNotFoundError", (http,), {})
    entry = type("EntryNotFoundError", (Exception,), {})
    errors.HfHubHTTPError = http
    errors.RepositoryNotFoundError = absent
    errors.GatedRepoError = type("GatedRepoError", (absent,), {})
    errors.RevisionNotFoundError = type("RevisionNotFoundError", (http,), {})
    errors.EntryNotFoundError = entry
    errors.LocalEntryNotFoundError = type(
        "LocalEntryNotFoundError", (FileNotFoundError, entry), {}
    )
    errors.HFValidationError = type("HFValidationError", (ValueError,), {})
    return errors


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A stand-in for the package: a list of files, a folder, the calls made."""
    module = types.ModuleType("huggingface_hub")
    module.errors = error_classes()
    module.files, module.calls, module.failure = ["model.safetensors"], [], None

    def list_repo_files(repo_id, *, revision=None):
        module.calls.append(("list", repo_id, revision))
        if module.failure:
            raise module.failure
        return module.files

    def hf_hub_download(repo_id, filename, *, revision=None):
        module.calls.append(("download", repo_id, filename, revision))
        if module.failure:
            raise module.failure
        return str(tmp_path / filename)

    module.list_repo_files = list_repo_files
    module.hf_hub_download = hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", module.errors)
    return module


@pytest.mark.parametrize("path", ["a/b.pth", pathlib.Path("hf:a/b"), "hf", "./hf:a/b"])
def test_paths_are_returned_as_they_are(path):
    assert hub.resolve(path) == pathlib.Path(path)


@pytest.mark.parametrize(
    ("weights", "call"),
    [
        ("hf:a/b:w.pth", ("download", "a/b", "w.pth", None)),
        ("hf:a/b:sub/w.pth", ("download", "a/b", "sub/w.pth", None)),
        ("hf:a-1/b.c@v1.0:w.pth", ("download", "a-1/b.c", "w.pth", "v1.0")),
        ("hf:a/b@refs/pr/1:w.pth", ("download", "a/b", "w.pth", "refs/pr/1")),
    ],
)
def test_a_named_file_is_downloaded(client, tmp_path, weights, call):
    assert hub.resolve(weights) == tmp_path / call[2]
    assert client.calls == [call]


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["pytorch_model.bin", "a.npz", "model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin", "a.npz"], "pytorch_model.bin"),
        (["README.md", "sub/net.pth", "config.json"], "sub/net.pth"),
    ],
)
def test_a_file_is_chosen(client, tmp_path, files, chosen):
    client.files = files
    assert hub.resolve("hf:a/b@main") == tmp_path / chosen
    assert client.calls == [
        ("list", "a/b", "main"),
        ("download", "a/b", chosen, "main"),
    ]


def test_several_files_are_listed(client):
    client.files = ["b.pth", "README.md", "a.npz"]
    with pytest.raises(ValueError, match=r"2 files.*hf:a/b:a\.npz: a\.npz, b\.pth"):
        hub.resolve("hf:a/b")
    client.files = [f"{number}.pth" for number in range(40)]
    with pytest.raises(ValueError, match=r"40 files.*, …\.$"):
        hub.resolve("hf:a/b")


def test_no_file_of_weights(client):
    client.files = ["README.md", "config.json"]
    with pytest.raises(ValueError, match="no file of weights among its 2 files"):
        hub.resolve("hf:a/b")


@pytest.mark.parametrize(
    "weights",
    [
        "hf:",
        "hf:a",
        "hf:a/b/c",
        "hf:a/b@",
        "hf:a/b:",
        "hf:a/b:../w.pth",
        "hf:a/b:/etc/passwd",
        "hf:a/b:w.pth:x",
        "hf:a/b w",
        "hf: a/b",
        "hf:a/b\n",
        "hf:../b",
        "",
    ],
)
def test_malformed(client, weights):
    with pytest.raises(ValueError, match="expected hf:owner/name"):
        hub.resolve(weights)
    assert client.calls == []


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("RepositoryNotFoundError", ValueError, "names no repository"),
        ("GatedRepoError", ValueError, "is gated"),
        ("RevisionNotFoundError", ValueError, "names no revision"),
        ("EntryNotFoundError", ValueError, "names no file"),
        ("HFValidationError", ValueError, "malformed"),
        ("LocalEntryNotFoundError", ConnectionError, "could not be downloaded"),
        ("HfHubHTTPError", ConnectionError, "could not be downloaded .many lines."),
    ],
)
@pytest.mark.parametrize("weights", ["hf:a/b", "hf:a/b:w.pth"])
def test_errors_of_the_client_become_one_sentence(client, weights, name, error, match):
    client.failure = getattr(client.errors, name)("many\nlines.")
    with pytest.raises(error, match=match) as caught:
        hub.resolve(weights)
    assert caught.value.__cause__ is client.failure
    assert "\n" not in str(caught.value)


def test_any_other_error_is_told_as_a_failed_download(client):
    client.failure = Failure()
    with pytest.raises(ConnectionError, match="Failure.*expected a connection"):
        hub.resolve("hf:a/b")


def test_the_package_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'unlir_jax\[hf\]'"):
        hub.resolve("hf:a/b")


def test_a_companion_comes_from_the_same_place(client, tmp_path):
    file = tmp_path / "folder" / "model.safetensors"
    file.parent.mkdir()
    assert hub.companion(str(file), file, "config.json") is None
    assert client.calls == []
    assert hub.companion("hf:a/b@main", file, "config.json") is None
    assert client.calls == [("download", "a/b", "config.json", "main")]
    (tmp_path / "config.json").write_text("{}")
    found = hub.companion("hf:a/b", file, "config.json")
    assert found == tmp_path / "config.json"
    (file.parent / "config.json").write_text("{}")
    assert hub.companion("hf:a/b", file, "config.json").parent == file.parent


def test_a_companion_that_is_absent_or_out_of_reach(client, tmp_path):
    client.failure = client.errors.EntryNotFoundError("no such entry")
    assert hub.companion("hf:a/b", tmp_path / "w", "config.json") is None
    client.failure = client.errors.LocalEntryNotFoundError("offline")
    with pytest.raises(ConnectionError, match="offline"):
        hub.companion("hf:a/b", tmp_path / "w", "config.json")
