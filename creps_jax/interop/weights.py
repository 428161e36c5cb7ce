"""Weights from the files that people have them in: official pickles, .pt, .safetensors, .npz.

Whatever a file is called, what it is shows in its first bytes. Nothing in it is executed.
"""

import contextlib
import io
import json
import mmap
import os
import re
import stat
import struct
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
from creps_jax.interop.pickles import Instance, printable, shown
from creps_jax.interop.torch_files import Tensor

NETWORKS = ("G", "D", "G_ema")
CONFIG = "config"  # The entry, or the metadata, in which our own files carry the run's config.

_MAX_RATIO = 4  # How much larger than the file what is in it may be, unpacked, all arrays together.
_MAX_LIST = 2**24  # Bytes of the list of what is in a zip or a .safetensors.
_MAX_MEMBERS = 20_000  # Of a zip.
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
        named = {f"{n}/{k}": array for n, arrays in networks.items() for k, array in arrays.items()}
        _check_numbers(named, path)
        return Weights(networks, attributes, config, unused)


def read_arrays(path: str | os.PathLike) -> Arrays:
    """All arrays in a file by name, whatever network they are of; else as read()."""
    path = disk.local_path(path)
    with _errors(path):
        content, _ = _content(path)
        arrays = _only_arrays(content) if isinstance(content, dict) else {}
        if not arrays:
            raise ValueError("holds no arrays by name")
        _check_numbers(arrays, path)
        return arrays


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, MemoryError) as error:
        told = str(error) or "needs more memory than there is"
        raise ValueError(printable(f"{path}: {told}")) from error


def _content(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """What the file holds, and the config that came with it."""
    data = _mapped(path)
    if data[:4] == b"PK\x03\x04":
        return _zip(path, len(data))
    if data[4:9] == bytes(4) + b"{":  # Its first byte, of a length, may be that of a pickle.
        return _safetensors(path, data)
    if data[:1] == b"\x80":
        return torch_files.load_pickle(data), None
    if data[8:9] == b"{":
        return _safetensors(path, data)
    raise ValueError(f"is not {_KINDS}, by its first bytes {bytes(data[:8])!r}")


def _mapped(path: Path) -> memoryview:
    if not stat.S_ISREG(path.stat().st_mode):  # A pipe, say, would never end.
        raise ValueError("is no file")
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


# The forms of files that are no pickles.


class _Archive(io.FileIO):
    """A zip's file; zipfile reads the list of members as a whole, which is bounded here."""

    most = _MAX_LIST

    def read(self, size: int | None = -1, /) -> Any:
        """The next bytes."""
        if size is not None and size > self.most:
            raise ValueError(f"is a zip whose list of members has {size:,} bytes")
        return super().read(size)


def _zip(path: Path, size: int) -> tuple[Any, dict[str, Any] | None]:
    """What an .npz holds, or the zip of torch.save; and its config."""
    try:
        with _Archive(path) as file, zipfile.ZipFile(file) as archive:
            file.most = size
            infos = archive.infolist()
            _check_members(infos, size)
            infos = [info for info in infos if not info.is_dir()]
            if any(info.filename.endswith(".npy") for info in infos):
                return _arrays(archive, infos)
            members = {info.filename: _member(archive, info) for info in infos}
            return torch_files.load_members(members), None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"is a damaged zip: {error}") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes: no more are unpacked than it says that it has."""
    with archive.open(info) as member:
        return member.read(info.file_size)


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> None:
    if len(infos) > _MAX_MEMBERS:
        raise ValueError(f"is a zip with too many members, {len(infos):,}")
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
    archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]
) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Arrays and config of an .npz."""
    arrays: dict[str, np.ndarray] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name in arrays:
            raise ValueError(f"has two arrays {shown(name)}")
        try:
            with archive.open(info) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        except Exception as error:  # NumPy reads a header as Python's text: many kinds of errors.
            told = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"has no array in {shown(info.filename)}: {told[0]}") from error
    config = arrays.pop(CONFIG, None)
    if config is None:
        return arrays, None
    if config.shape != () or config.dtype.kind != "U":
        raise ValueError("has a config that is no text")
    try:  # NumPy takes any number for a character.
        text = config.astype(config.dtype.newbyteorder("<")).tobytes().decode("utf-32-le")
    except UnicodeDecodeError as error:
        raise ValueError(f"has a config that is no text: {error}") from error
    return arrays, _config(text)


