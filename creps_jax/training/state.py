"""What a training run carries from step to step, and how it begins."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from creps_jax import rng
from creps_jax.config import AugmentConfig, LayoutConfig, RecipeConfig
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.training.averages import EXPONENTS
from creps_jax.training.optimizer import discriminator_optimizer, generator_optimizer

Array = jax.Array


class Task(NamedTuple):
    """What does not change during a run; hashable, a static argument of the step."""

    generator: Generator
    discriminator: Discriminator
    recipe: RecipeConfig
    augment: AugmentConfig | None  # None: no augmentation
    seed: int
    label_shares: tuple[float, ...]  # how often each class occurs in the data set
    mesh: Mesh  # the devices
    layout: LayoutConfig
    deterministic: bool = False  # ask XLA for it, on GPUs


@flax.struct.dataclass
class AugmentState:
    """The strength of the augmentation, and what has been seen since it was adjusted last."""

    p: Array  # float32 [], probability of each operation
    signs: Array  # float32 [], sum of the signs of D's logits of reals
    count: Array  # float32 [], number of them


@flax.struct.dataclass
class TrainState:
    """All arrays of a run; a checkpoint of it continues the run bit for bit."""

    step: Array  # int32 [], steps done
    generator: Any  # variables of the generator: params, constants, statistics
    discriminator: Any  # variables of the discriminator: params
    g_ema: Any  # moving average of the generator's variables: what is rendered
    power_averages: Any  # of its params, of the two lengths in averages.EXPONENTS; None: not kept
    g_optimizer: Any
    d_optimizer: Any
    path_length_mean: Array  # float32 []
    augment: AugmentState | None  # None: no augmentation


def begin(task: Task, generator: Any, discriminator: Any) -> TrainState:
    """The state before the first step, from the networks' variables."""
    g_optimizer = generator_optimizer(task.recipe, generator["params"])
    d_optimizer = discriminator_optimizer(task.recipe, discriminator["params"])
    zero = jnp.zeros((), jnp.float32)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        discriminator=discriminator,
        # A copy: the state is donated to each step, and no buffer can be donated twice.
        g_ema=jax.tree.map(jnp.copy, generator),
        power_averages=tuple(jax.tree.map(jnp.copy, generator["params"]) for _ in EXPONENTS)
        if task.recipe.power_averages
        else None,
        g_optimizer=g_optimizer.main.init(generator["params"]),
        d_optimizer=d_optimizer.main.init(discriminator["params"]),
        path_length_mean=zero,
        augment=task.augment and AugmentState(zero + task.augment.p, zero, zero),
    )


def init_state(task: Task) -> TrainState:
    """The state of a new run: a function of the task's seed alone."""
    root = rng.root(task.seed)
    g, d = (rng.stream(root, f"init_{name}", 0) for name in ("generator", "discriminator"))
    generator = task.generator.init(g, method="create")
    return begin(task, generator, task.discriminator.init(d, method="create"))
