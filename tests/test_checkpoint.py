"""Real files throughout: what is saved, damaged or killed here lies in pytest's tmp_path."""

import concurrent.futures
import errno
import gc
import hashlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

import creps_jax
from creps_jax import checkpoint, checksums
from creps_jax.checkpoint import (
    Checkpoints,
    load_ema,
    load_generator,
    load_networks,
)
from creps_jax.interop import initial
from tests.helpers.processes import wait_until

CONFIG = {
    "generator": {"channel_base": 16, "widths": [8, 4]},
    "report": {"every_kimg": 4.0},
    "seed": 3,
}


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: Any


def make_state(step: int) -> State:
    rng = np.random.default_rng(step)
    params = {
        "lines": {"kernel": jnp.asarray(rng.standard_normal((16, 8)), jnp.float32)},
        "bias": jnp.asarray(rng.standard_normal(8), jnp.bfloat16),
    }
    return State(jnp.asarray(step, jnp.int32), params, optax.adam(1e-3).init(params))


def abstract(state: State, sharding: jax.sharding.Sharding) -> State:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def abstract_ema() -> dict:
    return abstract(make_state(0).params, one_device())


def one_device() -> SingleDeviceSharding:
    return SingleDeviceSharding(jax.devices()[0])


def save(checkpoints: Checkpoints, step: int, state: State | None = None) -> None:
    state = make_state(step) if state is None else state
    data = {"position": step, "files": ["a", "b"]}
    checkpoints.save(step, state=state, ema=state.params, data=data, config=CONFIG)


def make_run(workdir: Path, steps: tuple[int, ...], keep: int = 2) -> Path:
    with Checkpoints(workdir, keep=keep) as checkpoints:
        for step in steps:
            save(checkpoints, step)
    return workdir / "checkpoints"


def latest_step(workdir: Path) -> int | None:
    with Checkpoints(workdir, keep=2) as checkpoints:
        return checkpoints.latest_step()


def assert_restores(workdir: Path, step: int) -> None:
    with Checkpoints(workdir, keep=2) as checkpoints:
        assert checkpoints.latest_step() == step
        target = abstract(make_state(step), one_device())
        state, ema, data = checkpoints.restore(step, target, target.params)
        assert checkpoints.config(step) == CONFIG
    assert_same(state, make_state(step))
    assert_same(ema, state.params)
    assert data == {"position": step, "files": ["a", "b"]}


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def flip_bit(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def data_file(folder: Path) -> Path:
    return max((folder / "state").rglob("d/*"), key=lambda file: file.stat().st_size)


def test_restored_equals_saved_bit_for_bit(tmp_path):
    make_run(tmp_path, (10,))
    assert_restores(tmp_path, 10)


@pytest.mark.parametrize("sharded", ["saved", "restored"])
def test_one_device_and_eight_exchange_checkpoints(tmp_path, sharded):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    eight = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    expected = make_state(10)
    on_eight = jax.tree.map(lambda x: split if x.ndim else eight, expected)
    on_one = jax.tree.map(lambda x: one_device(), expected)
    before, after = (on_eight, on_one) if sharded == "saved" else (on_one, on_eight)

    with Checkpoints(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 10, jax.device_put(expected, before))
        target = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), expected, after
        )
        state, ema, _ = checkpoints.restore(checkpoints.latest_step(), target, target.params)
    assert_same(state, expected)
    assert_same(ema, expected.params)
    assert jax.tree.map(lambda x: x.sharding, state) == after
    ema, _ = load_ema(tmp_path)
    assert_same(ema, expected.params)
    assert all(x.devices() == {jax.devices()[0]} for x in jax.tree.leaves(ema))


