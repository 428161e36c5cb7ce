"""Drawn scenes of a church among hills and trees: exact at any size, a function of the index.

A scene fills the unit square: y in [0, 1] downwards, x in [0, 1] to the right, sampled at the
centres of the pixels; a picture wider than high shows more to both sides. It is painted back to
front, with the shapes of `shapes`.
"""

import math
from typing import NamedTuple

import numpy as np

from creps_jax.data.scenes.shapes import View

_TAG = 0x5CE9E  # Separates these random numbers from others drawn for the same index.

# At dawn, noon, dusk and night: the sky above, at half height and at the horizon, haze, the disc
# of the sun or moon, and what light and shade multiply colours by.
_TIMES = np.array(
    [
        [[0.36, 0.47, 0.74], [0.80, 0.68, 0.78], [1.00, 0.84, 0.70], [0.90, 0.78, 0.78],
         [1.00, 0.95, 0.80], [1.02, 0.88, 0.78], [0.62, 0.57, 0.68]],
        [[0.20, 0.47, 0.84], [0.48, 0.71, 0.94], [0.84, 0.93, 0.97], [0.74, 0.86, 0.94],
         [1.00, 0.99, 0.90], [1.00, 1.00, 0.96], [0.66, 0.72, 0.80]],
        [[0.20, 0.19, 0.44], [0.74, 0.38, 0.48], [1.00, 0.66, 0.34], [0.80, 0.48, 0.46],
         [1.00, 0.86, 0.55], [0.98, 0.68, 0.50], [0.42, 0.36, 0.50]],
        [[0.03, 0.05, 0.15], [0.07, 0.11, 0.27], [0.17, 0.24, 0.43], [0.14, 0.20, 0.37],
         [0.97, 0.96, 0.88], [0.40, 0.47, 0.66], [0.20, 0.24, 0.39]],
    ],
    np.float32,
)  # fmt: skip
_SUN_HEIGHTS = (0.45, 0.14, 0.50, 0.16)  # y of the sun or moon at these times

# In spring, summer, autumn and winter: grass, and the foliage of conifers and two round trees.
_SEASONS = np.array(
    [
        [[0.52, 0.70, 0.30], [0.18, 0.42, 0.30], [0.55, 0.72, 0.32], [0.95, 0.74, 0.80]],
        [[0.36, 0.58, 0.25], [0.12, 0.34, 0.24], [0.24, 0.50, 0.22], [0.38, 0.58, 0.24]],
        [[0.70, 0.60, 0.30], [0.18, 0.34, 0.24], [0.86, 0.50, 0.16], [0.76, 0.28, 0.16]],
        [[0.92, 0.94, 0.98], [0.28, 0.42, 0.42], [0.78, 0.84, 0.90], [0.64, 0.72, 0.78]],
    ],
    np.float32,
)
_WALLS = np.float32([[0.96, 0.93, 0.86], [0.90, 0.80, 0.66], [0.80, 0.78, 0.76], [0.78, 0.5, 0.4]])
_ROOFS = np.float32([[0.66, 0.27, 0.2], [0.32, 0.36, 0.44], [0.42, 0.28, 0.24], [0.3, 0.5, 0.46]])
_GLASS, _LAMPLIGHT = np.float32([[0.20, 0.25, 0.34], [1.00, 0.80, 0.42]])
_WOOD, _GOLD, _GRAVEL = np.float32([[0.34, 0.23, 0.16], [0.95, 0.8, 0.4], [0.86, 0.78, 0.62]])
_WHITE = np.ones(3, np.float32)

# Top, bottom and half the width of the three tiers of a conifer of height 1, above its foot.
_CONIFER = np.array([[0.52, 0.74, 1.00], [0.12, 0.34, 0.56], [0.26, 0.21, 0.15]])


class _Light(NamedTuple):
    """The hour and its colours, float32 [3] each."""

    sky: np.ndarray  # [3, 3]: above, at half height, at the horizon
    haze: np.ndarray
    disc: np.ndarray  # the sun or moon
    light: np.ndarray  # factor of surfaces in the light
    shade: np.ndarray  # factor of surfaces in the shade
    darkness: float  # 0 by day to 1 at night
    sun: tuple[float, float]  # y, x


