"""Pictures under coordinate maps, against the lines evaluated exactly at every pixel."""

import jax
import numpy as np
import pytest

from creps_jax.model import biline
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.warp import interpolated, maps, tables
from tests.helpers.generators import make_generator
from tests.helpers.warps import MAPS, SIZE


@pytest.fixture(scope="module")
def model():
    """With the contrast of a photograph, so that 8-bit steps count, and three times as sharp."""
    generator, variables = make_generator(num_classes=0)
    spread = Painter(generator, variables).render(0, size=SIZE, dtype=np.float32).std(axis=(0, 1))
    pixels, constants = variables["params"]["pixels"], variables["constants"]["lines"]
    for projection in [pixels["rgb"], *(block["to_rgb"] for block in pixels["refine"])]:
        for name in ("weight", "bias"):
            projection[name] *= 0.5 / spread.mean()
    constants["freqs"] *= 3
    return generator, variables


@pytest.fixture(scope="module")
def painter(model):
    return Painter(*model, devices=jax.devices()[:1])


def paint(painter, map, window=None, **options):
    return painter.render(0, size=SIZE, warp=map, window=window, dtype=np.float32, **options)


@jax.jit
def exact_pixels(image, y, x):
    """Pixels whose lines are evaluated at their own positions y, x [N]: [N, channels]."""
    axis = np.zeros(y.shape, np.int32)
    rows, columns = biline.lines(image, y, axis), biline.lines(image, x, axis + 1)
    return jax.vmap(biline.pixel, (None, 0, 0))(image, rows, columns)


def exact(painter, map):
    plan = painter.plan(SIZE, warp=map)
    h, w = (np.arange(n, dtype=float) for n in SIZE)
    y, x = plan.warped().positions(h[:, None], w[None, :])
    image = painter.image(painter.latents(0))
    pixels = exact_pixels(image, np.float32(y.ravel()), np.float32(x.ravel()))
    return np.asarray(pixels).reshape(*SIZE, 3)


@pytest.mark.parametrize("name", MAPS)
def test_a_warped_picture_is_half_an_8_bit_step_from_exact_lines(painter, name):
    pixels = paint(painter, MAPS[name])
    assert 127.5 * np.abs(pixels - exact(painter, MAPS[name])).max() < 0.5
    assert 127.5 * np.abs(pixels - paint(painter, None)).mean() > 3


def moved_by_nothing(h, w, size):
    return h + 0 * w, w + 0 * h


def test_tables_are_as_fine_as_the_image_needs(painter):
    """Few intervals are halved often: finer everywhere, tables would be many times as long."""
    image, plan = painter.image(painter.latents(0)), painter.plan(SIZE, warp=moved_by_nothing)
    frame = paint(painter, None)

    def error(tolerance):
        found = interpolated.tables(image, [(plan.warped(), plan.window)], painter.mesh, tolerance)
        pixels = dict(painter.paint(image, plan, [plan.window], np.float32, found))[plan.window]
        steps = 127.5 * np.abs(pixels - frame)
        worst, mean = painter.warp_error(image, plan, found)
        assert 0.5 * steps.max() < worst <= steps.max() + 1e-3
        np.testing.assert_allclose(mean, steps.mean(), rtol=0.2)
        return worst, mean, sum(len(table.positions) for table in found)

    coarse, fine = error(np.inf), error(tables.TOLERANCE)
    assert coarse[0] > 5 and fine[0] < 0.1
    assert coarse[1] > 100 * fine[1]
    assert fine[2] < 32 * coarse[2]


def test_kinks_are_found_wherever_they_cross_several_images(painter):
    """One partner an interval instead of 32 leaves 0.14 here, a tolerance of 1/8 leaves 0.8."""
    mixed, whole = painter.plan(256, warp=moved_by_nothing), painter.plan(256)
    for seed in range(4):
        image = painter.image(painter.latents(seed))
        pixels, truth = (
            dict(painter.paint(image, plan, [whole.window], np.float32))[whole.window]
            for plan in (mixed, whole)
        )
        assert 127.5 * np.abs(pixels - truth).max() < tables.TOLERANCE


