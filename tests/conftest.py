"""Strict JAX on eight simulated CPU devices; the environment must be set before jax is imported."""

import os
import pathlib
import shutil
import tempfile

import pytest

from experiments import quick_compile

# The simulated devices deadlock unless XLA's thread pool holds at least two threads for each.
os.environ.setdefault("NPROC", "32")
os.environ["JAX_PLATFORMS"] = "cpu"
# The command keeps compiled programs in the user's cache: here one of all tests' processes.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="creps-cache-")
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        quick_compile.FLAGS,
        os.environ.get("XLA_FLAGS", ""),
    ]
)

import jax

from creps_jax import places

places.use_gcsfs()  # As the commands do.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
# What one process of the tests has compiled, the others read.
jax.config.update("jax_compilation_cache_dir", f"{os.environ['XDG_CACHE_HOME']}/creps_jax")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def cache():
    """Folder of the compiled programs of training runs: the first that needs one compiles it."""
    return pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "runs"


@pytest.fixture
def no_cache():
    """No folder of compiled programs, for a while."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def pytest_unconfigure():
    """The last of the tests' processes removes what they shared."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


# With several processes the longest files must start first, or one of them ends alone.
LONGEST = [
    "test_runs.py",
    "test_buckets.py",
    "test_topology.py",
    "test_hosts.py",
    "test_loop.py",
    "test_parity.py",
    "test_step.py",
    "test_distributed.py",
    "test_restart.py",
    "test_pipeline.py",
    "test_writing.py",
    "test_render.py",
]


def pytest_collection_modifyitems(items):
    """Moves the tests of the longest files to the front."""
    names = [*LONGEST, None]
    items.sort(key=lambda item: names.index(item.path.name if item.path.name in names else None))
