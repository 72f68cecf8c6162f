"""Scores of the demo's G3AN: both precisions on the same latents, between real clips and an untrained generator."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path

from vidgen.bench.scores.compare import SpaceScore
from vidgen.bench.scores.extractors.efficientnet_lite0 import NAME as EFFICIENTNET
from vidgen.bench.scores.extractors.efficientnet_lite0 import PACKAGE
from vidgen.bench.scores.extractors.random_r3d import NAME as RANDOM
from vidgen.bench.scores.feature_report import FeatureReport
from vidgen.bench.scores.feature_settings import FeatureScoreSettings, StatsSettings
from vidgen.bench.scores.intervals import Difference, Interval
from vidgen.demo.story import Facts, Story, Table, Told, options, words

#: What these steps make in the demo's folder.
MADE = ("reference", "untrained", "g3an-scores.json")
#: Clips of each set; fewer where only the parts are to be seen at work.
CLIPS, FEWEST_CLIPS = 48, 16
#: Of the drawn clips, one half is the reference and the other one the anchor.
HALF = 0.5
#: Videos whose pixels are compared.
COMPARED = 8
HEADER = ("", "Fréchet distance", "KID", "videos/s")
_ROWS = ("trained, float32", "trained, half precision", "not trained (one step)", "other real clips")
_PAIRED = "half precision − float32"
_NEARER, _FURTHER = "nearer to the faces than untrained", "further from the faces than untrained"
_ALIKE = "as far from the faces as untrained, as well as so few clips can tell"


def extractor() -> str:
    """The network that takes features: the one with ImageNet weights where its package is, else random weights."""
    return EFFICIENTNET if importlib.util.find_spec(PACKAGE) else RANDOM


def tell(story: Story, artifact: Path, half: Path) -> None:
    """Statistics of half the faces, a generator that learnt nothing, and the scores of all of them.

    Args:
        artifact, half: the exported generator in float32 and in half precision.
    """
    out, clips = story.out, CLIPS if story.minutes else FEWEST_CLIPS
    data, untrained = out / "faces", out / "untrained"
    stats = StatsSettings(
        extractor=extractor(), n=clips, split="train", held_out=HALF, source=data, out=out / "reference" / "faces.npz"
    )
    of_data = ("--split", stats.split, "--held-out", HALF, "-n", clips)
    command = words("stats", data, "--extractor", stats.extractor, *of_data, "-o", stats.out)
    story.tell("Real clips to compare with", command, lambda: _stats(stats))
    brief = {"steps": 1, "n_za_test": 1, "n_zm_test": 1}
    command = words("train", "g3an", "--preset", "small", "--data", data, "--out", untrained, *options(brief))
    story.tell("A generator that learnt nothing", command, lambda: _untrained(data, untrained, brief))
    settings = FeatureScoreSettings(
        engines=(artifact, half, untrained / "g3an.safetensors"),
        videos=(data,),
        split="held-out",
        held_out=HALF,
        n=clips,
        reference=stats.out,
        compared=COMPARED,
        out=out / "g3an-scores.json",
    )
    story.tell("G3AN: scores", _command(settings), lambda: _score(settings))


def _command(settings: FeatureScoreSettings) -> str:
    sources = [word for path in settings.engines for word in ("--engine", path)]
    sources += [word for path in settings.videos for word in ("--videos", path)]
    chosen = ("--split", settings.split, "--held-out", settings.held_out, "-n", settings.n)
    beside = ("--reference", settings.reference, "--compared", settings.compared, "-o", settings.out)
    return words("score", *sources, *chosen, *beside)


def _stats(settings: StatsSettings) -> Facts:
    from vidgen.bench.scores.feature_statistics import stats

    report = stats(settings)
    return {"clips": str(report.n), "features": ", ".join(report.files), "extractor": str(settings.extractor)}


def _untrained(data: Path, run: Path, brief: dict[str, int]) -> Facts:
    from vidgen.settings import build_settings
    from vidgen.trainer.g3an_settings import PRESETS, G3ANTrainSettings
    from vidgen.trainer.train import train

    place = {"data_path": str(data), "save_path": str(run.parent), "exp_name": run.name}
    report = train(build_settings(G3ANTrainSettings, ("preset", PRESETS["small"]), ("demo", place | brief)))
    return {"steps": str(report.step)}


def _score(settings: FeatureScoreSettings) -> Told:
    from vidgen.bench.scores.feature_score import score_features

    report = score_features(settings)
    float32, half = report.scores[:2]
    facts = {
        "float32": ", ".join(f"{space} {_frechet(found)}" for space, found in float32.spaces.items()),
        _PAIRED: ", ".join(f"{space} {_delta(found)}" for space, found in half.spaces.items()),
    }
    if half.psnr is not None:
        same = "equal" if math.isinf(half.psnr) else f"PSNR {half.psnr:.0f}\N{NO-BREAK SPACE}dB"
        facts["videos of half precision and float32"] = same
    return Told(facts, table(report))


def table(report: FeatureReport) -> Table:
    """The page's table of scores: of float32, half precision, an untrained generator and real clips, in this order."""
    rows: list[tuple[str, ...]] = []
    for space in report.scores[0].spaces:
        rows.append((f"{space} ({report.protocol[space]['extractor']})",))
        cells = [
            (name, _frechet(found), _kernel(found), _rate(score.videos_per_second))
            for name, score in zip(_ROWS, report.scores, strict=True)
            for found in (score.spaces[space],)
        ]
        paired = report.scores[1].spaces[space]
        rows += [cells[3], cells[0], cells[1], (_PAIRED, _delta(paired), _delta(paired, "kernel"), ""), cells[2]]
    return Table(HEADER, tuple(rows), tuple(_notes(report)))


