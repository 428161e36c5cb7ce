"""Several processes as one program: how they are found, and how all end when one of them does."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import re
import signal
import socket
import time

import pytest

from creps_jax import distributed
from tests.helpers import several
from tests.helpers.processes import wait_until

# What they import takes longer than all that they do: it is imported once, they are forked.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([several.__name__])


def start(log, coordinator, process, doer="", deed="", silence_sec=8, wait_sec=60):
    """One process; its standard error goes to the file."""
    log.touch()
    arguments = (log, coordinator, process, doer, deed, silence_sec, wait_sec)
    started = FORKED.Process(target=several.run, args=arguments)
    started.start()
    return started


def exit_code(process, seconds=60):
    """Of a process that ends within that time."""
    process.join(seconds)
    assert process.exitcode is not None
    return process.exitcode


@contextlib.contextmanager
def two(folder, *body):
    """Both processes, once one is running, and their logs; none is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    logs = [folder / f"{process}.txt" for process in range(2)]
    both = [start(log, address, process, *body) for process, log in enumerate(logs)]
    try:
        wait_until(lambda: any("running" in log.read_text() for log in logs), seconds=120)
        yield both, logs
    finally:
        for process in both:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()


def ends(folder, *body):
    """Exit code and standard error of each process, and how long the last outlived the deed."""
    with two(folder, *body) as (both, logs):
        done = time.monotonic()
        codes = [exit_code(process) for process in both]
        return codes, [log.read_text() for log in logs], time.monotonic() - done


LOST, FAILED, STOPPED = distributed.LOST, distributed.FAILED, distributed.STOPPED
NAMED = r"Error: process {} of 2 \(\S+\) {}; start all processes again with the same commands"
KILLED, GONE = (NAMED.format("{0}", how) for how in ("was killed by signal 9", "is lost"))
TOLD = r"Error: process {} of 2 \(\S+\) ended with an error; its message says why"
KILL, FREEZE = (f"os.kill(own(), signal.SIG{name})" for name in ("KILL", "STOP"))
ERROR, RAISE = "raise SystemExit('Error: no images')", "raise RuntimeError('a bug')"

# Who does what -> exit codes, and how standard error ends, of each process.
CASES = {
    "nothing": ((), (0, 0), ("", "")),
    "the child of 1 is killed": (("1", KILL), (LOST, LOST), (GONE, KILLED)),
    "the child of 0 is killed": (("0", KILL), (LOST, LOST), (KILLED, GONE)),
    "the guard of 1 is killed": (
        ("1", "os.kill(guard(), signal.SIGKILL)"),
        (LOST, -signal.SIGKILL),
        (GONE, ""),
    ),
    "1 tells an error": (("1", ERROR), (FAILED, FAILED), (TOLD, "Error: no images")),
    "0 tells an error": (("0", ERROR), (FAILED, FAILED), ("Error: no images", TOLD)),
    "both tell an error": (("both", ERROR), (FAILED, FAILED), ("Error: no images",) * 2),
    "1 has a bug": (("1", RAISE), (LOST, LOST), (GONE, "RuntimeError: a bug")),
    "the end of a terminal": (
        ("both", "os.killpg(guard(), signal.SIGHUP)"),
        (STOPPED, STOPPED),
        ("stopped at", "stopped at"),
    ),
    "a request to 1": (
        ("1", "os.kill(guard(), signal.SIGINT)"),
        (STOPPED, STOPPED),
        ("stopped at", "stopped at"),
    ),
    "a request to all": (  # As SLURM does it: to the guards and to what they guard.
        ("both", "os.killpg(guard(), signal.SIGTERM)"),
        (STOPPED, STOPPED),
        ("stopped at", "stopped at"),
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of all cases: they mostly wait, so some run at once."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        started = {
            name: pool.submit(ends, tmp_path_factory.mktemp("logs"), *body)
            for name, (body, _, _) in CASES.items()
        }
        return {name: future.result() for name, future in started.items()}


@pytest.mark.parametrize("case", CASES)
def test_when_one_process_ends_all_do_and_say_why(outcomes, case):
    body, codes, last_lines = CASES[case]
    actual_codes, told, seconds = outcomes[case]
    assert tuple(actual_codes) == codes, told
    assert seconds < 20
    for pattern, text in zip(last_lines, told, strict=True):
        # JAX's log says in between that it has taken a request.
        last = ["", *(x for x in text.splitlines() if not re.match(r"running|W\d{4} ", x))][-1]
        assert re.match(pattern.format(*body[:1]), last) and bool(pattern) == bool(last), text
        assert "stack trace" not in text


def test_all_stop_at_one_step(outcomes):
    for case in ("a request to 1", "a request to all"):
        first, second = (re.search(r"stopped at (\d+)", text)[1] for text in outcomes[case][1])
        assert first == second


def test_a_frozen_process_is_lost(tmp_path_factory):
    def outcome(frozen):
        with two(tmp_path_factory.mktemp("logs"), str(frozen), FREEZE, 3) as (both, logs):
            return exit_code(both[1 - frozen]), logs[1 - frozen].read_text().splitlines()[-1]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # They mostly wait.
        for frozen, (code, told) in enumerate(pool.map(outcome, (0, 1))):
            assert code == LOST and re.match(GONE.format(frozen), told)


def test_a_second_request_acts_at_once(tmp_path):
    with two(tmp_path, "1", "import time; time.sleep(600)") as (both, _):
        for _ in range(2):
            os.kill(both[1].pid, signal.SIGTERM)
            time.sleep(0.5)
        assert exit_code(both[1], 10) == 128 + signal.SIGTERM


def test_a_coordinator_that_cannot_be_reached_is_named(tmp_path):
    log = tmp_path / "log.txt"
    assert exit_code(start(log, "127.0.0.1:1", 1, wait_sec=2)) == FAILED
    assert "Error: the processes did not all meet at 127.0.0.1:1 within 2 s" in log.read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("h:1", 2, None), "belong together"),
        (("auto", 2, 0), "belong together"),
        (("h", 2, 0), "must be HOST:PORT"),
        (("h:65536", 2, 0), "a port from 1 to 65535"),
        (("h:1", 2, 2), r"--process=2 must be one of 0..1"),
    ],
)
def test_flags_that_contradict_each_other_are_errors(flags, message):
    with pytest.raises(ValueError, match=message):
        distributed.cluster_of(*flags, {})


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # A batch script.
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"MEGASCALE_NUM_SLICES": "2"}, True),
    ],
)
def test_the_environment_tells_of_several_processes(environment, several):
    assert distributed.cluster_of(None, None, None, environment) == ({} if several else None)


def test_a_variable_that_is_not_a_number_is_named():
    with pytest.raises(ValueError, match="OMPI_COMM_WORLD_SIZE=two must be a number"):
        distributed.cluster_of(None, None, None, {"OMPI_COMM_WORLD_SIZE": "two"})