def test_what_eight_devices_hold_is_saved_as_it_is(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    state = jax.device_put(make_state(10), NamedSharding(mesh, PartitionSpec()))
    compiled = []

    def listen(event, *_, **tags):
        if "backend_compile" in event:
            compiled.append(tags)

    jax.monitoring.register_event_duration_secs_listener(listen)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 10, state)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
    assert not list(tmp_path.rglob("_sharding"))  # Nor is written where it lay.
    assert_restores(tmp_path, 10)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_arrays_other_than_a_runs_own_are_damage_that_says_how_to_go_on(tmp_path, change):
    folder = make_run(tmp_path, (3,)) / "3"
    state = make_state(3)
    params = {"more": state.params | {"more": jnp.zeros(3)}, "fewer": {"bias": jnp.zeros(8)}}
    other = state.replace(params=params[change])
    with (
        Checkpoints(tmp_path, keep=2) as checkpoints,
        pytest.raises(ValueError, match=rf"^{folder} is damaged: .* rename it to damaged-3, .*$"),
    ):
        checkpoints.restore(3, abstract(other, one_device()), abstract_ema())


def renumber(folder: Path, number: int | None) -> None:
    """Gives a checkpoint another format number, or none as those of before had."""
    (file,) = (file for file in (folder / "config").rglob("*") if "format" in file.read_text())
    saved = json.loads(file.read_text())
    assert saved["format"] == checkpoint.FORMAT
    text = json.dumps(saved["config"] if number is None else {**saved, "format": number})
    file.write_text(text)
    checksums.write(folder)


def resume(workdir: Path) -> None:
    with Checkpoints(workdir, keep=2) as checkpoints:
        checkpoints.config(checkpoints.latest_step())


@pytest.mark.parametrize("number", [None, 0, checkpoint.FORMAT + 1])
@pytest.mark.parametrize(
    "use",
    [
        resume,
        load_ema,
        load_networks,
        load_generator,
        creps_jax.load,
        lambda workdir: initial.load_arrays(str(workdir)),
    ],
)
def test_a_checkpoint_of_another_format_is_one_line_that_says_what_to_do(tmp_path, number, use):
    directory = make_run(tmp_path, (10,))
    renumber(directory / "10", number)
    message = (
        f"the format number of the checkpoint {directory / '10'} is "
        f"{'none' if number is None else number}, this version reads {checkpoint.FORMAT}: use the "
        "version that made it, or train anew"
    )
    before = names(directory)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        use(tmp_path)
    assert len(str(error.value).splitlines()) == 1
    assert names(directory) == before


def test_state_may_be_donated_right_after_save(tmp_path):
    advance = jax.jit(lambda state: jax.tree.map(lambda x: -x - 1, state), donate_argnums=0)
    # Own buffers, large enough to be still in writing.
    state = {"x": jnp.arange(3_000_000.0) + 0, "y": jnp.ones(3_000_000)}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, state=state, ema={"x": state["x"]}, data={}, config={})
        for _ in range(5):
            donated, state = state, advance(state)
        assert donated["x"].is_deleted()
        target = {name: jax.ShapeDtypeStruct((3_000_000,), jnp.float32) for name in "xy"}
        target = jax.tree.map(lambda x: x.update(sharding=one_device()), target)
        latest = checkpoints.latest_step()
        restored, _, _ = checkpoints.restore(latest, target, {"x": target["x"]})
    np.testing.assert_array_equal(restored["x"], np.arange(3_000_000.0, dtype=np.float32))
    np.testing.assert_array_equal(restored["y"], np.ones(3_000_000, np.float32))


def test_a_flipped_bit_in_any_file_is_noticed_and_named(tmp_path, caplog):
    directory = make_run(tmp_path, (10, 20))
    rng = random.Random(0)
    files = [file for file in sorted((directory / "20").rglob("*")) if file.stat().st_size]
    files = [file.relative_to(directory / "20") for file in files if file.is_file()]
    assert {file.parts[0] for file in files} >= {"state", "ema", "data", "config", "SHA256SUMS"}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for file in files:
            intact = (directory / "20" / file).read_bytes()
            flip_bit(directory / "20" / file, rng)
            caplog.clear()
            assert checkpoints.latest_step() == 10, file
            assert file.name == "SHA256SUMS" or str(file) in caplog.text
            (directory / "damaged-20").rename(directory / "20")
            (directory / "20" / file).write_bytes(intact)
        assert checkpoints.latest_step() == 20


