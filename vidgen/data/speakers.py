"""Talking heads in a folder a speaker, as VoxCeleb has them: the speaker is the label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from vidgen.data.images import FrameFolders
from vidgen.data.layouts import IMAGE_SUFFIXES, Listing, Reading, ReadOptions, SourceClip, is_video, printable
from vidgen.data.store_format import AttributeValue
from vidgen.data.video import VideoFiles

#: How VoxCeleb names its speakers, and the videos that utterances were cut from.
_SPEAKER = re.compile("id[0-9]{5}")
_SESSION = re.compile("[A-Za-z0-9_-]{11}")


class SpeakerFolders:
    """Videos and folders of frames, at any depth in a folder that names the speaker.

    The speaker is the first folder on the path that is named like ``id00012``; where there is none, the first
    folder below the source. Clips have the attributes ``actor`` (the speaker), ``name``, and ``seq`` (the video
    that an utterance was cut from), where a folder named like a video number says it.
    """

    def find(self, root: Path, files: Sequence[PurePath]) -> Listing:
        found: dict[PurePath, None] = {}
        ignored = []
        for file in files:
            if is_video(root / file):
                found.setdefault(file)
            elif file.suffix.lower() in IMAGE_SUFFIXES:
                found.setdefault(file.parent)
            else:
                ignored.append(printable(file))
        clips = []
        for path in sorted(found, key=lambda path: path.parts):
            clip = _clip(root, path)
            if clip is None:
                ignored.append(printable(path))
            else:
                clips.append(clip)
        speakers = tuple(sorted({clip.label for clip in clips if clip.label is not None}))
        return Listing(tuple(clips), tuple(sorted(ignored)), speakers)

    def read(self, clip: SourceClip, options: ReadOptions) -> Reading:
        layout = FrameFolders() if clip.path.is_dir() else VideoFiles()
        return layout.read(clip, options)


def _clip(root: Path, path: PurePath) -> SourceClip | None:
    """The clip at ``path``; None if it lies in no folder that can be a speaker's."""
    folders = path.parts[:-1]
    if not folders:
        return None
    named = [part for part in folders if _SPEAKER.fullmatch(part)]
    speaker = printable(PurePath(named[0] if named else folders[0]))
    name = printable(path)
    attributes: dict[str, AttributeValue] = {"actor": speaker, "name": name}
    if len(folders) > 1 and _SESSION.fullmatch(folders[-1]):
        attributes["seq"] = folders[-1]
    return SourceClip(name=name, path=root / path, label=speaker, attributes=attributes)
