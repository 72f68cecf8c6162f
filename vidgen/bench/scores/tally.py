"""The features taken so far: sums that never forget a clip, and the file a run goes on from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file
from vidgen.bench.scores.extractors.base import Description
from vidgen.bench.scores.features import checked_features
from vidgen.bench.scores.moments import Moments
from vidgen.bench.scores.statistics_file import Statistics, differences
from vidgen.errors import ScoreError

#: Rows that are folded into the sums together. Others wait, and are saved as they are: a run that goes on folds the
#: same blocks as one that was never interrupted, so its sums are the same to the bit.
BLOCK = 512


@dataclass
class Tally:
    """Features of some clips, summed up space by space.

    Attributes:
        keep_features: keep the features beside their sums.
        positions: of the clips within their source, in the order they were added.
        sums: of whole blocks, by space. waiting: rows that fill no block yet, by space.
        features: the features themselves by space, a block a part; empty where they are not kept. logits: blocks
            likewise, where there are any.
        changes: of the frames of each clip, by space whose features are means over frames; blocks likewise.
        seconds: spent on them.
    """

    keep_features: bool = True
    positions: list[int] = field(default_factory=list)
    sums: dict[str, Moments] = field(default_factory=dict)
    waiting: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    features: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    changes: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, positions: Sequence[int], found: Description) -> None:
        """Add the clips at some positions.

        Raises:
            ScoreError: features that are not finite, or of another dimension than those before.
        """
        for space, rows in found.features.items():
            if space not in self.sums:
                self.sums[space] = Moments.empty(rows.shape[1])
                self.waiting[space] = rows[:0]
            if rows.shape[1] == self.waiting[space].shape[1] and np.isfinite(rows).all():
                rows_now = np.concatenate([self.waiting[space], rows])
                whole = len(rows_now) // BLOCK * BLOCK
                self.sums[space].add(rows_now[:whole])
                self.waiting[space] = rows_now[whole:]
            else:
                self.moments(space).add(rows)  # says what is wrong
            if self.keep_features:
                self.features.setdefault(space, []).append(rows)
        if found.logits is not None:
            checked_features(found.logits, least=0)
            self.logits.append(found.logits)
        for space, changes in found.changes.items():
            self.changes.setdefault(space, []).append(changes)
        self.positions.extend(positions)

    def moments(self, space: str) -> Moments:
        """The moments of all clips so far; a copy."""
        sums = self.sums[space]
        return Moments.from_scatter(sums.n, sums.mean, sums.scatter).add(self.waiting[space])

    @classmethod
    def together(cls, tallies: Iterable[Tally]) -> Tally:
        """One tally of several that share no clip, its features in the order of positions."""
        parts = [tally for tally in tallies if tally.positions]
        if len(parts) == 1:
            return parts[0]
        whole = cls(parts[0].keep_features, [position for part in parts for position in part.positions])
        order = np.argsort(whole.positions, kind="stable")
        for space in parts[0].sums:
            sums = parts[0].moments(space)
            for part in parts[1:]:
                sums = sums.merged(part.moments(space))
            whole.sums[space], whole.waiting[space] = sums, parts[0].waiting[space][:0]
            if whole.keep_features:
                rows = np.concatenate([block for part in parts for block in part.features[space]])
                whole.features[space] = [rows[order]]
        if all(part.logits for part in parts):
            whole.logits = [np.concatenate([block for part in parts for block in part.logits])[order]]
        for space in parts[0].changes:
            whole.changes[space] = [np.concatenate([block for part in parts for block in part.changes[space]])[order]]
        whole.positions.sort()
        whole.seconds = max(part.seconds for part in parts)
        return whole

    def rows(self, space: str) -> NDArray[np.float32] | None:
        """The kept features of a space, float32 [n, d]."""
        return np.concatenate(self.features[space]) if self.keep_features else None

    def all_logits(self) -> NDArray[np.float32] | None:
        """The kept logits, float32 [n, classes]."""
        return np.concatenate(self.logits) if self.logits else None

    def statistics(self, space: str, protocol: Mapping[str, Any]) -> Statistics:
        """What a statistics file holds of a space."""
        indices = np.array(self.positions, dtype=np.int64)
        changes = np.concatenate(self.changes[space]) if space in self.changes else None
        return Statistics(self.moments(space), protocol, self.rows(space), indices, changes)

    def save(self, path: Path, key: Mapping[str, Any]) -> None:
        """Write everything, so that :meth:`load` with the same key goes on from here.

        Raises:
            StorageError: the file cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {
            "key": np.array(json.dumps(key, sort_keys=True)),
            "spaces": np.array(json.dumps(list(self.sums))),
            "positions": np.array(self.positions, dtype=np.int64),
            "seconds": np.array(self.seconds),
            "keep_features": np.array(self.keep_features),
        }
        for number, (space, sums) in enumerate(self.sums.items()):
            arrays |= {f"n_{number}": np.array(sums.n), f"mean_{number}": sums.mean, f"scatter_{number}": sums.scatter}
            arrays[f"waiting_{number}"] = self.waiting[space]
            if self.keep_features:
                arrays[f"features_{number}"] = np.concatenate(self.features[space])
            if space in self.changes:
                arrays[f"changes_{number}"] = np.concatenate(self.changes[space])
        if self.logits:
            arrays["logits"] = np.concatenate(self.logits)
        with atomic_file(path) as partial, open(partial, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path, key: Mapping[str, Any]) -> Tally:
        """Go on from a file of :meth:`save`.

        Raises:
            ScoreError: the file is damaged, or of a run with other settings.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            found = json.loads(str(arrays["key"]))
            tally = cls(bool(arrays["keep_features"]), arrays["positions"].tolist(), seconds=float(arrays["seconds"]))
            for number, space in enumerate(json.loads(str(arrays["spaces"]))):
                sums = (arrays[f"{name}_{number}"] for name in ("mean", "scatter"))
                tally.sums[space] = Moments.from_scatter(int(arrays[f"n_{number}"]), *sums)
                tally.waiting[space] = arrays[f"waiting_{number}"]
                if tally.keep_features:
                    tally.features[space] = [arrays[f"features_{number}"]]
                if f"changes_{number}" in arrays:
                    tally.changes[space] = [arrays[f"changes_{number}"]]
            tally.logits = [arrays["logits"]] if "logits" in arrays else []
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise cannot_resume(path, f"{type(error).__name__}: {error}", "the file is damaged") from error
        if different := _differences(found, json.loads(json.dumps(key))):
            seen = "; ".join(different) + " (then and now)"
            raise cannot_resume(path, seen, "the unfinished run had other settings")
        return tally


def _differences(found: Any, wanted: Mapping[str, Any]) -> list[str]:
    """In what two keys of runs differ; their labels entry by entry."""
    if not isinstance(found, Mapping):
        return ["the whole label"]
    before, now = ({**key, "spaces": _by_space(key.get("spaces"))} for key in (found, wanted))
    return list(
        dict.fromkeys(each.partition("spaces.")[2].partition(".")[2] or each for each in differences(before, now))
    )


def _by_space(labels: Any) -> Any:
    """The labels of spaces by their names."""
    if isinstance(labels, list) and all(isinstance(label, Mapping) for label in labels):
        return {str(number): label for number, label in enumerate(labels)}
    return labels


def cannot_resume(path: Path, seen: str, cause: str) -> ScoreError:
    return ScoreError(
        f"cannot go on from {path}",
        seen=seen,
        cause=cause,
        fix="run the same command without --resume: it begins anew",
    )
