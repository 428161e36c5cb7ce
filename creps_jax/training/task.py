"""What a config's run trains, and in which precision."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from creps_jax import sharding
from creps_jax.config import RunConfig
from creps_jax.model.discriminator import Discriminator
from creps_jax.model.generator import Generator
from creps_jax.training.state import Task


def compute_dtype(precision: str, platform: str) -> Any:
    """The dtype of the networks' products: on a CPU float32 is faster than bfloat16."""
    if precision == "auto":
        precision = "float32" if platform == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[precision]


def make_task(
    config: RunConfig,
    label_shares: tuple[float, ...],
    devices: Sequence[jax.Device] | None = None,
) -> Task:
    """The networks and the recipe on all devices, or on the given ones.

    Raises:
      ValueError: the batch does not divide among the devices.
    """
    layout, recipe = config.layout, config.recipe
    mesh = sharding.make_mesh(devices, layout.row, layout.column)
    smallest = recipe.batch_size // recipe.path_length_batch_shrink // layout.microbatches
    if smallest % mesh.shape["data"]:
        raise ValueError(
            f"batch_size={recipe.batch_size} / recipe.path_length_batch_shrink="
            f"{recipe.path_length_batch_shrink} / layout.microbatches={layout.microbatches} must "
            f"be a multiple of the {mesh.shape['data']} devices that share the batch"
        )
    dtype = compute_dtype(config.precision, mesh.devices.flat[0].platform)
    networks = Generator(config.generator, dtype), Discriminator(config.discriminator, dtype)
    return Task(
        *networks,
        recipe,
        config.augment,
        config.seed,
        label_shares,
        mesh,
        layout,
        config.deterministic,
    )


def with_fixed_precision(
    raw_config: dict[str, Any], config: RunConfig, saved: dict[str, Any] | None
) -> tuple[dict[str, Any], RunConfig]:
    """The config whose precision, where it is 'auto', is what the run began with.

    A new run begins with what its devices suit, and its checkpoints' config says which it was.
    """
    if config.precision != "auto":
        return raw_config, config
    here = jnp.dtype(compute_dtype("auto", jax.default_backend())).name
    fixed = here if saved is None else saved["precision"]
    if fixed != here:
        print(f"precision=auto is {here} on these devices; the run goes on in {fixed}.", flush=True)
    return {**raw_config, "precision": fixed}, dataclasses.replace(config, precision=fixed)
