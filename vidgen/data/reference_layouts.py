"""TwoStreamVAN's data sets as their authors lay them out: names, classes, actors, steps and splits (spec section 6)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vidgen.data.store_format import AttributeValue
from vidgen.data.windows import (
    MUG_CROP,
    SYNACTION_TEST_OFFSET,
    WEIZMANN_CROP,
    Crop,
    span_needed,
    weizmann_test_span,
    weizmann_train_span,
)

Span = tuple[int, int]

WEIZMANN_ACTIONS = tuple("bend jack pjump wave1 wave2 jump run side skip walk".split())
WEIZMANN_ACTORS = tuple("daria denis eli ido ira lena lyova moshe shahar".split())
MUG_ACTIONS = tuple("anger disgust fear happiness sadness surprise".split())
MUG2_ACTIONS = tuple("anger disgust surprise sadness happiness fear".split())
SYNACTION_ACTIONS = tuple(
    """bow cheer clap climb crossstep hit hook jump kick knee
    pick pitch push roll run squat stall standup walk wave""".split()
)
SYNACTION_ACTORS = tuple("douglas kachujin liam lola malcolm regina remy shae stefani swat".split())

_SLOW_WEIZMANN = frozenset(["run", "side", "skip"])
_SYNACTION_STEPS = {**dict.fromkeys((0, 6, 9, 10, *range(12, 20)), 4), **dict.fromkeys((5, 7, 8, 11), 6)}
#: Share of the actors of MUG2 that are trained on.
_MUG2_TRAIN = 0.7
#: The sub-sequence of each MUG sequence that is the test.
_MUG_TEST = 3


class NameFormatError(ValueError):
    """A file is not named as the layout asks; the message says how it differs."""


@dataclass(frozen=True)
class Take:
    """What the name of one file says.

    Args:
        name: the name without ``.npy``, as lists have it.
        actor: who acts.
        action: what is done.
        seq: which recording of that, if the layout numbers them.
        last: the last number of the name: MUG's sub-sequence, SynAction's background and camera.
    """

    name: str
    actor: str
    action: str
    seq: str | None = None
    last: int | None = None

    def attributes(self, layout: ReferenceLayout) -> dict[str, AttributeValue]:
        """What a store keeps of it."""
        record: dict[str, AttributeValue] = {"action": self.action, "actor": self.actor, "name": self.name}
        if self.seq is not None:
            record["seq"] = self.seq
        if self.last is not None and layout.last_name is not None:
            record[layout.last_name] = self.last
        return record


@dataclass(frozen=True)
class ReferenceLayout:
    """One data set's arrangement of ``.npy`` files.

    Args:
        name: as ``--layout`` takes it.
        pattern: form of the file names, for messages.
        actions: the classes in their order.
        actors: all actors in their order; None to take those found.
        every_nth: step of the reference's scripts.
        time_last: whether arrays are [height, width, 3, T] instead of [T, height, width, 3].
        last_name: attribute that keeps the last number of a name.
        spans_in_time: whether training and test are parts of each video.
        list_prefix: before the name of a list.
    """

    name: str
    pattern: str
    actions: tuple[str, ...]
    actors: tuple[str, ...] | None
    every_nth: int
    time_last: bool = False
    last_name: str | None = None
    spans_in_time: bool = False
    list_prefix: str = ""

    def parse(self, name: str) -> Take:
        """Read a file name without its suffix.

        Raises:
            NameFormatError: it is not of the layout's form, or names no known action or actor.
        """
        parts = name.split("_")
        count = self.pattern.count("_") + 1
        if len(parts) != count or not all(parts):
            raise NameFormatError(f"its name is not of the form {self.pattern}.npy")
        actor, action = parts[:2]
        if action not in self.actions:
            raise NameFormatError(f"{action!r} is none of the actions {' '.join(self.actions)}")
        if self.actors is not None and actor not in self.actors:
            raise NameFormatError(f"{actor!r} is none of the actors {' '.join(self.actors)}")
        if count == 2:
            return Take(name, actor, action)
        numbers = {str(self.last_name): parts[3]}
        if self.name == "mug2":
            numbers["actor"] = actor
        if self.name == "synaction":
            numbers["seq"] = parts[2]
        for what, text in numbers.items():
            if not re.fullmatch("[0-9]{1,9}", text):
                raise NameFormatError(f"its {what} is {text!r}, expected a number")
        take = Take(name, actor, action, parts[2], int(parts[3]))
        assert take.last is not None
        if self.name in ("mug", "mug2") and take.last > _MUG_TEST:
            raise NameFormatError(f"its sub-sequence is {take.last}, expected 0 to {_MUG_TEST}")
        return take

    def class_step(self, action: str, every_nth: int) -> int:
        """The step meant for an action, by which lists are built. The reference's training never applies it."""
        if self.name == "weizmann":
            return 1 if action in _SLOW_WEIZMANN else every_nth
        if self.name == "synaction":
            return _SYNACTION_STEPS.get(self.actions.index(action), 2)
        return every_nth

    def crop(self, size: int) -> Crop:
        """The part of a frame that training to ``size`` pixels sees."""
        if self.name == "weizmann":
            return WEIZMANN_CROP
        if self.name == "synaction":
            return Crop("square", size, SYNACTION_TEST_OFFSET)
        return MUG_CROP

    def order_actors(self, found: Iterable[str]) -> tuple[str, ...]:
        """All actors in their order: the documented ones, or those found, sorted (MUG2: by number)."""
        if self.actors is not None:
            return self.actors
        actors = sorted(set(found))
        return tuple(sorted(actors, key=int) if self.name == "mug2" else actors)

    def test_takes(self, takes: Iterable[Take]) -> Callable[[Take], bool]:
        """Whether a file is in the test split, for layouts that split by file; needs all files of the data set."""
        if self.name == "mug2":
            actors = self.order_actors(take.actor for take in takes)
            trained = frozenset(actors[: math.floor(_MUG2_TRAIN * len(actors))])
            return lambda take: take.actor not in trained
        if self.name == "synaction":
            return self._is_synaction_test
        return lambda take: take.last == _MUG_TEST

    def _is_synaction_test(self, take: Take) -> bool:
        assert self.actors is not None and take.seq is not None
        number = self.actors.index(take.actor) * len(self.actions) + self.actions.index(take.action)
        return (number * 2 + int(take.seq)) % 15 == take.last

    def span(self, take: Take, length: int, split: str, frames: int, every_nth: int) -> Span | None:
        """First and last frame of a file's part in its split; None if it is too short and is left out.

        Args:
            take: the file.
            length: its frames.
            split: ``train`` or ``test``; of a layout that splits by file, the file's own.
            frames: T, the frames of a training clip.
            every_nth: step of all actions but those with one of their own.
        """
        step = self.class_step(take.action, every_nth)
        if self.spans_in_time:
            rule = weizmann_train_span if split == "train" else weizmann_test_span
            return rule(length, frames, step)
        return (0, length - 1) if length > span_needed(frames, step) else None

    def list_name(self, split: str, frames: int, every_nth: int, *, miniclip: bool) -> str:
        """The reference's name for a list, e.g. ``Train_list_20.txt`` for T = 10 and step 2."""
        number = frames if self.name == "synaction" else frames * every_nth
        return f"{'miniclip_' if miniclip else ''}{self.list_prefix}{split.capitalize()}_list_{number}.txt"


REFERENCE_LAYOUTS: dict[str, ReferenceLayout] = {
    layout.name: layout
    for layout in (
        ReferenceLayout(
            "weizmann", "ACTOR_ACTION", WEIZMANN_ACTIONS, WEIZMANN_ACTORS, 2, time_last=True, spans_in_time=True
        ),
        ReferenceLayout("mug", "ACTOR_ACTION_SEQ_SPLIT", MUG_ACTIONS, None, 1, last_name="subsequence"),
        ReferenceLayout(
            "mug2", "ACTOR_ACTION_SEQ_SPLIT", MUG2_ACTIONS, None, 1, last_name="subsequence", list_prefix="mug2_"
        ),
        ReferenceLayout("synaction", "ACTOR_ACTION_SEQ_VIEW", SYNACTION_ACTIONS, SYNACTION_ACTORS, 2, last_name="view"),
    )
}


def common_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Height and width that most files have; the larger of two that tie."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size[0] * size[1], size))
