"""Reads pickles without executing anything.

A pickle is a program for a machine with a stack, and Python's own unpickler imports and calls
whatever it names. This one knows the opcodes that plain data needs, and a list of names each of
which stands for a function of ours. Every other opcode, and every other name, is refused.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MAX_OPCODES = 500_000  # Of a file; a network of 512 px has 70,000. Each leaves 100 bytes or so.
MAX_ARGUMENTS = 16  # Of a call.
_TEXT_BYTES = 64  # of a text count as an opcode.

# Of a dict: what is hashed in no time, and so that no file can choose keys that collide.
_KEYS = (str, bool, type(None))
_LARGEST_KEY = 2**31


class Known(NamedTuple):
    """A name in a pickle, and what it stands for here."""

    name: str
    meaning: Any


class Instance:
    """An object of a class that is not here: its name and what it holds; it does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: dict[str, Any] = {}

    def build(self, state: Any) -> None:
        """Takes what the pickle says that it holds.

        Raises:
          ValueError: that is no dict of names.
        """
        if not isinstance(state, dict):
            raise ValueError(f"gives a {self.name} a state that is no dict")
        self.state = state


class Budget:
    """How many opcodes a file may still have, in all of the pickles in it."""

    def __init__(self) -> None:
        self._left = MAX_OPCODES

    def spend(self, count: int) -> None:
        """Takes some.

        Raises:
          ValueError: there are not so many left.
        """
        self._left -= count
        if self._left < 0:
            raise ValueError(f"has more than {MAX_OPCODES:,} opcodes, or texts as long")


