"""Read torch's pickles without carrying them out.

A pickle is a program. `pickletools` takes it apart, and the machine below follows
only what builds plain values and describes tensors: nothing that a pickle names is
imported or called, whatever it names.
"""

import pickletools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from marssep_jax.conversion.torch_objects import (
    ELEMENTS,
    RECIPES,
    STORAGES,
    Placeholder,
    Storage,
    Symbol,
)

# A checkpoint's pickle takes about a hundred bytes a tensor.
MAX_BYTES = 1 << 25
# One long tuple, named again and again, would cost much more than its bytes.
MAX_ARGUMENTS = 16
SHOWN = 80


def load(data: bytes, placeholders: bool = False) -> Any:
    """Return what a pickle describes: dicts, lists, numbers and `StoredTensor`.

    Args:
      data: the pickle.
      placeholders: let a `Placeholder` stand where a class is not known.

    Raises:
      ValueError: a reason, without the file's name: damaged, too large, or a class
        that is no part of a tensor.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"its pickle has {len(data)} bytes, more than {MAX_BYTES}")
    machine = _Machine(placeholders)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it thinks of damaged strings
            for opcode, argument, _ in pickletools.genops(data):
                machine.follow(opcode.name, argument)
    except _RefusedError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its pickle is damaged") from error
    if len(machine.stack) != 1:
        raise ValueError("its pickle is damaged")
    return machine.stack[0]


class _RefusedError(ValueError):
    """Something that is well formed and not wanted."""


class _Machine:
    """A stack, marks on it, and a memo."""

    def __init__(self, placeholders: bool) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._placeholders = placeholders

    def follow(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        elif name not in _IGNORED:
            raise _RefusedError(f"its pickle uses {name}, which no checkpoint needs")

    def put(self, index: int | None) -> None:
        """Remember the top under a number, by default the next one."""
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    def mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def pop(self, _: Any = None) -> Any:
        return self.stack.pop()

    def pop_to_mark(self, _: Any = None) -> list[Any]:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def tuple_of(self, items: Sequence[Any]) -> None:
        self.stack.append(tuple(items))

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def extend(self, items: Sequence[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_items(self, items: Sequence[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                # Other keys name no tensor; hashing them could take for ever.
                if isinstance(key, str | int):
                    self.stack[-1][key] = value

    def name(self, name: str) -> None:
        """Push what a name stands for."""
        known = name in RECIPES or name in STORAGES or name in ELEMENTS
        if not known and not self._placeholders:
            raise _RefusedError(
                f"it holds {name[:SHOWN]!r}, which is no part of a tensor"
            )
        self.stack.append(Symbol(name) if known else Placeholder(name))

    def global_(self, argument: str) -> None:
        self.name(argument.replace(" ", ".", 1))

    def stack_global(self, _: Any) -> None:
        self.name(".".join(self.last(2)))

    def reduce(self, _: Any) -> None:
        """Push what a call would return, for the few calls that are known."""
        function, arguments = self.last(2)
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError
        if isinstance(function, Symbol) and function.name in RECIPES:
            self.stack.append(RECIPES[function.name](*arguments))
        elif isinstance(function, Placeholder):
            self.stack.append(Placeholder(function.name))
        else:
            raise ValueError

    def build(self, _: Any) -> None:
        self.pop()  # attributes: of a state dict its version numbers

    def storage(self, _: Any) -> None:
        """Push the storage that a persistent id describes."""
        tag, kind, key, _, num_elements = self.pop()
        if tag != "storage" or type(key) is not str or type(num_elements) is not int:
            raise ValueError
        dtype = STORAGES[kind.name]
        num_bytes = num_elements * (1 if dtype is None else dtype.itemsize)
        self.stack.append(Storage(dtype, key, num_bytes))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING"),  # of Python 2
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_HANDLERS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_to_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.tuple_of(machine.pop_to_mark()),
    "TUPLE1": lambda machine, _: machine.tuple_of(machine.last(1)),
    "TUPLE2": lambda machine, _: machine.tuple_of(machine.last(2)),
    "TUPLE3": lambda machine, _: machine.tuple_of(machine.last(3)),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "FROZENSET": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
}
