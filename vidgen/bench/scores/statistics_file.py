"""Statistics of features on disk: what a distance needs, the sums that merge, and the protocol on the label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_files
from vidgen.bench.scores.archive import read_arrays
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.moments import Gaussian, Moments
from vidgen.bench.scores.statistics_label import read_label
from vidgen.errors import ScoreError

#: Entries of a protocol that tell one set from another; two sets that are compared must agree in all the rest.
OF_THE_SET = ("samples", "data")
#: Entries that tell how the features were computed, and may differ even between shards: backends differ by rounding.
OF_THE_RUN = ("backend",)
#: Arrays of a file. Other programs' files have the first two alone.
_GAUSSIAN, _SUMS, _OPTIONAL = ("mu", "sigma"), ("n", "sum", "outer", "protocol"), ("features", "indices", "changes")
#: How far sums and mean may disagree, in shares of the largest value: rounding, and no more.
_AGREEMENT = 1e-6
#: Rows of features that are looked at together.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Statistics:
    """Features of a set of clips in one space of one extractor.

    Attributes:
        moments: :class:`Moments`, or a :class:`Gaussian` where another program wrote the file: it cannot be merged.
        protocol: all the numbers depend on, as JSON values. ``samples`` (clips of the whole set; a shard has fewer)
            and ``data`` (what the set is: hashes, seed) belong to the set; the rest, such as the extractor with its
            weight hash, frames, resize, codec and range, must agree between two sets that are compared.
        features: float32 [n, d], for the scores that need them.
        indices: int64 [n], the number of each row in the whole set, so that no shard is counted twice.
        changes: float64 [n, 3], how far apart the frames of each clip are (see
            :func:`~vidgen.bench.scores.temporal_consistency.frame_changes`), where features are means over frames.
    """

    moments: Moments | Gaussian
    protocol: Mapping[str, Any] = field(default_factory=dict)
    features: NDArray[np.float32] | None = None
    indices: NDArray[np.int64] | None = None
    changes: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        rows = {"features": (np.float32, [self.n, self.dimension]), "indices": (np.int64, [self.n])}
        for name, (kind, expected) in {**rows, "changes": (np.float64, [self.n, 3])}.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.dtype != kind or list(array.shape) != expected:
                raise _bad_set(f"{name} are {array.dtype} {list(array.shape)}, expected {np.dtype(kind)} {expected}")
        if self.features is not None and not np.isfinite(self.features).all():
            raise _bad_set("features that are not finite")
        if self.changes is not None and not (np.isfinite(self.changes) & (self.changes >= 0)).all():
            raise _bad_set("changes between frames that are no square distances")
        samples = self.protocol.get("samples")
        if self.indices is not None and len(self.indices):
            last = None if samples is None else int(samples) - 1
            if len(np.unique(self.indices)) < len(self.indices):
                raise _bad_set("an index that is there twice")
            if self.indices.min() < 0 or (last is not None and self.indices.max() > last):
                raise _bad_set(f"indices {self.indices.min()} to {self.indices.max()} of {samples} samples")
        if samples is not None and self.n is not None and self.n > int(samples):
            raise _bad_set(f"{self.n} clips of a set of {samples}")

    @property
    def n(self) -> int | None:
        """Clips; None where a file of another program does not say."""
        return self.moments.n

    @property
    def dimension(self) -> int:
        """Features of a clip, d."""
        return self.moments.dimension

    @property
    def missing(self) -> int:
        """Clips of the whole set that are not in: above 0 for a shard, or a run that was cut off."""
        samples = self.protocol.get("samples")
        return 0 if samples is None or self.n is None else int(samples) - self.n

    def gaussian(self) -> Gaussian:
        """Mean and covariance.

        Raises:
            ScoreError: there are fewer than two clips.
        """
        return self.moments.gaussian() if isinstance(self.moments, Moments) else self.moments

    def side(self) -> FrechetSide:
        """One side of a Fréchet distance; taken from the features where there are fewer clips than features.

        Raises:
            ScoreError: there are fewer than two clips, or sigma is no covariance.
        """
        if self.features is not None and len(self.features) < self.dimension:
            return FrechetSide.of_features(self.features)
        return FrechetSide.of_gaussian(self.gaussian())


def _bad_set(seen: str) -> ScoreError:
    return ScoreError(
        "cannot use statistics of features",
        seen=seen,
        cause="arrays of different sets were put together, or are mislabelled",
        fix="make the statistics again: vidgen stats SRC -o STATS.npz",
    )


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write an .npz file that the reference's programs read too; the same statistics give the same bytes.

    Keys: ``mu`` float64 [d], ``sigma`` float64 [d, d] (divided by n - 1; zeros with fewer than two clips), and, unless
    the statistics are another program's, ``n`` int64, ``sum`` float64 [d], ``outer`` float64 [d, d] (sum of x x^T),
    ``protocol`` (JSON); then ``features`` float32 [n, d], ``indices`` int64 [n] and ``changes`` float64 [n, 3] where
    there are any.

    Raises:
        ScoreError: the features are so large that their squares overflow.
        StorageError: the file cannot be written; an old one is then as it was.
    """
    write_all({Path(path): statistics})


