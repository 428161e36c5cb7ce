"""A new run that begins with the weights of another one."""

import jax

from creps_jax.interop import initial
from creps_jax.training.state import Task, TrainState


def with_initial_weights(
    state: TrainState, task: Task, weights: dict[str, initial.Arrays], path: str
) -> TrainState:
    """The state of a new run with the weights of another one, as far as they fit; says how far.

    Raises:
      ValueError: none of the weights from the path fits.
    """
    networks = {"G": state.generator, "D": state.discriminator, "G_ema": state.g_ema}
    taken = initial.take(weights, task.generator, task.discriminator, networks)
    count = len(jax.tree.leaves(networks))
    if len(taken.left) == count:
        raise ValueError(f"init_from={path!r}: none of its arrays fits; first: {taken.left[0]}")
    print(f"Fine-tuning {path}: {count - len(taken.left)} of {count} arrays are from it.")
    for what, names in (("keep their own start", taken.left), ("are not used", taken.unused)):
        if names:
            print(f"These {len(names)} {what}: {', '.join(names)}", flush=True)
    return state.replace(
        generator=taken.networks["G"],
        discriminator=taken.networks["D"],
        g_ema=taken.networks["G_ema"],
    )
