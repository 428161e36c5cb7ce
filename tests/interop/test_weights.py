"""Files of all forms give the arrays that are in them, and nothing of a file is executed."""

import json
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy

from creps_jax.interop import pickles, weights
from experiments import official_files
from experiments.official_files import (
    Call,
    Memorised,
    Name,
    New,
    Recalled,
    dumps,
    legacy,
    state_dict,
    zipped,
)
from tests.helpers import parity_arrays

CONDITIONAL = parity_arrays.load("networks_conditional")


def network(name):
    arrays = CONDITIONAL.group(f"{name}/")
    return {k: a for k, a in arrays.items() if k not in parity_arrays.D_RESULTS}


NETWORKS = {"G": network("G"), "D": network("D")}


def read(tmp_path, data, name="file.pkl"):
    (tmp_path / name).write_bytes(data)
    return weights.read(tmp_path / name)


def is_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), array, err_msg=name)
        assert found[name].dtype == array.dtype
    return True


def test_an_official_pickle(tmp_path):
    given = NETWORKS | {"G_ema": {k: a + 1 for k, a in NETWORKS["G"].items()}}
    found = read(tmp_path, official_files.official_pickle(given, group_size=2))
    assert found.networks.keys() == given.keys()
    assert all(is_same(found.networks[name], arrays) for name, arrays in given.items())
    assert found.attributes["D"]["b4.mbstd.group_size"] == 2
    assert found.attributes["G"]["synthesis.lr_multiplier"] == 1.0
    assert found.unused == ["augment_pipe", "training_set_kwargs"] and found.config is None


@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
@pytest.mark.parametrize("form", [legacy, zipped])
def test_files_of_torch(tmp_path, form, kind):
    arrays = {k: a.astype(kind) for k, a in NETWORKS["D"].items()}
    arrays["b4.out.weight"] = np.asfortranarray(np.arange(6).reshape(2, 3).astype(kind))
    found = read(tmp_path, form(state_dict(arrays), arrays), "d.pt")
    assert is_same(found.networks["D"], arrays)


def test_a_dict_of_state_dicts(tmp_path):
    named = {f"{n}/{k}": a for n, arrays in NETWORKS.items() for k, a in arrays.items()}
    whole = state_dict(named)
    content = {
        name: {k.removeprefix(f"{name}/"): t for k, t in whole.items() if k.startswith(f"{name}/")}
        for name in NETWORKS
    }
    found = read(tmp_path, zipped(content | {"step": 3}, named))
    assert all(is_same(found.networks[name], NETWORKS[name]) for name in NETWORKS)
    assert found.unused == ["step"]


@pytest.mark.parametrize("sign", ["/", "."])
def test_files_of_arrays(tmp_path, sign):
    named = {f"{n}{sign}{k}": a for n, arrays in NETWORKS.items() for k, a in arrays.items()}
    named = {k: np.ascontiguousarray(a) for k, a in named.items()}
    np.savez(tmp_path / "a.npz", **named, step=np.zeros(3))
    np.savez_compressed(tmp_path / "b.npz", **named, step=np.zeros(3))
    (tmp_path / "c.any").write_bytes(safetensors.numpy.save(named | {"step": np.zeros(3)}))
    for name in ("a.npz", "b.npz", "c.any"):
        found = weights.read(tmp_path / name)
        assert all(is_same(found.networks[n], NETWORKS[n]) for n in NETWORKS)
        assert found.unused == ["step"]


def test_one_network_alone(tmp_path):
    for name, expected in {"G": "G_ema", "D": "D"}.items():
        np.savez(tmp_path / "one.npz", **NETWORKS[name])
        found = weights.read(tmp_path / "one.npz")
        assert found.networks.keys() == {expected}
        assert is_same(found.networks[expected], NETWORKS[name])
        module = dumps(official_files.network(NETWORKS[name], {}))
        assert is_same(read(tmp_path, module).networks[expected], NETWORKS[name])


# What is not taken.

SIX = {k: np.ones((2, 3), np.float32) for k in ("synthesis.a", "synthesis.b", "mapping.fc0.weight")}


def refuses(tmp_path, data, *words):
    with pytest.raises(ValueError) as error:
        read(tmp_path, data)
    told = str(error.value)
    assert told.startswith(f"{tmp_path / 'file.pkl'}: ") and "\n" not in told and len(told) < 600
    for word in words:
        assert word in told, told


def test_what_holds_no_networks_is_named(tmp_path):
    refuses(tmp_path, b"", "is empty")
    refuses(tmp_path, b"hello there", "b'hello th'")
    refuses(tmp_path, dumps([1, 2]), "holds a list")
    refuses(tmp_path, dumps({"a": 1}), "no entries G/")
    refuses(tmp_path, legacy(state_dict({"a.b": SIX["synthesis.a"]}), SIX), "storage 'synthesis.a'")
    refuses(tmp_path, zipped(state_dict(SIX), {}), "0 bytes of the storage 'synthesis.a'")
    wrong = SIX | {"synthesis.b": SIX["synthesis.b"][:1]}
    refuses(tmp_path, legacy(state_dict(SIX), wrong), "3 numbers in place of 6")
    with pytest.raises(FileNotFoundError):
        weights.read(tmp_path / "nowhere.pkl")


