"""Speed of InceptionV3, against that of its convolutions alone and of a matrix product.

    python -m experiments.inception_benchmark --out=experiments/inception_benchmark.csv

The network is timed as XLA's defaults compile it, and with our options; each of its convolutions,
and the product that ends it, alone at the same shapes, both ways, of which the faster counts. All
in turn, as often as --rounds says; the shortest times are told: of others that use the machine,
they tell least. Prints a table, and the network's rate as a share of that of its convolutions.
"""

import argparse
import csv
import functools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from creps_jax import devices, sharding
from creps_jax.evaluation import inception

Call = Callable[[], Any]

SIDE_PX = 256  # of the images
PRODUCT = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=16, help="images at a time")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed")
    parser.add_argument("--out", type=Path, help="CSV to write")
    arguments = parser.parse_args()
    devices.check()
    rows = measure(arguments.batch, arguments.rounds)
    print("| | images/s | GFLOP/s |\n|---|---|---|")
    for row in rows:
        print("| {what} | {images_per_sec} | {gflops_per_sec} |".format_map(row))
    share = rows[0]["images_per_sec"] / rows[2]["images_per_sec"]
    print(f"\nThe network runs at {share:.0%} of its convolutions' rate.")
    if arguments.out:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def measure(batch: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of the table: network, network by XLA's defaults, convolutions, matrix product."""
    network = inception.InceptionV3()
    images = np.random.default_rng(0).integers(0, 256, (batch, SIDE_PX, SIDE_PX, 3), np.uint8)
    variables = jax.jit(network.init)(jax.random.key(0), images[:1])
    layers = layers_of(network.apply, variables, images)
    square = jnp.ones((PRODUCT, PRODUCT), jnp.float32)
    alone = {layer: both_ways(*layer_alone(*layer)) for layer in layers}
    times = shortest(
        rounds,
        both_ways(network.apply, variables, images),
        both_ways(jnp.matmul, square, square),
        *alone.values(),
    )
    flops = sum(count * flops_of(*layer) for layer, count in layers.items())
    (ours, default), product, *of_layers = times
    convolutions = sum(
        count * min(pair) for count, pair in zip(layers.values(), of_layers, strict=True)
    )
    at_product = flops * min(product) / (2 * PRODUCT**3)
    return [
        {
            "what": what,
            "images_per_sec": round(batch / seconds, 2),
            "gflops_per_sec": round(flops / seconds / 1e9, 1),
        }
        for what, seconds in (
            ("network", ours),
            ("network, XLA's default options", default),
            ("its convolutions alone", convolutions),
            (f"a {PRODUCT}^3 matrix product", at_product),
        )
    ]


# A layer: its primitive, its parameters, and the shapes of what it takes.
Layer = tuple[Any, tuple[tuple[str, Any], ...], tuple[tuple[int, ...], ...]]


def layers_of(function: Callable[..., Any], *inputs: Any) -> Counter[Layer]:
    """The convolutions and matrix products of a function, and how often each is in it."""
    return Counter(
        (
            equation.primitive,
            tuple(equation.params.items()),
            tuple(x.aval.shape for x in equation.invars),
        )
        for equation in jax.make_jaxpr(function)(*inputs).eqns
        if equation.primitive.name in ("conv_general_dilated", "dot_general")
    )


def layer_alone(
    primitive: Any, parameters: tuple[tuple[str, Any], ...], shapes: tuple[tuple[int, ...], ...]
) -> tuple[Any, ...]:
    """A layer as a function, and inputs of it."""
    function = functools.partial(primitive.bind, **dict(parameters))
    return function, *(jnp.ones(shape, jnp.float32) for shape in shapes)


def flops_of(*layer: Any) -> float:
    """Of a layer, before XLA optimises it."""
    function, *inputs = layer_alone(*layer)
    return jax.jit(function).lower(*inputs).cost_analysis()["flops"]


def both_ways(function: Callable[..., Any], *inputs: Any) -> tuple[Call, Call]:
    """Calls of a function as compiled with our options, and with XLA's defaults."""
    ours = sharding.compiler_options(sharding.make_mesh())
    lowered = jax.jit(function).lower(*inputs)
    return tuple(
        functools.partial(lowered.compile(compiler_options=options), *inputs)
        for options in (ours, {})
    )


def shortest(rounds: int, *pairs: tuple[Call, Call]) -> list[tuple[float, float]]:
    """Wall times of all calls, in turns: the least of each, after a first one."""

    def seconds(call: Call) -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - start

    turns = [[[seconds(call) for call in pair] for pair in pairs] for _ in range(rounds + 1)]
    return [tuple(pair) for pair in np.min(turns[1:], axis=0).tolist()]


if __name__ == "__main__":
    main()