def write_all(files: Mapping[Path, Statistics]) -> None:
    """:func:`write_statistics` of sets that belong together: all files are written before the first is renamed.

    Raises:
        ScoreError, StorageError: as there; no file is then changed.
    """
    arrays = [_stored(statistics) for statistics in files.values()]
    with atomic_files(*files) as partials:
        for partial, each in zip(partials, arrays, strict=True):
            with open(partial, "wb") as stream:
                np.savez(stream, allow_pickle=False, **each)


def _stored(statistics: Statistics) -> dict[str, NDArray[Any]]:
    """The arrays of a file."""
    moments = statistics.moments
    arrays: dict[str, NDArray[Any]] = {"mu": moments.mean}
    if isinstance(moments, Gaussian):
        arrays["sigma"] = moments.covariance
    else:
        d = moments.dimension
        arrays["sigma"] = moments.covariance if moments.n > 1 else np.zeros((d, d))
        arrays |= {"n": np.array(moments.n, np.int64), "sum": moments.sum, "outer": moments.outer}
        label = json.dumps(dict(statistics.protocol), sort_keys=True, allow_nan=False, ensure_ascii=False)
        arrays["protocol"] = np.array(label)
    for name in _OPTIONAL:
        if getattr(statistics, name) is not None:
            arrays[name] = getattr(statistics, name)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _bad_set(f"{name} is not finite")
    return arrays


def read_statistics(path: Path) -> Statistics:
    """Read a file of :func:`write_statistics`, or of the reference's program (``mu`` and ``sigma`` alone).

    Raises:
        ScoreError: the file is missing, truncated, no such file, or its arrays contradict each other.
    """
    arrays = _arrays(Path(path))
    missing = [name for name in _GAUSSIAN if name not in arrays]
    ours = [name for name in (*_SUMS, *_OPTIONAL) if name in arrays]
    if ours:
        missing += [name for name in _SUMS if name not in arrays]
    if missing:
        raise _unreadable(path, f"no {', '.join(missing)} in it, only {', '.join(arrays) or 'nothing'}", "another file")
    kinds = {"protocol": "U", "n": "iu", "indices": "i"}
    for name, array in arrays.items():
        if array.dtype.kind not in kinds.get(name, "f"):
            raise _unreadable(path, f"{name} of {array.dtype}", "the file is mislabelled, or of another program")
    try:
        given = Gaussian(arrays["mu"], arrays["sigma"])
        if not ours:
            return Statistics(given)
        moments = _moments(path, arrays, given)
        protocol = _protocol(path, arrays["protocol"])
        found = Statistics(moments, protocol, *(arrays.get(name) for name in _OPTIONAL))
    except ScoreError as error:
        raise _unreadable(path, error.seen, error.cause) from error
    _check_features(path, found.features, moments)
    return found


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(path, (*_GAUSSIAN, *_SUMS, *_OPTIONAL))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error), "the path is wrong") from error
    except ValueError as error:
        raise _unreadable(path, str(error), "the file is damaged or truncated, or is something else") from error


