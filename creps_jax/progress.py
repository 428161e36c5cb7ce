"""How far a long work is: a bar on a terminal, a line now and then elsewhere. On standard error."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

LINE_SEC = 10.0  # between two lines where there is no terminal


class Progress:
    """Done and total units of a stage of the work, Mpixel/s and the time that remains."""

    def __init__(self, bar: "rich.progress.Progress | None") -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, unit="", rate="") if bar else None
        self._unit = ""

    def stage(self, total: float, unit: str) -> None:
        """Begins the stage of this unit, unless it has begun."""
        if unit == self._unit:
            return
        self._total, self._unit = total, unit
        self._done, self._pixels = 0.0, 0
        self._start = self._shown = time.monotonic()
        if self._bar:
            self._bar.reset(self._task, total=total, unit=unit, rate="")
            self._bar.start()

    def advance(self, units: float, pixels: int = 0) -> None:
        """Counts what is done now; the rate is of pixels where they are counted, else of units."""
        self._done += units
        self._pixels += pixels
        now = time.monotonic()
        elapsed = max(now - self._start, 1e-9)
        rate = f"{self._pixels / 1e6 / elapsed:.2f} Mpixel/s"
        if not self._pixels:
            rate = f"{self._done / elapsed:.0f} a second"
        if self._bar:
            completed = round(self._done, 6)  # Thirds of an image add up to one.
            self._bar.update(self._task, completed=completed, rate=rate)
        elif now - self._shown >= LINE_SEC:
            self._shown = now
            line = f"{self._done:.0f}/{self._total:.0f} {self._unit}  {rate}"
            if self._done > 0:
                line += f"  {_duration((self._total - self._done) * elapsed / self._done)} left"
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class Silent(Progress):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(None)

    def advance(self, units: float, pixels: int = 0) -> None:
        """Counts nothing."""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Shows progress from its first stage on, until it is left."""
    if not sys.stderr.isatty():
        yield Progress(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}  {task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    bar = Bar(*columns, console=Console(stderr=True))
    try:
        yield Progress(bar)
    finally:
        bar.stop()


def _duration(sec: float) -> str:
    """As 1h 02m or 2m 05s."""
    minutes, hours = round(sec) // 60, round(sec) // 3600
    return f"{hours}h {minutes % 60:02d}m" if hours else f"{minutes}m {round(sec) % 60:02d}s"
