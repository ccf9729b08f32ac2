"""`exgs compress` and `convert`: make another file of a scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from exgs_viewer.commands.shared import (
    Backend,
    Preset,
    check_file,
    check_output,
    check_there,
    compressed,
    opened,
    warn,
)
from exgs_viewer.flags import ByteCount, CompressionFlags, plain
from exgs_viewer.settings import CompressionSettings
from exgs_viewer.terminal import answer, progress, timed


@dataclass(frozen=True)
class Compress:
    """Make a scene smaller: keep the Gaussians that matter most to what a visitor sees.

    By default it keeps every tenth; --keep 0.02 keeps one in fifty.

        exgs compress garden.ply -o garden.exgs
        exgs compress garden.ply -o garden.exgs --keep 0.02
        exgs compress garden.ply -o garden.exgs --bytes 5MB
        exgs compress garden.ply -o garden.exgs --preset best
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """File to write; its name ends in .exgs. One that is there is replaced only by a finished one."""
    preset: Preset = "default"
    """paper: UGC as published, default: ours without any training, best: ours with a short fit; flags change it."""
    compression: OmitArgPrefixes[CompressionFlags] = field(default_factory=CompressionFlags)
    bytes: ByteCount | None = None
    """Instead of --keep: as many Gaussians as fit into a file of this size, which takes about three times as long."""
    scene_filter: FlagCreatePairsOff[bool] = False
    """Also fit a filter to the pictures of the compressed scene, 5 kB in the file, for `--restore scene`."""
    backend: Backend = "auto"
    """Which renderer judges the Gaussians; auto takes CUDA where it works, otherwise the CPU."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        check_output(self.output, ".exgs")
        from exgs_viewer.render import open_renderer
        from exgs_viewer.scene import exgs

        seconds: dict[str, float] = {}
        with timed(seconds, "open"):
            scene = opened(self.scene)
        settings, renderer = plain(CompressionSettings, self.compression), open_renderer(self.backend)
        last, fitted = compressed(scene, settings, renderer, seconds, self.scene_filter, self.bytes)
        meta = exgs.metadata(scene, last.settings)
        if fitted is not None:
            meta |= fitted.stored()
        with timed(seconds, "encode"), progress() as report:
            written = exgs.write(self.output, last.cloud, meta, report, last.settings)
        return answer(
            self.json,
            {
                "output": str(self.output),
                "gaussians_in": len(scene.cloud),
                "gaussians_out": len(last.cloud),
                "bytes_in": scene.bytes,
                "bytes_out": written,
                "ply_bytes": scene.cloud.ply_bytes,
                "ratio": scene.cloud.ply_bytes / written,
                **({"scene_filter": fitted is not None} if self.scene_filter else {}),
                "seconds": seconds,
            },
        )


@dataclass(frozen=True)
class Convert:
    """Write a scene in another format, for another viewer; the end of the new name chooses it.

    It keeps every Gaussian and says what the format has no place for. To make a scene smaller: exgs compress.

        exgs convert garden.ply garden.spz              Niantic: a tenth of the bytes, all colours
        exgs convert garden.ply garden.sog              PlayCanvas, for the web: the smallest
        exgs convert garden.ply garden.compressed.ply   PlayCanvas, SuperSplat
        exgs convert garden.ply garden.splat            antimatter15: the same colour from every side
        exgs convert garden.exgs garden.ply             the original layout, which every program reads
    """

    scene: Positional[str]
    """Scene file, folder of SOG chunks, or `demo`."""
    output: Positional[Path]
    """File to write: .ply, .compressed.ply, .spz, .splat, .sog or .exgs. One that is there is replaced at the end."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    def run(self) -> int:
        check_there(self.scene)
        check_file(self.output)
        from exgs_viewer.scene import open_scene, save_scene, written_suffix

        written_suffix(self.output)
        seconds: dict[str, float] = {}
        with timed(seconds, "open"), progress() as report:
            scene = open_scene(self.scene, report)
        with timed(seconds, "write"), progress() as report:
            written = save_scene(self.output, scene, report)
        warn(scene.warnings + written.warnings)
        return answer(
            self.json,
            {
                "output": str(self.output),
                "gaussians": len(scene.cloud),
                "sh_degree": scene.cloud.sh_degree,
                "bytes_in": scene.bytes,
                "bytes_out": written.bytes,
                "ply_bytes": scene.cloud.ply_bytes,
                "ratio": scene.cloud.ply_bytes / written.bytes,
                "warnings": [*scene.warnings, *written.warnings],
                "seconds": seconds,
            },
        )