def _moments(path: Path, arrays: Mapping[str, NDArray[Any]], given: Gaussian) -> Moments:
    """The moments of a file of ours; mu and sigma are the more exact, n, sum and outer must say the same."""
    if arrays["n"].shape != () or arrays["n"] < 0:
        raise _unreadable(path, f"n is {arrays['n']!r}, expected one number from 0", "the file is mislabelled")
    n, total, outer = int(arrays["n"]), arrays["sum"], arrays["outer"]
    d = given.dimension
    if total.shape != (d,) or outer.shape != (d, d):
        seen = f"sum {list(total.shape)} and outer {list(outer.shape)}, expected [{d}] and [{d}, {d}]"
        raise _unreadable(path, seen, "arrays of different sets were put together")
    if not (np.isfinite(total).all() and np.isfinite(outer).all()):
        raise _unreadable(path, "sum or outer are not finite", "the features overflowed, or the file is damaged")
    scatter = given.covariance * max(n - 1, 0)
    mean_square = max(float(np.abs(outer).max()), 1e-300)
    found = (total - n * given.mean, np.sqrt(mean_square * max(n, 1)))
    square = (outer - n * np.outer(given.mean, given.mean) - scatter, mean_square)
    for name, (difference, size) in {"sum": found, "outer": square}.items():
        if np.abs(difference).max() > _AGREEMENT * size:
            raise _unreadable(path, f"{name} contradicts n, mu and sigma", "the file was changed or is mislabelled")
    return Moments.from_scatter(n, given.mean, scatter)


def _protocol(path: Path, stored: NDArray[Any]) -> dict[str, Any]:
    try:
        return read_label(str(stored))
    except ValueError as error:
        raise _unreadable(path, str(error), "the file was changed by hand") from error


def _check_features(path: Path, features: NDArray[np.floating] | None, moments: Moments) -> None:
    """Refuse features of other clips than mu and sigma are of: distances are taken from either."""
    if features is None or not len(features) or not np.isfinite(features).all():
        return  # said elsewhere
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for at in range(0, len(features), _ROWS):
        squares += np.square(features[at : at + _ROWS] - mean).sum(axis=0)
    scatter = moments.scatter.diagonal()
    size = np.square(mean).max() + scatter.max() / len(features)
    apart = np.abs(mean - moments.mean).max() / np.sqrt(size or 1), np.abs(squares - scatter).max() / (size or 1)
    if apart[0] > _AGREEMENT or apart[1] > _AGREEMENT * len(features):
        raise _unreadable(path, "features contradict mu and sigma", "arrays of different sets were put together")


def _unreadable(path: Path, seen: str, cause: str) -> ScoreError:
    return ScoreError(
        f"cannot read statistics {path}",
        seen=seen,
        cause=cause,
        fix=f"make them again: vidgen stats SRC -o {path}",
    )


def check_same_protocol(a: Statistics, b: Statistics, names: Sequence[str] = ("the first", "the second")) -> list[str]:
    """Make sure that two sets can be compared, whatever clips they are of.

    Args:
        names: what to call the two in messages, e.g. their paths.

    Returns:
        Sentences to warn with: what cannot be checked, and sets that are not complete.

    Raises:
        ScoreError: their features were not made alike; it says in what they differ.
    """
    different = [] if a.dimension == b.dimension else [f"features a clip: {a.dimension} and {b.dimension}"]
    if a.protocol and b.protocol:
        different += differences(a.protocol, b.protocol, ignored=(*OF_THE_SET, *OF_THE_RUN))
    if different:
        raise ScoreError(
            f"cannot compare {names[0]} with {names[1]}",
            seen="they differ in " + "; ".join(different),
            cause="they were made by different protocols or extractors",
            fix="make one of them again with the options of the other: vidgen stats SRC -o STATS.npz",
        )
    warnings = []
    for name, one in zip(names, (a, b)):
        if not one.protocol:
            warnings.append(f"{name} has no protocol: nothing says which extractor or clips it was made with")
        if one.missing:
            warnings.append(f"{name} is not complete: {one.n} clips of {one.protocol['samples']}")
    return warnings