def truncate(folder: Path) -> None:
    file = data_file(folder)
    file.write_bytes(file.read_bytes()[:-7])


def drop_the_number_of_files(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[1:]))


def drop_a_line_of_the_sums(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:-1]))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        drop_a_line_of_the_sums,
        drop_the_number_of_files,
        empty,
        lambda folder: data_file(folder).unlink(),
        lambda folder: shutil.rmtree(folder / "ema"),
        lambda folder: (folder / "state" / "_METADATA").unlink(),
        lambda folder: (folder / "SHA256SUMS").unlink(),
        lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff\n"),
    ],
)
def test_a_damaged_newest_is_set_aside_and_its_step_saved_anew(tmp_path, caplog, damage):
    directory = make_run(tmp_path, (10, 20))
    for _ in range(2):  # The second time, damaged-20 is there already.
        damage(directory / "20")
        assert_restores(tmp_path, 10)
        assert "20 is damaged: " in caplog.text
        assert names(directory) == {"10", "damaged-20", "unfinished"}
        make_run(tmp_path, (20,))
        assert_restores(tmp_path, 20)


def test_files_of_others_in_a_checkpoint_are_no_damage(tmp_path, caplog):
    directory = make_run(tmp_path, (10, 20))
    (directory / "30").write_text("a file named as a step")
    folders = [path for path in directory.rglob("*") if path.is_dir()]
    assert any(folder.name == "d" for folder in folders)  # Those of Orbax's database as well.
    for folder in [tmp_path, directory, *folders]:
        (folder / "note.txt").write_text("the best so far")
        (folder / "Thumbs.db").write_bytes(bytes(3))
        (folder / "@eaDir").mkdir()
        (folder / "@eaDir" / "note.txt@SynoEAStream").write_bytes(bytes(3))
    assert_restores(tmp_path, 20)
    assert_same(load_ema(tmp_path)[0], make_state(20).params)
    assert_same(load_networks(make_networks(tmp_path / "other"))[0]["D"], make_state(10).params)
    assert "damaged" not in caplog.text and (directory / "20" / "note.txt").exists()
    (directory / "20" / "ema" / "_METADATA").unlink()
    assert_restores(tmp_path, 10)


def make_networks(workdir: Path) -> Path:
    """A run with the items of real ones, and somebody else's files among them."""
    params = make_state(10).params
    state = {"generator": params, "discriminator": params}
    with Checkpoints(workdir, keep=2) as checkpoints:
        checkpoints.save(10, state=state, ema=params, data={}, config=CONFIG)
    for folder in filter(Path.is_dir, list(workdir.rglob("*"))):
        (folder / "note.txt").write_text("the best so far")
    return workdir


def test_only_damaged_checkpoints_are_an_error_every_time(tmp_path):
    directory = make_run(tmp_path, (10, 20))
    truncate(directory / "10")
    truncate(directory / "20")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"every checkpoint .*damaged-10, damaged-20"):
            latest_step(tmp_path)


def test_only_unfinished_saves_are_a_reported_new_start(tmp_path, caplog):
    directory = make_run(tmp_path, (10,))
    (directory / "10").rename(directory / "unfinished" / "10.orbax-checkpoint-tmp")
    (directory / "unfinished" / ".DS_Store").touch()  # Not ours to delete.
    assert latest_step(tmp_path) is None
    assert "10.orbax-checkpoint-tmp" in caplog.text
    assert names(directory) == {"unfinished"}
    assert names(directory / "unfinished") == {".DS_Store"}
    make_run(tmp_path, (10,))
    assert_restores(tmp_path, 10)


def test_the_newest_are_kept(tmp_path):
    directory = make_run(tmp_path, (8, 9, 10, 11), keep=3)
    assert names(directory) == {"9", "10", "11", "unfinished"}
    assert not names(directory / "unfinished")
    with pytest.raises(ValueError, match=r"at least 2 checkpoints.*got 1"):
        Checkpoints(tmp_path, keep=1)