def _safetensors(
    path: Path, data: memoryview
) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Arrays and config of a .safetensors."""
    if (size := struct.unpack("<Q", data[:8])[0]) > _MAX_LIST:
        raise ValueError(f"is a .safetensors with a list of {size:,} bytes, at most {_MAX_LIST:,}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
            config = (file.metadata() or {}).get(CONFIG)
        json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=_once)
    except (safetensors.SafetensorError, TypeError, AttributeError) as error:
        # Also of numbers that NumPy does not have.
        raise ValueError(f"is a .safetensors that cannot be read: {error}") from error
    return arrays, None if config is None else _config(config)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a JSON object, of which others take the last if a name is there twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"has the name {shown(name)} twice in a .safetensors")
        found[name] = value
    return found


def _config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also of very long numbers.
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
    networks, of_modules, unused = _nested(content)
    if not networks:
        networks, unused = _prefixed(content)
    unused += [name for name, arrays in networks.items() if not arrays]
    networks = {name: _unwrapped(arrays) for name, arrays in networks.items() if arrays}
    if not networks:
        raise ValueError(f"holds no arrays of {', '.join(NETWORKS)}")
    return networks, of_modules, unused


def _nested(
    content: dict[Any, Any],
) -> tuple[dict[str, Arrays], dict[str, dict[str, Any]], list[str]]:
    """Networks that are modules, or dicts of arrays, by their names; else as _networks."""
    networks: dict[str, Arrays] = {}
    attributes: dict[str, dict[str, Any]] = {}
    unused = []
    for name, part in content.items():
        if name in NETWORKS and isinstance(part, Instance):
            networks[name], attributes[name] = torch_files.tensors_of(part)
        elif name in NETWORKS and isinstance(part, dict):
            networks[name] = _only_arrays(part)
        elif name not in NETWORKS or part is not None:
            unused.append(str(name))
    return networks, attributes, unused


def _prefixed(content: dict[Any, Any]) -> tuple[dict[str, Arrays], list[str]]:
    """Networks of arrays that are called G/..., D/..., G_ema/..., or of one network alone."""
    networks: dict[str, dict[str, Any]] = {}
    arrays = _only_arrays(content)
    for entry, array in arrays.items():
        if match := _PREFIXED.fullmatch(entry):
            of_network = networks.setdefault(match[1], {})
            if match[2] in of_network:
                raise ValueError(f"has two arrays {shown(f'{match[1]}/{match[2]}')}")
            of_network[match[2]] = array
    if not networks:
        return {_kind(arrays or content): arrays}, []
    return networks, [name for name in map(str, content) if not _PREFIXED.fullmatch(name)]


_PREFIXED = re.compile("(G_ema|G|D)[/.](.+)", re.DOTALL)


def _unwrapped(arrays: Arrays) -> Arrays:
    """Without what PyTorch puts before all names of a module that several GPUs train."""
    wrapped = all(name.startswith("module.") for name in arrays)
    return {k.removeprefix("module."): a for k, a in arrays.items()} if wrapped else arrays


def _only_arrays(content: Mapping[Any, Any]) -> dict[str, Any]:
    kinds = (Tensor, np.ndarray)
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, kinds)}


def _kind(names: Iterable[Any]) -> str:
    """Which network it is by its entries' names: the average of G, or D."""
    names = [str(name).removeprefix("module.") for name in names]
    if any(name.startswith("synthesis.") for name in names):
        return "G_ema"
    if any(name.startswith("b4.") for name in names):
        return "D"
    raise ValueError(
        "has no entries G/..., D/... or G_ema/... and none of a network; it has "
        f"{', '.join(map(shown, names[:5])) or 'none'}"
    )


def _check_numbers(arrays: Arrays, path: Path) -> None:
    """Raises ValueError for what is no floats, or a few numbers seen as very many."""
    for name, array in arrays.items():
        is_float = np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"
        if not is_float and not name.endswith("num_batches_tracked"):
            raise ValueError(
                f"{name} is of type {array.dtype}, not of floats that NumPy and PyTorch share"
            )
    size, wanted = path.stat().st_size, sum(array.nbytes for array in arrays.values())
    if wanted > _MAX_RATIO * size:
        raise ValueError(f"has {size:,} bytes, and {wanted:,} of arrays, which share them")
