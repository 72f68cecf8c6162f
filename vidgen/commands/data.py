"""The commands that make, convert and show clip stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen._console import Console, Result
from vidgen.commands.options import Out, Overwrite, Seed, Size, Workers, make, option

#: Help of the option that names how a source is arranged.
_LAYOUTS = "auto, videos, frames, strips, voxceleb, weizmann, mug, mug2 or synaction (auto)."


def synth(
    console: Console,
    out: Out,
    kind: Annotated[str | None, option("faces, actions or mocap (faces).", "--kind")] = None,
    clips: Annotated[int | None, option("Number of clips (512).", "--clips")] = None,
    frames: Annotated[int | None, option("Frames of a clip (32).", "--frames")] = None,
    size: Size = None,
    seed: Seed = None,
    fps: Annotated[float | None, option("Frames a second (25).", "--fps")] = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> Result:
    """Make the built-in data: drawn faces, acting figures, or captured people (mocap, needs pybullet)."""
    from vidgen.data.contact_sheet import describe
    from vidgen.data.store import ClipStore
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    settings = make(
        SyntheticSettings,
        out=out,
        kind=kind or "faces",
        clips=clips,
        frames=frames,
        size=size,
        seed=seed,
        fps=fps,
        workers=workers,
        overwrite=overwrite,
    )
    with console.progress("drawing") as advance:
        path = synthesize(settings, progress=advance)
    values = describe(ClipStore.open(path))
    return Result(values, f"{_store_line(values)}\nnext: vidgen data show {path} -o sheet.png")


def prepare(
    console: Console,
    source: Annotated[
        Path, typer.Argument(help="Folder of videos, frame folders, image strips or arrays; or a video.")
    ],
    out: Out,
    layout: Annotated[str | None, option(_LAYOUTS, "--layout")] = None,
    size: Size = None,
    crop: Annotated[str | None, option("auto, center, none, or a box x,y,w,h (auto).", "--crop")] = None,
    window: Annotated[int | None, option("Frames of a clip; the whole source if left out.", "--window")] = None,
    window_stride: Annotated[int | None, option("Frames between windows (= window).", "--window-stride")] = None,
    frame_step: Annotated[int | None, option("Take each n-th frame (1).", "--frame-step")] = None,
    fps: Annotated[float | None, option("Resample videos to this rate; attach it to images.", "--fps")] = None,
    resample: Annotated[str | None, option("auto or never (auto).", "--resample")] = None,
    strip_size: Annotated[int | None, option("Pixels of a frame in a strip.", "--strip-size")] = None,
    labels: Annotated[str | None, option("none, or folder: the first folder is the class.", "--labels")] = None,
    name: Annotated[str | None, option("Name of the data set.", "--name")] = None,
    min_frames: Annotated[int | None, option("Skip shorter sources (16).", "--min-frames")] = None,
    max_frames: Annotated[int | None, option("Skip longer sources.", "--max-frames")] = None,
    max_pixels: Annotated[int | None, option("Skip sources with larger frames.", "--max-pixels")] = None,
    timeout: Annotated[float | None, option("Seconds to wait for a frame (60).", "--timeout")] = None,
    memory_mib: Annotated[int | None, option("Memory of a decoder in MiB (4096).", "--memory-mib")] = None,
    video_length: Annotated[int | None, option("Frames of a training clip, for arrays (10).", "--video-length")] = None,
    every_nth: Annotated[int | None, option("Step of a training clip, for arrays (2; MUG 1).", "--every-nth")] = None,
    split: Annotated[str | None, option("all, train or test, for arrays (all).", "--split")] = None,
    miniclip: Annotated[bool, option("Cut each training video of Weizmann into 20.", "--miniclip")] = False,
    lists: Annotated[list[Path] | None, option("Text list of clips to take; may be repeated.", "--list")] = None,
    write_lists: Annotated[Path | None, option("Folder for lists of the clips taken.", "--write-lists")] = None,
    workers: Workers = None,
    strict: Annotated[bool, option("End at the first unusable source.", "--strict")] = False,
    overwrite: Overwrite = False,
) -> Result:
    """Turn videos, frame folders, image strips or a data set's arrays into a clip store."""
    options = {key: value for key, value in locals().items() if key != "console"}
    from vidgen.data.prepare import PrepareSettings
    from vidgen.data.prepare import prepare as run

    settings = make(PrepareSettings, **options)
    with console.progress("reading") as advance:
        report = run(settings, lambda at: advance(at.done, at.total, f"{at.name} {at.decoding or ''}".strip()))
    for note in report.notes:
        console.say(f"note: {note.name}: {note.text}")
    info = report.info
    lines = [f"skipped {skipped.name}: {skipped.reason}" for skipped in report.skipped]
    if report.ignored:
        more = ", ..." if len(report.ignored) > 3 else ""
        lines.append(f"ignored {len(report.ignored)} other files: {', '.join(report.ignored[:3])}{more}")
    lines += [f"wrote {path}" for path in report.lists]
    lines.append(f"{report.out}: {info.clips} clips, {info.frames} frames of {info.width}x{info.height}")
    lines.append(f"from {report.sources - len(report.skipped)} of {report.sources} sources ({report.layout})")
    return Result(report.to_dict(), "\n".join([*lines, f"next: vidgen data show {report.out} -o sheet.png"]))


def show(
    console: Console,
    store: Annotated[Path, typer.Argument(help="Folder of the clip store.")],
    out: Annotated[Path | None, option("Also draw a contact sheet into this PNG.", "-o", "--out")] = None,
    clips: Annotated[int, option("Clips on the sheet.", "--clips")] = 24,
    seed: Annotated[int, option("Which clips.", "--seed")] = 0,
    verify: Annotated[bool, option("Read everything and check the content hash.", "--verify")] = False,
) -> Result:
    """Describe a clip store, and draw a contact sheet."""
    from vidgen.data.contact_sheet import describe, write_contact_sheet
    from vidgen.data.store import ClipStore

    opened = ClipStore.open(store)
    if verify:
        opened.verify()
    values = describe(opened)
    length = values["length"]
    lines = [_store_line(values), f"clip length {length['min']} to {length['max']} frames, {values['fps']:g} fps"]
    lines += [f"  {label}: {count} clips" for label, count in values["labels"].items()]
    lines += [f"  split {split}: {count} clips" for split, count in (values.get("splits") or {}).items()]
    lines.append(f"content hash {values['content_hash']}" + (" (verified)" if verify else ""))
    if out is not None:
        values["sheet"] = str(write_contact_sheet(store, out, clips=clips, seed=seed))
        lines.append(f"wrote {values['sheet']}")
    return Result(values, "\n".join(lines))


def _store_line(values: dict[str, Any]) -> str:
    size = f"{values['width']}x{values['height']}"
    return f"{values['path']}: {values['name']}, {values['clips']} clips, {values['frames']} frames of {size}"
