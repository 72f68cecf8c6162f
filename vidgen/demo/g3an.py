"""The demo's first chapter: G3AN on drawn faces."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vidgen.demo import scores
from vidgen.demo.story import Facts, Picture, Story, export_facts, options, sample_facts, words
from vidgen.runtime.settings import SampleSettings

#: What the chapter makes in the demo's folder.
MADE = (
    *("faces", "faces.png", "run", "curves.svg", "grid", "lengths"),
    *("g3an.onnx", "g3an.onnx.json", "g3an-fp16.onnx", "g3an-fp16.onnx.json"),
    *("g3an-fp16.plan", "g3an-fp16.plan.json"),
    *scores.MADE,
)
_CLIPS = 160
_GRID = 6
#: RTX 30, 40 and 50.
_TARGETS = "sm_86,sm_89,sm_120"


def tell(story: Story) -> tuple[Path, ...]:
    """Data, training, export in both precisions, sampling, scores; returns the artifacts to time."""
    out = story.out
    checkpoint, artifact, half = out / "run" / "g3an.safetensors", out / "g3an.onnx", out / "g3an-fp16.onnx"
    sheet = Picture("faces.png", "Contact sheet of drawn face clips", "Clips of the built-in faces, drawn from a seed.")
    story.tell("Faces", words("data", "synth", out / "faces", "--clips", _CLIPS), lambda: _data(out), sheet)
    limit = options(story.limit)
    train = words("train", "g3an", "--preset", "small", "--data", out / "faces", "--out", out / "run", *limit)
    curves = Picture("curves.svg", "Loss curves over training steps", "Losses of the three players over the steps.")
    story.tell("G3AN: training", train, lambda: _train(out, story.limit), curves)
    export = words("export", checkpoint, "-o", artifact)
    story.tell("G3AN: export", export, lambda: export_facts(checkpoint, artifact, False))
    _half(story, checkpoint, half)
    grid = SampleSettings(engine=artifact, out=out / "grid", grid=f"{_GRID}x{_GRID}", format="webp")
    shown = Picture(
        "grid/grid.webp",
        "Animated grid: one appearance a row, one motion a column",
        f"{_GRID} appearances (rows) x {_GRID} motions (columns), sampled through the ONNX file.",
    )
    story.tell("Appearance x motion", grid.command(), lambda: sample_facts(grid), shown)
    lengths = SampleSettings(engine=artifact, out=out / "lengths", n=4, frames="16:48:16")
    shown = Picture(
        "lengths/lengths.png",
        "Frames of videos of 16, 32 and 48 frames",
        "A longer motion latent makes a longer video, from the same file.",
    )
    story.tell("Longer videos", lengths.command(), lambda: sample_facts(lengths), shown)
    scores.tell(story, artifact, half)
    return artifact, half, checkpoint


def _half(story: Story, checkpoint: Path, half: Path) -> None:
    """Half precision; with an engine where the library is that builds one without a GPU."""
    if importlib.util.find_spec("tensorrt_rtx"):
        plan = half.with_suffix(".plan")
        command = words("export", checkpoint, "--fp16", "-o", plan, "--gpu", _TARGETS)
        story.tell("Half precision, and an engine", command, lambda: export_facts(checkpoint, half, True, _TARGETS))
        return
    command = words("export", checkpoint, "--fp16", "-o", half)
    story.tell("Half precision", command, lambda: export_facts(checkpoint, half, True))


def _data(out: Path) -> Facts:
    from vidgen.data.contact_sheet import write_contact_sheet
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    synthesize(SyntheticSettings(kind="faces", out=out / "faces", clips=_CLIPS))
    write_contact_sheet(out / "faces", out / "faces.png", clips=6, frames_per_clip=8)
    return {"clips": str(_CLIPS)}


def _train(out: Path, limit: dict[str, float]) -> Facts:
    from vidgen.settings import build_settings
    from vidgen.trainer.curves import draw_curves
    from vidgen.trainer.g3an_settings import PRESETS, G3ANTrainSettings
    from vidgen.trainer.train import train

    place = {"data_path": str(out / "faces"), "save_path": str(out), "exp_name": "run"}
    report = train(build_settings(G3ANTrainSettings, ("preset", PRESETS["small"]), ("demo", place | limit)))
    draw_curves(report.run, out / "curves.svg")
    return {"steps": str(report.step), "seconds": f"{report.seconds:.0f}"}
