"""One training step: G main, G regularisation, D main, D regularisation, moving average.

Each phase draws its own latents and makes its own optimiser update. A step is the pure function
`train_step(task, phases, state, batch) -> (state, metrics)`. It is compiled phase by phase: a plain
step and a regularised one share the programs of the phases that both have, and none is compiled
twice. Each phase donates the state that it is given.

Notation: N batch, h N / path_length_batch_shrink, L num_ws. Images [N, H, W, channels] in [-1, 1].
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from creps_jax import sharding
from creps_jax.model import coordinates
from creps_jax.model.generator import repeat_w
from creps_jax.training import losses
from creps_jax.training.augment import Amounts, augment
from creps_jax.training.draws import Draws, Latents, draw
from creps_jax.training.state import (
    AugmentState,
    Task,
    TrainState,
    discriminator_optimizer,
    generator_optimizer,
)

Array = jax.Array
Metrics = dict[str, Array]


class Phases(NamedTuple):
    """Which regularisation phases this step has."""

    path_length: bool
    r1: bool


def phases_of(task: Task, step: int) -> Phases:
    """The phases of the given step, counted from 0."""
    recipe = task.recipe
    return Phases(
        path_length=recipe.path_length_weight > 0 and step % recipe.path_length_interval == 0,
        r1=recipe.r1_gamma > 0 and step % recipe.r1_interval == 0,
    )


class Batch(NamedTuple):
    """Real images in [-1, 1], float32 [N, H, W, channels], and labels, one-hot [N, classes]."""

    images: Array
    labels: Array


def train_step(
    task: Task, phases: Phases, state: TrainState, batch: dict[str, Array]
) -> tuple[TrainState, Metrics]:
    """One step on a batch of the pipeline: {'image': uint8 [N, H, W, channels], 'label': [N]}."""
    p = state.augment and state.augment.p
    return update(task, phases, state, *prepare(task, state.step, p, batch))


def update(
    task: Task, phases: Phases, state: TrainState, batch: Batch, draws: Draws
) -> tuple[TrainState, Metrics]:
    """One step with its random numbers given.

    Metrics are float32 scalars; those of a regularisation are there when its phase is.
    """
    seen = draws.augmentation
    state, metrics = g_main(task, state, draws.g_main, seen.g_main)
    if phases.path_length:
        state, more = g_path_length(task, state, draws.path_length, draws.noise)
        metrics |= more
    fakes_and_reals = (seen.d_main_fakes, seen.d_main_reals)
    state, more = d_main(task, state, batch, draws.d_main, *fakes_and_reals)
    metrics |= more
    if phases.r1:
        state, more = d_r1(task, state, batch, seen.d_r1)
        metrics |= more
    state, more = finish(task, state)
    return state, metrics | more


@functools.partial(jax.jit, static_argnums=0)
def prepare(
    task: Task, step: Array, p: Array | None, batch: dict[str, Array]
) -> tuple[Batch, Draws]:
    """What a step works on: scaled images, one-hot labels and the step's random numbers."""
    images = batch["image"].astype(jnp.float32) / 127.5 - 1.0
    labels = jax.nn.one_hot(batch["label"], task.generator.config.num_classes)
    return sharding.constrain(task.mesh, "batch", (Batch(images, labels), draw(task, step, p)))


def phase(function: Callable[..., tuple[TrainState, Metrics]]) -> Callable[..., Any]:
    """A part of the step as one compiled program (task, state, ...) -> (state, metrics)."""

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    @functools.wraps(function)
    def run(task: Task, state: TrainState, *inputs: Any) -> tuple[TrainState, Metrics]:
        return sharding.constrain(task.mesh, "state", function(task, state, *inputs))

    return run


def synthesize(task: Task, variables: Any, ws: Array) -> Array:
    """ws [n, L, w_dim] -> images on the training grid [n, H, W, channels]."""
    y, x = map(coordinates.training_positions, task.generator.config.shape)
    rows, columns = task.generator.apply(
        variables, ws, jnp.asarray(y), jnp.asarray(x), method="row_and_column_lines"
    )
    rows = sharding.constrain(task.mesh, "row_lines", rows)
    columns = sharding.constrain(task.mesh, "column_lines", columns)
    return sharding.constrain(task.mesh, "images", paint(task, variables, ws, rows, columns))


