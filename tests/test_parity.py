"""Our networks, losses, gradients and training steps give the official implementation's numbers."""

import math
import re
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from creps_jax.conditions import channel_widths
from creps_jax.config import LayoutConfig, RecipeConfig
from creps_jax.interop import official
from creps_jax.model import coordinates
from creps_jax.model.generator import repeat_w
from creps_jax.sharding import make_mesh, named
from creps_jax.training import augment, losses, phases, step
from creps_jax.training.draws import Fakes, training_grid
from creps_jax.training.state import Task, begin
from tests.helpers import parity_arrays
from tests.helpers.parity_arrays import TOLERANCE, disagreement, nhwc

pytestmark = pytest.mark.parity

NETWORKS = ["networks_unconditional", "networks_conditional"]


@pytest.fixture(scope="module", params=NETWORKS)
def arrays(request):
    return parity_arrays.load(request.param)


@pytest.fixture(scope="module")
def generator(arrays):
    return arrays.generator()


@pytest.fixture(scope="module")
def discriminator(arrays):
    return arrays.discriminator()


def test_the_arrays_have_the_widths_that_their_config_says(arrays, generator, discriminator):
    g, d = generator[0].config, discriminator[0].config
    for name in ("z_dim", "w_dim", "biline_channels", "thickness", "mapping_layers"):
        assert getattr(g, name) == arrays.config(name), name
    assert g.image_channels == d.image_channels == arrays.config("img_channels")
    assert g.num_classes == d.num_classes == arrays.config("c_dim")
    resolution = arrays.config("resolution")
    assert g.shape == d.shape == (resolution, resolution)
    for widths, prefix in ((g.channels, ""), (d.channels, "d_")):
        base, maximum = (
            arrays.config(f"{prefix}channel_base"),
            arrays.config(f"{prefix}channel_max"),
        )
        assert widths == channel_widths(base, maximum, resolution)


# Mapping.


def mapped(arrays, generator):
    module, variables = generator
    return jax.jit(lambda z, c: module.apply(variables, z, c, method="map"))(
        arrays["z"], arrays["c"]
    )


def mapping_results():
    names = {name for f in NETWORKS for name in parity_arrays.load(f).group("mapping/")}
    return sorted(names)


@pytest.mark.parametrize("name", mapping_results())
def test_mapping(arrays, generator, name):
    module, variables = generator
    psi = float(m[1]) if (m := re.search(r"psi([\d.]+)", name)) else 1.0
    cutoff = int(m[1]) if (m := re.search(r"cutoff(\d+)", name)) else None
    ws = module.apply(variables, mapped(arrays, generator), psi, cutoff, method="truncate")
    assert disagreement(ws, arrays[f"mapping/{name}"]) < TOLERANCE["image"]


# Synthesis.


def synthesis(generator):
    module, variables = generator
    return jax.jit(lambda ws, y, x: module.apply(variables, ws, y, x, method="synthesize"))


@pytest.mark.parametrize("case", ["native", "per_layer", "window"])
def test_synthesis_of_a_batch(arrays, generator, case):
    y = x = coordinates.training_positions(arrays.config("resolution"))
    ws = arrays["mapping/ws"]
    if case == "per_layer":
        ws = arrays["synthesis/per_layer_ws"]
    if case == "window":
        y, x = arrays["synthesis/window_rows"], arrays["synthesis/window_cols"]
    expected = nhwc(arrays[f"synthesis/{case}"])
    images = synthesis(generator)(ws[: len(expected)], y, x)
    assert disagreement(images, expected) < TOLERANCE["image"]


