"""Files that want to harm who reads them, and a process that reads them all.

    python -m experiments.hostile_files FOLDER

prints a line of JSON for each file there: its name, what it gave or the error, seconds, and the
MiB by which the process's peak memory has grown.
"""

import io
import json
import operator
import os
import pathlib
import pickle
import resource
import struct
import sys
import time
import zipfile
import zlib

import numpy as np
import safetensors.numpy

from creps_jax.interop import weights
from experiments.official_files import (
    MAGIC,
    Call,
    Memorised,
    Name,
    New,
    Recalled,
    dumps,
    legacy,
    official_pickle,
    state_dict,
    storage,
    tensor,
    zipped,
)

SMALL = {
    "synthesis.b8.fc1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "synthesis.b4.input.freqs": np.ones((1, 4), np.float32),
    "mapping.w_avg": np.zeros(3, np.float32),
}


class Calling:
    """An object whose pickle calls a function, as Python's own makes it."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def reference_files():
    """Small files of all forms, which are as they should be: what mutations start from."""
    npz = io.BytesIO()
    np.savez(npz, **SMALL)
    return {
        "official.pkl": official_pickle({"G": SMALL, "G_ema": SMALL}),
        "legacy.pt": legacy(state_dict(SMALL), SMALL),
        "zipped.pt": zipped(state_dict(SMALL), SMALL),
        "small.npz": npz.getvalue(),
        "small.safetensors": safetensors.numpy.save(SMALL),
    }


def hostile_files(touched: str):
    """Files by name; those that are executed would touch a path."""
    command = f"touch {touched}"
    code = f"open({touched!r}, 'w')"
    files = {
        "os_system": Calling(os.system, command),
        "eval": Calling(eval, code),
        "exec": Calling(exec, code),
        "open": Calling(open, touched, "w"),
        "import": Calling(__import__, "os"),
        "getattr": Calling(getattr, Calling(__import__, "os"), "system"),
        "getattr_chain": Calling(operator.attrgetter("system.__call__"), 1),
        "in_a_dict": {"G": {"synthesis.a": Calling(os.system, command)}},
        "object_array": {"G": {"synthesis.a": np.array([Calling(os.system, command)], object)}},
        "array": {"G": {"synthesis.a": np.zeros(3)}},
    }
    made = {name: pickle.dumps(value, 4) for name, value in files.items()}
    made |= {f"{name}_2": pickle.dumps(files[name], 2) for name in ("os_system", "eval")}
    made |= {f"{name}_0": pickle.dumps(files[name], 0) for name in ("os_system",)}

    def raw(*opcodes: bytes) -> bytes:
        return b"".join((pickle.PROTO, b"\x04", *opcodes, pickle.STOP))

    def called(name: str, *arguments):
        return dumps(Call(Name(name), arguments))

    official = official_pickle({"G": SMALL})
    half = len(official) // 2
    made |= {
        "nested_name": called("torch._utils._rebuild_tensor_v2.__globals__"),
        "dotted_name": called("os.path.os.system", command),
        "empty_name": called("."),
        "persistent_with_code": called(
            "torch_utils.persistence._reconstruct_persistent_obj",
            {"type": "class", "module_src": f"import os; os.system({command!r})"},
        ),
        "called_state": dumps(Call(Name("torch.device"), (Call(Name("builtins.eval"), (code,)),))),
        "inst": raw(b"(S'" + command.encode() + b"'\n", b"ios\nsystem\n"),
        "obj": raw(b"(cos\nsystem\n", b"X\x01\x00\x00\x00a", b"o"),
        "extension": raw(b"\x82\x01"),
        "extension_4": raw(b"\x84\x01\x02\x03\x04"),
        "copyreg": called("copyreg._reconstructor", Name("builtins.object")),
        "copyreg_extension": called("copyreg.add_extension", "os", "system", 1),
        "build_of_class": dumps(New(Name("collections.OrderedDict"), {"__class__": 1})),
        "setstate": dumps(New(Name("torch.nn.modules.container.Sequential"), {"__setstate__": 1})),
        "state_is_class": dumps(
            New(Name("torch.nn.modules.container.Sequential"), {"__class__": Name("builtins.dict")})
        ),
        "buffers": raw(pickle.NEXT_BUFFER),
        "bytearray": raw(pickle.BYTEARRAY8 + struct.pack("<Q", 2**40)),
        "long_4": raw(b"\x8b" + struct.pack("<i", 2**31 - 1)),
        "gigabyte_bytes": raw(pickle.BINBYTES8 + struct.pack("<Q", 2**40)),
        "gigabyte_text": raw(pickle.BINUNICODE + struct.pack("<I", 2**32 - 1)),
        "gigabyte_frame": raw(pickle.FRAME + struct.pack("<Q", 2**60), pickle.NONE),
        "line_without_end": raw(b"c" + b"a" * 10**6),
        "protocol": b"\x80\xff" + pickle.STOP,
        "no_stop": b"\x80\x04" + b"]" * 1000,
        "empty_stack": raw(),
        "no_mark": raw(pickle.TUPLE),
        "memo_of_nothing": raw(pickle.LONG_BINGET + struct.pack("<I", 2**32 - 1)),
        "memo_of_itself": raw(b"]", pickle.BINPUT, b"\x00", b"h\x00", b"a"),
        "dict_of_itself": raw(b"}", b"q\x00", b"X\x01\x00\x00\x00G", b"h\x00", b"s"),
        "memo_forever": raw(b"]", pickle.MEMOIZE * (10**6)),
        "lists_forever": raw(b"]" * (10**6)),
        "marks_forever": raw(b"(" * (10**6)),
        "deep_tuples": raw(b")", pickle.TUPLE1 * 400_000),
        "deep_lists": raw(b"]" * 200_000, b"a" * 199_999),
        "laughs": raw(b")", (b"q\x00" + b"h\x00" * 9 + b"(" + b"h\x00" * 9 + b"t") * 20),
        "key_of_tuples": raw(b"}", b")", (b"q\x00h\x00\x86") * 60, b"N", b"s"),
        "text_no_utf8": raw(b"X\x02\x00\x00\x00\xff\xfe"),
        "no_tensor": called("torch._utils._rebuild_tensor_v2", 1, 2, 3),
        "no_arguments": called("torch._utils._rebuild_tensor_v2"),
        "no_scalar": called("numpy.core.multiarray.scalar", 1, 2),
        "object_scalar": called(
            "numpy.core.multiarray.scalar",
            Call(Name("numpy.dtype"), ("O8", False, True)),
            b"12345678",
        ),
        "legacy_in_legacy": legacy_in_legacy(50),
        "legacy_magic_only": dumps(MAGIC, 2),
        "legacy_key_of_nobody": legacy(state_dict({}), {"a": np.zeros(3, np.float32)}),
        "trillion": trillion(),
        "module_laughs": dumps({"G": module_laughs(40)}),
        "deep_modules": dumps({"G": deep_modules(150)}),
        "mapping_of_many": legacy(
            state_dict({"synthesis.b8.fc1.weight": SMALL["mapping.w_avg"]})
            | {"mapping.fc999999999.weight": 1},
            {"synthesis.b8.fc1.weight": SMALL["mapping.w_avg"]},
        ),
        "copied_lists": many_calls("torch\nSize", b"](" + b"N" * 200_000 + b"e"),
        "copied_sets": many_calls("builtins\nset", b"](" + b"N" * 200_000 + b"e"),
        "many_arguments": raw(
            b"ctorch\ndevice\nq\x00(",
            b"N" * 200_000,
            b"tq\x01",
            b"(",
            b"h\x00h\x01R" * 70_000,
            b"t",
        ),
        "copied_texts": many_calls("_codecs\nencode", _text("a" * 10**6), _text("latin1")),
        "deep_type": raw(b"cnumpy\ndtype\n)", pickle.TUPLE1 * 400_001, b"R"),
        "doubled_type": raw(b"cnumpy\ndtype\n)", b"q\x00h\x00\x86" * 60, b"\x85R"),
        "keys_that_collide": raw(b"}(", *map(_colliding, range(1, 150_000)), b"u"),
        "many_transients": dumps({"G": New(SEQUENTIAL, transients(200_000, 80_000))}),
        "long_names": dumps({"G": New(SEQUENTIAL, long_names(10**6, 100_000))}),
        "shared_state": shared_state(50_000, 25_000),
        "deep_names": deep_names(30_000),
        "half": official[:half],
        "flipped": official[:half] + bytes([official[half] ^ 255]) + official[half + 1 :],
    }
    return made | _zips() | _safetensors() | _arrays()


SEQUENTIAL = Name("torch.nn.modules.container.Sequential")


def _text(text):
    return pickle.BINUNICODE + struct.pack("<I", len(text)) + text.encode()


def _colliding(i):
    """A key whose hash is that of all the others."""
    return pickle.LONG1 + b"\x0c" + (i * (2**61 - 1)).to_bytes(12, "little") + b"N"


def many_calls(name, *arguments):
    """A function that is called again and again with what is large, and there once."""
    remembered = b"".join(a + b"q" + bytes([i + 1]) for i, a in enumerate(arguments))
    called = b"".join(b"h" + bytes([i + 1]) for i in range(len(arguments)))
    called = b"h\x00" + called + (b"\x85" if len(arguments) == 1 else b"\x86") + b"R"
    known = b"c" + name.encode() + b"\nq\x00"
    return b"\x80\x04" + known + remembered + b"(" + called * 70_000 + b"t."


def transients(count, parameters):
    one = tensor(Call(Name("torch.storage._load_from_bytes"), (legacy_of_one(),)), ONE)
    first = {"p": Memorised(0, one)}
    return {
        "_non_persistent_buffers_set": [None] * count,
        "_parameters": first | {f"p{i}": Recalled(0) for i in range(parameters)},
    }


ONE = np.ones(1, np.float32)


def legacy_of_one():
    return legacy(storage(ONE, "0"), {"0": ONE})


def long_names(length, count):
    return {"_modules": {"n" * length: New(SEQUENTIAL, {f"p{i}": True for i in range(count)})}}


def shared_state(attributes, modules):
    """Modules that have one dict of attributes together."""
    state = {f"p{i}": True for i in range(attributes)}
    parts = {"first": New(SEQUENTIAL, Memorised(0, state))}
    parts |= {f"m{i}": New(SEQUENTIAL, Recalled(0)) for i in range(modules)}
    return dumps({"G": New(SEQUENTIAL, {"_modules": parts})})


def deep_names(depth):
    """Modules in modules, of which each has an attribute with the name of all."""
    begin = dumps(SEQUENTIAL)[2:-1] + b"q\x00" + _text("_modules") + b"q\x01" + _text("a")
    down = (b"h\x00)\x81}(h\x02\x88h\x01}h\x02") * depth + b"h\x00)\x81" + b"sub" * depth
    return b"\x80\x04" + begin + b"q\x02}" + _text("G") + down + b"s."


def legacy_in_legacy(depth):
    data = legacy(state_dict({}), {})
    for _ in range(depth):
        data = legacy(Call(Name("torch.storage._load_from_bytes"), (data,)), {})
    return data


def trillion():
    """A tensor of 10^12 numbers in a file that says that it has them."""
    one = np.zeros(1, np.float32)
    made = legacy(storage(np.broadcast_to(one, 10**12), "0"), {})
    return made


def module_laughs(depth):
    """Modules each of which is in the next twice: 2^depth names."""
    made = New(Name("torch.nn.modules.container.Sequential"), {"_modules": {}})
    for number in range(depth):
        parts = {"a": Memorised(number, made), "b": Recalled(number)}
        made = New(Name("torch.nn.modules.container.Sequential"), {"_modules": parts})
    return made


def deep_modules(depth):
    made = New(Name("torch.nn.modules.container.Sequential"), {"_modules": {}})
    for _ in range(depth):
        made = New(Name("torch.nn.modules.container.Sequential"), {"_modules": {"a": made}})
    return made


def _zips():
    pickled = dumps(state_dict({}), protocol=2)

    def made(*members, kind=zipfile.ZIP_STORED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return file.getvalue()

    bomb = made(("a/data.pkl", pickled), ("a/data/0", bytes(10**8)), kind=zipfile.ZIP_DEFLATED)
    lying = bytearray(made(("a/data.pkl", zlib.compress(bytes(10**6))), kind=zipfile.ZIP_DEFLATED))
    at = lying.find(b"PK\x01\x02") + 24
    lying[at : at + 4] = struct.pack("<I", 2**31)
    unpacked = zlib.compressobj(9, zlib.DEFLATED, -15)
    # Behind a full flush the packer begins anew: all its mebibytes of zeros are packed alike.
    mebibyte = unpacked.compress(bytes(2**20)) + unpacked.flush(zlib.Z_FULL_FLUSH)
    packed = 1500 * mebibyte + unpacked.flush()
    return {
        "zip_that_says_less": _packed("a/data.pkl", packed, 1000),
        "zip_absolute": made(("a/data.pkl", pickled), ("/etc/x", b"")),
        "zip_outside": made(("a/data.pkl", pickled), ("../x", b"")),
        "zip_bomb": bomb,
        "zip_lying": bytes(lying),
        "zip_half": bomb[: len(bomb) // 2],
        "zip_members": _listed(25_000),
        "zip_list": _listed(300, 60_000),
        "zip64_list": _listed(300, 60_000, is_64=True),
        "zip_evil": zipped(Call(Name("os.system"), ("true",)), {}),
        "zip_of_nothing": b"PK\x03\x04",
    }


def _listed(count: int, remark: int = 0, is_64: bool = False) -> bytes:
    """A zip of empty members with remarks; if is_64, one that says too little of its list first."""
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, *[0] * 9)
    common = struct.pack("<HHHHHHIII", 20, 20, *[0] * 7)
    entry = b"PK\x01\x02" + common + struct.pack("<HHHHHII", 10, 0, remark, 0, 0, 0, 0)
    listed = b"".join(entry + b"%06d.npy" % i + bytes(remark) for i in range(count))
    end, sizes = b"", (count, count, len(listed), len(local))
    if is_64:
        end = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, *sizes)
        end += b"PK\x06\x07" + struct.pack("<IQI", 0, len(local + listed), 1)
        sizes = 1, 1, 100, 0
    return local + listed + end + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, *sizes, 0)


def _packed(name: str, packed: bytes, size: int) -> bytes:
    """A zip of one packed member, that says of it what is not so."""
    crc, count = zlib.crc32(bytes(size)), len(packed)
    common = struct.pack("<HHHHIIIHH", 0, 8, 0, 0, crc, count, size, len(name), 0)
    local = b"PK\x03\x04" + struct.pack("<H", 20) + common + name.encode() + packed
    listed = b"PK\x01\x02" + struct.pack("<HH", 20, 20) + common
    listed += struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(listed), len(local), 0)
    return local + listed + b"PK\x05\x06" + end


def _safetensors():
    def made(header: bytes, data: bytes = b"", size: int | None = None) -> bytes:
        return struct.pack("<Q", len(header) if size is None else size) + header + data

    def entry(kind="F32", shape=(2,), offsets=(0, 8)):
        return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}

    def told(**changes):
        return made(json.dumps({"synthesis.a": entry(**changes)}).encode(), bytes(8))

    return {
        "st_header_of_exabytes": made(b"{}", size=2**62),
        "st_header_of_gigabyte": made(b"{}", size=2**30),
        "st_shape": told(shape=(2**40,)),
        "st_shapes_product": told(shape=(2**33, 2**33)),
        "st_offsets": told(offsets=(0, 2**40)),
        "st_backwards": told(offsets=(8, 0)),
        "st_negative": told(offsets=(-8, 0)),
        "st_dtype": told(kind="OBJECT"),
        "st_not_json": made(b"{" * 1000),
        "st_deep": made(b'{"a":' * 50_000),
        "st_twice": made(
            b"{%s, %s}" % ((b'"synthesis.a": ' + json.dumps(entry()).encode(),) * 2), bytes(8)
        ),
        "st_overlap": made(
            json.dumps({"synthesis.a": entry(), "synthesis.b": entry()}).encode(), bytes(8)
        ),
    }


def _arrays():
    def made(header: str, data: bytes = b"", name: str = "synthesis.a") -> bytes:
        text = header.encode()
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{name}.npy", npy)
        return file.getvalue()

    def told(descr="'<f4'", shape="(2,)"):
        return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"

    return {
        "npz_object": made(told("'|O'"), pickle.dumps(Calling(os.system, "true"))),
        "npz_terabyte": made(told(shape=f"({2**40},)")),
        "npz_negative": made(told(shape="(-1,)")),
        "npz_huge_product": made(told(shape=f"({2**40}, {2**40})")),
        "npz_code": made("__import__('os').system('true')\n"),
        "npz_deep": made("(" * 5000 + "\n"),
        "npz_records": made(told("[('a', '<f4'), ('b', '|O')]")),
        "npz_config_of_nothing": made(told("'|V0'", str((7,) * 20)), name="config"),
        "npz_gigabyte_item": made(told("'|V2000000000'", "(1,)")),
        "npz_short": made(told(), b"1234"),
    }


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The file with some bits flipped, or a part of it cut out, doubled, or overwritten."""
    changed = bytearray(data)
    # Most of what makes a file what it is stands in its first kilobytes.
    end = len(data) if random.random() < 0.5 else min(len(data), 2000)
    for _ in range(random.integers(1, 4)):
        at, size = int(random.integers(end)), int(random.integers(1, 20))
        match random.integers(4):
            case 0:
                changed[at % len(changed)] ^= 1 << int(random.integers(8))
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = changed[at : at + size]
            case 3:
                changed[at : at + size] = random.bytes(size)
        changed = changed or bytearray(b"\x80")
    return bytes(changed)


def read_all(path: pathlib.Path) -> list[str]:
    """The names of the networks in a file, all of whose numbers have been looked at."""
    found = weights.read(path)
    for arrays in found.networks.values():
        for array in arrays.values():
            np.asarray(array).astype(np.float32).sum()
    return sorted(found.networks)


def main(folder: str) -> None:
    start_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(pathlib.Path(folder).iterdir()):
        started = time.perf_counter()
        try:
            told = f"read: {read_all(path)}"
        except ValueError as error:
            told = f"refused: {error}"
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sec, mib = time.perf_counter() - started, (peak_kib - start_kib) / 1024
        print(json.dumps({"name": path.name, "told": told, "sec": sec, "mib": mib}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
