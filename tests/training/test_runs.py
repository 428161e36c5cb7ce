"""Whole runs of the real program: stopped, killed or unbroken, they end with the same arrays."""

import contextlib
import functools
import gzip
import importlib
import json
import os
import random
import re
import signal
import time

import jax
import numpy as np
import optax
import pytest
from PIL import Image
from typer.testing import CliRunner

import creps_jax
from creps_jax import cli
from creps_jax.checkpoint import Checkpoints, load_ema
from creps_jax.config import parse
from creps_jax.data.pipeline import make_iterator
from creps_jax.data.sources import open_source
from creps_jax.distributed import STOPPED
from creps_jax.interop import initial, official
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.sharding import make_mesh
from creps_jax.training import loop
from creps_jax.training.guards import Guard
from creps_jax.training.loop import restore
from creps_jax.training.state import Task, init_state
from experiments import kill_hunt
from experiments.kill_hunt import finish, kill_in_flight, newest_step, same, start
from tests.helpers.publishers import COUNT, PUBLISH
from tests.processes import children, is_running, wait_until

STEPS = 40


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    workdir = tmp_path_factory.mktemp("unbroken")
    output = finish(start(workdir, STEPS, cache, "--profile"))
    return workdir, output


def tiny_portrait(changes):
    """The config of the runs that `start` starts."""
    return kill_hunt.tiny_config(kill_hunt.PORTRAIT | changes)


def reported_steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_run_leaves_what_it_promises(unbroken):
    workdir, output = unbroken
    assert "Device: 1 x cpu, float32" in output and "On the CPU" in output
    assert f"Finished: {STEPS} of {STEPS} steps" in output
    assert "img/s" in output and "sec/kimg" in output and "left" in output
    assert reported_steps(workdir) == list(range(1, STEPS + 1))
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    every = {
        *("loss/g", "loss/d", "score/fake", "score/real", "sign/fake", "sign/real", "w_avg/norm"),
        *("gradient_norm/g", "gradient_norm/d", "memory/peak_mib", "kimg"),
    }
    assert all(every <= line.keys() for line in metrics)
    assert [line["step"] for line in metrics if "loss/r1" in line] == [*range(1, STEPS + 1, 8)]
    assert [line["step"] for line in metrics if "loss/path_length" in line] == [
        *range(1, STEPS + 1, 4)
    ]
    assert {"time/images_per_sec", "time/sec_per_kimg", "time/data_share"} <= metrics[2].keys()
    assert (workdir / "fakes_000000.000.png").exists()
    assert (workdir / f"fakes_{STEPS * kill_hunt.BATCH_SIZE / 1000:010.3f}.png").exists()
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == kill_hunt.BATCH_SIZE


def test_a_profile_has_all_phases(unbroken):
    workdir, output = unbroken
    assert "Tracing steps 10 to 18" in output
    (trace,) = (workdir / "plugins").rglob("*.trace.json.gz")
    events = gzip.decompress(trace.read_bytes()).decode()
    phases = ("prepare", "g_main", "g_path_length", "d_main", "d_r1", "finish")
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


def test_a_dry_run_tells_sizes_and_costs_and_leaves_nothing(unbroken, cache, tmp_path):
    output = finish(start(tmp_path / "run", STEPS, cache, "--dry_run"))
    assert '"total_kimg": 0.16' in output and '"z_dim": 8' in output
    parameters = load_ema(unbroken[0])[0]["params"]
    count = sum(x.size for x in jax.tree.leaves(parameters))
    assert re.search(rf"^generator +{count:,} parameters$", output, re.M)
    costs = re.findall(
        r"^(prepare|G main|G path length|D main|D R1|finish) +(\d+) .* (\S+)$", output, re.M
    )
    assert [(name, int(every)) for name, every, _ in costs] == [
        *(("prepare", 1), ("G main", 1), ("G path length", 4), ("D main", 1), ("D R1", 8)),
        ("finish", 1),
    ]
    mean = sum(float(gflop) / int(every) for _, every, gflop in costs)
    assert 0 < mean == pytest.approx(float(re.search(r"average (\S+) GFLOP", output)[1]), rel=1e-2)
    assert not (tmp_path / "run").exists()


