"""Output that nobody reads stops nothing."""

import concurrent.futures
import os
import subprocess
import sys

import pytest

from creps_jax import console

TALK = """
import logging, sys
from creps_jax import console
console.take_over()
with open(sys.argv[1], "w") as file:
    print("to nobody")
    print("to nobody", file=sys.stderr)
    logging.basicConfig()
    logging.error("to nobody")
    for _ in range(10**4):
        print("more than a pipe holds, " * 10)
    file.write("done")
"""


def run(redirections, path):
    command = f'"$0" -c "$1" "$2" {redirections}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, TALK, path],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "redirections",
    [
        "> /dev/full 2> /dev/full",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "| head -1",
        "2>&1 | true",
        "2>&1 | head -1 > /dev/full",
        "< /dev/null > /dev/null",
    ],
)
def test_output_that_nobody_reads_stops_nothing(redirections, tmp_path):
    result = run(redirections, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "done"
    # Of a pipe's processes, head fails at a full disk.
    assert result.returncode == (1 if "head -1 >" in redirections else 0)
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr


def test_what_is_read_is_whole_although_the_pipe_does_not_wait():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "a line of text\n" * 10**5
    with os.fdopen(reading) as file, concurrent.futures.ThreadPoolExecutor(1) as pool:
        received = pool.submit(file.read)
        with console.stream(writing) as stream:
            stream.write(text)
        os.close(writing)
        assert received.result() == text


def test_names_that_are_no_text_are_written_as_they_are(tmp_path):
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with console.stream(descriptor) as stream:
        print(os.fsdecode(b"r\xe9n"), file=stream)
    os.close(descriptor)
    assert path.read_bytes() == b"r\xe9n\n"
