"""The card of exported weights: what they are and where they are from, for people and programs."""

import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from creps_jax import __version__, places
from creps_jax.checkpoint import Saved
from creps_jax.config import RunConfig, parse_saved

LICENCE = "unknown: fill in the licence of the weights"


def write(folder: Path, name: str, saved: Saved, files: list[str], picture: np.ndarray) -> None:
    """Writes NAME.md, NAME.json and NAME.png; a licence that was filled in there is kept.

    Args:
      saved: what was exported.
      files: the names of the exported files.
      picture: uint8 [height, width, channels], images of the network.

    Raises:
      OSError: the disk fails.
    """
    config = parse_saved(saved.config)
    licence = _licence(folder / f"{name}.json")
    told = _told(saved, config)
    card = {
        "creps_jax": __version__,
        "files": files,
        "licence": licence,
        **told,
        "metrics": saved.figures,
        "config": saved.config,
    }
    drawn = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(drawn, "PNG")
    places.write_whole(folder / f"{name}.png", drawn.getvalue())
    places.write_whole(folder / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())
    places.write_whole(
        folder / f"{name}.md",
        _markdown(name, files, told | {"licence": licence}, saved).encode(),
    )


def _licence(card: Path) -> str:
    """What stands in the card that is there, or that it is to be filled in."""
    try:
        told = json.loads(card.read_bytes())["licence"]
    except (OSError, ValueError, KeyError, TypeError):
        return LICENCE
    return told if isinstance(told, str) else LICENCE


def _told(saved: Saved, config: RunConfig) -> dict[str, Any]:
    """What is known of the weights."""
    height, width = config.generator.shape
    parameters = {
        name: sum(x.size for x in jax.tree.leaves(variables["params"]))
        for name, variables in saved.networks.items()
    }
    told: dict[str, Any] = {
        "size_px": [height, width],
        "image_channels": config.image_channels,
        "num_classes": config.num_classes,
        "parameters": parameters,
    }
    if saved.imported:
        return told | {"imported_from": Path(saved.imported).name}
    kimg = None if saved.step is None else saved.step * config.batch_size / 1000
    return told | {
        "trained_on": config.data.source,
        "trained_kimg": kimg,
        "started_from": config.init_from,
        "precision": config.precision,
    }


def _markdown(name: str, files: list[str], told: dict[str, Any], saved: Saved) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{key} {shown(part)}" for key, part in value.items())
        if isinstance(value, list):
            return " x ".join(map(str, value))
        if isinstance(value, float):
            return f"{value:,.6g}"
        if isinstance(value, int):
            return f"{value:,}"
        return str(value).replace("|", "\\|").replace("\n", " ")  # Within a table's cell.

    rows = "\n".join(
        f"| {field.replace('_', ' ')} | {shown(value)} |"
        for field, value in told.items()
        if value is not None
    )
    listed = ", ".join(f"`{file}`" for file in files)
    return f"""# {name}

![images of the network]({name}.png)

A CREPS generator of images of any size, exported by creps_jax {__version__}: {listed}.

| | |
|---|---|
{rows}
| metrics | {shown(saved.figures) or "none are known"} |

The fields of its config:

```json
{json.dumps(saved.config, indent=2)}
```
"""
