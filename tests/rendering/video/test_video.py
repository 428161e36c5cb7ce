"""Ways through key-frames, the camera against larger renders, and files read back."""

import itertools
import sys
import weakref

import av
import jax
import numpy as np
import PIL.Image
import pytest

from creps_jax.checkpoint import load_generator
from creps_jax.commands import video as command
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.camera import Camera, between, plan_view, travel
from creps_jax.rendering.video.encoders import write_video
from creps_jax.rendering.video.frames import paint_frames
from creps_jax.rendering.video.timing import EASINGS, Timing
from creps_jax.rendering.video.walks import INTERPOLATIONS, cubic, linear, shares, slerp, walk
from creps_jax.rendering.warp import maps
from tests.rendering.test_render import make_generator
from tests.test_cli import assert_refused, creps, names, save_run

SIZE = (48, 64)


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def film(workdir):
    """Frames of a walk, uint8, no two alike."""
    painter, timing = Painter(*load_generator(workdir), jax.devices()[:1]), Timing(9)
    plans = [plan_view(painter, SIZE, Camera())] * timing.frames
    frames = list(paint_frames(painter, [walk(painter, [0, 1], timing)], plans))
    assert frames[0].std() > 20 and all((a != b).any() for a, b in itertools.pairwise(frames))
    return frames


def picture(painter, camera, size=SIZE, **options):
    plan = plan_view(painter, size, camera, **options)
    image = painter.image(painter.latents(0))
    return next(paint_frames(painter, [[image]], [plan]))


def exact_picture(painter, camera, size=SIZE):
    plan = plan_view(painter, size, camera)
    image = painter.image(painter.latents(0))
    ((_, pixels),) = painter.paint(image, plan, [plan.window], np.float32)
    return pixels


def creps_video(workdir, out, *arguments):
    few = ("--size=32", "--seconds=.5", "--fps=10", "--seeds=0-1")
    return creps("video", f"--workdir={workdir}", f"--out={out}", *few, *arguments)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def assert_same_images(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# Time and latents.


@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize(("frames", "loop"), [(3 * 49 + 1, False), (4 * 49, True), (4, True)])
def test_key_frames_are_frames_exactly(frames, loop, easing):
    u = Timing(frames, loop, EASINGS[easing]).along(4)
    step = frames // 4 if loop else 49
    assert len(u) == frames and u[::step].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_walk_passes_exactly_through_its_seeds(painter, interpolation):
    seeds, timing = [3, 0, 7, 5], Timing(3 * 2 + 1)
    way = list(walk(painter, seeds, timing, interpolation, truncation=0.7))
    assert len(way) == timing.frames
    for seed, image in zip(seeds, way[::2], strict=True):
        assert_same_images(image, painter.image(painter.latents(seed, truncation=0.7)))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_loop_is_the_same_wherever_it_starts(painter, interpolation):
    timing = Timing(6, loop=True, easing=EASINGS["smooth"])
    way = list(walk(painter, [3, 0, 7], timing, interpolation))
    later = list(walk(painter, [0, 7, 3], timing, interpolation))
    assert len(way) == len(later) == 6
    for a, b in zip(way[2:] + way[:2], later, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), a, b)


@pytest.mark.parametrize("basis", [linear, cubic])
def test_a_loop_ends_one_step_before_its_start(basis):
    parts = shares(Timing(12, loop=True).along(3), 3, True, basis)
    steps = np.linalg.norm(np.diff(parts, axis=0, append=parts[:1]), axis=1)
    # Seen from one key-frame and the next, a segment is the mirror of itself.
    np.testing.assert_allclose(steps[-1], steps[-4], atol=1e-12)
    np.testing.assert_allclose(steps, np.tile(steps[:4], 3), atol=1e-12)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_walk_may_come_back_to_a_seed(painter, interpolation):
    way = list(walk(painter, [0, 5, 0, 0], Timing(7), interpolation))
    first, other = (painter.image(painter.latents(seed)) for seed in (0, 5))
    for image, expected in ((way[0], first), (way[2], other), (way[4], first), (way[6], first)):
        assert_same_images(image, expected)
    still = list(walk(painter, [3, 3], Timing(4)))
    assert all(image is still[0] for image in still)