@pytest.mark.parametrize("case", ["scale_x2", "scale_half", "scale_odd"])
def test_synthesis_at_another_scale(arrays, generator, case):
    expected = nhwc(arrays[f"synthesis/{case}"])
    n, r = expected.shape[1], arrays.config("resolution")
    assert n == {"scale_x2": 2 * r, "scale_half": r // 2, "scale_odd": 3 * r // 2 + 1}[case]
    t = coordinates.positions(0, n, n, r, coordinates.endpoints)
    images = synthesis(generator)(arrays["mapping/ws"][: len(expected)], t, t)
    assert disagreement(images, expected) < TOLERANCE["image"]


def test_centers_at_native_size_are_the_official_grid(arrays):
    r = arrays.config("resolution")
    grid = arrays["G/synthesis.b4.input.coords"].reshape(r, 2)[:, 0]
    # The official grid was accumulated in float32: it is off by an ulp here and there.
    np.testing.assert_allclose(coordinates.positions(0, r, r, r), grid, rtol=0, atol=1.2e-7)


# Discriminator.


def test_discriminator_logits(arrays, discriminator):
    module, variables = discriminator
    logits = module.apply(variables, nhwc(arrays["real"]), arrays["c"])
    assert disagreement(logits, arrays["D/logits_out"][:, 0]) < TOLERANCE["logits"]


def discriminate(arrays, discriminator):
    module, _ = discriminator
    return lambda params, images: module.apply({"params": params}, images, jnp.asarray(arrays["c"]))


def test_discriminator_input_gradient_and_r1_penalties(arrays, discriminator):
    params, logits = discriminator[1]["params"], discriminate(arrays, discriminator)

    @jax.jit
    def measure(real):
        gradient = jax.grad(lambda images: logits(params, images).sum())(real)
        return gradient, losses.r1_penalties(lambda images: logits(params, images), real)[0]

    gradient, penalties = measure(nhwc(arrays["real"]))
    assert disagreement(gradient, nhwc(arrays["D/input_grad"])) < TOLERANCE["gradient"]
    expected = arrays["D/r1_penalty_per_image"]
    assert disagreement(penalties, expected) < TOLERANCE["gradient"]


# Losses and all their parameter gradients.


def fakes(arrays, generator, params):
    module, variables = generator
    t = coordinates.training_positions(arrays.config("resolution"))
    z, c = jnp.asarray(arrays["z"]), jnp.asarray(arrays["c"])
    return module.apply({**variables, "params": params}, z, c, t, t)


# Each makes a function of the parameters that returns the loss and what it passed through.


def g_main(arrays, generator, discriminator):
    logits, d_params = discriminate(arrays, discriminator), discriminator[1]["params"]
    return lambda params: (
        losses.generator_loss(logits(d_params, fakes(arrays, generator, params))),
        {},
    )


def d_main(arrays, generator, discriminator):
    logits = discriminate(arrays, discriminator)
    real = jnp.asarray(nhwc(arrays["real"]))

    def loss_fn(params):
        fake = fakes(arrays, generator, generator[1]["params"])
        return losses.discriminator_loss(logits(params, real), logits(params, fake)), {}

    return loss_fn


def d_r1(arrays, generator, discriminator):
    logits = discriminate(arrays, discriminator)
    real, gamma = jnp.asarray(nhwc(arrays["real"])), float(arrays["loss/D_r1_gamma"])
    return lambda params: (
        0.5 * gamma * losses.r1_penalties(lambda images: logits(params, images), real)[0].mean(),
        {},
    )


def g_path_length(arrays, generator, discriminator):
    module, variables = generator
    noise = jnp.asarray(nhwc(arrays["loss/pl_noise_scaled"]))
    t = coordinates.training_positions(arrays.config("resolution"))
    z, c = (jnp.asarray(arrays[k][: len(noise)]) for k in ("z", "c"))

    def loss_fn(params):
        learnt = {**variables, "params": params}
        ws = repeat_w(module.apply(learnt, z, c, method="map"), module.config.num_ws)
        lengths = losses.path_lengths(
            lambda ws: module.apply(learnt, ws, t, t, method="synthesize"), ws, noise
        )
        mean = jnp.asarray(arrays["loss/pl_mean_before"])
        penalty, mean = losses.path_length_penalty(lengths, mean, 0.01)
        return 2.0 * penalty, {"loss/pl_lengths": lengths, "loss/pl_mean_after": mean}

    return loss_fn


LOSSES = {"G_main": g_main, "G_pl": g_path_length, "D_main": d_main, "D_r1": d_r1}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_every_parameter_gradient(arrays, generator, discriminator, name):
    loss_fn = LOSSES[name](arrays, generator, discriminator)
    network = generator if name.startswith("G") else discriminator
    value_and_grad = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, passed), gradients = value_and_grad(network[1]["params"])
    assert disagreement(loss, arrays[f"loss/{name}"]) < TOLERANCE["loss"]
    for key, value in passed.items():
        assert disagreement(value, arrays[key]) < TOLERANCE["gradient"], key

    expected = arrays.group(f"grad/{name}/")
    tolerance = TOLERANCE["r1_gradient" if name == "D_r1" else "gradient"]
    ours = official_arrays(network, gradients)
    unused = {k: v for k, v in expected.items() if k not in ours}
    assert all(official.UNUSED.fullmatch(k) and not v.any() for k, v in unused.items())
    used = expected.keys() - unused.keys()
    # A gradient that the official program lacks is one that is zero here.
    assert not any(np.any(ours[k]) for k in ours.keys() - used)
    wrong = {k: d for k in used if (d := disagreement(ours[k], expected[k])) > tolerance}
    assert used and not wrong


