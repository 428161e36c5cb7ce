"""The real commands on files, disks, containers and people as they are.

    python -m experiments.hard_ground --out=experiments/hard_ground.csv

Each case of hard_cases is a shell line in a folder of its own, with what is right beside it.
`train` is `python -m creps_jax.main` on the tiny network of kill_hunt, of which $RUN is a run.
`disk SIZE` and `rodisk` give a command a small or a read-only disk, `nobody` makes it that of a
user without a home or a name, and a case's `odd` makes calls of the system fail. A case is right if
its exit code, its output and its files are, and there is no traceback. Prints a table and writes it
as CSV, or as Markdown to FILE.md; ends with 1 if a case is wrong. `--only=TEXT` runs the cases
whose names hold the text.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import itertools
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from creps_jax import machine
from experiments import hard_cases
from experiments.hard_cases import CASES, Case
from experiments.kill_hunt import ROOT, TINY

COLUMNS = ("kind", "case", "command", "expected", "exit", "seconds", "verdict", "message")
NEVER = re.compile(
    r"Traceback|Event loop is closed|Segmentation fault|core dumped|Error in sitecustomize"
)
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

MOUNT = "unshare -rm sh -c 'mount -t tmpfs"

# Commands of the cases: name, and a script of bash.
SCRIPTS = {
    "python": 'exec $AS {python} "$@"',
    "creps": 'exec $AS {python} -m creps_jax.cli "$@"',
    "train": 'exec $AS {python} -m creps_jax.main --config={root}/configs/demo.py {flags} "$@"',
    # Disks of which this command alone knows.
    "disk": 'exec {mount} -o size=$0 tmpfs small && exec "$@"\' "$@"',
    "rodisk": 'exec {mount} -o ro tmpfs small && exec "$0" "$@"\' "$@"',
    "shm": 'exec {mount} -o size=$0 tmpfs /dev/shm && exec "$@"\' "$@"',
    "nobody": 'export AS="setpriv --reuid=12345 --regid=12345 --clear-groups"\n'
    'exec env -u HOME -u USER -u LOGNAME "$@"',
}
# What tells whether the machine allows them.
NEEDS = {
    "disk": "mkdir -p small && disk 1M true",
    "rodisk": "mkdir -p small && rodisk true",
    "shm": "shm 1M true",
    "nobody": "nobody python -c 'import creps_jax'",
    # Its workers must be able to start Python too.
    "nobody creps dataset": "nobody python -c 'import subprocess, sys; "
    'subprocess.run([sys.executable, "-c", ""], check=True)\'',
    "taskset": "taskset -c 0 true",
}


def make_commands(folder: Path, steps: int) -> None:
    """The scripts, in a folder for PATH."""
    fields = {**TINY, "total_kimg": steps * TINY["batch_size"] / 1000}
    flags = " ".join(f"--config.{name}={value}" for name, value in fields.items())
    folder.mkdir()
    for name, script in SCRIPTS.items():
        text = script.format(python=sys.executable, root=ROOT, flags=flags, mount=MOUNT)
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)


def environment(base: Path, case: Path) -> dict[str, str]:
    """Of a case: a home of its own, the cache of compiled programs shared by all."""
    return {
        "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
        # Python runs the sitecustomize.py in the case's folder odd, if there is one.
        "PYTHONPATH": f"{case / 'odd'}:{ROOT}",
        "HOME": str(case / "home"),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
        "RUN": str(base / "run"),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(base / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def shell(line: str, base: Path, case: Path, seconds: float) -> tuple[int | None, str]:
    """Exit code, None if it takes longer, and output of a line; nothing of it lives on."""
    with (case / "output").open("w+b") as output:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=case,
            env=environment(base, case),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        code = process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        return code, ANSI.sub("", output.read().decode(errors="replace"))


def message(output: str) -> str:
    """The first line of an error, or else of a warning, or else the last one."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output) if line.strip()]
    errors = [line for line in lines if re.search(r"Error\b|ERROR", line)]
    warnings = [line for line in lines if re.search(r"Warning\b|WARNING", line)]
    return next(iter(errors or warnings or lines[-1:]), "")[:200]


