"""A Deep Zoom picture opens in a real viewer: OpenSeadragon in a Chromium without a window."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from creps_jax.rendering.files.store import Picture
from creps_jax.rendering.files.writing import write
from creps_jax.rendering.windows import Window

FOLDER = Path(__file__).parents[2] / "viewer"
PACKAGES = FOLDER / "node_modules"
CHROMIUMS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
INSTALL = """these commands install what is needed (in Debian 13, as root):
  apt-get update
  apt-get install --no-install-recommends chromium-headless-shell fonts-dejavu-core nodejs npm
  npm install --prefix tests/viewer --no-package-lock"""

SHAPE = (1301, 1701)  # of the picture, px: odd, and too large for the page at its deepest level.
# Of the quadrants, from top left to bottom right, and of the page around the picture.
COLORS = np.array([[210, 40, 40], [40, 170, 50], [50, 70, 210], [220, 200, 40], [0, 0, 0]])
NOISE = 24  # Tells every pixel from the next: up to this is added to each channel.
VIEW = (600, 800)  # Height and width of the page, px.
MARGIN = 60  # What the native view shows of the page after the picture's last pixel, px.
ORIGIN = (SHAPE[0] + MARGIN - VIEW[0], SHAPE[1] + MARGIN - VIEW[1])  # of the native view: y, x.


def quadrants(y, x):
    """Index in COLORS of what is at y [n, 1] and x [1, m] in the picture, px."""
    inside = (y >= 0) & (y < SHAPE[0]) & (x >= 0) & (x < SHAPE[1])
    return np.where(inside, 2 * (y >= SHAPE[0] / 2) + (x >= SHAPE[1] / 2), 4)


@functools.cache
def pixels():
    """The picture."""
    noise = np.random.default_rng(0).integers(NOISE, size=(*SHAPE, 3), endpoint=True)
    return (COLORS[quadrants(*np.ogrid[: SHAPE[0], : SHAPE[1]])] + noise).astype(np.uint8)


def write_picture(path):
    """The picture as a window, whose tiles are not those of the frame."""
    y0, x0 = 300, 700

    def paint(windows):
        frame = np.pad(pixels(), ((y0, 0), (x0, 0), (0, 0)))
        for window in windows:
            yield window, frame[window.y0 : window.y1, window.x0 : window.x1]

    write(path, Picture(Window(y0, x0, y0 + SHAPE[0], x0 + SHAPE[1]), 3, "c0ffee"), paint)


@pytest.fixture(scope="module")
def chromium():
    """The path of a Chromium. If anything is missing, tests are skipped; under CI they fail."""
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    missing = [] if chromium else ["Chromium"]
    version = ["node", "-p", "parseInt(process.versions.node)"]
    if not shutil.which("node") or int(subprocess.check_output(version)) < 20:
        missing.append("Node 20 or newer")
    packages = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    missing += [f"npm's {name}" for name in packages if not (PACKAGES / name).is_dir()]
    if missing:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"missing: {', '.join(missing)}; {INSTALL}")
    return chromium


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path):
    """Of a page in tmp_path that shows the picture, served on the loopback device."""
    write_picture(tmp_path / "picture.dzi")
    (tmp_path / "page.html").symlink_to(FOLDER / "page.html")
    (tmp_path / "openseadragon").symlink_to(PACKAGES / "openseadragon/build/openseadragon")
    handler = functools.partial(SilentHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/page.html?picture.dzi"
        server.shutdown()


def screenshots(chromium, url, folder):
    """The whole picture, and what follows ORIGIN at native scale: uint8 [height, width, 3]."""
    files = {name: str(folder / f"{name}.png") for name in ("whole", "native")}
    job = {
        "executablePath": chromium,
        "url": url,
        "view": {"height": VIEW[0], "width": VIEW[1]},
        "origin": ORIGIN[::-1],
        **files,
    }
    command = ["node", FOLDER / "screenshot.mjs", json.dumps(job)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [np.asarray(PIL.Image.open(file).convert("RGB")) for file in files.values()]


def test_a_viewer_shows_the_picture_and_at_native_scale_its_very_pixels(chromium, url, tmp_path):
    whole, native = screenshots(chromium, url, tmp_path)

    # Where the centres of the page's pixels are in the picture, which fits the page.
    scale = min(VIEW[0] / SHAPE[0], VIEW[1] / SHAPE[1])
    y, x = (
        (np.arange(view) + 0.5 - view / 2) / scale + side / 2
        for view, side in zip(VIEW, SHAPE, strict=True)
    )
    distances = np.abs(whole[..., None, :] - (COLORS + NOISE / 2)).sum(axis=-1)
    wrong = distances.argmin(axis=-1) != quadrants(y[:, None], x)
    assert wrong.sum() <= sum(VIEW), "more than the borders of the quadrants differs"

    expected = np.pad(pixels(), ((0, MARGIN), (0, MARGIN), (0, 0)))
    np.testing.assert_array_equal(native, expected[ORIGIN[0] :, ORIGIN[1] :])


def test_the_viewer_notices_a_missing_tile(chromium, url, tmp_path):
    (tmp_path / "picture_files/11/3_2.png").unlink()
    with pytest.raises(RuntimeError, match=r"/picture_files/11/3_2\.png: 404"):
        screenshots(chromium, url, tmp_path)
