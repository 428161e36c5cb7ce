"""What XLA's optimised program says of itself: the operations, their cycles, the collectives.

The text of a program is a list of computations; its entry calls the others.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_COMPUTATION = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(([^)]*)\)(.*)")
_ARRAY = re.compile(r"([a-z]+[0-9]*)\w*\[([0-9,]*)\]")
# Not what a reduction adds two numbers with.
_CALLED = re.compile(r" (?:calls|body|(?:true|false)_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r" branch_computations=\{([^}]*)\}")
_CALL = re.compile(r" to_apply=%([\w.\-]+)")
_CONDITION = re.compile(r" condition=%([\w.\-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Array(NamedTuple):
    """Its type: f32, bf16, s32, pred, ..., and its sides."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Without padding."""
        bits = int(re.sub(r"\D", "", self.dtype) or 8)  # pred has a byte.
        return math.prod(self.shape) * bits // 8


class Operation(NamedTuple):
    """One instruction, as often as the program comes to it."""

    kind: str  # HLO's name of it: fusion, all-reduce, ...
    source: str  # the operation of JAX that it was, or one of them; "" if XLA made it
    inputs: tuple[Array, ...]
    times: int  # each branch counts, and a loop whose length is not in the text counts once
    cycles: int  # each time, by the compiler's estimate; it has none for collectives and kernels


class _Instruction(NamedTuple):
    operation: Operation
    called: list[str]  # names of computations
    condition: str | None  # of a loop, the name of its condition


class _Program(NamedTuple):
    computations: dict[str, list[_Instruction]]
    limits: dict[str, int]  # of conditions "counter < limit"
    entry: str


def operations(text: str) -> list[Operation]:
    """All operations of an optimised program, `compiled.as_text()`."""
    program = _parsed(text)

    def within(name: str, times: int) -> Iterator[Operation]:
        for operation, called, condition in program.computations[name]:
            yield operation._replace(times=times)
            # JAX's loops count from 0.
            turns = program.limits.get(condition, 1) if condition else 1
            for inner in called:
                yield from within(inner, times * turns)

    return list(within(program.entry, 1))


def cycles(found: Iterable[Operation]) -> int:
    """By the compiler's estimate, one operation after the other, collectives left out."""
    return sum(operation.times * operation.cycles for operation in found)


def collectives(found: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The collectives, by their kind."""
    kinds: dict[str, list[Operation]] = {}
    for operation in found:
        kind = operation.kind.removesuffix("-start")  # Of asynchronous ones.
        if kind in COLLECTIVES:
            kinds.setdefault(kind, []).append(operation)
    return kinds


def amount(found: Iterable[Operation]) -> tuple[int, int]:
    """How often the operations come, and bytes that a device puts into them."""
    each = [(o.times, o.times * sum(array.nbytes for array in o.inputs)) for o in found]
    return sum(times for times, _ in each), sum(nbytes for _, nbytes in each)


def dearest(found: Iterable[Operation], count: int) -> list[tuple[str, int]]:
    """The operations of JAX that take most cycles, and how many."""
    totals = Counter[str]()
    for operation in found:
        totals[operation.source or operation.kind] += operation.times * operation.cycles
    return totals.most_common(count)


def _parsed(text: str) -> _Program:
    computations: dict[str, list[_Instruction]] = {}
    limits: dict[str, int] = {}
    entry = name = ""
    types: dict[str, str] = {}
    constants: dict[str, int] = {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            name, types, constants = head[2], {}, {}
            computations[name] = []
            entry = name if head[1] else entry
        elif match := _INSTRUCTION.match(line):
            own, types[own], kind, operands, rest = match.groups()
            names = re.findall(r"%([\w.\-]+)", operands)
            inputs = tuple(a for each in names for a in _arrays(types.get(each, "")))
            computations[name].append(_instruction(kind, inputs, rest))
            if kind == "constant" and operands.isdecimal():
                constants[own] = int(operands)
            elif kind == "compare" and "direction=LT" in rest and names[-1] in constants:
                limits[name] = constants[names[-1]]
    return _Program(computations, limits, entry)


def _instruction(kind: str, inputs: tuple[Array, ...], rest: str) -> _Instruction:
    """rest: what follows the operands, its attributes."""
    called = _CALLED.findall(rest) + (_CALL.findall(rest) if kind == "call" else [])
    for branches in _BRANCHES.findall(rest):
        called += branches.replace("%", "").split(", ")
    condition, source, estimate = (p.search(rest) for p in (_CONDITION, _SOURCE, _CYCLES))
    operation = Operation(
        kind, source[1] if source else "", inputs, 1, int(estimate[1]) if estimate else 0
    )
    return _Instruction(operation, called, condition[1] if condition else None)


def _arrays(type_text: str) -> Iterator[Array]:
    """Of 'f32[8,3]{...}', or of a tuple of such."""
    for dtype, sides in _ARRAY.findall(type_text):
        yield Array(dtype, tuple(int(side) for side in sides.split(",") if side))