def _frechet(found: SpaceScore) -> str:
    return plus_minus(found.frechet.value, found.frechet.interval)


def _kernel(found: SpaceScore) -> str:
    return "" if found.kernel is None else plus_minus(found.kernel.value, found.kernel.interval)


def _delta(found: SpaceScore, score: str = "frechet") -> str:
    difference = found.to_first.get(score)
    return "" if difference is None else plus_minus(difference.value, difference.interval, sign=True)


def _rate(videos_per_second: float | None) -> str:
    return "" if videos_per_second is None else f"{videos_per_second:.1f}"


def plus_minus(value: float, interval: Interval | None, *, sign: bool = False) -> str:
    """A value and half the width of its 95 % interval, with two digits of the latter that count."""
    half_width = 0.0 if interval is None else 1.96 * interval.standard_error
    scale = half_width if half_width > 0 else abs(value) / 100
    digits = min(5, max(0, 1 - math.floor(math.log10(scale)))) if scale > 0 else 0
    # Rounded first, so that nothing is minus zero; the error stays behind its sign where a narrow cell is broken.
    text = f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return text if interval is None else f"{text} ±\N{NO-BREAK SPACE}{half_width:.{digits}f}"


def _notes(report: FeatureReport) -> Iterable[str]:
    spaces = report.scores[0].spaces
    name, found = next((report.protocol[space]["extractor"], found) for space, found in spaces.items())
    if name == RANDOM:
        yield (
            f"{RANDOM} is a network with random weights: a smoke test of these commands, no measure of quality. "
            "With pip install 'vidgen[scores]' the demo takes features with ImageNet weights."
        )
    yield (
        f"A Fréchet distance says how far the features of {found.n} videos lie, in mean and spread, from those of "
        f"{found.reference_n} of the demo's faces: read it beside that of other real clips, which is as low as a "
        "perfect generator gets, and that of a generator that learnt nothing, and put no number of so few clips into "
        "a paper, which takes thousands."
    )
    yield _verdict(report)
    yield (
        f"{found.n} clips are fewer than the features, so much of a Fréchet distance is the size of the sample; KID is "
        "0 on average where nothing differs, however few. ± is a 95\N{NO-BREAK SPACE}% interval; both precisions had "
        "the same latents, so the ± of their difference is that of pairs."
    )


def _verdict(report: FeatureReport) -> str:
    """What the training changed, as far as the intervals let one tell."""
    trained, untrained = report.scores[0], report.scores[2]
    found: dict[str, list[str]] = {}
    for space, score in untrained.spaces.items():
        found.setdefault(_place(score.to_first["frechet"]), []).append(space)
    several = len(untrained.spaces) > 1
    places = "; ".join(f"in {' and '.join(spaces)} {place}" if several else place for place, spaces in found.items())
    steps = trained.source.get("step")
    after = "The trained generator is" if steps is None else f"After {steps} steps of training the generator is"
    why = (
        " So early in a training that is no surprise: a generator that learnt nothing makes even grey, and on the way "
        "from there to pictures lie stripes, noise and flicker, which are further from faces."
    )
    both = "Appearance is of single frames, motion of how they change. " if several else ""
    return f"{both}{after} {places}.{why if _FURTHER in found else ''}"


def _place(difference: Difference) -> str:
    """Where the trained generator lies, from the distance of the untrained one minus its own."""
    interval = difference.interval
    low, high = (difference.value, difference.value) if interval is None else (interval.low, interval.high)
    return _NEARER if low > 0 else _FURTHER if high < 0 else _ALIKE
