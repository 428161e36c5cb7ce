"""Which operations of a step may give other last bits each time on GPUs, by what XLA says of them.

Some add in the order in which threads come to it. Of others the compiler measures several kinds and
takes the fastest, another one at another start, with sums in another order. Both are what
https://openxla.org/xla/determinism names; of sums between devices it says nothing.
"""

import re

from creps_jax.training import programs
from creps_jax.training.state import Task

# XLA's names, in a program that is not yet compiled, of what it says it of.
_NAMED = {
    "products": r"stablehlo\.dot_general",
    "convolutions": r"stablehlo\.convolution",
    # Where each index comes once, nothing is added.
    "scatters": r"stablehlo\.scatter\".*unique_indices = false|stablehlo\.select_and_scatter",
}


def operations(text: str) -> list[str]:
    """The kinds of such operations in a program, `lowered.as_text()`."""
    return [kind for kind, named in _NAMED.items() if re.search(named, text)]


def of_step(task: Task) -> dict[str, list[str]]:
    """Such operations of a step, and the names of the phases that have them."""
    found: dict[str, list[str]] = {}
    for call in programs.calls(task, *programs.abstract_inputs(task)):
        for kind in operations(call.function.lower(task, *call.inputs).as_text()):
            found.setdefault(kind, []).append(call.name)
    return found


def line(found: dict[str, list[str]], is_asked: bool) -> str:
    """What a run on GPUs says at its start of what `of_step` found; asked for others, or not."""
    told = ", ".join(f"{kind} ({', '.join(names)})" for kind, names in found.items())
    if is_asked:
        return f"deterministic=True: XLA is asked for deterministic {told}."
    return (
        f"Not deterministic on GPUs, by what XLA says: {told}. The same run may end in other last "
        "bits; --config.deterministic=True asks XLA for slower ones that are."
    )
