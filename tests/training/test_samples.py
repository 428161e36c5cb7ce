"""Grids of fakes: all devices paint, and an image is the same numbers on any number of them."""

import functools
import re

import jax
import numpy as np
import pytest

from creps_jax import sharding
from creps_jax.config import parse
from creps_jax.training import hlo, samples
from creps_jax.training.state import init_state
from creps_jax.training.task import make_task
from experiments.kill_hunt import tiny_config

COUNT, STRIPS = 32, 2
CONFIG = parse(tiny_config({"num_classes": 3, "layout.pixel_strips": STRIPS}))


@functools.cache
def task_on(devices, columns=1):
    task = make_task(CONFIG, (), jax.devices()[:1])
    return task._replace(mesh=sharding.make_mesh(jax.devices()[:devices], column=columns))


@functools.cache
def variables():
    return jax.device_get(jax.jit(init_state, static_argnums=0)(task_on(1)).g_ema)


@functools.cache
def painted(count, *layout):
    """The first images of a grid, in float32, which shows every rounding."""
    task = task_on(*layout)
    fakes = jax.tree.map(lambda x: x[:count], samples.dealt(task))
    options = sharding.compiler_options(task.mesh) | {"xla_backend_optimization_level": 3}
    paint = jax.jit(samples.paint_each, static_argnums=0, compiler_options=options)
    return np.asarray(paint(task, variables(), fakes))


# Where a device has one image, its loop is gone.
@pytest.mark.parametrize(("count", "layout"), [(None, (5,)), (None, (8, 2)), (8, (8,))])
def test_any_number_of_devices_paints_the_same_images(count, layout):
    images = painted(count, *layout)[:COUNT]
    np.testing.assert_array_equal(images, painted(None, 1)[: len(images)])


@pytest.mark.parametrize(("devices", "each"), [(5, 7), (8, 4)])
def test_each_device_paints_its_share(devices, each):
    task = task_on(devices)
    lowered = samples.program(task.mesh, False).lower(task, variables(), samples.dealt(task))
    compiled = lowered.compile().as_text()
    turns = re.findall(r'"known_trip_count":\{"n":"(\d+)"', compiled)
    assert {int(n) for n in turns} == {each, STRIPS}
    # Nothing is exchanged but the images, at the end.
    exchanged = hlo.collectives(hlo.operations(compiled))
    sent = [array.shape for found in exchanged.values() for op in found for array in op.inputs]
    assert sent == [(each, 8, 8, 3)]


def test_a_grid_of_fakes_is_one_picture_of_them_all():
    picture = samples.fakes(task_on(8), variables())
    assert picture.shape == (4 * 8, 8 * 8, 3) and picture.dtype == np.uint8
    levels = np.clip(painted(None, 1) * 127.5 + 128, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(picture[8:16, 24:32], levels[8 + 3])
