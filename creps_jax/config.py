"""The config of a run: what its fields are, and from a config file to checked dataclasses.

What `field` and `share` make is given in config files. Here alone it is said what it means, its
range and its default; configs/default.py shows the same as a file. The dataclasses' other fields
follow from these. `parse` is the one door: what it lets through needs no further checks. Each
module takes only its own dataclass.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from creps_jax import conditions
from creps_jax.fields import checked, field, flatten, nested, share


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the training images come from."""

    shape: tuple[int, int]  # height and width, px, in which images are delivered
    image_channels: int  # 1 or 3
    num_classes: int  # 0: unconditional; else labels are classes 0..num_classes-1
    source: str = field(
        "folder:datasets/images", "or zip:, tar:, lmdb:PATH, tfds:NAME, procedural:COUNT"
    )
    mirror: bool = field(False, "flip each image left-right with probability 1/2")
    resize: bool = field(False, "scale and crop images of other sizes; False: they are an error")
    random_crop: bool = field(False, "crop a random window of larger images; False: the middle")
    max_unreadable: float = share(0.01, "largest share of unreadable files that is skipped")
    max_megapixels: float = field(
        128.0, "images of more pixels are unreadable; 12 bytes a pixel and thread"
    )
    threads: int = field(4, "decoding threads")
    workers: int = field(0, "decoding processes; 0: threads only, better on few cores", at_least=0)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The images that a network makes or judges, and its widths."""

    num_classes: int  # 0: unconditional
    image_channels: int  # 1 or 3
    channels: tuple[int, ...]  # widths of blocks 4, 8, ..., 4 * 2^k: of G's line layers, of D's all
    base: tuple[int, int] = (4, 4)  # h, w: images are h 2^k x w 2^k px

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the training images, px."""
        k = len(self.channels) - 1
        return self.base[0] << k, self.base[1] << k


@dataclasses.dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """Widths and constants of the generator."""

    z_dim: int = field(512, "size of the latent z")
    w_dim: int = field(512, "size of the latent w")
    mapping_layers: int = field(8, "layers from z to w")
    biline_channels: int = field(32, "channels of a line's features and of a pixel's")
    thickness: int = field(8, "products summed in a composition")
    bandwidth: float = field(10.0, "standard deviation of Fourier frequencies, cycles per image")

    @property
    def num_ws(self) -> int:
        """Number of latents w that the layers take: 2 k + 3."""
        return 2 * len(self.channels) + 1


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """Widths and constants of the discriminator."""

    mbstd_group_size: int = field(4, "images per group of the minibatch standard deviation")
    mapping_layers: int = field(8, "layers of the class mapping; conditional models only")


def widths(base: int, maximum: int) -> type:
    """What a config file gives for a network's channels, by default with these."""

    @dataclasses.dataclass(frozen=True)
    class Widths:
        channel_base: int = field(base, "block b has channel_base / b channels")
        channel_max: int = field(maximum, "largest number of channels of a block", at_least=2)

    return Widths


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """The optimisation of both networks; Adam's numbers are corrected for lazy regularisation."""

    batch_size: int  # images per step, over all devices
    learning_rate: float = field(0.002, "of Adam, for both networks")
    adam_b2: float = field(0.99, "decay of Adam's second moment", at_least=0, below=1)
    r1_gamma: float = field(2.0, "weight of R1; about x4 at twice the resolution", at_least=0)
    r1_interval: int = field(16, "steps from one R1 phase to the next")
    path_length_weight: float = field(2.0, "weight of the path-length penalty; 0: none", at_least=0)
    path_length_decay: float = share(0.01, "step of the running mean of path lengths")
    path_length_interval: int = field(4, "steps from one path-length phase to the next")
    path_length_batch_shrink: int = field(2, "path lengths are of batch_size / this images")
    w_avg_decay: float = share(0.998, "decay of the running mean of w")
    ema_kimg: float | None = field(None, "half-life of G's EMA; None: batch * 10/32", at_least=0)
    ema_rampup: float | None = field(
        None, "largest half-life, of the images seen; None: 0.05; fine-tuning: no limit", at_least=0
    )
    power_averages: bool = field(
        False, "keep two power-function averages of G, of which those of any length are made"
    )
    freeze_d: int = field(0, "D's first layers that do not learn: 1, then 3 a block", at_least=0)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of what the discriminator sees: None in a run that has none."""

    kind: str = field(
        "ada",
        "ada: p follows the discriminator; fixed: p stays; none",
        choices=("ada", "fixed", "none"),
    )
    p: float = share(0.0, "probability of each operation, at the beginning")
    target: float = share(0.6, "ada: mean sign of D's logits of reals that p is steered to")
    interval: int = field(4, "ada: steps from one adjustment of p to the next")
    kimg: float | None = field(None, "ada: kimg in which p rises by 1; None: 500, fine-tuning: 100")

    @property
    def adaptive(self) -> bool:
        """Whether p follows the discriminator (ADA)."""
        return self.kind == "ada"


@dataclasses.dataclass(frozen=True)
class LayoutConfig:
    """How a step is spread over devices and time; no number depends on it but by rounding."""

    row: int = field(1, "devices that share an image's rows; the others share the batch")
    column: int = field(1, "devices that share an image's columns")
    microbatches: int = field(1, "parts of the batch, one after the other: less memory")
    pixel_strips: int | None = field(
        None, "strips that G paints one after the other: less memory; None: what suits the device"
    )


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """When a run reports, and where to."""

    every_kimg: float = field(4.0, "kimg from one line of metrics to the next")
    grid_every_kimg: float = field(200.0, "kimg from one grid of fakes to the next")
    tensorboard: bool = field(True, "write its events; False: TensorFlow, 520 MiB, is not imported")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What a run measures of its average generator, and when."""

    metrics: str = field("", "as fd_lite,kd_lite (docs/evaluation.md); the first tells the best")
    every_kimg: float = field(200.0, "kimg from one evaluation to the next")
    images: int = field(10_000, "fakes; reals are all that there are, 50,000 at most", at_least=12)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When a run saves."""

    every_kimg: float = field(40.0, "kimg from one checkpoint to the next")
    keep: int = field(3, "newest ones kept; if one is damaged the one before is used", at_least=2)


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """When a run in trouble ends."""

    patience_kimg: float = field(200.0, "kimg of trouble until it stops; after a tenth it warns")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run: the top of a config file, and its sections."""

    seed: int = field(0, "of every random draw of the run", at_least=0, below=2**32)
    init_from: str | None = field(None, "fine-tuning: a run's workdir, or a file of weights")
    precision: str = field(
        "auto",
        "of products: float32, bfloat16; auto: bfloat16 on GPUs and TPUs",
        choices=("auto", "float32", "bfloat16"),
    )
    deterministic: bool = field(False, "GPUs: ask XLA for operations that are; slower")
    total_kimg: float = field(25000.0, "length of the run, kimg: thousands of real images shown")
    batch_size: int = field(32, "images per step, over all devices")
    resolution: int = field(256, "height of the training images, px: h * 2^k, h from 4 to 16")
    width: int | None = field(None, "px: w * 2^k, w from 4 to 16; None: as the height")
    image_channels: int = field(3, "3: RGB, 1: grey", choices=(1, 3))
    num_classes: int = field(0, "classes of a conditional model; 0: unconditional", at_least=0)
    data: DataConfig
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    recipe: RecipeConfig
    augment: AugmentConfig | None  # None: no augmentation
    layout: LayoutConfig
    report: ReportConfig
    evaluate: EvaluateConfig
    checkpoint: CheckpointConfig
    guard: GuardConfig

    def steps(self, kimg: float) -> int:
        """Training steps that last for so many kimg, at least one."""
        return max(1, math.ceil(round(kimg * 1000 / self.batch_size, 6)))

    @property
    def total_steps(self) -> int:
        """Length of the run in training steps."""
        return self.steps(self.total_kimg)