@pytest.mark.parametrize("loop", [False, True])
def test_a_curve_through_a_straight_line_of_latents_is_that_line(loop):
    u = Timing(31).along(4) if not loop else 1 + np.linspace(0, 1, 11)
    keys = np.arange(4.0)
    np.testing.assert_allclose(shares(u, 4, loop, cubic) @ keys, u, atol=1e-12)


def test_a_cubic_curve_has_no_corners_and_a_straight_one_has():
    u, keys = np.linspace(0, 3, 3001), np.array([0.0, 2.0, -1.0, 1.0])
    bends = [
        np.abs(np.diff(shares(u, 4, False, basis) @ keys, 2)).max() for basis in (cubic, linear)
    ]
    assert bends[0] < 2e-5 < 1e-3 < bends[1]


def test_the_sphere_is_not_left_on_the_way_between_its_points():
    random = np.random.default_rng(0)
    z = random.standard_normal((4, 64))
    z *= 8 / np.linalg.norm(z, axis=1, keepdims=True)
    way = slerp(z, Timing(40, loop=True).along(4))
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 8, rtol=1e-12)
    # Equal steps on a great circle.
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(way, 2, axis=0)[:8], axis=1).std(), 0, atol=1e-9
    )
    np.testing.assert_array_equal(slerp(z[:1], np.zeros(3)), z[[0, 0, 0]])


def test_easing_stops_at_every_key_frame_and_nowhere_else():
    u = Timing(201, easing=EASINGS["smooth"]).along(3)
    steps = np.diff(u)
    assert steps[0] < 1e-3 and steps[100] < 1e-3 and steps[-1] < 1e-3
    assert steps[50] > 0.014 and (steps > 0).all() and (u[0], u[100], u[-1]) == (0, 1, 2)


def test_one_seed_is_folded_once(painter):
    way = list(walk(painter, [3], Timing(5)))
    assert len(way) == 5 and all(image is way[0] for image in way)


# The camera.


@pytest.mark.parametrize("size", [SIZE, (12, 40), (300, 20)])
def test_the_whole_image_is_the_painters_bit_for_bit(painter, size):
    np.testing.assert_array_equal(picture(painter, Camera(), size), painter.render(0, size=size))


def test_a_camera_that_has_almost_not_moved_shows_almost_the_whole_image(painter):
    moved = exact_picture(painter, Camera(zoom=1 + 1e-9))
    still = painter.render(0, size=SIZE, dtype=np.float32)
    np.testing.assert_allclose(moved, still, rtol=0, atol=1e-5 * np.abs(still).max())


@pytest.mark.parametrize(("zoom", "y0", "x0"), [(4, 100, 31), (4, 0, 0), (64, 1717, 2000)])
def test_a_zoomed_picture_is_the_crop_of_a_larger_one(painter, zoom, y0, x0):
    (height, width), frame = SIZE, tuple(n * zoom for n in SIZE)
    y, x = (y0 + height / 2) / frame[0], (x0 + width / 2) / frame[1]
    window = (y0, x0, y0 + height, x0 + width)
    crop = painter.render(0, size=frame, window=window, dtype=np.float32)
    seen = exact_picture(painter, Camera(y, x, zoom))
    np.testing.assert_allclose(seen, crop, rtol=0, atol=1e-5 * np.abs(crop).max())


def test_a_turned_picture_is_the_rotated_one_and_a_quarter_turn_moves_the_pixels(painter):
    still = painter.render(0, size=SIZE, dtype=np.float32)
    step = 2 * still.std() / 127.5  # An 8-bit step, were the contrast that of a photograph.
    rotated = painter.render(0, size=SIZE, dtype=np.float32, warp=maps.rotate(30))
    turned = exact_picture(painter, Camera(degrees=30))
    assert np.abs(turned - rotated).max() < step / 2 < np.abs(turned - still).max()
    square = exact_picture(painter, Camera(), (40, 40))
    clockwise = exact_picture(painter, Camera(degrees=90), (40, 40))
    np.testing.assert_allclose(clockwise, np.rot90(square, -1), rtol=0, atol=step / 2)