def test_tensorboard_has_the_scalars_and_the_grids(unbroken):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    workdir, _ = unbroken
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0})
    events.Reload()
    written = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors("loss/g")}
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert written.keys() == {line["step"] for line in metrics}
    assert all(abs(written[line["step"]] - line["loss/g"]) < 1e-6 for line in metrics)
    assert {"reals", "fakes"} <= set(events.Tags()["tensors"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_request_to_stop_is_noted_and_a_second_one_acts(number):
    def act(*_):
        raise InterruptedError

    before = signal.signal(number, act)
    try:
        with loop.stop_requests() as received:
            os.kill(os.getpid(), number)
            assert received == [number]
            with pytest.raises(InterruptedError):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is act
    finally:
        signal.signal(number, before)


def test_a_finished_run_says_so_and_compiles_nothing(unbroken, cache):
    output = finish(start(unbroken[0], STEPS, cache))
    assert f"Finished: {STEPS} of {STEPS} steps" in output and "Compiled" not in output


def interrupt_before_the_first_step(workdir, cache):
    """Ctrl-C ends it at once."""
    process = start(workdir, 3, cache)
    output = ""
    while "A new run" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process, -signal.SIGINT) == ""


def stop_while_the_step_is_compiled(workdir, cache):
    process = start(workdir, 3, cache)
    wait_until(lambda: (workdir / "reals.png").exists() or process.poll() is not None, seconds=120)
    time.sleep(0.5)  # Requests are taken a moment later, and compiling takes seconds.
    os.kill(process.pid, signal.SIGINT)
    output = finish(process, STOPPED)
    assert output.index("Compiled the step") < output.index("Stopped after 0 of 3 steps")
    assert newest_step(workdir) == 0


def stop_as_a_terminal_does(workdir, cache):
    """To the whole group: the worker gets it too."""
    process = start(workdir, STEPS, cache, "--config.data.workers=1")
    wait_until(lambda: newest_step(workdir) >= 4 or process.poll() is not None, seconds=120)
    os.killpg(process.pid, signal.SIGINT)
    output = finish(process, STOPPED)
    assert "Continuing" in output and "Stopped after" in output and "Traceback" not in output


def kill_beside_decoding_processes(workdir, cache):
    """None of them is left."""
    process, begun = start(workdir, STEPS, cache, "--config.data.workers=2"), newest_step(workdir)
    try:
        wait_until(lambda: newest_step(workdir) > begun, seconds=120)
        started = children(process.pid)
        assert sum(map(is_running, started)) >= 2
        for worker in started:
            os.kill(worker, signal.SIGTERM)  # As SLURM does it; to stop is their parent's work.
        step = newest_step(workdir)
        wait_until(lambda: newest_step(workdir) > step + 2)
        assert all(map(is_running, started))
    finally:
        os.kill(process.pid, signal.SIGKILL)  # The process alone, not its group.
        process.communicate()
    wait_until(lambda: not any(map(is_running, started)))


def kill_while_saving(workdir, cache):
    process, step = start(workdir, STEPS, cache), newest_step(workdir)
    kill_in_flight(process, workdir, step + 1, random.Random(0).uniform(0, 0.1), while_saving=True)
    assert process.returncode == -signal.SIGKILL


def test_a_run_interrupted_in_every_way_is_the_unbroken_run(unbroken, cache, tmp_path):
    interrupt_before_the_first_step(tmp_path, cache)
    stop_while_the_step_is_compiled(tmp_path, cache)
    finish(start(tmp_path, 3, cache))  # It is then lengthened.
    stop_as_a_terminal_does(tmp_path, cache)
    kill_beside_decoding_processes(tmp_path, cache)
    kill_while_saving(tmp_path, cache)
    output = finish(start(tmp_path, STEPS, cache))
    assert "Continuing" in output and "Finished" in output
    assert same(tmp_path, unbroken[0])
    # The shorter run reported its own end; all else is as if it had never stopped.
    assert reported_steps(tmp_path) == reported_steps(unbroken[0])


def test_a_workdir_in_use_and_changed_images_are_errors(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 10), (60 * i, 9, 9)).save(images / f"{i}.bmp")
    config = tiny_portrait({"batch_size": 16, "data.source": f"folder:{images}"})
    run = loop.prepare(config, tmp_path / "run")
    with pytest.raises(ValueError, match="another process is training"):
        loop.prepare(config, tmp_path / "run")
    loop.save(run)
    run.checkpoints.close()
    run.batches.close()
    run.lock.close()
    again = loop.prepare(config, tmp_path / "run")
    assert again.last_saved == again.step == 0
    again.checkpoints.close()
    again.batches.close()
    again.lock.close()
    Image.new("RGB", (8, 10)).save(images / "0.png")
    (images / "0.bmp").unlink()
    with pytest.raises(ValueError, match=r"data.source=.* has changed: it has 4 usable images"):
        loop.prepare(config, tmp_path / "run")
    changed = {**config, "generator": {**config["generator"], "z_dim": 16}}
    with pytest.raises(ValueError, match=r"generator\.z_dim: 8 in the checkpoint, 16 now"):
        loop.prepare(changed, tmp_path / "run")


