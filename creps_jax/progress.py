"""How far a long work is: a bar on a terminal, a line now and then elsewhere. On standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_SEC = 10.0  # between two lines where there is no terminal

# Called with what was just done: its number of units and of newly painted pixels.
Advance = Callable[[int, int], None]


@contextlib.contextmanager
def progress(total: int, unit: str) -> Iterator[Advance]:
    """Shows done and total units, Mpixel/s and the time that remains; units done already count."""
    if sys.stderr.isatty():
        with _bar(total, unit) as advance:
            yield advance
    else:
        yield _lines(total, unit)


@contextlib.contextmanager
def _bar(total: int, unit: str) -> Iterator[Advance]:
    import rich.console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        Remaining(compact=True, elapsed_when_finished=True),
    )
    speed = _Speed()
    with Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(units: int, pixels: int) -> None:
            bar.update(task, advance=units, rate=speed.after(units, pixels))

        yield advance


def _lines(total: int, unit: str) -> Advance:
    speed, done, shown = _Speed(), 0, time.monotonic()

    def advance(units: int, pixels: int) -> None:
        nonlocal done, shown
        done += units
        rate = speed.after(units, pixels)
        if (now := time.monotonic()) - shown >= LINE_SEC:
            shown = now
            left = speed.seconds_left(total - done)
            sys.stderr.write(f"{done}/{total} {unit}  {rate}  {left} left\n")
            sys.stderr.flush()

    return advance


class _Speed:
    """Units and pixels painted since the start; what was done before does not count."""

    def __init__(self) -> None:
        self._start, self._units, self._pixels = time.monotonic(), 0, 0

    def after(self, units: int, pixels: int) -> str:
        """The rate so far once these are done too; units without pixels were not painted."""
        self._pixels += pixels
        self._units += units if pixels else 0
        return f"{self._pixels / 1e6 / self._elapsed():.2f} Mpixel/s" if self._pixels else ""

    def seconds_left(self, units: int) -> str:
        """How long the units will take, as 1h 02m or 2m 05s."""
        seconds = round(units * self._elapsed() / self._units) if self._units else 0
        minutes, hours = seconds // 60, seconds // 3600
        return f"{hours}h {minutes % 60:02d}m" if hours else f"{minutes}m {seconds % 60:02d}s"

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)
