"""Several processes as one program: how they find each other, and how all end when one is lost.

JAX cannot go on without one of its processes: the others hang in a collective or are aborted, past
the reach of Python. So each process is two: a guard, which was started and computes nothing, and
its child, which does the work. Guards hold a connection each to that of process 0:

    guard 0 <--- TCP ---> guard 1, guard 2, ...     a connection that ends names who is lost
      | pipe                | pipe
    child 0 <--- JAX ---> child 1, child 2, ...

A guard hands SIGTERM and Ctrl-C on to its child, as SIGTERM, by which JAX stops all at one step.
"""

import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

STOPPED = 75  # exit code: stopped on request, the state is saved, the same command continues
LOST = 69  # exit code: a process is lost, the same commands continue from the last checkpoint
FAILED = 1  # exit code: an error that a user can mend, told in one line

AUTO = "auto"
_CONNECT_SEC = 60  # for guards to connect once their children have
_GRACE_SEC = 5  # for the end of a child whose fellow has ended with an error
_SILENCE_SEC = (10, 5, 4)  # a host is dead after 10 s of silence and 4 questions, 5 s apart


def cluster_of(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    environment: Mapping[str, str],
) -> dict[str, Any] | None:
    """Arguments of jax.distributed.initialize, empty if JAX finds them; None for one process.

    Args:
      coordinator: HOST:PORT of process 0, AUTO, or None to look at the environment.
      processes: the number of processes.
      process: the index of this one.
      environment: the variables of SLURM, Open MPI or a TPU pod.

    Raises:
      ValueError: the flags contradict each other, or a variable is not a number.
    """
    if coordinator == AUTO and processes is None and process is None:
        return {}
    if coordinator is None and processes is None and process is None:
        return {} if _is_one_of_several(environment) else None
    if coordinator in (None, AUTO) or processes is None or process is None:
        raise ValueError(
            f"--coordinator={coordinator}, --processes={processes} and --process={process} belong "
            "together: give all three, none, or --coordinator=auto alone"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"--coordinator={coordinator} must be HOST:PORT, as in 10.0.0.1:1234, with a port from "
            "1 to 65535"
        )
    if not 0 <= process < processes:
        raise ValueError(
            f"--process={process} must be one of 0..{processes - 1}, for --processes={processes}"
        )
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
    }


def _is_one_of_several(environment: Mapping[str, str]) -> bool:
    def number(name: str) -> int:
        value = environment.get(name) or "1"
        if not value.isdecimal():
            raise ValueError(f"the environment's {name}={value} must be a number of processes")
        return int(value)

    return (
        # A batch script has SLURM_NTASKS too, but only what srun starts has a step.
        ("SLURM_STEP_NODELIST" in environment and number("SLURM_NTASKS") > 1)
        or number("OMPI_COMM_WORLD_SIZE") > 1
        or number("MEGASCALE_NUM_SLICES") > 1
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    )