def test_a_run_continues_with_what_its_guard_knew(unbroken, tmp_path, capsys):
    config = tiny_portrait({"batch_size": 16, "init_from": str(unbroken[0])})
    run = loop.prepare(config, tmp_path)
    run.step, run.guard = 6, Guard(100, True, reported=4, since={"blind": 2})
    loop.save(run)
    for item in (run.checkpoints, run.batches, run.lock):
        item.close()
    assert "Fine-tuning" in capsys.readouterr().out
    again = loop.prepare(config, tmp_path)
    output = capsys.readouterr().out
    assert "Continuing" in output and "Fine-tuning" not in output
    assert again.step == 6 and again.guard.reported == 4 and again.guard.since == {"blind": 2}
    for item in (again.checkpoints, again.batches, again.lock):
        item.close()


def test_a_run_whose_augmentation_runs_away_ends_and_keeps_what_was_good(cache, tmp_path):
    # p rises by 1.6 after the fourth step; a checkpoint every second step.
    flags = [
        "--config.augment.kimg=0.01",
        "--config.augment.target=0",
        "--config.checkpoint.keep=2",
    ]
    impatient = "--config.guard.patience_kimg=0.028"
    output = finish(start(tmp_path, 30, cache, *flags, impatient), code=1)
    assert "WARNING: for 1 steps p of the augmentation has run up to" in output
    good = tmp_path / "checkpoints" / "4"
    end = rf"Error: for 7 steps p of .* Its checkpoint of step 4 .*--config.init_from={good}"
    assert re.search(end, output) and "Traceback" not in output
    steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*"))
    assert steps == [4, 8, 10]
    again = finish(start(tmp_path, 30, cache, *flags, impatient), code=1)
    assert "Continuing" in again and "Error: for 7 steps p of" in again
    assert "Finished: 14 of 14 steps" in finish(start(tmp_path, 14, cache, *flags))


@functools.cache
def task_and_state(**changes):
    config = parse(tiny_portrait(changes))
    networks = Generator(config.generator), Discriminator(config.discriminator)
    mesh = make_mesh(jax.devices()[:1])
    classes = config.generator.num_classes
    shares = (1 / max(classes, 1),) * classes
    task = Task(*networks, config.recipe, config.augment, 5, shares, mesh, config.layout)
    return task, jax.jit(init_state, static_argnums=0)(task)


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
        begun = loop.with_initial_weights(state, task, initial.load_arrays(str(path)), str(path))
        output, after = capsys.readouterr().out, by_name(task, begun)
        own = {k for k in after if k not in theirs or after[k].shape != theirs[k].shape}
        assert all(re.search(left, name) for name in own) and bool(own) == bool(changes)
        for name, array in after.items():
            np.testing.assert_array_equal(array, (before if name in own else theirs)[name])
        assert f"{len(after) - len(own)} of {len(after)} arrays are from it" in output
        assert all(name in output for name in own)
    assert begun.step == 0 and before.keys() == after.keys()


