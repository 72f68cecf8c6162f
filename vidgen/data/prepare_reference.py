"""Turns TwoStreamVAN's arrays into a clip store: one store with both splits, at the size of the arrays.

Every clip says in its attributes which split it belongs to; ``splits.split_clips`` reads that. Clips cut out of one
video share its frames, so mini-clips take no more room than the videos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from vidgen.data.clip_lists import ListLine, list_split, read_list, write_list
from vidgen.data.layouts import Frame, SourceClip, printable, scan, unreadable
from vidgen.data.npy_video import NpyVideo, NpyVideoError
from vidgen.data.prepare_report import (
    Note,
    PrepareReport,
    Progress,
    Skipped,
    default_name,
    nothing_usable,
    unused_labels,
)
from vidgen.data.prepare_settings import PrepareSettings
from vidgen.data.reference_layouts import REFERENCE_LAYOUTS, NameFormatError, ReferenceLayout, Span, Take, common_size
from vidgen.data.splits import SPLITS
from vidgen.data.store import StoreWriter, Window
from vidgen.data.timeline import DEFAULT_FPS
from vidgen.data.transform import resize
from vidgen.data.windows import NO_CROP, miniclip_spans, resize_bilinear
from vidgen.errors import DataError, StorageError


@dataclass(frozen=True)
class _Source:
    """A file that can be used: its path as reports name it, what its name says, and its array."""

    name: str
    take: Take
    video: NpyVideo

    @property
    def clip(self) -> SourceClip:
        return SourceClip(self.name, self.video.path)


@dataclass
class _Survey:
    """What lies in the source: usable files, what all names say, and what is left out."""

    settings: PrepareSettings
    sources: list[_Source] = field(default_factory=list)
    takes: list[Take] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    files: int = 0

    def skip(self, clip: SourceClip, seen: str, cause: str) -> None:
        """Leave a file out; with ``strict``, end."""
        if self.settings.strict:
            raise unreadable(clip, seen, cause)
        self.skipped.append(Skipped(clip.name, f"{seen}: {cause}"))


#: The clips of each file: split, first and last frame.
_Plan = dict[str, list[tuple[str, Span]]]


def prepare_reference(settings: PrepareSettings, progress: Callable[[Progress], None] | None = None) -> PrepareReport:
    """Make a clip store from the arrays of a TwoStreamVAN data set (spec section 6); see ``prepare``.

    With ``crop`` ``auto`` frames keep the size that most files have (others are resized to it, and noted) and the
    store carries the data set's crop rule; with any other crop they are stored as squares of ``size``.

    Labels are the data set's actions in their order, whether or not a clip has them. Attributes of a clip: ``action``,
    ``actor``, ``name`` (as in lists), ``split``, ``first_frame``, ``step`` (the one meant for its action), and where
    the names tell them ``seq`` and ``subsequence`` or ``view``.

    Raises:
        DataError: nothing usable was found, a list is not one, or with ``strict`` a file cannot be used.
        StorageError: the store or a list cannot be written.
    """
    layout = REFERENCE_LAYOUTS[settings.layout]
    survey = _look(settings, layout)
    plan = _by_lists(survey, layout) if settings.lists else _by_rule(survey, layout)
    if not plan:
        raise nothing_usable(settings, survey.skipped)
    used = [source for source in survey.sources if source.take.name in plan]
    height, width, crop = settings.size, settings.size, NO_CROP
    if settings.crop == "auto":
        height, width = common_size((source.video.height, source.video.width) for source in used)
        crop = layout.crop(settings.size)
        crop.size(height, width)
    lists = _list_paths(settings, layout)
    writer = StoreWriter(
        settings.out,
        name=settings.name or default_name(settings.source.resolve()),
        height=height,
        width=width,
        labels=layout.actions,
        overwrite=settings.overwrite,
        crop=crop,
        actors=layout.order_actors(take.actor for take in survey.takes),
    )
    with writer:
        for done, source in enumerate(used, 1):
            try:
                _store(settings, layout, writer, source, plan[source.take.name])
            except NpyVideoError as error:
                del plan[source.take.name]
                survey.skip(source.clip, error.seen, error.cause)
            else:
                _note_size(survey, source, height, width)
            if progress is not None:
                progress(Progress(done, len(used), source.name, len(writer.clips), writer.frames))
        if not writer.clips:
            raise nothing_usable(settings, survey.skipped)
        for split, path in lists.items():
            write_list(path, _list_lines(used, plan, split))
    assert writer.info is not None
    return PrepareReport(
        out=settings.out,
        info=writer.info,
        layout=layout.name,
        sources=survey.files,
        skipped=tuple(survey.skipped),
        notes=(*survey.notes, *unused_labels(layout.actions, writer.clips)),
        ignored=tuple(survey.ignored),
        lists=tuple(map(str, lists.values())),
    )


def _look(settings: PrepareSettings, layout: ReferenceLayout) -> _Survey:
    """Read all names and all headers.

    Raises:
        DataError: there is no array, or with ``strict`` one cannot be used.
    """
    source = settings.source
    root, files = (source.parent, (PurePath(source.name),)) if source.is_file() else (source, scan(source))
    survey = _Survey(settings)
    taken: set[str] = set()
    for file in files:
        if file.suffix.lower() != ".npy":
            survey.ignored.append(printable(file))
            continue
        survey.files += 1
        clip = SourceClip(printable(file), root / file)
        try:
            take = layout.parse(printable(PurePath(file.stem)))
        except NameFormatError as error:
            survey.skip(clip, str(error), f"it is no file of the layout {layout.name}, or misnamed")
            continue
        if take.name in taken:
            survey.skip(clip, f"there is another {take.name}.npy", "a copy in another folder")
            continue
        taken.add(take.name)
        survey.takes.append(take)
        _open(survey, layout, clip, take)
    if not survey.files:
        raise DataError(
            f"nothing to prepare in {source}",
            seen=f"no .npy file among {len(files)} files" if files else "there is no file",
            cause=f"the path is wrong, or its files are no arrays as the layout {layout.name} has them",
            fix=f"look at it (ls {source}) and choose another --layout",
        )
    return survey


def _open(survey: _Survey, layout: ReferenceLayout, clip: SourceClip, take: Take) -> None:
    limits = survey.settings
    try:
        video = NpyVideo.open(
            clip.path, time_last=layout.time_last, max_frames=limits.max_frames, max_pixels=limits.max_pixels
        )
    except NpyVideoError as error:
        survey.skip(clip, error.seen, error.cause)
    else:
        survey.sources.append(_Source(clip.name, take, video))


def _by_rule(survey: _Survey, layout: ReferenceLayout) -> _Plan:
    """The clips that the data set's own rule makes."""
    settings = survey.settings
    frames, every_nth = settings.video_length, settings.every_nth or layout.every_nth
    is_test = layout.test_takes(survey.takes)
    plan: _Plan = {}
    for source in survey.sources:
        take, length = source.take, source.video.length
        step = layout.class_step(take.action, every_nth)
        own = SPLITS if layout.spans_in_time else ("test" if is_test(take) else "train",)
        wanted = [split for split in own if settings.split in ("all", split)]
        clips: list[tuple[str, Span]] = []
        short = []
        for split in wanted:
            span = layout.span(take, length, split, frames, every_nth)
            if span is None:
                short.append(split)
            elif settings.miniclip and split == "train":
                clips += [(split, window) for window in miniclip_spans(span, frames, step)]
            else:
                clips.append((split, span))
        if clips:
            plan[take.name] = clips
        if short:
            seen = f"with {length} frames it is too short to {' and '.join(map(_purpose, short))}"
            cause = f"{frames} frames at step {step} are asked for"
            if clips:
                survey.notes.append(Note(source.name, f"{seen}: {cause}"))
            else:
                survey.skip(source.clip, seen, cause)
    return plan


