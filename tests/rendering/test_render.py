"""A small random generator whose biases and mean latent are random too: no zero hides a fault."""

import functools
import itertools
import os
import pickle
import re
import subprocess
import sys

import jax
import jaxlib
import numpy as np
import pytest

import creps_jax
from creps_jax.config import GeneratorConfig
from creps_jax.model import coordinates, folded, layers
from creps_jax.model.generator import Generator
from creps_jax.rendering import latents, programs, small, warp
from creps_jax.rendering import render as module
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.render import resolve_window, to_uint8
from creps_jax.rendering.windows import Blocks, Window

RESOLUTION = 16
TILE = 128
FRAME = (2 * TILE + 30, TILE + 20)  # Ends inside a tile on both axes.


def make_generator(num_classes):
    generator = Generator(
        GeneratorConfig(
            z_dim=8,
            w_dim=12,
            num_classes=num_classes,
            image_channels=3,
            channels=(16, 16, 16),
            biline_channels=8,
            thickness=4,
            bandwidth=0.5,  # Smooth enough for 16 px to show it.
            mapping_layers=2,
        )
    )
    t = coordinates.training_positions(RESOLUTION)
    z, c = np.zeros((1, 8), np.float32), np.zeros((1, num_classes), np.float32)
    # Compiling init would take longer than all the tests.
    shapes = jax.eval_shape(generator.init, jax.random.key(0), z, c, t, t)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: np.float32(random.standard_normal(x.shape)), shapes)
    mapping, constants = variables["params"]["mapping"], variables["constants"]["lines"]
    variables["params"]["mapping"] = jax.tree.map(lambda x: x / layers.MAPPING_LR, mapping)
    constants["freqs"] *= generator.config.bandwidth
    return generator, variables


@pytest.fixture(scope="module")
def model():
    return make_generator(num_classes=0)


