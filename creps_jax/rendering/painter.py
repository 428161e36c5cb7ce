"""A trained generator as one object that paints: what `creps_jax.load` returns."""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import rng, sharding
from creps_jax.arguments import about
from creps_jax.model import biline, coordinates
from creps_jax.model.generator import Generator, Variables
from creps_jax.progress import Progress
from creps_jax.rendering import keys, latents, programs, small, tiles
from creps_jax.rendering.checks import as_float32, is_number
from creps_jax.rendering.colours import to_dtype
from creps_jax.rendering.plan import Plan, make_plan
from creps_jax.rendering.tiling import tiling_of
from creps_jax.rendering.warp import interpolated
from creps_jax.rendering.warp.maps import Map
from creps_jax.rendering.warp.tables import Table
from creps_jax.rendering.windows import BLOCK, Blocks, Window

Tables = tuple[Table, Table]  # of rows and of columns

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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
        """Small pictures that the devices are best asked for at a time, see pictures()."""
        return small.at_a_time(self._variables, self.mesh)

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
        with about("styles"):
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
        # On one device: XLA may compile a product for several so that it rounds otherwise.
        variables = jax.tree.map(lambda x: x.addressable_shards[0].data, self._variables)
        return latents.map_latents(self.generator, variables, z, *options)

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
        path: str | os.PathLike[str],
        seed: int | Sequence[int] | None = None,
        *,
        ws: np.ndarray | None = None,
        label: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        styles: Mapping[int, int] | None = None,
        part: tuple[int, int] = (0, 1),
        shown: Progress | None = None,
        note: Callable[[str], None] = lambda text: None,
        **options: Any,
    ) -> bool:
        """Writes images, or a window of each, to files, as `creps render` does.

        Files are complete or absent. Stopped or killed, the same call paints what is missing, also
        from the command's line; what is complete is left as it is.

        Args:
          path: for one image a file, .png, .tif, .tiff, .zarr (also gs://...) or .dzi; else the
            folder of seed0000.png, ..., made if need be.
          seed: one, or several, each of which is an image.
          ws: latents [num_ws, w_dim] in the place of a seed, for a file.
          label, truncation, cutoff, styles: of latents().
          part: index and count of the parts that several processes share the work in.
          shown: where it tells how far it is, as of progress.progress().
          note: told in sentences what is written, and how exact it is.
          options: size, window, sampling, supersample and warp of plan().

        Returns:
          whether the image is complete; False where other parts of it are missing yet. Of several
          images, those of this part are.

        Raises:
          ValueError: says which argument is out of range, its value and what it must be.
          OSError: a file cannot be written, or others are writing another picture there.
        """
        from creps_jax.rendering import saving  # Needs more packages than painting does.

        _check_either(seed, ws)
        seeds = [None] if seed is None else latents.each_seed(seed)
        latents_of = self._latents_by(ws, label, truncation, cutoff, styles)
        return saving.save(self, path, seeds, latents_of, self.plan(**options), part, shown, note)

    def chosen(
        self,
        seed: int | None = None,
        *,
        ws: np.ndarray | None = None,
        label: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        styles: Mapping[int, int] | None = None,
        **options: Any,
    ) -> tuple[np.ndarray, Plan]:
        """The latents [num_ws, w_dim] of the image asked for, and what to paint of it.

        Args:
          seed, label, truncation, cutoff, styles: of latents().
          ws: latents [num_ws, w_dim] in the place of a seed.
          options: size, window, sampling, supersample and warp of plan().

        Raises:
          ValueError: says which argument is out of range, its value and what it must be.
        """
        _check_either(seed, ws)
        plan = self.plan(**options)
        (chosen,) = self._latents_by(ws, label, truncation, cutoff, styles)([seed])
        return chosen, plan

    def _latents_by(
        self, ws: np.ndarray | None, *options: Any
    ) -> Callable[[Sequence[int | None]], np.ndarray]:
        """What gives the latents [N, num_ws, w_dim] of N seeds; those of ws for any one.

        Args:
          ws: as it was given.
          options: label, truncation, cutoff and styles.
        """
        if ws is None:
            return lambda seeds: self.latents_of(seeds, *options)
        label, truncation, cutoff, styles = options
        if not (label is cutoff is styles is None and is_number(truncation) and truncation == 1):
            raise ValueError("label, truncation, cutoff and styles make ws: give them to latents()")
        checked = self._ws(ws)
        return lambda seeds: checked[None]

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
        products = PRECISIONS[self._precision]
        for pixels in small.stream(self.generator, self._variables, products, ws, plan, self.mesh):
            yield to_dtype(plan.window, pixels, dtype)

    @rng.pinned()
    def warp_error(self, image: biline.Image, plan: Plan, tables: Tables) -> tuple[float, float]:
        """The greatest and the mean error of interpolated lines in a sample, 8-bit steps.

        Args:
          tables: of tables().
        """
        return interpolated.sampled_error(image, plan.warped(), plan.window, tables, self.mesh)

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


def _check_either(seed: Any, ws: Any) -> None:
    """Raises ValueError unless there is a seed or there are latents."""
    if (seed is None) == (ws is None):
        raise ValueError("give either a seed or ws")