def test_a_step_is_not_overwritten(tmp_path):
    make_run(tmp_path, (10,))
    with pytest.raises(ValueError, match="step 10 already"):
        make_run(tmp_path, (10,))


def test_a_failed_save_is_raised_by_the_next_and_may_be_repeated(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with Checkpoints(tmp_path, keep=2) as checkpoints:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
            patch.setattr(hashlib, "file_digest", fail)
            save(checkpoints, 10)
            save(checkpoints, 20)
        assert checkpoints.latest_step() is None
        save(checkpoints, 10)
    assert_restores(tmp_path, 10)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # Orbax gives them up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("bytes_each", [0, 300])
def test_a_full_disk_is_an_error_that_names_the_place_and_the_save_may_be_repeated(
    tmp_path, bytes_each
):
    make_run(tmp_path, (10,))
    before, threads = resource.getrlimit(resource.RLIMIT_FSIZE), set(threading.enumerate())
    place = re.escape(str(tmp_path / "checkpoints" / "unfinished" / "20"))

    told = pytest.raises(OSError, match=f"File too large: '{place}")

    def given_up():
        """Whether of the threads that began here those still there rest in their pools."""
        begun, frames = set(threading.enumerate()) - threads, sys._current_frames()
        return all(frames[t.ident].f_code.co_name == "_worker" for t in begun if t.ident in frames)

    try:
        with told, Checkpoints(tmp_path, keep=2) as checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_each, before[1]))
            save(checkpoints, 20)
            wait_until(checkpoints.check)  # It is noticed before the next save.
        # Orbax still writes after the first error. There shall be no room before it ends, or it
        # writes into what is cleared and saved below.
        wait_until(given_up)
        gc.collect()  # Also of coroutines, while their warnings are ignored.
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_restores(tmp_path, 10)
    make_run(tmp_path, (20,))
    assert_restores(tmp_path, 20)


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/20"])
def test_load_ema_takes_workdir_checkpoints_or_step(tmp_path, place):
    make_run(tmp_path, (10, 20))
    ema, config = load_ema(tmp_path / place)
    assert_same(ema, make_state(20).params)
    assert config == CONFIG


def test_load_ema_passes_over_the_damaged_and_changes_nothing(tmp_path, caplog):
    directory = make_run(tmp_path, (10, 20))
    (directory / "unfinished" / "30").mkdir()
    flip_bit(max((directory / "20" / "ema").rglob("d/*")), random.Random(0))
    before = contents(directory), names(directory)
    ema, _ = load_ema(tmp_path)
    assert_same(ema, make_state(10).params)
    assert "20 is damaged: ema/" in caplog.text
    assert (contents(directory), names(directory)) == before
    with pytest.raises(ValueError, match=r"no undamaged checkpoint .*20: ema/.* in 20"):
        load_ema(directory / "20")


def test_load_ema_needs_the_ema_and_the_config_only(tmp_path):
    directory = make_run(tmp_path, (10,))
    shutil.rmtree(directory / "10" / "state")
    ema, _ = load_ema(tmp_path)
    assert_same(ema, make_state(10).params)


@pytest.mark.parametrize("moment", ["summed", "restored"])
def test_a_checkpoint_that_goes_away_while_it_is_read_is_chosen_anew(
    tmp_path, monkeypatch, caplog, moment
):
    directory = make_run(tmp_path, (10, 20))
    where, name = {"summed": (hashlib, "file_digest"), "restored": (checkpoint, "_restore")}[moment]
    real, gone = getattr(where, name), []

    def after_a_save(*arguments, **items):
        if not gone:
            gone.extend(shutil.move(directory / step, tmp_path / step) for step in ("10", "20"))
            monkeypatch.setattr(where, name, real)
            make_run(tmp_path, (30,))
        return real(*arguments, **items)

    monkeypatch.setattr(where, name, after_a_save)
    ema, _ = load_ema(tmp_path)
    assert_same(ema, make_state(30).params)
    assert gone and "damaged" not in caplog.text


