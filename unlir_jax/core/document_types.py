"""Types of JSON objects."""

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
"""A JSON object, to be read."""

Record = dict[str, Any]
"""A JSON object, to be filled in or changed."""