@pytest.fixture(scope="module")
def painter(model):
    return Painter(*model, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def conditional():
    return Painter(*make_generator(num_classes=3), devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def whole(painter):
    return paint(painter, 0, FRAME)


def paint(painter, seed, size, window=None, **options):
    return painter.render(seed, size=size, window=window, dtype=np.float32, **options)


@functools.partial(jax.jit, static_argnums=0)
def synthesize(generator, variables, ws, y, x):
    """The image in one piece, at whatever positions."""
    return generator.apply(variables, ws[None], y, x, method="synthesize")[0]


def assert_close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.float32
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_native_size_is_the_image_that_training_sees(model, painter):
    t = np.float32(np.arange(RESOLUTION) / (RESOLUTION - 1))
    expected = synthesize(*model, painter.latents(0), t, t)
    assert_close(paint(painter, 0, None), expected)


def test_a_frame_of_many_tiles_is_the_image_at_its_pixel_centres(model, painter, whole):
    def at(n):
        edge = 0.5 / (RESOLUTION - 1)
        return np.float32(-edge + (np.arange(n) + 0.5) / n * (1 + 2 * edge))

    assert_close(whole, synthesize(*model, painter.latents(0), at(FRAME[0]), at(FRAME[1])))


def test_endpoints_include_both_ends_of_the_unit_square(model, painter):
    image = paint(painter, 0, FRAME, sampling=coordinates.endpoints)
    y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in FRAME)
    assert_close(image, synthesize(*model, painter.latents(0), y, x))


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 1, 1),
        (0, 0, TILE, TILE),
        (TILE - 3, TILE - 1, TILE + 5, TILE + 2),
        (17, 5, 2 * TILE + 9, 6),
        (TILE, TILE, *FRAME),
        (FRAME[0] - 1, FRAME[1] - 1, *FRAME),
    ],
)
def test_a_window_is_the_crop_of_the_whole_bit_for_bit(painter, whole, window):
    y0, x0, y1, x1 = window
    np.testing.assert_array_equal(paint(painter, 0, FRAME, window), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("count", [1, 2])
def test_only_the_patches_that_a_window_touches_are_decoded(model, count):
    painter = Painter(*model, devices=jax.devices()[:count])
    image, mesh = painter.image(painter.latents(0)), painter.mesh
    down, across = (n * TILE for n in mesh.devices.shape)
    t = np.linspace(0, 1, count * TILE, dtype=np.float32)
    lines = [
        np.asarray(programs.lines_on(mesh)(image, t, np.full(len(t), k, "i4"))) for k in (0, 1)
    ]
    rows, columns = lines[0][:down], lines[1][:across]
    every = np.asarray(programs.tile_on(mesh)(image, rows, columns, *programs.patches(mesh, 8)))
    needed = programs.patches(mesh, 8, Window(down - 1, 9, down, 30))
    some = np.array(programs.tile_on(mesh)(image, rows, columns, *needed))
    np.testing.assert_array_equal(some[-8:, 8:32], every[-8:, 8:32])
    some[-8:, 8:32] = 0
    assert every.all() and not some.any()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_any_number_of_devices_paints_the_same_bits(model, whole, count):
    several = Painter(*model, devices=jax.devices()[:count])
    assert several.mesh.size == count
    np.testing.assert_array_equal(paint(several, 0, FRAME), whole)


def test_no_device_waits_for_another_one(model):
    painter = Painter(*model, devices=jax.devices())
    image, mesh = painter.image(painter.latents(0)), painter.mesh
    t = np.zeros(mesh.size * TILE, np.float32)
    lines = np.zeros((len(t), *folded.line_shape(image)), np.float32)
    rows, columns = (lines[: TILE * n] for n in mesh.devices.shape)
    axis = np.zeros(len(t), np.int32)
    for function, arguments in [
        (programs.lines_on(mesh), (image, t, axis)),
        (programs.tile_on(mesh), (image, rows, columns, *programs.patches(mesh, 8))),
    ]:
        compiled = function.lower(*arguments).compile().as_text()
        assert "num_partitions=8" in compiled
        collectives = r"all-(reduce|gather|to-all)|collective-permute|reduce-scatter|(send|recv)\("
        assert not re.search(collectives, compiled)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_float32_products_are_float32_on_accelerators_too(model, precision):
    """Whichever thread compiles them: a context of the caller's would not reach it."""
    painter = Painter(*model, devices=jax.devices()[:1], precision=precision)
    image, mesh, t = painter.image(painter.latents(0)), painter.mesh, np.zeros(TILE, np.float32)
    lines = np.zeros((TILE, *folded.line_shape(image)), np.float32)
    table, place, share = lines, np.zeros((TILE, TILE), np.int32), np.zeros((TILE, TILE), "f4")
    for function, arguments in [
        (programs.lines_on(mesh), (image, t, np.zeros(TILE, np.int32))),
        (programs.tile_on(mesh), (image, lines, lines, *programs.patches(mesh, 8))),
        (
            warp.tile_on(mesh),
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


def test_streamed_tiles_are_the_whole_whatever_their_cut_and_order(painter, whole):
    image, plan = painter.image(painter.latents(0)), painter.plan(FRAME)
    windows = list(Blocks(plan.window, (50, 64), origin=(7, 0)))
    assert len(windows) == 7 * 3
    parts = dict(painter.paint(image, plan, windows[::-1], np.float32))
    assert parts.keys() == set(windows)
    for (y0, x0, y1, x1), pixels in parts.items():
        np.testing.assert_array_equal(pixels, whole[y0:y1, x0:x1])


def count_lines(monkeypatch):
    """A list that gets the axis and the first position of every chunk of lines computed."""
    computed, original = [], programs.lines_on

    def counted(mesh):
        def compute(image, t, axis):
            computed.append((int(axis[0]), float(t[0])))
            return original(mesh)(image, t, axis)

        return compute

    monkeypatch.setattr(programs, "lines_on", counted)
    return computed


def test_strips_of_bounded_bytes_paint_the_same_bits(painter, monkeypatch):
    image, plan = painter.image(painter.latents(0)), painter.plan((800, 800))
    expected = paint(painter, 0, plan.size)
    computed = count_lines(monkeypatch)
    monkeypatch.setattr(module, "LINES_BYTES", 1)
    for window, pixels in painter.paint(image, plan, Blocks(plan.window, (TILE, TILE)), np.float32):
        y0, x0, y1, x1 = window
        np.testing.assert_array_equal(pixels, expected[y0:y1, x0:x1])
    # Columns once, rows anew for every strip.
    columns, rows = ([t for axis, t in computed if axis == k] for k in (1, 0))
    assert len(columns) == len(set(columns)) == 7
    assert len(rows) > len(set(rows)) == 7


def test_lines_are_computed_once_where_they_fit(painter, monkeypatch):
    computed = count_lines(monkeypatch)
    paint(painter, 0, (1100, 1100))
    assert len(computed) == len(set(computed)) == 2 * 9


def test_an_interrupted_stream_leaves_no_thread_behind(painter):
    import threading

    before = threading.active_count()
    parts = painter.stream(0, size=(4096, 4096))
    next(parts)
    assert threading.active_count() > before
    parts.close()
    assert threading.active_count() == before


def test_centers_stay_in_place_when_the_image_grows_and_endpoints_do_not(painter):
    def shrunk(sampling):
        size = 8 * RESOLUTION
        image = paint(painter, 0, (size, size), sampling=sampling)
        return image.reshape(RESOLUTION, 8, RESOLUTION, 8, 3).mean(axis=(1, 3))

    native = paint(painter, 0, (RESOLUTION, RESOLUTION))
    centers = np.abs(shrunk(coordinates.centers) - native).mean()
    endpoints = np.abs(shrunk(coordinates.endpoints) - native).mean()
    assert centers < 0.05 * native.std()
    assert endpoints > 3 * centers


def test_one_compilation_serves_every_size_window_sampling_and_supersample(painter, whole):
    mesh = painter.mesh
    one_by_one = programs.fold, programs.lines_on(mesh), programs.tile_on(mesh)
    many = latents._z, latents._ws, small.pictures_on(mesh, painter.generator, jax.numpy.float32)

    def compilations():
        return [f._cache_size() for f in (*one_by_one, *many)]

    paint(painter, 0, RESOLUTION)
    before = compilations()
    paint(painter, 1, (7, 300), truncation=0.5)
    paint(painter, 2, (2**20, 2**20), (2**19, 5, 2**19 + 9, 6), truncation=0.7)
    paint(painter, 3, (2, 2), sampling=coordinates.endpoints, supersample=3)
    assert compilations() == before


@pytest.mark.parametrize("k", [2, 3])
def test_a_supersampled_pixel_is_the_mean_of_its_box(painter, k):
    size = (100, 70)
    fine = paint(painter, 0, (k * size[0], k * size[1]), supersample=1)
    boxes = fine.reshape(size[0], k, size[1], k, 3).mean(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(
        paint(painter, 0, size, supersample=k), boxes, atol=1e-6 * np.abs(fine).max()
    )


def test_a_supersampled_window_is_the_crop_bit_for_bit(painter):
    size = (100, 70)  # Its boxes of 3 x 3 straddle the tiles.
    supersampled = paint(painter, 0, size, supersample=3)
    part = paint(painter, 0, size, (41, 3, 44, 70), supersample=3)
    np.testing.assert_array_equal(part, supersampled[41:44, 3:])


def test_small_images_are_antialiased_by_default(painter):
    """Against boxes of 8 x 8 samples a training pixel, in 8-bit steps."""
    for n in (RESOLUTION // 2, RESOLUTION // 4):
        truth = paint(painter, 0, (n, n), supersample=8 * RESOLUTION // n)
        default, point = (paint(painter, 0, (n, n), supersample=k) for k in (None, 1))
        error, naive = (np.sqrt(np.mean((image - truth) ** 2)) for image in (default, point))
        assert error < 0.1 * naive
    assert painter.plan((RESOLUTION, 5)).supersample == (1, 7)
    assert painter.plan((8, 8), sampling=coordinates.endpoints).supersample == (1, 1)


def test_a_frame_ends_where_float32_positions_end(painter):
    side = module.MAX_SIDE_PX
    last = coordinates.positions(side - 5000, side, side, RESOLUTION)
    assert (np.diff(last) > 0).all()
    paint(painter, 0, (side, side), (side - 2, 0, side, 2))
    with pytest.raises(ValueError, match=f"1048577x8 .* from 1 to {side} px .*float32"):
        painter.plan((side + 1, 8))
    with pytest.raises(ValueError, match="supersample=2x2 of size=8x1048576"):
        painter.plan((8, side), supersample=2)


def test_bfloat16_is_close_and_keeps_positions_and_phases_float32(model, painter, whole):
    coarse = Painter(*model, devices=jax.devices()[:1], precision="bfloat16")
    image = coarse.image(coarse.latents(0))
    assert image.lines["block_4"]["weight"].dtype == jax.numpy.bfloat16
    error = np.sqrt(np.mean((paint(coarse, 0, FRAME) - whole) ** 2))
    assert 0 < error < 0.03 * whole.std()
    t = np.zeros(TILE, np.float32)
    program = str(jax.make_jaxpr(module.biline.lines)(image, t, np.zeros(TILE, np.int32)))
    waves = re.findall(r":(\w+)\[[\d,]+\] = (?:sin|cos) ", program)
    assert len(waves) == 2 and set(waves) == {"f32"}
    assert "bf16" in program
    with pytest.raises(ValueError, match="'float16' must be one of float32, bfloat16"):
        Painter(*model, precision="float16")


def test_seeds_differ_and_truncation_0_makes_them_all_the_mean(model, painter):
    generator, variables = model
    drawn = np.stack([painter.latents(seed) for seed in (0, 1, 2**32 - 1)])
    assert drawn.shape == (3, generator.config.num_ws, generator.config.w_dim)
    assert len(np.unique(drawn[:, 0, 0])) == 3
    mean = painter.latents(0, truncation=0.0)
    np.testing.assert_array_equal(mean, painter.latents(1, truncation=0.0))
    w_avg = variables["statistics"]["mapping"]["w_avg"]
    np.testing.assert_allclose(mean, np.broadcast_to(w_avg, mean.shape), rtol=1e-6)


def test_truncation_pulls_the_first_latents_towards_the_mean(painter):
    full, mean = (painter.latents(0, truncation=psi) for psi in (1.0, 0.0))
    half = painter.latents(0, truncation=0.5, cutoff=2)
    np.testing.assert_allclose(half[:2], (full + mean)[:2] / 2, atol=1e-6)
    np.testing.assert_allclose(half[2:], full[2:], atol=1e-6)


def test_styles_take_layers_from_other_seeds(model, painter):
    mixed = painter.latents(0, styles={1: 5, 4: 6})
    for layer in range(model[0].config.num_ws):
        seed = {1: 5, 4: 6}.get(layer, 0)
        np.testing.assert_array_equal(mixed[layer], painter.latents(seed)[layer])
    t = coordinates.training_positions(RESOLUTION)
    assert_close(paint(painter, None, None, ws=mixed), synthesize(*model, mixed, t, t))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2**32}, "seed=4294967296 must be a whole number from 0 to 4294967295"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0, "truncation": float("nan")}, "truncation=nan"),
        ({"seed": 0, "cutoff": 8}, "cutoff=8 must be a whole number from 0 to 7"),
        ({"seed": 0, "cutoff": 1.5}, "cutoff=1.5 must be a whole number"),
        ({"seed": 0, "styles": {7: 1}}, "layer 7 must be from 0 to 6"),
        ({"seed": 0, "size": (0, 8)}, "size=0x8"),
        ({"seed": 0, "supersample": 0}, "supersample=0"),
        ({"seed": 0, "supersample": 1.5}, "supersample=1.5 must be a whole number"),
        ({"seed": 0, "sampling": "corners"}, "sampling='corners' must be one of centers, endpoi"),
        ({"seed": 0, "warp": "twirl:3"}, "warp='twirl:3' must be NAME:AMOUNT"),
        ({"seed": 0, "warp": 3}, "warp=3 must be a map"),
        ({"seed": 0, "warp": lambda h, w, size: None}, r"must be a map \(h, w, size\)"),
        ({"seed": 0, "warp": lambda h, w, size: (h,)}, "two arrays .* it gives 1"),
        ({"seed": 0, "warp": lambda h, w, size: (np.zeros(3), w)}, "two arrays that broadcast"),
        ({"seed": 0, "sampling": 3}, "sampling=3 must be one of"),
        ({"seed": 0, "size": 1, "sampling": "endpoints"}, "sampling=endpoints needs a size of"),
        ({"seed": 0, "size": "64x64"}, "size='64x64' must be"),
        ({"seed": 0, "size": float("nan")}, "size=nan must be"),
        ({"seed": 0, "supersample": "2"}, "supersample='2' must be"),
        ({"seed": 0, "window": (0, 0, 5)}, r"window=\(0, 0, 5\) must be \(y0, x0, y1, x1\)"),
        ({"seed": 0, "window": (0.0, 0, 5, 5)}, r"window=\(0.0, .* in whole px"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"seed": 0, "dtype": np.float64}, "dtype=.*float64"),
        ({}, "either a seed or ws"),
        ({"ws": np.zeros((7, 12)), "truncation": 0.5}, "make ws: give them to latents"),
        ({"ws": np.full((7, 12), np.nan)}, "ws must be finite"),
        ({"seed": 0, "size": 8.5}, r"size=8.5 must be \(height, width\) in whole px, or one"),
        ({"seed": 0, "size": (64, 64, 3)}, r"size=\(64, 64, 3\) must be \(height, width\)"),
        ({"ws": np.zeros((7, 3))}, r"ws has shape \(7, 3\), must be \(7, 12\)"),
    ],
)
def test_what_is_out_of_range_is_named_before_any_work(painter, options, message):
    with pytest.raises(ValueError, match=message):
        painter.stream(**options)


