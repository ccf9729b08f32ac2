"""Painter weights on the disk: find, verify, load, write; what to say when they are absent."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from exgs_viewer.restore.painter import Painter
from exgs_viewer.settings import write_atomically

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_painter(folder: Path, painter: Painter, about: dict[str, Any]) -> None:
    """Write a painter as float16 with its config; `about` says where it comes from."""
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in painter.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(tensors, {"format": "pt"}))
    config = {**asdict(painter.config), "about": about}
    write_atomically(folder / CONFIG, json.dumps(config, indent=1).encode())
