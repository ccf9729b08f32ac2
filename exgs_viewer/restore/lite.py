"""The `lite` preset as Restorer: our own small painter, trained from nothing, for CPUs too."""

from __future__ import annotations

from exgs_viewer.restore.painting import PainterRestorer, ready


def open() -> PainterRestorer:
    """The painter in the first of networks.folders. Raises WeightsError where there is none or it is damaged."""
    from exgs_viewer import networks
    from exgs_viewer.restore import weights

    return ready(weights.load_painter(networks.find("lite")), "lite", "Restored (GaussPainter lite)")
