"""The painter as an object: pickled, in other precisions, compiled once, of any dtype."""

import os
import pickle
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import creps_jax
from creps_jax.checkpoint import load_generator
from creps_jax.config import parse
from creps_jax.model import biline, coordinates
from creps_jax.rendering import latents, programs, small
from creps_jax.rendering.colours import to_uint8
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.warp import interpolated
from tests.helpers.generators import FRAME, RESOLUTION, TILE, paint
from tests.helpers.saved import CONFIG, draw_variables, save_run


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_float32_products_are_float32_on_accelerators_too(model, precision):
    """Whichever thread compiles them: a context of the caller's would not reach it."""
    painter = Painter(*model, devices=jax.devices()[:1], precision=precision)
    image, mesh, t = painter.image(painter.latents(0)), painter.mesh, np.zeros(TILE, np.float32)
    lines = np.zeros((TILE, *biline.line_shape(image)), np.float32)
    table, place, share = lines, np.zeros((TILE, TILE), np.int32), np.zeros((TILE, TILE), "f4")
    for function, arguments in [
        (programs.lines_on(mesh), (image, t, np.zeros(TILE, np.int32))),
        (programs.tile_on(mesh), (image, lines, lines, *programs.patches(mesh, 8))),
        (
            interpolated.tile_on(mesh),
            (image, table, table, *[place, share] * 2, *programs.patches(mesh, 8)),
        ),
    ]:
        program = function.lower(*arguments).as_text()
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        assert len(products) > 4
        if precision == "float32":
            assert all(line.count("xf32>") == 3 for line in products)
            assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
        else:  # Accelerators add up in float32 inside.
            assert all(line.count("xbf16>") == 3 for line in products)


def test_one_compilation_serves_every_size_window_sampling_and_supersample(painter):
    mesh = painter.mesh
    one_by_one = programs.fold, programs.lines_on(mesh), programs.tile_on(mesh)
    many = latents._z, latents._ws, small.pictures_on(mesh, painter.generator, jax.numpy.float32)

    def compilations():
        return [f._cache_size() for f in (*one_by_one, *many)]

    for size in (FRAME, RESOLUTION):
        paint(painter, 0, size)
    before = compilations()
    paint(painter, 1, (7, 300), truncation=0.5)
    paint(painter, 2, (2**20, 2**20), (2**19, 5, 2**19 + 9, 6), truncation=0.7)
    paint(painter, 3, (2, 2), sampling=coordinates.endpoints, supersample=3)
    assert compilations() == before


def test_bfloat16_is_close_and_keeps_positions_and_phases_float32(model, painter):
    whole = paint(painter, 0, FRAME)
    coarse = Painter(*model, devices=jax.devices()[:1], precision="bfloat16")
    image = coarse.image(coarse.latents(0))
    assert image.lines["block_4"]["weight"].dtype == jax.numpy.bfloat16
    error = np.sqrt(np.mean((paint(coarse, 0, FRAME) - whole) ** 2))
    assert 0 < error < 0.03 * whole.std()
    t = np.zeros(TILE, np.float32)
    program = str(jax.make_jaxpr(biline.lines)(image, t, np.zeros(TILE, np.int32)))
    waves = re.findall(r":(\w+)\[[\d,]+\] = (?:sin|cos) ", program)
    assert len(waves) == 2 and set(waves) == {"f32"}
    assert "bf16" in program
    with pytest.raises(ValueError, match="'float16' must be one of float32, bfloat16"):
        Painter(*model, precision="float16")


def test_a_pickled_painter_paints_the_same(painter):
    program = (
        "import pickle, sys; painter = pickle.load(sys.stdin.buffer);"
        "pickle.dump(painter.render(3, size=(20, 9)), sys.stdout.buffer)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(painter),
        stdout=subprocess.PIPE,
        env=environment | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
        check=True,
    )
    expected = painter.render(3, size=(20, 9))
    np.testing.assert_array_equal(pickle.loads(result.stdout), expected)


def test_a_seed_has_the_same_latents_on_any_number_of_devices():
    # As users' programs are compiled; this process's are hardly optimised.
    program = (
        "import jax; from creps_jax.rendering.painter import Painter;"
        "from tests.helpers.generators import make_generator; model = make_generator(0);"
        "one, three = (Painter(*model, jax.devices()[:n]).latents_of(range(40)) for n in (1, 3));"
        "assert one.any(); print((one == three).all())"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    result = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ | flags, check=True
    )
    assert result.stdout.split() == [b"True"]


def test_8_bit_numbers_are_clipped_and_truncated():
    values = np.array([-9, -1, -0.001, 0, 0.9999, 1, 9], np.float32)
    # 0.5, 127.87, 128, 255.49 and 255.5 lose their fractions.
    np.testing.assert_array_equal(to_uint8(values), np.array([0, 0, 127, 128, 255, 255, 255], "u1"))


def test_a_dtype_may_be_named_in_any_way(painter):
    expected = painter.render(0, size=(9, 9))
    for dtype in ("uint8", np.dtype("uint8")):
        np.testing.assert_array_equal(painter.render(0, size=(9, 9), dtype=dtype), expected)
    assert painter.render(0, size=(9, 9), dtype="float32").dtype == np.float32


def test_load_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        creps_jax.load(tmp_path / "nowhere")


def test_a_loaded_generator_has_the_variables_that_were_saved(tmp_path):
    generator, variables = load_generator(save_run(tmp_path))
    assert generator.config == parse(CONFIG).generator
    saved = draw_variables(CONFIG)
    assert jax.tree.structure(variables) == jax.tree.structure(saved)
    jax.tree.map(np.testing.assert_array_equal, variables, saved)