def test_squares_samplings_and_warps_have_short_names(painter):
    short = painter.plan(8, sampling="endpoints", supersample=2)
    assert short == painter.plan((8, 8), sampling=coordinates.endpoints, supersample=2)
    warped = painter.plan(8, warp="shear:.5").warp(np.array([[0.0]]), np.array([[0.0]]), (8, 8))
    np.testing.assert_allclose(warped, warp.shear(0.5)(np.zeros((1, 1)), np.zeros((1, 1)), (8, 8)))
    assert painter.render(0, size=8).shape == (8, 8, 3)


def test_every_class_has_its_own_latents(conditional):
    ws = [conditional.latents(0, label) for label in range(3)]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(ws, 2)) > 0.01


@pytest.mark.parametrize("label", [None, -1, 3])
def test_a_conditional_generator_needs_one_of_its_classes(conditional, label):
    with pytest.raises(ValueError, match=rf"0 to 2 \(num_classes=3\), got {label}"):
        conditional.latents(0, label)


def test_an_unconditional_generator_refuses_a_class(painter):
    with pytest.raises(ValueError, match=r"num_classes=0\), got class 1"):
        painter.latents(0, 1)


@pytest.mark.parametrize(
    "window",
    [(-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 9, 4), (0, 0, 4, 7), (4, 0, 4, 4), (0, 5, 4, 4)],
)
def test_a_window_must_hold_pixels_of_the_frame_only(painter, window):
    with pytest.raises(ValueError, match="8 px high and 6 px wide"):
        painter.render(0, size=(8, 6), window=window)


