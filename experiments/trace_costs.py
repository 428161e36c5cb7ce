"""The largest costs of a trace that `python -m creps_jax.main --profile ...` has written.

    python -m experiments.trace_costs --workdir=runs/demo --top=5

For each phase: its share of the time on the devices, and the functions of creps_jax whose
operations take most of it, backward passes included. An operation's time is its own, without that
of those inside it. The step is compiled again, with the config of the run, to learn where in the
source an operation comes from.
"""

import argparse
import collections
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from creps_jax.config import parse_saved
from creps_jax.training import programs
from creps_jax.training.task import make_task


def newest_trace(workdir: Path) -> list[dict[str, Any]]:
    """The events of the trace that was written last.

    Raises:
      SystemExit: there is none.
    """
    traces = sorted((workdir / "plugins" / "profile").glob("*/*.trace.json.gz"))
    if not traces:
        raise SystemExit(f"no trace in {workdir}/plugins/profile: train with --profile")
    return json.loads(gzip.decompress(traces[-1].read_bytes()))["traceEvents"]


def own_times(events: list[dict[str, Any]]) -> Iterator[tuple[str, str, float]]:
    """Program, operation and own time, microseconds, of each operation."""
    threads = collections.defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            threads[event["pid"], event["tid"]].append(event)
    for of_thread in threads.values():
        of_thread.sort(key=lambda e: (e["ts"], -e["dur"]))
        around: list[dict[str, Any]] = []
        inside: dict[int, float] = collections.defaultdict(float)
        for event in of_thread:
            while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"]:
                around.pop()
            if around:
                inside[id(around[-1])] += event["dur"]
            around.append(event)
        for event in of_thread:
            own = event["dur"] - inside[id(event)]
            yield event["args"]["hlo_module"], event["args"]["hlo_op"], own


def table(text: str, name: str) -> dict[str, str]:
    """One of the tables at the head of a compiled program: id -> line."""
    found = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.M)
    return dict(line.split(" ", 1) for line in found[1].splitlines()) if found else {}


def functions(text: str) -> dict[str, str]:
    """Operation -> the innermost function of creps_jax that it comes from, as 'layers.conv'."""
    names = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    files, called, locations, frames = (table(text, name) for name in names)

    def field(line: str, name: str) -> str:
        return re.search(rf"{name}=(\d+)", line)[1]

    def place(frame: str) -> str:
        while frame in frames:
            location = locations[field(frames[frame], "file_location_id")]
            file = files[field(location, "file_name_id")].strip('"')
            if "/creps_jax/" in file:
                function = called[field(location, "function_name_id")].strip('"')
                return f"{Path(file).stem}.{function.split('.<locals>')[0]}"
            # XLA prints a parent's number plus one; 1 is none.
            frame = str(int(field(frames[frame], "parent_frame_id")) - 1)
        return "other"

    operations = re.finditer(r"^ *(?:ROOT )?%(\S+) = .*stack_frame_id=(\d+)", text, re.M)
    return {match[1]: place(match[2]) for match in operations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--top", type=int, default=5, help="functions of each phase")
    arguments = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")  # As the run.
    events = newest_trace(arguments.workdir)
    config = parse_saved(json.loads((arguments.workdir / "config.json").read_text()))
    classes = config.generator.num_classes
    task = make_task(config, (1.0 / max(classes, 1),) * classes)
    places = {
        f"jit_{call.function.__name__}": functions(
            call.function.lower(task, *call.inputs).compile().as_text()
        )
        for call in programs.calls(task, *programs.abstract_inputs(task))
    }
    costs: dict[str, collections.Counter] = {program: collections.Counter() for program in places}
    for program, operation, microseconds in own_times(events):
        if program in places:
            costs[program][places[program].get(operation, "other")] += microseconds
    whole = sum(of.total() for of in costs.values())
    if not whole:
        raise SystemExit("the trace has none of the step's operations on this kind of device")
    for program, of in sorted(costs.items(), key=lambda item: -item[1].total()):
        print(f"{of.total() / whole:6.1%}  {program.removeprefix('jit_')}")
        for function, microseconds in of.most_common(arguments.top):
            print(f"{microseconds / whole:14.1%}  {function}")


if __name__ == "__main__":
    main()