def paint(task: Task, variables: Any, ws: Array, rows: Array, columns: Array) -> Array:
    """Images from the lines of their rows [n, H, ...] and columns [n, W, ...].

    In several strips if memory is short: of their pixels nothing but the colour is kept, and where
    gradients are taken each strip is painted again.
    """

    def compose(rows: Array) -> Array:
        return task.generator.apply(variables, ws, rows, columns, method="compose")

    strips, devices = task.layout.pixel_strips, task.mesh.shape["row"]
    if strips == 1:
        return compose(rows)
    n, height, *line = rows.shape
    # A strip has some rows of every device, or the devices would take turns.
    rows = rows.reshape(n, devices, strips, -1, *line)
    rows = jnp.moveaxis(rows, 2, 0).reshape(strips, n, height // strips, *line)
    images = jax.lax.map(jax.checkpoint(compose), rows)
    _, _, _, width, channels = images.shape
    images = images.reshape(strips, n, devices, -1, width, channels)
    return jnp.moveaxis(images, 0, 2).reshape(n, height, width, channels)


def discriminate(
    task: Task, params: Any, images: Array, labels: Array, amounts: Amounts | None
) -> Array:
    """Logits [N] of images as the discriminator sees them: augmented, if there are amounts."""
    seen = images if amounts is None else augment(images, amounts)
    seen = sharding.constrain(task.mesh, "images", seen)
    params = with_frozen_layers(params, task.recipe.freeze_d)
    return task.discriminator.apply({"params": params}, seen, labels)


def with_frozen_layers(params: Any, count: int) -> Any:
    """The discriminator's parameters, the first layers' without gradients (Mo et al. 2020).

    Layers in the order from the image on: from-RGB, then two convolutions and the skip of each
    block. Without gradients Adam leaves them as they are.
    """
    if not count:
        return params
    order = [("from_rgb",)] + [
        ("blocks", i, layer)
        for i in range(len(params["blocks"]))
        for layer in ("conv_0", "conv_1", "skip")
    ]
    frozen = set(order[:count])

    def stop(path: tuple[Any, ...], leaf: Array) -> Array:
        keys = tuple(getattr(entry, "key", getattr(entry, "idx", None)) for entry in path)
        return jax.lax.stop_gradient(leaf) if keys[:-1] in frozen else leaf

    return jax.tree_util.tree_map_with_path(stop, params)


def map_latents(task: Task, variables: Any, latents: Latents) -> tuple[Array, Array]:
    """Latents -> (ws [n, L, w_dim], the mean of w over the batch [w_dim])."""
    w = task.generator.apply(variables, *latents, method="map")
    return repeat_w(w, task.generator.config.num_ws), w.mean(axis=0)


def with_w_avg(task: Task, variables: Any, batch_mean: Array) -> Any:
    """The generator's variables with the running mean of w moved towards the batch's mean."""
    decay = task.recipe.w_avg_decay
    w_avg = variables["statistics"]["mapping"]["w_avg"]
    w_avg = decay * w_avg + (1.0 - decay) * batch_mean
    return {**variables, "statistics": {"mapping": {"w_avg": w_avg}}}


def mean_gradients(
    task: Task, loss_fn: Callable[..., Any], params: Any, batch: Any, group: int | None = None
) -> tuple[Any, Any]:
    """The gradients of loss_fn(params, batch) -> (loss, others), and the others.

    All are means over the batch; so they are the means over the microbatches, of which one at a
    time is in memory. Images are judged in groups, by default those of the discriminator.
    """
    gradients = jax.grad(loss_fn, has_aux=True)
    count = task.layout.microbatches
    if count == 1:
        return gradients(params, batch)
    groups_of = min(task.discriminator.config.mbstd_group_size, task.recipe.batch_size)
    parts = microbatches(task, batch, group or groups_of)
    _, others = jax.eval_shape(loss_fn, params, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, others))
    total, _ = jax.lax.scan(
        lambda total, part: (jax.tree.map(jnp.add, total, gradients(params, part)), None),
        zeros,
        parts,
    )
    return jax.tree.map(lambda x: x / count, total)


