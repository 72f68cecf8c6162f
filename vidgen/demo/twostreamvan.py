"""The demo's second chapter: TwoStreamVAN on acting figures, scored by a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidgen.demo.story import Facts, Picture, Story, export_facts, options, sample_facts, words
from vidgen.runtime.settings import SampleSettings

#: What the chapter makes in the demo's folder.
MADE = (
    "actions",
    "actions.png",
    "curves2.svg",
    "classifier",
    "run2",
    "classes",
    "scores.json",
    "tsv.onnx",
    "tsv.onnx.json",
)
_CLIPS = 400
_ACTIONS = ("jumping-jack", "wave-two", "bend")
_EACH = 5
_SCORED = 12
_HELD_OUT = 0.3
#: Differences from the preset ``small`` that fit a minute: stills for a while, then the easier motion task alone.
_BRIEF: dict[str, Any] = {
    "classes": ",".join(_ACTIONS),
    "held_out": _HELD_OUT,
    "gf_dim": 8,
    "lr": 1e-3,
    "pretrain_iters": 800,
    "motion_ratio_start": 0,
    "motion_ratio_end": 0,
    "cont_ratio_start": 0.9,
    "val_freq": 100000,
}


def tell(story: Story) -> tuple[Path, ...]:
    """Data, a classifier, training, export, samples by class, scores; returns the artifacts to time."""
    out = story.out
    data, checkpoint, artifact = out / "actions", out / "run2" / "twostreamvan.safetensors", out / "tsv.onnx"
    sheet = Picture("actions.png", "Contact sheet of clips of acting figures", "Ten actors, ten actions, ten places.")
    synth = words("data", "synth", data, "--kind", "actions", "--clips", _CLIPS)
    story.tell("Acting figures", synth, lambda: _data(out), sheet)
    run = out / "classifier"
    judge = {"classes": ",".join(_ACTIONS), "held_out": _HELD_OUT, "steps": 80 if story.minutes else 4}
    train = words("train", "classifier", "--preset", "small", "--data", data, "--out", run, *options(judge))
    story.tell("Classifier", train, lambda: _train("classifier", data, run, judge))
    brief = _BRIEF | story.limit | ({} if story.minutes else {"pretrain_iters": 2})
    train = words("train", "twostreamvan", "--preset", "small", "--data", data, "--out", out / "run2", *options(brief))
    curves = Picture("curves2.svg", "Squared errors over training steps", "Stills come first; motion starts from them.")
    story.tell(
        "TwoStreamVAN: training",
        train,
        lambda: _train("twostreamvan", data, out / "run2", brief, out / "curves2.svg"),
        curves,
    )
    export = words("export", checkpoint, "-o", artifact)
    story.tell("TwoStreamVAN: export", export, lambda: export_facts(checkpoint, artifact, False))
    grid = SampleSettings(
        engine=artifact, out=out / "classes", grid=f"{len(_ACTIONS)}x{_EACH}", labels=_ACTIONS, format="webp"
    )
    shown = Picture(
        "classes/grid.webp",
        "Animated grid: one action a row",
        f"{', '.join(_ACTIONS)} (rows), after about a minute of training: it learns places and figures first, motion "
        "much later; where a machine is slow it is still grey.",
    )
    story.tell("Samples by class", grid.command(), lambda: sample_facts(grid), shown)
    classifier = run / "classifier.safetensors"
    score = words(
        *("score", "--protocol", "twostreamvan", "--classifier", classifier, "--engine", artifact),
        *("--videos", data, "--held-out", _HELD_OUT, "-n", _SCORED, "-o", out / "scores.json"),
    )
    story.tell("TwoStreamVAN: scores", score, lambda: _score(classifier, artifact, data, out / "scores.json"))
    return artifact, checkpoint


def _data(out: Path) -> Facts:
    from vidgen.data.contact_sheet import write_contact_sheet
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    synthesize(SyntheticSettings(kind="actions", out=out / "actions", clips=_CLIPS))
    write_contact_sheet(out / "actions", out / "actions.png", clips=6, frames_per_clip=8)
    return {"clips": str(_CLIPS)}


def _train(model: str, data: Path, run: Path, values: dict[str, Any], curves: Path | None = None) -> Facts:
    from vidgen.settings import build_settings
    from vidgen.trainer.curves import draw_curves
    from vidgen.trainer.families import family
    from vidgen.trainer.train import train

    kind = family(model)
    place = {"data_path": str(data), "save_path": str(run.parent), "exp_name": run.name}
    said: list[str] = []
    settings = build_settings(kind.settings, ("preset", kind.preset("small")), ("demo", place | values))
    report = train(settings, say=said.append)
    if curves:
        draw_curves(report.run, curves)
    facts = {"steps": str(report.step), "seconds": f"{report.seconds:.0f}"}
    held_out = [line.split(", ")[0] for line in said if "held-out" in line]
    return facts | ({"last": held_out[-1]} if held_out else {})


def _score(classifier: Path, artifact: Path, data: Path, out: Path) -> Facts:
    from vidgen.bench.scores.twostreamvan import TwoStreamVANScoreSettings, score_twostreamvan

    settings = TwoStreamVANScoreSettings(
        classifier, engines=(artifact,), videos=(data,), n=_SCORED, held_out=_HELD_OUT, out=out
    )
    report = score_twostreamvan(settings)
    facts = {}
    for source, name in zip(report.scores, ("samples", "held-out clips"), strict=True):
        metrics = next(iter(source.sets.values()))
        facts[name] = f"accuracy {metrics.accuracy:.0f} %, Inception Score {metrics.inception_score:.2f}"
    return facts
