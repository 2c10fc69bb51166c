"""Types of JSON objects and of settings."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

Document = Mapping[str, Any]
"""A JSON object, to be read."""

Record = dict[str, Any]
"""A JSON object, to be filled in or changed."""


@runtime_checkable
class Settings(Protocol):
    """Settings of a run: a ConfigDict, with the fields that its defaults have."""

    def __getattr__(self, name: str, /) -> Any: ...

    def __getitem__(self, name: str, /) -> Any: ...
