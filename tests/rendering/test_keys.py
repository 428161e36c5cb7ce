"""The same picture has the same key, any other picture another one."""

import jax
import jaxlib
import numpy as np
import pytest

from creps_jax.rendering.painter import Painter
from creps_jax.rendering.warp import maps
from tests.helpers.generators import RESOLUTION

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
    assert key(warp="rotate:30") == key(warp=maps.rotate(30)) == key(warp="rotate:3e1")
    assert key(warp=lambda h, w, size: (w, h)) == key(warp=lambda h, w, size: (w + 0, h))


@pytest.mark.parametrize(("module", "name"), [(jax, "__version__"), (jaxlib, "__version__")])
def test_another_release_of_jax_is_another_key(painter, monkeypatch, module, name):
    ws, plan = painter.latents(0), painter.plan()
    before = painter.key(ws, plan)
    monkeypatch.setattr(module, name, "0.99.0")
    assert painter.key(ws, plan) != before
