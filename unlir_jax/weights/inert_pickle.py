"""Read the data of a pickle without executing it.

A pickle names Python objects, calls them and sets their attributes. Here an
interpreter of its opcodes pushes plain values, and a call is looked up in a table
given by the caller: nothing is imported and no object of the file is ever called.
The standard library's unpickler is not used even with its `find_class` restricted,
because it grows its memo to any index that a file names and hashes any nested key
that a file builds, so 20 hostile bytes can take all the memory or never end. Here every
step and every value is taken from a budget that follows from the size of the file.
"""

import dataclasses
import io
import mmap
import pickletools
from collections.abc import Callable, Mapping

from unlir_jax.weights.budget import Budget

HIGHEST_PROTOCOL = 5

_MISSING = object()

_LITERALS = frozenset(
    "INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLE_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEY_TYPES = (str, int, float, bool, bytes, type(None))
_READERS = {
    opcode.code.encode("latin-1"): (opcode.name, opcode.arg and opcode.arg.reader)
    for opcode in pickletools.opcodes
}

# Bytes that CPython 3.12 takes for each, with the place that points to it; of a dict
# and a list with what the first entry adds, since an empty one is made to be filled.
_SLOT, _LITERAL, _TEXT, _MEMO = 10, 32, 24, 100
_LIST, _DICT, _TUPLE, _ITEM, _OBJECT = 110, 260, 64, 64, 120


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A Python object that the file names, and what stands for it here.

    `build` maps the arguments of a call to an inert value; None: it cannot be called.
    `copies`: what it builds is as long as its first argument.
    """

    module: str
    name: str
    build: Callable[[tuple], object] | None = None
    copies: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object of the file that is kept as a mere name: `module.name`."""

    origin: str


def load(
    stream: io.BytesIO | mmap.mmap,
    globals_: Mapping[tuple[str, str], Global],
    persistent: Callable[[object], object],
    budget: Budget,
) -> object:
    """Return the value of the pickle at `stream`, which is left behind its end.

    Args:
        stream: where the pickle begins (of a kind that, asked for too many bytes,
            gives those that are there and makes no room for the others).
        globals_: the names (module, name) that a file may use.
        persistent: maps a persistent id to an inert value, or raises ValueError.
        budget: what steps and values are taken from.

    Raises:
        ValueError: the pickle is damaged, is cut short, uses a name that is not in
            `globals_` or an opcode that makes instances, or takes more than the budget.
            The text is a clause ("its pickle …") for the caller to put in a sentence.
    """
    machine = _Machine(globals_, persistent, budget)
    while (name := (step := _read_step(stream))[0]) != "STOP":
        budget.steps_left -= 1
        if budget.steps_left < 0:
            budget.refuse()
        machine.step(name, step[1])
    return machine.pop()


def _read_step(stream: io.BytesIO | mmap.mmap) -> tuple[str, object]:
    """Read one opcode, by the standard library's table of them, and its argument."""
    code = stream.read(1)
    if code not in _READERS:
        kind = f"damaged (it has the opcode {code!r})" if code else "cut short"
        raise ValueError(f"its pickle is {kind}")
    name, reader = _READERS[code]
    if reader is None:
        return name, None
    try:
        return name, reader(stream)  # pyright: ignore
    # A bad escape in a text of protocol 0 is only a warning, which the running
    # program may have turned into an exception.
    except (ValueError, OverflowError, DeprecationWarning, SyntaxWarning) as error:
        raise ValueError(f"its pickle is damaged ({error})") from error


class _Machine:
    """The stack, the marks on it and the memo of one pickle."""

    def __init__(
        self,
        globals_: Mapping[tuple[str, str], Global],
        persistent: Callable[[object], object],
        budget: Budget,
    ) -> None:
        self._globals = globals_
        self._persistent = persistent
        self._budget = budget
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def pop(self) -> object:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise ValueError("its pickle is damaged (a value is missing)")
        return self._stack.pop()

    def _push(self, value: object, size: int = 0) -> None:
        """Put a value on the stack, which takes so many bytes of its own."""
        self._budget.spend(_SLOT + size)
        self._stack.append(value)

    def _pop_many(self, count: int) -> list[object]:
        return [self.pop() for _ in range(count)][::-1]

    def _pop_mark(self) -> list[object]:
        if not self._marks:
            raise ValueError("its pickle is damaged (a mark is missing)")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _top(self) -> object:
        value = self.pop()
        self._stack.append(value)
        return value

    def _remember(self, place: object) -> None:
        self._budget.spend(_MEMO)
        if not isinstance(place, int) or not 0 <= place < 2**32:
            raise ValueError("its pickle is damaged (a place of the memo is absurd)")
        self._memo[place] = self._top()

    def step(self, name: str, argument: object) -> None:
        if name in _LITERALS:
            self._push(argument, _LITERAL + _length(argument))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._remember(argument)
        elif name == "MEMOIZE":
            self._remember(len(self._memo))
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            value = self._memo.get(argument, _MISSING)  # pyright: ignore
            if value is _MISSING:
                raise ValueError(f"its pickle is damaged (memo {argument} is empty)")
            self._push(value)
        elif name == "MARK":
            self._budget.spend(_SLOT + _LITERAL)
            self._marks.append(len(self._stack))
        elif name in _CONSTANTS:
            self._push(_CONSTANTS[name])
        elif name == "PROTO":
            if argument not in range(HIGHEST_PROTOCOL + 1):
                raise ValueError(
                    f"its pickle has protocol {argument}, and 0 to "
                    f"{HIGHEST_PROTOCOL} are known"
                )
        elif name == "DUP":
            self._push(self._top())
        elif name == "POP" and self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        elif name == "POP":
            self.pop()
        elif name == "POP_MARK":
            self._pop_mark()
        elif not self._collect(name) and not self._make(name, argument):
            raise ValueError(
                f"its pickle uses the opcode {name}, which weights do not need"
            )

    def _collect(self, name: str) -> bool:
        """Do an opcode of containers; say whether it is one."""
        if name in _TUPLE_LENGTHS:
            self._push(tuple(self._pop_many(_TUPLE_LENGTHS[name])), _TUPLE + 24)
        elif name == "TUPLE":
            values = self._pop_mark()
            self._push(tuple(values), _TUPLE + 8 * len(values))
        elif name == "EMPTY_LIST":
            self._push([], _LIST)
        elif name == "LIST":
            values = self._pop_mark()
            self._push(values, _LIST + 8 * len(values))
        elif name == "APPEND":
            value = self.pop()
            self._extend([value])
        elif name in ("APPENDS", "ADDITEMS"):
            self._extend(self._pop_mark())
        elif name == "EMPTY_DICT":
            self._push({}, _DICT)
        elif name == "DICT":
            pairs = self._pop_mark()
            self._push({}, _DICT)
            self._set_items(pairs)
        elif name == "SETITEM":
            self._set_items(self._pop_many(2))
        elif name == "SETITEMS":
            self._set_items(self._pop_mark())
        elif name == "EMPTY_SET":
            self._push(Opaque("builtins.set"), _TUPLE)
        elif name == "FROZENSET":
            self._pop_mark()
            self._push(Opaque("builtins.frozenset"), _TUPLE)
        else:
            return False
        return True

    def _make(self, name: str, argument: object) -> bool:
        """Do an opcode that names or makes an object; say whether it is one."""
        if name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            self._push(self._find(module, attribute))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop_many(2)
            self._push(self._find(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            made_by, arguments = self._pop_many(2)
            if isinstance(made_by, Global) and made_by.copies:
                copied = arguments[:1] if isinstance(arguments, tuple) else ()
                self._budget.spend(_DICT + _ITEM * sum(map(_length, copied)))
            self._push(call(made_by, arguments), _OBJECT)
        elif name == "BUILD":
            self.pop()
            # The state of an ordered dict holds version numbers; that of an opaque
            # object is as opaque as the object. Nothing else has a state.
            if not isinstance(self._top(), dict | Opaque):
                raise ValueError("its pickle sets the state of a value that has none")
        elif name in ("BINPERSID", "PERSID"):
            identity = argument if name == "PERSID" else self.pop()
            self._push(self._persistent(identity), _OBJECT)
        else:
            return name == "FRAME"
        return True

    def _find(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle is damaged (a global has no name)")
        found = self._globals.get((module, name))
        if found is None:
            raise ValueError(
                f"it asks for the Python object {_shorten(module, name)}, which "
                "weights do not need and which is not run here"
            )
        return found

    def _extend(self, values: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            self._budget.spend(_SLOT * len(values))
            target.extend(values)
        elif not isinstance(target, Opaque):
            raise ValueError("its pickle is damaged (it adds to what is no list)")

    def _set_items(self, pairs: list[object]) -> None:
        target = self._top()
        if isinstance(target, Opaque):
            return
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("its pickle is damaged (it fills what is no dict)")
        self._budget.spend(_ITEM * (len(pairs) // 2))
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Hashing a nested key can take forever, and so can huge numbers of one
            # hash (they repeat at 2^61 - 1); no weight has such a name.
            if isinstance(key, _KEY_TYPES) and _is_small(key):
                target[key] = value


def call(made_by: object, arguments: object) -> object:
    """Return what stands for `made_by(*arguments)`, or raise ValueError."""
    if not isinstance(made_by, Global) or made_by.build is None:
        raise ValueError("its pickle calls a value that cannot be called")
    if not isinstance(arguments, tuple):
        raise ValueError("its pickle is damaged (a call has no arguments)")
    return made_by.build(arguments)


def _length(value: object) -> int:
    """Give the bytes of a literal, or the entries of a container; 0 of all else."""
    if isinstance(value, str):
        return _TEXT + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, int):
        return value.bit_length() // 7
    return len(value) if isinstance(value, bytes | bytearray | list | tuple) else 0


def _is_small(key: object) -> bool:
    return not isinstance(key, int) or abs(key) < 2**60


def _shorten(module: str, name: str, length: int = 100) -> str:
    text = f"{module[:length]}.{name[:length]}"
    printable = text.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= length else printable[:length] + "…"