def test_checkpoints_that_always_go_away_are_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    directory = make_run(tmp_path, (10,))

    def next_step(folder, **_):
        folder.rename(folder.with_name(str(int(folder.name) + 10)))
        raise RuntimeError("no such key")

    monkeypatch.setattr(checkpoint, "_restore", next_step)
    with pytest.raises(FileNotFoundError, match=r"deletes its checkpoints faster .* copy one"):
        load_ema(tmp_path)
    assert names(directory) == {"110", "unfinished"}
    monkeypatch.setattr(checkpoint, "_restore", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # An error of another kind is none of these.
        load_ema(tmp_path)


def test_every_load_succeeds_while_a_run_saves(tmp_path):
    make_run(tmp_path, (1,))
    end = threading.Event()

    def train():
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            for step in itertools.count(2):
                if end.is_set():
                    return
                save(checkpoints, step)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        training = pool.submit(train)
        try:
            for _ in range(10):
                ema, _ = load_ema(tmp_path)
                assert ema.keys() == make_state(1).params.keys()
        finally:
            end.set()
        training.result()


def test_what_another_process_still_reads_is_deleted_at_the_next_start(
    tmp_path, monkeypatch, caplog
):
    def busy(folder):
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))  # As on NFS.

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", busy)
        directory = make_run(tmp_path, (8, 9, 10))
    assert names(directory) == {"9", "10", "unfinished"} and "8 is in use" in caplog.text
    assert names(directory / "unfinished") == {"8"}
    assert latest_step(tmp_path) == 10
    assert not names(directory / "unfinished")


def test_load_ema_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; expected a run's workdir"):
        load_ema(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=f"no checkpoint.* in {tmp_path}"):
        load_ema(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (Path("s3://bucket/run"), "s3://bucket/run is nothing on a disk"),
        ("~nobody-of-that-name/run", "~nobody-of-that-name/run: there is no such home"),
        (os.fsdecode(b"/tmp/r\xe9n"), r"b'/tmp/r\\xe9n' is no UTF-8"),
    ],
)
def test_what_is_no_folder_on_a_disk_is_refused(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (lambda: load_ema(path), lambda: Checkpoints(path, keep=2)):
        with pytest.raises(ValueError, match=message):
            use()
    assert not list(tmp_path.iterdir())


TRAIN = """
import sys
import jax, jax.numpy as jnp
from creps_jax.checkpoint import Checkpoints

def state_at(step):
    return {"x": jnp.full((600, 1000), step, jnp.float32), "step": jnp.asarray(step, jnp.int32)}

with Checkpoints(sys.argv[1], keep=2) as checkpoints:
    step = checkpoints.latest_step() or 0
    while True:
        step += 1
        state = state_at(step)
        checkpoints.save(step, state=state, ema={"x": state["x"]}, data={"step": step}, config={})
"""


def test_sigkill_at_any_moment_leaves_a_whole_newest_checkpoint(tmp_path):
    rng = random.Random()
    directory = tmp_path / "checkpoints"
    target = {
        "x": jax.ShapeDtypeStruct((600, 1000), jnp.float32, sharding=one_device()),
        "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=one_device()),
    }
    step = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", TRAIN, str(tmp_path)])
        try:
            while not (directory / str(step + 2)).exists():
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.3))
            while not names(directory / "unfinished"):
                time.sleep(0)
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL

        ema, _ = load_ema(tmp_path)
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            before, step = step, checkpoints.latest_step()
            state, _, data = checkpoints.restore(step, target, {"x": target["x"]})
        assert step >= before + 2
        assert data == {"step": step} and int(state["step"]) == step
        assert np.all(np.asarray(state["x"]) == step) and np.all(np.asarray(ema["x"]) == step)
        assert not list(directory.glob("damaged-*"))
