"""A set of clips becomes a clip store that does not depend on how it was made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidgen.data.store import ClipStore
from vidgen.data.synthetic import DRAWN_KINDS, SyntheticSettings, labels, make, render_clip, synthesize
from vidgen.errors import DataError, SettingsError, StorageError


def _make(out: Path, **options: Any) -> ClipStore:
    return ClipStore.open(
        synthesize(SyntheticSettings(**({"kind": "faces", "frames": 4, "size": 32} | options), out=out))
    )


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_a_store_holds_the_rendered_clips(tmp_path: Path, kind: str) -> None:
    store = _make(tmp_path / "set", kind=kind, clips=7, seed=9, fps=30.0, workers=1)
    assert store.info.name == f"{kind}-seed9"
    assert store.info.labels == labels(kind)
    assert len(store.clips) == 7
    for index, clip in enumerate(store.clips):
        drawn = render_clip(kind, 9, index, frames=4, size=32, fps=30.0)
        np.testing.assert_array_equal(store.frames(index), drawn.frames)
        assert (clip.label, clip.fps, clip.source) == (drawn.label, 30.0, f"{kind}/seed9/{index:06d}")
        assert dict(clip.attributes) == drawn.attributes


def test_clips_do_not_depend_on_count_or_workers(tmp_path: Path) -> None:
    alone = _make(tmp_path / "alone", clips=6, workers=1)
    shared = _make(tmp_path / "shared", clips=6, workers=3)
    fewer = _make(tmp_path / "fewer", clips=4, workers=2)
    assert alone.info.content_hash == shared.info.content_hash
    assert shared.clips == alone.clips
    assert fewer.clips == alone.clips[:4]
    np.testing.assert_array_equal(fewer.frames(3), alone.frames(3))


def test_progress_is_told_clip_by_clip(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    settings = SyntheticSettings(kind="actions", out=tmp_path / "set", clips=5, frames=2, size=16, workers=2)
    synthesize(settings, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]


def test_a_store_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    first = _make(tmp_path / "set", clips=2)
    with pytest.raises(StorageError):
        _make(tmp_path / "set", clips=3)
    assert ClipStore.open(tmp_path / "set").info.content_hash == first.info.content_hash
    assert len(_make(tmp_path / "set", clips=3, overwrite=True).clips) == 3


def test_an_interrupted_run_leaves_neither_files_nor_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(make.subprocess, "Popen", Popen)
    settings = SyntheticSettings(kind="faces", out=tmp_path / "set", clips=500, frames=2, size=16, workers=2)
    with pytest.raises(KeyboardInterrupt):
        synthesize(settings, interrupt)
    assert list(tmp_path.iterdir()) == []
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


@pytest.mark.parametrize(
    ("code", "word"),
    [("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"), ("raise ImportError('numpy')", "numpy")],
)
def test_a_lost_process_is_reported_and_leaves_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, word: str
) -> None:
    monkeypatch.setattr(make, "child_command", lambda *_: [sys.executable, "-c", code])
    with pytest.raises(DataError, match=word) as caught:
        _make(tmp_path / "set", clips=4, workers=2)
    assert "--workers 1" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "cats"}, {"clips": 0}, {"clips": 2.0}, {"clips": True}, {"frames": 0}, {"frames": -3}, {"size": 8},
        {"size": 1000}, {"seed": -1}, {"fps": 0}, {"fps": float("inf")}, {"fps": "fast"}, {"workers": -1},
        {"workers": 1.5}, {"out": ""},
    ],
)  # fmt: skip
def test_settings_refuse_nonsense(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        SyntheticSettings(**({"kind": "faces", "out": tmp_path / "set"} | change))
    name = next(iter(change))
    assert name in caught.value.what
    assert caught.value.fix


def test_a_path_may_be_text(tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": str(tmp_path / "set")}
    settings = SyntheticSettings(kind="faces", clips=1, frames=1, size=16, **options)
    assert synthesize(settings) == tmp_path / "set"


def test_importing_the_package_loads_no_heavy_module() -> None:
    code = "import sys, vidgen.data.synthetic; print(sorted({'torch', 'PIL', 'av'} & set(sys.modules)))"
    command = [sys.executable, "-P", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
