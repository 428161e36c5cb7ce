"""Classes of images for `creps dataset`: from folder names, JSON, CSV, or the sources' own."""

import csv
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from creps_jax.data.containers import Container
from creps_jax.data.prepare import Item


class Labelled(NamedTuple):
    """The items of some sources with their classes; without labels all of these are None."""

    items: list[Item]
    classes: list[str]  # the names of the classes 0, 1, ...; empty without labels
    unlabelled: list[str]  # images that were left out for having no label


def label_items(sources: Sequence[Container], labels: str | None) -> Labelled:
    """All images of the sources, in their order, labelled.

    Args:
      labels: 'folders': the class is the folder that an image lies in; FILE.json or FILE.csv: the
        class of each name; None: the sources' own labels if all of them have some, else none.

    Raises:
      ValueError: a file of labels cannot be read, or fits no image.
    """
    names = [
        (source, name) for source, container in enumerate(sources) for name in container.images()
    ]
    if labels == "folders":
        given = {at: pathlib.PurePosixPath(at[1]).parent.name for at in names}
        loose = [name for (_, name), folder in given.items() if not folder]
        if loose:
            raise ValueError(f"{loose[0]} lies in no folder that could name its class")
    elif labels is not None:
        of_name = _read_file(pathlib.Path(labels).expanduser())
        given = {at: of_name[at[1]] for at in names if at[1] in of_name}
        if not given:
            raise ValueError(
                f"{labels} names none of the images, such as {names[0][1]}, but "
                f"{next(iter(of_name), 'nothing')}"
            )
    else:
        own = [container.labels() for container in sources]
        if None in own:
            return Labelled([Item(source, name, None) for source, name in names], [], [])
        given = {at: own[at[0]][at[1]] for at in names if at[1] in own[at[0]]}
    numbers, classes = _number(given.values())
    items = [Item(*at, numbers[given[at]]) for at in names if at in given]
    return Labelled(items, classes, [name for source, name in names if (source, name) not in given])


def _number(values: Any) -> tuple[dict[Any, int], list[str]]:
    """The class of each value, and the classes' names; whole numbers are classes already."""
    distinct = set(values)
    if all(type(value) is int and value >= 0 for value in distinct):
        return {value: value for value in distinct}, [str(i) for i in range(max(distinct) + 1)]
    for value in distinct:
        if type(value) is not str or not value:
            raise ValueError(f"the label {value!r} is neither a name nor a whole number from 0 up")
    ordered = sorted(distinct)
    return {value: number for number, value in enumerate(ordered)}, ordered


def _read_file(path: pathlib.Path) -> dict[str, Any]:
    """The label of each name, from FILE.json or FILE.csv."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if path.suffix.lower() == ".csv":
        rows = [row for row in csv.reader(text.splitlines()) if row]
        if any(len(row) != 2 for row in rows):
            wrong = next(row for row in rows if len(row) != 2)
            raise ValueError(f"{path} must have lines NAME,CLASS, has {','.join(wrong)!r}")
        labels = dict(rows)
        numbers = all(label.isascii() and label.isdigit() for label in list(labels.values())[1:])
        # A heading is no number, and names no image.
        return {k: int(v) if v.isdigit() else v for k, v in labels.items()} if numbers else labels
    if path.suffix.lower() != ".json":
        raise ValueError(f"{path} must be 'folders', or end in .json or .csv")
    try:
        labels = json.loads(text)
        return dict(labels.get("labels", labels))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} must have the form {{"labels": [["NAME", CLASS], ...]}} or {{"NAME": CLASS}}: '
            f"{error}"
        ) from error
