"""Sets of images that are compared: reals of a source, and fakes of a generator.

Each has a key of all that its images depend on, a length, and images(start, stop), uint8
[stop - start, h, w, channels]. Image i is the same whichever others it comes with.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from creps_jax import rng, sharding
from creps_jax.config import DataConfig
from creps_jax.data.sources import Source
from creps_jax.model import biline, coordinates
from creps_jax.model.generator import Generator, Variables
from creps_jax.rendering import latents
from creps_jax.rendering.frame import antialiasing

AT_A_TIME = 64  # Fakes that a device paints in one call.
_PAINTED_PX = 2**16  # At a time, of several fakes or of a part of one.
_VERSION = 2  # Of this file: what it makes of the same inputs.


class Images(Protocol):
    """What both are."""

    key: str

    def __len__(self) -> int: ...

    def images(self, start: int, stop: int) -> np.ndarray: ...


class Crop(NamedTuple):
    """Which part of its frame an image is: all, or a window at random."""

    frame: tuple[int, int]  # height and width, px
    window: tuple[int, int]
    seed: int

    def corner(self, index: int) -> tuple[int, int]:
        """The first row and column of image `index`'s window."""
        random = np.random.default_rng((self.seed, index))
        highest = np.subtract(self.frame, self.window)
        y, x = random.integers(highest, endpoint=True)
        return int(y), int(x)

    def of(self, frame: np.ndarray, index: int) -> np.ndarray:
        """The window of image `index`, its frame [H, W, channels] given."""
        (y, x), (h, w) = self.corner(index), self.window
        return frame[y : y + h, x : x + w]


