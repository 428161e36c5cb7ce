"""The phases of a training step: THE list, which the step, compiling and the benchmark read.

A phase has random numbers of its own and makes its own update of the state, of which it names the
fields that it changes. Another loss is another phase here, its formula in losses.py.

Notation: N batch, n N or N / path_length_batch_shrink, L num_ws. Images [n, H, W, channels] in
[-1, 1].
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from creps_jax import sharding
from creps_jax.config import RecipeConfig
from creps_jax.model.generator import repeat_w
from creps_jax.training import averages, losses
from creps_jax.training.augment import Amounts, augment
from creps_jax.training.draws import Fakes, Streams
from creps_jax.training.layout import (
    is_judged_at_once,
    mean_gradients,
    microbatches,
    synthesize,
)
from creps_jax.training.optimizer import (
    discriminator_optimizer,
    generator_optimizer,
    with_frozen_layers,
)
from creps_jax.training.state import AugmentState, Task, TrainState

Array = jax.Array
Metrics = dict[str, Array]
Judged = tuple[Array, Array, Amounts | None]  # images, labels and amounts of discriminate()


class Batch(NamedTuple):
    """Real images in [-1, 1], float32 [N, H, W, channels], and labels, one-hot [N, classes]."""

    images: Array
    labels: Array


class Phase(NamedTuple):
    """One part of a step, compiled as one program."""

    name: str
    interval: Callable[[RecipeConfig], int]  # steps from one time to the next; 0: never
    changes: tuple[str, ...]  # fields of the state; their arrays are donated
    draws: Callable[[Streams], Any]  # the random numbers that it takes
    function: Callable[[Task, TrainState, Batch, Any], tuple[TrainState, Metrics]]

    def __call__(
        self, task: Task, state: TrainState, batch: Batch, draws: dict[str, Any]
    ) -> tuple[TrainState, Metrics]:
        """(state, metrics) after this part of the step."""
        run = program(self, task.mesh, task.deterministic)
        changed, metrics = run(task, *self.arguments(state, batch, draws))
        return state.replace(**changed), metrics

    def arguments(self, state: TrainState, batch: Batch, draws: dict[str, Any]) -> tuple[Any, ...]:
        """What its program takes after the task; arrays or their shapes."""
        fields = vars(state)
        changed = {field: fields[field] for field in self.changes}
        others = {field: fields[field] for field in fields.keys() - changed.keys()}
        return changed, others, batch, draws[self.name]


@functools.cache
def program(phase: Phase, mesh: Mesh, deterministic: bool) -> Any:
    """A phase, compiled for the task's mesh."""
    options = sharding.compiler_options(mesh, deterministic)
    return jax.jit(on_fields(phase), static_argnums=0, donate_argnums=1, compiler_options=options)


def on_fields(phase: Phase) -> Callable[..., tuple[Any, Metrics]]:
    """A phase as (task, changed, others, batch, draws) -> (changed, metrics).

    changed and others are fields of the state, by name. JAX leaves out what is not used.
    """

    def run(task: Task, changed: Any, others: Any, *inputs: Any) -> tuple[Any, Metrics]:
        state, metrics = phase.function(task, TrainState(**changed, **others), *inputs)
        unnamed = [field for field in others if getattr(state, field) is not others[field]]
        assert not unnamed, f"{phase.name} changes {unnamed}, which its entry does not name"
        after = {field: getattr(state, field) for field in phase.changes}
        return sharding.constrain(task.mesh, "state", after), metrics

    run.__name__ = phase.function.__name__  # What profiles and XLA call the program.
    return run


def discriminate(
    task: Task, params: Any, images: Array, labels: Array, amounts: Amounts | None, kinds: int = 1
) -> Array:
    """Logits [N] of images as the discriminator sees them: augmented, if there are amounts."""
    seen = images if amounts is None else augment(images, amounts)
    seen = sharding.constrain(task.mesh, "images", seen)
    params = with_frozen_layers(params, task.recipe.freeze_d)
    return task.discriminator.apply({"params": params}, seen, labels, kinds)


def judge_apart(task: Task, params: Any, fakes: Judged, reals: Judged) -> tuple[Array, Array]:
    """Logits [N] of fakes and of reals; the minibatch statistics of the two do not mix."""
    return discriminate(task, params, *fakes), discriminate(task, params, *reals)


