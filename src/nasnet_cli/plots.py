"""Figures of matplotlib as PNG, without a window."""

from __future__ import annotations

import io
from typing import Any

_DPI = 120


def figure_of(
    width: float, height: float, rows: int = 1, ratios: tuple[int, int] = (3, 1)
) -> tuple[Any, Any]:
    """Return a figure, sides in inches, and its axes: one, or two below each other.

    Without pyplot, which would open a window's backend.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    settings = {"height_ratios": list(ratios)} if rows == 2 else None
    return figure, figure.subplots(rows, 1, gridspec_kw=settings)


def png_of(figure: Any) -> bytes:
    """Return a figure as PNG: the same bytes for the same figure."""
    stream = io.BytesIO()
    # Without the version of matplotlib, so that the same figures give the same bytes.
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()