def test_a_fine_tuned_run_starts_from_the_other_ones_networks(unbroken, cache, tmp_path):
    # The programs are those of a new run.
    flags = [f"--config.init_from={unbroken[0]}", "--config.recipe.ema_rampup=0.05"]
    output = finish(start(tmp_path, 2, cache, *flags))
    assert "Fine-tuning" in output and "Finished: 2 of 2 steps" in output
    ours, theirs = (load_ema(path)[0]["params"] for path in (tmp_path, unbroken[0]))
    _, other = task_and_state()

    def distance(tree):
        return optax.tree.norm(optax.tree.sub(tree, theirs))

    # Two steps from there, and far from what else a run may start from.
    assert distance(ours) < 0.02 * distance(other.g_ema["params"])


def test_what_cannot_be_fine_tuned_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "none.npz").touch()
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "words.npz", **{"G/a": np.array(["b"])})
    np.savez(tmp_path / "misfit.npz", **{"G/a": np.zeros(3)})
    for name, message in {
        "empty": "no checkpoint",
        "nowhere": "neither the folder of a run .* nothing of that name",
        "text.npz": "neither the folder of a run",
        "none.npz": "neither the folder of a run",
        "one.npy": "neither the folder of a run",
        "other.npz": "has no entries G/",
        "words.npz": "G/a is of type <U1, not of floats",
        "misfit.npz": "none of its arrays fits",
    }.items():
        config = tiny_portrait({"init_from": str(tmp_path / name), "batch_size": 16})
        with pytest.raises(ValueError, match=f"init_from.*{message}"):
            loop.prepare(config, tmp_path / "run")


CONFIGS = {
    "ffhq": "ffhq",
    "metfaces": "metfaces",
    "lsun_church": "church",
    "flickr_scenery": "scenery",
}


def build_set(name, folder):
    """The builder's set of a few images; returns the source of the config that is for it."""
    manual = folder / "manual" / name
    manual.mkdir(parents=True)
    PUBLISH[name](manual)
    source = importlib.import_module(f"configs.{CONFIGS[name]}").get_config().data.source
    build = ["build", source.removeprefix("tfds:"), f"--manual-dir={manual}"]
    built = CliRunner().invoke(cli.app, [*build, f"--data-dir={folder}", "--any-count"])
    assert built.exit_code == 0, built.output
    return source


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_reads_the_set_that_its_builder_makes(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = build_set(name, tmp_path)
    config = importlib.import_module(f"configs.{CONFIGS[name]}").get_config()
    small = kill_hunt.TINY | kill_hunt.PORTRAIT | {"data.source": source, "data.resize": True}
    config.update_from_flattened_dict(small)
    data = parse(json.loads(config.to_json())).data
    source = open_source(data)
    with contextlib.closing(make_iterator(source, data, 4, 0)) as batches:
        assert next(batches)["image"].shape == (4, 10, 8, 3)
    assert len(source) == COUNT


def test_a_config_trains_on_the_set_that_its_builder_makes(cache, tmp_path, monkeypatch):
    """At a few pixels: the images are reduced."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = build_set("ffhq", tmp_path)
    # The programs are those of the other runs.
    flags = [f"--config.data.source={source}", "--config.data.resize=True"]
    flags += ["--config.recipe.r1_gamma=1.0"]
    output = finish(start(tmp_path / "run", 3, cache, *flags, config=CONFIGS["ffhq"]))
    assert f"{COUNT} images." in output and "Finished: 3 of 3 steps" in output
