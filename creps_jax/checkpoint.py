"""Checkpoints of a run: saved in the background, verified before they are used.

A checkpoint is the folder <workdir>/checkpoints/<step>, on a disk or in a bucket: the items state,
ema, data and config, which has FORMAT beside it, and SHA256SUMS of all files, as Orbax notices
neither a flipped bit nor an emptied folder. Which of them are complete, commits.py knows.
"""

import concurrent.futures
import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from creps_jax import checksums, commits, devices, places
from creps_jax.config import parse_saved
from creps_jax.model.generator import Generator, Variables

_log = logging.getLogger(__name__)

# What a checkpoint's items hold, and how; to be raised with every change of that.
FORMAT = 1

_CHECKPOINTS = "checkpoints"
_CHOICES = 10  # of a checkpoint to load, while a run deletes what was chosen before
# How TensorStore names an error of the operating system.
_OS_ERROR = re.compile(r"\[OS error (\d+):|os_error_code='(\d+)'")
_HTTP_ERROR = re.compile("http_response_code=|curl_code=")  # The same of a bucket.

Read = TypeVar("Read")


class Checkpoints:
    """The checkpoints of one run: saves in the background, keeps the newest, restores the newest.

    A context manager: leaving it waits for the last save. Only one run may use a workdir at a time.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int) -> None:
        """Opens `<workdir>/checkpoints`, made if need be, to keep the newest `keep` checkpoints.

        Raises:
            ValueError: `keep` is below 2, which leaves nothing to fall back on.
        """
        if keep < 2:
            raise ValueError(
                f"keep must be at least 2 checkpoints, one to fall back on; got {keep}"
            )
        self._directory = places.path(workdir) / _CHECKPOINTS
        self._commits = commits.of(self._directory)
        self._keep = keep
        items = ocp.CompositeCheckpointHandler(
            state=_arrays_of_one_device(),
            ema=_arrays_of_one_device(),
            data=ocp.JsonCheckpointHandler(),
            config=ocp.JsonCheckpointHandler(),
        )
        self._orbax = ocp.AsyncCheckpointer(items)
        self._background = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._pending: concurrent.futures.Future | None = None
        if jax.process_index() == 0:
            self._commits.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the save in progress and raises the error that it met, if any."""
        self._background.shutdown()
        with contextlib.suppress(Exception):  # It raises again what was raised by the saves.
            self._orbax.close()
        self.wait()

    def check(self) -> None:
        """Raises the error of a save that has failed in the background, if one has.

        Raises:
            OSError: the disk fails, or is full.
        """
        if self._pending is not None and self._pending.done():
            self.wait()

    def save(
        self,
        step: int,
        *,
        state: Any,
        ema: dict,
        data: dict,
        config: dict,
        good_until: int | None = None,
        best: int | None = None,
    ) -> None:
        """Starts to save `step`; returns once the arrays are copied: they may be donated then.

        An error of the save before is raised here.

        Args:
            step: the number of finished training steps, which names the checkpoint.
            state: a pytree of arrays: all that training continues from but the EMA.
            ema: nested dicts of arrays: what rendering needs.
            data: the data iterator's state, of JSON values.
            config: the run's whole config, nested dicts of JSON values.
            good_until: if given, the run is in trouble since this step, and the newest checkpoint
                up to it is kept as well.
            best: if given, the step of a checkpoint that is kept as well.

        Raises:
            ValueError: there is a checkpoint of this step already.
            OSError: the disk fails, or is full.
        """
        self.wait()
        if self._commits.has(self._directory / str(step)):
            raise ValueError(f"{self._directory} holds a checkpoint of step {step} already")
        folder = self._commits.begin(step)
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            ema=ocp.args.PyTreeSave(ema),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave({"format": FORMAT, "config": config}),
        )
        with _disk_errors(folder):
            self._orbax.save(folder, args=items, force=True)
        self._pending = self._background.submit(self._finish, folder, good_until, best)

    def folder(self, until: int | None) -> Path | None:
        """Returns the newest checkpoint, or the newest up to a step; None if there is none."""
        self.wait()
        return _newest(self._commits.folders(), until)

    def latest_step(self) -> int | None:
        """Returns the newest undamaged checkpoint's step; None if no save ever finished.

        Newer, damaged ones are reported and renamed, out of the way of the steps to come.

        Raises:
            ValueError: there are damaged checkpoints only.
        """
        self.wait()
        if jax.process_index() == 0:
            self._set_damaged_aside()
        multihost_utils.sync_global_devices("creps_jax: damaged checkpoints are set aside")
        folders = self._commits.folders()
        # Process 0's word: what another sees on a network's disk may be older.
        newest = np.int32(int(folders[-1].name) if folders else -1)
        if (step := int(multihost_utils.broadcast_one_to_all(newest))) >= 0:
            return step
        if damaged := self._commits.damaged():
            raise ValueError(
                f"every checkpoint in {self._directory} is damaged ({', '.join(damaged)}): put an "
                "undamaged copy there, named by its step, or start anew in another --workdir"
            )
        return None

    def config(self, step: int) -> dict:
        """Returns the config that the checkpoint of `step` was saved with.

        Raises:
            ValueError: it is of another format.
        """
        return _read_config(self._directory / str(step))

    def data(self, step: int) -> dict:
        """Returns what was saved of the data with the checkpoint of `step`."""
        return _restore(self._directory / str(step), data=ocp.args.JsonRestore()).data

    def restore(self, step: int, abstract_state: Any, abstract_ema: dict) -> tuple[Any, dict, dict]:
        """Returns the state, the EMA and the data iterator's state that were saved at `step`.

        Args:
            step: what latest_step() returned.
            abstract_state: the state's pytree with jax.ShapeDtypeStruct leaves, whose shardings
                the restored arrays get, whatever devices they were saved from.
            abstract_ema: the same of the EMA.

        Raises:
            ValueError: it is damaged: it holds other arrays.
            OSError: the disk fails.
        """
        folder = self._directory / str(step)
        try:
            with _disk_errors(folder):
                restored = _restore(
                    folder,
                    state=ocp.args.StandardRestore(abstract_state),
                    ema=ocp.args.StandardRestore(abstract_ema),
                    data=ocp.args.JsonRestore(),
                )
        except ValueError as error:
            raise ValueError(
                f"{folder} is damaged: it lacks arrays of this run, or has others; rename it to "
                f"damaged-{step}, and the run continues from the checkpoint before it"
            ) from error
        return restored.state, restored.ema, restored.data

    def wait(self) -> None:
        """Returns once the save in progress has ended, and raises the error that it met, if any.

        Raises:
            OSError: the disk fails, or is full.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _finish(self, folder: Path, good_until: int | None, best: int | None) -> None:
        """Sums the written files, makes a checkpoint of them and deletes the oldest ones."""
        with _disk_errors(folder):
            self._orbax.wait_until_finished()
        if jax.process_index() != 0:
            return
        self._commits.finish(folder)
        folders = self._commits.folders()
        good = None if good_until is None else _newest(folders, good_until)
        for old in folders[: -self._keep]:
            if old != good and old.name != str(best):
                self._commits.delete(old)

    def _set_damaged_aside(self) -> None:
        for folder in reversed(self._commits.folders()):
            files = checksums.damaged_files(folder)
            if not files:
                return
            aside = self._commits.set_aside(folder)
            _log.error("%s is damaged: %s. Renamed to %s.", folder, ", ".join(files), aside)


def is_there_any(workdir: str | os.PathLike) -> bool:
    """Whether a workdir holds a checkpoint, on a disk or in a bucket; changes nothing there."""
    directory = places.path(workdir) / _CHECKPOINTS
    return directory.is_dir() and bool(commits.of(directory).folders())


def load_ema(path: str | os.PathLike) -> tuple[dict, dict]:
    """Returns the EMA that a run saved last, as nested dicts on the default device, and its config.

    Reads only these two items and changes no file: the run may still be training, on other devices.

    Args:
        path: a run's workdir, its checkpoints folder, or the folder of one step, on a disk or, as
            gs://..., in a bucket.

    Raises:
        FileNotFoundError: `path` is no folder, or there is no checkpoint in it.
        ValueError: the checkpoints there are all damaged, or of another format.
    """
    return _load(path, _read_ema, skip=("state/", "data/"))


class Saved(NamedTuple):
    """The networks of a checkpoint, and what is known of them."""

    networks: dict[str, Any]  # variables of G, D (unless imported without one) and G_ema
    config: dict  # of the run
    step: int | None  # None: the folder has another name
    imported: str | None  # the file that they are from
    figures: dict[str, float]  # of the run's last evaluation, with the step "evaluated"


def load_networks(path: str | os.PathLike) -> Saved:
    """Returns what a run saved last: what fine-tuning starts from, and what is exported.

    The variables are nested dicts on the default device; path and errors are those of load_ema.
    """
    return _load(path, _read_networks, skip=())


def _read_config(folder: Path) -> dict:
    saved = _restore(folder, config=ocp.args.JsonRestore()).config
    if (found := saved.get("format", "none")) != FORMAT:
        raise ValueError(
            f"the format number of the checkpoint {folder} is {found}, this version reads {FORMAT}"
            ": use the version that made it, or train anew in another --workdir"
        )
    return saved["config"]


def _read_ema(folder: Path) -> tuple[dict, dict]:
    config = _read_config(folder)
    target = ocp.args.StandardRestore(_on_default_device(folder / "ema"))
    return _restore(folder, ema=target).ema, config


def _read_networks(folder: Path) -> Saved:
    ema, config = _read_ema(folder)
    state = ocp.args.StandardRestore(_on_default_device(folder / "state"))
    state = _restore(folder, state=state).state
    networks = {"G": state["generator"], "D": state.get("discriminator"), "G_ema": ema}
    networks = {name: tree for name, tree in networks.items() if tree is not None}
    data = _restore(folder, data=ocp.args.JsonRestore()).data
    step = int(folder.name) if folder.name.isdecimal() else None
    figures = data.get("figures", {})
    if figures:
        figures = {"evaluated": data["evaluated"], **figures}
    return Saved(networks, config, step, data.get("imported"), figures)


def _on_default_device(item: Path) -> Any:
    metadata = ocp.StandardCheckpointHandler().metadata(item).tree
    device = jnp.zeros(()).sharding
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), metadata)


def load_generator(
    path: str | os.PathLike,
    load: Callable[[str | os.PathLike], tuple[Variables, dict]] = load_ema,
) -> tuple[Generator, Variables]:
    """Returns the generator that a run saved last, with its EMA's variables: see load_ema.

    Args:
        load: what reads the path in the place of load_ema.

    Raises:
        FileNotFoundError: `path` is no folder, or there is no checkpoint in it.
        ValueError: the checkpoints there are all damaged or of another format, or JAX finds no
            device.
        MemoryError: the device has no room for the weights.
    """
    devices.check()
    with devices.memory_errors(devices.FOR_PAINTING):
        variables, config = load(path)
    return Generator(parse_saved(config).generator), variables


def _load(path: str | os.PathLike, read: Callable[[Path], Read], skip: tuple[str, ...]) -> Read:
    """What is read from the newest checkpoint whose files but `skip` are undamaged.

    A run that trains there may delete what was chosen: then another one is chosen.
    """
    for _ in range(_CHOICES):
        folders = _folders_at(places.path(path))
        try:
            return read(_newest_undamaged(folders, skip))
        except Exception:
            if all(map(_is_there, folders)):  # None has gone away: that is not the reason.
                raise
    raise FileNotFoundError(
        f"the run in {path} deletes its checkpoints faster than they can be read from here: copy "
        "one and name the copy, or continue the run with a larger checkpoint.keep"
    )


def _folders_at(path: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, or the only one that the path names."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is no folder; expected a run's workdir, its checkpoints folder or one step's"
        )
    directory = path / _CHECKPOINTS if (path / _CHECKPOINTS).is_dir() else path
    is_one = (path / checksums.NAME).is_file()
    folders = [path] if is_one else commits.of(directory).folders()
    if not folders:
        raise FileNotFoundError(f"no checkpoint, which is a folder named by a step, in {directory}")
    return folders


def _newest_undamaged(folders: list[Path], skip: tuple[str, ...]) -> Path:
    for folder in reversed(folders):
        damaged = checksums.damaged_files(folder, skip)
        if not damaged:
            return folder
        if not _is_there(folder):
            raise FileNotFoundError(f"{folder} has gone away")
        _log.warning("%s is damaged: %s.", folder, ", ".join(damaged))
    where = folder if len(folders) == 1 else folder.parent
    raise ValueError(f"no undamaged checkpoint in {where}: {', '.join(damaged)} in {folder.name}")


def _is_there(folder: Path) -> bool:
    return commits.of(folder.parent).has(folder)


def _newest(folders: list[Path], until: int | None) -> Path | None:
    """Returns the last of the folders, of those up to a step if it is given."""
    if until is not None:
        folders = [folder for folder in folders if int(folder.name) <= until]
    return folders[-1] if folders else None


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Around what Orbax does in the folder: what the disk answered becomes an OSError.

    TensorStore tells it in the text of a ValueError, and Orbax may raise what came of that.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno is not None:
                raise OSError(cause.errno, cause.strerror, os.fspath(folder)) from error
            if told := _OS_ERROR.search(str(cause)):
                code = int(told[1] or told[2])
                raise OSError(code, os.strerror(code), os.fspath(folder)) from error
            cause = cause.__cause__ or cause.__context__
        is_value = isinstance(error, ValueError) and not _HTTP_ERROR.search(str(error))
        if places.is_in_bucket(folder) and not is_value:
            raise OSError(f"{folder}: {error}") from error
        raise


def _arrays_of_one_device() -> ocp.PyTreeCheckpointHandler:
    """A handler that saves one device's copy of each array, and not where it lay.

    By default each device saves a part of its copy, and has a program compiled for each shape to
    cut it out: with eight devices the first save holds a run up for ten seconds. Where arrays shall
    lie is said when they are restored; to write it takes a third of a save's time.
    """
    handler = ocp.type_handlers.ArrayHandler(
        use_replica_parallel=False, enable_write_sharding_file=False
    )
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, handler), (np.ndarray, ocp.type_handlers.NumpyHandler())
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _restore(folder: Path, **items: ocp.args.CheckpointArgs) -> ocp.args.Composite:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as orbax:
        return orbax.restore(folder, args=ocp.args.Composite(**items))
