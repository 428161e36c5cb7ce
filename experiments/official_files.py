"""Writes the official program's pickles, and torch.save's files, opcode by opcode.

Nothing official is imported, nor PyTorch: what a file looks like was read off real ones.
"""

import dataclasses
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {
    "protocol_version": PROTOCOL,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}
BUFFERS = ("w_avg", "freqs", "coords", "resample_filter")


@dataclasses.dataclass(frozen=True)
class Name:
    """A global: 'module.name'."""

    full: str


@dataclasses.dataclass(frozen=True)
class Call:
    """The result of a global called with arguments."""

    function: Name
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class New:
    """An object of a class, made without arguments, and its state."""

    kind: Name
    state: Any


@dataclasses.dataclass(frozen=True)
class Built:
    """What is made, and then takes a state."""

    made: Call
    state: Any


@dataclasses.dataclass(frozen=True)
class Memorised:
    """A value that is memorised under a number."""

    number: int
    value: Any


@dataclasses.dataclass(frozen=True)
class Recalled:
    """What was memorised under a number."""

    number: int


@dataclasses.dataclass(frozen=True)
class Reference:
    """A persistent id."""

    identity: Any


def dumps(value: Any, protocol: int = 4) -> bytes:
    """The pickle of a value."""
    return b"".join((pickle.PROTO, bytes([protocol]), *_opcodes(value, protocol), pickle.STOP))


def _opcodes(value: Any, protocol: int):
    def of(part):
        return _opcodes(part, protocol)

    match value:
        case None:
            yield pickle.NONE
        case bool():
            yield pickle.NEWTRUE if value else pickle.NEWFALSE
        case int() if 0 <= value < 256:
            yield pickle.BININT1 + bytes([value])
        case int() if abs(value) < 2**31:
            yield pickle.BININT + struct.pack("<i", value)
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            yield pickle.LONG1 + bytes([len(data)]) + data
        case float():
            yield pickle.BINFLOAT + struct.pack(">d", value)
        case str():
            data = value.encode()
            yield pickle.BINUNICODE + struct.pack("<I", len(data)) + data
        case bytes():
            yield pickle.BINBYTES + struct.pack("<I", len(value)) + value
        case tuple():
            yield pickle.MARK
            for part in value:
                yield from of(part)
            yield pickle.TUPLE
        case list():
            yield pickle.EMPTY_LIST + pickle.MARK
            for part in value:
                yield from of(part)
            yield pickle.APPENDS
        case set():
            yield pickle.EMPTY_SET
        case dict():
            if isinstance(value, OrderedDict):
                yield from of(Call(Name("collections.OrderedDict"), ()))
            else:
                yield pickle.EMPTY_DICT
            yield pickle.MARK
            for key, part in value.items():
                yield from of(key)
                yield from of(part)
            yield pickle.SETITEMS
        case Name():
            module, _, name = value.full.rpartition(".")
            if protocol < 4:
                yield pickle.GLOBAL + f"{module}\n{name}\n".encode()
            else:
                yield from (*of(module), *of(name), pickle.STACK_GLOBAL)
        case Call():
            yield from (*of(value.function), *of(value.arguments), pickle.REDUCE)
        case New():
            yield from (*of(value.kind), *of(()), pickle.NEWOBJ, *of(value.state), pickle.BUILD)
        case Built():
            yield from (*of(value.made), *of(value.state), pickle.BUILD)
        case Memorised():
            yield from (*of(value.value), pickle.BINPUT, bytes([value.number]))
        case Recalled():
            yield pickle.BINGET + bytes([value.number])
        case Reference():
            yield from (*of(value.identity), pickle.BINPERSID)
        case _:
            raise TypeError(type(value))


# What PyTorch makes of arrays.


