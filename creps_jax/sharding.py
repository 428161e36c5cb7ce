"""The device mesh and the one table of how arrays lie on it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PARTITION_SPECS = {
    "state": PartitionSpec(),  # parameters, optimiser and statistics: a copy on every device
    "batch": PartitionSpec("data"),  # images and labels: split by example
}


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices (or the given ones) along the axis 'data'."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def named(mesh: Mesh, kind: str) -> NamedSharding:
    """The sharding of one kind of array of the table."""
    return NamedSharding(mesh, PARTITION_SPECS[kind])


def constrain(mesh: Mesh, kind: str, tree: Any) -> Any:
    """Inside a compiled function: lay every array of the tree as the table says."""
    return jax.lax.with_sharding_constraint(tree, named(mesh, kind))