# The dataclasses whose fields a config file gives, by section; '' is the top.
SECTIONS: dict[str, tuple[type, ...]] = {
    "": (RunConfig,),
    "data": (DataConfig,),
    "generator": (GeneratorConfig, widths(65536, 1024)),
    "discriminator": (DiscriminatorConfig, widths(32768, 512)),
    "recipe": (RecipeConfig,),
    "augment": (AugmentConfig,),
    "layout": (LayoutConfig,),
    "report": (ReportConfig,),
    "evaluate": (EvaluateConfig,),
    "checkpoint": (CheckpointConfig,),
    "guard": (GuardConfig,),
}
FIELDS: dict[str, dataclasses.Field] = {
    f"{section}.{each.name}".removeprefix("."): each
    for section, kinds in SECTIONS.items()
    for kind in kinds
    for each in dataclasses.fields(kind)
    if each.metadata
}

# What may change when a run is continued: it changes no number of the training, or, where sums
# are taken in another order, its rounding.
_FREE_SECTIONS = ("layout.", "report.", "evaluate.", "checkpoint.", "guard.")
_FREE = {"deterministic", "total_kimg", "data.max_megapixels", "data.threads", "data.workers"}
MAY_CHANGE = frozenset(x for x in FIELDS if x in _FREE or x.startswith(_FREE_SECTIONS))


def parse_saved(config: Mapping[str, Any]) -> RunConfig:
    """A checkpoint's config: a field that may change may be newer than it, and is by default."""
    return parse({name: FIELDS[name].default for name in MAY_CHANGE} | flatten(config))


def parse(config: Any) -> RunConfig:
    """Check a config (nested dict, or ConfigDict) and give it its types.

    Raises:
      ValueError: names the field, its value and what it must be.
    """
    f = checked(flatten(config if isinstance(config, Mapping) else config.to_dict()), FIELDS)
    conditions.check(f)
    is_new = f["init_from"] is None
    stands_for = {
        "recipe.ema_kimg": f["batch_size"] * 10 / 32,
        "recipe.ema_rampup": 0.05 if is_new else None,
        "augment.kimg": 500.0 if is_new else 100.0,
    }
    f |= {name: value for name, value in stands_for.items() if f[name] is None}

    given, shape = nested(f), conditions.shape_of(f)
    k = conditions.halvings(shape)
    images = {"num_classes": f["num_classes"], "image_channels": f["image_channels"]}
    base = shape[0] >> k, shape[1] >> k

    def network(kind: type, channel_base: int, channel_max: int, **others: Any) -> Any:
        channels = conditions.channel_widths(channel_base, channel_max, 4 << k)
        return kind(**images, channels=channels, base=base, **others)

    sections = {
        "data": DataConfig(**images, shape=shape, **given["data"]),
        "generator": network(GeneratorConfig, **given["generator"]),
        "discriminator": network(DiscriminatorConfig, **given["discriminator"]),
        "recipe": RecipeConfig(batch_size=f["batch_size"], **given["recipe"]),
        "augment": None if f["augment.kind"] == "none" else AugmentConfig(**given["augment"]),
    }
    as_given = ("layout", "report", "evaluate", "checkpoint", "guard")
    sections |= {name: SECTIONS[name][0](**given[name]) for name in as_given}
    return RunConfig(**given | sections)