def judge_at_once(task: Task, params: Any, fakes: Judged, reals: Judged) -> tuple[Array, Array]:
    """The same in one pass over 2 N images, in which fakes and reals take turns.

    So a device has the fakes and the reals that it had apart.
    """

    def in_turns(a: Array, b: Array) -> Array:
        return jnp.stack([a, b], axis=1).reshape(2 * len(a), *a.shape[1:])

    both = jax.tree.map(in_turns, fakes, reals)
    fake_logits, real_logits = discriminate(task, params, *both, kinds=2).reshape(-1, 2).T
    return fake_logits, real_logits


def norm(tree: Any) -> Array:
    """The Euclidean norm of all arrays of a tree."""
    return jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(tree)))


def map_latents(task: Task, variables: Any, fakes: Fakes) -> tuple[Array, Array]:
    """Their ws [n, L, w_dim], and the mean of w over the batch [w_dim]."""
    w = task.generator.apply(variables, fakes.z, fakes.c, method="map")
    return repeat_w(w, task.generator.config.num_ws), w.mean(axis=0)


def paint(task: Task, variables: Any, fakes: Fakes) -> tuple[Array, Array]:
    """Their images [n, H, W, channels], and the mean of w over the batch [w_dim]."""
    ws, w_mean = map_latents(task, variables, fakes)
    return synthesize(task, variables, ws, fakes.y, fakes.x), w_mean


def with_w_avg(task: Task, variables: Any, batch_mean: Array) -> Any:
    """The generator's variables with the running mean of w moved towards the batch's mean."""
    decay = task.recipe.w_avg_decay
    w_avg = variables["statistics"]["mapping"]["w_avg"]
    w_avg = decay * w_avg + (1.0 - decay) * batch_mean
    return {**variables, "statistics": {"mapping": {"w_avg": w_avg}}}


def g_main(
    task: Task, state: TrainState, _: Batch, draws: tuple[Fakes, Amounts | None]
) -> tuple[TrainState, Metrics]:
    """The generator learns to raise D's logits."""

    def loss_fn(params: Any, batch: Any) -> tuple[Array, tuple[Metrics, Array]]:
        fakes, amounts = batch
        images, w_mean = paint(task, {**state.generator, "params": params}, fakes)
        logits = discriminate(task, state.discriminator["params"], images, fakes.c, amounts)
        loss = losses.generator_loss(logits)
        metrics = {
            "loss/g": loss,
            "score/fake": logits.mean(),
            "sign/fake": jnp.sign(logits).mean(),
        }
        return loss, (metrics, w_mean)

    params = state.generator["params"]
    gradients, (metrics, w_mean) = mean_gradients(task, loss_fn, params, draws)
    optimizer = generator_optimizer(task.recipe, params)
    params, optimizer_state = optimizer.update(params, gradients, state.g_optimizer)
    generator = with_w_avg(task, {**state.generator, "params": params}, w_mean)
    metrics["gradient_norm/g"] = norm(gradients)
    return state.replace(generator=generator, g_optimizer=optimizer_state), metrics


def path_length_draws(streams: Streams) -> tuple[Fakes, Array]:
    """Fakes and noise of fewer images than a batch has: [n, ...]."""
    shrink = streams.task.recipe.path_length_batch_shrink
    return streams.fakes("path_length", shrink), streams.noise("path_length", shrink)


def g_path_length(
    task: Task, state: TrainState, _: Batch, draws: tuple[Fakes, Array]
) -> tuple[TrainState, Metrics]:
    """Path-length regularisation; the loss counts for all steps of its interval.

    The penalty of each length depends on all of them: they come first, then the gradients.
    """
    recipe = task.recipe
    fakes, noise = draws
    noise = noise / math.sqrt(noise.shape[1] * noise.shape[2])

    def lengths_of(params: Any, batch: Any) -> tuple[Array, Array]:
        fakes, noise = batch
        variables = {**state.generator, "params": params}
        ws, w_mean = map_latents(task, variables, fakes)
        images_of = functools.partial(synthesize, task, variables, y=fakes.y, x=fakes.x)
        return losses.path_lengths(images_of, ws, noise), w_mean

    def loss_of(lengths: Array) -> tuple[Array, tuple[Array, Array]]:
        penalty, mean = losses.path_length_penalty(
            lengths, state.path_length_mean, recipe.path_length_decay
        )
        loss = recipe.path_length_weight * penalty
        return loss * recipe.path_length_interval, (loss, mean)

    params = state.generator["params"]
    batch = (fakes, noise)
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
        "gradient_norm/g_path_length": norm(gradients),
    }
    return state, metrics


