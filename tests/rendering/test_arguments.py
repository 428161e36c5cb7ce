"""Odd arguments from Python: what cannot be right is a ValueError, whatever it is."""

import jax
import numpy as np
import pytest

import creps_jax
from creps_jax.rendering.painter import Painter
from creps_jax.rendering.video.camera import Camera, plan_view, travel
from creps_jax.rendering.video.timing import Timing
from creps_jax.rendering.video.walks import walk
from creps_jax.rendering.warp import maps
from tests.helpers.generators import make_generator

NOT_A_NUMBER = ["", "5", b"5", 1j, [1], {}, True, object(), np.zeros(2), np.array([])]
NOT_WHOLE = [
    *NOT_A_NUMBER,
    1.0,
    2.5,
    float("nan"),
    float("inf"),
    np.float32(1),
    -1,
    2**70,
    -(10**400),
]
NOT_FINITE = [*NOT_A_NUMBER, float("nan"), float("inf"), 1e39, -1e39, 10**400]
NOT_A_SIZE = [
    *NOT_WHOLE,
    0,
    (8,),
    (8, 8, 8),
    (8, 8.0),
    (8, None),
    (0, 8),
    (8, -8),
    (2**70, 8),
    "8x8",
]
NOT_A_WINDOW = [
    *NOT_WHOLE,
    0,
    (0, 0, 8),
    (0, 0, 8.0, 8),
    (0, 0, 8, None),
    (0, 0, 2**70, 8),
    "0,0,8,8",
]
NOT_A_WARP = [
    *NOT_A_NUMBER,
    3,
    "rotate:1e39",
    lambda h, w: (h, w),
    lambda h, w, size: None,
    lambda h, w, size: h,
    lambda h, w, size: (h, w, w),
    lambda h, w, size: (h, "w"),
    lambda h, w, size: (h + 1j, w),
    lambda h, w, size: (h, None),
    lambda h, w, size: (h[None], w),
    lambda h, w, size: (h, np.zeros(17)),
    lambda h, w, size: (h, w * np.nan),
    lambda h, w, size: (h + 0 * w, w * np.inf + h),
    lambda h, w, size: (h, w * 1e300),
    lambda h, w, size: (h + 0 * w, w * 1e300 + h),
]
NOT_A_SAMPLING = [
    *NOT_A_NUMBER,
    3,
    "corners",
    lambda i: i,
    lambda i, n, r: None,
    lambda i, n, r: 0.5,
    lambda i, n, r: "t",
    lambda i, n, r: i * 1j,
    lambda i, n, r: i * np.nan,
    lambda i, n, r: i * 1e300,
]
NOT_LATENTS = [
    "",
    1,
    [[1], [1, 2]],
    np.full((7, 12), "1"),
    np.full((7, 12), 1j),
    np.full((7, 12), 1e39),
]
BAD = {
    "seed": NOT_WHOLE,
    "label": [*NOT_WHOLE, 0, 1],
    "truncation": [None, *NOT_FINITE, -0.5],
    "cutoff": [*NOT_WHOLE, 8],
    "styles": ["5:2", 5, [2], {2.0: 5}, {"2": 5}, {True: 5}, {2: 5.0}, {2: None}, {7: 5}, {-1: 5}],
    "size": NOT_A_SIZE,
    "window": NOT_A_WINDOW,
    "sampling": [None, *NOT_A_SAMPLING],
    "supersample": [*NOT_WHOLE, 0],
    "warp": NOT_A_WARP,
    "dtype": [None, "", "int8", 8, object(), np.float64, [1], "no such"],
}


@pytest.fixture(scope="module")
def painter():
    return Painter(*make_generator(num_classes=0), devices=jax.devices()[:1])