def test_a_turn_about_a_detail_keeps_it_in_the_middle(painter):
    camera = Camera(0.3, 0.7, 5)
    middle = [
        exact_picture(painter, camera._replace(degrees=degrees), (41, 31))[20, 15]
        for degrees in (0, 77, 180)
    ]
    np.testing.assert_allclose(middle[1:], [middle[0]] * 2, rtol=0, atol=1e-2)


def test_the_point_that_both_cameras_show_at_one_place_stays_there():
    a, b = Camera(0.5, 0.5, 1), Camera(0.2, 0.8, 100)
    # Where in the picture, 0 to 1, is the fixed point: c + (p - 1/2) / zoom is equal in both.
    p = [(a[i] - b[i]) / (1 / b.zoom - 1 / a.zoom) for i in range(2)]
    for s in np.linspace(0, 1, 9):
        c = between(a, b, s)
        np.testing.assert_allclose(
            [c[i] + p[i] / c.zoom for i in range(2)], [a[0] + p[0], a[1] + p[1]]
        )
        np.testing.assert_allclose(c.zoom, 100**s)
    pan = between(a, a._replace(y=0.1), 0.25)
    np.testing.assert_allclose(pan, (0.4, 0.5, 1, 0))


@pytest.mark.parametrize("loop", [False, True])
def test_the_camera_passes_exactly_through_its_key_frames(loop):
    keys = [Camera(0.3, 0.7, 3, 10), Camera(0.1, 0.5, 0.7, 370), Camera(0.9, 0.2, 50, -20)]
    cameras = travel(keys, Timing(3 * 7 if loop else 2 * 7 + 1, loop))
    assert cameras[::7] == keys


def test_three_thirds_of_a_turn_make_a_loop():
    keys = [Camera(degrees=degrees) for degrees in (0, 120, 240)]
    degrees = [camera.degrees for camera in travel(keys, Timing(36, loop=True))]
    np.testing.assert_allclose(degrees, np.arange(36) * 10)


def test_pixels_larger_than_training_pixels_are_means(painter):
    far = Camera(zoom=0.125)
    assert plan_view(painter, (64, 64), Camera()).supersample == (1, 1)
    assert plan_view(painter, (64, 64), far).supersample == (4, 4)
    assert plan_view(painter, (64, 64), far, supersample=2).supersample == (2, 2)
    auto = plan_view(painter, (64, 64), far)
    np.testing.assert_array_equal(
        picture(painter, far, (64, 64)), picture(painter, far, (64, 64), supersample=4)
    )
    assert auto.supersample[0] * 64 * far.zoom >= 2 * painter.shape[0]


def test_the_cells_of_a_grid_are_the_pictures_of_their_walks(painter):
    timing, seeds = Timing(3), [4, 1, 2, 3, 0, 5]
    plans = [plan_view(painter, SIZE, Camera(zoom=z)) for z in (1, 2, 3)]
    walks = [walk(painter, [seed], timing) for seed in seeds]
    for frame, plan in zip(paint_frames(painter, walks, plans, (2, 3)), plans, strict=True):
        assert frame.shape == (2 * SIZE[0], 3 * SIZE[1], 3)
        for i, seed in enumerate(seeds):
            y, x = i // 3 * SIZE[0], i % 3 * SIZE[1]
            image = painter.image(painter.latents(seed))
            alone = next(paint_frames(painter, [[image]], [plan]))
            np.testing.assert_array_equal(frame[y : y + SIZE[0], x : x + SIZE[1]], alone)


def test_a_zoom_beyond_float32_is_refused_with_the_limit(painter):
    plan_view(painter, (64, 128), Camera(zoom=2**13))
    with pytest.raises(ValueError, match=r"zoom 8193 must be at most 8192 in frames of 64x128 px"):
        plan_view(painter, (64, 128), Camera(zoom=2**13 + 1))
    with pytest.raises(ValueError, match="at most 4096"):
        plan_view(painter, (64, 128), Camera(zoom=2**13), supersample=2)
    with pytest.raises(ValueError, match=r"zoom 1e-09 takes \d+ samples a pixel"):
        plan_view(painter, (64, 128), Camera(zoom=1e-9))


