"""The command line: which command is meant, and how mistakes end."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import tyro
from tyro.conf import PositionalMetavarFromFieldName

from exgs_viewer import __version__
from exgs_viewer.commands.draw import Render
from exgs_viewer.commands.look import Info, View
from exgs_viewer.commands.make import Compress, Convert
from exgs_viewer.commands.measure import Bench, Doctor, Evaluate
from exgs_viewer.commands.shared import DEMO
from exgs_viewer.commands.train import Train
from exgs_viewer.errors import ExgsError
from exgs_viewer.flags import CompressionFlags
from exgs_viewer.settings import PRESETS

EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 2, 130, 141
COMMANDS = {
    "view": View,
    "info": Info,
    "compress": Compress,
    "convert": Convert,
    "render": Render,
    "evaluate": Evaluate,
    "bench": Bench,
    "train": Train,
    "doctor": Doctor,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 2 a mistake told in one sentence on stderr, 130 interrupted."""
    try:
        name, *words = _with_command(sys.argv[1:] if arguments is None else arguments)
        if name not in COMMANDS:
            print(f"exgs {__version__}" if name == "--version" else _help())
            return 0
        config = (PositionalMetavarFromFieldName,)
        start = _start(name, words)
        return tyro.cli(COMMANDS[name], prog=f"exgs {name}", args=words, config=config, **start).run()
    except ExgsError as error:
        print(f"exgs: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `exgs info garden.ply | head -1` has read enough; Python must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _start(command: str, words: list[str]) -> dict[str, Compress]:
    """What the flags of a command change, where that is not the usual: for `compress` the preset named among them."""
    named = next((word for flag, word in pairwise(words) if flag == "--preset"), None)
    named = next((word.removeprefix("--preset=") for word in words if word.startswith("--preset=")), named)
    if command != "compress" or named not in PRESETS:
        return {}
    return {"default": Compress(tyro.MISSING, tyro.MISSING, named, CompressionFlags(**asdict(PRESETS[named])))}


def _help() -> str:
    commands = "\n".join(f"  {name:10}{kind.__doc__.splitlines()[0]}" for name, kind in COMMANDS.items())
    return f"""Open a 3D Gaussian Splatting scene, fly through it, make it 100 times smaller, compare.

usage: exgs [SCENE]              open the window on a scene, or on the demo room
       exgs COMMAND ...          one of these:

{commands}

`exgs COMMAND --help` explains a command, `exgs --version` names the version."""


def _with_command(words: list[str]) -> list[str]:
    """`exgs garden.ply` means `exgs view garden.ply`; a word that is neither scene nor command is told so."""
    if not words:
        return ["view"]
    first = words[0]
    if first in COMMANDS or first in ("-h", "--help", "--version"):
        return words
    if first.startswith("-") or first == DEMO or Path(first).suffix or Path(first).exists():
        return ["view", *words]
    near = difflib.get_close_matches(first, [*COMMANDS, DEMO], n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}."
    raise ExgsError(f"'{first}' is neither a command nor a scene file; {hint}")
