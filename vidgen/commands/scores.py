"""The commands of scores: stats, merge and score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidgen._console import Console, Result, polite_kill
from vidgen.commands.options import Backend, Device, Seed, Threads, Trust, given, listed, make, option
from vidgen.errors import SettingsError

Protocol = Annotated[str | None, option("clean, g3an, or for score twostreamvan (clean).", "--protocol")]
Extractor = Annotated[
    str | None,
    option(
        "Network that takes features: resnext101-kinetics, classifier, efficientnet-lite0, random-r3d (a smoke test), "
        "or an .onnx, .pt2 or .safetensors file; @backend=openvino or tensorrt after it chooses what runs it.",
        "--extractor",
    ),
]
Weights = Annotated[Path | None, option("Weights of a named extractor that finds none by itself.", "--weights")]
Frames = Annotated[
    int | None, option("Frames looked at, from the middle of each clip (the extractor's, or 16).", "--frames")
]
Batch = Annotated[int | None, option("Videos computed together (the artifact's own).", "--batch")]
Split = Annotated[str | None, option("Clips of stores: all, train or held-out (all).", "--split")]
HeldOut = Annotated[float | None, option("Share held out of a store that does not say (0.1).", "--held-out")]
SplitSeed = Annotated[int | None, option("Which clips that share is (0).", "--split-seed")]
FrameStep = Annotated[int | None, option("Take each n-th frame of videos and stored clips (1).", "--frame-step")]
KeepFeatures = Annotated[
    bool, option("Keep features, for KID, precision, recall and intervals.", "--features/--no-features")
]
Resume = Annotated[bool, option("Go on with an interrupted run.", "--resume")]


def stats(
    console: Console,
    source: Annotated[Path, typer.Argument(help="Artifact, folder of videos, or clip store.")],
    out: Annotated[Path, option("Statistics file to write, .npz.", "-o", "--out")],
    extractor: Extractor = None,
    weights: Weights = None,
    protocol: Protocol = None,
    n: Annotated[int | None, option("Clips (artifacts 5000; videos: all).", "-n")] = None,
    frames: Frames = None,
    shard: Annotated[str | None, option("i/n: every n-th clip from the i-th, i from 0.", "--shard")] = None,
    resume: Resume = False,
    seed: Seed = None,
    labels: Annotated[str | None, option("Classes to make, in turn (drawn from the seed).", "--labels")] = None,
    batch: Batch = None,
    split: Split = None,
    held_out: HeldOut = None,
    split_seed: SplitSeed = None,
    frame_step: FrameStep = None,
    features: KeepFeatures = True,
    backend: Backend = None,
    device: Device = None,
    threads: Threads = None,
    trust: Trust = False,
) -> Result:
    """Take the feature statistics of an artifact's videos, a folder of videos, or a clip store."""
    options = {key: value for key, value in locals().items() if key not in ("console", "labels")}
    from vidgen.bench.scores.feature_settings import StatsSettings
    from vidgen.bench.scores.feature_statistics import stats as run

    settings = make(StatsSettings, labels=listed(labels), **options)
    with polite_kill(), console.progress("taking features") as advance:
        report = run(settings, advance)
    return Result(report.to_dict(), report.text())


def merge(
    console: Console,
    files: Annotated[list[Path], typer.Argument(help="Statistics files of the shards of one set.")],
    out: Annotated[Path, option("Statistics file to write, .npz.", "-o", "--out")],
) -> Result:
    """Put the statistics of shards together."""
    from vidgen.bench.scores.feature_statistics import merge as run

    report = run(files, out)
    return Result(report.to_dict(), report.text())


