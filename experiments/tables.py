"""Tables of results: as Markdown, and as CSV files."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # values by column; what was not measured is None or absent


def shown(value: Any) -> str:
    """Floats with four digits, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Of all rows, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of the table."""
    columns = columns_of(rows)
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(shown(row.get(name)) for name in columns)} |"


def save(path: Path, rows: Sequence[Row]) -> None:
    """Writes the CSV; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns_of(rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: shown(value) for name, value in row.items()} for row in rows)
