"""Weights from the files that people have them in: official pickles, .pt, .safetensors, .npz.

Whatever a file is called, what it is shows in its first bytes. Nothing in it is executed.
"""

import contextlib
import json
import math
import mmap
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from creps_jax import disk
from creps_jax.interop import torch_files
from creps_jax.interop.official import Arrays
from creps_jax.interop.pickles import Instance, shown
from creps_jax.interop.torch_files import Tensor

NETWORKS = ("G", "D", "G_ema")
CONFIG = "config"  # The entry, or the metadata, in which our own files carry the run's config.

# How much larger than the file what is in it may be, unpacked; and tensors, than their numbers.
_MAX_RATIO = 4
_MAX_SHARED = 4
_KINDS = "an official pickle, a file of torch.save, .safetensors or .npz"


class Weights(NamedTuple):
    """What a file holds."""

    networks: dict[str, Arrays]  # by name (G, D, G_ema) and official name, those that are there
    attributes: dict[str, dict[str, Any]]  # of the same networks' modules, where the file has them
    config: dict[str, Any] | None  # of the run, in our own files
    unused: list[str]  # What else is in it.


def read(path: str | os.PathLike) -> Weights:
    """The weights in a file.

    Arrays are views of the file, or, of zips, of their unpacked members; of any kind of number.

    Raises:
      OSError: the file cannot be read.
      ValueError: it holds no networks, is damaged, or holds what is not known; that is named.
    """
    path = disk.local_path(path)
    with _errors(path):
        content, config = _content(path)
        networks, attributes, unused = _networks(content)
        for name, arrays in networks.items():
            _check_numbers(name, arrays)
        return Weights(networks, attributes, config, unused)


def read_arrays(path: str | os.PathLike) -> Arrays:
    """All arrays in a file by name, whatever network they are of; else as read()."""
    path = disk.local_path(path)
    with _errors(path):
        content, _ = _content(path)
        arrays = _only_arrays(content) if isinstance(content, dict) else {}
        if not arrays:
            raise ValueError("holds no arrays by name")
        _check_numbers("arrays", arrays)
        return arrays


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _content(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """What the file holds, and the config that came with it."""
    data = _mapped(path)
    if data[:4] == b"PK\x03\x04":
        return _zip(path, len(data))
    if data[:1] == b"\x80":
        return torch_files.load_pickle(data), None
    if data[8:9] == b"{":
        return _safetensors(path)
    raise ValueError(f"is not {_KINDS}, by its first bytes {bytes(data[:8])!r}")


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


# The forms of files that are no pickles.


def _zip(path: Path, size: int) -> tuple[Any, dict[str, Any] | None]:
    """What an .npz holds, or the zip of torch.save; and its config."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_members(infos, size)
            names = [info.filename for info in infos if not info.is_dir()]
            if any(name.endswith(".npy") for name in names):
                return _arrays(archive, names)
            return torch_files.load_members({name: archive.read(name) for name in names}), None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"is a damaged zip: {error}") from error


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> None:
    names = set()
    for info in infos:
        name, parts = info.filename, info.filename.split("/")
        if name in names:
            raise ValueError(f"is a zip with two members {shown(name)}")
        if not name or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
            raise ValueError(f"is a zip with a member outside of it, {shown(name)}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"is a zip whose member {shown(name)} is packed in an unusual way")
        if info.flag_bits & 1:
            raise ValueError(f"is a zip whose member {shown(name)} is encrypted")
        names.add(name)
    unpacked = sum(info.file_size for info in infos)
    if unpacked > _MAX_RATIO * size:
        raise ValueError(f"is a zip of {size:,} bytes that unpacks to {unpacked:,}, as bombs do")


def _arrays(
    archive: zipfile.ZipFile, names: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Arrays and config of an .npz."""
    arrays = {}
    for name in names:
        try:
            with archive.open(name) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
        except Exception as error:  # NumPy reads a header as Python's text: many kinds of errors.
            told = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"has no array in {shown(name)}: {told[0]}") from error
        arrays[name.removesuffix(".npy")] = array
    config = arrays.pop(CONFIG, None)
    return arrays, None if config is None else _config(str(config))


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Arrays and config of a .safetensors."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config = (file.metadata() or {}).get(CONFIG)
    except (safetensors.SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(f"is a damaged .safetensors: {error}") from error
    return arrays, None if config is None else _config(config)


def _config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"has a config that is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError("has a config that is no JSON of fields")
    return config


# Which networks they are.


def _networks(
    content: Any,
) -> tuple[dict[str, Arrays], dict[str, dict[str, Any]], list[str]]:
    """Networks, their attributes, and the names of what is none."""
    if isinstance(content, Instance):  # One network alone.
        tensors, attributes = torch_files.tensors_of(content)
        name = _kind(tensors)
        return {name: tensors}, {name: attributes}, []
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not networks")
    networks: dict[str, Arrays] = {}
    attributes: dict[str, dict[str, Any]] = {}
    for name in NETWORKS:
        part = content.get(name)
        if isinstance(part, Instance):
            networks[name], attributes[name] = torch_files.tensors_of(part)
        elif isinstance(part, dict):
            networks[name] = _only_arrays(part)
    if networks:
        return networks, attributes, [str(name) for name in content if name not in networks]
    arrays = _only_arrays(content)
    named = [(re.fullmatch("(G_ema|G|D)[/.](.+)", name), array) for name, array in arrays.items()]
    for match, array in named:
        if match:
            networks.setdefault(match[1], {})[match[2]] = array
    if not networks:
        networks[_kind(arrays)] = arrays
        return networks, {}, []
    return networks, {}, [n for n in content if not re.match("(G_ema|G|D)[/.]", str(n))]


def _only_arrays(content: Mapping[Any, Any]) -> dict[str, Any]:
    kinds = (Tensor, np.ndarray)
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, kinds)}


def _kind(names: Iterable[str]) -> str:
    """Which network it is by its entries' names: the average of G, or D."""
    names = list(names)
    if any(name.startswith("synthesis.") for name in names):
        return "G_ema"
    if any(name.startswith("b4.") for name in names):
        return "D"
    raise ValueError(
        "has no entries G/..., D/... or G_ema/... and none of a network; it has "
        f"{', '.join(map(shown, names[:5])) or 'none'}"
    )


def _check_numbers(network: str, arrays: Arrays) -> None:
    """Raises ValueError for what is no floats, or a few numbers seen as very many."""
    held = {}
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            if name.endswith("num_batches_tracked"):
                continue
            raise ValueError(f"{network}/{name} is of type {array.dtype}, not of floats")
        own = array.storage if isinstance(array, Tensor) else array
        held[id(own)] = own.nbytes
    wanted = sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays.values())
    if wanted > _MAX_SHARED * sum(held.values()):
        raise ValueError(f"{network} has {wanted:,} bytes of arrays in {sum(held.values()):,}")
