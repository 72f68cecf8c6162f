"""Which frames of a clip a network sees, and which part of them: TwoStreamVAN's picks, spans and crops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vidgen.errors import DataError, SettingsError

if TYPE_CHECKING:
    from vidgen.data.store import Clip, ClipStore

#: A source of random whole numbers: a generator, or a function from n to a number in 0 .. n - 1.
Draw = np.random.Generator | Callable[[int], int]

#: Part of a frame as (top, left, height, width) in pixels.
Box = tuple[int, int, int, int]

CROP_KINDS = ("none", "margin", "fraction", "square")
#: Mini-clips cut out of a training video.
MINI_CLIPS = 20


def _uniform(draw: Draw | None, count: int) -> int:
    """A whole number in 0 .. count - 1."""
    if draw is None:
        raise ValueError("a random pick needs a generator")
    return int(draw.integers(count)) if isinstance(draw, np.random.Generator) else int(draw(count))


def pick_frames(length: int, frames: int, step: int, *, test: bool, draw: Draw | None = None) -> list[int]:
    """Choose ``frames`` evenly spaced frames of a clip, as the reference's clip wrapper does (spec section 6).

    With more than ``frames * step`` frames every ``step``-th one is taken, from frame 0 (``test``) or from a start
    drawn uniformly from all that fit. A clip that is shorter, but has ``frames`` frames, gives its first ones, one
    after the other: the reference falls back to step 1 there, even if the clip would just fit.

    Args:
        length: frames of the clip.
        frames: how many to pick.
        step: distance between two of them.
        test: whether to start at frame 0 instead of drawing the start.
        draw: where the start comes from; not used in a test, nor by a clip that falls back.

    Returns:
        Frame numbers, increasing.

    Raises:
        DataError: the clip has fewer than ``frames`` frames.
        ValueError: a start has to be drawn and ``draw`` is None.
    """
    if frames < 1 or step < 1:
        raise ValueError(f"{frames} frames at step {step}: both are 1 or more")
    if length > frames * step:
        start = 0 if test else _uniform(draw, length - step * (frames - 1))
        return list(range(start, start + step * frames, step))
    if length >= frames:
        return list(range(frames))
    raise DataError(
        f"cannot pick {frames} frames of a clip",
        seen=f"it has {length}, at least {frames} are needed",
        cause="the clips were prepared for shorter videos",
        fix=f"train on shorter videos, or prepare the clips again with --min-frames {frames}",
    )


def step_of(clip: Clip, every_nth: int, *, class_steps: bool) -> int:
    """The step to pick a clip's frames at: ``every_nth``, or with ``class_steps`` the one meant for its action.

    The reference means some actions to have a step of their own and by mistake never applies it (spec section 6);
    prepared clips carry it as the attribute ``step``.
    """
    meant = clip.attributes.get("step")
    return meant if class_steps and isinstance(meant, int) and meant > 0 else every_nth


def span_needed(frames: int, step: int) -> int:
    """Frames from the first to the last of ``frames`` ones picked at ``step``, both included."""
    return (frames - 1) * step + 1


def weizmann_train_span(length: int, frames: int, step: int) -> tuple[int, int] | None:
    """First and last frame (both included) of a video's training part, its first two thirds.

    Returns:
        None where that part is too short, and the video is left out of training (spec section 6).
    """
    end = 2 * length // 3 - 1
    return (0, end) if end > span_needed(frames, step) else None


def weizmann_test_span(length: int, frames: int, step: int) -> tuple[int, int] | None:
    """First and last frame (both included) of a video's test part, its last third.

    A last third that is too short is extended to the front, into the training part (spec section 6).

    Returns:
        None where the whole video is too short for that.
    """
    start = 2 * length // 3
    if length - start <= span_needed(frames, step):
        start = length - span_needed(frames, step) - 1
    return (start, length - 1) if start >= 0 else None


def miniclip_spans(span: tuple[int, int], frames: int, step: int) -> list[tuple[int, int]]:
    """The 20 windows (first and last frame, both included) that the mini-clip option cuts out of a training span.

    Their starts are evenly spaced and rounded down, so that windows of a short span repeat (spec section 6).
    """
    first, last = span
    reach = (frames - 1) * step
    starts = np.linspace(0, last - first - reach, MINI_CLIPS).astype(int)
    return [(first + int(start), first + int(start) + reach) for start in starts]


@dataclass(frozen=True)
class Crop:
    """The part of a frame that a network sees: one box for all frames of a clip, drawn anew each time.

    Args:
        kind: ``none``: the whole frame; ``margin``: ``amount`` pixels less on both axes; ``fraction``: that share
            of both sides, rounded down; ``square``: ``amount`` pixels square.
        amount: see ``kind``.
        test_offset: rows above and columns left of the box in a test; None for the middle, rounded down.

    Raises:
        SettingsError: a value is not acceptable.
    """

    kind: str = "none"
    amount: float = 0.0
    test_offset: int | None = None

    def __post_init__(self) -> None:
        real = isinstance(self.amount, int | float) and not isinstance(self.amount, bool)
        accepted = {
            "none": lambda amount: amount == 0,
            "margin": lambda amount: amount >= 1 and amount == int(amount),
            "fraction": lambda amount: 0 < amount <= 1,
            "square": lambda amount: amount >= 1 and amount == int(amount),
        }
        if self.kind not in accepted or not real or not math.isfinite(self.amount):
            raise self._refusal()
        offset = self.test_offset
        whole = offset is None or (isinstance(offset, int) and not isinstance(offset, bool) and offset >= 0)
        if not accepted[self.kind](self.amount) or not whole:
            raise self._refusal()

    def _refusal(self) -> SettingsError:
        return SettingsError(
            "cannot crop by this rule",
            seen=f"kind {self.kind!r}, amount {self.amount!r}, test offset {self.test_offset!r}",
            cause="a margin or a square is 1 pixel or more, a fraction above 0 and at most 1, an offset 0 or more",
            fix=f"choose one of {', '.join(CROP_KINDS)} with such an amount",
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the box in frames of this size.

        Raises:
            DataError: the frames are too small for it.
        """
        sizes = height, width
        if self.kind == "margin":
            sizes = height - int(self.amount), width - int(self.amount)
        elif self.kind == "fraction":
            sizes = int(self.amount * height), int(self.amount * width)
        elif self.kind == "square":
            sizes = int(self.amount), int(self.amount)
        offset = self.test_offset or 0
        if min(sizes) < 1 or sizes[0] + offset > height or sizes[1] + offset > width:
            raise DataError(
                f"cannot crop frames of {height}x{width} pixels",
                seen=f"the rule {self.kind} {self.amount:g} (test offset {self.test_offset}) wants {sizes}",
                cause="the frames are smaller than those that the rule was made for",
                fix="prepare the clips again at their own size, or with --crop none",
            )
        return sizes

    def box(self, height: int, width: int, *, test: bool, generator: Draw | None = None) -> Box:
        """Place the box in frames of this size.

        Its row, then its column are drawn uniformly from 0 .. room - 1, where room is what the box leaves free:
        the last place is never taken, as in the reference (spec section 6). A box that leaves nothing free draws
        nothing.

        Returns:
            (top, left, height, width) in pixels.

        Raises:
            DataError: the frames are too small.
            ValueError: a place has to be drawn and ``generator`` is None.
        """
        high, wide = self.size(height, width)
        if test:
            middle = (height - high) // 2, (width - wide) // 2
            top, left = middle if self.test_offset is None else (self.test_offset, self.test_offset)
            return top, left, high, wide
        top = _uniform(generator, height - high) if height > high else 0
        left = _uniform(generator, width - wide) if width > wide else 0
        return top, left, high, wide

    def to_dict(self) -> dict[str, Any]:
        """The rule as a JSON object."""
        return {"kind": self.kind, "amount": self.amount, "test_offset": self.test_offset}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Crop:
        """The rule that ``to_dict`` wrote.

        Raises:
            SettingsError: it is not such a rule.
        """
        unknown = set(record) - {"kind", "amount", "test_offset"}
        if unknown or "kind" not in record:
            raise SettingsError(
                "cannot read a crop rule",
                seen=f"keys {', '.join(sorted(map(str, record))) or 'none'}, expected kind, amount, test_offset",
                cause="it was edited, or written by another version",
                fix="prepare the clips again",
            )
        return cls(record["kind"], record.get("amount", 0.0), record.get("test_offset"))


