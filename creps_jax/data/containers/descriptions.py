"""dataset.json and other lists of labels: the classes of images, by names as people write them."""

import collections
import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

LABELS_FILE = "dataset.json"


class Description(NamedTuple):
    """What a dataset.json holds."""

    labels: list[tuple[str, Any]]  # names as they are written there
    classes: list[str]  # the names of the classes 0, 1, ...; may be empty


def parse(data: bytes, file: str) -> Description:
    """The StyleGAN form {"labels": [[name, class], ...]}, to which we add "classes": names.

    Raises:
      ValueError: it has another form.
    """
    try:
        content = parse_json(data)
        classes = list(map(str, content.get("classes") or []))
        return Description(pairs(content.get("labels") or []), classes)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{file} does not have the form {{"labels": [["name.png", 0], ...]}}: {error}'
        ) from error


def parse_json(text: bytes | str) -> Any:
    """The JSON value; ValueError where a name has two values, of which one would be lost."""

    def once(found: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = collections.Counter(name for name, _ in found)
        if len(counts) < len(found):
            raise ValueError(f"{counts.most_common(1)[0][0]!r} is there more than once")
        return dict(found)

    return json.loads(text, object_pairs_hook=once)


def pairs(labels: Any) -> list[tuple[str, Any]]:
    """[[name, label], ...] or {name: label} as pairs; ValueError or TypeError if it is neither."""
    found = list(labels.items()) if isinstance(labels, dict) else [(k, v) for k, v in labels]
    for name, _ in found:
        if type(name) is not str:
            raise ValueError(f"the name {name!r} is no text")
    return found


def canonical(name: str) -> str:
    """The one spelling of a path: 'a\\b.png', './a//b.png' and 'a/./b.png' are all 'a/b.png'.

    Letters with marks are single characters (NFC), as most systems write them.
    """
    unified = unicodedata.normalize("NFC", name).replace("\\", "/")
    parts = [part for part in unified.split("/") if part not in ("", ".")]
    return "/" * unified.startswith("/") + "/".join(parts)


def as_utf_8(name: str) -> str:
    """The name, bytes of it that are no UTF-8 written as \\udcff."""
    return name.encode(errors="backslashreplace").decode()


class Matched(NamedTuple):
    """What a list of labels says of some images."""

    labels: dict[str, Any]  # of the images that it names
    unknown: list[str]  # names that are none of the images


def match(labels: Iterable[tuple[str, Any]], images: Sequence[str], folder: str = "") -> Matched:
    """The labels of images that are named in whatever spelling.

    Args:
      labels: names, relative to the folder or to the root of the images, and their labels.
      images: paths with '/' from the root.
      folder: where the list of the labels lies, from the root; '' is the root.

    Raises:
      ValueError: a name may mean several images, or an image has two labels.
    """
    exact, spelled = set(images), collections.defaultdict(list)
    for image in images:
        spelled[canonical(image)].append(image)

    def named(name: str) -> list[str]:
        return [name] if name in exact else spelled.get(canonical(name), [])

    found: dict[str, Any] = {}
    unknown = []
    for name, label in labels:
        meant = (folder and named(f"{folder}/{name}")) or named(name)
        if len(meant) > 1:
            raise ValueError(f"{name!r} may mean {' or '.join(map(repr, meant))}")
        if not meant:
            unknown.append(name)
        elif found.setdefault(meant[0], label) != label:
            raise ValueError(f"{meant[0]} has two labels, {found[meant[0]]!r} and {label!r}")
    return Matched(found, unknown)
