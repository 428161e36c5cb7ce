"""The checkpoint of a run that was not run: a tiny network of random numbers."""

import jax
import numpy as np

from creps_jax.checkpoint import Checkpoints
from creps_jax.config import parse
from creps_jax.model.generator import Generator
from creps_jax.model.layers import variable_shapes
from experiments import kill_hunt

CONFIG = kill_hunt.tiny_config()


def draw_variables(config):
    """What init returns, of random numbers, and with images that 8 bits can hold."""
    generator = Generator(parse(config).generator)
    shapes = variable_shapes(generator)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: np.float32(random.standard_normal(x.shape)), shapes)
    params = variables["params"]
    params["mapping"] = jax.tree.map(lambda x: x * 100, params["mapping"])
    for p in (params["pixels"]["rgb"], *(block["to_rgb"] for block in params["pixels"]["refine"])):
        p["weight"] *= 0.1
        p["bias"] *= 0.1
    return jax.tree.map(jax.numpy.asarray, variables)


def save_run(workdir, **changes):
    config = CONFIG | changes
    variables = draw_variables(config)
    with Checkpoints(workdir, keep=2) as checkpoints:
        state = {"step": jax.numpy.zeros(())}
        checkpoints.save(0, state=state, ema=variables, data={}, config=config)
    return workdir