def test_words_among_the_arrays_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", **{"G/a": np.array(["b"])})
    with pytest.raises(ValueError, match="G/a is of type <U1, not of floats"):
        weights.read(tmp_path / "a.npz")


def test_what_errors_repeat_of_a_file_is_one_line_that_only_prints(tmp_path):
    fields = [(f"x{i}\n\x1b[2J", np.float32) for i in range(100)]
    np.savez(tmp_path / "a.npz", **{"G/a": np.zeros(1, fields)})
    with pytest.raises(ValueError) as error:
        weights.read(tmp_path / "a.npz")
    assert str(error.value).isprintable() and len(str(error.value)) == 600


def test_a_safetensors_is_none_of_another_form_whatever_its_length(tmp_path):
    """The first byte is that of the list's length, of which a pickle's, 0x80, is one."""
    first = set()
    for count in range(0, 264, 8):
        data = safetensors.numpy.save(SIX, {"x": "y" * count})
        first.add(data[0])
        assert is_same(read(tmp_path, data).networks["G_ema"], SIX)
    assert 0x80 in first


def test_a_name_of_two_arrays_is_refused(tmp_path):
    one = SIX["synthesis.a"]
    np.savez(tmp_path / "a.npz", **{"G/mapping.w_avg": one, "G.mapping.w_avg": 2 * one})
    with pytest.raises(ValueError, match=r"has two arrays 'G/mapping.w_avg'"):
        weights.read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=one)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("a", archive.read("a.npy"))
    with pytest.raises(ValueError, match="has two arrays 'a'"):
        weights.read_arrays(tmp_path / "a.npz")


def test_a_config_that_is_no_text_is_refused(tmp_path):
    for config, message in (
        (np.frombuffer(b"\xff\xff\xff\x7f", "<U1").reshape(()), "a config that is no text"),
        (np.array("1" * 5000), "a config that is no JSON"),
        (np.array("[1]"), "a config that is no JSON of fields"),
        (np.array(1), "a config that is no text"),
    ):
        np.savez(tmp_path / "a.npz", **SIX, config=config)
        with pytest.raises(ValueError, match=message):
            weights.read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **SIX, config=np.array('{"a": 1}').astype(">U8"))
    assert weights.read(tmp_path / "a.npz").config == {"a": 1}


def test_a_config_comes_with_our_own_files(tmp_path):
    config = {"resolution": 8}
    np.savez(tmp_path / "a.npz", **SIX, config=np.array(json.dumps(config)))
    data = safetensors.numpy.save(SIX, {"config": json.dumps(config)})
    (tmp_path / "b.safetensors").write_bytes(data)
    (tmp_path / "c.safetensors").write_bytes(safetensors.numpy.save(SIX, {"config": "{"}))
    for name in ("a.npz", "b.safetensors"):
        assert weights.read(tmp_path / name).config == config
    with pytest.raises(ValueError, match="config that is no JSON"):
        weights.read(tmp_path / "c.safetensors")


