"""A network of the user's own as an extractor: the file tells what it takes, and what it does not tell is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.clips import LOGITS, ClipExtractor, FrameExtractor
from vidgen.bench.scores.extractors.network import Network, Outputs
from vidgen.errors import ScoreError, SettingsError

#: Items computed together where the file leaves it open.
BATCH = 8
#: Axes of the input -> of what layout.
CLIP_LAYOUTS, FRAME_LAYOUTS = ("NTHWC", "NCTHW", "NTCHW"), ("NHWC", "NCHW")
#: How much of its spread a clip's features may change with the other clips of a batch.
TOLERANCE = 1e-3
#: Features of a clip: a covariance of so many takes 2 GiB.
MOST_FEATURES = 1 << 14
LICENCE = "of the weights: not known, the user's file"


@dataclass(frozen=True)
class Contract:
    """What a network of the user's takes.

    Attributes:
        layout: axes of the input, e.g. ``"NTHWC"``; without T it takes single frames.
        dtype: ``uint8`` or ``float32``. range: what 0 and 255 become; None for uint8.
        frames, size: fixed by the file or by the user; None takes any. batch: items computed together.
    """

    layout: str
    dtype: str
    range: tuple[float, float] | None
    frames: int | None
    size: tuple[int, int] | None
    batch: int

    def arranged(self, items: NDArray[np.uint8]) -> NDArray[Any]:
        """Items uint8 [n, (T,) H, W, 3] as the network takes them."""
        order = ["NTHWC".replace("T", "" if "T" not in self.layout else "T").index(axis) for axis in self.layout]
        values: NDArray[Any] = items.transpose(order)
        if self.range is not None:
            low, high = self.range
            values = values.astype(np.float32) * np.float32((high - low) / 255.0) + np.float32(low)
        return np.ascontiguousarray(values)


class Runner(Network, Protocol):
    """A network that says what computes it."""

    @property
    def description(self) -> str:
        """Name and version of what computes, and where."""


class _Arranged:
    """A network of another layout behind the interface of ours."""

    def __init__(self, inner: Network, contract: Contract) -> None:
        self._inner, self._contract = inner, contract

    def run(self, items: NDArray[np.uint8]) -> Outputs:
        """Describe items; axes of size 1 after the second are dropped."""
        # Batch by batch: float32 of a thousand clips would not fit.
        step = self._contract.batch
        starts = range(0, max(len(items), 1), step)
        parts = [self._inner.run(self._contract.arranged(items[at : at + step])) for at in starts]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: value.reshape(value.shape[:2]) if _is_flat(value) else value for name, value in found.items()}

    def close(self) -> None:
        """Give back what it runs on."""
        self._inner.close()


def read_contract(file: Path, dtype: str, shape: tuple[int | None, ...], options: Mapping[str, str]) -> Contract:
    """What an input of this type and shape takes.

    Args:
        shape: None where the file leaves a size open. options: ``layout``, ``range``, ``frames``, ``size``, ``batch``.

    Raises:
        SettingsError: an input that is no video, or one that the options do not make clear or contradict.
    """
    if dtype not in ("uint8", "float32"):
        raise refusal(
            file, f"an input of {dtype}, expected uint8 or float32", "the network was exported in another type"
        )
    layout = _layout(file, shape, options.get("layout"))
    sizes = dict(zip(layout, shape, strict=True))
    if sizes["C"] not in (3, None):
        raise refusal(file, f"{sizes['C']} channels in layout {layout}, expected 3", "it does not take RGB")
    side = _pair(file, options.get("size"))
    height, width = (_settled(file, name, sizes[name], side and side[i]) for i, name in enumerate("HW"))
    if (height is None) != (width is None):
        raise refusal(file, f"height {height} and width {width}", "one of them is open: set both, @size=HxW")
    return Contract(
        layout,
        dtype,
        _range(file, dtype, options.get("range")),
        _settled(file, "frames", sizes.get("T"), _whole(file, "frames", options.get("frames"))),
        None if height is None or width is None else (height, width),
        _settled(file, "batch", sizes["N"], _whole(file, "batch", options.get("batch"))) or BATCH,
    )


def refusal(file: Path, seen: str, cause: str, fix: str = "") -> SettingsError:
    """The error that says a file cannot be an extractor as it is."""
    return SettingsError(
        f"cannot use {file} as an extractor",
        seen=seen,
        cause=cause,
        fix=fix or "export a network with one input, uint8 [batch, frames, height, width, 3], see the docs on scores",
    )


def _layout(file: Path, shape: tuple[int | None, ...], given: str | None) -> str:
    layouts = {5: CLIP_LAYOUTS, 4: FRAME_LAYOUTS}.get(len(shape))
    if layouts is None:
        raise refusal(file, f"an input of {len(shape)} axes, expected 5 (clips) or 4 (frames)", "it takes no video")
    if given is not None:
        if given.upper() in layouts:
            return given.upper()
        raise refusal(file, f"layout={given}, expected {' or '.join(layouts)}", "a typing error, or another rank")
    fitting = [layout for layout in layouts if shape[layout.index("C")] == 3]
    if len(fitting) != 1:
        shown = ["?" if size is None else size for size in shape]
        raise refusal(
            file,
            f"an input {shown}, which could be {' or '.join(fitting or layouts)}",
            "the file does not tell which axis holds the three colours",
            f"--extractor {file}@layout={layouts[0]}",
        )
    return fitting[0]


def _settled(file: Path, name: str, fixed: int | None, given: int | None) -> int | None:
    if fixed is not None and given is not None and fixed != given:
        raise refusal(file, f"{name} {given} asked for, expected {fixed}", "the file fixes it", f"drop {name}")
    return given if fixed is None else fixed


def _whole(file: Path, name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise refusal(file, f"{name}={text}, expected a whole number of at least 1", "a typing error")
    return int(text)


def _pair(file: Path, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    sides = (_whole(file, "size", height), _whole(file, "size", width or height))
    assert sides[0] is not None and sides[1] is not None
    return sides[0], sides[1]


def _range(file: Path, dtype: str, text: str | None) -> tuple[float, float] | None:
    if dtype == "uint8":
        if text is not None:
            raise refusal(file, f"range={text} for a network of uint8", "8-bit levels have one range", "drop range")
        return None
    if text is None:
        raise refusal(
            file,
            "an input of float32 and no range",
            "the file does not tell what black and white are: 0..1, -1..1 or 0..255",
            f"--extractor {file}@range=-1..1",
        )
    try:
        low, high = (float(part) for part in text.split(".."))
    except ValueError:
        low = high = 0.0
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise refusal(file, f"range={text}, expected LOW..HIGH", "a typing error", f"--extractor {file}@range=-1..1")
    return low, high


def given_extractor(file: Path, inner: Runner, contract: Contract) -> Extractor:
    """An extractor of a loaded network, after it has been tried.

    Raises:
        ScoreError: it gives no features, no finite ones, or features that depend on the other clips of a batch.
    """
    network = _Arranged(inner, contract)
    outputs = _try(file, network, contract)
    # With one output its name does not matter; with several each is a space of its own.
    spaces = tuple(name for name in outputs if name != LOGITS) or (LOGITS,)
    if len(spaces) == 1:
        network = _Renamed(network, {spaces[0]: "features"})
        spaces = ("features",)
    facts = {
        "name": file.name,
        "size": contract.size,
        "weight_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "licence": LICENCE,
        "backend": inner.description,
    }
    described = {
        "layout": contract.layout,
        "dtype": contract.dtype,
        "range": list(contract.range) if contract.range else None,
        "tf32": False,
        "resize": "PIL bilinear" if contract.size else "none",
        "batch": contract.batch,
    }
    if "T" not in contract.layout:
        if spaces != ("features",):
            raise refusal(file, f"outputs {', '.join(spaces)}", "a network of frames must have one output of features")
        return FrameExtractor(_Only(network, "features"), facts, described)
    classes = LOGITS in outputs and len(outputs) > 1
    return ClipExtractor(network, {**facts, "spaces": spaces, "frames": contract.frames}, described, classes=classes)


def _is_flat(values: NDArray[np.float32]) -> bool:
    return values.ndim > 2 and all(size == 1 for size in values.shape[2:])


class _Renamed(_Arranged):
    """The same with other names of outputs."""

    def __init__(self, network: _Arranged, names: Mapping[str, str]) -> None:
        super().__init__(network._inner, network._contract)
        self._names = names

    def run(self, items: NDArray[np.uint8]) -> Outputs:
        return {self._names.get(name, name): value for name, value in super().run(items).items()}


class _Only:
    """One output of several."""

    def __init__(self, network: Network, name: str) -> None:
        self._network, self._name = network, name

    def run(self, items: NDArray[np.uint8]) -> Outputs:
        """Describe items."""
        return {self._name: self._network.run(items)[self._name]}

    def close(self) -> None:
        """Give back what it runs on."""
        self._network.close()


def _try(file: Path, network: Network, contract: Contract) -> Outputs:
    """Run noise, and the same item among others: what a training-mode batch norm gives depends on them."""
    height, width = contract.size or (64, 64)
    frames = (contract.frames or 16,) if "T" in contract.layout else ()
    noise = np.random.Generator(np.random.PCG64(0))
    items = noise.integers(0, 256, (max(contract.batch, 2), *frames, height, width, 3), dtype=np.uint8)
    together, alone = network.run(items), network.run(items[:1])
    for name, value in together.items():
        if value.shape[0] != len(items) or value.ndim != 2 or not value.size:
            raise _unfit(file, f"output {name} is {list(value.shape)} for {len(items)} clips", "it is not pooled")
        if value.shape[1] > MOST_FEATURES:
            seen = f"output {name} has {value.shape[1]} features a clip, more than {MOST_FEATURES}"
            raise _unfit(file, seen, "it is not pooled: a covariance of them would not fit into memory")
        if not np.isfinite(value).all():
            raise _unfit(file, f"output {name} has NaN or infinite values for noise", "the weights are damaged")
        change = float(np.abs(value[:1] - alone[name]).max())
        if change > TOLERANCE * max(float(np.abs(value).max()), 1e-6):
            raise _unfit(
                file,
                f"output {name} of a clip changes by {change:.3g} with the other clips of its batch",
                "it was exported in training mode, or mixes clips",
            )
    return together


def _unfit(file: Path, seen: str, cause: str) -> ScoreError:
    return ScoreError(
        f"cannot use {file} as an extractor",
        seen=f"{seen}, expected finite float32 [clips, features], each row from its own clip",
        cause=cause,
        fix="export the network in evaluation mode (model.eval()) with pooled features as its output",
    )
