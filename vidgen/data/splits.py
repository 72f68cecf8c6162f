"""Divides the clips of a store into those to train on and those held out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from vidgen.errors import DataError, SettingsError

if TYPE_CHECKING:
    from vidgen.data.store import Clip, ClipStore

#: What the attribute ``split`` of a clip may say.
SPLITS = ("train", "test")


def split_clips(store: ClipStore, held_out_fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Indices of the clips to train on, and of those held out; both increasing.

    A store whose clips say which split they belong to (the attribute ``split``, as the reference's layouts write
    it), with both splits in it, is divided as it says. Any other is divided within each action by a hash of the
    clips' names: the division does not depend on the order of the clips, and a clip that is added moves few others.
    Clips cut out of one source, and sub-sequences of one sequence, stay together. Every action has clips on both
    sides.

    Args:
        store: the clips.
        held_out_fraction: share of the sources of each action to hold out, 0 (none) to below 1.
        seed: another seed holds out other clips.

    Raises:
        SettingsError: the fraction is not acceptable.
        DataError: an action has a single source.
    """
    real = isinstance(held_out_fraction, int | float) and not isinstance(held_out_fraction, bool)
    if not real or not 0 <= held_out_fraction < 1:
        raise SettingsError(
            "cannot hold out this share of the clips",
            seen=f"{held_out_fraction!r}, expected 0 or more and below 1",
            cause="a percentage was given, or nothing would be left to train on",
            fix="pass for example 0.1",
        )
    recorded = [clip.attributes.get("split") for clip in store.clips]
    if set(recorded) == set(SPLITS):
        return (
            [number for number, split in enumerate(recorded) if split == "train"],
            [number for number, split in enumerate(recorded) if split == "test"],
        )
    held_out: set[int] = set()
    if held_out_fraction:
        for action, groups in _groups(store).items():
            if len(groups) < 2:
                raise _single(store, action)
            ranked = sorted(groups, key=lambda name: _rank(seed, name))
            count = min(len(groups) - 1, max(1, round(held_out_fraction * len(groups))))
            held_out.update(number for name in ranked[:count] for number in groups[name])
    return [number for number in range(len(store)) if number not in held_out], sorted(held_out)


def _groups(store: ClipStore) -> dict[str, dict[str, list[int]]]:
    """Action -> name of a source -> its clips."""
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, clip in enumerate(store.clips):
        label = store.info.labels[clip.label] if clip.label is not None else clip.attributes.get("action", "")
        groups[str(label)][_source(clip)].append(number)
    return groups


def _source(clip: Clip) -> str:
    attributes = clip.attributes
    if "seq" in attributes:
        return f"{attributes.get('actor')}/{attributes.get('action')}/{attributes['seq']}"
    return clip.source


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()


def _single(store: ClipStore, action: str) -> DataError:
    named = f"of {action} " if action else ""
    return DataError(
        f"cannot hold out clips {named}in {store.path}",
        seen="they come from a single source",
        cause="every action needs clips on both sides, and clips of one source show the same",
        fix="add clips of it, or hold out nothing and score with other data",
    )
