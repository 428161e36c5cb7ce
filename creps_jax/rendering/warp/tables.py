"""Bi-lines at any position, interpolated from tables that are as fine as each place needs.

Where every pixel has a row and a column position of its own, evaluating their bi-lines costs a
hundred times the pixel. Bi-lines are smooth but for the kinks of the leaky ReLUs, and what a kink
does to a pixel depends on what crosses it there. So each interval of a table that begins with few
entries is first tried with lines of the other axis all along the picture: how far does the bi-line
in its middle, interpolated instead of evaluated, change the pixels? The most sensitive partners are
kept, and the interval is halved for as long as any of their pixels changes by more than TOLERANCE.

Notation: M entries of a table; t a position (coordinates.py); axis 0 rows, 1 columns; P partners,
the lines of the other axis that intervals are tried with; S of them are kept for each interval.
"""

import functools
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.model import biline
from creps_jax.rendering import programs
from creps_jax.rendering.threads import worker_threads
from creps_jax.rendering.tiling import tiling_of

DENSITY = 2  # entries a training pixel before any interval is halved; all are halved once
# 8-bit steps, far below the half that pixels may be off: beside the middle one kink errs twice as
# much, several may cancel each other there, and rows and columns both err. Measured by
# experiments/warp_error.py.
TOLERANCE = 1 / 32
FINEST = 2.0**-22  # of an interval that is halved: float32 positions are hardly finer
PARTNERS = 2048  # P at most; else one a training pixel, and as many as fill a tile
KEPT = 32  # S: the most sensitive partner of each of so many parts of the range
MAX_BYTES = 2**29  # of a table

_log = logging.getLogger(__name__)


class Range(NamedTuple):
    """Positions from low to high."""

    low: float
    high: float


