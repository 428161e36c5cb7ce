"""The device mesh and the one table of how arrays lie on it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PARTITION_SPECS = {
    "state": PartitionSpec(),  # parameters, optimiser and statistics: a copy on every device
    "batch": PartitionSpec("data"),  # of the pipeline, latents and draws: split by example
    "microbatches": PartitionSpec(None, "data"),
    "y": PartitionSpec("data", "row"),  # positions of an image's rows, [N, H]
    "x": PartitionSpec("data", "column"),  # of its columns, [N, W]
    "images": PartitionSpec("data", "row", "column"),  # [N, H, W, channels]
    "grid": PartitionSpec(("data", "row", "column")),  # of fakes: whole, split over all devices
    # Rendering, on a mesh of 'row' and 'column'.
    "image": PartitionSpec(),  # folded weights of an image: a copy on every device
    "positions": PartitionSpec(("row", "column")),  # of lines: split over all devices
    "rows": PartitionSpec("row"),  # lines of rows: split over 'row', a copy along 'column'
    "columns": PartitionSpec("column"),
    "pixels": PartitionSpec("row", "column"),
    "pictures": PartitionSpec(None, ("row", "column")),  # small ones: whole, split over all devices
}


def make_mesh(devices: Sequence[jax.Device] | None = None, row: int = 1, column: int = 1) -> Mesh:
    """All devices (or the given ones) along 'data', 'row' and 'column': examples, then pixels.

    Raises:
      ValueError: the devices do not divide among rows and columns.
    """
    # A process's devices side by side: they share its part of the batch.
    devices = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
    if len(devices) % (row * column):
        raise ValueError(
            f"layout.row={row} x layout.column={column} devices an image do not divide the "
            f"{len(devices)} devices: lower them, or give more devices"
        )
    for count in Counter(device.process_index for device in devices).values():
        if count % (row * column):
            raise ValueError(
                f"layout.row={row} x layout.column={column} devices an image must lie in one "
                f"process: they do not divide its {count} devices"
            )
    grid = np.asarray(devices).reshape(-1, row, column)
    return Mesh(grid, ("data", "row", "column"), axis_types=(AxisType.Auto,) * 3)


def make_render_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """This process's devices (or the given ones) along 'row' and 'column', as square as can be."""
    devices = jax.local_devices() if devices is None else devices
    columns = max(k for k in range(1, math.isqrt(len(devices)) + 1) if len(devices) % k == 0)
    grid = np.asarray(devices).reshape(-1, columns)
    return Mesh(grid, ("row", "column"), axis_types=(AxisType.Auto, AxisType.Auto))


def named(mesh: Mesh, kind: str) -> NamedSharding:
    """The sharding of one kind of array of the table."""
    return NamedSharding(mesh, PARTITION_SPECS[kind])


def is_on_gpus(mesh: Mesh) -> bool:
    """Whether its devices are GPUs, of whatever maker."""
    return mesh.devices.flat[0].platform == "gpu"


def compiler_options(mesh: Mesh, deterministic: bool = False) -> dict[str, Any]:
    """XLA's options for programs on these devices.

    Args:
      deterministic: the same numbers each time: https://openxla.org/xla/determinism has how. Only
        on GPUs they might be others.
    """
    match mesh.devices.flat[0].platform:
        case "cpu":  # Its library of fused products is slower than its plain ones for our shapes.
            return {"xla_cpu_experimental_ynn_fusion_type": ""}
        case "tpu":  # Of 2 to 7 images it would cut the maps into pieces, in 1.3 to 1.8 the time.
            return {"xla_disable_hlo_passes": "space-to-batch-converter"}
        case "gpu" if deterministic:
            # No operations that add in any order, nor those that a measurement chooses.
            return {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}
    return {}


def constrain(mesh: Mesh, kind: str, tree: Any) -> Any:
    """Inside a compiled function: lay every array of the tree as the table says."""
    return jax.lax.with_sharding_constraint(tree, named(mesh, kind))
