"""Compiled for TPUs that are not there, the step and the renderer talk no more than they must."""

import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from creps_jax import rng
from creps_jax.config import parse
from creps_jax.model import ops
from creps_jax.model.biline import line_shape
from creps_jax.model.convolution import convolve
from creps_jax.model.generator import Generator
from creps_jax.rendering.programs import fold, lines_on, patches, tile_on
from creps_jax.rendering.tiling import tiling_of
from creps_jax.sharding import compiler_options, make_mesh, make_render_mesh, named
from creps_jax.training import dry_run, hlo, programs, topology
from creps_jax.training.layout import pixel_strips
from creps_jax.training.task import make_task
from experiments.kill_hunt import TINY, tiny_config
from tests.helpers.runs import WITHOUT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is for Linux on x86-64 alone"
)
ROOT = pathlib.Path(__file__).parents[2]
# A chip has 4 images, and 2 groups go over all; SIDE px, CHANNELS: of D's last block.
BATCH, GROUP, SIDE, CHANNELS = 16, 8, 4, 8
PHASES = ("prepare", "G main", "G path length", "D main", "D R1", "finish")


@functools.cache
def task_on_four():
    """The tiny network, with all phases and ADA, on four chips."""
    config = tiny_config({"batch_size": BATCH, "discriminator.mbstd_group_size": GROUP})
    return make_task(parse(config), (), topology.find("v5e:2x2").devices)


@functools.cache
def compiled(phase):
    task = task_on_four()
    calls = programs.calls(task, *programs.abstract_inputs(task))
    with rng.pinned():
        return dry_run.estimate(task, next(call for call in calls if call.name == phase))


def shapes(tree):
    """How many arrays there are of each shape with more than one side, its sides in any order."""
    arrays = jax.tree.leaves(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return Counter(tuple(sorted(x.shape)) for x in arrays if len(x.shape) > 1)


@pytest.mark.parametrize("phase", PHASES)
def test_chips_exchange_gradients_and_statistics_and_nothing_else(phase):
    task = task_on_four()
    found = hlo.collectives(compiled(phase).operations)
    assert found.keys() <= {"all-reduce"}
    sent = [array for each in found.get("all-reduce", ()) for array in each.inputs]
    # Means over the batch of losses and the like, and of w; gradients of biases; of each group of
    # images a mean; in prepare, some of the random bits for ADA.
    assert all(array.shape <= (32,) for array in sent if len(array.shape) < 2)
    arrays = shapes(sent)
    if phase in ("prepare", "finish"):
        assert not arrays
        return
    # The minibatch statistics each time that D judges, and their derivatives.
    groups = BATCH // GROUP * (2 if phase == "D main" else 1)  # Of fakes and of reals.
    most = {"G path length": 0, "D R1": 6}.get(phase, 3)
    assert arrays.pop(tuple(sorted((groups, SIDE, SIDE, CHANNELS))), 0) <= most
    # The gradients: of each use of a weight one, unless XLA adds these up before.
    state = programs.abstract_state(task)
    network = state.generator["params"] if phase.startswith("G") else state.discriminator["params"]
    assert arrays <= Counter({shape: 3 * n for shape, n in shapes(network).items()})
    assert len(arrays) >= 5


def test_chips_that_share_a_picture_exchange_nothing():
    for program in painting_on(make_render_mesh(topology.find("v5e:2x2").devices)):
        found = hlo.operations(program.compile().as_text())
        assert hlo.cycles(found) > 1000 and not hlo.collectives(found)


def painting_on(mesh):
    """Both stages of the renderer, lowered for the chips of a mesh."""
    config = parse(tiny_config()).generator
    generator = Generator(config)
    tile, (rows, columns) = tiling_of(mesh).tile, mesh.devices.shape

    def image():
        variables = generator.init(jax.random.key(0), method="create")
        ws = jnp.zeros((config.num_ws, config.w_dim))
        return fold(generator, variables, ws, jnp.bfloat16)

    def laid(kind, tree):
        layout = named(mesh, kind)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout), tree)

    def line(count):
        return jax.ShapeDtypeStruct((count * tile, *line_shape(image)), jnp.float32)

    with rng.pinned():
        image = laid("image", jax.eval_shape(image))
        t, axis = (jax.ShapeDtypeStruct((mesh.size * tile,), d) for d in (jnp.float32, jnp.int32))
        down, across = patches(mesh, tiling_of(mesh).patch)
        of_rows, down = laid("rows", (line(rows), down))
        of_columns, across = laid("columns", (line(columns), across))
        return (
            lines_on(mesh).lower(image, *laid("positions", (t, axis))),
            tile_on(mesh).lower(image, of_rows, of_columns, down, across),
        )


@pytest.mark.parametrize(
    ("images", "side", "strips"), [(4, 64, 0), (4, 128, 0), (8, 256, 8), (1, 512, 4)]
)
def test_a_chip_paints_many_pixels_in_strips(images, side, strips):
    assert pixel_strips(task_on_four(), side, images * side) == strips