#: The whole frame.
NO_CROP = Crop()
#: The reference's rules, by layout (spec section 6); MUG2 is MUG.
WEIZMANN_CROP = Crop("margin", 5)
MUG_CROP = Crop("fraction", 0.9)
SYNACTION_TEST_OFFSET = 4
SYNACTION_CROP = Crop("square", 64, SYNACTION_TEST_OFFSET)


def _taps(source: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each target pixel the two source pixels beside it and the weight of the second."""
    place = (np.arange(target) + 0.5) * (source / target) - 0.5
    place = np.clip(place, 0, source - 1)
    low = np.floor(place).astype(np.intp)
    return low, np.minimum(low + 1, source - 1), (place - low).astype(np.float32)


def crop_and_resize(frames: npt.NDArray[np.uint8], box: Box, size: int) -> npt.NDArray[np.uint8]:
    """Cut ``box`` out of all frames and resize it to a square, the way OpenCV's bilinear filter does.

    Pixel centres lie at halves, edges repeat, and nothing is averaged when it shrinks; values agree with OpenCV's
    fixed-point arithmetic within one grey level. A box that has the size already is only copied.

    Args:
        frames: uint8 [T, height, width, 3].
        box: (top, left, height, width), inside the frames.
        size: pixels of a side of the result.

    Returns:
        uint8 [T, size, size, 3].

    Raises:
        ValueError: the box does not lie inside the frames.
    """
    top, left, high, wide = box
    if min(top, left) < 0 or min(high, wide, size) < 1 or top + high > frames.shape[1] or left + wide > frames.shape[2]:
        raise ValueError(f"the box {box} does not lie in frames of {frames.shape[1]}x{frames.shape[2]}")
    part = frames[:, top : top + high, left : left + wide]
    if (high, wide) == (size, size):
        return np.ascontiguousarray(part)
    return resize_bilinear(part, size, size)


def resize_bilinear(frames: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize uint8 [T, h, w, 3] to [T, height, width, 3] as ``crop_and_resize`` does."""
    above, below, down = _taps(frames.shape[1], height)
    west, east, across = _taps(frames.shape[2], width)
    upper = frames[:, above].astype(np.float32)
    rows = upper + (frames[:, below] - upper) * down[:, None, None]
    near = rows[:, :, west]
    mixed = near + (rows[:, :, east] - near) * across[:, None]
    return (mixed + np.float32(0.5)).astype(np.uint8)


def labels_of(
    store: ClipStore,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """The action and the actor of every clip, as numbers and as names.

    Actions are the labels of the store; a store without labels has those of its clips' attribute ``action``, in
    alphabetical order. Actors are the clips' attribute ``actor``, in the order that the store gives, else in
    alphabetical order.

    Returns:
        ``(actions, actors, action_names, actor_names)``: int64 [clips] each; an actor that is not known is -1.

    Raises:
        DataError: a clip has no action.
    """
    clips = store.clips
    given = [clip.attributes.get("action") for clip in clips]
    names = store.info.labels or tuple(sorted({str(action) for action in given if action is not None}))
    numbers = {name: number for number, name in enumerate(names)}
    actions = [
        clip.label if clip.label is not None else numbers.get(str(action), -1)
        for clip, action in zip(clips, given, strict=True)
    ]
    if -1 in actions:
        raise DataError(
            f"clip {actions.index(-1)} of {store.path} has no action",
            seen="neither a label nor an attribute action",
            cause="the clips were prepared without labels",
            fix="prepare them again with --labels folder, or with the layout of their data set",
        )
    actors = [str(clip.attributes.get("actor", "")) for clip in clips]
    actor_names = store.info.actors or tuple(sorted(set(actors) - {""}))
    actor_numbers = {name: number for number, name in enumerate(actor_names)}
    return (
        np.asarray(actions, np.int64),
        np.asarray([actor_numbers.get(actor, -1) for actor in actors], np.int64),
        names,
        actor_names,
    )