# Files.


def test_an_mp4_holds_the_frames(film, tmp_path):
    write_video(tmp_path / "film.mp4", iter(film), fps=24)
    assert names(tmp_path) == ["film.mp4"]
    with av.open(tmp_path / "film.mp4") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width) == SIZE and stream.average_rate == 24
        assert stream.frames == len(film) and container.duration == 1e6 * len(film) / 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == len(film)
    assert min(map(psnr, frames, film)) > 30
    header = (tmp_path / "film.mp4").read_bytes()
    assert header.index(b"moov") < header.index(b"mdat")  # Plays while it is being fetched.


@pytest.mark.parametrize(("loop", "times"), [(True, 0), (False, 1)])
def test_a_webp_holds_the_frames_and_their_times(film, tmp_path, loop, times):
    odd = [frame[:, :-1] for frame in film]
    write_video(tmp_path / "film.webp", iter(odd), 24, loop)
    assert names(tmp_path) == ["film.webp"]
    shown, total = [], 0
    with PIL.Image.open(tmp_path / "film.webp") as image:
        assert image.format == "WEBP" and image.size == (SIZE[1] - 1, SIZE[0])
        assert image.info["loop"] == times and image.n_frames == len(film)
        for i in range(image.n_frames):
            image.seek(i)
            shown.append(np.asarray(image.convert("RGB")))
            total += image.info["duration"]
    assert abs(total - 1000 * len(film) / 24) <= 1
    assert min(map(psnr, shown, odd)) > 30


def test_grey_frames_are_written(film, tmp_path):
    write_video(tmp_path / "grey.mp4", (frame[..., 2:] for frame in film), 24)
    with av.open(tmp_path / "grey.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert min(psnr(a, b[..., 2:]) for a, b in zip(frames, film, strict=True)) > 30


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["film.mp4", "film.webp"])
def test_a_film_that_breaks_off_leaves_the_old_file_and_nothing_else(film, tmp_path, name, error):
    (tmp_path / name).write_text("old")

    def breaking():
        yield from film[:5]
        assert len(names(tmp_path)) == 2
        raise error

    with pytest.raises(error):
        write_video(tmp_path / name, breaking(), fps=24)
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize("name", ["film.mp4", "film.webp"])
def test_frames_are_written_as_they_come(film, tmp_path, name):
    alive = []

    def frames():
        for frame in film * 3:
            copy = frame.copy()
            alive.append(weakref.ref(copy))
            yield copy
            del copy
            assert sum(frame() is not None for frame in alive) <= 3

    write_video(tmp_path / name, frames(), fps=24)


def test_a_webp_has_at_most_50_frames_a_second_as_browsers_slow_shorter_ones_down(film, tmp_path):
    write_video(tmp_path / "fast.webp", film, fps=50)
    with PIL.Image.open(tmp_path / "fast.webp") as image:
        image.seek(1)
        image.load()
        assert image.info["duration"] == 20
    with pytest.raises(ValueError, match=r"fps=51 must be .* from 1 to 50 in a \.webp: browsers"):
        write_video(tmp_path / "faster.webp", film, fps=51)
    write_video(tmp_path / "fast.mp4", film, fps=60)
    assert names(tmp_path) == ["fast.mp4", "fast.webp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 0}, "fps=0 must be"),
        ({"fps": 2.5}, "fps=2.5 must be"),
        ({"fps": float("nan")}, "fps=nan must be"),
        ({"fps": 241}, r"from 1 to 240 in a \.mp4$"),
        ({"crf": 52}, "crf=52 must be"),
        ({"crf": "18"}, "crf='18' must be"),
        ({"frames": []}, "there are no frames"),
    ],
)
def test_what_a_file_cannot_be_written_of_is_named(film, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "film.mp4", **{"frames": film, "fps": 24, **change})
    assert names(tmp_path) == []


# The command.