class Machine:
    """Reads one pickle after another.

    Args:
      data: of bytes; what is read from it are views into it, not copies.
      known: what the names 'module.name' stand for; functions are called with whatever the file
        gives them and raise ValueError for what they do not take.
      referred: what a persistent id stands for, if the file may have any.
      budget: shared by all machines that read parts of a file.
    """

    def __init__(
        self,
        data: memoryview,
        known: Mapping[str, Any],
        referred: Callable[[Any], Any] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.at = 0  # The next byte.
        self._data = data
        self._known = known
        self._referred = referred
        self._budget = Budget() if budget is None else budget

    def load(self) -> Any:
        """What the pickle that begins at `at` holds; `at` is behind it then.

        Plain values and containers, where a set is a list; bytes are memoryviews; the rest is what
        the functions return.

        Raises:
          ValueError: it is damaged, or names, or does, what is not known; it says where.
        """
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # Stacks below a mark.
        self.memo: dict[int, Any] = {}
        while True:
            begun = self.at
            try:
                self._budget.spend(1)
                (code,) = self.take(1)
                if code == pickle.STOP[0]:
                    return self.pop()
                if code in _PUSHES:
                    value = _PUSHES[code](self)  # It may leave another stack.
                    self.stack.append(value)
                elif code in _DOES:
                    _DOES[code](self)
                else:
                    known = pickletools.code2op.get(chr(code))
                    what = f"the opcode {known.name}" if known else f"no opcode but {code:#04x}"
                    raise ValueError(f"has {what}, which no data needs")
            except ValueError as error:
                raise ValueError(f"the pickle {error} (at byte {begun:,})") from error

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        if count > len(self._data) - self.at:
            left = len(self._data) - self.at
            raise ValueError(f"ends too early: {count:,} bytes are wanted and {left:,} left")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, kind: str) -> Any:
        """The next number, of a kind that `struct` knows."""
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def text(self, count: int) -> str:
        """The next bytes as text."""
        self._budget.spend(count // _TEXT_BYTES)
        try:
            return str(self.take(count), "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError("has a text that is no UTF-8") from error

    def line(self) -> str:
        """The text up to the end of the line, at most 255 bytes."""
        line, end, _ = bytes(self._data[self.at : self.at + 256]).partition(b"\n")
        if not end:
            raise ValueError("has a line without an end")
        self.at += len(line) + 1
        return line.decode()

    def pop(self) -> Any:
        """The top of the stack, taken from it."""
        if not self.stack:
            raise ValueError("takes something from an empty stack")
        return self.stack.pop()

    def pops(self, count: int) -> tuple[Any, ...]:
        """The topmost, taken from the stack, the top last."""
        return tuple(self.pop() for _ in range(count))[::-1]

    def marked(self) -> list[Any]:
        """What is above the last mark, taken from the stack with it."""
        if not self.outer:
            raise ValueError("takes what is above a mark without one")
        above, self.stack = self.stack, self.outer.pop()
        return above

    def top(self, kind: type) -> Any:
        """The top of the stack, which stays there and must be of that kind."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"puts something into what is no {kind.__name__.lower()}")
        return self.stack[-1]

    def recall(self, index: int) -> Any:
        """What has been memorised under that number."""
        if index not in self.memo:
            raise ValueError(f"recalls {index}, which was not memorised")
        return self.memo[index]

    def memorise(self, index: int) -> None:
        """Remembers the top of the stack."""
        self.memo[index] = self.top(object)

    def named(self, module: Any, name: Any) -> Known:
        """What a name stands for."""
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""
        if full not in self._known:
            raise ValueError(
                f"names {shown(full)}, which is not known and was not called; if you trust the "
                "file, save its networks' state_dict()s alone with the program that made it"
            )
        return Known(full, self._known[full])

    def called(self) -> Any:
        """The result of the function and the arguments on the stack."""
        known, arguments = self.pops(2)
        if not isinstance(known, Known) or not isinstance(arguments, tuple):
            raise ValueError("calls what is no function")
        if len(arguments) > MAX_ARGUMENTS:  # Each call copies them.
            raise ValueError(f"calls {known.name} with {len(arguments):,} arguments")
        try:
            return known.meaning(*arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"has a wrong {known.name}: {error}") from error

    def persistent(self) -> Any:
        """What the persistent id on the stack stands for."""
        if self._referred is None:
            raise ValueError("has persistent ids")
        return self._referred(self.pop())

    def set_items(self, pairs: list[Any] | tuple[Any, ...]) -> None:
        """Keys and values, in turn, into the dict on the stack."""
        items = self.top(dict)
        if len(pairs) % 2:
            raise ValueError("has a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            is_small = type(key) is int and abs(key) < _LARGEST_KEY
            if not is_small and not isinstance(key, _KEYS):
                raise ValueError(f"has a key of type {type(key).__name__}")
            items[key] = value

    def extend(self, items: list[Any] | tuple[Any, ...]) -> None:
        """Items into the list on the stack."""
        self.top(list).extend(items)

    def build(self) -> None:
        """The state on the stack into the object below it; a dict's attributes are left out."""
        state = self.pop()
        built = self.top(object)
        if isinstance(built, Instance):
            built.build(state)
        elif not isinstance(built, dict):
            raise ValueError(f"sets attributes of a {type(built).__name__}")


def shown(name: str) -> str:
    """A name as an error tells it: printable, and not too long."""
    return repr(name if len(name) <= 100 else f"{name[:100]}...")


def printable(text: str) -> str:
    """The text as one line of at most 600 characters that a terminal only prints."""
    line = "".join(c if c.isprintable() else "?" for c in text[:600])
    return line if len(text) <= 600 else f"{line[:597]}..."


def _mark(machine: Machine) -> None:
    machine.outer.append(machine.stack)
    machine.stack = []


def _protocol(machine: Machine) -> None:
    if (version := machine.number("<B")) > pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"is of protocol {version}")


def _long(machine: Machine) -> int:
    return int.from_bytes(machine.take(machine.number("<B")), "little", signed=True)


_PUSHES: dict[int, Callable[[Machine], Any]] = {
    opcode[0]: push
    for opcode, push in {
        pickle.NONE: lambda m: None,
        pickle.NEWTRUE: lambda m: True,
        pickle.NEWFALSE: lambda m: False,
        pickle.BININT: lambda m: m.number("<i"),
        pickle.BININT1: lambda m: m.number("<B"),
        pickle.BININT2: lambda m: m.number("<H"),
        pickle.LONG1: _long,
        pickle.BINFLOAT: lambda m: m.number(">d"),
        pickle.SHORT_BINUNICODE: lambda m: m.text(m.number("<B")),
        pickle.BINUNICODE: lambda m: m.text(m.number("<I")),
        pickle.SHORT_BINBYTES: lambda m: m.take(m.number("<B")),
        pickle.BINBYTES: lambda m: m.take(m.number("<I")),
        pickle.BINBYTES8: lambda m: m.take(m.number("<Q")),
        pickle.EMPTY_DICT: lambda m: {},
        pickle.EMPTY_LIST: lambda m: [],
        pickle.EMPTY_SET: lambda m: [],
        pickle.EMPTY_TUPLE: lambda m: (),
        pickle.TUPLE: lambda m: tuple(m.marked()),
        pickle.TUPLE1: lambda m: m.pops(1),
        pickle.TUPLE2: lambda m: m.pops(2),
        pickle.TUPLE3: lambda m: m.pops(3),
        pickle.BINGET: lambda m: m.recall(m.number("<B")),
        pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
        pickle.GLOBAL: lambda m: m.named(m.line(), m.line()),
        pickle.STACK_GLOBAL: lambda m: m.named(*m.pops(2)),
        pickle.REDUCE: lambda m: m.called(),
        pickle.NEWOBJ: lambda m: m.called(),
        pickle.BINPERSID: lambda m: m.persistent(),
    }.items()
}
_DOES: dict[int, Callable[[Machine], None]] = {
    opcode[0]: do
    for opcode, do in {
        pickle.PROTO: _protocol,
        pickle.FRAME: lambda m: m.number("<Q"),
        pickle.MARK: _mark,
        pickle.BINPUT: lambda m: m.memorise(m.number("<B")),
        pickle.LONG_BINPUT: lambda m: m.memorise(m.number("<I")),
        pickle.MEMOIZE: lambda m: m.memorise(len(m.memo)),
        pickle.SETITEM: lambda m: m.set_items(m.pops(2)),
        pickle.SETITEMS: lambda m: m.set_items(m.marked()),
        pickle.APPEND: lambda m: m.extend(m.pops(1)),
        pickle.APPENDS: lambda m: m.extend(m.marked()),
        pickle.ADDITEMS: lambda m: m.extend(m.marked()),
        pickle.BUILD: Machine.build,
    }.items()
}
