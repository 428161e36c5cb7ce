"""A run whose workdir is a bucket, of an emulator that is a process of its own on the loopback."""

import concurrent.futures
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from creps_jax import cli, places
from creps_jax.checkpoint import Checkpoints, load_ema
from creps_jax.config import parse
from creps_jax.data import check
from creps_jax.data.sources import open_source
from creps_jax.interop import initial, state_dicts
from creps_jax.places import BucketLock
from creps_jax.training import profile
from creps_jax.training.run import prepare
from experiments.kill_hunt import BATCH_SIZE, ROOT, finish, same, tiny_config
from tests.helpers.bucket_server import BUCKET
from tests.helpers.data import data_config
from tests.helpers.processes import wait_until
from tests.helpers.runs import AT_THE_END, STEPS, start, unbroken_run
from tests.helpers.saved import draw_variables

TENSORBOARD = "--config.report.tensorboard=True"


@pytest.fixture(scope="module", autouse=True)
def server():
    """The emulator, to which this process and those that it starts turn for gs://."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.helpers.bucket_server", str(port)]
    environment = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{port}",
        # Nobody gives credentials here; none are searched for.
        "GCE_METADATA_HOST": "127.0.0.1:1",
        "GCE_METADATA_ROOT": "127.0.0.1:1",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(port))
            yield
        finally:
            process.kill()
            process.wait()


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def folder(request):
    """An empty folder of the bucket."""
    return places.path(f"gs://{BUCKET}/{re.sub(r'[^a-z]', '-', request.node.name)}")


def test_weights_go_to_a_bucket_and_come_from_one(folder, tmp_path):
    config = tiny_config()
    variables = draw_variables(config)
    state_dicts.write(tmp_path / "a.npz", {"G": variables, "G_ema": variables}, config)
    result = CliRunner().invoke(cli.app, ["import", str(tmp_path / "a.npz"), f"--out={folder}"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(cli.app, ["import", str(tmp_path / "a.npz"), f"--out={folder}"])
    assert result.exit_code == 1 and "holds checkpoints already" in result.stderr
    arguments = f"--workdir={folder}", "--to=npz", f"--out={folder}/b.npz"
    result = CliRunner().invoke(cli.app, ["export", *arguments])
    assert result.exit_code == 0, result.output
    (tmp_path / "b.npz").write_bytes((folder / "b.npz").read_bytes())
    before, after = (initial.load_arrays(str(tmp_path / name)) for name in ("a.npz", "b.npz"))
    assert before.keys() == after.keys() == {"G", "G_ema"}
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert all((folder / f"b.npz.{kind}").exists() for kind in ("md", "json", "png"))


def steps(workdir, has="SHA256SUMS"):
    """Of the checkpoints with a file of that name, and of all of which there is anything."""
    folders = [f for f in (workdir / "checkpoints").iterdir() if f.name.isdecimal()]
    return {int(f.name) for f in folders if (f / has).exists()}, {int(f.name) for f in folders}


def is_saving(workdir):
    """Whether the files of a new checkpoint are being written: what comes last of them is not."""
    has, begun = steps(workdir, "commit_success.txt")
    return max(begun) > max(has)


@pytest.fixture(scope="module")
def run(cache):
    """Workdir of a run that was killed in a save, what was complete then, and the rest's output."""
    workdir = places.path(f"gs://{BUCKET}/run")
    process = start(workdir, cache)
    try:
        first = workdir / "checkpoints" / "4" / "SHA256SUMS"
        wait_until(lambda: first.exists() or process.poll() is not None, seconds=120)
        with pytest.raises(ValueError, match=f"another process is training in --workdir={workdir}"):
            BucketLock(workdir)
        wait_until(lambda: is_saving(workdir) or process.poll() is not None)
    finally:
        process.kill()
    process.communicate()
    complete, begun = steps(workdir)
    assert max(begun) > max(complete) and (workdir / "lock").exists()
    return workdir, complete, finish(start(workdir, cache, AT_THE_END, TENSORBOARD))


def test_a_run_killed_while_it_saves_goes_on_and_ends_with_the_arrays_of_one_on_a_disk(run, cache):
    workdir, complete, output = run
    unbroken, _ = unbroken_run(cache)
    assert f"Continuing {workdir} from step {max(complete)} of {STEPS}" in output
    assert "left unfinished by an earlier process" in output
    assert "No TensorBoard events in a bucket" in output and "Traceback" not in output
    assert same(workdir, unbroken)
    assert [json.loads(line)["step"] for line in lines(workdir)] == list(range(1, STEPS + 1))
    on_disk = {path.name for path in unbroken.iterdir()} - {"plugins"}
    assert {path.name for path in workdir.iterdir()} == on_disk - {"lock"}
    for name in ("reals.png", f"fakes_{STEPS * BATCH_SIZE / 1000:010.3f}.png"):
        assert (workdir / name).read_bytes() == (unbroken / name).read_bytes()


def lines(workdir):
    return (workdir / "metrics.jsonl").read_text().splitlines()


def test_its_weights_are_painted_and_go_on_like_those_of_a_disk(run, cache, tmp_path):
    pictures = []
    for number, workdir in enumerate((run[0], unbroken_run(cache)[0])):
        out = tmp_path / f"{number}.png"
        command = ["render", f"--workdir={workdir}", "--seeds=3", "--size=40", f"--out={out}"]
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 0, result.output
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]
    ours, theirs = (initial.load_arrays(str(w)) for w in (run[0], unbroken_run(cache)[0]))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


CONFIG = {"seed": 3}


def save(workdir, *steps):
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step in steps:
            arrays = {"x": jnp.full(5, step, jnp.int32)}
            checkpoints.save(step, state=arrays, ema=arrays, data={}, config=CONFIG)
    return workdir / "checkpoints"


