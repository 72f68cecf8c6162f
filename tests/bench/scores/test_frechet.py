"""The Fréchet distance: reference vectors, a program of the reference's form, bounds, and what it warns of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import load

from vidgen.bench.scores import frechet_distance
from vidgen.bench.scores.frechet import FrechetSide, frechet
from vidgen.bench.scores.moments import Gaussian
from vidgen.errors import ScoreError

#: Those of the seven cases whose covariances have full rank.
FULL_RANK = (0, 1, 2, 6)


def reference_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """The form of the reference (spec g3an 8.3): a general matrix square root of the product."""
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(sigma1))
        root = scipy.linalg.sqrtm((sigma1 + offset) @ (sigma2 + offset))
    if np.iscomplexobj(root):
        assert np.abs(root.diagonal().imag).max() < 1e-3
        root = root.real
    return float(np.square(mu1 - mu2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root))


def draw(seed: int, n: int, d: int, decay: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Features whose variances fall from 1 to ``decay``."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, d)) * np.geomspace(1, decay, d) ** 0.5
    return mixed @ np.linalg.qr(rng.standard_normal((d, d)))[0] + shift


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(axis=0), np.cov(features, rowvar=False)


@pytest.mark.parametrize("case", range(7))
def test_vectors_match(case: int) -> None:
    stored = load("fid_frechet_pairs")
    sides = [stored[f"in_{name}_{case}"] for name in ("mu1", "sigma1", "mu2", "sigma2")]
    found, expected = frechet_distance(*sides), stored["out_fd_eigh"][case]
    assert isinstance(found, float) and found >= 0
    assert found == pytest.approx(
        expected, rel=1e-6 if case in FULL_RANK else 0, abs=1e-9 if case in FULL_RANK else 1e-3
    )
    assert found == pytest.approx(stored["out_fd"][case], abs=1e-3)
    assert frechet_distance(*sides[2:], *sides[:2]) == pytest.approx(found, rel=1e-9, abs=1e-9)


def test_vectors_of_features_match_in_both_forms() -> None:
    stored = load("fid_frechet_pairs")
    a, b = stored["in_actA"], stored["in_actB"]
    assert frechet_distance(*statistics(a), *statistics(b)) == pytest.approx(stored["out_fd_act"], rel=1e-6)
    found = FrechetSide.of_features(a).to(FrechetSide.of_features(b))
    assert found.value == pytest.approx(stored["out_fd_act"], rel=1e-6)
    assert found.n == (60, 50) and found.dimension == 32 and not found.warnings


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.sampled_from([1.0, 1e-3, 1e-6]))
def test_full_rank_equals_a_program_of_the_reference_form(seed: int, d: int, decay: float) -> None:
    sides = (
        *statistics_at_least_2d(draw(seed, 3 * d + 5, d, decay)),
        *statistics_at_least_2d(draw(seed + 1, 3 * d + 5, d, 1, 0.3)),
    )
    assert frechet_distance(*sides) == pytest.approx(reference_distance(*sides), rel=1e-6)


def statistics_at_least_2d(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, covariance = statistics(features)
    return mean, np.atleast_2d(covariance)


def test_full_rank_of_256_features_equals_a_program_of_the_reference_form() -> None:
    sides = (*statistics(draw(0, 1000, 256, 1e-5)), *statistics(draw(1, 900, 256, 1e-4, 0.1)))
    assert frechet_distance(*sides) == pytest.approx(reference_distance(*sides), rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 30), st.integers(2, 20))
def test_features_and_covariances_give_the_same_distance_at_any_rank(seed: int, n: int, m: int, d: int) -> None:
    a, b = draw(seed, n, d), draw(seed + 1, m, d, 0.1, 0.5)
    from_features = FrechetSide.of_features(a).to(FrechetSide.of_features(b))
    from_covariances = frechet(*(Gaussian(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)))
    # A covariance is known to 1e-16 of its largest value, its root to 1e-8 only.
    assert from_covariances.value == pytest.approx(from_features.value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("n", [5, 40])
def test_singular_distances_are_exact(n: int) -> None:
    # Two sets in known planes of 64 features: the distance of their coordinates.
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
    a, b = draw(1, n, 3), draw(2, n, 3, 0.2, 1.0)
    expected = frechet_distance(*statistics(a), *statistics(b))
    assert frechet_distance(*statistics(a @ basis[:3]), *statistics(b @ basis[:3])) == pytest.approx(expected, rel=1e-7)
    # In planes at right angles the covariances share nothing.
    apart = frechet_distance(*statistics(a @ basis[:3]), *statistics(b @ basis[3:6]))
    mean = np.square(a.mean(axis=0) @ basis[:3] - b.mean(axis=0) @ basis[3:6]).sum()
    traces = np.trace(statistics(a)[1]) + np.trace(statistics(b)[1])
    assert apart == pytest.approx(mean + traces, rel=1e-7)


@pytest.mark.parametrize("few", [8, 1])
def test_roots_of_eigenvalues_and_singular_values_agree(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    a, b = statistics(draw(0, 300, 60, 1e-4)), statistics(draw(1, 40, 60, 1e-2, 0.1))
    exact = frechet_distance(*a, *b)
    monkeypatch.setattr("vidgen.bench.scores.frechet._FEW", few)
    assert frechet_distance(*a, *b) == pytest.approx(exact, rel=1e-7)
    assert frechet_distance(*b, *a) == pytest.approx(exact, rel=1e-7)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
def test_distance_to_itself_is_zero_and_is_never_negative(seed: int, n: int, d: int) -> None:
    features = draw(seed, n, d, 1e-3)
    sides = Gaussian(*statistics(features)), FrechetSide.of_features(features)
    for side in sides:
        assert 0 <= frechet(side, side).value < 1e-6


def test_distance_is_the_known_one_of_normal_distributions() -> None:
    assert frechet_distance(1.0, 4.0, 3.0, 1.0) == pytest.approx(5)
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0])
    expected = 14 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(np.zeros(3), np.diag(a), [1, 2, 3], np.diag(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor", [1e-120, 1e-9, 1e9, 1e120])
def test_distance_scales_with_the_features(factor: float) -> None:
    a, b = draw(0, 30, 8), draw(1, 30, 8, 0.1, 0.4)
    small = FrechetSide.of_features(a).to(FrechetSide.of_features(b)).value
    large = FrechetSide.of_features(a * factor).to(FrechetSide.of_features(b * factor)).value
    assert large / factor / factor == pytest.approx(small, rel=1e-9)


def test_weights_count_rows_as_often() -> None:
    rng = np.random.default_rng(0)
    weights = rng.poisson(1.0, 30).astype(np.float64)
    other = FrechetSide.of_features(draw(5, 50, 6))
    for d in (6, 40):
        rows = draw(1, 30, d)
        repeated = np.repeat(rows, weights.astype(int), axis=0)
        found, expected = (
            frechet(side, Gaussian(np.zeros(d), np.eye(d))).value
            for side in (FrechetSide.of_features(rows, weights), Gaussian(*statistics(repeated)))
        )
        assert found == pytest.approx(expected, rel=1e-6)
    assert other.form == "cholesky"


@pytest.mark.parametrize(("n", "warned"), [(10, True), (16, True), (18, False)])
def test_sets_with_few_clips_are_warned_of(n: int, warned: bool) -> None:
    few, many = FrechetSide.of_features(draw(0, n, 16)), FrechetSide.of_features(draw(1, 200, 16))
    assert many.form == "cholesky" and (few.form == "features") == (n < 16)
    for first, second, which in ((few, many, "scored set"), (many, few, "reference")):
        assert [which in text for text in first.to(second).warnings] == [True] * warned


def test_a_singular_covariance_of_unknown_size_is_warned_of() -> None:
    found = frechet(Gaussian(*statistics(draw(0, 5, 16))), Gaussian(np.zeros(16), np.eye(16)))
    assert found.forms == ("eigh", "cholesky") and "rank 4 of 16" in found.warnings[0]


def test_negative_eigenvalues_are_told_or_refused() -> None:
    values = np.ones(8)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    for smallest, outcome in ((-1e-5, "told"), (-0.2, "refused")):
        values[0] = smallest
        damaged = Gaussian(np.zeros(8), basis * values @ basis.T)
        if outcome == "refused":
            with pytest.raises(ScoreError, match="no covariance"):
                frechet(damaged, damaged)
        else:
            found = frechet(damaged, damaged)
            assert found.clipped == pytest.approx(1e-5 / 7, rel=1e-3) and "negative" in found.warnings[-1]


def test_what_cannot_be_compared_is_refused() -> None:
    eye = np.eye(3)
    with pytest.raises(ScoreError, match="3 and 2 features"):
        frechet_distance(np.zeros(3), eye, np.zeros(2), np.eye(2))
    with pytest.raises(ScoreError, match="finite"):
        frechet_distance(np.zeros(3), eye * np.nan, np.zeros(3), eye)
    with pytest.raises(ScoreError, match="inf"):
        frechet_distance(np.full(3, 1e200), eye, np.zeros(3), eye)
    with pytest.raises(ScoreError, match="1 clips"):
        FrechetSide.of_features(np.ones((1, 3)))
    with pytest.raises(ScoreError, match="clip 1 of"):
        FrechetSide.of_features(np.array([[1.0, 2, 3], [np.inf, 0, 0]]))


def test_result_is_json() -> None:
    found = frechet(Gaussian(np.zeros(2), np.eye(2)), FrechetSide.of_features(draw(0, 9, 2))).to_dict()
    assert found["n"] == [None, 9] and found["dimension"] == 2 and isinstance(found["value"], float)


def test_distance_is_imported_without_torch() -> None:
    code = (
        "import sys; import vidgen.bench.scores; assert 'numpy' not in sys.modules;"
        "from vidgen.bench.scores import frechet_distance as f; assert f([0], [[1]], [2], [[1]]) == 4.0;"
        "assert not {'torch', 'onnxruntime', 'scipy', 'av'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