def test_rounding_to_bfloat16_is_not_taken_for_kinks(model, painter):
    coarse = Painter(*model, devices=jax.devices()[:1], precision="bfloat16")
    entries = []
    for each in (painter, coarse):
        plan = each.plan(SIZE, warp=MAPS["rotate"])
        found = each.tables(each.image(each.latents(0)), [plan])
        entries.append(sum(len(table.positions) for table in found))
    assert 0.8 * entries[0] < entries[1] < 1.25 * entries[0]
    assert each.warp_error(each.image(each.latents(0)), plan, found)[0] < 0.5


def test_a_table_that_is_full_halves_the_worst_intervals_and_says_so(painter, monkeypatch, caplog):
    image, plan = painter.image(painter.latents(0)), painter.plan(SIZE, warp=MAPS["rotate"])
    found = painter.tables(image, [plan])
    short = 2 ** int(np.log2(len(found[0].positions) - 1))
    monkeypatch.setattr(tables, "MAX_BYTES", short * found[0].lines[0].nbytes)
    rows, columns = painter.tables(image, [plan])
    assert 0.9 * short < len(rows.positions) <= short and len(columns.positions) <= short
    assert "The table of rows from -" in caplog.text
    few, many = (
        painter.warp_error(image, plan, (rows, columns)),
        painter.warp_error(image, plan, found),
    )
    assert many[1] < few[1] < 20 * many[1]


def test_the_error_reported_is_of_samples_that_are_painted(painter):
    """The middle of a disc is between the pixels of an even picture, and outside its tables."""
    plan = painter.plan((2, 2), supersample=2, warp=MAPS["polar"])
    image = painter.image(painter.latents(0))
    assert painter.warp_error(image, plan, painter.tables(image, [plan]))[0] < 0.5


def test_plans_with_exact_lines_need_no_tables(painter):
    plan = painter.plan(SIZE, warp=MAPS["cylinder"])
    assert painter.tables(painter.image(painter.latents(0)), [plan, painter.plan(SIZE)]) is None


def test_tables_of_several_pictures_serve_each(painter):
    image = painter.image(painter.latents(0))
    plans = [painter.plan(SIZE, warp=maps.rotate(degrees)) for degrees in (0, 50)]
    common = painter.tables(image, plans)
    for plan in plans:
        parts = painter.paint(image, plan, [plan.window], np.float32, common)
        error = 127.5 * np.abs(dict(parts)[plan.window] - exact(painter, plan.warp))
        assert error.max() < 0.5


def test_the_identity_takes_the_exact_path_and_is_the_frame_bit_for_bit(painter):
    def still(h, w, size):
        return h, w

    assert painter.tables(None, [painter.plan(SIZE, warp=still)]) is None
    np.testing.assert_array_equal(paint(painter, still), paint(painter, None))


def test_a_separable_map_has_exact_lines(painter):
    def stretched(h, w, size):
        return h * h / (size[0] - 1), w / 2 + 3

    np.testing.assert_allclose(paint(painter, stretched), exact(painter, stretched), atol=1e-5 * 30)


def test_a_mixed_map_that_moves_nothing_is_the_frame(painter):
    error = 127.5 * np.abs(paint(painter, maps.rotate(0)) - paint(painter, None))
    assert error.max() < 0.5


def test_a_quarter_turn_turns_the_picture_clockwise(painter):
    square = {"size": (48, 48), "dtype": np.float32}
    turned = painter.render(0, warp=maps.rotate(90), **square)
    expected = np.rot90(painter.render(0, **square), -1)
    assert 127.5 * np.abs(turned - expected).max() < 0.5


