"""Weights in a file become a checkpoint of ours, which renders, and from which training starts."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from creps_jax import places
from creps_jax.checkpoint import Checkpoints, is_there_any
from creps_jax.config import (
    FIELDS,
    DiscriminatorConfig,
    GeneratorConfig,
    NetworkConfig,
    RunConfig,
    parse_saved,
)
from creps_jax.fields import flatten, nested
from creps_jax.interop import official, weights
from creps_jax.interop.pickles import printable
from creps_jax.interop.weights import Weights
from creps_jax.progress import Progress, Silent

Note = Callable[[str], None]


def import_file(
    path: str | os.PathLike,
    out: str | os.PathLike,
    note: Note = print,
    shown: Progress | None = None,
) -> RunConfig:
    """Writes the networks in a file as the checkpoint of step 0 in a folder.

    Args:
      path: of a file that weights.read knows.
      out: a folder without checkpoints, also gs://...; made if need be.
      note: takes lines on what the file holds, what it lacks and what is left out.
      shown: counts the networks' MiB as they are converted; None: nothing shows.

    Returns the config that they are saved with: the file's own, or the defaults for such networks.

    Raises:
      OSError: the file cannot be read, or the checkpoint not be written.
      ValueError: the file holds no generator, or an entry does not fit; it is named. Or the folder
        holds checkpoints.
    """
    out = places.path(out)
    _check_out(out)
    # Apart, so that the file's own memory is free before the checkpoint takes some.
    networks, raw_config, config = _converted(path, note, shown or Silent())
    with Checkpoints(out, keep=2) as checkpoints:
        ema = networks.pop("G_ema")
        names = {"G": "generator", "D": "discriminator"}
        state = {names[name]: variables for name, variables in networks.items()}
        data = {"imported": printable(os.fspath(path))}
        checkpoints.save(0, state=state, ema=ema, data=data, config=raw_config)
    return config


def _check_out(out: Path) -> None:
    """Raises ValueError for a folder that no checkpoint can be written into, or should be."""
    above = [out, *out.parents]
    for run in (out, *(folder.parent for folder in above if folder.name == "checkpoints")):
        if is_there_any(run):
            raise ValueError(f"{run} holds checkpoints already; give another folder")
    if not places.is_in_bucket(out):
        there = next(folder for folder in above if folder.exists())
        if not there.is_dir():
            raise ValueError(f"{there} is a file; give a folder")


def _converted(
    path: str | os.PathLike, note: Note, shown: Progress
) -> tuple[dict[str, Any], dict[str, Any], RunConfig]:
    """Variables by network, and their config, as it is saved and checked."""

    def told(line: str) -> None:
        note(printable(line))

    found = weights.read(path)
    try:
        networks, inferred = _networks(found, told, shown)
        raw_config, config = config_of(found.config, inferred)
    except ValueError as error:
        raise ValueError(printable(f"{path}: {error}")) from error
    for line in _description(Path(path).name, found, inferred, config):
        told(line)
    return networks, raw_config, config


def _networks(
    found: Weights, note: Note, shown: Progress
) -> tuple[dict[str, Any], dict[str, NetworkConfig]]:
    """Variables by network, G and G_ema at least; and what their shapes tell of G and of D."""
    given = found.networks
    of_d = "; training can start from the D in it, with --config.init_from" if "D" in given else ""
    if "G" not in given and "G_ema" not in given:
        raise ValueError(f"holds no generator{of_d}")
    sizes_mib = {
        name: sum(array.nbytes for array in arrays.values()) / 2**20
        for name, arrays in given.items()
    }
    shown.stage(sum(sizes_mib.values()), "MiB")
    networks: dict[str, Any] = {}
    configs: dict[str, NetworkConfig] = {}
    for name in ("G_ema", "G"):
        if name not in given:
            continue
        try:
            generator, variables = official.generator_from_arrays(given[name])
            if configs.setdefault("G", generator.config) != generator.config:
                raise ValueError("it is of another size than G_ema")
            networks[name] = variables
        except ValueError as error:
            if not networks:
                raise ValueError(f"{name}: {error}{of_d}") from error
            note(f"G is left out: {error}.")
        given[name] = dict.fromkeys(given[name])  # Its names; the memory of its arrays is free.
        shown.advance(sizes_mib[name])
    for name, other in (("G", "G_ema"), ("G_ema", "G")):
        if name not in networks:
            networks[name] = networks[other]
            note(f"There is no {name}: {other} stands for it.")
    if "D" not in given:
        note("There is no D: training begins with a new one.")
        return networks, configs
    try:
        discriminator, variables = official.discriminator_from_arrays(
            given["D"], _group_size(found.attributes.get("D", {}), note)
        )
        _check_pair(configs["G"], discriminator.config)
        networks["D"], configs["D"] = variables, discriminator.config
    except ValueError as error:
        note(f"D is left out, training begins with a new one: {error}.")
    shown.advance(sizes_mib["D"])
    return networks, configs


def _group_size(attributes: dict[str, Any], note: Note) -> int:
    """Images of a group of the minibatch statistics: what D's module says, if that can be."""
    default = FIELDS["discriminator.mbstd_group_size"].default
    told = attributes.get("b4.mbstd.group_size", default)
    if type(told) is int and told in (1, 2, 4, 8, 16, 32):
        return told
    note(f"D's group_size={told!r} is no power of two from 1 to 32: {default} stands for it.")
    return default


