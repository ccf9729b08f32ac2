"""Machine code that numba keeps beside the sources: thrown away once what went into it has changed.

Numba compares a kernel's own file only. But kernels take in functions of their neighbours, and what was compiled with
the old ones would be used on after an update, without a word: old kernels would write files that nobody can read.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

FOLDERS = ("scene", "render", "compress")
"""Where kernels live; none takes in anything from another folder."""
NOTE = "kernels.sha256"


def forget_stale(package: Path = Path(__file__).parent) -> None:
    """Remove what was compiled from other sources than these. What cannot be written to is left alone: numba keeps the
    code of such an installation elsewhere, and an update of it replaces every file."""
    for folder in FOLDERS:
        sources = [path.read_bytes() for path in sorted((package / folder).glob("*.py"))]
        digest = hashlib.sha256(b"".join(source for source in sources if b"numba" in source)).hexdigest()
        kept = package / folder / "__pycache__"
        note = kept / NOTE
        try:
            if note.exists() and note.read_text() == digest:
                continue
            for old in (*kept.glob("*.nbi"), *kept.glob("*.nbc")):
                old.unlink(missing_ok=True)
            kept.mkdir(exist_ok=True)
            written = note.with_suffix(f".{os.getpid()}")
            written.write_text(digest)
            written.replace(note)
        except OSError:
            continue
