"""Which nodes must stay float32 for a half graph to stay within a tolerance: as few as can be found.

Rounding errors of different parts of a network add up as independent noise does: squares add. So each part is made
half alone, the rest float32, to see the noise it brings; parts are put back to float32, the noisiest first for what
they cost, until the whole is within the tolerance; then every part that is not needed after all becomes half again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vidgen.errors import ExportError
from vidgen.export.measure import HALF, HALF_ATTENTION, Measured
from vidgen.export.onnx_graph import check, graphs
from vidgen.export.precision import SMALLEST_SHARE, rules_for, to_half, type_graph
from vidgen.runtime.manifest import Precision

Judge = Callable[[Any], Measured]
#: Told what was tried, and how many tries there are at most: (done, most, what).
Advance = Callable[[int, int, str], None]
#: Parts that noise is measured of; more of them find shorter lists and take longer.
PARTS = 24
#: Largest number of graphs that a search runs.
MOST_TRIES = 64
#: What stays float32 in a G3AN with attention where half is too coarse, for both lowerings. Attention has no scale:
#: rounding of the scores, and of what it is given, becomes other weights. Of the noise that a search measured on filled
#: weights these parts bring most; temporal streams cost next to nothing.
ATTENTION_PARTS = (
    (
        "block1.conv_t",
        "block2.conv_t",
        "block3.conv_t",
        "block4",
        "fsa.ssa.k_conv",
        "fsa.ssa.q_conv",
        "fsa.tsa",
        "video",
    ),
    ("block1", "block2.conv_t", "block2/", "block3.conv_t", "block3/", "block4", "fsa", "video"),
)


@dataclass(frozen=True)
class Try:
    """One line of a search's table: the keep-list, and what came of it.

    Attributes:
        keep: names of nodes or parts in float32. half_share: of floating-point tensors, 0..1.
        levels: largest difference in grey levels. psnr: in dB, None where there is no difference.
    """

    keep: tuple[str, ...]
    half_share: float
    levels: float
    psnr: float | None


@dataclass(frozen=True)
class Found:
    """A half graph within the tolerance: the ModelProto, its precision, all that was tried, and how far it is off."""

    model: Any
    precision: Precision
    table: tuple[Try, ...]
    measured: Measured

    def __str__(self) -> str:
        lines = [f"{len(self.table)} half graphs tried; in float32 / half share / grey levels / PSNR"]
        for line in self.table:
            psnr = "equal" if line.psnr is None else f"{line.psnr:.1f} dB"
            lines.append(f"  {', '.join(line.keep) or 'rules only'}: {line.half_share:.0%}, {line.levels:.3g}, {psnr}")
        return "\n".join(lines)


def half_graph(
    model: Any, judge: Judge, *, recurrent: bool, attention: bool = False, advance: Advance = lambda *_: None
) -> Found:
    """The half graph of ``--fp16`` alone: by the rules, and where attention needs it with its parts in float32.

    It is the first of these within what is usual (:data:`vidgen.export.measure.HALF`, ``HALF_ATTENTION``), or the
    nearest; verification has the last word.

    Args:
        model: checked float32 ModelProto. judge: see :func:`vidgen.export.measure.measure`.
        recurrent: as for :func:`vidgen.export.precision.to_half`. attention: of a G3AN.
    """
    ways = [((), HALF.levels), *((keep, HALF_ATTENTION.levels) for keep in ATTENTION_PARTS)]
    if not attention:
        typed, precision = to_half(model, recurrent=recurrent)
        return Found(typed, dataclasses.replace(precision, tolerance=HALF.levels), (), Measured())
    tried: list[Found] = []
    for keep, levels in ways:
        typed, precision = type_graph(model, recurrent=recurrent, keep=keep)
        if precision.half_share < SMALLEST_SHARE:
            continue
        check(typed)
        measured = judge(typed)
        table = (*(line for found in tried for line in found.table[-1:]), _line(precision, measured))
        tried.append(Found(typed, dataclasses.replace(precision, tolerance=levels), table, measured))
        advance(len(tried), len(ways), _told(keep, measured))
        if measured.levels <= levels:
            return tried[-1]
    if not tried:
        # Too little of it is half at all: this says so.
        to_half(model, recurrent=recurrent)
    return dataclasses.replace(min(tried, key=lambda found: found.measured.levels), table=tried[-1].table)


def search(
    model: Any,
    judge: Judge,
    tolerance: float,
    *,
    recurrent: bool,
    advance: Advance = lambda *_: None,
    most: int = MOST_TRIES,
) -> Found:
    """Keep the fewest layers in float32, besides those of the rules, that meet a tolerance.

    The same model and judge give the same list. No part of it can be left out, as long as ``most`` tries suffice to
    see that.

    Args:
        model: checked float32 ModelProto. judge: measures a typed graph. tolerance: in grey levels, above 0.
        recurrent: as for :func:`vidgen.export.precision.to_half`. advance: told of every try.
        most: graphs to try.

    Raises:
        ExportError: no list that leaves half of the tensors half was found; says the best that was reached.
    """
    hunt = _Hunt(model, judge, tolerance, recurrent, advance, most)
    if not hunt.meets(frozenset()):
        parts = _parts(model, recurrent=recurrent, count=min(PARTS, most // 2))
        order = hunt.noisiest_first(parts)
        hunt.release(parts, hunt.shortest_prefix(order))
    return hunt.result()


class _Hunt:
    """The state of one search: what was tried, and the best of it."""

    def __init__(
        self, model: Any, judge: Judge, tolerance: float, recurrent: bool, advance: Advance, most: int
    ) -> None:
        self.model, self.judge, self.tolerance = model, judge, tolerance
        self.recurrent, self.advance, self.most = recurrent, advance, most
        self.tried: dict[frozenset[str], tuple[Try, Measured]] = {}

    def measure(self, keep: frozenset[str]) -> tuple[Try, Measured]:
        """Type the graph with a keep-list and run it, once."""
        if keep not in self.tried:
            typed, precision = type_graph(self.model, recurrent=self.recurrent, keep=keep)
            measured = self.judge(typed)
            self.tried[keep] = _line(precision, measured), measured
            self.advance(len(self.tried), self.most, _told(tuple(sorted(keep)), measured))
        return self.tried[keep]

    def meets(self, keep: frozenset[str]) -> bool:
        """Whether a list is within the tolerance and leaves enough half."""
        line, measured = self.measure(keep)
        return _meets(line, measured, self.tolerance)

    def may_try(self) -> bool:
        """Whether there are tries left."""
        return len(self.tried) < self.most

    def noisiest_first(self, parts: Sequence[_Part]) -> list[_Part]:
        """Parts by the noise each brings when it alone is half, for each of its layers."""
        everything = frozenset(name for part in parts for name in part.names)
        density = dict.fromkeys(parts, 0.0)
        for part in parts:
            if self.may_try():
                measured = self.measure(everything.difference(part.names))[1]
                density[part] = measured.squares / max(measured.values, 1) / len(part.layers)
        # Sorting keeps the graph's order among equals.
        return sorted(parts, key=lambda part: -density[part])

    def shortest_prefix(self, order: Sequence[_Part]) -> list[_Part]:
        """By halving: the fewest of the noisiest parts that meet the tolerance in float32."""
        lists = [_names(order[:count]) for count in range(len(order) + 1)]
        # Longer lists leave less half: those that leave too little are out, whatever they reach.
        few, many = 0, len(order)
        while many - few > 1 and self.may_try():
            middle = (few + many) // 2
            line, measured = self.measure(lists[middle])
            if _meets(line, measured, self.tolerance) or line.half_share < SMALLEST_SHARE:
                many = middle
            else:
                few = middle
        return list(order[:many])

    def release(self, parts: Sequence[_Part], kept: list[_Part]) -> None:
        """Make half again what can be, the last of the list first: its noise is the least."""
        if not (self.may_try() or _names(kept) in self.tried) or not self.meets(_names(kept)):
            return
        for part in reversed(list(kept)):
            if not self.may_try():
                return
            fewer = [each for each in kept if each is not part]
            if self.meets(_names(fewer)):
                kept = fewer
        names = _names(kept)
        for part in [part for part in kept if len(part.names) > 1]:
            for name in sorted(part.names):
                if self.may_try() and self.meets(names - {name}):
                    names -= {name}

    def result(self) -> Found:
        """The list of fewest tensors in float32 among those that meet the tolerance.

        Raises:
            ExportError: none does.
        """
        table = tuple(line for line, _ in self.tried.values())
        good = [(line.half_share, keep) for keep, (line, measured) in self.tried.items()
                if _meets(line, measured, self.tolerance)]  # fmt: skip
        if not good:
            raise _missed(table, self.tolerance)
        keep = max(good, key=lambda pair: (pair[0], -len(pair[1])))[1]
        typed, precision = to_half(self.model, recurrent=self.recurrent, keep=keep)
        precision = dataclasses.replace(precision, tolerance=self.tolerance)
        return Found(typed, precision, table, self.tried[keep][1])


@dataclass(frozen=True, eq=False)
class _Part:
    """Nodes that stay or become half together.

    Attributes:
        names: entries of keep-lists that name them. layers: the nodes' names.
    """

    names: tuple[str, ...]
    layers: tuple[str, ...]

    def split(self) -> list[_Part]:
        """The parts of the module this is, in the graph's order; its own operations are one part together."""
        if len(self.names) > 1 or self.names[0] in self.layers:
            return [self]
        start = len(self.names[0]) + 1 if self.names[0] else 0
        inner: dict[str, list[str]] = {}
        for name in self.layers:
            scope = name.rpartition("/")[0]
            inner.setdefault(scope[:start] + scope[start:].partition(".")[0], []).append(name)
        own = inner.pop(self.names[0], [])
        parts = [_Part((scope,), tuple(layers)) for scope, layers in inner.items()]
        return [*parts, _Part(tuple(own), tuple(own))] if own else parts