def microbatches(task: Task, batch: Any, group: int) -> Any:
    """[N, ...] -> [microbatches, N / microbatches, ...], each with whole groups of images.

    Image i belongs to group i mod (N / group): see layers.minibatch_std.
    """
    count = task.layout.microbatches

    def split(x: Array) -> Array:
        groups = x.reshape(group, count, len(x) // (group * count), *x.shape[1:])
        return groups.swapaxes(0, 1).reshape(count, len(x) // count, *x.shape[1:])

    return sharding.constrain(task.mesh, "microbatches", jax.tree.map(split, batch))


@phase
def g_main(
    task: Task, state: TrainState, latents: Latents, amounts: Amounts | None
) -> tuple[TrainState, Metrics]:
    """The generator learns to raise D's logits."""

    def loss_fn(params: Any, batch: Any) -> tuple[Array, tuple[Metrics, Array]]:
        latents, amounts = batch
        variables = {**state.generator, "params": params}
        ws, w_mean = map_latents(task, variables, latents)
        images = synthesize(task, variables, ws)
        logits = discriminate(task, state.discriminator["params"], images, latents.c, amounts)
        loss = losses.generator_loss(logits)
        metrics = {
            "loss/g": loss,
            "score/fake": logits.mean(),
            "sign/fake": jnp.sign(logits).mean(),
        }
        return loss, (metrics, w_mean)

    params = state.generator["params"]
    gradients, (metrics, w_mean) = mean_gradients(task, loss_fn, params, (latents, amounts))
    optimizer = generator_optimizer(task.recipe, params)
    params, optimizer_state = optimizer.update(params, gradients, state.g_optimizer)
    generator = with_w_avg(task, {**state.generator, "params": params}, w_mean)
    metrics["gradient_norm/g"] = optax.tree.norm(gradients)
    return state.replace(generator=generator, g_optimizer=optimizer_state), metrics


@phase
def g_path_length(
    task: Task, state: TrainState, latents: Latents, noise: Array
) -> tuple[TrainState, Metrics]:
    """Path-length regularisation; the loss counts for all steps of its interval.

    The penalty of each length depends on all of them: they come first, then the gradients.
    """
    recipe = task.recipe
    noise = noise / math.sqrt(noise.shape[1] * noise.shape[2])

    def lengths_of(params: Any, batch: Any) -> tuple[Array, Array]:
        latents, noise = batch
        variables = {**state.generator, "params": params}
        ws, w_mean = map_latents(task, variables, latents)
        return losses.path_lengths(lambda ws: synthesize(task, variables, ws), ws, noise), w_mean

    def loss_of(lengths: Array) -> tuple[Array, tuple[Array, Array]]:
        penalty, mean = losses.path_length_penalty(
            lengths, state.path_length_mean, recipe.path_length_decay
        )
        loss = recipe.path_length_weight * penalty
        return loss * recipe.path_length_interval, (loss, mean)

    params = state.generator["params"]
    batch = (latents, noise)
    if task.layout.microbatches == 1:
        lengths, pullback, w_mean = jax.vjp(
            functools.partial(lengths_of, batch=batch), params, has_aux=True
        )
        slopes, (loss, mean) = jax.grad(loss_of, has_aux=True)(lengths)
        (gradients,) = pullback(slopes)
    else:
        parts = microbatches(task, batch, 1)
        lengths, w_means = jax.lax.map(functools.partial(lengths_of, params), parts)
        slopes, (loss, mean) = jax.grad(loss_of, has_aux=True)(lengths.ravel())

        def weighted(params: Any, batch: Any) -> tuple[Array, None]:
            *batch, slopes = batch
            lengths, _ = lengths_of(params, batch)
            return task.layout.microbatches * (lengths * slopes).sum(), None

        gradients, _ = mean_gradients(task, weighted, params, (*batch, slopes), group=1)
        w_mean = w_means.mean(axis=0)
    optimizer = generator_optimizer(recipe, params)
    params, optimizer_state = optimizer.regularize(params, gradients, state.g_optimizer)
    generator = with_w_avg(task, {**state.generator, "params": params}, w_mean)
    state = state.replace(generator=generator, g_optimizer=optimizer_state, path_length_mean=mean)
    metrics = {
        "loss/path_length": loss,
        "path_length/mean": mean,
        "gradient_norm/g_path_length": optax.tree.norm(gradients),
    }
    return state, metrics


@phase
def d_main(
    task: Task,
    state: TrainState,
    batch: Batch,
    latents: Latents,
    of_fakes: Amounts | None,
    of_reals: Amounts | None,
) -> tuple[TrainState, Metrics]:
    """The discriminator learns to tell reals from the updated generator's fakes."""

    def loss_fn(params: Any, batch: Any) -> tuple[Array, Metrics]:
        reals, latents, of_fakes, of_reals = batch
        ws, _ = map_latents(task, state.generator, latents)
        fakes = jax.lax.stop_gradient(synthesize(task, state.generator, ws))
        # Two calls: the minibatch statistics of fakes and reals must not mix.
        fake_logits = discriminate(task, params, fakes, latents.c, of_fakes)
        real_logits = discriminate(task, params, reals.images, reals.labels, of_reals)
        loss = losses.discriminator_loss(real_logits, fake_logits)
        metrics = {
            "loss/d": loss,
            "score/real": real_logits.mean(),
            "sign/real": jnp.sign(real_logits).mean(),
        }
        return loss, metrics

    params = state.discriminator["params"]
    inputs = (batch, latents, of_fakes, of_reals)
    gradients, metrics = mean_gradients(task, loss_fn, params, inputs)
    optimizer = discriminator_optimizer(task.recipe, params)
    params, optimizer_state = optimizer.update(params, gradients, state.d_optimizer)
    metrics["gradient_norm/d"] = optax.tree.norm(gradients)
    state = state.replace(
        discriminator={"params": params},
        d_optimizer=optimizer_state,
        augment=with_reals(task, state.augment, metrics["sign/real"]),
    )
    return state, metrics


@phase
def d_r1(
    task: Task, state: TrainState, batch: Batch, amounts: Amounts | None
) -> tuple[TrainState, Metrics]:
    """R1 regularisation on the reals of D main; the loss counts for all steps of its interval.

    The gradient is that with respect to the images before they are augmented.
    """
    recipe = task.recipe

    def loss_fn(params: Any, batch: Any) -> tuple[Array, tuple[Metrics, Array]]:
        reals, amounts = batch
        penalties, logits = losses.r1_penalties(
            lambda images: discriminate(task, params, images, reals.labels, amounts), reals.images
        )
        loss = 0.5 * recipe.r1_gamma * penalties.mean()
        metrics = {"loss/r1": loss, "r1/penalty": penalties.mean()}
        return loss * recipe.r1_interval, (metrics, jnp.sign(logits).mean())

    params = state.discriminator["params"]
    gradients, (metrics, sign) = mean_gradients(task, loss_fn, params, (batch, amounts))
    optimizer = discriminator_optimizer(recipe, params)
    params, optimizer_state = optimizer.regularize(params, gradients, state.d_optimizer)
    metrics["gradient_norm/d_r1"] = optax.tree.norm(gradients)
    state = state.replace(
        discriminator={"params": params},
        d_optimizer=optimizer_state,
        augment=with_reals(task, state.augment, sign),
    )
    return state, metrics


def with_reals(task: Task, state: AugmentState | None, sign: Array) -> AugmentState | None:
    """The augmentation's state after D has judged a batch of reals; sign: of its logits, mean."""
    if state is None:
        return None
    count = task.recipe.batch_size
    return state.replace(signs=state.signs + count * sign, count=state.count + count)


def adjusted(task: Task, state: AugmentState, steps: Array) -> AugmentState:
    """After every so many steps p moves by sign(mean sign of D(real) - target), at least to 0."""
    config = task.augment
    rise = task.recipe.batch_size * config.interval / (config.kimg * 1000.0)
    towards = jnp.sign(state.signs / jnp.maximum(state.count, 1.0) - config.target)
    after = AugmentState(
        p=jnp.maximum(state.p + towards * rise, 0.0),
        signs=jnp.zeros_like(state.signs),
        count=jnp.zeros_like(state.count),
    )
    is_due = steps % config.interval == 0
    return jax.tree.map(lambda new, old: jnp.where(is_due, new, old), after, state)


@phase
def finish(task: Task, state: TrainState) -> tuple[TrainState, Metrics]:
    """The moving average of the generator, the augmentation's p, and the end of the step.

    beta = 0.5^(N / half-life), where the half-life ramps up with the images seen before this step;
    all but the parameters is copied.
    """
    recipe, generator = task.recipe, state.generator
    images_seen = (state.step * recipe.batch_size).astype(jnp.float32)
    half_life = jnp.asarray(recipe.ema_kimg * 1000.0, jnp.float32)
    if recipe.ema_rampup is not None:
        half_life = jnp.minimum(half_life, recipe.ema_rampup * images_seen)
    beta = 0.5 ** (recipe.batch_size / jnp.maximum(half_life, 1e-8))
    params = optax.incremental_update(
        generator["params"], state.g_ema["params"], step_size=1.0 - beta
    )
    g_ema = {**generator, "params": params}
    state = state.replace(step=state.step + 1, g_ema=g_ema)
    metrics = {"w_avg/norm": jnp.linalg.norm(generator["statistics"]["mapping"]["w_avg"])}
    if task.augment:
        metrics["augment/p"] = state.augment.p
        if task.augment.adaptive:
            state = state.replace(augment=adjusted(task, state.augment, state.step))
    return state, metrics