def score(
    console: Console,
    engine: Annotated[list[Path] | None, option("Artifact to score; may be repeated.", "--engine")] = None,
    videos: Annotated[
        list[Path] | None, option("Folder of videos, or clip store; may be repeated.", "--videos")
    ] = None,
    reference: Annotated[
        Path | None, option("What to compare with: STATS.npz, clip store, folder or artifact.", "--reference")
    ] = None,
    protocol: Protocol = None,
    extractor: Annotated[
        str | None,
        option("Network that takes features: as for stats (the one that the reference names).", "--extractor"),
    ] = None,
    weights: Weights = None,
    n: Annotated[
        int | None,
        option("Clips (artifacts 5000; videos: all). twostreamvan: of EACH CLASS (artifacts 900).", "-n"),
    ] = None,
    out: Annotated[Path | None, option("JSON report to write.", "-o", "--out")] = None,
    frames: Frames = None,
    seed: Seed = None,
    batch: Annotated[
        int | None, option("Videos computed together (the artifact's own; twostreamvan 32).", "--batch")
    ] = None,
    labels: Annotated[
        str | None,
        option("Classes to make, in turn; twostreamvan: names in the classifier's order, if it has none.", "--labels"),
    ] = None,
    split: Annotated[
        str | None, option("Clips of --videos stores: all, train or held-out (all; twostreamvan held-out).", "--split")
    ] = None,
    held_out: HeldOut = None,
    split_seed: SplitSeed = None,
    frame_step: FrameStep = None,
    replicates: Annotated[
        int | None, option("Resamplings behind intervals that need them (1000); 0: none of those.", "--replicates")
    ] = None,
    infinity: Annotated[bool, option("Also the FID of infinitely many videos.", "--infinity")] = False,
    disentanglement: Annotated[
        str | None,
        option(
            "AxM: also judge a grid of A appearances x M motions of each artifact, e.g. 16x16.", "--disentanglement"
        ),
    ] = None,
    compared: Annotated[
        int | None, option("Videos compared by PSNR with the first artifact's (64).", "--compared")
    ] = None,
    features: KeepFeatures = True,
    resume: Resume = False,
    classifier: Annotated[Path | None, option("twostreamvan: checkpoint of the classifier.", "--classifier")] = None,
    first_frames: Annotated[
        Path | None, option("twostreamvan: go on from the first frames of this clip store.", "--first-frames")
    ] = None,
    passes: Annotated[int | None, option("twostreamvan: videos from each first frame (100).", "--passes")] = None,
    backend: Backend = None,
    device: Device = None,
    threads: Threads = None,
    trust: Trust = False,
) -> Result:
    """Score artifacts and videos: FID, KID, precision and recall against a reference; or what a classifier sees."""
    known = ("console", "protocol", "engine", "labels", "features", "infinity", "resume")
    options = {key: value for key, value in locals().items() if key not in (*known, "known")}
    from vidgen.bench.scores.score import score as run
    from vidgen.bench.scores.score import score_settings

    protocol = protocol or "clean"
    kind = score_settings(protocol)
    if protocol == "twostreamvan":
        _check_classifier(classifier)
    else:
        options["protocol"] = protocol
    # Switches at their default say nothing: a protocol that does not know one refuses it only where it is used.
    switches = {"infinity": infinity, "resume": resume, "features": features}
    options |= {name: on for name, on in switches.items() if on != (name == "features")}
    _check_known(kind, protocol, given(**options))
    settings = make(kind, engines=engine, labels=listed(labels), **options)
    with polite_kill(), console.progress("scoring") as advance:
        report = run(settings, advance)
    wrote = f"\nwrote {out}" if out else ""
    return Result(report.to_dict(), report.table() + wrote)


def _check_classifier(classifier: Path | None) -> None:
    if classifier is None:
        raise SettingsError(
            "cannot score by protocol twostreamvan",
            seen="no --classifier",
            cause="this protocol asks a classifier of the data what it sees",
            fix="vidgen train classifier --data STORE --out RUN, then --classifier RUN/classifier.safetensors",
        )


def _check_known(kind: type, protocol: str, options: dict[str, object]) -> None:
    """Raise where an option was given that the protocol has no use for."""
    import dataclasses

    names = {field.name for field in dataclasses.fields(kind)}
    unknown = [name for name in options if name not in names]
    if unknown:
        name = "--" + unknown[0].replace("_", "-")
        raise SettingsError(
            f"cannot use {name} with --protocol {protocol}",
            seen=f"{name} {options[unknown[0]]}",
            cause="the option belongs to another protocol",
            fix=f"drop {name}, or choose another --protocol",
        )
