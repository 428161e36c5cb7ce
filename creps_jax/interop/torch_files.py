"""Reads what PyTorch writes, without PyTorch and without executing anything.

There are three forms: a pickle whose tensors are files of their own in it (the official program's
checkpoints), the legacy form of torch.save, in which the numbers follow the pickle, and its zip.
All give plain dicts, Instances of modules, and Tensors, which are views of the file.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from creps_jax.interop.pickles import Budget, Instance, Known, Machine, shown

_MAGIC = 0x1950A86A20F9469CFC6C  # The first pickle of a legacy file.
_PROTOCOL = 1001  # The second.
_MAX_AXES = 16
_MAX_NAME = 500  # Characters of an entry's.
_MAX_PARTS = 1_000_000  # Of all modules together: a checkpoint has some ten thousand.

_STORAGES: dict[str, Any] = {
    "Float": np.float32,
    "Half": np.float16,
    "Double": np.float64,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}


@dataclasses.dataclass(eq=False)
class Storage:
    """Numbers in a row, of which tensors are views."""

    dtype: np.dtype
    count: int
    data: memoryview | None = None  # Its bytes; only in the end a file says where they are.

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.count * self.dtype.itemsize

    def numbers(self) -> np.ndarray:
        """All of them; a view of the file.

        Raises:
          ValueError: the file has none.
        """
        if self.data is None:
            raise ValueError("has a tensor whose numbers are missing")
        return np.frombuffer(self.data, self.dtype, self.count)


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage, in its numbers; NumPy takes it for an array."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Of its numbers."""
        return self.storage.dtype

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Its numbers; a view of the file if its dtype is wanted."""
        numbers = self.storage.numbers()[self.offset :]
        strides = [self.dtype.itemsize * stride for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)
        return np.array(view, dtype, copy=copy)


# What a file holds.


def load_pickle(data: memoryview) -> Any:
    """What a pickle, or a legacy file of torch.save, holds.

    Raises:
      ValueError: it is neither, is damaged, or has what is not known.
    """
    budget = Budget()
    inside = {"torch.storage._load_from_bytes": functools.partial(_load_legacy, budget)}
    first = Machine(data, KNOWN | inside, budget=budget).load()
    return _load_legacy(budget, data) if first == _MAGIC else first


def _load_legacy(budget: Budget, data: Any) -> Any:
    """What a legacy file holds: four pickles and the storages' keys, then their numbers."""
    if not isinstance(data, memoryview):
        raise ValueError("is no bytes")
    storages: dict[str, Storage] = {}
    machine = Machine(data, KNOWN, functools.partial(_storage_of, storages), budget)
    if machine.load() != _MAGIC or machine.load() != _PROTOCOL:
        raise ValueError("is no file of torch.save")
    _check_order(isinstance(system := machine.load(), dict) and system.get("little_endian") is True)
    content, keys = machine.load(), machine.load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("has no list of its storages")
    for key in keys:
        if key not in storages:
            raise ValueError(f"has numbers of a storage {shown(key)} that nothing uses")
        storage = storages[key]
        if (count := machine.number("<q")) != storage.count:
            raise ValueError(f"has {count:,} numbers in place of {storage.count:,}")
        storage.data = machine.take(storage.nbytes)
    if lacking := [key for key, storage in storages.items() if storage.data is None]:
        raise ValueError(f"lacks the numbers of the storage {shown(lacking[0])}")
    return content


def load_members(members: Mapping[str, bytes]) -> Any:
    """What the members of a zip of torch.save hold, which are by name.

    Raises:
      ValueError: it is another zip, is damaged, or has what is not known.
    """
    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"has {len(pickles)} members data.pkl in place of one")
    folder = pickles[0].removesuffix("data.pkl")
    _check_order(members.get(f"{folder}byteorder", b"little") == b"little")
    storages: dict[str, Storage] = {}
    referred = functools.partial(_storage_of, storages)
    content = Machine(memoryview(members[pickles[0]]), KNOWN, referred).load()
    for key, storage in storages.items():
        found = memoryview(members.get(f"{folder}data/{key}", b""))
        if len(found) < storage.nbytes:
            raise ValueError(
                f"has {len(found):,} bytes of the storage {shown(key)} in place of "
                f"{storage.nbytes:,}"
            )
        storage.data = found
    return content


def _check_order(is_little: bool) -> None:
    if not is_little:
        raise ValueError("was written on a big-endian machine; save it again on a common one")


