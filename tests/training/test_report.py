"""What a run tells: means of what there was, durations, traces."""

import importlib.util
import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from creps_jax.config import parse
from creps_jax.training.guards import Guard
from creps_jax.training.profile import tracing
from creps_jax.training.report import (
    Events,
    Reporter,
    device_line,
    duration,
    forget_after,
    mean_metrics,
    progress_line,
)
from creps_jax.training.run import prepare
from experiments.kill_hunt import tiny_config


@pytest.fixture
def no_room():
    """No file can grow beyond 200 bytes: what a disk that is full does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m 00s"), (306, "5m 06s"), (11040, "3h 04m"), (93600, "1d 02h")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("evaluation_sec", "left"), [(0, "4m 00s"), (30, "5m 00s")])
def test_what_is_left_has_evaluations_in_it(evaluation_sec, left):
    """After 40 of 100 steps with an evaluation every 38: those of 76 and 100 are to come."""
    changes = {"batch_size": 16, "total_kimg": 1.6, "evaluate.every_kimg": 0.6}
    config = parse(tiny_config(changes))
    scalars = {f"time/{name}": 0.0 for name in ("images_per_sec", "data_share")}
    line = progress_line(40, 0.64, config, scalars | {"time/sec_per_kimg": 250.0}, evaluation_sec)
    assert f"  {left} left  " in line


def test_a_metric_is_the_mean_over_the_steps_that_have_it():
    steps = [{"a": np.float32(1), "b": np.float32(5)}, {"a": np.float32(2)}]
    assert mean_metrics(steps) == {"a": 1.5, "b": 5.0}


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        ("none", "there is an NVIDIA GPU; pip install 'creps-jax[cuda]' to use it."),
        ("jax_cuda12_plugin", "JAX could not start the NVIDIA GPU; its warnings above say why."),
        ("jax_cuda13_plugin", "JAX could not start the NVIDIA GPU; its warnings above say why."),
    ],
)
def test_a_gpu_that_is_not_used_is_told_of(monkeypatch, plugin, told):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: path.name == "nvidia0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == plugin or None)
    assert device_line("float32").endswith(f"On the CPU: {told}")


def test_a_run_that_ends_before_its_trace_is_an_error(tmp_path):
    config = parse(tiny_config({"total_kimg": 0.08}))
    with pytest.raises(ValueError, match="traces steps 13 to 21, but the run ends at step 20"):
        tracing(tmp_path, config, 3)


def test_metrics_of_steps_that_will_be_done_again_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) for step in (1, 2, 3, 4)]
    odd = b'\n5\n{}\n"step"\n\xff\xfe\n{"step": 5, "lo'  # Others' lines; killed while writing.
    path.write_bytes("\n".join(lines).encode() + odd)
    forget_after(path, 2)
    assert path.read_text() == "\n".join(lines[:2]) + "\n"
    forget_after(tmp_path / "absent.jsonl", 2)


def read_events(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors("a")]


def test_events_written_before_the_writer_is_there_are_all_there(tmp_path):
    with Events(tmp_path) as events:
        for step in range(5):
            events.write(lambda writer, step=step: writer.write_scalars(step, {"a": step / 2}))
    assert read_events(tmp_path) == [(step, step / 2) for step in range(5)]


def test_a_user_without_a_home_gets_no_folder_of_that_name(tmp_path):
    program = "from creps_jax.training.report import Events\nwith Events('.'):\n    pass"
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "KERAS_HOME")}
    environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[2])
    nobody = "import os, pwd; pwd.getpwuid = {}.__getitem__\n"  # As in docker run --user=12345.
    command = [sys.executable, "-c", nobody + program]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=120)
    assert [path.name.partition(".")[0] for path in tmp_path.iterdir()] == ["events"]


def test_events_that_cannot_be_written_are_an_error_of_the_disk(tmp_path, no_room):
    told = f"{tmp_path}: TensorBoard's events: .*File too large"
    with pytest.raises(OSError, match=told), Events(tmp_path) as events:
        events.write(lambda writer: writer.write_images(0, {"a": np.zeros((1, 9, 9, 3))}))


def test_a_run_without_a_writer_of_events_says_what_to_install(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "clu" else find_spec(n))
    with pytest.raises(ValueError, match=r"training needs clu: pip install 'creps-jax\[train\]'"):
        prepare(tiny_config({"report.tensorboard": True}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # Where none is wanted, the run goes on to what else is wrong.
    with pytest.raises(ValueError, match="devices that share the batch"):
        prepare(tiny_config({"report.tensorboard": False}), tmp_path / "run")


def test_starting_and_continuing_a_run_need_no_tensorflow():
    program = (
        "import os, sys, creps_jax.training.loop, creps_jax.training.dry_run\n"
        "assert 'EPATH_USE_TF' not in os.environ\n"  # Others may use etils in the same process.
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "EPATH_USE_TF"}
    loaded = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, timeout=120
    )
    assert {"clu", "tensorflow", "tensorboard"}.isdisjoint(loaded.stdout.split())
    assert loaded.stderr == ""


def test_a_path_that_is_no_text_is_no_trouble(tmp_path):
    raw = tiny_config({"data.source": os.fsdecode(b"folder:r\xe9n"), "report.tensorboard": True})
    config = parse(raw)
    with Reporter(tmp_path, raw, config, 0, Guard(100, True, 0, {})):
        pass
    (events,) = tmp_path.glob("events.*")
    assert b"folder:r\\udce9n" in events.read_bytes()
    assert json.loads((tmp_path / "config.json").read_text()) == raw


def test_a_finished_run_writes_no_events(tmp_path):
    config = parse(tiny_config({"total_kimg": 0.016}))
    guard = Guard(100, True, 0, {})
    with Reporter(tmp_path, {}, config, config.total_steps, guard) as reporter:
        reporter.image("fakes", config.total_steps, np.zeros((8, 8, 3), np.uint8))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "fakes_000000.016.png", "metrics.jsonl"}