def test_no_window_is_the_whole_frame():
    assert resolve_window(None, (8, 6)) == (0, 0, 8, 6)


def test_blocks_cover_a_window_once_along_the_grid():
    windows = Blocks(Window(5, 0, 13, 9), (4, 6), origin=(1, 0))
    assert [*windows] == [(5, 0, 9, 6), (5, 6, 9, 9), (9, 0, 13, 6), (9, 6, 13, 9)]


OTHER_PLANS = [
    {"size": (8, 9)},
    {"size": 8, "window": (0, 0, 8, 7)},
    {"size": 8, "supersample": 1},
    {"size": 8, "supersample": 4, "sampling": "endpoints"},
    {"size": 8, "supersample": 4, "sampling": lambda i, n, r: i / n},
    {"size": 8, "warp": "rotate:30"},
    {"size": 8, "warp": "rotate:31"},
    {"size": 8, "warp": "shear:30"},
    {"size": 8, "warp": lambda h, w, size: (w, h)},
]


def test_a_key_stands_for_weights_latents_and_arguments(model, painter):
    generator, variables = model
    ws = painter.latents(0)
    changed = jax.tree.map(lambda x: x, variables)
    changed["params"]["pixels"]["rgb"]["bias"] = variables["params"]["pixels"]["rgb"]["bias"] + 1e-3
    plan = painter.plan(8)
    keys = [
        painter.key(ws, plan),
        *(painter.key(ws, painter.plan(**other)) for other in OTHER_PLANS),
        painter.key(painter.latents(1), plan),
        Painter(generator, changed).key(ws, plan),
        Painter(generator, variables, precision="bfloat16").key(ws, plan),
    ]
    assert len(set(keys)) == len(OTHER_PLANS) + 4
    assert Painter(generator, variables).key(ws, plan) == keys[0]


def test_equal_arguments_have_equal_keys_in_whatever_form(painter):
    ws = painter.latents(0)

    def key(ws=ws, **options):
        return painter.key(ws, painter.plan(**options))

    assert key() == key(ws.astype(np.float64), size=RESOLUTION) == key(size=(16, np.int64(16)))
    assert key(size=8) == key(size=8, window=[0, 0, 8, 8], supersample=4, sampling="centers")
    assert key(warp="rotate:30") == key(warp=warp.rotate(30)) == key(warp="rotate:3e1")
    assert key(warp=lambda h, w, size: (w, h)) == key(warp=lambda h, w, size: (w + 0, h))


@pytest.mark.parametrize(("module", "name"), [(jax, "__version__"), (jaxlib, "__version__")])
def test_another_release_of_jax_is_another_key(painter, monkeypatch, module, name):
    ws, plan = painter.latents(0), painter.plan()
    before = painter.key(ws, plan)
    monkeypatch.setattr(module, name, "0.99.0")
    assert painter.key(ws, plan) != before


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
