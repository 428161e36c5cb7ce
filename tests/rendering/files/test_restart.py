"""`creps render` killed in the middle of a large picture, and shared by several processes."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr

import creps_jax
from tests.helpers.saved import save_run

SIDE = 2048
COMMAND = [sys.executable, "-c", "from creps_jax.cli import app; app()", "render"]
CHUNKS = (SIDE // 512) ** 2


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def expected(workdir):
    return creps_jax.load(workdir).render(3, size=(SIDE, SIDE))


def start(workdir, out, *arguments):
    """The command in a process of its own, on one device and with the optimisations of a user."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    size = f"--size={SIDE}"
    command = [*COMMAND, f"--workdir={workdir}", f"--out={out}", "--seeds=3", size, *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def chunks(out):
    """The painted chunks of an unfinished output, and when each was written."""
    paths = out.with_name(f"{out.name}.partial").glob("**/c/*/*/0")
    try:
        return {path: path.stat().st_mtime_ns for path in paths}
    except FileNotFoundError:
        return {}  # The output has just been completed.


def read(out):
    if out.suffix == ".tif":
        return tifffile.imread(out)
    if out.suffix == ".zarr":
        return zarr.open(out, mode="r")[:]
    tiles = out.with_name(f"{out.stem}_files") / str(SIDE.bit_length() - 1)
    side = range(SIDE // 512)
    rows = [
        np.hstack([np.asarray(PIL.Image.open(tiles / f"{x}_{y}.png")) for x in side]) for y in side
    ]
    return np.vstack(rows)


def finish(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("ending", ["tif", "zarr", "dzi"])
def test_a_killed_picture_is_completed_without_painting_a_tile_twice(
    workdir, expected, tmp_path, ending
):
    out = tmp_path / f"large.{ending}"
    process = start(workdir, out)
    while len(chunks(out)) < CHUNKS // 4 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    painted = chunks(out)
    assert process.returncode == -signal.SIGKILL and not out.exists()
    assert CHUNKS // 4 <= len(painted) < CHUNKS

    process, seen = start(workdir, out), 0
    while process.poll() is None:
        now = chunks(out)
        seen = max(seen, len(now))
        assert all(now[path] == painted[path] for path in painted.keys() & now.keys())
        time.sleep(0.005)
    finish(process)
    assert seen > len(painted)
    np.testing.assert_array_equal(read(out), expected)
    assert not out.with_name(f"{out.name}.partial").exists()


def test_two_processes_each_paint_their_part_of_a_picture(workdir, expected, tmp_path):
    out = tmp_path / "shared.zarr"
    parts = [start(workdir, out, f"--part={index}/2") for index in range(2)]
    outputs = [finish(part) for part in parts]
    assert any("complete" in output for output in outputs)
    np.testing.assert_array_equal(read(out), expected)


def test_parts_may_run_one_after_the_other(workdir, expected, tmp_path):
    out = tmp_path / "parts.tif"
    first = finish(start(workdir, out, "--part=1/2"))
    assert "other parts" in first and not out.exists()
    assert len(chunks(out)) == CHUNKS // 2
    finish(start(workdir, out, "--part=0/2"))
    np.testing.assert_array_equal(read(out), expected)


ONE_OF_TWO = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import creps_jax
from creps_jax.rendering.files import store, writing
painter = creps_jax.load(sys.argv[3])
assert (painter.mesh.size, jax.device_count()) == (2, 4)  # Its own devices, of all there are.
ws, plan = painter.latents(3), painter.plan(1500)
picture = store.Picture(plan.window, 3, painter.key(ws, plan))
paint = lambda windows: painter.paint(painter.image(ws), plan, windows)
part = jax.process_index(), jax.process_count()
done = writing.write(sys.argv[4], picture, paint, block=painter.block, part=part)
print("complete:", done)
"""


def test_processes_of_one_distributed_program_each_paint_their_part(workdir, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    out, flags = tmp_path / "shared.zarr", "--xla_force_host_platform_device_count=2"
    arguments = [str(workdir), str(out)]
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, address, str(index), *arguments],
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [finish(part) for part in parts]
    assert any("complete: True" in output for output in outputs)
    whole = creps_jax.load(workdir).render(3, size=1500)
    np.testing.assert_array_equal(read(out), whole)