def verdict(case: Case, code: int | None, seconds: float, output: str, folder: Path) -> str:
    """'right', or what is wrong."""
    if code is None:
        return "WRONG: it hangs"
    if NEVER.search(output):
        return "WRONG: a traceback"
    if code not in case.codes:
        return "WRONG: exit code"
    if seconds > case.within_sec:
        return f"WRONG: slower than {case.within_sec} s"
    if not re.search(case.says, " ".join(output.split())):
        return "WRONG: its message"
    return "right" if case.holds(folder, code) else "WRONG: what it made"


def run(case: Case, base: Path, number: int, limit_sec: float) -> list[str]:
    """The case's row of the table."""
    folder = base / f"case{number:02d}"
    for name in ("home", "odd", "small"):
        (folder / name).mkdir(parents=True)
    case.place(folder)
    (folder / "odd" / "sitecustomize.py").write_text(case.odd)
    for path in (folder, *folder.glob("*")):
        path.chmod(0o777)  # For users without a name.
    row = [case.kind, case.name, case.command, case.expected]
    needed = [test for name, test in NEEDS.items() if re.search(rf"\b{name} ", case.command)]
    if any(shell(test, base, folder, limit_sec)[0] for test in needed):
        return [*row, "", "", "not possible here", ""]
    begun = time.perf_counter()
    code, output = shell(case.command, base, folder, limit_sec)
    seconds = time.perf_counter() - begun
    # Paths of this run say nothing to others.
    told = message(output).replace(f"{folder}/", "").replace(f"{base}/", "").replace("|", "/")
    judged = verdict(case, code, seconds, output, folder)
    return [*row, "" if code is None else str(code), f"{seconds:.1f}", judged, told]


def write(rows: list[list[str]], out: Path) -> None:
    """As CSV, or as a Markdown table without the commands."""
    if out.suffix != ".md":
        with out.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        return
    shown = [i for i, name in enumerate(COLUMNS) if name != "command"]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    text = "".join(f"| {' | '.join(line[i] for i in shown)} |\n" for line in lines)
    out.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--timeout", type=float, default=60, help="of a case, seconds")
    parser.add_argument("--jobs", type=int, default=machine.cores(), help="cases at a time")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.only in case.name]
    with tempfile.TemporaryDirectory(prefix="hard-ground-") as temporary:
        base = Path(temporary)
        base.chmod(0o777)
        make_commands(base / "bin", hard_cases.STEPS)
        (base / "cache").mkdir()
        for line in (hard_cases.RUN, f"{hard_cases.PICTURE}plain.png"):
            code, output = shell(line, base, base, 600)
            assert code == 0, output
        subprocess.run(["chmod", "-R", "a+rwX", base], check=True)
        rows = []

        def run_case(index: int) -> list[str]:
            return run(chosen[index], base, index, arguments.timeout)

        # Those that must be done within a time come last, one by one.
        timed = [i for i, case in enumerate(chosen) if math.isfinite(case.within_sec)]
        others = [i for i in range(len(chosen)) if i not in timed]
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for row in itertools.chain(pool.map(run_case, others), map(run_case, timed)):
                _, name, _, expected, code, seconds, judged, told = row
                print(f"{judged:24} {name} ({code}, {seconds} s): {expected}", flush=True)
                print(f"    {told}", flush=True)
                rows.append(row)
    if arguments.out:
        write(rows, arguments.out)
    verdicts = [row[COLUMNS.index("verdict")] for row in rows]
    wrong = sum(each.startswith("WRONG") for each in verdicts)
    impossible = verdicts.count("not possible here")
    print(f"{len(rows)} cases, {wrong} wrong, {impossible} not possible here")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