class Reals:
    """Images of a source, spread evenly over it if not all; none is mirrored."""

    def __init__(self, source: Source, config: DataConfig, crop: Crop, count: int) -> None:
        """Takes at most `count` of the source, whose images are no smaller than the frame."""
        self._source, self._threads = source, config.threads
        self.crop = crop
        count = min(count, len(source))
        self._chosen = np.linspace(0, len(source) - 1, count).astype(int)
        is_whole = crop.window == crop.frame
        described = {
            "images": [source.fingerprint, source.version()],
            "decoded": [config.shape, config.image_channels, config.resize, config.random_crop],
            "crop": crop._replace(seed=0) if is_whole else crop,
            "count": count,
        }
        self.key = digest("reals", described)

    def __len__(self) -> int:
        return len(self._chosen)

    def images(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start, h, w, channels].

        Raises:
          OSError: a file is gone, or damaged since it was checked.
        """

        def one(i: int) -> np.ndarray:
            image = self._source[int(self._chosen[i])]["image"]
            (height, width), (h, w, _) = self.crop.frame, image.shape
            y, x = (h - height) // 2, (w - width) // 2  # Sources of random crops are larger.
            return self.crop.of(image[y : y + height, x : x + width], i)

        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            return np.stack(list(pool.map(one, range(start, stop))))


class Fakes:
    """Images of a generator: image i is that of seed `crop.seed` + i, as `creps render` has it.

    Attributes:
      generator, variables: the generator, and its variables on one device.
      crop: which part of a frame an image is.
    """

    def __init__(
        self,
        generator: Generator,
        variables: Variables,
        mesh: Mesh,
        crop: Crop,
        count: int,
        label_shares: tuple[float, ...] = (),
        truncation: float = 1.0,
    ) -> None:
        """Takes the generator's variables, on any devices, and paints on those of the mesh.

        Args:
          label_shares: how often each class occurs; of a conditional generator.
        """
        self.generator, self._mesh, self.crop, self._count = generator, mesh, crop, count
        self._shares, self._truncation = label_shares, truncation
        self._samples = antialiasing(crop.frame, generator.config.shape)  # As rendered.
        host = jax.device_get(variables)
        # Latents on one device: XLA may compile a product for several so that it rounds otherwise.
        self.variables = jax.tree.map(jnp.asarray, host)
        self._painted = jax.tree.map(functools.partial(on_all, mesh, "state"), host)
        weights = hashlib.sha256()
        for path, array in jax.tree.leaves_with_path(host):
            weights.update(f"{path}{array.shape}".encode() + np.ascontiguousarray(array).data)
        described = {
            "weights": weights.hexdigest(),
            "generator": [dataclasses.asdict(generator.config), jnp.dtype(generator.dtype).name],
            "crop": crop,
            "count": count,
            "labels": label_shares,
            "truncation": truncation,
        }
        self.key = digest("fakes", described)

    def __len__(self) -> int:
        return self._count

    def latents(self, start: int, stop: int, shares: tuple[float, ...] | None = None) -> np.ndarray:
        """The latents of images' layers: float32 [stop - start, num_ws, w_dim].

        Args:
          shares: how often each class occurs; None: as told to __init__.
        """
        config, shares = self.generator.config, self._shares if shares is None else shares
        seeds = [(self.crop.seed + i) % 2**32 for i in range(start, stop)]
        z = latents.draw_z(seeds, config.z_dim)
        labels = np.array([self._label(i, shares) for i in range(start, stop)])
        ws = np.empty((stop - start, config.num_ws, config.w_dim), np.float32)
        for label in np.unique(labels):
            given = int(label) if config.num_classes else None
            of_label = labels == label
            ws[of_label] = latents.map_latents(
                self.generator, self.variables, z[of_label], given, self._truncation
            )
        return ws

    def _label(self, index: int, shares: tuple[float, ...]) -> int:
        """The class of an image, drawn as often as the shares say; 0 without classes."""
        if not self.generator.config.num_classes:
            return 0
        random = np.random.default_rng((self.crop.seed, index, 1))
        return int(random.choice(len(shares), p=np.array(shares)))

    def _positions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the rows and columns of an image's samples: float32 [h down] and [w across]."""
        of, corner, crop = self.generator.config.shape, self.crop.corner(index), self.crop
        y, x = (
            coordinates.positions(k * start, k * (start + side), k * whole, r)
            for k, start, side, whole, r in zip(
                self._samples, corner, crop.window, crop.frame, of, strict=True
            )
        )
        return y, x

    @rng.pinned()
    def images(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start, h, w, channels]."""
        some = range(start, stop)
        ws = self.latents(start, stop)
        y, x = (np.stack(each) for each in zip(*map(self._positions, some), strict=True))
        paint = painter(self.generator, self._mesh, self._samples)
        together = AT_A_TIME * self._mesh.size
        painted = []
        for first in range(0, len(some), together):
            rows = (each[first : first + together] for each in (ws, y, x))
            filled = (np.resize(each, (together, *each.shape[1:])) for each in rows)
            laid = (on_all(self._mesh, "grid", each) for each in filled)
            painted.append(np.asarray(paint(self._painted, *laid)))
        return np.concatenate(painted)[: len(some)]


def uniform(num_classes: int) -> tuple[float, ...]:
    """All classes as often."""
    return (1 / max(num_classes, 1),) * num_classes


def digest(kind: str, described: Any) -> str:
    """A name of what a description says."""
    text = json.dumps([_VERSION, kind, described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def on_all(mesh: Mesh, kind: str, array: np.ndarray) -> jax.Array:
    """An array that all processes have, laid out over the mesh."""
    layout = sharding.named(mesh, kind)
    return jax.make_array_from_callback(array.shape, layout, lambda part: array[part])


@functools.cache
def painter(generator: Generator, mesh: Mesh, samples: tuple[int, int]) -> Any:
    """variables, ws [n, num_ws, w_dim], y [n, H], x [n, W] -> uint8 [n, h, w, channels].

    A pixel is the mean of so many samples, H = h down, W = w across. n / devices are painted on
    each device, some at a time; all images are on every device in the end.
    """
    whole, split = (sharding.PARTITION_SPECS[kind] for kind in ("state", "grid"))

    def one(variables: Variables, ws: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
        image = generator.apply(variables, ws, method="image")
        image = biline.in_dtype(image, generator.dtype)
        rows, columns = biline.row_and_column_lines(image, y, x)

        def row_of_pixels(row: jax.Array) -> jax.Array:
            return biline.pixels(image, row[None], columns)[0]

        strip = max(1, _PAINTED_PX // len(x))
        pixels = jax.lax.map(row_of_pixels, rows, batch_size=min(strip, len(y)))
        down, across = samples
        pixels = pixels.reshape(len(y) // down, down, len(x) // across, across, -1).mean((1, 3))
        return jnp.clip(pixels * 127.5 + 128.0, min=0.0, max=255.0).astype(jnp.uint8)

    def some(variables: Variables, ws: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
        at_a_time = max(1, _PAINTED_PX // (y.shape[1] * x.shape[1]))
        return jax.lax.map(
            lambda each: one(variables, *each), (ws, y, x), batch_size=min(at_a_time, len(ws))
        )

    def paint(*inputs: Any) -> jax.Array:
        images = jax.shard_map(
            some, mesh=mesh, in_specs=(whole, split, split, split), out_specs=split, check_vma=False
        )(*inputs)
        return sharding.constrain(mesh, "state", images)

    return jax.jit(paint, compiler_options=sharding.compiler_options(mesh))