def differences(a: Mapping[str, Any], b: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> list[str]:
    """In what two JSON objects differ, an entry for each value, e.g. ``extractor.name: 'r3d' and 'c3d'``."""
    found = []
    for key in sorted(set(a) | set(b)):
        if key in ignored:
            continue
        left, right = (side.get(key, _ABSENT) for side in (a, b))
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += [f"{key}.{entry}" for entry in differences(left, right)]
        elif json.dumps(left, sort_keys=True) != json.dumps(right, sort_keys=True):
            found.append(f"{key}: {_shown(left)} and {_shown(right)}")
    return found


_ABSENT = "(nothing)"


def _shown(value: Any) -> str:
    text = value if value is _ABSENT else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def merge_statistics(paths: Sequence[Path]) -> Statistics:
    """The statistics of shards of one set.

    Features, indices and changes are kept where every shard has them; rows are then in the order of the whole set, as
    if one process had made them.

    Raises:
        ScoreError: the files are of different protocols or sets, share clips, or are another program's.
    """
    if not paths:
        raise _unmergeable("no file was named", "the shards were left out", "vidgen merge A.npz B.npz -o ALL.npz")
    return merge([read_statistics(path) for path in paths], [str(path) for path in paths])


def merge(parts: Sequence[Statistics], names: Sequence[str]) -> Statistics:
    """:func:`merge_statistics` of at least one that is in memory; ``names`` are for messages."""
    for part, name in zip(parts, names):
        check_same_protocol(parts[0], part, (names[0], name))
        if different := differences(parts[0].protocol, part.protocol, ignored=OF_THE_RUN):
            seen = f"{names[0]} and {name} differ in " + "; ".join(different)
            raise _unmergeable(seen, "they are shards of different sets", "merge shards of one set and one run")
    total = Moments.empty(parts[0].dimension)
    for part, name in zip(parts, names):
        if not isinstance(part.moments, Moments):
            cause = "another program wrote it, without the sums that merge"
            raise _unmergeable(f"{name} has mu and sigma alone", cause, f"vidgen stats SRC -o {name}")
        total = total.merged(part.moments)
    indices = _joined([part.indices for part in parts])
    features = _joined([part.features for part in parts])
    changes = _joined([part.changes for part in parts])
    _check_disjoint(parts, names)
    if indices is not None:
        order = np.argsort(indices)
        indices = indices[order]
        features, changes = (None if rows is None else rows[order] for rows in (features, changes))
    return Statistics(total, _joined_label([part.protocol for part in parts]), features, indices, changes)


def without_run(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers but for their rounding: a protocol without the backend."""
    return {key: value for key, value in protocol.items() if key not in OF_THE_RUN}


def _joined_label(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The label of shards together: of their backends, each is told."""
    joined = dict(protocols[0])
    for key in OF_THE_RUN:
        told = dict.fromkeys(str(protocol[key]) for protocol in protocols if protocol.get(key))
        if told:
            joined[key] = "; ".join(told)
    return joined


def _joined(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if len(there) == len(arrays) else None


def _check_disjoint(parts: Sequence[Statistics], names: Sequence[str]) -> None:
    """Refuse clips that are there twice; without indices at least a file that is."""
    for later, part in enumerate(parts):
        for earlier, other in enumerate(parts[:later]):
            if part.indices is not None and other.indices is not None:
                shared = len(np.intersect1d(part.indices, other.indices))
            else:
                same = part.n == other.n and np.array_equal(part.moments.mean, other.moments.mean)
                shared = (part.n or 0) if same else 0
            if shared:
                seen = f"{names[earlier]} and {names[later]} share {shared} clips"
                raise _unmergeable(seen, "a shard was named twice, or made twice", "name each shard once")


def _unmergeable(seen: str, cause: str, fix: str) -> ScoreError:
    return ScoreError("cannot merge statistics", seen=seen, cause=cause, fix=fix)
