"""The training step: the same on one device and on eight, compiled once, a function of its seed."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax import machine
from creps_jax.config import (
    AugmentConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    LayoutConfig,
    RecipeConfig,
    parse,
)
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.sharding import make_mesh, named
from creps_jax.training import augment, memory, phases, programs, step
from creps_jax.training.draws import training_grid
from creps_jax.training.layout import pixel_strips, synthesize
from creps_jax.training.loop import to_devices
from creps_jax.training.optimizer import discriminator_optimizer
from creps_jax.training.state import AugmentState, Task, init_state
from creps_jax.training.task import make_task
from experiments.kill_hunt import tiny_config

BATCH = 16
PLAIN = LayoutConfig()
CLASSES = 3
# Panoramas, so that what mixes up rows and columns is wrong.
OF_BOTH = {
    **{"num_classes": CLASSES, "image_channels": 1},
    **{"channels": (8, 8), "mapping_layers": 1, "base": (4, 8)},
}
SHAPE = (8, 16)
GENERATOR = GeneratorConfig(
    **OF_BOTH, z_dim=8, w_dim=8, biline_channels=4, thickness=2, bandwidth=10.0
)
DISCRIMINATOR = DiscriminatorConfig(**OF_BOTH, mbstd_group_size=4)
RECIPE = RecipeConfig(
    batch_size=BATCH,
    learning_rate=0.002,
    adam_b2=0.99,
    r1_gamma=1.0,
    r1_interval=2,
    path_length_weight=2.0,
    path_length_decay=0.01,
    path_length_interval=2,
    path_length_batch_shrink=2,
    w_avg_decay=0.998,
    ema_kimg=5.0,
    ema_rampup=1.0,
    freeze_d=0,
)

# Adjusted after the second step, by 0.32.
AUGMENT = AugmentConfig(kind="ada", p=0.5, target=0.6, interval=2, kimg=0.1)


def task_on(devices, shares=(0.5, 0.25, 0.25), layout=PLAIN):
    mesh = make_mesh(jax.devices()[:devices], layout.row, layout.column)
    networks = Generator(GENERATOR), Discriminator(DISCRIMINATOR)
    return Task(*networks, RECIPE, AUGMENT, 7, shares, mesh, layout)


def batch_of(task, t):
    random = np.random.default_rng(t)
    return to_devices(
        task,
        {
            "image": random.integers(0, 256, (BATCH, *SHAPE, 1), np.uint8),
            "label": random.integers(0, CLASSES, BATCH, np.int32),
        },
    )


@functools.cache
def trained(devices, layout=PLAIN):
    """States after 0, ..., 3 steps, as NumPy arrays, and the metrics."""
    task = task_on(devices, layout=layout)
    layout = named(task.mesh, "state")
    state = jax.jit(init_state, static_argnums=0, out_shardings=layout)(task)
    states, metrics = [jax.device_get(state)], []
    for t in range(3):
        state, more = step.train_step(task, phases.due(RECIPE, t), state, batch_of(task, t))
        states.append(jax.device_get(state))
        metrics.append(jax.device_get(more))
        assert all(x.sharding == layout for x in jax.tree.leaves(state))
    return states, metrics


PROGRAMS = (
    step.prepare,
    *(phases.program(phase, task_on(1).mesh, False) for phase in phases.PHASES),
)
OF_STEP = [f"jit({program.__name__}" for program in PROGRAMS]


# The first test: JAX keeps what the others compile ahead, too.
def test_each_phase_was_compiled_once():
    trained(1)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **tags: compiled.append(tags) if "backend_compile" in event else None
    )
    list(programs.compiled(task_on(1)))  # What is compiled ahead is what the steps run.
    before = {f: f._cache_size() for f in PROGRAMS}
    task = task_on(1)
    state = jax.jit(init_state, static_argnums=0, out_shardings=named(task.mesh, "state"))(task)
    for t in range(3):
        state, _ = step.train_step(task, phases.due(RECIPE, t), state, batch_of(task, t))
    assert {f: f._cache_size() for f in PROGRAMS} == before
    assert not [tags for tags in compiled if tags["fun_name"].removesuffix(")") in OF_STEP]


# Pairs of devices share the batch, fours share each image; parts of both come one after the other.
SHARED = 8, LayoutConfig(row=2, column=2, microbatches=2, pixel_strips=2)


def test_devices_that_share_a_batch_and_its_images_compute_what_one_computes():
    (ones, one_metrics), (others, other_metrics) = trained(1), trained(*SHARED)
    for one, other in zip(ones, others, strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            # Sums over the batch are taken in another order; Adam's first steps amplify that.
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    for one, other in zip(one_metrics, other_metrics, strict=True):
        assert one.keys() == other.keys()
        assert all(np.allclose(one[k], other[k], rtol=1e-3, atol=1e-4) for k in one)


def test_a_phase_that_changes_what_it_does_not_name_is_an_error():
    task = task_on(1)
    state, _, batch, drawn = programs.abstract_inputs(task)
    careless = phases.PHASES[-1]._replace(changes=("step", "g_ema"))
    with pytest.raises(AssertionError, match=r"finish changes \['augment'\]"):
        phases.program(careless, task.mesh, False).trace(
            task, *careless.arguments(state, batch, drawn | {"finish": None})
        )


def temporary_bytes(devices, layout):
    trained(devices, layout)  # Then nothing is left to compile.
    found = {p.name: p.temporary_bytes for p in programs.compiled(task_on(devices, layout=layout))}
    assert found.keys() >= {"G main", "G path length", "D main", "D R1"}
    return found


def test_the_memory_of_a_device_falls_with_its_part_of_the_batch_and_the_images():
    whole, part = temporary_bytes(1, PLAIN), temporary_bytes(*SHARED)
    for phase, share in {"G main": 0.4, "G path length": 0.4, "D main": 0.25, "D R1": 0.3}.items():
        assert part[phase] < share * whole[phase], phase


def test_a_step_that_a_device_has_no_memory_for_is_an_error_before_it(monkeypatch):
    trained(1)
    monkeypatch.setattr(memory, "_resident_bytes", lambda: 0)
    # Of a container; eight devices share it.
    monkeypatch.setattr(machine, "memory_bytes", lambda: 8 * 2**21)
    expected = r"needs about \d MiB of the device's 2 MiB .* D R1.*layout\.pixel_strips=1"
    with pytest.raises(MemoryError, match=expected):
        programs.compile_step(task_on(1))
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**33)
    line = programs.compile_step(task_on(1))
    assert re.match(r"Compiled the step in \d+ s: .* MiB of the device's .* GiB, .* D R1", line)


@pytest.mark.parametrize(
    ("shape", "strips"),
    [
        ((8, 16), 1),
        ((64, 64), 1),
        ((96, 64), 2),
        ((240, 64), 4),
        ((250, 64), 5),  # 4 do not divide 250.
        ((4, 8192), 4),  # No strip is less than a row.
    ],
)
def test_on_a_cpu_a_strip_has_few_pixels(shape, strips):
    assert pixel_strips(task_on(1, layout=LayoutConfig()), *shape) == strips
    assert pixel_strips(task_on(1, layout=LayoutConfig(pixel_strips=2)), *shape) == 2


def test_strips_of_pixels_take_memory_for_one_of_them():
    state = jax.eval_shape(lambda: init_state(task_on(1)))
    ws = jax.ShapeDtypeStruct((4, GENERATOR.num_ws, GENERATOR.w_dim), jnp.float32)

    def bytes_of(strips):
        task = task_on(1, layout=LayoutConfig(pixel_strips=strips))

        def loss(variables, ws):
            return synthesize(task, variables, ws, *training_grid(SHAPE, 4)).sum()

        program = jax.jit(jax.grad(loss, argnums=1)).lower(state.generator, ws).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert bytes_of(SHAPE[0]) < 0.5 * bytes_of(1)


def test_fakes_and_reals_judged_at_once_have_the_logits_that_they_have_apart():
    task = task_on(1)
    params = task.discriminator.init(jax.random.key(0), method="create")

    def seen(seed):
        keys = jax.random.split(jax.random.key(seed), 3)
        images = 0.1 * jax.random.normal(keys[0], (BATCH, *SHAPE, 1)) + seed
        classes = jax.random.randint(keys[1], (BATCH,), 0, CLASSES)
        return images, jax.nn.one_hot(classes, CLASSES), augment.draw(keys[2], BATCH, 0.8)

    def logits(judge):
        return jax.jit(judge, static_argnums=0)(task, params["params"], seen(0), seen(1))

    at_once, apart = logits(phases.judge_at_once), logits(phases.judge_apart)
    np.testing.assert_allclose(at_once, apart, rtol=1e-4, atol=1e-5)
    assert not np.allclose(*apart, atol=1e-2)


def test_each_image_can_be_any_window_of_itself():
    task, (height, width) = task_on(1), SHAPE
    variables = trained(1)[0][0].generator
    ws = jax.random.normal(jax.random.key(1), (2, GENERATOR.num_ws, GENERATOR.w_dim))
    y, x = (np.asarray(t) for t in training_grid(SHAPE, 2))
    paint = jax.jit(functools.partial(synthesize, task, variables, ws))
    whole = paint(y, x)
    corners = ((0, width // 2), (height // 2, 0))  # of the two images' windows, px
    window = paint(
        np.stack([y[0, top : top + height // 2] for top, _ in corners]),
        np.stack([x[0, left : left + width // 2] for _, left in corners]),
    )
    for image, part, (top, left) in zip(whole, window, corners, strict=True):
        crop = image[top : top + height // 2, left : left + width // 2]
        np.testing.assert_allclose(part, crop, rtol=0, atol=1e-5)


def test_regularisations_come_at_their_intervals_and_leave_their_biases_alone():
    states, metrics = trained(1)
    assert ["loss/r1" in m for m in metrics] == [True, False, True]
    assert ["loss/path_length" in m for m in metrics] == [True, False, True]
    counts = [int(x.count) for x in _adam_states(states[3].g_optimizer)]
    assert counts == [3 + 2, 3]  # Shared with the regularisation, and of the main phase alone.
    assert [int(x.count) for x in _adam_states(states[3].d_optimizer)] == [3 + 2, 3]


def _is_adam(x):
    return hasattr(x, "nu") and hasattr(x, "count")


def _adam_states(tree):
    return [x for x in jax.tree.leaves(tree, is_leaf=_is_adam) if _is_adam(x)]


def test_the_average_starts_as_a_copy_and_then_lags():
    states, _ = trained(1)
    for a, b in zip(
        jax.tree.leaves(states[1].generator), jax.tree.leaves(states[1].g_ema), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    new, old, average = (
        s["params"]["pixels"]["rgb"]["weight"]
        for s in (states[2].generator, states[1].g_ema, states[2].g_ema)
    )
    # One batch was seen before and the half-life is all that was seen: beta = 1/2.
    np.testing.assert_allclose(average, 0.5 * (old + new), rtol=1e-6)
    assert np.any(average != new)


def test_draws_are_a_function_of_seed_and_step_and_follow_the_labels():
    draw = jax.jit(step.draw, static_argnums=0)
    task = task_on(1)
    first, again, next_step = (draw(task, jnp.int32(t), None) for t in (3, 3, 4))
    other_seed = draw(task._replace(seed=8), jnp.int32(3), None)
    main = ("G main", "D main")
    np.testing.assert_array_equal(*(d["G main"][0].z for d in (first, again)))
    drawn = [d[name][0].z for d in (first, next_step, other_seed) for name in main]
    for i, a in enumerate(drawn):
        assert all(np.abs(a - b).max() > 0.1 for b in drawn[:i])
    only_second = draw(task_on(1, (0.0, 1.0, 0.0)), jnp.int32(3), None)
    np.testing.assert_array_equal(only_second["D main"][0].c[:, 1], np.ones(BATCH))


def test_infinite_and_undefined_gradients_do_not_reach_the_parameters():
    params = jax.tree.map(jnp.asarray, trained(1)[0][0].discriminator["params"])
    optimizer = discriminator_optimizer(RECIPE, params)
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
    after, state = optimizer.update(params, bad, optimizer.main.init(params))
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)
    huge = jax.tree.map(lambda x: jnp.full_like(x, -jnp.inf), params)
    after, _ = optimizer.update(params, huge, state)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(params), strict=True):
        assert np.all(np.isfinite(a)) and np.all(a > b)


def test_the_norm_is_that_of_all_arrays_as_one_vector():
    tree = {"a": jnp.array([3.0, 0.0]), "b": [jnp.array([[4.0]]), jnp.array(12.0)]}
    assert phases.norm(tree) == 13.0


RISE = BATCH * AUGMENT.interval / (1000 * AUGMENT.kimg)


@pytest.mark.parametrize(
    "p, mean_sign, steps, expected",
    [
        (0.5, 0.7, 2, 0.5 + RISE),  # D is surer of the reals than the target: more of it
        (0.5, 0.5, 2, 0.5 - RISE),
        (0.1, -1.0, 4, 0.0),
        (0.5, 0.7, 3, None),  # not yet
    ],
)
def test_p_follows_the_discriminators_signs(p, mean_sign, steps, expected):
    seen = AugmentState(*(jnp.float32(x) for x in (p, 48 * mean_sign, 48)))
    after = phases.adjusted(task_on(1), seen, jnp.int32(steps))
    if expected is None:
        assert after == seen
    else:
        np.testing.assert_allclose(after.p, expected, rtol=1e-6)
        assert after.signs == after.count == 0


def test_all_logits_of_reals_since_the_last_adjustment_count():
    states, metrics = trained(1)  # R1 in the first and third step, an adjustment after the second
    assert [int(s.augment.count) for s in states] == [0, 2 * BATCH, 0, 2 * BATCH]
    assert abs(states[1].augment.p - AUGMENT.p) < 1e-6
    assert abs(abs(states[2].augment.p - AUGMENT.p) - RISE) < 1e-6
    assert [round(float(m["augment/p"]), 6) for m in metrics] == [
        round(float(s.augment.p), 6) for s in states[:3]
    ]


def test_frozen_layers_have_no_gradients_and_the_others_have_all_of_theirs():
    task = task_on(1)
    params = trained(1)[0][0].discriminator["params"]
    images = np.random.default_rng(0).normal(size=(4, *SHAPE, 1)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[[0, 1, 2, 0]]

    def gradients(count):
        frozen = task._replace(recipe=dataclasses.replace(RECIPE, freeze_d=count))

        def total(params):
            return phases.discriminate(frozen, params, images, labels, None).sum()

        return jax.jit(jax.grad(total))(params)

    everything, some = gradients(0), gradients(3)
    assert all(np.any(g) for g in jax.tree.leaves(everything["blocks"]))
    for layers, is_frozen in (
        *((some["from_rgb"], True), (some["blocks"][0]["conv_0"], True)),
        *((some["blocks"][0]["conv_1"], True), (some["blocks"][0]["skip"], False)),
        (some["conv"], False),
    ):
        assert all(np.any(g) != is_frozen for g in jax.tree.leaves(layers))
    np.testing.assert_allclose(
        some["blocks"][0]["skip"]["weight"], everything["blocks"][0]["skip"]["weight"], rtol=1e-5
    )


def test_a_batch_that_does_not_divide_among_the_devices_is_an_error():
    with pytest.raises(
        ValueError, match=r"batch_size=4 / .*=1 must be a multiple of the 8 devices"
    ):
        make_task(parse(tiny_config()), ())
