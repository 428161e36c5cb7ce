"""A trained generator as one object that paints: what `creps_jax.load` returns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import sharding
from creps_jax.model import biline, coordinates
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering import render
from creps_jax.rendering.render import Window

Size = tuple[int, int]


class Painter:
    """Paints any window of an image of any size; an image depends on its latents alone.

    Attributes:
      generator: the Flax module; its config holds all widths.
      resolution: at which it was trained, px; the default size.
      mesh: this process's devices, as 'row' x 'column'.
    """

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
          ValueError: the precision is neither.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")
        self.generator = generator
        self.resolution = generator.config.resolution
        self.mesh = sharding.make_render_mesh(devices)
        self._dtype = PRECISIONS[precision]
        self._variables = jax.device_put(variables, sharding.named(self.mesh, "image"))

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
          ValueError: a seed, a layer, the cutoff or the label is out of range.
        """
        num_ws, styles = self.generator.config.num_ws, dict(styles or {})
        if not truncation >= 0.0:
            raise ValueError(f"truncation={truncation} must be a number from 0 up")
        if cutoff is not None and not 0 <= cutoff <= num_ws:
            raise ValueError(f"cutoff={cutoff} must be from 0 to {num_ws}, the number of layers")
        for layer in styles:
            if not 0 <= layer < num_ws:
                raise ValueError(f"styles: layer {layer} must be from 0 to {num_ws - 1}")
        with jax.default_matmul_precision("highest"):
            ws = {
                s: np.asarray(
                    render.latent(self.generator, self._variables, s, label, truncation, cutoff)
                )
                for s in {seed, *styles.values()}
            }
        return np.stack([ws[styles.get(layer, seed)][layer] for layer in range(num_ws)])

    def image(self, ws: np.ndarray) -> biline.Image:
        """What is common to all pixels of the image of ws [num_ws, w_dim], on the devices.

        Raises:
          ValueError: ws has another shape.
        """
        shape = (self.generator.config.num_ws, self.generator.config.w_dim)
        if np.shape(ws) != shape:
            raise ValueError(f"ws has shape {np.shape(ws)}, must be {shape}: [num_ws, w_dim]")
        with jax.default_matmul_precision("highest"):
            return render.fold(self.generator, self._variables, jnp.asarray(ws), self._dtype)

    def render(self, seed: int | None = None, **options: Any) -> np.ndarray:
        """A window of an image: uint8 or float32 [height, width, channels]. Takes stream()'s options.

        Raises:
          ValueError: as stream() and latents() do.
        """
        size = options.get("size") or (self.resolution, self.resolution)
        window = render.resolve_window(options.get("window"), size)
        pixels = None
        for part, values in self.stream(seed, **options):
            if pixels is None:
                pixels = np.empty((*window.shape, values.shape[-1]), values.dtype)
            y, x = part.y0 - window.y0, part.x0 - window.x0
            pixels[y : y + values.shape[0], x : x + values.shape[1]] = values
        return pixels

    def stream(
        self,
        seed: int | None = None,
        *,
        ws: np.ndarray | None = None,
        size: Size | None = None,
        window: tuple[int, int, int, int] | None = None,
        windows: Sequence[Window] | None = None,
        sampling: coordinates.Sampling = coordinates.centers,
        supersample: int | None = None,
        dtype: type = np.uint8,
        **latent_options: Any,
    ) -> Iterator[tuple[Window, np.ndarray]]:
        """Yields (window, pixels) tile by tile, uint8 or float32 [height, width, channels].

        Args:
          seed: the image's; its latents() take label, truncation, cutoff and styles.
          ws: latents [num_ws, w_dim] in the place of a seed.
          size: height and width of the frame, px; None: the training resolution.
          window: y0, x0, y1, x1 in pixels of the frame, half-open; None: all of it.
          windows: the tiles to yield; None: the window, cut along the frame's multiples of BLOCK.
          sampling: where in the image the frame's pixels are (coordinates.SAMPLINGS).
          supersample: a pixel is the mean of k x k; None: 1, but for pixel centres below the
            training resolution as many as it takes to leave out no training pixel.
          dtype: np.uint8, or np.float32 for numbers about [-1, 1].

        Raises:
          ValueError: an argument is out of range; says which, its value and what it must be.
        """
        if (seed is None) == (ws is None):
            raise ValueError(f"give either a seed or ws, got seed={seed} and ws={ws is not None}")
        size = size or (self.resolution, self.resolution)
        factors = self.supersample(size, sampling, supersample)
        fine = tuple(n * k for n, k in zip(size, factors, strict=True))
        render.make_frame(size, self.resolution, sampling)
        frame = render.make_frame(fine, self.resolution, sampling)
        whole = render.resolve_window(window, size)
        if windows is None:
            windows = render.blocks(whole)
        image = self.image(self.latents(seed, **latent_options) if ws is None else ws)
        return self._stream(image, frame, windows, factors, dtype)

    def supersample(
        self, size: Size, sampling: coordinates.Sampling, supersample: int | None
    ) -> tuple[int, int]:
        """Rows and columns of samples that make a pixel.

        Raises:
          ValueError: the supersample is not from 1 up.
        """
        if supersample is not None:
            if supersample < 1:
                raise ValueError(f"supersample={supersample} must be a whole number from 1 up")
            return supersample, supersample
        if sampling is coordinates.centers:
            return render.antialiasing(size, self.resolution)
        return 1, 1

    def _stream(self, image, frame, windows, factors, dtype):
        with jax.default_matmul_precision("highest"):
            for window, pixels in render.stream(image, frame, windows, self.mesh, factors):
                yield window, render.to_uint8(pixels) if dtype is np.uint8 else pixels


PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