def official_arrays(network, params):
    """The tree of parameters under official names, in the official layout."""
    module, _ = network
    is_generator = hasattr(module.config, "z_dim")
    names = official.generator_names if is_generator else official.discriminator_names
    return official.to_arrays(names(module.config)["params"], params)


# Augmentation, with every draw at a percentile of its distribution.


def amounts_at(percentile):
    """Official name of each operation -> our name and its amount."""
    normal = statistics.NormalDist().inv_cdf(percentile) / math.sqrt(2)  # As the arrays have it.
    around = 2 * percentile - 1
    return {
        "xflip": ("flip", math.floor(2 * percentile)),
        "rotate90": ("turns", math.floor(4 * percentile)),
        "xint": ("integer_shift", augment.SHIFT_MAX * around),
        "scale": ("log2_scale", augment.SCALE_STD * normal),
        "rotate": ("rotation", math.pi * around),
        "aniso": ("log2_stretch", augment.SCALE_STD * normal),
        "xfrac": ("shift", augment.SHIFT_STD * normal),
        "brightness": ("brightness", augment.BRIGHTNESS_STD * normal),
        "contrast": ("log2_contrast", augment.CONTRAST_STD * normal),
        "lumaflip": ("luma_flip", math.floor(2 * percentile)),
        "hue": ("hue", math.pi * around),
        "saturation": ("log2_saturation", augment.SATURATION_STD * normal),
    }


GROUPS = {"geometry": slice(0, 7), "colour": slice(7, 12), "all": slice(0, 12)}


@pytest.mark.parametrize("name", sorted(parity_arrays.load("augment").entries.keys() - {"images"}))
def test_augmentation(name):
    arrays = parity_arrays.load("augment")
    operation, percentile = name.split("/percentile_")
    amounts = amounts_at(float(percentile))
    operations = list(amounts)[GROUPS[operation]] if operation in GROUPS else [operation]
    images = nhwc(arrays["images"])
    given = dict(amounts[operation] for operation in operations)
    shapes = {"integer_shift": (len(images), 2), "shift": (len(images), 2)}
    filled = {
        field: jnp.full(shapes.get(field, len(images)), given.get(field, 0), jnp.float32)
        for field in augment.Amounts._fields
    }
    result = jitted_augment(images, augment.Amounts(**filled))
    assert disagreement(result, nhwc(arrays[name])) < TOLERANCE["augment"]