@contextlib.contextmanager
def joined(cluster: dict[str, Any] | None, wait_sec: int) -> Iterator[None]:
    """Around the work of one of several processes; for None, one process, it does nothing.

    The body runs in a child; the process that was started guards it and ends with
      the child's exit code,
      LOST if a process was lost, killed or ended by an exception: one line says which,
      FAILED if another process ended with an error that it has told.

    Args:
      cluster: what `cluster_of` returned.
      wait_sec: how long processes wait for each other at the start.
    """
    if cluster is None:
        yield
        return
    server = socket.create_server(("", 0))  # Process 0's is the one that is used.
    reading, writing = os.pipe()
    sys.stdout.flush()
    guard = os.getpid()
    if child := os.fork():
        os.close(writing)
        code = _Guard(child, os.fdopen(reading), server).watch(cluster, wait_sec)
        sys.stderr.flush()
        os._exit(code)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no guard, no child.
    if os.getppid() != guard:
        os._exit(LOST)
    os.close(reading)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The guard hands it on.
    try:
        _connect(cluster, wait_sec, server, writing)
        yield
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code in (None, 0, STOPPED)):
            _end_at_once(error)
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def _end_at_once(error: BaseException) -> None:
    """As Python ends at an error, but JAX does not wait for the other processes.

    An exception may be the loss of another process, at the other end of a collective.
    """
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        code = LOST
    elif isinstance(error.code, int):
        code = error.code
    else:
        print(error.code, file=sys.stderr)
        code = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _connect(cluster: dict[str, Any], wait_sec: int, server: socket.socket, pipe: int) -> None:
    """JAX's connection of all processes; tells the guard where guard 0 is to be found."""
    jax.distributed.initialize(**cluster, initialization_timeout=wait_sec)
    if jax.process_index():  # Only process 0 tells.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    hosts = [cluster.get("coordinator_address", "").rpartition(":")[0].strip("[]"), *_own_hosts()]
    meeting = {
        "hosts": [host for host in hosts if host],
        "port": server.getsockname()[1],
        "token": secrets.token_hex(8),
    }
    message = np.frombuffer(json.dumps(meeting).encode().ljust(1024), np.uint8)
    meeting = json.loads(bytes(multihost_utils.broadcast_one_to_all(message)))
    own = {"index": jax.process_index(), "count": jax.process_count()}
    os.write(pipe, f"{json.dumps(own | meeting)}\n".encode())  # Left open: its end is the child's.
    server.close()
    print(f"{jax.process_count()} processes, {jax.local_device_count()} devices each.", flush=True)


def _own_hosts() -> list[str]:
    """This host's name, and its address in the network of its default route, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # Sends nothing.
        return [socket.gethostname(), probe.getsockname()[0]]
    return [socket.gethostname()]


class _Link(NamedTuple):
    """A connection to the guard of another process; it carries lines of JSON."""

    index: int
    host: str
    connection: socket.socket
    lines: IO[bytes]

    def fileno(self) -> int:
        return self.connection.fileno()

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # Reading will find the connection ended.
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Any:
        """The next message; None once the connection has ended."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.lines.readline())
        return None


def _link(index: int, host: str, connection: socket.socket) -> _Link:
    """With the kernel's questions whether the other host is alive."""
    connection.settimeout(_CONNECT_SEC)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    for option, value in zip(options, _SILENCE_SEC, strict=True):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return _Link(index, host, connection, connection.makefile("rb", buffering=0))


class _Loss(NamedTuple):
    """Which process ended, and how: 'is lost', 'was killed by signal 9', 'ended with code 1'."""

    index: int
    host: str
    how: str
    is_error: bool = False  # It ended with an error that it has told.


