"""Several processes of the real program on one machine: equal, killed, stopped, continued."""

import contextlib
import fcntl
import os
import signal
import socket
import time

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from creps_jax import distributed
from creps_jax.checkpoint import Checkpoints
from creps_jax.sharding import make_mesh
from experiments.kill_hunt import arrays, finish, newest_step, same, start
from tests.processes import wait_until

STEPS = 10


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@contextlib.contextmanager
def two(workdir, cache, steps=STEPS, workers=0):
    """Both processes of a run; none is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    flags = [f"--coordinator={address}", "--processes=2", "--wait_sec=60"]
    flags += [f"--config.data.workers={workers}"]
    both = [start(workdir, steps, cache, *flags, f"--process={index}") for index in range(2)]
    try:
        yield both
    finally:
        for process in both:
            process.kill()  # Its child ends with it.
            process.communicate()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    workdir = tmp_path_factory.mktemp("unbroken")
    with two(workdir, cache) as both:
        return workdir, [finish(process) for process in both]


def test_only_process_0_writes(unbroken):
    workdir, (first, second) = unbroken
    assert "2 processes, 1 devices each" in first and "Device: 2 x cpu" in first
    assert f"Finished: {STEPS} of {STEPS} steps" in first and "step 1" not in second
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == STEPS
    assert len(list(workdir.glob("events.*"))) == 1


def test_two_processes_compute_what_one_with_two_devices_computes(
    unbroken, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    assert "Device: 2 x cpu" in finish(start(tmp_path, STEPS, cache))
    (step, ours, data), (other_step, theirs, other_data) = arrays(unbroken[0]), arrays(tmp_path)
    assert (step, data) == (other_step, other_data)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_lost_process_is_named_and_the_run_goes_on_as_if_unbroken(unbroken, cache, tmp_path):
    for lost, step in ((1, 2), (0, 4)):
        with two(tmp_path, cache) as both:
            wait_until(lambda step=step: newest_step(tmp_path) >= step, seconds=120)
            both[lost].send_signal(signal.SIGKILL)
            killed = time.monotonic()
            output, _ = both[1 - lost].communicate(timeout=30)
            assert time.monotonic() - killed < 20
            assert both[1 - lost].returncode == distributed.LOST
            assert f"Error: process {lost} of 2 (" in output and "is lost" in output
    with two(tmp_path, cache) as both:
        outputs = [finish(process) for process in both]
    assert "Continuing" in outputs[0]
    assert same(tmp_path, unbroken[0])


def test_an_error_of_one_process_is_told_and_ends_all_as_an_error(cache, tmp_path):
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Process 0 alone takes it.
        with two(tmp_path, cache) as both:
            outputs = [process.communicate(timeout=120)[0] for process in both]
            assert [process.returncode for process in both] == [distributed.FAILED] * 2, outputs
    assert "Error: another process is training in" in outputs[0]
    assert "Error: process 0 of 2 (" in outputs[1]
    assert "ended with code 1; its message says why" in outputs[1]


def to_one(both):
    both[1].send_signal(signal.SIGTERM)


def to_all(both):
    """As SLURM does it: to the guards, what they guard, and what decodes for it."""
    for process in both:
        os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize("request_to, workers", [(to_one, 0), (to_all, 1)])
def test_a_request_to_stop_stops_all_at_one_step(cache, tmp_path, request_to, workers):
    with two(tmp_path, cache, 10**6, workers) as both:
        wait_until(lambda: newest_step(tmp_path) >= 2, seconds=120)
        request_to(both)
        outputs = [process.communicate(timeout=60)[0] for process in both]
        assert [process.returncode for process in both] == [distributed.STOPPED] * 2, outputs
    assert f"Stopped after {newest_step(tmp_path)} of" in outputs[0]


def test_a_checkpoint_moves_from_8_devices_to_1_and_to_4(tmp_path):
    values = np.random.default_rng(0).standard_normal((8, 3), np.float32)

    def on(count, spec):
        return NamedSharding(make_mesh(jax.devices()[:count]), spec)

    layouts = (on(8, PartitionSpec("data")), on(1, PartitionSpec()), on(4, PartitionSpec("data")))
    tree = {"x": jax.device_put(values, layouts[0])}
    for step, layout in enumerate(layouts):
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            if step:
                abstract = {"x": jax.ShapeDtypeStruct(values.shape, values.dtype, sharding=layout)}
                tree = checkpoints.restore(checkpoints.latest_step(), abstract, abstract)[0]
            assert tree["x"].sharding == layout
            np.testing.assert_array_equal(np.asarray(tree["x"]), values)
            checkpoints.save(step, state=tree, ema=tree, data={}, config={})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("h:1", 2, None), "belong together"),
        (("auto", 2, 0), "belong together"),
        (("h", 2, 0), "must be HOST:PORT"),
        (("h:65536", 2, 0), "a port from 1 to 65535"),
        (("h:1", 2, 2), r"--process=2 must be one of 0..1"),
    ],
)
def test_flags_that_contradict_each_other_are_errors(flags, message):
    with pytest.raises(ValueError, match=message):
        distributed.cluster_of(*flags, {})


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # A batch script.
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"MEGASCALE_NUM_SLICES": "2"}, True),
    ],
)
def test_the_environment_tells_of_several_processes(environment, several):
    assert distributed.cluster_of(None, None, None, environment) == ({} if several else None)


def test_a_variable_that_is_not_a_number_is_named():
    with pytest.raises(ValueError, match="OMPI_COMM_WORLD_SIZE=two must be a number"):
        distributed.cluster_of(None, None, None, {"OMPI_COMM_WORLD_SIZE": "two"})


def test_a_coordinator_that_cannot_be_reached_is_named(cache, tmp_path):
    flags = ("--coordinator=127.0.0.1:1", "--processes=2", "--process=1", "--wait_sec=2")
    process = start(tmp_path, STEPS, cache, *flags)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: the processes did not all meet at 127.0.0.1:1 within 2 s" in output
