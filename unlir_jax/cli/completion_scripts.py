"""Scripts with which shells complete the commands, from their parsers and all names."""

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from unlir_jax.runtime import config

FILES = "files"
VALUES = {
    "--method": "methods",
    "--model": "networks",
    "--config": "configs",
    "--label": "",
    "--score": "scores",
}
"""What completes the values of options; of all others with a value, files."""
NAMES = {
    "methods": "methods",
    "metrics": "metrics",
    "models": "networks",
    "configs": "configs",
    "convert": "networks",
    "adapters apply": "networks",
}
"""What completes the first words of commands; of all others, files."""


class Command(NamedTuple):
    """Describe a command for the scripts.

    Attributes:
        words: The words that call it: "adapters apply".
        summary: What it does.
        inner: Commands inside of it.
        options: Its options, with what completes their values: None without a value.
        first: What completes words that are no option.
    """

    words: str
    summary: str
    inner: tuple[str, ...]
    options: Mapping[str, str | None]
    first: str


def commands(parser: argparse.ArgumentParser) -> list[Command]:
    """List the commands of a parser, the program itself first."""
    return list(_commands(parser, "", ""))


def _commands(
    parser: argparse.ArgumentParser, words: str, summary: str
) -> Iterator[Command]:
    options: dict[str, str | None] = {}
    inner: Mapping[str, argparse.ArgumentParser] = {}
    told: dict[str, str] = {}
    choices: Sequence[str] = ()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = action.choices
            told = {each.dest: each.help or "" for each in action._choices_actions}
        elif not action.option_strings:
            choices = tuple(action.choices or ())
        for option in action.option_strings:
            takes = action.nargs != 0
            options[option] = VALUES.get(option, FILES) if takes else None
    first = " ".join(choices) or NAMES.get(words, FILES)
    yield Command(words, summary, tuple(inner), options, "" if inner else first)
    for name, each in inner.items():
        yield from _commands(each, f"{words} {name}".strip(), told.get(name, ""))


def names() -> dict[str, tuple[str, ...]]:
    """List all names, by what they name, other packages included."""
    from unlir_jax import saliency
    from unlir_jax.explanation import descriptions
    from unlir_jax.models import zoo
    from unlir_jax.split import scores

    return {
        "methods": tuple(sorted({*descriptions.factories(), *saliency.SYNONYMS})),
        "metrics": tuple(sorted(descriptions.measures())),
        "networks": tuple(sorted({*zoo.networks(), *zoo.synonyms()})),
        "configs": tuple(config.packaged()),
        "scores": tuple(scores.NAMED),
    }


def script(shell: str, found: Sequence[Command]) -> str:
    """Write the script of a shell."""
    if shell == "fish":
        return "\n".join(_fish(found))
    lines = list(_bash(found))
    if shell == "zsh":
        # Zsh runs what completes for bash.
        return "\n".join([*ZSH, *lines])
    return "\n".join(lines)


ZSH = (
    "(( $+functions[compdef] )) || { autoload -U compinit && compinit; }",
    "autoload -U +X bashcompinit && bashcompinit",
)


def _bash(found: Sequence[Command]) -> Iterator[str]:
    yield "# Completes `unlir` in bash; made by `unlir completion`."
    for kind, values in names().items():
        yield f"_unlir_{kind}={shlex.quote(' '.join(values))}"
    yield from BASH.splitlines()
    yield "_unlir_about() {"
    yield "    case $1 in"
    for command in found:
        options = " ".join(command.options)
        yield f"    {shlex.quote(command.words)})"
        yield f"        inner={shlex.quote(' '.join(command.inner))}"
        yield f"        options={shlex.quote(options)}"
        yield f"        first={shlex.quote(command.first)}"
        yield "        case $2 in"
        for option, kind in command.options.items():
            if kind is not None:
                yield f"        {option}) value={shlex.quote(kind or 'nothing')} ;;"
        yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield "complete -o default -F _unlir unlir"


BASH = r"""
_unlir_fill() {
    # Completes a word out of a list; after a comma, one more of it.
    local word=$1 before= list=$2 each
    if [[ $3 == several && $word == *,* ]]; then
        before=${word%,*},
        word=${word##*,}
    fi
    COMPREPLY=()
    for each in $list; do
        [[ $each == "$word"* ]] && COMPREPLY+=("$before$each")
    done
}
_unlir_values() {
    # Completes what an option takes, or leaves it to the names of files.
    case $1 in
    files | nothing) COMPREPLY=() ;;
    methods) _unlir_fill "$2" "$_unlir_methods" several ;;
    metrics) _unlir_fill "$2" "$_unlir_metrics" ;;
    networks) _unlir_fill "$2" "$_unlir_networks" several ;;
    configs) _unlir_fill "$2" "$_unlir_configs" ;;
    scores) _unlir_fill "$2" "$_unlir_scores" ;;
    *) _unlir_fill "$2" "$1" ;;
    esac
}
_unlir() {
    local word=${COMP_WORDS[COMP_CWORD]} path= each index
    local inner= options= first= value= last=${COMP_WORDS[COMP_CWORD-1]}
    # Bash takes `=` for a word of its own.
    [[ $word == = ]] && word=
    [[ $last == = ]] && last=${COMP_WORDS[COMP_CWORD-2]}
    _unlir_about "" ""
    for ((index = 1; index < COMP_CWORD; index++)); do
        each=${COMP_WORDS[index]}
        if [[ " $inner " == *" $each "* ]]; then
            path=${path:+$path }$each
            _unlir_about "$path" ""
        fi
    done
    value=
    _unlir_about "$path" "$last"
    if [[ -n $value ]]; then
        _unlir_values "$value" "$word"
    elif [[ $word == -* ]]; then
        _unlir_fill "$word" "$options"
    elif [[ -n $inner ]]; then
        _unlir_fill "$word" "$inner"
    else
        _unlir_values "$first" "$word"
    fi
}
"""


def _fish(found: Sequence[Command]) -> Iterator[str]:
    known = names()
    yield "# Completes `unlir` in fish; made by `unlir completion`."
    yield "complete -c unlir -f"
    for command in found:
        called = command.words.split()
        seen = [f"__fish_seen_subcommand_from {word}" for word in called]
        if command.inner:
            others = f"not __fish_seen_subcommand_from {' '.join(command.inner)}"
            when = "; and ".join([*seen, others])
        else:
            when = "; and ".join(seen)
        begin = f"complete -c unlir -n {shlex.quote(when)}"
        inner = [f"{command.words} {name}".strip() for name in command.inner]
        for each in found:
            if each.words in inner:
                name = each.words.split()[-1]
                yield f"{begin} -a {name} -d {shlex.quote(each.summary)}"
        if not command.inner:
            yield begin + _fish_values(command.first, known)
        for option, kind in command.options.items():
            dashes = "-l" if option.startswith("--") else "-s"
            words = f"{begin} {dashes} {option.lstrip('-')}"
            yield words + ("" if kind is None else " -x" * (kind != FILES) + " -r")
            if kind:
                yield words + _fish_values(kind, known)


def _fish_values(kind: str, known: Mapping[str, Sequence[str]]) -> str:
    if kind == FILES:
        return " -F"
    values = known.get(kind, kind.split())
    return f" -x -a {shlex.quote(' '.join(values))}"