def tensor(of: Any, array: np.ndarray) -> Call:
    # As tobytes("A") writes it.
    stored = np.empty(array.shape, array.dtype, "F" if np.isfortran(array) else "C")
    strides = tuple(stride // array.itemsize for stride in stored.strides)
    arguments = (of, 0, array.shape, strides, False, OrderedDict())
    return Call(Name("torch._utils._rebuild_tensor_v2"), arguments)


def storage(array: np.ndarray, key: str) -> Reference:
    kind = Name(f"torch.{STORAGES[array.dtype.name]}")
    return Reference(("storage", kind, key, "cuda:0", array.size))


def legacy(content: Any, arrays: dict[str, np.ndarray]) -> bytes:
    """A file of torch.save's old form: the content refers to the arrays' storages by their keys."""
    pickles = [dumps(x, protocol=2) for x in (MAGIC, PROTOCOL, SYSTEM, content, [*arrays])]
    numbers = [struct.pack("<q", a.size) + a.tobytes("A") for a in arrays.values()]
    return b"".join(pickles + numbers)


def state_dict(arrays: dict[str, np.ndarray]) -> OrderedDict[str, Any]:
    """A module's arrays by name, whose storages are called by the same names."""
    return OrderedDict((k, tensor(storage(a, k), a)) for k, a in arrays.items())


def zipped(content: Any, arrays: dict[str, np.ndarray]) -> bytes:
    """A file of torch.save's present form."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", dumps(content, protocol=2))
        archive.writestr("archive/byteorder", "little")
        for key, array in arrays.items():
            archive.writestr(f"archive/data/{key}", array.tobytes("A"))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


# The official program's networks.


def network(arrays: dict[str, np.ndarray], attributes: dict[str, Any], path: str = "") -> Any:
    """The module that has these arrays, by their names in its state_dict.

    Args:
      attributes: plain ones, by their full names, as b4.mbstd.group_size.
      path: of this module in the whole.
    """
    parameters, buffers, modules = OrderedDict(), OrderedDict(), {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        if rest:
            modules.setdefault(first, {})[rest] = array
            continue
        # Each tensor is in a legacy file of its own.
        data = legacy(storage(array, "0"), {"0": array})
        loaded = tensor(Call(Name("torch.storage._load_from_bytes"), (data,)), array)
        if name in BUFFERS:
            buffers[name] = loaded
        else:
            rebuild = Name("torch._utils._rebuild_parameter")
            parameters[name] = Call(rebuild, (loaded, True, OrderedDict()))
    for name in attributes:
        if "." in name:
            modules.setdefault(name.partition(".")[0], {})
    state = {
        "training": False,
        "_parameters": parameters,
        "_buffers": buffers,
        "_non_persistent_buffers_set": set(),
        "_modules": OrderedDict(
            (first, network(part, _below(attributes, first), f"{path}{first}."))
            for first, part in modules.items()
        ),
        "lr_multiplier": _scalar(1.0),
        **{name: value for name, value in attributes.items() if "." not in name},
    }
    if path.endswith("b4.input."):
        return New(Name("training.networks_creps.SynthesisInput"), state)
    if "decoder_" in path and "decoder_img" not in path and path.count(".") == 2:
        return New(Name("torch.nn.modules.container.Sequential"), state)
    meta = {
        "type": "class",
        "version": 6,
        "module_src": "import os  # The whole source text of the module.\n" * 20,
        "class_name": "Network",
        "state": state,
    }
    return Call(Name("torch_utils.persistence._reconstruct_persistent_obj"), (meta,))


def _below(attributes: dict[str, Any], first: str) -> dict[str, Any]:
    start = f"{first}."
    return {k.removeprefix(start): v for k, v in attributes.items() if k.startswith(start)}


def _scalar(value: float) -> Call:
    kind = Call(Name("numpy.dtype"), ("f8", False, True))
    order = (3, "<", None, None, None, -1, -1, 0)
    kind = Built(kind, order)
    return Call(Name("numpy.core.multiarray.scalar"), (kind, struct.pack("<d", value)))


def official_pickle(networks: dict[str, dict[str, np.ndarray]], group_size: int = 4) -> bytes:
    """A checkpoint of the official program; a network that is not given is None there."""
    attributes = {"D": {"b4.mbstd.group_size": group_size}}
    content = {
        name: network(networks[name], attributes.get(name, {})) if name in networks else None
        for name in ("G", "D", "G_ema")
    }
    easy = Name("dnnlib.util.EasyDict")
    return dumps({**content, "augment_pipe": None, "training_set_kwargs": Call(easy, ())})
