"""Curves are drawn from whatever a run left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import DataError
from vidgen.trainer.curves import draw_curves, read_stats, smooth

LINE = {"step": 1, "D_vid_loss": 1.4, "D_img_loss": 1.3, "G_vid_loss": 0.7, "G_img_loss": 0.8}


def test_curves_of_a_killed_run_leave_out_the_half_line(tmp_path: Path) -> None:
    lines = [json.dumps({**LINE, "step": step}) for step in range(1, 20)]
    (tmp_path / "stats.jsonl").write_text("\n".join([*lines, '{"step": 20, "D_v']))
    assert len(read_stats(tmp_path)) == 19
    for name in ("curves.svg", "curves.png"):
        assert draw_curves(tmp_path, tmp_path / name).stat().st_size > 1000


def test_a_step_may_log_the_losses_of_its_task_alone(tmp_path: Path) -> None:
    tasks = ("recons/cont_enc/recons_mse", "pred/motion_enc/pred_mse")
    lines = [json.dumps({"step": step, tasks[step % 2]: 0.1 + step}) for step in range(1, 20)]
    (tmp_path / "stats.jsonl").write_text("\n".join(lines))
    picture = draw_curves(tmp_path, tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "still frame" in picture and "next frame" in picture and "whole clip" not in picture


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no lines"):
        draw_curves(tmp_path, tmp_path / "curves.svg")


@given(st.floats(-10, 10), st.integers(1, 50))
def test_smoothing_keeps_a_constant(value: float, count: int) -> None:
    np.testing.assert_allclose(smooth(np.full(count, value)), value, atol=1e-9)
