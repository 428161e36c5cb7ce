"""What XLA's optimised program says of itself: the operations, their cycles, the collectives.

The text of a program is a list of computations; its entry calls the others.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
)

_COMPUTATION = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(([^)]*)\)(.*)")
_ARRAY = re.compile(r"([a-z]+[0-9]*)\w*\[([0-9,]*)\]")
# Of a loop the condition is left out, of a reduction what adds two numbers.
_CALLED = re.compile(r" (?:calls|body|(?:true|false)_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CALL = re.compile(r"to_apply=%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Operation(NamedTuple):
    """One instruction, as often as the program comes to it."""

    kind: str  # HLO's name of it: fusion, all-reduce, ...
    source: str  # the operation of JAX that it was, or one of them; "" if XLA made it
    times: int  # in loops of unknown length, and of each branch, once
    cycles: int  # in all, by the compiler's estimate; it has none for collectives and kernels
    input_bytes: int  # each time


class _Instruction(NamedTuple):
    operation: Operation
    called: list[str]  # names of computations
    trips: int  # how often it runs them


def operations(text: str) -> list[Operation]:
    """All operations of an optimised program, `compiled.as_text()`, in the order of the text."""
    computations, entry = _computations(text)

    def within(name: str, times: int) -> Iterator[Operation]:
        for operation, called, trips in computations[name]:
            yield operation._replace(times=times, cycles=operation.cycles * times)
            for inner in called:
                yield from within(inner, times * trips)

    return list(within(entry, 1))


def cycles(found: Iterable[Operation]) -> int:
    """By the compiler's estimate, one operation after the other, collectives left out."""
    return sum(operation.cycles for operation in found)


def collectives(found: Iterable[Operation]) -> dict[str, tuple[int, int]]:
    """Kind of collective -> (how many, bytes that a device puts into them)."""
    counts, sizes = Counter[str](), Counter[str]()
    for operation in found:
        kind = operation.kind.removesuffix("-start")
        if kind in COLLECTIVES:
            counts[kind] += operation.times
            sizes[kind] += operation.times * operation.input_bytes
    return {kind: (counts[kind], sizes[kind]) for kind in counts}


def dearest(found: Iterable[Operation], count: int) -> list[tuple[str, int]]:
    """The operations of JAX that take most cycles, and how many."""
    totals = Counter[str]()
    for operation in found:
        totals[operation.source or operation.kind] += operation.cycles
    return totals.most_common(count)


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """The instructions of each computation by its name, and the entry's name."""
    found: dict[str, list[_Instruction]] = {}
    entry, sizes = "", {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            name, sizes = head[2], {}
            found[name] = []
            entry = name if head[1] else entry
        elif match := _INSTRUCTION.match(line):
            sizes[match[1]] = _bytes(match[2])
            found[name].append(_instruction(*match.groups()[2:], sizes))
    return found, entry


def _instruction(kind: str, operands: str, rest: str, sizes: dict[str, int]) -> _Instruction:
    def number(pattern: re.Pattern[str], default: int) -> int:
        match = pattern.search(rest)
        return int(match[1]) if match else default

    called = _CALLED.findall(rest) + (_CALL.findall(rest) if kind == "call" else [])
    for branches in _BRANCHES.findall(rest):
        called += branches.replace("%", "").split(", ")
    source = _SOURCE.search(rest)
    taken = sum(sizes.get(name, 0) for name in re.findall(r"%([\w.\-]+)", operands))
    operation = Operation(kind, source[1] if source else "", 1, number(_CYCLES, 0), taken)
    return _Instruction(operation, called, number(_TRIPS, 1))


def _bytes(shape: str) -> int:
    """Of 'f32[8,3]{...}', or of a tuple of such."""
    total = 0
    for dtype, sides in _ARRAY.findall(shape):
        bits = int(re.sub(r"\D", "", dtype) or 8)  # pred has a byte.
        count = 1
        for side in filter(None, sides.split(",")):
            count *= int(side)
        total += bits * count
    return total // 8
