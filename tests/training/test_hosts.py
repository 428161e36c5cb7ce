"""Several processes of the real program on one machine: equal, killed, stopped, continued."""

import contextlib
import fcntl
import os
import re
import signal

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from creps_jax import distributed
from creps_jax.checkpoint import Checkpoints
from creps_jax.sharding import make_mesh
from experiments.kill_hunt import finish, newest_step, same, start_all
from tests.helpers.processes import wait_until
from tests.helpers.runs import AT_THE_END, FLAGS, STEPS, unbroken_run


@contextlib.contextmanager
def two(workdir, cache, *flags):
    """Both processes of a run; none is left."""
    both = start_all(workdir, STEPS, cache, 2, *FLAGS, *flags)
    try:
        yield both
    finally:
        for process in both:
            process.kill()  # Its child ends with it.
            process.communicate()


def wait_for_step(workdir, step, both):
    """Until it is saved; not longer than the processes live."""

    def ended():
        return any(process.poll() is not None for process in both)

    wait_until(lambda: newest_step(workdir) >= step or ended(), seconds=300)
    assert not ended(), [process.communicate()[0] for process in both]


@pytest.fixture(scope="module")
def stopped_and_continued(tmp_path_factory, cache):
    """Folder of a run that was stopped once, and what its two processes printed each time."""
    workdir = tmp_path_factory.mktemp("run")
    with two(workdir, cache, "--config.data.workers=1") as both:
        wait_for_step(workdir, 2, both)
        for process in both:  # As SLURM does it: guards, what they guard, what decodes for it.
            os.killpg(process.pid, signal.SIGTERM)
        stopped = [finish(process, distributed.STOPPED) for process in both]
    with two(workdir, cache, AT_THE_END) as both:
        return workdir, stopped, [finish(process) for process in both]


def test_all_processes_stop_at_one_step_and_continue(stopped_and_continued):
    _, (stopped, _), (continued, _) = stopped_and_continued
    (step,) = re.findall(rf"Stopped after (\d+) of {STEPS} steps", stopped)
    assert f"from step {step} of {STEPS}" in continued


def test_only_process_0_writes(stopped_and_continued):
    workdir, _, (first, second) = stopped_and_continued
    assert "2 processes, 1 devices each" in first and "Device: 2 x cpu" in first
    assert f"Finished: {STEPS} of {STEPS} steps" in first and f"step {STEPS}" not in second
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == STEPS


def test_two_processes_compute_what_one_with_two_devices_computes(stopped_and_continued, cache):
    two, (one, _) = stopped_and_continued[0], unbroken_run(cache)
    assert same(two, one)
    grids = [sorted(workdir.glob("fakes_*.png")) for workdir in (two, one)]
    assert [grid.read_bytes() for grid in grids[0]] == [grid.read_bytes() for grid in grids[1]]


def test_an_error_of_one_process_ends_all_as_an_error(cache, tmp_path):
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Process 0 alone takes it.
        with two(tmp_path, cache) as both:
            outputs = [process.communicate(timeout=120)[0] for process in both]
            assert [process.returncode for process in both] == [distributed.FAILED] * 2, outputs
    assert "Error: another process is training in" in outputs[0]
    assert "ended with an error; its message says why" in outputs[1]


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