def test_a_seed_may_come_again_in_a_walk_and_in_a_grid(workdir, tmp_path):
    out = tmp_path / "walk.mp4"
    again = ("--seeds=0,5,0,5", "--grid=1x2", "--easing=linear")
    assert creps_video(workdir, out, *again).exit_code == 0
    with av.open(out) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (32, 64, 3)
    assert psnr(frames[0], frames[-1]) > 30  # Each cell's seed is the same at both ends.
    assert psnr(frames[0][:, :32], frames[0][:, 32:]) < 30


def test_the_rate_of_a_webp_is_limited_by_name(workdir, tmp_path):
    result = creps_video(workdir, tmp_path / "walk.webp", "--fps=60")
    assert_refused(result, "--fps", "fps=60", "from 1 to 50", ".webp", "20 ms")


def test_the_command_writes_the_walk_it_says(workdir, tmp_path):
    out = tmp_path / "new" / "walk.mp4"
    result = creps_video(workdir, out, "--interpolation=cubic", "--loop", "--grid=1x2")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"5 frames of 32x64 px, on 8 x cpu, to {out}\n"
    with av.open(out) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.frames) == (32, 64, 5)
        assert stream.average_rate == 10


def test_the_ways_offered_are_those_there_are():
    assert set(command.Interpolation) == INTERPOLATIONS.keys()
    assert set(command.Easing) == EASINGS.keys()


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("--size=33", ("33x33 px", "even sides", "make them 34x34")),
        ("--size=16386", ("16386x16386 px", "up to 16384 px", "make them 16384x16384")),
        ("--out=walk.gif", ("walk.gif", ".mp4 or .webp")),
        ("--fps=0", ("from 1 to 240", "got 0")),
        ("--seconds=0", ("from 0.1 to", "got 0")),
        ("--seconds=nan", ("from 0.1 to", "got nan")),
        ("--crf=52", ("from 0 to 51", "got 52")),
        ("--grid=2", ("ROWSxCOLUMNS as 2x3", "got '2'")),
        ("--grid=0x2", ("ROWSxCOLUMNS as 2x3", "got '0x2'")),
        ("--grid=2x2", ("4 cells", "got 2 seeds")),
        ("--camera=.5,.5", ("y,x,zoom,degrees", "got '.5,.5'")),
        ("--camera=.5,.5,1;", ("y,x,zoom,degrees", "got '.5,.5,1;'")),
        ("--camera=a,.5,1", ("y,x,zoom,degrees", "got 'a,.5,1'")),
        ("--camera=.5,1.5,1", ("0.5,1.5,1", "from 0 to 1")),
        ("--camera=.5,.5,0", ("0.5,0.5,0", "zoom from 0.001")),
        ("--camera=nan,.5,1", ("nan,0.5,1", "finite")),
        ("--camera=.5,.5,1,inf", ("0.5,0.5,1.0,inf", "finite")),
        ("--camera=.5,.5,1,9e307;.5,.5,1,-9e307", ("9e+307", "float32")),
        ("--camera=.5,.5,1,1e6", ("degrees = 1e+06", "from -360000 to 360000")),
        ("--camera=.5,.5,1e400", ("0.5,0.5,inf,0.0", "finite")),
        ("--camera=.5,.5,1;.5,.5,4e4", ("zoom 40000", "at most 32768", "float32")),
        ("--supersample=0", ("supersample=0", "from 1 up")),
        ("--class=1", ("num_classes=0", "got class 1")),
        ("--truncation=-1", ("from 0 up", "got -1")),
        ("--truncation=1e39", ("from 0 up to 3.40282e+38", "got 1e+39")),
    ],
)
def test_a_wrong_option_is_named_with_its_value(workdir, tmp_path, argument, parts):
    result = creps_video(workdir, tmp_path / "walk.mp4", argument)
    assert_refused(result, argument.split("=")[0], *parts)
    assert names(tmp_path) == []


def test_without_pyav_the_command_says_how_to_install_it(workdir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    result = creps_video(workdir, tmp_path / "walk.mp4")
    assert result.exit_code == 1
    assert result.stderr == "Error: videos need PyAV: pip install 'creps-jax[video]'\n"
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(workdir, tmp_path, monkeypatch):
    result = creps_video(workdir, "/proc/walk.mp4")
    assert_refused(result, "--out", "cannot write there", "'/proc'")
