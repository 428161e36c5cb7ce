"""TPUs that are not there: libtpu compiles for any of them, on any Linux machine.

A topology is named KIND:SHAPE: v5e:4x4 are the 16 chips of a v5e-16.
"""

import importlib.util
import math
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from creps_jax import machine

if TYPE_CHECKING:
    import jax


class Chip(NamedTuple):
    """One kind of TPU chip."""

    hbm_gib: int
    clock_mhz: int
    pod: int  # most chips together
    devices: int = 1  # of JAX


# Memory, pods and peak rates are from https://cloud.google.com/tpu/docs/v4 (v5e, v5p, v6e). The
# clock is the peak rate of bfloat16 (275, 197, 459 and 918 TFLOP/s) over twice the chip's
# multipliers: at it the compiler's cycles of a 4096^3 product are 87 to 97 % of that rate.
CHIPS = {
    # The compiler for absent chips takes each of the two cores for a device.
    "v4": Chip(hbm_gib=32, clock_mhz=1050, pod=4096, devices=2),
    "v5e": Chip(hbm_gib=16, clock_mhz=1500, pod=256),
    "v5p": Chip(hbm_gib=95, clock_mhz=1750, pod=8960),
    "v6e": Chip(hbm_gib=32, clock_mhz=1750, pod=256),
}


class Topology(NamedTuple):
    """A pod's devices, each a chip or a core of one, and what a device has."""

    name: str
    devices: tuple["jax.Device", ...]
    memory_bytes: int  # of a device
    clock_mhz: int


def chip_of(name: str) -> Chip:
    """The kind of chip in a topology's name.

    Raises:
      ValueError: the name is none; it says which are.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch("[1-9][0-9]*(x[1-9][0-9]*){1,2}", shape):
        raise ValueError(
            f"--topology={name} must be KIND:SHAPE as in v5e:4x4 or v5p:2x2x1, with a kind of "
            f"{', '.join(CHIPS)}"
        )
    chip, chips = CHIPS[kind], math.prod(_sides(name))
    if chips > chip.pod:
        raise ValueError(f"--topology={name} has {chips} chips; {kind} has {chip.pod} at most")
    return chip


def _sides(name: str) -> list[int]:
    return [int(side) for side in name.partition(":")[2].split("x")]


def check(name: str) -> None:
    """Raises ValueError if the name is none, or libtpu is not installed; JAX is not imported."""
    chip_of(name)
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            f"--topology={name} needs libtpu, which compiles for it: pip install 'creps-jax[tpu]' "
            "(on Linux, x86-64)"
        )


def find(name: str) -> Topology:
    """The topology of that name; JAX's own devices, if none have started yet, are the CPU.

    Raises:
      ValueError: there is no such topology, or libtpu is not installed.
    """
    import jax
    from jax.experimental import topologies

    check(name)
    os.environ.update(machine.WITHOUT_TPU)
    jax.config.update("jax_platforms", "cpu")
    chip = chip_of(name)
    # A host has four chips, unless all are fewer.
    sides = _sides(name)
    few = {"chips_per_host_bounds": (*sides, 1, 1)[:3]} if math.prod(sides) < 4 else {}
    try:
        devices = topologies.get_topology_desc(name, "tpu", **few).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"--topology={name}: there is no such pod ({str(error).splitlines()[0]}); take sides "
            "of 2, 4, 8, ... chips, as in v5e:4x4 or v5p:2x2x1"
        ) from error
    return Topology(name, tuple(devices), chip.hbm_gib * 2**30 // chip.devices, chip.clock_mhz)