def tensors_of(module: Instance) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A module's parameters and buffers by their names in its state_dict; and its plain attributes.

    Raises:
      ValueError: it is no module, or one is in it twice.
    """
    tensors: dict[str, Tensor] = {}
    attributes: dict[str, Any] = {}
    left, met, count = [("", module)], {id(module)}, 0
    while left:
        prefix, module = left.pop()
        parts = [module.state.get(k) or {} for k in ("_parameters", "_buffers", "_modules")]
        transient = module.state.get("_non_persistent_buffers_set") or []
        if not isinstance(transient, list) or not all(isinstance(part, dict) for part in parts):
            raise ValueError(f"{shown(module.name)} is no module")
        count += sum(map(len, (module.state, transient, *parts)))
        if count > _MAX_PARTS or len(prefix) > _MAX_NAME:
            raise ValueError(f"{shown(prefix)} has too many parts, or too long a name")
        parameters, buffers, modules = (_named(part) for part in parts)
        skipped = {name for name in transient if isinstance(name, str)}
        for name, value in (parameters | buffers).items():
            if isinstance(value, Tensor) and name not in skipped:
                tensors[f"{prefix}{name}"] = value
        for name, value in _named(module.state).items():
            if isinstance(value, bool | int | float):
                attributes[f"{prefix}{name}"] = value
        for name, part in modules.items():
            if part is None:
                continue
            if not isinstance(part, Instance) or id(part) in met:
                raise ValueError(f"{shown(f'{prefix}{name}')} is no module, or there twice")
            met.add(id(part))
            left.append((f"{prefix}{name}.", part))
    return tensors, attributes


def _named(items: dict[Any, Any]) -> dict[str, Any]:
    """Those whose key is a name."""
    return {k: v for k, v in items.items() if isinstance(k, str) and len(k) <= _MAX_NAME}


# What the names in a file stand for. These functions get whatever it gives them.


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _storage_of(storages: dict[str, Storage], reference: Any) -> Storage | Known:
    """What a persistent id means.

    ('storage', kind, key, device, count, no view), or ('module', class, its file, its source).
    """
    match reference:
        case ("module", Known() as named, _, _):
            return named
        case ("storage", _, _, _, _) | ("storage", _, _, _, _, None):
            _, kind, key, _, count = reference[:5]
        case _:
            raise ValueError("has a persistent id that is no storage's")
    is_kind = isinstance(kind, Known) and isinstance(kind.meaning, np.dtype)
    if not is_kind or not isinstance(key, str) or not _is_count(count):
        raise ValueError("has a wrong storage")
    found = storages.setdefault(key, Storage(kind.meaning, count))
    if (found.dtype, found.count) != (kind.meaning, count):
        raise ValueError(f"has two storages {shown(key)}")
    return found


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _needs_gradient: Any = False,
    _hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """torch._utils._rebuild_tensor_v2; views that repeat numbers are not taken."""
    if metadata:  # {'neg': True}: numbers of the other sign.
        raise ValueError("is a view that negates, or the like; save a .clone() of it")
    if not isinstance(storage, Storage) or not _is_count(offset):
        raise ValueError("has no storage")
    for counts in (shape, strides):
        if not isinstance(counts, tuple) or not all(map(_is_count, counts)):
            raise ValueError("has a wrong shape")
    if len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise ValueError(f"has {len(shape)} axes and {len(strides)} strides")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if any(stride == 0 and n > 1 for n, stride in zip(shape, strides, strict=True)):
        raise ValueError(f"of shape {shape} repeats numbers; save a .contiguous() copy")
    if math.prod(shape) > storage.count or (0 not in shape and last >= storage.count):
        raise ValueError(f"of shape {shape} reaches beyond its {storage.count:,} numbers")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("is no tensor")
    return tensor


def _persistent(meta: Any) -> Instance:
    """torch_utils.persistence._reconstruct_persistent_obj; the source text in it is not read."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise ValueError("is no class")
    built = Instance(meta["class_name"])
    built.build(meta.get("state") or {})
    return built


class _NumPyType(Instance):
    """numpy.dtype('f8', False, True)."""

    def __init__(self, code: Any, *_: Any) -> None:
        super().__init__("numpy.dtype")
        if not isinstance(code, str):  # What is hashed below.
            raise ValueError("is of no number")
        if code not in {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} | {"b1"}:
            raise ValueError("is of no number")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Takes the order of bytes, the second of eight values."""
        if not isinstance(state, tuple) or state[1:2] not in (("<",), ("|",), ("=",)):
            raise ValueError("has numbers of a big-endian machine")


def _scalar(kind: Any, data: Any) -> Any:
    is_right = isinstance(kind, _NumPyType) and isinstance(data, memoryview | bytes)
    if not is_right or len(data) != kind.dtype.itemsize:
        raise ValueError("is no number")
    return np.frombuffer(data, kind.dtype)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """_codecs.encode: how bytes are written in old protocols."""
    is_one = isinstance(text, str) and isinstance(encoding, str) and encoding == "latin1"
    if not is_one or len(text) > _MAX_NAME:
        raise ValueError("is no short text in latin1")
    return text.encode("latin1")


def _size(sides: Any) -> tuple[Any, ...]:
    if not isinstance(sides, tuple | list) or len(sides) > _MAX_AXES:
        raise ValueError("is no size")
    return tuple(sides)


def _items(items: Any = None) -> list[Any]:
    """A set: the list that it is made of, not a copy."""
    if not isinstance(items, list | None):
        raise ValueError("is no list")
    return [] if items is None else items


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    """Filled afterwards."""
    if pairs != () and pairs != []:
        raise ValueError("is filled where it is made")
    return {}


def _classes(*names: str) -> dict[str, Any]:
    """Classes whose objects are made without arguments, and then take a state."""
    return {name: functools.partial(Instance, name) for name in names}


KNOWN: dict[str, Any] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    **_classes("training.networks_creps.SynthesisInput"),
    **_classes(
        *(
            f"torch.nn.modules.container.{name}"
            for name in ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
        )
    ),
    "collections.OrderedDict": _dict,
    "dnnlib.util.EasyDict": _dict,
    **dict.fromkeys(("builtins.set", "__builtin__.set"), _items),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **{f"torch.{kind}Storage": np.dtype(dtype) for kind, dtype in _STORAGES.items()},
    **{f"torch.{name}": name for name in ("float16", "bfloat16", "float32", "float64", "int64")},
    "torch.Size": _size,
    "torch.device": lambda name, *_: name,
    "numpy.dtype": _NumPyType,
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), _scalar),
    "_codecs.encode": _encode,
}
