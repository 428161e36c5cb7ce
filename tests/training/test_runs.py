"""Whole runs of the real program: stopped, killed or unbroken, they end with the same arrays."""

import gzip
import json
import os
import re
import signal

import jax
import numpy as np
import pytest
from PIL import Image

import creps_jax
from creps_jax.checkpoint import Checkpoints
from creps_jax.config import parse
from creps_jax.distributed import STOPPED
from creps_jax.interop import initial, official
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.sharding import make_mesh
from creps_jax.training.finetune import with_initial_weights
from creps_jax.training.run import restore
from creps_jax.training.state import Task, init_state
from experiments import kill_hunt
from experiments.kill_hunt import finish, kill_in_flight, newest_step, same
from tests.helpers.processes import children, is_running, wait_until
from tests.helpers.runs import AT_THE_END, STEPS, WITHOUT, start, unbroken_run


@pytest.fixture(scope="module")
def unbroken(cache):
    return unbroken_run(cache)


def tiny_portrait(changes):
    """The config of the runs that `start` starts."""
    return kill_hunt.tiny_config(kill_hunt.PORTRAIT | WITHOUT | changes)


def reported_steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_run_leaves_what_it_promises(unbroken):
    workdir, output = unbroken
    assert "Device: 2 x cpu, float32" in output and "On the CPU" in output
    assert f"Finished: {STEPS} of {STEPS} steps" in output
    assert "img/s" in output and "sec/kimg" in output and "left" in output
    assert reported_steps(workdir) == list(range(1, STEPS + 1))
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    every = {
        "loss/g",
        "loss/d",
        "score/fake",
        "score/real",
        "sign/fake",
        "sign/real",
        "w_avg/norm",
        "gradient_norm/g",
        "gradient_norm/d",
        "memory/peak_mib",
        "kimg",
    }
    assert all(every <= line.keys() for line in metrics)
    assert {"time/images_per_sec", "time/sec_per_kimg", "time/data_share"} <= metrics[2].keys()
    assert (workdir / "fakes_000000.000.png").exists()
    assert (workdir / f"fakes_{STEPS * kill_hunt.BATCH_SIZE / 1000:010.3f}.png").exists()
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == kill_hunt.BATCH_SIZE


def test_a_profile_has_the_phases(unbroken):
    workdir, output = unbroken
    assert "Tracing steps 10 to 11" in output
    (trace,) = (workdir / "plugins").rglob("*.trace.json.gz")
    events = gzip.decompress(trace.read_bytes()).decode()
    phases = ("prepare", "g_main", "d_main", "finish")
    assert all(f"jit_{phase}" in events for phase in phases)


def test_a_run_on_portraits_paints_portraits(unbroken):
    workdir, _ = unbroken
    with Image.open(workdir / "reals.png") as reals:
        assert reals.width % 8 == reals.height % 10 == 0
    painter = creps_jax.load(workdir)
    whole = painter.render(0, size=(300, 240))
    assert painter.render(0).shape == (10, 8, 3)
    assert painter.render(0, size=40).shape == (40, 32, 3)
    window = (100, 20, 290, 140)
    np.testing.assert_array_equal(
        painter.render(0, size=300, window=window), whole[100:290, 20:140]
    )
    # What is turned by a right angle about the middle of a square is a picture turned, unsheared.
    still = painter.render(0, size=(33, 33), dtype=np.float32)
    turned = painter.render(0, size=(33, 33), dtype=np.float32, warp="rotate:90")
    np.testing.assert_allclose(turned, np.rot90(still, -1), atol=0.01)


def interrupt_before_the_first_step(workdir, cache):
    """Ctrl-C ends it at once."""
    process = start(workdir, cache)
    output = ""
    while "A new run" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process, -signal.SIGINT) == ""


def stop_as_a_terminal_does(workdir, cache):
    """To the whole group: the worker gets it too."""
    process = start(workdir, cache, "--config.data.workers=1")
    wait_until(lambda: newest_step(workdir) >= 4 or process.poll() is not None, seconds=120)
    os.killpg(process.pid, signal.SIGINT)
    output = finish(process, STOPPED)
    assert "Stopped after" in output and "Traceback" not in output


