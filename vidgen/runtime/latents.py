"""The noise and the label of video i of seed s, which depend on (s, i) and the model's sizes alone (contracts 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import SamplingError, SettingsError
from vidgen.models.config import ModelInterface, TensorSpec

#: Seeds and video indices are below this. Larger ones would take two words of the seed sequence, and two
#: different (seed, index, stream) could then share a stream.
LIMIT = 2**32


def stream(seed: int, index: int, number: int) -> np.random.Generator:
    """The random stream of one input of one video: PCG64 over SeedSequence([seed, index, number]).

    Args:
        number: position of the input among the inputs of the interface. Each input has a stream of its own, so
            that adding labels, or a longer motion, changes nothing else.

    Raises:
        SettingsError: seed or index outside [0, 2**32).
    """
    for name, value in (("seed", seed), ("video index", index)):
        if not 0 <= value < LIMIT:
            raise SettingsError(
                f"cannot use {name} {value}",
                seen=f"{value}, expected 0 to {LIMIT - 1}",
                cause="it is negative or too large",
                fix=f"use a {name} from 0 to {LIMIT - 1}",
            )
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, number])))


def latents(
    interface: ModelInterface,
    seed: int,
    indices: Sequence[int],
    *,
    motion: Sequence[int] | None = None,
    frames: int | None = None,
    labels: Sequence[int] | None = None,
    first_frames: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[Any]]:
    """The inputs of some videos.

    Noise is drawn in float64 and rounded to the input's type. The motion latent is drawn time step by time
    step, so that a longer video's latent begins with the shorter one's.

    Args:
        seed: of the whole set, in [0, 2**32).
        indices: one video index for each row, in [0, 2**32). They choose the appearance.
        motion: the index whose motion (and label) each row takes; the same as ``indices`` when None. Row
            i m + j of a grid of n appearances and m motions has index i and motion j (spec g3an 3).
        frames: length of the videos; the interface's default when None.
        labels: label indices; video i takes ``labels[i % len(labels)]``. Drawn from (seed, i) when None.
        first_frames: float32 [k, 3, height, width] in [-1, 1], for a model that goes on from a given frame; video i
            takes ``first_frames[i % k]``.

    Returns:
        One C-contiguous array for each input of the interface, with ``len(indices)`` rows.

    Raises:
        SamplingError: no video of that many frames, or a label for a model without labels, or outside its classes;
            first frames missing, not asked for, or of another shape.
        SettingsError: seed or index out of range; ``motion`` of another length.
    """
    motion = indices if motion is None else motion
    if len(motion) != len(indices) or not indices:
        raise SettingsError(
            "cannot make latents",
            seen=f"{len(indices)} indices and {len(motion)} motions, expected as many of both, at least one",
            cause="each video needs one appearance and one motion",
            fix="give lists of the same length",
        )
    rule = interface.frames
    length = rule.length(rule.default if frames is None else frames)
    check_labels(interface, labels)
    check_first_frames(interface, first_frames)
    arrays: dict[str, NDArray[Any]] = {}
    for number, spec in enumerate(interface.inputs):
        if spec.kind == "label":
            rows = [_label(spec, seed, index, number, labels) for index in motion]
        elif spec.kind == "image":
            assert first_frames is not None
            rows = [first_frames[index % len(first_frames)] for index in indices]
        elif spec.name == rule.input:
            rows = [_moving(spec, rule.axis, stream(seed, index, number), length) for index in motion]
        else:
            rows = [_still(spec, stream(seed, index, number)) for index in indices]
        arrays[spec.name] = np.ascontiguousarray(np.stack(rows).astype(spec.dtype, copy=False))
    return arrays


def _still(spec: TensorSpec, generator: np.random.Generator) -> NDArray[Any]:
    shape = tuple(int(size) for size in spec.shape[1:])
    return generator.standard_normal(shape).astype(spec.dtype)


def _moving(spec: TensorSpec, axis: int, generator: np.random.Generator, length: int) -> NDArray[Any]:
    rest = tuple(int(size) for i, size in enumerate(spec.shape) if i not in (0, axis))
    time_major = generator.standard_normal((length, *rest)).astype(spec.dtype)
    return np.moveaxis(time_major, 0, axis - 1)


def _label(spec: TensorSpec, seed: int, index: int, number: int, labels: Sequence[int] | None) -> NDArray[Any]:
    value = labels[index % len(labels)] if labels else stream(seed, index, number).integers(classes(spec))
    return np.asarray(value, dtype=spec.dtype)


def video_labels(
    interface: ModelInterface, seed: int, indices: Sequence[int], labels: Sequence[int] | None = None
) -> list[int] | None:
    """The label index of each of some videos, as :func:`latents` gives it; None for a model without labels."""
    for number, spec in enumerate(interface.inputs):
        if spec.kind == "label":
            return [int(_label(spec, seed, index, number, labels)) for index in indices]
    return None


def check_first_frames(interface: ModelInterface, first_frames: NDArray[np.float32] | None) -> None:
    """Raise unless first frames were given to a model that takes them, and to no other.

    Raises:
        SamplingError: missing, not asked for, or of another shape or type.
    """
    spec = next((spec for spec in interface.inputs if spec.kind == "image"), None)
    if spec is None and first_frames is None:
        return
    if spec is None or first_frames is None:
        raise SamplingError(
            "cannot go on from a first frame" if spec is None else "no first frame to go on from",
            seen="a first frame, expected none" if spec is None else f"none, expected one as {spec.name}",
            cause="the artifact was exported without --conditional, or its model has no such form"
            if spec is None
            else "the artifact was exported with --conditional",
            fix="export it with --conditional, or leave --first-frame out"
            if spec is None
            else "use --first-frame IMAGE",
        )
    wanted = list(spec.shape[1:])
    if first_frames.ndim != 4 or not len(first_frames) or list(first_frames.shape[1:]) != wanted:
        raise SamplingError(
            "cannot go on from these first frames",
            seen=f"shape {list(first_frames.shape)}, expected {['k', *wanted]} with k >= 1",
            cause="the frames were not scaled to the model's size, or the axes are in another order",
            fix="give RGB frames as float32 [k, 3, height, width] in [-1, 1]",
        )
    if first_frames.dtype != np.float32 or not (np.abs(first_frames) <= 1).all():
        raise SamplingError(
            "cannot go on from these first frames",
            seen=f"{first_frames.dtype} from {first_frames.min()} to {first_frames.max()}, expected float32 in [-1, 1]",
            cause="8-bit pixels were not scaled, or a frame holds NaN",
            fix="divide 8-bit values by 127.5 and subtract 1",
        )


def label_input(interface: ModelInterface) -> TensorSpec | None:
    """The label input of a model, None where it takes no labels."""
    return next((spec for spec in interface.inputs if spec.kind == "label"), None)


def classes(spec: TensorSpec) -> int:
    """Number of classes of a label input, from its range."""
    if spec.range is None:
        raise SamplingError(
            f"cannot draw labels for input {spec.name}",
            seen="no range, expected the smallest and largest label",
            cause="the manifest was edited or comes from another version",
            fix="export the artifact again, or give --labels",
        )
    return int(spec.range[1]) + 1


def check_labels(interface: ModelInterface, labels: Sequence[int] | None) -> None:
    """Raise unless these label indices suit the model.

    Raises:
        SamplingError: the model has no labels, or a label is outside its classes.
    """
    if labels is None:
        return
    spec = label_input(interface)
    if spec is None:
        raise SamplingError(
            "cannot choose labels",
            seen=f"labels {list(labels)[:5]}, expected none",
            cause="the model was trained without labels",
            fix="drop --labels",
        )
    wrong = [label for label in labels if spec.range is not None and not 0 <= label < classes(spec)]
    if wrong or not labels:
        raise SamplingError(
            "cannot choose labels",
            seen=f"label {wrong[0]}, expected 0 to {classes(spec) - 1}" if wrong else "an empty list",
            cause="the model has no such class" if wrong else "no label was given",
            fix=f"use --labels {classes(spec) - 1}, or less" if wrong else "drop --labels to draw them",
        )


def _valid_label(interface: ModelInterface, names: Sequence[str]) -> str:
    if label_input(interface) is None:
        return "drop --labels"
    return f"use --labels {names[0]}" if names else "use --labels 0, or another number of a class"


def label_indices(interface: ModelInterface, names: Sequence[str], wanted: Sequence[str | int]) -> tuple[int, ...]:
    """Label indices of class names or numbers.

    Args:
        names: the class names of the model's data, possibly none.
        wanted: names, or numbers as int or text. A name goes before a number.

    Raises:
        SamplingError: an unknown name, a number outside the classes, or a model without labels.
    """
    found: list[int] = []
    for label in wanted:
        text = str(label)
        if text in names:
            found.append(list(names).index(text))
        elif text.isascii() and text.isdigit():
            found.append(int(text))
        else:
            known = ", ".join(names) or "numbers only (the data had no class names)"
            raise SamplingError(
                f"unknown label {text!r}",
                seen=f"{text!r}, expected one of {known}" if label_input(interface) else f"{text!r}, expected none",
                cause="a typing error, or a model of other classes"
                if label_input(interface)
                else "the model was trained without labels",
                fix=_valid_label(interface, names),
            )
    check_labels(interface, found)
    return tuple(found)