class _Guard:
    """Watches one child and the other guards."""

    def __init__(self, child: int, pipe: IO[str], server: socket.socket):
        self._child, self._pipe, self._server = child, pipe, server
        self._code: int | None = None  # how the child ended; -N by signal N
        self._requests: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hand_on)

    def _hand_on(self, number: int, frame: Any) -> None:
        """The first request stops all processes at one step; a second one acts at once."""
        self._kill(signal.SIGKILL if self._requests else signal.SIGTERM)
        self._requests.append(number)

    def _kill(self, number: int) -> None:
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, number)

    def _reap(self) -> int:
        """The child's code, once it has ended."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._code

    def watch(self, cluster: dict[str, Any], wait_sec: int) -> int:
        """Until the end of this process; returns its exit code."""
        told = self._pipe.readline()
        if not told:
            return self._ended_before_connecting(cluster, wait_sec)
        meeting = json.loads(told)
        index, count = meeting["index"], meeting["count"]
        try:
            links = self._accept(meeting) if index == 0 else [_call(meeting)]
        except OSError as error:
            print(f"Error: process {index} of {count}: {error}", file=sys.stderr)
            self._kill(signal.SIGKILL)
            return 1
        loss = self._watch(index, links)
        return self._reap() if loss is None else self._end(index, count, loss)

    def _ended_before_connecting(self, cluster: dict[str, Any], wait_sec: int) -> int:
        code = self._reap()
        if self._requests:
            return 128 + self._requests[-1]
        if code < 0:  # JAX aborts; else the traceback says why.
            where = cluster.get("coordinator_address", "the coordinator that JAX found")
            print(
                f"Error: the processes did not all meet at {where} within {wait_sec} s "
                "(--wait_sec): see that all were started, that process 0 runs on that host and "
                "the port is free there, and that no firewall is in between",
                file=sys.stderr,
            )
        return FAILED  # Starting again would not help.

    def _accept(self, meeting: dict[str, Any]) -> list[_Link]:
        """The connections of all other guards.

        Raises:
          OSError: some did not connect.
        """
        links: dict[int, _Link] = {}
        end = time.monotonic() + _CONNECT_SEC
        while len(links) < meeting["count"] - 1:
            self._server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                connection, _ = self._server.accept()
            except TimeoutError as error:
                missing = sorted(set(range(1, meeting["count"])) - links.keys())
                raise OSError(
                    f"the guards of processes {missing} did not connect to port {meeting['port']}"
                ) from error
            hello = _link(0, "", connection).receive()
            if isinstance(hello, dict) and hello.get("token") == meeting["token"]:
                links[hello["index"]] = _link(hello["index"], hello["host"], connection)
        return list(links.values())

    def _watch(self, index: int, links: list[_Link]) -> _Loss | None:
        """Until this process or another has ended; whose end is to blame, None for a good end."""
        running, own, end = {link.index: link for link in links}, None, None
        while running or self._code is None:
            waiting = [*running.values(), *([self._pipe] if self._code is None else [])]
            left = None if end is None else max(end - time.monotonic(), 0)
            ready, _, _ = select.select(waiting, [], [], left)
            if not ready:  # No other process is to blame.
                return own
            # Others first: their end may be why this child has ended.
            for link in (ready_one for ready_one in ready if ready_one is not self._pipe):
                message = link.receive()
                if message == "ended":
                    del running[link.index]
                    continue
                loss = _Loss(*message) if message else _Loss(link.index, link.host, "is lost")
                return self._judge(index, links, loss)
            if self._pipe in ready:
                code = self._reap()
                if code in (0, STOPPED):
                    for link in links:
                        link.send("ended")
                    if index:  # Guard 0 waits for all, or its end would look like a loss.
                        return None
                    continue
                own = _Loss(index, socket.gethostname(), _how(code), is_error=code == FAILED)
                if index == 0:
                    return self._judge(index, links, own)
                links[0].send(own)  # Guard 0 answers, unless it is lost itself.
                end = time.monotonic() + _GRACE_SEC
        return None

    def _judge(self, index: int, links: list[_Link], loss: _Loss) -> _Loss:
        """The first loss that guard 0 hears of is the one that all name."""
        if index == 0:
            for link in links:
                link.send(loss)
        return loss

    def _end(self, index: int, count: int, loss: _Loss) -> int:
        """Ends the child, says why, and returns this process's code."""
        if loss.is_error and self._code is None:  # This one may be about to end by the same error.
            select.select([self._pipe], [], [], _GRACE_SEC)
        self._kill(signal.SIGKILL)
        code = self._reap()
        if len(self._requests) > 1:
            return 128 + self._requests[-1]
        if loss.index == index and code > 0:
            return code  # It has said why.
        what_to_do = (
            "its message says why"
            if loss.is_error
            else "start all processes again with the same commands: the run continues from its "
            "last checkpoint"
        )
        print(
            f"Error: process {loss.index} of {count} ({loss.host}) {loss.how}; {what_to_do}",
            file=sys.stderr,
        )
        return FAILED if loss.is_error else LOST


def _call(meeting: dict[str, Any]) -> _Link:
    """The connection to the guard of process 0, at one of its hosts.

    Raises:
      OSError: none can be reached.
    """
    failures = []
    for host in meeting["hosts"]:
        try:
            connection = socket.create_connection((host, meeting["port"]), timeout=10)
        except OSError as error:
            failures.append(f"{host}: {error}")
            continue
        link = _link(0, host, connection)
        own = {"index": meeting["index"], "host": socket.gethostname(), "token": meeting["token"]}
        link.send(own)
        return link
    raise OSError(
        f"cannot reach process 0 at port {meeting['port']} ({'; '.join(failures)}); let the hosts "
        "of a run reach each other at all ports"
    )


def _how(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
