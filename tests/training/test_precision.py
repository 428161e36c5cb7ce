"""bfloat16: which products it is used in, and that a run in it learns as one in float32 does."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax import sharding
from creps_jax.config import LayoutConfig, parse
from creps_jax.data.scenes import procedural
from creps_jax.model import ops
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.training import phases, programs, step
from creps_jax.training.draws import training_grid
from creps_jax.training.layout import synthesize
from creps_jax.training.state import Task, init_state
from creps_jax.training.task import compute_dtype, with_fixed_precision
from experiments.kill_hunt import tiny_config

STEPS = 80
BATCH = 16
# At the usual rate so small networks swing, and each swing comes at its own time.
CONFIG = parse(
    tiny_config({"batch_size": BATCH, "recipe.learning_rate": 0.0007, "augment.kind": "none"})
)


def task_in(dtype):
    networks = Generator(CONFIG.generator, dtype), Discriminator(CONFIG.discriminator, dtype)
    mesh = sharding.make_mesh(jax.devices()[:1])
    return Task(*networks, CONFIG.recipe, CONFIG.augment, 0, (), mesh, CONFIG.layout)


def begun(task):
    layout = sharding.named(task.mesh, "state")
    return jax.jit(init_state, static_argnums=0, out_shardings=layout)(task)


def curves(task):
    """The metrics of each step on procedural scenes: name -> [steps that have it]."""
    (size, _), channels = CONFIG.data.shape, CONFIG.data.image_channels
    scenes = np.stack([procedural.scene(i, size, channels) for i in range(64)])
    layout = sharding.named(task.mesh, "batch")
    state, collected = begun(task), {}
    for t in range(STEPS):
        chosen = np.random.default_rng(t).integers(len(scenes), size=BATCH)
        batch = {"image": scenes[chosen], "label": np.zeros(BATCH, np.int32)}
        batch = jax.device_put(batch, layout)
        state, metrics = step.train_step(task, phases.due(task.recipe, t), state, batch)
        for name, value in metrics.items():
            collected.setdefault(name, []).append(value)
    leaves = jax.tree.leaves((state.generator, state.discriminator, state.g_ema, state.g_optimizer))
    assert {x.dtype for x in leaves} == {jnp.dtype("float32"), jnp.dtype("int32")}
    return {name: np.asarray(values) for name, values in collected.items()}


def test_a_run_in_bfloat16_learns_as_one_in_float32_does():
    exact, rounded = (curves(task_in(dtype)) for dtype in (jnp.float32, jnp.bfloat16))
    assert not np.array_equal(exact["loss/g"], rounded["loss/g"])
    for name in ("loss/g", "loss/d", "path_length/mean"):
        a, b = (c[name].reshape(5, -1).mean(axis=1) for c in (exact, rounded))
        np.testing.assert_allclose(a, b, rtol=0.05, err_msg=name)
    assert rounded["loss/d"][-10:].mean() < 0.95 * rounded["loss/d"][:5].mean()


PRODUCTS = (
    "dot_general",
    "product",
    "outer",
    "conv_general_dilated",
    "convolve",
    "input_gradient",
    "filter_gradient",
)


def products(jaxpr):
    """Of every product in a program: dtypes of its factors and result, its place, its precision."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            variables = (*equation.invars, *equation.outvars)
            dtypes = {v.aval.dtype.name for v in variables}
            yield dtypes, str(equation.source_info.name_stack), equation.params.get("precision")
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_product_of_a_step_is_in_the_compute_dtype_or_listed(dtype):
    config = parse(tiny_config({"augment.kind": "ada", "num_classes": 3}))
    networks = Generator(config.generator, dtype), Discriminator(config.discriminator, dtype)
    mesh = sharding.make_mesh(jax.devices()[:1])
    task = Task(*networks, config.recipe, config.augment, 0, (0.2, 0.3, 0.5), mesh, config.layout)
    state, _, batch, draws = programs.abstract_inputs(task)
    seen, others = set(), 0
    for phase in phases.of_run(task.recipe):
        run = functools.partial(phases.on_fields(phase), task)
        inputs = phase.arguments(state, batch, draws)
        for dtypes, place, precision in products(jax.make_jaxpr(run)(*inputs).jaxpr):
            assert len(dtypes) == 1, f"{phase.name}: {dtypes} in {place}"
            listed = [name for name in ops.FLOAT32 if name in place]
            if listed:
                assert dtypes == {"float32"}, f"{phase.name}: {dtypes} in {place}"
            else:
                assert dtypes == {jnp.dtype(dtype).name}, f"{phase.name}: {place}"
                others += 1
            if dtypes == {"float32"} and precision is not None:
                # No accelerator may round what is meant to be float32.
                assert set(precision) == {jax.lax.Precision.HIGHEST}, f"{phase.name}: {place}"
            seen.update(listed)
    assert seen == {"mapping", "styles", "augmentation", "logits"} and others > 100


def test_of_pixels_nothing_is_kept_for_gradients_in_float32_nor_twice():
    # As on an accelerator: a CPU paints all again.
    task = task_in(jnp.bfloat16)._replace(layout=LayoutConfig(pixel_strips=1))
    state = jax.eval_shape(lambda: init_state(task))
    config, n = task.generator.config, 3
    size, _ = CONFIG.data.shape
    ws = jnp.zeros((n, config.num_ws, config.w_dim))

    def pullback(params):
        def paint(params):
            variables = {**state_arrays, "params": params}
            return synthesize(task, variables, ws, *training_grid((size, size), n))

        return jax.vjp(paint, params)[1]

    state_arrays = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.generator)
    kept = jax.tree.leaves(jax.eval_shape(pullback, state.generator["params"]))
    of_pixels = [x for x in kept if x.shape[:3] == (n, size, size)]
    assert {x.dtype.name for x in of_pixels} == {"bfloat16", "bool"}  # Whether a colour is clipped.
    # Of a decoder and of the refinement's first layers, each has one that is as wide as 4 B.
    widest = [x for x in of_pixels if x.shape[3:] == (4 * config.biline_channels,)]
    decoders = len(config.channels) - 1
    # Modulated layers keep their input scaled, too, and before it is demodulated.
    assert len(widest) <= decoders + 7


def test_auto_is_float32_on_a_cpu_alone():
    assert compute_dtype("auto", "cpu") is compute_dtype("float32", "tpu") is jnp.float32
    assert compute_dtype("auto", "tpu") is compute_dtype("bfloat16", "cpu") is jnp.bfloat16


@pytest.mark.parametrize(
    ("given", "saved", "kept"),
    [
        ("auto", None, "float32"),  # What a CPU suits.
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("float32", "bfloat16", "float32"),  # Refused later, by check_unchanged.
    ],
)
def test_a_run_keeps_the_precision_that_it_began_with(given, saved, kept, capsys):
    raw = tiny_config({"precision": given})
    checkpoint = None if saved is None else {**raw, "precision": saved}
    fixed, config = with_fixed_precision(raw, parse(raw), checkpoint)
    assert fixed == {**raw, "precision": kept} and config == parse(fixed)
    goes_on = "precision=auto is float32 on these devices; the run goes on in bfloat16.\n"
    assert capsys.readouterr().out == (goes_on if kept == "bfloat16" else "")
