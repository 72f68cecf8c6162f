"""Loss curves of a run, drawn from its stats.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file
from vidgen._imports import require
from vidgen.errors import DataError

#: The curves of each family: field in stats.jsonl, label, colour (a palette that colour-blind readers can tell apart).
#: A step of TwoStreamVAN logs the fields of its task alone.
_G3AN = (
    ("D_vid_loss", "video discriminator", "#0072b2"),
    ("D_img_loss", "image discriminator", "#56b4e9"),
    ("G_vid_loss", "generator, against video", "#d55e00"),
    ("G_img_loss", "generator, against image", "#e69f00"),
)
_TWOSTREAMVAN = (
    ("recons/cont_enc/recons_mse", "still frame", "#0072b2"),
    ("pred/motion_enc/pred_mse", "next frame", "#e69f00"),
    ("video/vid_motion_enc/pred_mse", "whole clip", "#d55e00"),
)
_CLASSIFIER = (("loss", "cross-entropy", "#0072b2"),)


@dataclass(frozen=True)
class _Chart:
    """The curves of one family and how to draw them."""

    curves: tuple[tuple[str, str, str], ...]
    label: str
    scale: str = "linear"


_CHARTS = (
    _Chart(_G3AN, "loss"),
    _Chart(_TWOSTREAMVAN, "mean squared error", "log"),
    _Chart(_CLASSIFIER, "loss", "log"),
)


def read_stats(run: Path) -> list[dict[str, float]]:
    """The lines of a run's stats.jsonl; the half line of a kill is left out.

    Raises:
        DataError: the run has none.
    """
    path = run / "stats.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    if not rows:
        raise DataError(
            f"cannot draw the curves of {run}",
            seen=f"no lines in {path}",
            cause="a wrong path, or a run that made no step",
            fix=f"vidgen train g3an --preset smoke --out {run}",
        )
    return rows


def smooth(values: NDArray[np.float64], decay: float = 0.95) -> NDArray[np.float64]:
    """Exponential moving average without the pull towards zero at the start."""
    out = np.empty_like(values)
    mean = weight = 0.0
    for i, value in enumerate(values):
        mean, weight = decay * mean + (1 - decay) * value, decay * weight + (1 - decay)
        out[i] = mean / weight
    return out


def draw_curves(run: Path, out: Path) -> Path:
    """Draw the losses of a run over its steps; the kind of picture follows the suffix of ``out``.

    Raises:
        DataError: the run has no stats. MissingDependencyError: matplotlib is not installed.
        StorageError: ``out`` cannot be written.
    """
    require("matplotlib", "draw curves")
    from matplotlib.figure import Figure

    rows = read_stats(run)
    chart = next((chart for chart in _CHARTS if any(chart.curves[0][0] in row for row in rows)), _CHARTS[0])
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for field, label, colour in chart.curves:
        drawn = [(row["step"], row[field]) for row in rows if field in row]
        if not drawn:
            continue
        steps, values = np.array(drawn, dtype=np.float64).T
        axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.8)
        axes.plot(steps, smooth(values), color=colour, linewidth=1.8, label=label)
    axes.set(xlabel="step", ylabel=chart.label, yscale=chart.scale)
    if chart.scale == "linear":
        axes.set_ylim(0, None)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2, fontsize=8)
    with atomic_file(out) as partial:
        figure.savefig(partial, dpi=150)
    return out
