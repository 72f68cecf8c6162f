"""Reference vectors: the small ones from tests/data, all of them when the specification lies beside the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
SPECIFICATION = TESTS.parents[1] / "shared" / "spec"
# Some of our copies are cut down to what fits, so the originals go first.
_FOLDERS = (SPECIFICATION / "vectors", TESTS / "data" / "vectors")


def cases(pattern: str) -> list[str]:
    """Names of the cases that are here, without extension; never none."""
    names = sorted({path.stem for folder in _FOLDERS for path in folder.glob(f"{pattern}.npz")})
    if not names:
        raise LookupError(f"no vectors {pattern} in {_FOLDERS[-1]}")
    return names


def load(case: str) -> dict[str, np.ndarray]:
    """All arrays of a case."""
    path = next(folder / f"{case}.npz" for folder in _FOLDERS if (folder / f"{case}.npz").exists())
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def assert_matches(actual: np.ndarray, stored: dict[str, np.ndarray], name: str, tolerance: float) -> None:
    """Compare with a vector in whichever form it is stored (spec parity 4), statistics included."""
    if name in stored:
        np.testing.assert_allclose(actual, stored[name], rtol=0, atol=tolerance)
        return
    assert tuple(stored[f"{name}__shape"]) == actual.shape
    if f"{name}__s2" in stored:
        part, expected = actual[..., ::2, ::2], stored[f"{name}__s2"]
    else:
        part, expected = actual.reshape(-1)[: stored[f"{name}__head"].size], stored[f"{name}__head"].reshape(-1)
    np.testing.assert_allclose(part, expected, rtol=0, atol=tolerance)
    exact = actual.astype(np.float64)
    found = np.array([exact.mean(), exact.std(), exact.min(), exact.max(), np.linalg.norm(exact)])
    stats = stored[f"{name}__stats"]
    assert abs(found[0] - stats[0]) <= 1e-3 * stats[1]
    np.testing.assert_allclose(found[1:], stats[1:], rtol=1e-3)