def _parts(model: Any, *, recurrent: bool, count: int) -> list[_Part]:
    """The layers that may become half, in about ``count`` parts: the largest is split until there are as many."""
    layers = [
        node.name
        for graph in graphs(model.graph)
        for rules in (rules_for(graph, recurrent=recurrent),)
        for node in graph.node
        if node.name not in rules and node.op_type not in ("Shape", "Constant")
    ]
    parts = _Part(("",), tuple(layers)).split()
    whole: list[_Part] = []
    while parts and len(parts) + len(whole) < count:
        largest = max(parts, key=lambda part: len(part.layers))
        inner = largest.split()
        at = parts.index(largest)
        if inner == [largest]:
            whole.append(parts.pop(at))
        else:
            parts[at : at + 1] = inner
    return [*parts, *whole]


def _names(parts: Sequence[_Part]) -> frozenset[str]:
    return frozenset(name for part in parts for name in part.names)


def _meets(line: Try, measured: Measured, tolerance: float) -> bool:
    loud = measured.psnr is not None and measured.psnr < HALF.psnr
    return measured.levels <= tolerance and not loud and line.half_share >= SMALLEST_SHARE


def _line(precision: Precision, measured: Measured) -> Try:
    return Try(precision.kept_nodes, precision.half_share, measured.levels, measured.psnr)


def _told(keep: Sequence[str], measured: Measured) -> str:
    return f"{measured.levels:.3g} grey levels with {len(keep)} parts in float32"


def _missed(table: Sequence[Try], tolerance: float) -> ExportError:
    """What is said where no list meets the tolerance."""
    allowed = [line for line in table if line.half_share >= SMALLEST_SHARE] or table
    best = min(allowed, key=lambda line: line.levels)
    reached = math.ceil(best.levels * 100) / 100
    psnr = "" if best.psnr is None else f", {best.psnr:.1f} dB"
    return ExportError(
        f"cannot keep the half-precision graph within {tolerance:g} grey levels",
        seen=f"{best.levels:.3g} grey levels{psnr} at best in {len(table)} tries, with {best.half_share:.0%} of the "
        f"tensors in half and {', '.join(best.keep) or 'nothing more'} in float32",
        cause="this network amplifies rounding errors",
        fix=f"use --tolerance {reached:g}, or export without --fp16",
    )