def _check_pair(generator: NetworkConfig, discriminator: NetworkConfig) -> None:
    for what, g, d in (
        ("blocks", len(generator.channels), len(discriminator.channels)),
        ("image channels", generator.image_channels, discriminator.image_channels),
        ("classes", generator.num_classes, discriminator.num_classes),
    ):
        if g != d:
            raise ValueError(f"it has {d} {what}, G has {g}")


# What arrays tell of a network, and so a config that comes with them must say too.
_OF_BOTH = ("channels", "image_channels", "num_classes")
_OF_G = ("z_dim", "w_dim", "mapping_layers", "biline_channels", "thickness")
_TOLD_BY_SHAPES = {"G": (*_OF_BOTH, *_OF_G), "D": (*_OF_BOTH, "base")}


def config_of(
    saved: dict[str, Any] | None, inferred: dict[str, NetworkConfig]
) -> tuple[dict[str, Any], RunConfig]:
    """The config that came with the weights, or the defaults for networks of these sizes."""
    fields = {name: field.default for name, field in FIELDS.items()}
    fields |= flatten(saved) if saved else _fields(inferred)
    raw_config = nested(fields)
    config = parse_saved(raw_config)
    of_config = {"G": config.generator, "D": config.discriminator}
    for name, network in inferred.items():
        for field in _TOLD_BY_SHAPES[name]:
            told, found = (getattr(c, field) for c in (of_config[name], network))
            if told != found:
                raise ValueError(f"its config gives {name} {field} {told}, its arrays have {found}")
    return raw_config, config


def _fields(inferred: dict[str, NetworkConfig]) -> dict[str, Any]:
    """The fields of a config that networks of these sizes have."""
    generator, discriminator = inferred["G"], inferred.get("D")
    assert isinstance(generator, GeneratorConfig)
    height, width = (discriminator or generator).shape
    fields: dict[str, Any] = {
        "resolution": height,
        "width": None if width == height else width,
        "image_channels": generator.image_channels,
        "num_classes": generator.num_classes,
        **{f"generator.{name}": getattr(generator, name) for name in _OF_G},
        **_widths("generator", generator),
    }
    if isinstance(discriminator, DiscriminatorConfig):
        fields |= _widths("discriminator", discriminator)
        fields["discriminator.mbstd_group_size"] = discriminator.mbstd_group_size
        if discriminator.num_classes:
            fields["discriminator.mapping_layers"] = discriminator.mapping_layers
    return fields


def _widths(section: str, config: NetworkConfig) -> dict[str, int]:
    """base and maximum for which block b has min(base // b, maximum) channels."""
    most = max(config.channels)
    by_block = [(4 << i, channels) for i, channels in enumerate(config.channels)]
    low = max(b * channels for b, channels in by_block)
    above = min((b * (c + 1) for b, c in by_block if c < most), default=None)
    if above is not None and low >= above:
        raise ValueError(
            f"the {section}'s widths {' '.join(map(str, config.channels))} are not "
            "min(channel_base / b, channel_max) for blocks 4, 8, ... of any base and maximum"
        )
    names = f"{section}.channel_base", f"{section}.channel_max"
    return dict(zip(names, (low, most), strict=True))


_SIDE = r"(?<!\d)(?:64|128|256|512|1024|2048)(?!\d)"  # px, as in church256.pkl.


def _description(
    name: str, found: Weights, inferred: dict[str, NetworkConfig], config: RunConfig
) -> list[str]:
    """What the file holds, as sentences."""
    (height, width), g = config.generator.shape, config.generator
    taken = {n: a for n, a in found.networks.items() if n != "D" or "D" in inferred}
    classes = f"{g.num_classes} classes" if g.num_classes else "no classes"
    lines = [
        f"{name}: {', '.join(taken)} of {height} x {width} px, {g.image_channels} "
        f"channels, {classes}; widths {' '.join(map(str, g.channels))}, "
        f"{g.biline_channels} bi-line channels, thickness {g.thickness}."
    ]
    said = re.findall(r"\d{2,5}x\d{2,5}", name) or re.findall(_SIDE, name)
    if said and not {f"{height}x{width}", str(height)} & set(said):
        lines.append(f"Its name says {said[0]}; what counts are its arrays.")
    never = [
        f"{network}/{entry}"
        for network, arrays in taken.items()
        for entry in arrays
        if official.UNUSED.fullmatch(entry)
    ]
    if never:
        lines.append(
            f"{len(never)} entries are left out that the official program never uses, or that are "
            f"constants: {never[0]} and others."
        )
    if found.unused:
        lines.append(f"Also left out: {', '.join(found.unused)}.")
    return lines
