"""A field that config files give: its meaning, its range and its default, and values against them.

    learning_rate: float = field(0.002, "of Adam, for both networks")

is a line of a dataclass; the type is that of the values.
"""

import dataclasses
import functools
import json
import operator
import types
import typing
from collections.abc import Mapping, Set
from typing import Any

_IS = {"above": operator.gt, "at least": operator.ge, "at most": operator.le, "below": operator.lt}


def field(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float = 10**12,
    choices: tuple[Any, ...] = (),
) -> Any:
    """A dataclass's field that config files give; it is known by its metadata.

    Args:
      default: its value in configs/default.py.
      meaning: its comment there, with its unit; errors repeat it.
      at_least, at_most, below: the range of a number, which is above 0 unless at_least is given.
      choices: all its values, if they are few.
    """
    limits = {"above": 0} if at_least is None else {"at least": at_least}
    limits |= {"below": below} if at_most is None else {"at most": at_most}
    rules = {"meaning": meaning, "limits": limits, "choices": choices}
    return dataclasses.field(default=default, metadata=rules)


share = functools.partial(field, at_least=0, at_most=1)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one dict with dotted names."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of flatten, for names with one dot at most."""
    config: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, last = name.rpartition(".")
        (config.setdefault(section, {}) if section else config)[last] = value
    return config


def checked(given: Mapping[str, Any], fields: Mapping[str, dataclasses.Field]) -> dict[str, Any]:
    """The values of all fields, each of its field's type and in its range, in the fields' order.

    Raises:
      ValueError: names the fields that are missing or unknown; or one, its value and what that must
        be.
    """
    missing, unknown = sorted(fields.keys() - given.keys()), sorted(given.keys() - fields.keys())
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown fields: {', '.join(unknown)}"] if unknown else []
        raise ValueError(f"the config {' and '.join(parts)}; start from configs/default.py")
    return {name: _checked(name, given[name], each) for name, each in fields.items()}


def check_unchanged(saved: dict, current: dict, may_change: Set[str]) -> None:
    """Raises ValueError naming each field in which a checkpoint's config and the present differ.

    Args:
      saved: nested dicts of JSON values, as a checkpoint holds them.
      current: the same of the present run.
      may_change: dotted names of the fields that may differ, as "report.every_kimg".
    """
    # JSON turns tuples into lists.
    old, new = (flatten(json.loads(json.dumps(config))) for config in (saved, current))
    differences = [
        f"  {name}: {_shown(old, name)} in the checkpoint, {_shown(new, name)} now"
        for name in sorted((old.keys() | new.keys()) - may_change)
        if name not in old or name not in new or old[name] != new[name]
    ]
    if differences:
        raise ValueError(
            "\n".join(["the config does not fit the checkpoint:", *differences])
            + "\nUse the checkpoint's values again, or start a new run in another --workdir."
        )


def _checked(name: str, value: Any, field: dataclasses.Field) -> Any:
    """The value as its field's type; whole numbers will do for floats."""
    kinds = typing.get_args(field.type) or (field.type,)
    if float in kinds and type(value) is int:
        value = float(value)
    if must_be := _unmet(value, kinds, field.metadata):
        raise ValueError(f"{name}={value!r} must be {must_be} ({field.metadata['meaning']})")
    return value


def _unmet(value: Any, kinds: tuple[type, ...], rules: Mapping[str, Any]) -> str:
    """What the value must be and is not; empty if it is right."""
    if type(value) not in kinds:
        expected = " or ".join("None" if k is types.NoneType else k.__name__ for k in kinds)
        return f"of type {expected}, not {type(value).__name__}"
    if rules["choices"]:
        choices = ", ".join(map(str, rules["choices"]))
        return "" if value in rules["choices"] else f"one of {choices}"
    if type(value) not in (int, float):
        return ""
    broken = [(side, n) for side, n in rules["limits"].items() if not _IS[side](value, n)]
    return " and ".join(f"{side} {n:,}" for side, n in broken)


def _shown(fields: dict, name: str) -> str:
    return repr(fields[name]) if name in fields else "absent"