def _purpose(split: str) -> str:
    return "train on" if split == "train" else "test"


def _by_lists(survey: _Survey, layout: ReferenceLayout) -> _Plan:
    """The clips that the lists name; a line that cannot be followed is skipped and reported.

    Raises:
        DataError: a list cannot be read, or with ``strict`` a line cannot be followed.
    """
    settings = survey.settings
    sources = {source.take.name: source for source in survey.sources}
    plan: _Plan = defaultdict(list)
    listed: set[str] = set()
    for path in settings.lists:
        split = list_split(path)
        for line in read_list(path):
            listed.add(line.name)
            if settings.split not in ("all", split):
                continue
            reason = _wrong_line(line, sources.get(line.name), settings)
            if reason is None:
                plan[line.name].append((split, (line.first, line.last)))
            else:
                clip = SourceClip(f"{line.name} {line.first} {line.last}", path)
                survey.skip(clip, reason, f"{path.name} was made for other files or a smaller --video-length")
    if unlisted := len(sources.keys() - listed):
        survey.notes.append(Note(layout.name, f"{unlisted} files are in no list"))
    return dict(plan)


def _wrong_line(line: ListLine, source: _Source | None, settings: PrepareSettings) -> str | None:
    """Why a line of a list cannot be followed; None if it can."""
    if source is None:
        return f"there is no usable file {line.name}.npy"
    if line.last >= source.video.length:
        return f"it has frames 0 to {source.video.length - 1}"
    length = line.last - line.first + 1
    return f"these are {length} frames" if length < settings.video_length else None


