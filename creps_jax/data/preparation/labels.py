"""Classes of images for `creps dataset`: from folder names, JSON, CSV, or the sources' own."""

import collections
import csv
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from creps_jax import disk
from creps_jax.data.containers.descriptions import as_utf_8, match, pairs, parse_json
from creps_jax.data.containers.reading import patiently
from creps_jax.data.containers.schemes import Container
from creps_jax.data.preparation.prepare import Item

MAX_CLASSES = 10**6


class Labelled(NamedTuple):
    """The items of some sources with their classes; without labels all of these are None."""

    items: list[Item]
    classes: list[str]  # the names of the classes 0, 1, ...; empty without labels
    unlabelled: list[str]  # images that were left out for having no label


def label_items(sources: Sequence[Container], labels: str | None) -> Labelled:
    """All images of the sources, in their order, labelled.

    Args:
      labels: 'folders': the class is the folder that an image lies in; FILE.json or FILE.csv: the
        class of each name; 'none'; None: the sources' own labels, if they have some.

    Raises:
      ValueError: the labels cannot be read, fit no image, or do not tell which class is meant.
    """
    names = [(k, name) for k, container in enumerate(sources) for name in container.images()]
    if labels == "none":
        given = None
    elif labels == "folders":
        given = _of_folders(names)
    elif labels is not None:
        given = _of_file(names, disk.local_path(labels))
    else:
        given = _of_sources(names, sources)
    if given is None:
        return Labelled([Item(*at, None) for at in names], [], [])
    numbers, classes = _number(given.values())
    items = [Item(*at, numbers[given[at]]) for at in names if at in given]
    return Labelled(items, classes, [at[1] for at in names if at not in given])


# (source, name) -> label
Given = dict[tuple[int, str], Any]


def _of_folders(names: list[tuple[int, str]]) -> Given:
    given = {at: pathlib.PurePosixPath(at[1]).parent.name for at in names}
    loose = [name for (_, name), folder in given.items() if not folder]
    if loose:
        raise ValueError(f"{loose[0]} lies in no folder that could name its class")
    return given


def _of_file(names: list[tuple[int, str]], path: pathlib.Path) -> Given:
    listed = _read_file(path)
    try:
        of_name = match(listed, sorted({name for _, name in names})).labels
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    given = {at: of_name[at[1]] for at in names if at[1] in of_name}
    if not given:
        raise ValueError(
            f"{path} names none of the images, such as {names[0][1]}, but "
            f"{listed[0][0] if listed else 'nothing'}"
        )
    repeated = _first_repeated(name for _, name in given)
    if repeated is not None:
        raise ValueError(
            f"{repeated} is in several sources, so that its line in {path} is ambiguous: prepare "
            "one source at a time, then the sets together"
        )
    return given


def _of_sources(names: list[tuple[int, str]], sources: Sequence[Container]) -> Given | None:
    """The sources' own labels: the names of their classes where they have any."""
    own = [patiently(container.labels) for container in sources]
    classes = [container.classes() for container in sources]
    # Classes that were numbers have their numbers as names.
    classes = [[] if names == [*map(str, range(len(names)))] else names for names in classes]
    if all(labels is None for labels in own):
        return None
    unclear = "; say what is meant with --labels=folders, FILE or none"
    if None in own:
        raise ValueError(f"of the sources only some have labels{unclear}")
    if any(classes) and not all(classes):
        raise ValueError(f"of the sources only some have names of classes{unclear}")
    given = {at: own[at[0]][at[1]] for at in names if at[1] in own[at[0]]}
    if not given:
        raise ValueError(f"the sources' labels name none of their images{unclear}")
    if not any(classes):
        return given
    try:
        return {at: classes[at[0]][label] for at, label in given.items()}
    except (IndexError, TypeError) as error:
        raise ValueError(f"a source has labels beyond its classes{unclear}") from error


def _number(values: Collection[Any]) -> tuple[dict[Any, int], list[str]]:
    """The class of each value, and the classes' names; whole numbers are classes already."""
    for value in values:
        is_class = type(value) is int and 0 <= value < MAX_CLASSES
        if not is_class and (type(value) is not str or not value):
            raise ValueError(
                f"the label {value!r} is neither a name nor a whole number below {MAX_CLASSES}"
            )
    distinct = set(values)
    if all(type(value) is int for value in distinct):
        return {value: value for value in distinct}, [str(i) for i in range(max(distinct) + 1)]
    ordered = sorted(map(str, distinct))
    number = {name: k for k, name in enumerate(ordered)}
    return {value: number[str(value)] for value in distinct}, [*map(as_utf_8, ordered)]


def _read_file(path: pathlib.Path) -> list[tuple[str, Any]]:
    """Names and labels, from FILE.json or FILE.csv."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise ValueError(f"{path} must be 'folders' or 'none', or end in .json or .csv")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return _csv_pairs(path, text) if suffix == ".csv" else _json_pairs(path, text)


def _csv_pairs(path: pathlib.Path, text: str) -> list[tuple[str, Any]]:
    try:
        rows = [[field.strip() for field in row] for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"{path} must have lines NAME,CLASS, has {','.join(row)!r}")
    # The first may be a heading: that is no number, and names no image.
    if all(label.isascii() and label.isdigit() for _, label in rows[1:]):
        return [(name, int(label) if label.isdigit() else label) for name, label in rows]
    return [(name, label) for name, label in rows]


def _json_pairs(path: pathlib.Path, text: str) -> list[tuple[str, Any]]:
    try:
        content = parse_json(text)
        return pairs(content.get("labels", content))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{path} must have the form {{"labels": [["NAME", CLASS], ...]}} or {{"NAME": CLASS}}: '
            f"{error}"
        ) from error


def _first_repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in collections.Counter(names).items() if count > 1), None)