class _Hill(NamedTuple):
    """A ridge y(x) = base + sum of amplitude sin(2 pi (frequency x + phase)) over three waves."""

    base: float
    amplitude: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    def height(self, x: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * (self.frequency * x[:, None] + self.phase)
        return self.base + np.sin(angle) @ self.amplitude

    def slope(self, x: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * (self.frequency * x[:, None] + self.phase)
        return np.cos(angle) @ (2 * np.pi * self.frequency * self.amplitude)


def scene(index: int, size: int | tuple[int, int], channels: int = 3) -> np.ndarray:
    """Draws scene number `index` (>= 0): uint8 [h, w, channels], channels 3 (sRGB) or 1 (luma).

    `size` is h = w, or (h, w). What is drawn depends on the index alone; the size samples it.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    y = (np.arange(height) + 0.5) / height
    x = 0.5 + (np.arange(width) + 0.5 - width / 2) / height
    canvas = np.empty((3, height, width), np.float32)
    origin = (float(y[0]), float(x[0]))
    view = View(np.float32(y)[:, None], np.float32(x)[None], origin, 1 / height, canvas)
    _draw(view, np.random.default_rng((_TAG, int(index))))
    if channels == 1:
        canvas = np.tensordot(np.float32([[0.299, 0.587, 0.114]]), canvas, 1)
    levels = (np.minimum(np.maximum(canvas, 0), 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def _draw(view: View, rng: np.random.Generator) -> None:
    light = _choose_light(rng)
    season = _SEASONS[rng.integers(4)] * np.float32(rng.uniform(0.92, 1.08, (4, 3)))
    hills = _choose_hills(rng)
    far = 1.8 * rng.random(8) - 0.4
    near = 0.5 + rng.choice((-1, 1)) * rng.uniform(0.28, 0.5, 3) * (1, 1, -1)

    _draw_sky(view, light, rng)
    _draw_hill(view, hills[0], season[0], 0.78, light)
    _draw_hill(view, hills[1], season[0], 0.5, light)
    _draw_trees(view, hills[1], far, 0.055, 0.4, season, light, rng)
    _draw_hill(view, hills[2], season[0], 0.12, light)
    _draw_churchyard(view, hills[2], season, light, rng)
    _draw_hill(view, hills[3], season[0], 0, light)
    _draw_trees(view, hills[3], near, 0.26, 0, season, light, rng)


def _choose_light(rng: np.random.Generator) -> _Light:
    """An hour between dawn (0) and night (3), interpolated between the four times."""
    hours = (0, 0.5, 1, 1, 1.5, 2, 2.4, 3)
    pick, vary, height, across = rng.random(4).tolist()
    hour = min(max(hours[int(8 * pick)] + 0.3 * vary - 0.15, 0.0), 3.0)
    first = min(int(hour), 2)
    colours = _TIMES[first] + np.float32(hour - first) * (_TIMES[first + 1] - _TIMES[first])
    y = float(np.interp(hour, range(4), _SUN_HEIGHTS)) + 0.1 * height - 0.05
    across = 2 * across - 1
    x = 0.5 + math.copysign(0.12 + 0.3 * abs(across), across)  # Not behind the church.
    return _Light(colours[:3], *colours[3:], max(hour - 2, 0.0), (y, x))


def _choose_hills(rng: np.random.Generator) -> list[_Hill]:
    """Four hills from the back to the front: the nearer, the longer their waves."""
    base = np.array([0.55, 0.63, 0.72, 0.90]) + 0.06 * (rng.random(4) - 0.5)
    frequency = np.outer((1.5, 1.1, 0.7, 0.6), (0.5, 1.1, 2.3)) * (0.8 + 0.4 * rng.random((4, 3)))
    amplitude = np.outer((1.6, 1.1, 0.8, 0.9), (0.030, 0.018, 0.007))
    amplitude *= 0.6 + 0.7 * rng.random((4, 3))
    waves = zip(base, amplitude, frequency, rng.random((4, 3)), strict=True)
    return [_Hill(*wave) for wave in waves]


def _draw_sky(view: View, light: _Light, rng: np.random.Generator) -> None:
    for plane, colours in zip(view.canvas, light.sky.T, strict=True):
        plane[:] = np.interp(view.y, (0, 0.3, 0.6), colours)
    view = view.crop(0, 0.75, view.x[0, 0], view.x[0, -1])

    stars = rng.uniform((0, -0.5, 0.0012), (0.5, 1.5, 0.0022), (40, 3)).T
    if light.darkness > 0.3:
        bright = light.darkness * view.blobs(stars[0], stars[1], stars[2], stars[2])
        view.paint(np.minimum(bright, 1), _WHITE)

    y, x = light.sun
    reach = np.array([0.55, 0.16]) * (1 - 0.5 * light.darkness)
    wide, narrow = (view.blobs(*np.array([[y], [x], [r], [r]])) for r in reach)
    view.paint(0.35 * (1 - light.darkness) * wide + 0.4 * narrow, light.disc)
    radius, bite = rng.uniform((0.035, 0.01), (0.055, 0.045)).tolist()
    part = view.crop(y - radius, y + radius, x - radius, x + radius)
    disc = part.discs([y], [x], [radius])
    if light.darkness > 0.5:  # The moon is a crescent.
        disc = disc * (1 - part.discs([y - 0.4 * bite], [x - bite], [0.95 * radius]))
    part.paint(disc, light.disc)

    clouds = rng.uniform((0.08, -0.5, 0.05), (0.46, 1.5, 0.13), (5, 3))
    cloud_y, cloud_x, width = np.repeat(clouds, 6, axis=0).T  # Six puffs each.
    drift_y, drift_x = rng.normal(size=(2, 30)) * width
    flat, long = rng.uniform(0.08, 0.2, 30) * width, rng.uniform(0.4, 0.8, 30) * width
    density = view.blobs(cloud_y + 0.1 * drift_y, cloud_x + drift_x, flat, long)
    colour = 0.45 * light.sky[2] + 0.55 * light.light
    view.paint((1 - np.exp(-density)) * rng.uniform(0.35, 0.85), colour)


def _draw_hill(view: View, hill: _Hill, grass: np.ndarray, haze: float, light: _Light) -> None:
    """Lighter along its ridge and where it faces the sun, paler with distance."""
    x = view.x[0]
    ridge, slope = np.float32(hill.height(x)), np.float32(hill.slope(x))
    view = view.crop(ridge.min(), 1, x[0], x[-1])
    depth = view.y - ridge
    facing = np.tanh((light.sun[1] - x) * 4) * slope
    bright = 0.5 + 0.9 * facing + 0.35 * np.exp(depth * -20) - 0.9 * depth
    mix = np.minimum(np.maximum(bright, 0), 1)
    dark, lit = _in_haze(haze, light, 0.82 * light.shade * grass, light.light * grass)
    view.paint_mixed(view.cover(depth / np.sqrt(1 + slope**2)), dark, lit, mix)


def _in_haze(haze: float, light: _Light, *colours: np.ndarray) -> list[np.ndarray]:
    """The colours [..., 3] as seen from afar: haze from 0 (clear) to 1."""
    return [haze * light.haze + (1 - haze) * colour for colour in colours]


def _draw_shadows(view: View, y: np.ndarray, x: np.ndarray, width: np.ndarray, dark: float) -> None:
    """Darkens the ground around the feet [n] of things."""
    view = view.crop((y - width).min(), (y + width).max(), view.x[0, 0], view.x[0, -1])
    view.dim(np.exp(-dark * view.blobs(y, x, 0.16 * width, width)))


def _draw_trees(
    view: View,
    hill: _Hill,
    x: np.ndarray,
    height: float,
    haze: float,
    season: np.ndarray,
    light: _Light,
    rng: np.random.Generator,
) -> None:
    """Trees at these x [n] on the hill, of about this height."""
    vary, puffs = rng.random((3, len(x))), 2 * rng.random((len(x), 3, 6)) - 1
    size = height * (0.7 + 0.6 * vary[0])
    foot = hill.height(x) + 0.05 * size
    kind = 1 + (vary[1] > 0.6) + (vary[1] > 0.8)
    foliage = season[kind] * np.float32(0.85 + 0.25 * vary[2])[:, None]
    dark, lit = _in_haze(haze, light, 0.8 * light.shade * foliage, light.light * foliage)
    (trunk,) = _in_haze(haze, light, light.shade * _WOOD)
    _draw_shadows(view, foot, x, 0.28 * size, 0.35 * (1 - haze))
    seen = (x + size > view.x[0, 0]) & (x - size < view.x[0, -1])
    for k in np.flatnonzero(seen):
        # As Python floats, since numpy's would turn float32 arrays into float64.
        place = float(foot[k]), float(x[k]), float(size[k])
        sunward = 1 if light.sun[1] > x[k] else -1
        round_crown = None if kind[k] == 1 else puffs[k]
        _draw_tree(view, *place, sunward, trunk, dark[k], lit[k], round_crown)


def _draw_tree(
    view: View,
    foot: float,
    x: float,
    size: float,
    sunward: int,
    trunk: np.ndarray,
    dark: np.ndarray,
    lit: np.ndarray,
    puffs: np.ndarray | None,
) -> None:
    """A conifer, or with `puffs` [3, n], (y, x, radius) in -1..1, a tree with a round crown."""
    view = view.crop(foot - 1.1 * size, foot, x - 0.45 * size, x + 0.45 * size)
    view.paint(view.box(foot - 0.4 * size, foot, x - 0.03 * size, x + 0.03 * size), trunk)
    sunny = sunward * (view.x - x)
    if puffs is None:
        top, bottom, width = size * _CONIFER
        coverage = view.triangles(x, foot - top, foot - bottom, width)
        mix = 0.1 + 0.9 * view.cover(sunny)
    else:
        crown = foot - 0.62 * size
        y, across, radius = size * puffs * [[0.18], [0.17], [0.04]]
        coverage = view.discs(crown + y, x + across, 0.19 * size + radius)
        bright = 0.45 + 1.6 / size * (crown - view.y + 0.8 * sunny)
        mix = np.minimum(np.maximum(bright, 0), 1)
    view.paint_mixed(coverage, dark, lit, mix)


def _draw_churchyard(
    view: View, hill: _Hill, season: np.ndarray, light: _Light, rng: np.random.Generator
) -> None:
    """The church, the path to its door, and trees beside, behind and before it."""
    x, size = rng.uniform((0.34, 0.36), (0.66, 0.48)).tolist()
    side = int(rng.choice((-1, 1)))
    behind = np.array((x - 1.2, x, x, x + 1.2)) + size * (1.8 * rng.random(4) - 0.9)
    before = x + size * ((-0.95, 0.8) + 0.2 * rng.random(2))
    foot = float(hill.height(np.array([x]))[0])
    _draw_trees(view, hill, behind, 0.19, 0.1, season, light, rng)
    _draw_path(view, foot, x, size, light.light * (0.4 * season[0] + 0.55 * _GRAVEL), rng)
    _draw_church(view, foot + 0.03 * size, x, size, side, light, rng)
    _draw_trees(view, hill, before, 0.17, 0, season, light, rng)


def _draw_path(
    view: View, top: float, x: float, size: float, colour: np.ndarray, rng: np.random.Generator
) -> None:
    """From the church door down the hill, wider as it comes nearer."""
    bend, turn = rng.uniform((-0.9, -0.05), (0.9, 0.05)).tolist()
    view = view.crop(top, 1, view.x[0, 0], view.x[0, -1])
    depth = np.maximum(view.y - top, 0)
    centre = x + bend * depth**1.5 + turn * np.sin(25 * depth)
    width = 0.025 * size + 0.16 * depth
    edge = view.cover(width - np.abs(view.x - centre))
    view.paint(edge * view.cover(view.y - top), colour)


def _draw_church(
    view: View,
    foot: float,
    x: float,
    size: float,
    side: int,
    light: _Light,
    rng: np.random.Generator,
) -> None:
    """A tower with a spire, in front of a nave that lies to its right (side 1) or left (-1).

    Shapes are given in heights v above the foot and distances u from the tower's axis towards
    the nave, in units of `size`.
    """
    wall, roof = _WALLS[rng.integers(4)], _ROOFS[rng.integers(4)]
    low = (0.085, 0.46, 0.42, 0.20, 0.38, 0.3)
    high = (0.105, 0.56, 0.60, 0.26, 0.46, 0.5)
    half, tower, length, eaves, ridge, spire = rng.uniform(low, high).tolist()
    windows = int(rng.integers(2, 5))

    lit_wall, lit_roof = light.light * wall, light.light * roof
    wall_shade, roof_shade = light.shade * wall, light.shade * roof
    if side * (light.sun[1] - x) > 0:  # The sun shines on the nave's side.
        front, flank = 0.55 * lit_wall + 0.45 * wall_shade, lit_wall
        nave_roof, spire_flank = lit_roof, 0.9 * lit_roof
    else:
        front, flank = lit_wall, 0.3 * lit_wall + 0.7 * wall_shade
        nave_roof, spire_flank = 0.5 * (lit_roof + roof_shade), roof_shade
    lamps = min(1.0, 2 * light.darkness)
    glass = (1 - lamps) * light.shade * _GLASS + lamps * _LAMPLIGHT

    def box(v0: float, v1: float, u0: float, u1: float, colour: np.ndarray) -> None:
        left, right = sorted((x + side * size * u0, x + side * size * u1))
        bounds = (foot - size * v1, foot - size * v0, left, right)
        part = view.crop(*bounds)
        part.paint(part.box(*bounds), colour)

    def polygon(corners: list[tuple[float, float]], colour: np.ndarray) -> None:
        points = (foot, x) + size * np.array(corners) * (-1, side)
        (top, left), (bottom, right) = points.min(0), points.max(0)
        part = view.crop(top, bottom, left, right)
        part.paint(part.polygon(points[::side]), colour)

    def arch(v: float, u: float, width: float, height: float, colour: np.ndarray) -> None:
        bottom, middle = foot - size * v, x + side * size * u
        width, height = size * width, size * height
        part = view.crop(bottom - height, bottom, middle - width, middle + width)
        part.paint(part.arch(bottom, middle, width, height), colour)

    centre = np.array([x + side * 0.5 * length * size])
    _draw_shadows(view, np.array([foot]), centre, np.array([0.45 * size]), 0.4)
    # The nave.
    box(-0.02, eaves, 0, length, flank)
    gutter = eaves - 0.01
    polygon([(ridge, 0), (ridge, length - 0.02), (gutter, length + 0.03), (gutter, 0)], nave_roof)
    for k in range(windows):
        arch(0.06, half + (length - half) * (k + 0.5) / windows, 0.045, 0.12, glass)
    # The tower.
    tip, wide = tower + spire, 1.12 * half
    box(-0.02, tower, -half, half, front)
    box(-0.02, tower, 0.45 * half, half, 0.5 * (front + flank))
    box(tower - 0.012, tower + 0.012, -1.1 * half, 1.1 * half, 0.8 * front)
    polygon([(tip, 0), (tower + 0.01, wide), (tower + 0.01, -wide)], lit_roof)
    polygon([(tip, 0), (tower + 0.01, wide), (tower + 0.01, 0.4 * half)], spire_flank)
    box(tip - 0.01, tip + 0.085, -0.006, 0.006, light.light * _GOLD)
    box(tip + 0.045, tip + 0.057, -0.026, 0.026, light.light * _GOLD)
    arch(tower - 0.16, -0.1 * half, 0.06, 0.12, glass)
    arch(-0.02, -0.1 * half, 0.075, 0.15, light.light * _WOOD)