def _list_paths(settings: PrepareSettings, layout: ReferenceLayout) -> dict[str, Path]:
    """Split -> file to write its list to.

    Raises:
        StorageError: it is there already, and may not be overwritten.
    """
    if settings.write_lists is None:
        return {}
    paths = {}
    for split in SPLITS if settings.split == "all" else (settings.split,):
        every_nth = settings.every_nth or layout.every_nth
        # Mini-clips are for training: the test list is the same with and without them.
        miniclip = settings.miniclip and split == "train"
        name = layout.list_name(split, settings.video_length, every_nth, miniclip=miniclip)
        paths[split] = settings.write_lists / name
        if paths[split].exists() and not settings.overwrite:
            raise StorageError(
                f"cannot write {paths[split]}",
                seen="it exists",
                cause="an earlier run wrote it, or it came with the data set",
                fix="name another folder with --write-lists, or pass --overwrite",
            )
    return paths


def _list_lines(used: Sequence[_Source], plan: _Plan, split: str) -> Iterator[ListLine]:
    for source in used:
        for own, (first, last) in plan.get(source.take.name, ()):
            if own == split:
                yield ListLine(source.take.name, first, last)


def _store(
    settings: PrepareSettings,
    layout: ReferenceLayout,
    writer: StoreWriter,
    source: _Source,
    clips: Sequence[tuple[str, Span]],
) -> None:
    """Copy the frames that the clips of one file show, each once.

    Raises:
        NpyVideoError: the file was changed meanwhile, or the box to cut out does not lie in its frames.
    """
    take = source.take
    first = min(span[0] for _, span in clips)
    stop = max(span[1] for _, span in clips) + 1
    step = layout.class_step(take.action, settings.every_nth or layout.every_nth)
    writer.extend(
        (_fit(settings, block, writer) for block in source.video.blocks(first, stop)),
        [
            Window(start - first, last - start + 1, {"split": split, "first_frame": start, "step": step})
            for split, (start, last) in clips
        ],
        source=source.name,
        fps=settings.fps or DEFAULT_FPS,
        label=layout.actions.index(take.action),
        attributes=take.attributes(layout),
    )


def _fit(settings: PrepareSettings, block: npt.NDArray[np.uint8], writer: StoreWriter) -> npt.NDArray[np.uint8]:
    """Frames at the size of the store."""
    if settings.crop != "auto":
        try:
            return np.stack([resize(Frame(frame), settings.size, settings.media_crop) for frame in block])
        except ValueError as error:
            raise NpyVideoError(str(error), "the box was chosen for other videos") from error
    return block if block.shape[1:3] == writer.size else resize_bilinear(block, *writer.size)


def _note_size(survey: _Survey, source: _Source, height: int, width: int) -> None:
    video = source.video
    if survey.settings.crop == "auto" and (video.height, video.width) != (height, width):
        text = f"resized from {video.width}x{video.height} to {width}x{height}, the size of most files"
        survey.notes.append(Note(source.name, text))