def saved_last(workdir):
    ema, config = load_ema(workdir)
    assert config == CONFIG
    return int(ema["x"][0])


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [flip_a_bit, lambda file: file.unlink()], ids=["flip", "delete"])
def test_an_object_that_is_damaged_or_missing_is_noticed(folder, damage, caplog):
    checkpoints = save(folder, 10, 20)
    damage(checkpoints / "20" / "ema" / "manifest.ocdbt")
    assert saved_last(folder) == 10 and "20 is damaged: ema/manifest.ocdbt" in caplog.text
    for _ in range(2):
        with Checkpoints(folder, keep=2) as opened:
            assert opened.latest_step() == 10
    assert "Renamed to 20/DAMAGED" in caplog.text and steps(folder) == ({10}, {10, 20})
    save(folder, 20)
    assert saved_last(folder) == 20
    for step in ("10", "20"):
        damage(checkpoints / step / "state" / "manifest.ocdbt")
    with Checkpoints(folder, keep=2) as opened, pytest.raises(ValueError, match=r"10/DAMAGED, 20/"):
        opened.latest_step()


def test_a_checkpoint_is_none_before_its_sums_are_written(folder, caplog):
    checkpoints = save(folder, 10, 20)
    (checkpoints / "20" / "SHA256SUMS").unlink()
    assert saved_last(folder) == 10
    with Checkpoints(folder, keep=2) as opened:
        assert opened.latest_step() == 10
    assert f"Deleting {checkpoints}/20, left unfinished" in caplog.text
    assert steps(folder) == ({10}, {10})


def test_the_newest_are_kept_and_none_is_overwritten(folder):
    save(folder, 8, 9, 10)
    assert steps(folder) == ({9, 10}, {9, 10})
    with pytest.raises(ValueError, match="step 10 already"):
        save(folder, 10)


def test_a_run_is_copied_from_a_disk_to_a_bucket_and_back(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "lock").touch()
    save(tmp_path / "disk", 10)
    for file in places.files(tmp_path / "disk"):
        (folder / file.relative_to(tmp_path / "disk").as_posix()).write_bytes(file.read_bytes())
    with BucketLock(folder):
        save(folder, 20)
        assert saved_last(folder) == 20 and saved_last(folder / "checkpoints" / "10") == 10
    for file in places.files(folder):
        copy = tmp_path / "back" / file.relative_to(folder).as_posix()
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    save(tmp_path / "back", 30)
    assert saved_last(tmp_path / "back") == 30


def test_of_several_processes_one_gets_the_lock(folder):
    def take(_):
        try:
            return BucketLock(folder)
        except ValueError:
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        (held,) = filter(None, pool.map(take, range(8)))
    with held:
        assert take(0) is None
    with take(0):
        pass


def locked_by_another_machine(folder, beat=0):
    owner = {"id": "", "host": "tpu-7", "table": "", "process": 1, "start": "0", "beat": beat}
    (folder / "lock").write_text(json.dumps(owner))


def test_a_lock_of_another_machine_is_taken_over_once_it_is_silent(folder, monkeypatch, caplog):
    monkeypatch.setattr(places, "SILENT_SEC", 0.6)
    locked_by_another_machine(folder)
    begun = time.monotonic()
    with BucketLock(folder):
        assert time.monotonic() - begun >= 0.6
        assert "is locked by process 1 of tpu-7: waiting up to 1 s" in caplog.text


def test_a_lock_of_another_machine_that_lives_is_respected(folder, monkeypatch):
    monkeypatch.setattr(places, "SILENT_SEC", 30.0)
    locked_by_another_machine(folder)
    beat = threading.Timer(0.3, locked_by_another_machine, (folder, 1))
    beat.start()
    begun = time.monotonic()
    with pytest.raises(ValueError, match="another process is training"):
        BucketLock(folder)
    assert time.monotonic() - begun < 30
    beat.join()


def test_a_process_goes_on_while_the_lock_is_its_own_and_ends_when_it_is_not(folder):
    program = (
        "import sys, time\nfrom creps_jax import places\nplaces.BEAT_SEC = 0.05\n"
        "with places.BucketLock(places.path(sys.argv[1])):\n    print(flush=True)\n"
        "    time.sleep(60)"
    )
    command = [sys.executable, "-c", program, os.fspath(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"\n"
        own = (folder / "lock").read_bytes()
        (folder / "lock").write_bytes(own)  # As by a beat whose answer is lost.
        wait_until(lambda: (folder / "lock").read_bytes() != own, seconds=10)
        assert run.poll() is None
        locked_by_another_machine(folder)
        _, told = run.communicate(timeout=30)
    assert run.returncode == 1
    assert f"{folder} is no longer locked by this process" in told.decode()
    assert "tpu-7" in (folder / "lock").read_text()


def test_images_are_checked_once(folder, tmp_path, monkeypatch):
    for name in "ab":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    config = data_config(f"folder:{tmp_path}")
    assert len(open_source(config, folder / "data_index.json")) == 2
    monkeypatch.delattr(check, "_decode_all")
    assert len(open_source(config, folder / "data_index.json")) == 2


def test_what_cannot_be_is_one_line(folder, monkeypatch):
    with pytest.raises(ValueError, match=f"--profile writes to a disk; --workdir={folder} is in"):
        profile.tracing(folder, parse(tiny_config()), 0)
    with pytest.raises(ValueError, match=r"^--workdir: gs://bucket/run-\* has one of"):
        prepare(tiny_config(), "gs://bucket/run-*")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    told = r"^--workdir: gs://bucket/run needs gcsfs: pip install 'creps-jax\[gcs\]'$"
    with pytest.raises(ValueError, match=told):
        prepare(tiny_config(), "gs://bucket/run")
