"""Configs: Python files that return settings, and settings given on the command line.

A config file has `get_config(argument="")`, which returns a `ConfigDict`, and perhaps
`get_variants(argument="")`, which names the runs of a sweep.
"""

import inspect
import math
import re
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from ml_collections import config_dict

from unlir_jax.core import choices
from unlir_jax.core.document_types import Document, Record
from unlir_jax.core.document_types import Settings as Settings
from unlir_jax.runtime import config_values
from unlir_jax.storage import paths

_PACKAGE = Path(__file__).parents[1]
_BESIDE = _PACKAGE.parent / "configs"
# In a wheel the configs lie in the package. Next to it they are ours in a checkout
# only: `site-packages/configs` would be somebody else's.
_FOLDERS = (_PACKAGE / "configs",) + (
    (_BESIDE,) if _BESIDE.with_name("pyproject.toml").is_file() else ()
)
_VARIANT = "[A-Za-z0-9][A-Za-z0-9._=-]*"


class _File(NamedTuple):
    text: str
    path: Path
    argument: str
    names: Record


class _Leaf(NamedTuple):
    group: ml_collections.ConfigDict
    name: str
    field: Any


def load(text: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Read a config and change settings of it.

    Args:
        text: A file, as a path or the name of one of the packaged configs, and perhaps
            an argument for its `get_config`: `"configs/train.py:data=cub,parts=200"`.
        overrides: `"optimizer.learning_rate=3e-4"`, later ones win. The value is read
            as the type that the setting has; `none` resets a placeholder.

    Returns:
        The settings, locked: none can be added.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not give a config, or a setting is unknown, of another
            type, or left without its value.
    """
    file = _read(text)
    config = _call(file, "get_config")
    if type(config) is not ml_collections.ConfigDict:
        raise ValueError(
            f"`get_config` of {str(file.path)!r} returned a {type(config).__name__}; "
            "expected an ml_collections.ConfigDict."
        )
    for override in overrides:
        _set(config, override)
    to_dict(config)  # Complains of what is missing or cannot be written down.
    return config.lock()


def variants(text: str) -> dict[str, Document]:
    """List the named variants of a config, `{name: {"seed": 1, …}}`, all of them valid.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The config has none, a name cannot be that of a folder, or a setting
            does not exist or is of another type.
    """
    file = _read(text)
    if "get_variants" not in file.names:
        raise ValueError(
            f"Config {str(file.path)!r} has no variants; expected a function "
            "`get_variants` that returns them as {name: {setting: value}}."
        )
    found = _call(file, "get_variants")
    settings = found.values() if isinstance(found, dict) else ()
    if not settings or not all(isinstance(value, dict) for value in settings):
        raise ValueError(
            f"`get_variants` of {str(file.path)!r} returned {found!r}; expected "
            "{name: {setting: value}} with at least one name."
        )
    for name, changed in found.items():
        if not isinstance(name, str) or not re.fullmatch(_VARIANT, name):
            raise ValueError(
                f"Variant {name!r} of {str(file.path)!r} cannot name a folder; "
                "expected letters, digits and . _ = - after a letter or digit."
            )
        load(text, as_overrides(changed))
    return found


def as_overrides(settings: Document) -> list[str]:
    """Write `{"seed": 1}` as `load` and the command line read it: `["seed=1"]`."""
    return [f"{key}={value}" for key, value in settings.items()]


def packaged() -> dict[str, Path]:
    """List the configs that come with the package, `{"configs/train.py": path}`."""
    return {
        f"configs/{path.relative_to(folder).as_posix()}": path
        for folder in _FOLDERS
        for path in sorted(folder.rglob("*.py"))
    }


def find(name: str) -> Path:
    """Find a config: a file, or the name of a packaged one, perhaps without `.py`.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if paths.is_file(name):
        return Path(name)
    known = packaged()
    asked = name if name.startswith("configs/") else f"configs/{name}"
    for each in (asked, f"{asked}.py"):
        if each in known:
            return known[each]
    raise FileNotFoundError(
        f"Config {paths.shown(name)} is not a file{_suggestion(asked, known)} "
        "Expected a path or one of the packaged configs: "
        f"{', '.join(known) or 'there are none'}."
    )


class _Question(str):
    """Ask which arguments a config file has; those who read it note them here."""

    found: Record


def arguments(text: str) -> Record:
    """List the arguments that a config file takes, with their defaults."""
    question = _Question()
    question.found = {}
    file = _read(text)
    if inspect.signature(file.names["get_config"]).parameters:
        _call(file._replace(argument=question), "get_config")
    return question.found


def parse_arguments(text: str, /, **defaults: object) -> types.SimpleNamespace:
    """Read the argument of a config file, `"backbone=resnet18,parts=100,local"`.

    Args:
        text: Names with values, separated by commas; a name alone means true.
        **defaults: Every argument there is. A value is read as the type of its default;
            None stands for an optional text.

    Raises:
        ValueError: An argument is unknown or its value is of another type.
    """
    if isinstance(text, _Question):
        text.found.update(defaults)
    values = dict(defaults)
    # A comma inside brackets belongs to a tuple.
    for item in re.split(r",(?![^(\[]*[)\]])", text) if text.strip() else ():
        name, equals, value = (part.strip() for part in item.partition("="))
        if name not in defaults:
            raise ValueError(
                f"`{name}`: there is no such argument{_suggestion(name, defaults)} "
                f"Arguments: {', '.join(defaults) or 'none'}."
            )
        default = defaults[name]
        kind = str if default is None else type(default)
        if not equals:
            value = "true" if kind is bool else ""
        if not equals and kind is not bool:
            raise ValueError(
                f"`{name}` has no value; expected `{name}=` and "
                f"{config_values.EXPECTED[kind]}."
            )
        values[name] = config_values.convert(
            f"`{name}`", value, kind, default, default is None
        )
    return types.SimpleNamespace(**values)


def to_dict(config: Settings) -> Record:
    """Give the settings as JSON knows them: nested dictionaries, tuples as lists.

    Raises:
        ValueError: A setting is something else, or left without the value it needs.
    """
    return _plain("", config)


def differences(a: Document, b: Document, ignore: Sequence[str] = ()) -> list[str]:
    """List what differs, as `"optimizer.learning_rate: 0.1 here, 0.2 there"`.

    Args:
        a: Settings as `to_dict` gives them: "here".
        b: The same, perhaps read from a file: "there".
        ignore: Settings, or groups of them, that may differ: `"data.workers"`.
    """
    here, there = _flatten(a), _flatten(b)
    return [
        f"{key:.100}: {_show(here, key):.300} here, {_show(there, key):.300} there"
        for key in dict.fromkeys((*here, *there))
        if _show(here, key) != _show(there, key)
        and not any(f"{key}.".startswith(f"{prefix}.") for prefix in ignore)
    ]


def text(config: Any) -> str:
    """Write the settings for people, a line each, groups indented."""

    def lines(group: ml_collections.ConfigDict, indent: str) -> Iterable[str]:
        for name, value in group.items():
            if isinstance(value, ml_collections.ConfigDict):
                yield f"{indent}{name}:"
                yield from lines(value, indent + "  ")
            else:
                yield f"{indent}{name}: {value!r}"

    return "\n".join(lines(config, ""))


def _read(text: str) -> _File:
    name, _, argument = text.partition(":")
    path = find(name)
    names: Record = {"__name__": f"config {path.stem}", "__file__": str(path)}
    file = _File(text, path, argument, names)
    # Not an import: it would leave a __pycache__ in the user's folder.
    _guard(
        file, lambda: exec(compile(path.read_bytes(), str(path), "exec"), file.names)
    )
    return file


def _call(file: _File, name: str) -> Any:
    """Call a function of a config file with the argument, if there is one."""
    function = file.names.get(name)
    if not callable(function):
        raise ValueError(
            f"Config {str(file.path)!r} has no function `{name}`; expected one that "
            "returns the settings."
        )
    parameters = inspect.signature(function).parameters.values()
    if file.argument and not parameters:
        raise ValueError(
            f"`{name}` of {str(file.path)!r} takes no argument; got {file.argument!r}."
        )
    needed = any(parameter.default is parameter.empty for parameter in parameters)
    needed = needed or isinstance(file.argument, _Question)
    given = (file.argument,) if file.argument or needed else ()
    return _guard(file, lambda: function(*given))


def _guard[T](file: _File, run: Callable[[], T]) -> T:
    """Run what the config file brings, and say where it failed."""
    try:
        return run()
    except ValueError as error:
        # That is how a config file refuses its argument.
        raise ValueError(f"Config {file.text!r}: {error}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file.path)]
        line = f" in line {lines[-1]}" if lines else ""
        raise ValueError(
            f"Config {file.text!r} failed with {type(error).__name__}{line}: {error}"
        ) from error


def _set(config: ml_collections.ConfigDict, override: str) -> None:
    key, equals, value = override.removeprefix("--config.").partition("=")
    option = f"`--config.{key}`"
    leaves = _leaves(config)
    if key not in leaves and value.lstrip().startswith("{"):
        return _set_group(config, key, config_values.group(option, value))
    if key not in leaves:
        raise ValueError(_unknown(key, list(leaves)))
    if not equals:
        raise ValueError(f"{option} has no value; expected `--config.{key}=VALUE`.")
    group, name, field = leaves[key]
    reference = isinstance(field, config_dict.FieldReference)
    kind = field.get_type() if reference else type(field)
    like = None if reference else field
    group[name] = config_values.convert(option, value, kind, like, reference)


def _set_group(config: ml_collections.ConfigDict, key: str, value: Record) -> None:
    """Set all of a group: options are replaced, of others each setting is set."""
    *above, name = key.split(".")
    group: Any = config
    for each in above:
        group = (
            group.get(each) if isinstance(group, ml_collections.ConfigDict) else None
        )
    if type(group) is not ml_collections.ConfigDict or not isinstance(
        group.get(name), ml_collections.ConfigDict
    ):
        raise ValueError(_unknown(key, list(_leaves(config))))
    if not name.endswith("options"):
        for setting, item in value.items():
            _set(config, f"{key}.{setting}={item}")
        return
    group[name] = ml_collections.ConfigDict(value)


def _unknown(key: str, settings: Sequence[str]) -> str:
    """Say what there is at the deepest group of a key that does exist."""
    names = key.split(".")
    groups = [
        "".join(f"{name}." for name in names[:depth])
        for depth in range(len(names), -1, -1)
    ]
    inside = {
        group: [name for name in settings if name.startswith(group)] for group in groups
    }
    group = next((group for group in groups if inside[group]), "")
    here = (name.removeprefix(group).split(".")[0] for name in inside[group])
    there = ", ".join(dict.fromkeys(here))
    if group == groups[0]:
        return f"`--config.{key}` is a group; set one of its settings: {there}."
    near = _suggestion(key, settings, "--config.")
    return f"`--config.{key}`: there is no such setting{near} Settings there: {there}."


def _leaves(
    group: ml_collections.ConfigDict, above: tuple[str, ...] = ()
) -> dict[str, _Leaf]:
    found: dict[str, _Leaf] = {}
    for name, field in group.items(preserve_field_references=True):
        if isinstance(field, ml_collections.ConfigDict):
            found |= _leaves(field, (*above, name))
        else:
            found[".".join((*above, name))] = _Leaf(group, name, field)
    return found


def _plain(key: str, value: object) -> Any:
    if isinstance(value, config_dict.FieldReference):
        try:
            value = value.get()
        except config_dict.RequiredValueError as error:
            raise ValueError(
                f"`--config.{key}` has no value; this config needs one."
            ) from error
    if isinstance(value, ml_collections.ConfigDict):
        value = dict(value.items(preserve_field_references=True))
    if isinstance(value, Mapping):
        return {
            str(name): _plain(f"{key}.{name}" if key else str(name), item)
            for name, item in value.items()
        }
    if isinstance(value, tuple | list):
        return [_plain(key, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(
            f"`--config.{key}` is {value}; expected a finite number, for configs are "
            "kept as JSON."
        )
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(
        f"`--config.{key}` is a {type(value).__name__}; expected a bool, int, float, "
        "str, tuple or None, for configs are kept as JSON."
    )


def _flatten(settings: Document, above: str = "") -> Record:
    found: Record = {}
    for name, value in settings.items():
        inner = isinstance(value, Mapping) and value
        found |= _flatten(value, f"{above}{name}.") if inner else {above + name: value}
    return found


def _show(settings: Document, key: str) -> str:
    return repr(settings[key]) if key in settings else "absent"


def _suggestion(word: str, names: Iterable[str], prefix: str = "") -> str:
    """End a sentence, with the name that was perhaps meant."""
    names = list(names)
    # `learning_rate` alone means `optimizer.learning_rate`.
    ends = [name for name in names if name.endswith(f".{word}")]
    near = ends[:1] or choices.near(word, names)
    return f"; did you mean `{prefix}{near[0]}`?" if near else "."