jitted_augment = jax.jit(augment.augment)


# Whole training steps.


def recipe_of(arrays):
    batch_size = arrays.config("batch_size")
    return RecipeConfig(
        batch_size=batch_size,
        learning_rate=arrays.config("learning_rate"),
        adam_b2=0.99,
        r1_gamma=arrays.config("r1_gamma"),
        r1_interval=16,
        path_length_weight=arrays.config("pl_weight"),
        path_length_decay=0.01,
        path_length_interval=4,
        path_length_batch_shrink=2,
        w_avg_decay=0.998,
        ema_kimg=batch_size * 10 / 32,
        ema_rampup=0.05,
        freeze_d=0,
    )


def recorded_step(arrays, t, recipe):
    """The recorded batch and draws of step t, in the form that training makes them in."""
    real, c = nhwc(arrays[f"iter{t}/real"]), arrays[f"iter{t}/c"]
    half = recipe.batch_size // recipe.path_length_batch_shrink
    channels, size = real.shape[3], real.shape[1]
    z_reg = arrays.entries.get(f"iter{t}/z_Greg", np.zeros_like(arrays[f"iter{t}/z_Gmain"]))
    noise = arrays.entries.get(
        f"iter{t}/pl_noise_unit", np.zeros((half, channels, size, size), np.float32)
    )

    def fakes(z, c):
        return Fakes(z, c, *training_grid((size, size), len(z)))

    draws = {
        "G main": (fakes(arrays[f"iter{t}/z_Gmain"], c), None),
        "G path length": (fakes(z_reg[:half], c[:half]), nhwc(noise)),
        "D main": (fakes(arrays[f"iter{t}/z_Dmain"], c), None, None),
        "D R1": None,
        "finish": None,
    }
    return phases.Batch(real, c), draws


def test_training_steps():
    arrays = parity_arrays.load("train_steps")
    generator, discriminator = arrays.generator("init/G/"), arrays.discriminator("init/D/")
    mesh = make_mesh(jax.devices()[:1])
    task = Task(
        generator[0], discriminator[0], recipe_of(arrays), None, 0, (), mesh, LayoutConfig()
    )
    state = begin(task, generator[1], discriminator[1])
    state = jax.device_put(state, named(mesh, "state"))
    steps = sorted({int(m[1]) for k in arrays.entries if (m := re.match(r"iter(\d+)/", k))})
    compared = 0
    for t in steps:
        due = phases.due(task.recipe, t)
        is_regularised = "G path length" in [phase.name for phase in due]
        assert is_regularised == (f"iter{t}/z_Greg" in arrays.entries)
        state, _ = step.update(task, due, state, *recorded_step(arrays, t, task.recipe))
        mean = arrays[f"iter{t}/pl_mean"]
        assert disagreement(state.path_length_mean, mean) < TOLERANCE["steps"]
        compared += compare_state(arrays, f"after{t}/", generator, discriminator, state)
    assert compared > 2 * len(arrays.group("init/"))


def compare_state(arrays, prefix, generator, discriminator, state):
    """Every recorded array of the networks after a step; returns how many there were."""
    g_names = official.generator_names(generator[0].config)
    d_names = official.discriminator_names(discriminator[0].config)
    networks = {
        "G/": (g_names, state.generator),
        "G_ema/": (g_names, state.g_ema),
        "D/": (d_names, state.discriminator),
    }
    compared = 0
    for network, (names, variables) in networks.items():
        expected = arrays.group(prefix + network)
        if not expected:
            continue
        ours = official.to_arrays(names, variables)
        assert all(official.UNUSED.fullmatch(k) for k in expected.keys() - ours.keys())
        assert ours.keys() <= expected.keys()
        wrong = {
            k: d for k in ours if (d := disagreement(ours[k], expected[k])) > TOLERANCE["steps"]
        }
        assert not wrong, (prefix, network)
        compared += len(ours)
    return compared
