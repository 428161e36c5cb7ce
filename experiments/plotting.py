"""matplotlib, which draws to files here; where it is missing, one line says so before any work."""

import sys

try:
    from matplotlib import pyplot
except ModuleNotFoundError:
    sys.exit("Error: plots need matplotlib: pip install 'creps-jax[experiments]'")

pyplot.switch_backend("Agg")

__all__ = ["pyplot"]
