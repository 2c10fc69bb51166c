"""Read the data of a pickle without running the program that a pickle is.

A pickle names Python objects, calls them and sets their attributes. Here an
interpreter of its opcodes pushes plain values, and a call is looked up in a table
given by the caller: nothing is imported and no object of the file is ever called.
The standard library's unpickler is not used even with its `find_class` restricted,
because it grows its memo to any index that a file names and hashes any nested key
that a file builds, so 20 hostile bytes can take all the memory or never end.
"""

import dataclasses
import io
import mmap
import pickletools
from collections.abc import Callable, Iterator, Mapping

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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A Python object that the file names, and what stands for it here.

    `build` maps the arguments of a call to an inert value; None: it cannot be called.
    """

    module: str
    name: str
    build: Callable[[tuple], object] | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object of the file that is kept as a mere name: `module.name`."""

    origin: str


def load(
    stream: io.BytesIO | mmap.mmap,
    globals_: Mapping[tuple[str, str], Global],
    persistent: Callable[[object], object],
) -> object:
    """Return the value of the pickle at `stream`, which is left behind its end.

    Args:
        stream: where the pickle begins (of a kind that, asked for too many bytes,
            gives those that are there and makes no room for the others).
        globals_: the names (module, name) that a file may use.
        persistent: maps a persistent id to an inert value, or raises ValueError.

    Raises:
        ValueError: the pickle is damaged, is cut short, uses a name that is not in
            `globals_` or an opcode that makes instances. The text is a clause
            ("its pickle …") for the caller to put in a sentence.
    """
    machine = _Machine(globals_, persistent)
    for name, argument in _opcodes(stream):
        if name == "STOP":
            return machine.pop()
        machine.step(name, argument)
    raise ValueError("its pickle is cut short")


def _opcodes(stream: io.BytesIO | mmap.mmap) -> Iterator[tuple[str, object]]:
    try:
        for opcode, argument, _ in pickletools.genops(stream):  # pyright: ignore
            yield opcode.name, argument
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
    ) -> None:
        self._globals = globals_
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def pop(self) -> object:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise ValueError("its pickle is damaged (a value is missing)")
        return self._stack.pop()

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

    def step(self, name: str, argument: object) -> None:
        push = self._stack.append
        if name in _LITERALS:
            push(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = self._top()  # pyright: ignore
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            value = self._memo.get(argument, _MISSING)  # pyright: ignore
            if value is _MISSING:
                raise ValueError(f"its pickle is damaged (memo {argument} is empty)")
            push(value)
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name == "PROTO":
            if argument not in range(HIGHEST_PROTOCOL + 1):
                raise ValueError(
                    f"its pickle has protocol {argument}, and 0 to "
                    f"{HIGHEST_PROTOCOL} are known"
                )
        elif name == "DUP":
            push(self._top())
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
        push = self._stack.append
        if name in _TUPLE_LENGTHS:
            push(tuple(self._pop_many(_TUPLE_LENGTHS[name])))
        elif name == "TUPLE":
            push(tuple(self._pop_mark()))
        elif name == "EMPTY_LIST":
            push([])
        elif name == "LIST":
            push(self._pop_mark())
        elif name == "APPEND":
            value = self.pop()
            _extend(self._top(), [value])
        elif name in ("APPENDS", "ADDITEMS"):
            values = self._pop_mark()
            _extend(self._top(), values)
        elif name == "EMPTY_DICT":
            push({})
        elif name == "DICT":
            items: dict[object, object] = {}
            _set_items(items, self._pop_mark())
            push(items)
        elif name == "SETITEM":
            pair = self._pop_many(2)
            _set_items(self._top(), pair)
        elif name == "SETITEMS":
            pairs = self._pop_mark()
            _set_items(self._top(), pairs)
        elif name == "EMPTY_SET":
            push(Opaque("builtins.set"))
        elif name == "FROZENSET":
            self._pop_mark()
            push(Opaque("builtins.frozenset"))
        else:
            return False
        return True

    def _make(self, name: str, argument: object) -> bool:
        """Do an opcode that names or makes an object; say whether it is one."""
        push = self._stack.append
        if name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            push(self._find(module, attribute))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop_many(2)
            push(self._find(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            made_by, arguments = self._pop_many(2)
            push(call(made_by, arguments))
        elif name == "BUILD":
            self.pop()
            # The state of an ordered dict holds version numbers; that of an opaque
            # object is as opaque as the object. Nothing else has a state.
            if not isinstance(self._top(), dict | Opaque):
                raise ValueError("its pickle sets the state of a value that has none")
        elif name == "BINPERSID":
            push(self._persistent(self.pop()))
        elif name == "PERSID":
            push(self._persistent(argument))
        else:
            return name == "FRAME"
        return True

    def _find(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle is damaged (a global has no name)")
        found = self._globals.get((module, name))
        if found is None:
            raise ValueError(
                f"it asks for the Python object {_shorten(f'{module}.{name}')}, which "
                "weights do not need and which is not run here"
            )
        return found


def call(made_by: object, arguments: object) -> object:
    """Return what stands for `made_by(*arguments)`, or raise ValueError."""
    if not isinstance(made_by, Global) or made_by.build is None:
        raise ValueError("its pickle calls a value that cannot be called")
    if not isinstance(arguments, tuple):
        raise ValueError("its pickle is damaged (a call has no arguments)")
    return made_by.build(arguments)


def _extend(target: object, values: list[object]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Opaque):
        raise ValueError("its pickle is damaged (it adds to what is no list)")


def _set_items(target: object, pairs: list[object]) -> None:
    if isinstance(target, Opaque):
        return
    if not isinstance(target, dict) or len(pairs) % 2:
        raise ValueError("its pickle is damaged (it fills what is no dict)")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # Hashing a nested key can take forever, and no weight has such a name.
        if isinstance(key, _KEY_TYPES):
            target[key] = value


def _shorten(text: str, length: int = 100) -> str:
    printable = text.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= length else printable[:length] + "…"