def test_tensors_are_views_within_their_numbers(tmp_path):
    def file(offset, shape, strides):
        storage = official_files.storage(np.zeros(6, np.float32), "0")
        arguments = (storage, offset, shape, strides, False, {})
        tensor = Call(Name("torch._utils._rebuild_tensor_v2"), arguments)
        return legacy({"synthesis.a": tensor}, {"0": np.arange(6, dtype=np.float32)})

    def negated(shape, metadata):
        storage = official_files.storage(np.zeros(6, np.float32), "0")
        arguments = (storage, 0, shape, (1,), False, {}, metadata)
        tensor = Call(Name("torch._utils._rebuild_tensor_v2"), arguments)
        return legacy({"synthesis.a": tensor}, {"0": np.arange(6, dtype=np.float32)})

    refuses(tmp_path, negated((6,), {"neg": True}), "a view that negates")
    assert read(tmp_path, negated((6,), {})).networks.keys() == {"G_ema"}
    refuses(tmp_path, file(0, (2, 2), (1, 0)), "(2, 2) repeats numbers; save a .contiguous()")
    found = read(tmp_path, file(1, (2, 2), (1, 2))).networks["G_ema"]["synthesis.a"]
    np.testing.assert_array_equal(np.asarray(found), [[1, 3], [2, 4]])
    for arguments in (
        (3, (2, 2), (2, 1)),
        (0, (7,), (1,)),
        (7, (), ()),
        (0, (10**9, 10**9), (0, 0)),
        (0, (7,), (0,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (True,), (1,)),
        (0, (1,) * 40, (1,) * 40),
        (0, [2], (1,)),
    ):
        refuses(tmp_path, file(*arguments), "torch._utils._rebuild_tensor_v2")


def test_many_views_of_few_numbers_are_refused(tmp_path):
    one = np.ones(1000, np.float32)
    tensor = official_files.tensor(official_files.storage(one, "0"), one)
    file = legacy({f"synthesis.{i}": tensor for i in range(5)}, {"0": one})
    refuses(tmp_path, file, "and 20,000 of arrays, which share them")
    file = legacy({f"synthesis.{i}": tensor for i in range(4)}, {"0": one})
    assert len(read(tmp_path, file).networks["G_ema"]) == 4


def test_a_module_twice_is_refused(tmp_path):
    def module(parts):
        state = {"_modules": OrderedDict(parts)}
        return New(Name("torch.nn.modules.container.Sequential"), state)

    once = dumps({"G": module({"a": module({})})})
    refuses(tmp_path, once, "holds no arrays of G, D, G_ema")
    twice = module({"a": Memorised(7, module({})), "b": Recalled(7)})
    refuses(tmp_path, dumps({"G": twice}), "is no module, or there twice")


def test_what_pytorch_puts_before_names_is_taken_away(tmp_path):
    arrays = {f"module.{name}": array for name, array in SIX.items()}
    assert is_same(read(tmp_path, zipped(state_dict(arrays), arrays)).networks["G_ema"], SIX)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is no file"):
        weights.read(tmp_path / "pipe")


def test_zips_that_are_not_as_they_should_be(tmp_path):
    def file(*members, **options):
        path = tmp_path / "made.zip"
        with zipfile.ZipFile(path, "w", **options) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path.read_bytes()

    pickled = ("archive/data.pkl", dumps(state_dict({}), protocol=2))
    refuses(tmp_path, file(("a", b"")), "0 members data.pkl")
    refuses(tmp_path, file(pickled, ("/etc/passwd", b"")), "outside of it, '/etc/passwd'")
    refuses(tmp_path, file(pickled, ("a/../../b", b"")), "outside of it")
    refuses(tmp_path, file(pickled, ("C:/b", b"")), "outside of it")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = file(pickled, pickled)
    refuses(tmp_path, twice, "two members 'archive/data.pkl'")
    bomb = file(pickled, ("archive/data/0", bytes(10**8)), compression=zipfile.ZIP_DEFLATED)
    refuses(tmp_path, bomb, "unpacks to 100,000,", "bombs")
    refuses(tmp_path, file(pickled, compression=zipfile.ZIP_LZMA), "unusual way")
    encrypted = bytearray(file(pickled))
    for at in (encrypted.find(b"PK\x03\x04") + 6, encrypted.find(b"PK\x01\x02") + 8):
        encrypted[at] |= 1
    refuses(tmp_path, bytes(encrypted), "encrypted")
    damaged = bytearray(file(pickled))
    damaged[60] ^= 1
    refuses(tmp_path, bytes(damaged), "damaged zip", "CRC")
    refuses(tmp_path, file(pickled)[:-10], "damaged zip")
    big = file(pickled, ("archive/byteorder", b"big"))
    refuses(tmp_path, big, "big-endian")


def test_numbers_of_another_order_or_of_two_kinds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(official_files.SYSTEM, "little_endian", False)
    refuses(tmp_path, legacy(state_dict(SIX), SIX), "big-endian")
    kind = Call(Name("numpy.dtype"), ("f8", False, True))
    big = official_files.Built(kind, (3, ">", None, None, None, -1, -1, 0))
    refuses(tmp_path, dumps({"G": big}), "numbers of a big-endian machine")
    one = official_files.storage(SIX["synthesis.a"], "0")
    other = official_files.storage(SIX["synthesis.a"].astype(np.float16), "0")
    refuses(tmp_path, zipped([one, other], {}), "two storages '0'")


def test_what_a_module_does_not_save_is_not_read(tmp_path):
    """Buffers that are not persistent; and a device, which may stand anywhere, is a word."""
    arrays = {"synthesis.a": SIX["synthesis.a"], "synthesis.w_avg": SIX["synthesis.b"]}
    module = official_files.network(arrays, {})
    (synthesis,) = module.arguments[0]["state"]["_modules"].values()
    state = synthesis.arguments[0]["state"]
    state["device"] = Call(Name("torch.device"), ("cuda", 0))
    state["_non_persistent_buffers_set"] = Call(Name("builtins.set"), (["w_avg"],))
    assert read(tmp_path, dumps({"G": module})).networks["G"].keys() == {"synthesis.a"}


def test_long_texts_count_as_opcodes(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPCODES", 20)
    refuses(tmp_path, dumps({"a": "b" * 6400}), "more than 20 opcodes, or texts as long")
    refuses(tmp_path, dumps({"a": "b" * 64}), "no entries G/")


def test_what_needs_more_memory_than_there_is_says_so(tmp_path, monkeypatch):
    def none(*_):
        raise MemoryError

    monkeypatch.setattr(weights.torch_files, "load_pickle", none)
    refuses(tmp_path, dumps({}), "needs more memory than there is")