def d_main(
    task: Task,
    state: TrainState,
    batch: Batch,
    draws: tuple[Fakes, Amounts | None, Amounts | None],
) -> tuple[TrainState, Metrics]:
    """The discriminator learns to tell reals from the updated generator's fakes."""

    def loss_fn(params: Any, batch: Any) -> tuple[Array, Metrics]:
        reals, fakes, of_fakes, of_reals = batch
        images, _ = paint(task, state.generator, fakes)
        images = jax.lax.stop_gradient(images)
        judge = judge_at_once if is_judged_at_once(task) else judge_apart
        fake_logits, real_logits = judge(
            task, params, (images, fakes.c, of_fakes), (reals.images, reals.labels, of_reals)
        )
        loss = losses.discriminator_loss(real_logits, fake_logits)
        metrics = {
            "loss/d": loss,
            "score/real": real_logits.mean(),
            "sign/real": jnp.sign(real_logits).mean(),
        }
        return loss, metrics

    params = state.discriminator["params"]
    gradients, metrics = mean_gradients(task, loss_fn, params, (batch, *draws))
    optimizer = discriminator_optimizer(task.recipe, params)
    params, optimizer_state = optimizer.update(params, gradients, state.d_optimizer)
    metrics["gradient_norm/d"] = norm(gradients)
    state = state.replace(
        discriminator={"params": params},
        d_optimizer=optimizer_state,
        augment=with_reals(task, state.augment, metrics["sign/real"]),
    )
    return state, metrics


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
    metrics["gradient_norm/d_r1"] = norm(gradients)
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


def finish(task: Task, state: TrainState, *_: Any) -> tuple[TrainState, Metrics]:
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
    power = state.power_averages
    if recipe.power_averages:
        power = averages.moved(power, generator["params"], state.step + 1)
    state = state.replace(step=state.step + 1, g_ema=g_ema, power_averages=power)
    metrics = {"w_avg/norm": jnp.linalg.norm(generator["statistics"]["mapping"]["w_avg"])}
    if task.augment:
        metrics["augment/p"] = state.augment.p
        if task.augment.adaptive:
            state = state.replace(augment=adjusted(task, state.augment, state.step))
    return state, metrics


PHASES = (
    Phase(
        "G main",
        interval=lambda recipe: 1,
        changes=("generator", "g_optimizer"),
        draws=lambda streams: (streams.fakes("g_main"), streams.amounts("g_main")),
        function=g_main,
    ),
    Phase(
        "G path length",
        interval=lambda r: r.path_length_interval if r.path_length_weight > 0 else 0,
        changes=("generator", "g_optimizer", "path_length_mean"),
        draws=path_length_draws,
        function=g_path_length,
    ),
    Phase(
        "D main",
        interval=lambda recipe: 1,
        changes=("discriminator", "d_optimizer", "augment"),
        draws=lambda streams: (
            streams.fakes("d_main"),
            streams.amounts("d_main_fakes"),
            streams.amounts("d_main_reals"),
        ),
        function=d_main,
    ),
    Phase(
        "D R1",
        interval=lambda recipe: recipe.r1_interval if recipe.r1_gamma > 0 else 0,
        changes=("discriminator", "d_optimizer", "augment"),
        draws=lambda streams: streams.amounts("d_r1"),
        function=d_r1,
    ),
    Phase(
        "finish",
        interval=lambda recipe: 1,
        changes=("step", "g_ema", "power_averages", "augment"),
        draws=lambda streams: None,
        function=finish,
    ),
)


def of_run(recipe: RecipeConfig) -> tuple[Phase, ...]:
    """The phases that a run with this recipe ever has, in their order."""
    return tuple(phase for phase in PHASES if phase.interval(recipe))


def due(recipe: RecipeConfig, step: int) -> tuple[Phase, ...]:
    """The phases of the given step, counted from 0, in their order."""
    return tuple(phase for phase in of_run(recipe) if step % phase.interval(recipe) == 0)