class Table(NamedTuple):
    """Bi-lines [M or more, K, R, B] on every device, of positions [M] that ascend: float64."""

    lines: jax.Array
    positions: np.ndarray

    def place(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entry below each position, int32, and the share of the next, float32 in [0, 1]."""
        below = np.searchsorted(self.positions, t, side="right") - 1
        below = np.clip(below, 0, len(self.positions) - 2)
        start, stop = self.positions[below], self.positions[below + 1]
        # Tiles reach beyond the picture, where t need not be a number.
        share = np.nan_to_num(np.clip((t - start) / (stop - start), 0.0, 1.0))
        return below.astype(np.int32), share.astype(np.float32)


def between(lines: jax.Array, below: jax.Array, share: jax.Array) -> jax.Array:
    """The bi-line [K, R, B] a share of the way from one entry of lines [M, K, R, B] to the next."""
    return (1.0 - share) * lines[below] + share * lines[below + 1]


def evaluate(image: biline.Image, axis: int, t: np.ndarray, mesh: Mesh) -> np.ndarray:
    """The bi-lines at positions t [M]: float32 [M, K, R, B]."""
    span = mesh.size * tiling_of(mesh).tile
    lines = np.empty((len(t), *biline.line_shape(image)), np.float32)

    def chunk(start: int) -> None:
        part = lines[start : start + span]
        at = np.resize(t[start : start + span], span).astype(np.float32)
        computed = programs.lines_on(mesh)(image, at, np.full(span, axis, np.int32))
        part[:] = np.asarray(computed)[: len(part)]

    _in_threads(chunk, range(0, len(t), span), mesh)
    return lines


def make_tables(
    image: biline.Image,
    needed: tuple[Range, Range],
    around: tuple[Range, Range],
    trained: tuple[int, int],
    mesh: Mesh,
    tolerance: float = TOLERANCE,
) -> tuple[Table, Table]:
    """The tables of rows and of columns, on every device of the mesh.

    Whether an interval is halved depends on the image, on its place and on the partners alone, so
    that tables of one `around` have the same entries where their ranges overlap (to the rounding
    of sums, which differs at the end of a chunk of lines).

    Args:
      needed: the positions y and x that the tables are asked for.
      around: the positions of the lines, y and x, that are the partners.
      trained: height and width of the training images, px.
      tolerance: 8-bit steps; infinity leaves the first entries and the middles between them.

    Raises:
      ValueError: a range is too long for a table. Where only the halving makes it too long, the
        worst intervals are halved, and a warning is logged.
    """
    # bfloat16's rounding would look like kinks everywhere: nothing would be fine enough.
    image = biline.in_dtype(image, jnp.float32)

    # The lines of each axis that intervals of the other are tried with, evenly spaced.
    partners = []
    across = mesh.devices.shape[1] * tiling_of(mesh).tile
    for axis, (low, high) in enumerate(around):
        in_pixels = (high - low) * (trained[axis] - 1)
        count = math.ceil(min(in_pixels, PARTNERS) / across) * across
        t = low + (high - low) * (np.arange(count) + 0.5) / count
        partners.append(evaluate(image, axis, t, mesh))

    pitches = [1.0 / (DENSITY * (r - 1)) for r in trained]
    rows, columns = (
        _make_table(image, axis, needed[axis], partners[1 - axis], pitches[axis], tolerance, mesh)
        for axis in (0, 1)
    )
    return rows, columns


def _make_table(
    image: biline.Image,
    axis: int,
    needed: Range,
    partners: np.ndarray,
    pitch: float,
    tolerance: float,
    mesh: Mesh,
) -> Table:
    """The table of an axis, first with an entry every pitch."""
    # How many entries there may be. Powers of two, so that few compiled shapes serve all pictures.
    most = 2 ** math.floor(math.log2(MAX_BYTES // biline.line_bytes(image)))
    first, last = math.floor(needed.low / pitch), math.floor(needed.high / pitch) + 1
    if (count := 2 * (last - first) + 1) > most:
        raise ValueError(
            f"the warp reaches positions from {needed.low:.4g} to {needed.high:.4g}, the image "
            f"being from 0 to 1: their table takes {count * biline.line_bytes(image) / 2**20:.0f} "
            f"MiB, more than {MAX_BYTES / 2**20:.0f}"
        )

    # The first entries, on a grid that is the same for every range.
    t = np.arange(first, last + 1) * pitch
    lines = np.empty((most, *biline.line_shape(image)), np.float32)
    lines[: len(t)] = evaluate(image, axis, t, mesh)

    t = _add_middles(image, axis, t, lines, partners, needed, pitch, tolerance, mesh)

    # In the order of their positions, filled up to a length that is compiled for.
    length = max(2 ** math.ceil(math.log2(len(t))), tiling_of(mesh).tile)
    order = np.argsort(t)
    ascending = np.zeros((length, *lines.shape[1:]), np.float32)
    # Any mode but the default one writes into `out` without a copy.
    np.take(lines, order, axis=0, out=ascending[: len(t)], mode="clip")
    del lines  # Hundreds of MiB, before the devices take their copy.
    return Table(jax.device_put(ascending, sharding.named(mesh, "image")), t[order])


def _add_middles(
    image: biline.Image,
    axis: int,
    t: np.ndarray,
    lines: np.ndarray,
    partners: np.ndarray,
    needed: Range,
    pitch: float,
    tolerance: float,
    mesh: Mesh,
) -> np.ndarray:
    """Halves all intervals, then those whose middle was not right, until none is left.

    Args:
      t: the first entries' positions, a pitch apart.
      lines: filled with those of t; the middles' are put behind them, as many as there is room for.

    Returns:
      the positions of all entries, in the order of `lines`.
    """
    below = np.arange(len(t) - 1)  # Entries at the ends of the intervals that may be too long.
    above, kept = below + 1, None
    while len(below) and pitch > FINEST:
        middle = len(t) + np.arange(len(below))
        t = np.concatenate([t, (t[below] + t[above]) / 2])
        lines[middle] = evaluate(image, axis, t[middle], mesh)
        halves = np.stack([below, middle, above], axis=1)
        if kept is None:
            kept = _most_sensitive(image, lines, halves, partners, mesh)
            errors = np.full(len(below), np.inf)
        else:
            errors = _worst(image, lines, halves, partners, kept, mesh)
        failed = np.flatnonzero(errors > tolerance)
        # Where a table would be too long, the worst of them.
        if len(failed) and len(t) + 2 * len(failed) > len(lines):
            failed = failed[np.argsort(-errors[failed])][: (len(lines) - len(t)) // 2]
            _log.warning(
                "The table of %s from %.4g to %.4g is as long as %d MiB allow: not all of its "
                "lines are interpolated to %.3g of an 8-bit step.",
                ("rows", "columns")[axis],
                needed.low,
                needed.high,
                MAX_BYTES // 2**20,
                tolerance,
            )
        below, above = halves[failed, :2].T.ravel(), halves[failed, 1:].T.ravel()
        kept = np.tile(kept[failed], (2, 1))
        pitch /= 2
    return t


def _most_sensitive(
    image: biline.Image, lines: np.ndarray, halves: np.ndarray, partners: np.ndarray, mesh: Mesh
) -> np.ndarray:
    """The partners whose pixels change most if an interval's middle is interpolated: [N, S].

    Args:
      lines: [M, K, R, B].
      halves: [N, 3] of them, at the start, in the middle and at the end of each interval.
    """
    tile, every = programs.tile_on(mesh), programs.patches(mesh, tiling_of(mesh).patch)
    down, across = (n * tiling_of(mesh).tile for n in mesh.devices.shape)
    kept = np.empty((len(halves), KEPT), np.int32)

    def chunk(start: int) -> None:
        some = np.resize(np.arange(start, min(start + down, len(halves))), down)
        # By how much each partner's pixel changes, as many at a time as a tile has columns.
        errors = np.empty((down, len(partners)), np.float32)
        sides = _exact_and_guessed(lines, halves[some])
        for first in range(0, len(partners), across):
            columns = partners[first : first + across]
            true, wrong = (np.asarray(tile(image, side, columns, *every)) for side in sides)
            errors[:, first : first + across] = np.abs(true - wrong).max(axis=-1)
        # The worst partner of each of KEPT parts of the range.
        parts = errors.reshape(down, KEPT, -1)
        kept[some] = parts.argmax(axis=-1) + np.arange(KEPT) * parts.shape[-1]

    _in_threads(chunk, range(0, len(halves), down), mesh)
    return kept


def _worst(
    image: biline.Image,
    lines: np.ndarray,
    halves: np.ndarray,
    partners: np.ndarray,
    kept: np.ndarray,
    mesh: Mesh,
) -> np.ndarray:
    """By how much an interpolated middle changes any pixel of the partners kept: 8-bit steps [N].

    Args:
      lines, halves: of _most_sensitive().
      kept: what it gave, [N, S].
    """
    span = mesh.size * tiling_of(mesh).tile
    worst = np.empty(len(halves))

    def chunk(start: int) -> None:
        some = np.resize(np.arange(start, min(start + span, len(halves))), span)
        sides = _exact_and_guessed(lines, halves[some])
        worst[some] = _errors_on(mesh)(image, *sides, partners, kept[some])

    _in_threads(chunk, range(0, len(halves), span), mesh)
    return 127.5 * worst


def _exact_and_guessed(lines: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lines in the middle of intervals [N, 3], evaluated and interpolated: [N, K, R, B]."""
    below, middle, above = halves.T
    return lines[middle], (lines[below] + lines[above]) / 2


@functools.cache
def _errors_on(mesh: Mesh) -> Callable[..., jax.Array]:
    """image, lines and guesses [n T, K, R, B], partners, those kept [n T, S] -> [n T], [-1, 1]."""
    specs = sharding.PARTITION_SPECS

    def error(image, partners, exact, guess, kept):
        # compose() does not tell rows from columns.
        true, wrong = biline.pixels(image, jnp.stack([exact, guess]), partners[kept])
        return jnp.abs(true - wrong).max()

    def errors(image, exact, guess, partners, kept):
        of_one = functools.partial(error, image, partners)
        return jax.lax.map(lambda each: of_one(*each), (exact, guess, kept))

    split, whole = specs["positions"], specs["image"]
    parts = jax.shard_map(
        errors, mesh=mesh, in_specs=(whole, split, split, whole, split), out_specs=split
    )
    return jax.jit(parts, compiler_options=tiling_of(mesh).options)


def _in_threads(work: Callable, parts: range, mesh: Mesh) -> None:
    """Does the work on every part, as many at a time as keep the devices busy."""
    if len(parts) == 1:
        work(parts[0])
        return
    with worker_threads(tiling_of(mesh).threads) as submit:
        for future in [submit(work, part) for part in parts]:
            future.result()
