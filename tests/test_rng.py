"""Whatever JAX is set to, pictures and training are the same, and the settings stay the user's."""

import contextlib
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from creps_jax import rng
from creps_jax.config import parse
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.camera import Camera, plan_view
from creps_jax.rendering.video.frames import paint_frames
from creps_jax.rendering.video.timing import Timing
from creps_jax.rendering.video.walks import walk
from creps_jax.sharding import make_mesh, named
from creps_jax.training import loop, phases, step
from creps_jax.training.state import Task, init_state
from experiments.kill_hunt import tiny_config
from tests.helpers.generators import make_generator

SETTINGS = {
    "jax_allow_f16_reductions": False,
    "jax_debug_infs": True,
    "jax_debug_nans": True,
    "jax_default_device": jax.devices()[1],
    "jax_default_matmul_precision": "BF16_BF16_F32",
    "jax_default_prng_impl": "rbg",
    "jax_disable_jit": True,
    "jax_enable_checks": True,
    "jax_enable_custom_prng": True,
    "jax_enable_x64": True,
    "jax_legacy_prng_key": "error",
    "jax_softmax_custom_jvp": False,
    "jax_threefry_partitionable": False,
    "jax_transfer_guard": "disallow",
}
VARIABLES = {
    "JAX_DEBUG_NANS": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "BF16_BF16_F32",
    "JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg",
    "JAX_ENABLE_X64": "1",
    "JAX_RANDOM_SEED_OFFSET": "3",
    "JAX_THREEFRY_PARTITIONABLE": "0",
}


@contextlib.contextmanager
def setting(name, value):
    """As a user sets it, for the whole process."""
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


def pictures(painter):
    """A plain one, a warped one and a frame of a walk in z."""
    yield painter.render(3, size=(130, 20), truncation=0.7, styles={1: 4}, dtype=np.float32)
    yield painter.render(2**32 - 1, size=12, supersample=1, warp="rotate:30", dtype=np.float32)
    way = walk(painter, [0, 1], Timing(3), "spherical")
    plans = [plan_view(painter, (16, 16), Camera())] * 3
    yield from paint_frames(painter, [way], plans)


def trained():
    """The draws of a step, the first weights and what one step makes of them."""
    config = parse(tiny_config({"augment.kind": "none"}))
    networks = Generator(config.generator), Discriminator(config.discriminator)
    mesh = make_mesh(jax.devices()[:1])
    task = Task(*networks, config.recipe, config.augment, config.seed, (), mesh, config.layout)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (config.recipe.batch_size, *config.data.shape, 3), np.uint8)
    batch = {"image": images, "label": np.zeros(len(images), np.int32)}
    with rng.pinned():
        drawn = _draw(task, np.int32(5), np.float32(0.5))
        state = _initialize(task)
        first = jax.device_get(state)
        batch = loop.to_devices(task, batch)
        state = jax.device_put(state, named(mesh, "state"))
        main = phases.due(config.recipe, 1)  # No regularisation comes at the second step.
        return jax.device_get((drawn, first, step.train_step(task, main, state, batch)))


_draw = jax.jit(step.draw, static_argnums=0)
_initialize = jax.jit(init_state, static_argnums=0)


@pytest.fixture(scope="module")
def usual(painter):
    return list(pictures(painter)), trained()


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_changes_a_picture_or_a_training_step(painter, usual, name):
    with setting(name, SETTINGS[name]):
        ambient = jax.config.values
        assert_same(list(pictures(painter)), usual[0])
        assert_same(trained(), usual[1])
        assert jax.config.values == ambient


def test_a_mesh_of_the_users_changes_no_picture(painter, usual):
    mesh = jax.make_mesh((2,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        assert_same(list(pictures(painter)), usual[0])
        assert jax.sharding.get_abstract_mesh().axis_names == ("a",)


def test_between_the_parts_of_a_stream_the_settings_are_the_users(painter):
    way = walk(painter, [0, 1], Timing(2))
    plans = [plan_view(painter, (16, 16), Camera(degrees=10.0))] * 2
    with setting("jax_enable_x64", True), setting("jax_default_prng_impl", "rbg"):
        ambient = jax.config.values
        for parts in (
            painter.stream(0, size=(520, 520)),
            painter.stream(0, size=(16, 16), warp="rotate:30"),
            paint_frames(painter, [way], plans),
        ):
            for _ in parts:
                assert jax.config.values == ambient
                assert jax.numpy.zeros(()).dtype == np.float64


def test_a_setting_of_the_whole_process_that_changes_numbers_is_refused_by_name(painter):
    with setting("jax_optimization_level", "O0"):
        message = "^JAX_OPTIMIZATION_LEVEL=O0 makes other numbers, must be UNKNOWN: unset it"
        with pytest.raises(ValueError, match=message):
            painter.render(0)


def test_a_seed_stands_for_the_key_that_jax_gives_it_by_default():
    for seed in (0, 5, 2**31, 2**32 - 1):
        key = jax.random.key(seed)
        with setting("jax_random_seed_offset", 5):
            root = rng.root(seed)
        assert root.dtype == key.dtype
        np.testing.assert_array_equal(*map(jax.random.key_data, (root, key)))


def test_the_environment_changes_no_picture(tmp_path, painter):
    """All at once, as a script of a user's meets them; nor do the tests' own strict settings."""
    program = (
        "import sys, numpy, jax; from creps_jax.rendering.painter import Painter;"
        "from tests.helpers.generators import make_generator;"
        "painter = Painter(*make_generator(num_classes=0), devices=jax.devices()[:1]);"
        "numpy.save(sys.argv[1], painter.render(3, size=(130, 20)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "picture.npy")]
    subprocess.run(command, env=os.environ | VARIABLES, check=True)
    np.testing.assert_array_equal(
        np.load(tmp_path / "picture.npy"), painter.render(3, size=(130, 20))
    )


@pytest.mark.filterwarnings("ignore:os.fork\\(\\) was called:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork_an_error_says_what_to_do(painter):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        signal.alarm(30)  # Rather than hang.
        try:
            painter.render(0)
        except RuntimeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as message:
        assert "forked from one that has used JAX" in message.read()
    assert os.waitpid(child, 0)[1] == 0