def kill_while_saving_beside_decoding_processes(workdir, cache):
    """None of them is left."""
    process, begun = start(workdir, cache, "--config.data.workers=2"), newest_step(workdir)
    try:
        wait_until(lambda: newest_step(workdir) > begun, seconds=120)
        started = children(process.pid)
        assert sum(map(is_running, started)) >= 2
        for worker in started:
            os.kill(worker, signal.SIGTERM)  # As SLURM does it; to stop is their parent's work.
        step = newest_step(workdir)
        wait_until(lambda: newest_step(workdir) > step + 2)
        assert all(map(is_running, started))
    finally:  # The process alone, not its group.
        kill_in_flight(process, workdir, newest_step(workdir) + 1, 0.05, while_saving=True)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not any(map(is_running, started)))


def test_a_run_interrupted_in_every_way_is_the_unbroken_run(unbroken, cache, tmp_path):
    interrupt_before_the_first_step(tmp_path, cache)
    stop_as_a_terminal_does(tmp_path, cache)
    kill_while_saving_beside_decoding_processes(tmp_path, cache)
    output = finish(start(tmp_path, cache, AT_THE_END))
    assert "Continuing" in output and "Finished" in output
    assert same(tmp_path, unbroken[0])
    assert reported_steps(tmp_path) == reported_steps(unbroken[0])


def task_and_state(**changes):
    """A run's, with any numbers."""
    config = parse(tiny_portrait(changes))
    networks = Generator(config.generator), Discriminator(config.discriminator)
    mesh = make_mesh(jax.devices()[:1])
    classes = config.generator.num_classes
    shares = (1 / max(classes, 1),) * classes
    task = Task(*networks, config.recipe, config.augment, 5, shares, mesh, config.layout)
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_state(task))
    drawn = jax.tree.map(lambda x: random.standard_normal(x.shape).astype(x.dtype), shapes)
    return task, jax.device_put(drawn.replace(step=np.int32(0)))


def by_name(task, state):
    """All arrays of the networks by official name."""
    g = official.generator_names(task.generator.config)
    d = official.discriminator_names(task.discriminator.config)
    networks = {"G": (g, state.generator), "D": (d, state.discriminator), "G_ema": (g, state.g_ema)}
    return {
        f"{network}/{name}": array
        for network, (names, variables) in networks.items()
        for name, array in official.to_arrays(names, variables).items()
    }


@pytest.mark.parametrize(
    "changes, left",
    [
        ({}, r"$^"),
        # Blocks are matched by their resolution, and what is decoded last is last.
        (
            {"resolution": 20, "width": 16},
            r"synthesis\.(b16|decoder_16)\.|D/b16\.",
        ),
        ({"num_classes": 3}, r"mapping\.|D/b4\.out"),
        ({"width": 10}, r"D/b5x5\.fc\."),
    ],
)
def test_fine_tuning_takes_what_fits_and_tells_the_rest(unbroken, changes, left, tmp_path, capsys):
    task, state = task_and_state(**changes)
    with Checkpoints(unbroken[0], keep=2) as checkpoints:
        source_task, _ = task_and_state()
        source, _ = restore(checkpoints, checkpoints.latest_step(), source_task)
    theirs, before = by_name(source_task, source), by_name(task, state)
    np.savez(tmp_path / "arrays.npz", **theirs)
    for path in (unbroken[0], tmp_path / "arrays.npz"):
        begun = with_initial_weights(state, task, initial.load_arrays(str(path)), str(path))
        output, after = capsys.readouterr().out, by_name(task, begun)
        own = {k for k in after if k not in theirs or after[k].shape != theirs[k].shape}
        assert all(re.search(left, name) for name in own) and bool(own) == bool(changes)
        for name, array in after.items():
            np.testing.assert_array_equal(array, (before if name in own else theirs)[name])
        assert f"{len(after) - len(own)} of {len(after)} arrays are from it" in output
        assert all(name in output for name in own)
    assert begun.step == 0 and before.keys() == after.keys()
