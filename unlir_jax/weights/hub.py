"""Find a file of weights: a path of this machine, or a file of the Hugging Face Hub."""

import importlib
import os
import pathlib
import re
from types import ModuleType

from unlir_jax.core import extras
from unlir_jax.storage import paths

PREFERRED = ("model.safetensors", "pytorch_model.bin")
"""Taken first, in this order, where `hf:owner/name` names no file."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")
"""The only file of a repository that ends so is taken where no preferred one is."""

_SCHEME = "hf:"
_FORM = "hf:owner/name, hf:owner/name@revision, hf:owner/name:file or a path"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_REFERENCE = re.compile(
    rf"hf:(?P<repository>{_PART}/{_PART})"
    rf"(?:@(?P<revision>{_PART}(?:/{_PART})*))?"
    rf"(?::(?P<file>{_PART}(?:/{_PART})*))?"
)


def resolve(weights: str | os.PathLike) -> pathlib.Path:
    """Return the path of a file of weights, downloaded first where it is on the Hub.

    Args:
        weights: a path, returned as it is (it need not exist), or a text
            `hf:owner/name[@revision][:file]`. Without a file the first of `PREFERRED`
            is taken, else the only file with one of `SUFFIXES`. Give the revision as a
            commit to get the same bytes for ever.

    Raises:
        ValueError: the text is malformed, or the Hub has no such repository,
            revision or file, or several files to choose from.
        ConnectionError: the Hub cannot be reached or does not answer as it should.
        ImportError: `huggingface_hub` is not installed.
    """
    if not isinstance(weights, str) or not weights.startswith(_SCHEME):
        if not os.fspath(weights):
            raise ValueError(f"`weights`={weights!r} is empty; expected {_FORM}.")
        paths.check(weights, "weights")
        return pathlib.Path(weights)
    match = _REFERENCE.fullmatch(weights)
    if match is None:
        raise ValueError(f"`weights`={weights!r} is malformed; expected {_FORM}.")
    hub = _import_hub()
    repository, revision, file = match.group("repository", "revision", "file")
    if file is None:
        files = _ask(hub, weights, "list_repo_files", repository, revision=revision)
        file = _choose(list(files), weights)
    path = _ask(
        hub, weights, "hf_hub_download", repository, filename=file, revision=revision
    )
    return pathlib.Path(path)


def companion(weights: object, path: pathlib.Path, name: str) -> pathlib.Path | None:
    """Return another file of the same folder or repository, None where there is none.

    Args:
        weights: as `resolve` was asked for.
        path: what it returned.
        name: of the other file.

    Raises:
        ConnectionError: the Hub cannot be reached, and the file is not in the cache.
        ImportError: as `resolve`.
    """
    beside = path.parent / name
    if beside.is_file():
        return beside
    if not isinstance(weights, str):
        return None
    match = _REFERENCE.fullmatch(weights)
    if match is None:
        return None
    hub = _import_hub()
    repository, revision = match.group("repository", "revision")
    try:
        found = hub.hf_hub_download(repository, filename=name, revision=revision)
    # Which library carries the requests, and so its errors, changes with the version.
    except Exception as error:
        errors = hub.errors
        absent = isinstance(error, errors.EntryNotFoundError)
        if absent and not isinstance(error, errors.LocalEntryNotFoundError):
            return None
        raise ConnectionError(str(_explain(error, hub, weights))) from error
    return pathlib.Path(found) if pathlib.Path(found).is_file() else None


def _ask(hub: ModuleType, weights: str, function: str, /, *args, **kwargs):
    try:
        return getattr(hub, function)(*args, **kwargs)
    # Which library carries the requests, and so its errors, changes with the version.
    except Exception as error:
        raise _explain(error, hub, weights) from error


def _import_hub() -> ModuleType:
    with extras.needed("hf"):
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")


def _choose(files: list[str], weights: str) -> str:
    for file in PREFERRED:
        if file in files:
            return file
    candidates = sorted(file for file in files if file.endswith(SUFFIXES))
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ValueError(
            f"`weights`={weights!r} has no file of weights among its {len(files)} "
            f"files; expected one that ends in {', '.join(SUFFIXES)}."
        )
    shown = ", ".join(candidates[:10]) + (", …" if len(candidates) > 10 else "")
    raise ValueError(
        f"`weights`={weights!r} has {len(candidates)} files of weights; expected one "
        f"of them to be named, as in {weights}:{candidates[0]}: {shown}."
    )


def _explain(error: Exception, hub: ModuleType, weights: str) -> Exception:
    """Return the one sentence that an error of the Hub's client comes down to."""
    errors = hub.errors
    # The classes derive from each other: what is only absent from the local cache
    # counts as an absent entry, and a gated repository as an absent one.
    if isinstance(error, errors.GatedRepoError):
        return ValueError(
            f"`weights`={weights!r} is gated; expected an account that its owners let "
            "in (`hf auth login`), or the path of a file."
        )
    if not isinstance(error, errors.LocalEntryNotFoundError):
        for kind, what in (
            (errors.RepositoryNotFoundError, "repository (or it is private)"),
            (errors.RevisionNotFoundError, "revision"),
            (errors.EntryNotFoundError, "file"),
        ):
            if isinstance(error, kind):
                return ValueError(
                    f"`weights`={weights!r} names no {what} of the Hugging Face Hub; "
                    f"expected {_FORM} that exists."
                )
        if isinstance(error, errors.HFValidationError):
            return ValueError(f"`weights`={weights!r} is malformed; expected {_FORM}.")
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return ConnectionError(
        f"`weights`={weights!r} could not be downloaded ({reason}); expected a "
        "connection to the Hugging Face Hub, a file named after the repository and "
        "downloaded before, or the path of a file."
    )
