"""Files that want to harm who reads them are refused by one line, soon, and in little memory."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from experiments import hostile_files

# What is odd, but harmless and readable.
READ = {"many_transients", "mapping_of_many"}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a process that reads all of them answers, by name, and the file that none may touch."""
    folder, touched = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("x") / "touched"
    for name, data in hostile_files.hostile_files(str(touched)).items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-m", "experiments.hostile_files", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(os.listdir(folder)) > 70
    return {answer["name"]: answer for answer in found}, touched


def test_nothing_is_executed(answers):
    _, touched = answers
    assert not touched.exists()
    with pytest.raises(OSError):  # As they would, if they were: Python's own module opens this.
        pickle.loads(pickle.dumps(hostile_files.Calling(open, "/nowhere/touched", "w")))


def test_each_is_refused_by_one_line(answers):
    for name, answer in answers[0].items():
        outcome, _, error = answer["told"].partition(": ")
        assert outcome == ("read" if name in READ else "refused"), answer
        assert "\n" not in error and 0 < len(error) < 800, answer


def test_none_takes_long_or_much(answers):
    assert max(answer["sec"] for answer in answers[0].values()) < 10
    assert max(answer["mib"] for answer in answers[0].values()) < 1024


def test_what_is_refused_is_named(answers):
    for name, word in {
        "os_system": "'posix.system'",
        "eval": "'builtins.eval'",
        "getattr": "'builtins.getattr'",
        "dotted_name": "'os.path.os.system'",
        "copyreg_extension": "'copyreg.add_extension'",
        "extension": "EXT1",
        "bytearray": "BYTEARRAY8",
        "object_array": "'numpy._core.multiarray._reconstruct'",
        "zip_evil": "'os.system'",
        "zip_outside": "'../x'",
        "npz_object": "Object arrays",
        "many_arguments": "calls torch.device with 200,000 arguments",
        "zip_members": "too many members, 25,000",
        "zip_list": "whose list of members has 18,016,800 bytes",
        "zip64_list": "whose list of members has 18,016,800 bytes",
        "st_twice": "'synthesis.a' twice",
        "doubled_type": "wrong numpy.dtype",
        "keys_that_collide": "a key of type int",
        "shared_state": "too many parts",
        "zip_that_says_less": "no opcode but 0x00",
        "gigabyte_bytes": "1,099,511,627,776 bytes are wanted",
    }.items():
        assert word in answers[0][name]["told"], answers[0][name]


def test_damaged_files_are_refused_or_read(tmp_path):
    """2,000 of them; experiments/reader_hunt.py has more."""
    random, read, path = np.random.default_rng(0), 0, tmp_path / "file"
    for data in hostile_files.reference_files().values():
        path.write_bytes(data)
        assert hostile_files.read_all(path)
        for _ in range(400):
            path.write_bytes(hostile_files.mutated(data, random))
            try:
                read += bool(hostile_files.read_all(path))
            except ValueError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert 20 < read < 1900
