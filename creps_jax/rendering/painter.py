"""A trained generator as one object that paints: what `creps_jax.load` returns."""

import functools
import hashlib
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import rng, sharding
from creps_jax.model import biline, coordinates
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering import keys, latents, programs, small, tiles
from creps_jax.rendering.checks import as_float32, is_number
from creps_jax.rendering.colours import to_dtype
from creps_jax.rendering.plan import Plan, make_plan
from creps_jax.rendering.rounds import MANY
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.warp import interpolated
from creps_jax.rendering.warp.maps import Map
from creps_jax.rendering.warp.tables import Table
from creps_jax.rendering.windows import BLOCK, Blocks, Window

Tables = tuple[Table, Table]  # of rows and of columns

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
WARP_SAMPLE = 1024  # whose error is measured
MANY_BYTES = 2**25  # of weights that small pictures painted at a time may take together


def check_precision(precision: str) -> None:
    """Raises ValueError unless it is one of PRECISIONS."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")


class Painter:
    """Paints any window of an image of any size; an image depends on its latents alone.

    Can be pickled: where it is unpickled, it paints on all devices of that process.

    Attributes:
      generator: the Flax module; its config holds all widths.
      shape: height and width of the training images, px; the default size.
      mesh: this process's devices, as 'row' x 'column'.
    """

    @rng.pinned()
    def __init__(
        self,
        generator: Generator,
        variables: Variables,
        devices: Sequence[jax.Device] | None = None,
        precision: str = "float32",
    ) -> None:
        """Puts the variables on the devices.

        Args:
          devices: where to paint; None: all of this process.
          precision: 'float32', or 'bfloat16' for the products of lines and pixels, which
            accelerators compute faster; positions, phases and sums are float32 in both.

        Raises:
          ValueError: the precision is neither, or there are no devices.
        """
        if devices is not None and not len(devices):
            raise ValueError("devices must not be empty; None: all of this process")
        check_precision(precision)
        self.generator = generator
        self.shape = generator.config.shape
        self.mesh = sharding.make_render_mesh(devices)
        self._precision = str(precision)  # Enumerations of strings are named otherwise.
        self._variables = jax.device_put(variables, sharding.named(self.mesh, "image"))

    def __reduce__(self) -> tuple[Any, ...]:
        variables = jax.tree.map(np.asarray, self._variables)
        return Painter, (self.generator, variables, None, self._precision)

    @property
    def device(self) -> str:
        """What it paints on, in words."""
        kind = self.mesh.devices.flat[0].device_kind
        return kind if self.mesh.size == 1 else f"{self.mesh.size} x {kind}"

    @property
    def block(self) -> tuple[int, int]:
        """Height and width, px, of what the devices are best asked for at a time."""
        tile = tiling_of(self.mesh).tile
        down, across = (math.lcm(BLOCK, n * tile) for n in self.mesh.devices.shape)
        return down, across

    @property
    def at_a_time(self) -> int:
        """Small pictures that the devices are best asked for at a time, see pictures().

        Few of wide networks, whose pictures take long, so that the work can soon be stopped.
        """
        weights = sum(array.nbytes for array in jax.tree.leaves(self._variables))
        return self.mesh.size * min(MANY, max(1, MANY_BYTES // weights))

    def latents(
        self,
        seed: int,
        label: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        styles: Mapping[int, int] | None = None,
    ) -> np.ndarray:
        """The latents of all layers that a seed stands for: float32 [num_ws, w_dim].

        Args:
          seed: from 0 to 2**32 - 1.
          label: the class; None if and only if the generator is unconditional.
          truncation: psi; 1 changes nothing, 0 gives the mean image.
          cutoff: truncate only the latents of the first `cutoff` layers; None: of all.
          styles: layer -> the seed that this layer takes its latent from instead.

        Raises:
          ValueError: a seed, a layer, the truncation, the cutoff or the label is out of range.
        """
        return self.latents_of([seed], label, truncation, cutoff, styles)[0]

    def latents_of(
        self,
        seeds: Sequence[int],
        label: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        styles: Mapping[int, int] | None = None,
    ) -> np.ndarray:
        """The same of several seeds in a fraction of the time: float32 [N, num_ws, w_dim]."""
        styles, config = {} if styles is None else styles, self.generator.config
        latents.check_styles(styles, config.num_ws)
        others = list(dict.fromkeys(styles.values()))
        z = latents.draw_z([*seeds, *others], config.z_dim)
        ws = self._map(z, label, truncation, cutoff)
        ws, of_others = np.split(ws, [len(seeds)])
        for layer, other in styles.items():
            ws[:, layer] = of_others[others.index(other), layer]
        return ws

    def map(
        self,
        z: np.ndarray,
        label: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> np.ndarray:
        """The latents of all layers that z [z_dim] is mapped to: float32 [num_ws, w_dim].

        Arguments and errors are those of latents().
        """
        z = as_float32("z", z, (self.generator.config.z_dim,))
        return self._map(z[None], label, truncation, cutoff)[0]

    def _map(self, z: np.ndarray, *options: Any) -> np.ndarray:
        return latents.map_latents(self.generator, self._variables, z, *options)

    @rng.pinned()
    def image(self, ws: np.ndarray) -> biline.Image:
        """What all pixels of the image of ws [num_ws, w_dim] have in common, on the devices.

        Raises:
          ValueError: ws has another shape, or holds what is no finite float32.
        """
        dtype = PRECISIONS[self._precision]
        return programs.fold(self.generator, self._variables, self._ws(ws), dtype)

    def plan(
        self,
        size: int | tuple[int, int] | None = None,
        window: tuple[int, int, int, int] | None = None,
        sampling: str | coordinates.Sampling = coordinates.centers,
        supersample: int | None = None,
        warp: str | Map | None = None,
    ) -> Plan:
        """What to paint of an image; arguments and errors are those of plan.make_plan()."""
        return make_plan(self.shape, size, window, sampling, supersample, warp)

    def render(
        self, seed: int | None = None, *, dtype: type = np.uint8, **options: Any
    ) -> np.ndarray:
        """A window of an image: uint8 or float32 [height, width, channels].

        Arguments and errors are those of stream().
        """
        ws, plan = self.chosen(seed, **options)
        parts = self._stream(ws, plan, dtype)
        pixels = np.empty((*plan.window.shape, self.generator.config.image_channels), dtype)
        for part, values in parts:
            y, x = part.y0 - plan.window.y0, part.x0 - plan.window.x0
            pixels[y : y + values.shape[0], x : x + values.shape[1]] = values
        return pixels

    def stream(
        self, seed: int | None = None, *, dtype: type = np.uint8, **options: Any
    ) -> Iterator[tuple[Window, np.ndarray]]:
        """Yields (window, pixels) tile by tile, pixels uint8 or float32 [height, width, channels].

        Args:
          dtype: np.uint8, or np.float32 for numbers about [-1, 1].
          seed, options: of chosen().

        Raises:
          ValueError: says which argument is out of range, its value and what it must be; or, on
            the way, that a colour is no number.
        """
        return self._stream(*self.chosen(seed, **options), dtype)

    def _stream(
        self, ws: np.ndarray, plan: Plan, dtype: type
    ) -> Iterator[tuple[Window, np.ndarray]]:
        try:
            known = np.dtype(dtype) in (np.uint8, np.float32)
        except TypeError:
            known = False
        if not known:
            raise ValueError(f"dtype={dtype!r} must be numpy.uint8 or numpy.float32")
        if self.is_small(plan):
            return ((plan.window, pixels) for pixels in self.pictures(ws[None], plan, dtype))
        return self.paint(self.image(ws), plan, Blocks(plan.window, self.block), dtype)

    def save(
        self,
        path: str | os.PathLike,
        seed: int | None = None,
        *,
        part: tuple[int, int] = (0, 1),
        **options: Any,
    ) -> bool:
        """Writes a window of an image to a file, as `creps render` does; whether it is complete.

        Stopped or killed, the same call paints what is missing, also from the command's line.

        Args:
          path: ends in .png, .tif, .tiff, .zarr (also gs://...) or .dzi.
          part: index and count of the parts that several processes share the work in; False is
            returned where others are missing yet.
          seed, options: of chosen().

        Raises:
          ValueError: says which argument is out of range, its value and what it must be.
          OSError: the file cannot be written, or others are writing another picture there.
        """
        from creps_jax.rendering import saving  # Needs more packages than painting does.

        return saving.save(self, path, *self.chosen(seed, **options), part)

    def chosen(
        self,
        seed: int | None = None,
        *,
        ws: np.ndarray | None = None,
        label: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        styles: Mapping[int, int] | None = None,
        size: int | tuple[int, int] | None = None,
        window: tuple[int, int, int, int] | None = None,
        sampling: str | coordinates.Sampling = coordinates.centers,
        supersample: int | None = None,
        warp: str | Map | None = None,
    ) -> tuple[np.ndarray, Plan]:
        """The latents [num_ws, w_dim] of the image asked for, and what to paint of it.

        Args:
          seed, label, truncation, cutoff, styles: of latents().
          ws: latents [num_ws, w_dim] in the place of a seed.
          size, window, sampling, supersample, warp: of plan().

        Raises:
          ValueError: says which argument is out of range, its value and what it must be.
        """
        if (seed is None) == (ws is None):
            raise ValueError("give either a seed or ws")
        if ws is not None and not (
            label is cutoff is styles is None and is_number(truncation) and truncation == 1
        ):
            raise ValueError("label, truncation, cutoff and styles make ws: give them to latents()")
        plan = self.plan(size, window, sampling, supersample, warp)
        if ws is None:
            return self.latents(seed, label, truncation, cutoff, styles), plan
        return self._ws(ws), plan

    @rng.pinned()
    def tables(self, image: biline.Image, plans: Sequence[Plan]) -> Tables | None:
        """What the bi-lines of warped pictures of one image are interpolated from.

        None where all the plans' lines are exact: without a warp, or with a separable one.
        """
        mixed = [(plan.warped(), plan.window) for plan in plans if plan.frame() is None]
        return interpolated.tables(image, mixed, self.mesh) if mixed else None

    def paint(
        self,
        image: biline.Image,
        plan: Plan,
        windows: Collection[Window],
        dtype: type = np.uint8,
        tables: Tables | None = None,
    ) -> Iterator[tuple[Window, np.ndarray]]:
        """Yields the windows of a plan with their pixels, not always in the order given.

        Args:
          tables: of tables(), for this plan among others; made here if None and needed.

        Raises:
          ValueError: a colour is no finite number, the latents or the weights being too large.
        """
        frame = plan.frame()
        if frame is not None:
            parts = tiles.stream(image, frame, windows, self.mesh, plan.supersample)
        else:
            tables = tables or self.tables(image, [plan])
            parts = interpolated.stream(image, plan.warped(), tables, windows, self.mesh)
        for window, pixels in parts:
            yield window, to_dtype(window, pixels, dtype)

    def is_small(self, plan: Plan) -> bool:
        """Whether pictures() paints the plan: one tile holds its window, its lines are exact."""
        one = small.place(plan.window, plan.supersample, self.mesh)
        return one is not None and plan.frame() is not None

    def pictures(self, ws: np.ndarray, plan: Plan, dtype: type = np.uint8) -> Iterator[np.ndarray]:
        """Yields the window of a small plan of each of many images [height, width, channels].

        The pixels are those of stream(), in a fraction of the time.

        Args:
          ws: latents [N, num_ws, w_dim].
          plan: of which is_small() is true.

        Raises:
          ValueError: as paint() does.
        """
        frame, at_a_time = plan.frame(), MANY * self.mesh.size
        for start in range(0, len(ws), at_a_time):
            painted = rng.pinned()(small.paint)(
                self.generator,
                self._variables,
                PRECISIONS[self._precision],
                ws[start : start + at_a_time],
                frame,
                plan.window,
                plan.supersample,
                self.mesh,
            )
            for pixels in painted:
                yield to_dtype(plan.window, pixels, dtype)

    @rng.pinned()
    def warp_error(self, image: biline.Image, plan: Plan, tables: Tables) -> tuple[float, float]:
        """The greatest and the mean error of interpolated lines, 8-bit steps.

        Of WARP_SAMPLE samples of pixels at random places of the plan's window.

        Args:
          tables: of tables().
        """
        picture, random = plan.warped(), np.random.default_rng(0)
        h, w = (
            picture.samples(axis, 0, plan.size[axis] * k)[
                random.integers(plan.window[axis] * k, plan.window[axis + 2] * k, WARP_SAMPLE)
            ]
            for axis, k in enumerate(plan.supersample)
        )
        steps = interpolated.error(image, picture, tables, h, w, self.mesh)
        return float(steps.max()), float(steps.mean())

    def key(self, ws: np.ndarray, plan: Plan) -> str:
        """A digest of all that makes a picture: weights, latents, plan, devices and versions."""
        device = self.mesh.devices.flat[0]
        return keys.of_picture(self._weights, self._precision, self._ws(ws), plan, device)

    @functools.cached_property
    def _weights(self) -> "hashlib._Hash":
        return keys.of_weights(self.generator, self._variables)

    def _ws(self, ws: np.ndarray) -> np.ndarray:
        """The latents as float32 [num_ws, w_dim], checked."""
        config = self.generator.config
        return as_float32("ws", ws, (config.num_ws, config.w_dim))