def test_maps_of_few_images_are_not_cut_into_pieces():
    mesh = make_mesh(topology.find("v5e:1x1").devices)
    x, weight = (
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=named(mesh, "state"))
        for shape in ((4, 32, 32, 128), (3, 3, 128, 128))
    )

    def twice(x, weight):
        return convolve(ops.lrelu(convolve(x, weight, 1, "SAME")), weight, 1, "SAME")

    def cycles(options):
        program = jax.jit(twice, compiler_options=options).lower(x, weight).compile()
        return hlo.cycles(hlo.operations(program.as_text()))

    assert cycles(compiler_options(mesh)) < 0.9 * cycles({})


def test_a_loop_counts_as_often_as_it_turns():
    layout = jax.sharding.SingleDeviceSharding(topology.find("v5e:1x1").devices[0])
    x = jax.ShapeDtypeStruct((256, 256), jnp.bfloat16, sharding=layout)

    def cycles(turns):
        turn = jax.jit(lambda x: jax.lax.fori_loop(0, turns, lambda _, y: jnp.sin(y @ x), x))
        return hlo.cycles(hlo.operations(turn.lower(x).compile().as_text()))

    assert 0 < 2 * cycles(20) == pytest.approx(cycles(40), rel=0.05)


def dry(*flags, **environment):
    """The real program on the tiny network, least to compile: its exit code, lines and errors."""
    command = [sys.executable, "-m", "creps_jax.main", "--config=configs/demo.py"]
    command += [f"--config.{name}={value}" for name, value in {**TINY, **WITHOUT}.items()]
    environment = {**os.environ, **environment}
    result = subprocess.run(
        [*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    return result.returncode, result.stdout.splitlines(), result.stderr


def test_a_dry_run_for_a_chip_tells_of_each_phase_and_logs_nothing(tmp_path):
    environment = {"JAX_PLATFORMS": "", "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    code, lines, errors = dry("--dry_run", "--topology=v5e:1x1", **environment)
    assert not list(tmp_path.iterdir())  # A cache of such programs cannot be read.
    assert (code, errors) == (0, "")
    assert any("v5e:1x1: 1 x TPU v5 lite of 16.00 GiB at 1,500 MHz" in line for line in lines)
    phases = [line for line in lines if "cycles" in line]
    assert [line.partition("  ")[0] for line in phases] == ["prepare", "G main", "D main", "finish"]
    assert all("no collectives" in line for line in phases)
    step = r"a step on average \d.* ms, [\d,]+ images/s, \S+ s/kimg, .* estimate, not measured"
    assert re.fullmatch(step, lines[-1])


def test_with_libtpu_and_without_a_tpu_devices_start_in_silence():
    program = "from creps_jax import devices; devices.check()"
    environment = {k: v for k, v in os.environ.items() if "TPU" not in k} | {"JAX_PLATFORMS": ""}
    started = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (started.returncode, started.stderr) == (0, "")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--topology=v5e:2x2"], "v5e:2x2 is for a dry run: give --dry_run too"),
        (["--topology=v9:2x2", "--dry_run"], "v9:2x2 must be KIND:SHAPE as in v5e:4x4"),
        (["--topology=v5e-16", "--dry_run"], "v5e-16 must be KIND:SHAPE as in v5e:4x4"),
        (["--topology=v5e:32x32", "--dry_run"], "v5e:32x32 has 1024 chips; v5e has 256 at most"),
        (["--topology=v5e:3x3", "--dry_run"], r"v5e:3x3: there is no such pod \(.*\); take sides"),
    ],
)
def test_a_wrong_topology_is_one_line(tmp_path, flags, expected):
    code, lines, errors = dry(*flags, f"--workdir={tmp_path}/run")
    assert (code, lines, len(errors.splitlines())) == (1, [], 1)
    assert re.match(f"Error: --topology={expected}", errors)
    assert not (tmp_path / "run").exists()


def test_without_libtpu_a_topology_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"v5e:4x4 needs libtpu.*pip install 'creps-jax\[tpu\]'"):
        topology.check("v5e:4x4")


FIELDS = r"batch_size=16 among more devices, or raise layout\.microbatches=1, .* layout\.row=1"


def test_a_step_that_a_chip_has_no_memory_for_is_an_error_that_names_the_fields():
    task, program = task_on_four(), compiled("G main").program
    expected = f"needs about .* of the device's 1 MiB .* for G main.*{FIELDS}"
    with pytest.raises(MemoryError, match=expected):
        programs.memory_line(task, [program], 2**20)


def test_what_the_compiler_finds_too_large_is_an_error_that_names_the_fields():
    task = task_on_four()
    large = jax.ShapeDtypeStruct((2**16,) * 2, jnp.bfloat16, sharding=named(task.mesh, "state"))
    square = jax.jit(lambda _, x: (x @ x) @ (x.T @ x), static_argnums=0)
    expected = rf"G main does not fit \(RESOURCE_EXHAUSTED.*available HBM.*\): .*{FIELDS}"
    with pytest.raises(MemoryError, match=expected):
        programs.compile_call(task, programs.Call("G main", 1, square, (large,)))