def each(table):
    """Every bad value of every argument, named by both."""
    return [
        pytest.param(name, value, id=f"{name}-{i}")
        for name, values in table.items()
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(("name", "value"), each(BAD))
def test_rendering_refuses(painter, name, value):
    with pytest.raises(ValueError):
        painter.render(**{"seed": 0, "size": 8, name: value})


@pytest.mark.parametrize(
    ("call", "value"),
    [
        pytest.param(call, value, id=f"{name}-{i}")
        for name, call, values in [
            ("ws", lambda p, v: p.render(ws=v), NOT_LATENTS),
            ("image", lambda p, v: p.image(v), [None, *NOT_LATENTS]),
            ("map", lambda p, v: p.map(v), [None, "", 1, np.zeros(7), np.full(8, np.nan)]),
            ("save", lambda p, v: p.save(v, 0), [None, 1, b"a.png", "", "a.jpg", "gs://b/a.png"]),
            ("painter", lambda p, v: Painter(p.generator, {}, None, v), [None, 1, [], "float16"]),
            ("devices", lambda p, v: Painter(p.generator, {}, devices=v), [[]]),
            ("load", lambda p, v: creps_jax.load(v), [None, 1, 1.5, b"runs", [], "", "~no such/a"]),
            ("precision", lambda p, v: creps_jax.load("/", v), [None, 1, [], "float16"]),
            ("rotate", lambda p, v: maps.rotate(v), [None, *NOT_FINITE]),
            ("walk", lambda p, v: walk(p, v, Timing(2)), [[], [1.0], [None], [True], [-1]]),
            ("way", lambda p, v: walk(p, [0], Timing(2), v), [None, "quintic", 1, []]),
            ("travel", lambda p, v: travel([Camera(y=v)], Timing(2)), [None, *NOT_FINITE]),
            ("zoom", lambda p, v: travel([Camera(zoom=v)], Timing(2)), [0, *NOT_FINITE]),
            ("keys", lambda p, v: travel(v, Timing(2)), [[]]),
            ("fine", lambda p, v: plan_view(p, (8, 8), Camera(), v), [*NOT_WHOLE, 0]),
        ]
        for i, value in enumerate(values)
    ],
)  # fmt: skip
def test_calls_refuse(painter, call, value):
    with pytest.raises(ValueError):
        call(painter, value)


def test_what_must_be_finite_on_the_way_is_refused_rather_than_black(painter):
    ws = painter.latents(0)
    with pytest.raises(ValueError, match="the colours at y0,x0,y1,x1 = 0,0,16,16 exceed float32"):
        painter.render(ws=np.sign(ws) * 3e38)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"seed": np.uint32(3)}, {"seed": 3}),
        ({"seed": np.int64(3), "size": np.int32(9)}, {"seed": 3, "size": 9}),
        ({"seed": 3, "size": np.array([9, 7])}, {"seed": 3, "size": (9, 7)}),
        ({"seed": 3, "window": np.array([0, 1, 5, 6])}, {"seed": 3, "window": (0, 1, 5, 6)}),
        ({"seed": 3, "truncation": np.float32(0.5)}, {"seed": 3, "truncation": 0.5}),
        ({"seed": 3, "cutoff": np.int8(2)}, {"seed": 3, "cutoff": 2}),
        ({"seed": 3, "truncation": 0}, {"seed": 3, "truncation": 0.0}),
        ({"seed": 3, "styles": {np.int64(2): np.int64(5)}}, {"seed": 3, "styles": {2: 5}}),
        ({"seed": 3, "supersample": np.int16(2)}, {"seed": 3, "supersample": 2}),
    ],
)  # fmt: skip
def test_numbers_of_numpy_are_numbers(painter, given, plain):
    np.testing.assert_array_equal(painter.render(**given), painter.render(**plain))


@pytest.mark.parametrize(
    ("map", "same"),
    [
        (lambda h, w, size: (3.0, w), lambda h, w, size: (0 * h + 3, w)),
        (lambda h, w, size: (h, 2), lambda h, w, size: (h, 0 * w + 2)),
        (lambda h, w, size: (1, np.array([2])), lambda h, w, size: (0 * h + 1, 0 * w + 2)),
        (lambda h, w, size: (h, w[0]), lambda h, w, size: (h, w)),
        (lambda h, w, size: (w, 2.5), lambda h, w, size: (w + 0 * h, 0 * w + 2.5 + 0 * h)),
        (lambda h, w, size: (w, h), lambda h, w, size: (w + 0 * h, h + 0 * w)),
    ],
)
def test_a_warp_may_give_whatever_broadcasts(painter, map, same):
    options = {"size": (9, 13), "dtype": np.float32}
    np.testing.assert_array_equal(
        painter.render(0, warp=map, **options), painter.render(0, warp=same, **options)
    )