def test_a_window_is_the_crop_of_the_warped_whole(painter):
    part = paint(painter, MAPS["rotate"], window=(5, 10, 40, 33))
    np.testing.assert_allclose(part, paint(painter, MAPS["rotate"])[5:40, 10:33], rtol=1e-5)


def test_eight_devices_warp_as_one(model, painter):
    eight = Painter(*model)
    assert eight.mesh.size == 8
    np.testing.assert_allclose(
        paint(eight, MAPS["fisheye"]), paint(painter, MAPS["fisheye"]), rtol=1e-5, atol=1e-4
    )


def test_supersampling_averages_the_warped_picture(painter):
    fine = painter.render(0, size=(2 * SIZE[0], 2 * SIZE[1]), warp=MAPS["rotate"], dtype=np.float32)
    boxes = fine.reshape(SIZE[0], 2, SIZE[1], 2, 3).mean(axis=(1, 3))
    error = 127.5 * np.abs(paint(painter, MAPS["rotate"], supersample=2) - boxes)
    assert error.max() < 0.5


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (31, 9)])
@pytest.mark.parametrize("k", [1, 3])
def test_the_middle_of_a_polar_picture_is_inside_its_tables(painter, size, k):
    """The map has its extremum there, inside a pixel or between the samples of one."""
    plan = painter.plan(size, supersample=k, warp=MAPS["polar"])
    h, w = ((np.arange(n * k) + 0.5) / k - 0.5 for n in size)
    y, x = (np.float32(t.ravel()) for t in plan.warped().positions(h[:, None], w[None, :]))
    exact = np.asarray(exact_pixels(painter.image(painter.latents(0)), y, x))
    exact = exact.reshape(size[0], k, size[1], k, 3).mean(axis=(1, 3))
    pixels = painter.render(0, size=size, supersample=k, warp=MAPS["polar"], dtype=np.float32)
    assert 127.5 * np.abs(pixels - exact).max() < 0.5


def test_a_separable_map_that_is_not_finite_is_named(painter):
    with pytest.raises(ValueError, match="no finite position at 3 px of axis 0 of the 48x64"):
        paint(painter, lambda h, w, size: (h + np.where(h == 3, np.inf, 0), w))


def test_a_position_that_is_not_finite_is_named(painter):
    def horizon(h, w, size):
        with np.errstate(divide="ignore", invalid="ignore"):
            return h + 0 * w, w / (h - 9)

    with pytest.raises(ValueError, match=r"no finite position at pixel \(9, .*48x64"):
        paint(painter, horizon)


def test_too_long_a_table_is_refused_before_the_work(painter):
    def far(h, w, size):
        return h + 0 * w, w * 1e7 + h

    with pytest.raises(ValueError, match=r"positions from .* to .* MiB, more than 512"):
        paint(painter, far)


def test_tables_of_windows_share_their_entries(painter):
    image = painter.image(painter.latents(0))
    whole, part = (
        painter.tables(image, [painter.plan(SIZE, window, warp=MAPS["rotate"])])
        for window in (None, (20, 30, 28, 33))
    )
    for all_of_it, some in zip(whole, part, strict=True):
        assert len(some.positions) < len(all_of_it.positions) / 2
        assert set(some.positions) <= set(all_of_it.positions)
        first = all_of_it.positions.searchsorted(some.positions[0])
        same = slice(first, first + len(some.positions))
        np.testing.assert_array_equal(some.positions, all_of_it.positions[same])
        lines = some.lines[: len(some.positions)]
        np.testing.assert_allclose(lines, all_of_it.lines[same], rtol=1e-4, atol=1e-5)


def test_few_compiled_shapes_serve_all_pictures(painter):
    image = painter.image(painter.latents(0))
    lengths = set()
    for degrees in range(0, 60, 10):
        plan = painter.plan(SIZE, warp=maps.rotate(degrees))
        lengths |= {len(table.lines) for table in painter.tables(image, [plan])}
    assert lengths <= {2**k for k in range(7, 13)}
