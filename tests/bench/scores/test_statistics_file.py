"""Statistics on disk: whole or not at all, both ways with the reference's program, and nothing wrong is let in."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.bench.scores import archive
from vidgen.bench.scores.frechet import frechet
from vidgen.bench.scores.moments import Gaussian, Moments
from vidgen.bench.scores.statistics_file import (
    Statistics,
    check_same_protocol,
    merge_statistics,
    read_statistics,
    write_all,
    write_statistics,
)
from vidgen.errors import ScoreError, StorageError

PROTOCOL = {
    "name": "clean",
    "extractor": {"name": "random-r3d", "weight_sha256": "ab" * 32},
    "space": "features",
    "frames": 16,
    "resize": "bilinear 112",
    "codec": None,
    "samples": 60,
    "data": {"sha256": "cd" * 32},
}


def rows(n: int = 60, d: int = 5, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, d)) * 3 + 1).astype(np.float32)


def whole(n: int = 60, d: int = 5, **changes: Any) -> Statistics:
    features = rows(n, d)
    values = {"moments": Moments.of(features), "protocol": PROTOCOL, "features": features, "indices": np.arange(n)}
    return Statistics(**values | changes)


def shard(index: int, of: int, n: int = 60) -> Statistics:
    indices = np.arange(n)[index::of]
    features = rows(n)[indices]
    return Statistics(Moments.of(features), PROTOCOL, features, indices)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stats.npz"
    write_statistics(path, whole())
    return path


def test_what_was_written_is_read(file: Path) -> None:
    found, expected = read_statistics(file), whole()
    assert isinstance(found.moments, Moments) and isinstance(expected.moments, Moments)
    np.testing.assert_array_equal(found.moments.mean, expected.moments.mean)
    np.testing.assert_allclose(found.moments.covariance, expected.moments.covariance, rtol=1e-14)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.protocol == PROTOCOL and found.n == 60 and found.dimension == 5 and found.missing == 0


def test_keys_are_those_of_the_contract(file: Path) -> None:
    arrays, features = arrays_of(file), rows().astype(np.float64)
    np.testing.assert_allclose(arrays["mu"], features.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(arrays["sigma"], np.cov(features, rowvar=False), rtol=0, atol=1e-12)
    np.testing.assert_allclose(arrays["sum"], features.sum(axis=0), rtol=1e-13)
    np.testing.assert_allclose(arrays["outer"], features.T @ features, rtol=1e-13)
    assert all(arrays[name].dtype == np.float64 for name in ("mu", "sigma", "sum", "outer"))
    assert arrays["n"] == 60 and json.loads(str(arrays["protocol"])) == PROTOCOL


def test_the_same_statistics_give_the_same_bytes(file: Path, tmp_path: Path) -> None:
    write_statistics(tmp_path / "again.npz", whole(protocol=dict(reversed(PROTOCOL.items()))))
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()


def test_files_of_the_reference_are_read_and_written(tmp_path: Path) -> None:
    features = rows()
    np.savez(tmp_path / "theirs.npz", mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))
    theirs = read_statistics(tmp_path / "theirs.npz")
    assert isinstance(theirs.moments, Gaussian) and theirs.n is None and theirs.protocol == {} and theirs.missing == 0
    assert frechet(theirs.side(), whole().side()).value == pytest.approx(0, abs=1e-6)
    assert "no protocol" in check_same_protocol(theirs, whole(), ("theirs.npz", "ours"))[0]
    write_statistics(tmp_path / "copy.npz", theirs)
    assert sorted(arrays_of(tmp_path / "copy.npz")) == ["mu", "sigma"]
    with pytest.raises(ScoreError, match="another program"):
        merge_statistics([tmp_path / "theirs.npz"])


@pytest.mark.parametrize("n", [0, 1])
def test_shards_with_hardly_a_clip_are_kept(tmp_path: Path, n: int) -> None:
    write_statistics(tmp_path / "few.npz", whole(n, protocol=PROTOCOL))
    found = read_statistics(tmp_path / "few.npz")
    assert found.n == n and found.missing == 60 - n
    with pytest.raises(ScoreError, match=f"{n} clips"):
        found.gaussian()


@given(st.integers(1, 7), st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_merged_shards_equal_the_whole_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, of: int, dice: Any
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    paths = [folder / f"{index}.npz" for index in range(of)]
    for index, path in enumerate(paths):
        write_statistics(path, shard(index, of))
    dice.shuffle(paths)
    found, expected = merge_statistics(paths), whole()
    np.testing.assert_allclose(found.gaussian().covariance, expected.gaussian().covariance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.gaussian().mean, expected.gaussian().mean, rtol=1e-13)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.protocol == PROTOCOL and found.missing == 0


def merge_refuses(folder: Path, parts: list[Statistics], word: str) -> None:
    paths = [folder / f"{name}.npz" for name in range(len(parts))]
    for path, part in zip(paths, parts):
        write_statistics(path, part)
    with pytest.raises(ScoreError, match=word):
        merge_statistics(paths)


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    other = shard(1, 2)
    merge_refuses(tmp_path, [], "no file")
    merge_refuses(tmp_path, [shard(0, 2), shard(0, 2)], "share 30 clips")
    merge_refuses(tmp_path, [shard(0, 2), shard(0, 3)], "share 10 clips")
    bare = Statistics(shard(0, 2).moments, PROTOCOL)
    merge_refuses(tmp_path, [bare, bare], "share 30 clips")
    merge_refuses(tmp_path, [shard(0, 2), Statistics(other.moments, PROTOCOL | {"frames": 8})], "frames: 16 and 8")
    merge_refuses(
        tmp_path, [shard(0, 2), Statistics(other.moments, PROTOCOL | {"data": {"sha256": "0"}})], "data.sha256"
    )
    merge_refuses(tmp_path, [shard(0, 2), Statistics(other.moments, PROTOCOL | {"samples": 90})], "samples: 60 and 90")


def test_features_are_merged_where_all_have_them(tmp_path: Path) -> None:
    for index, part in enumerate((shard(0, 2), Statistics(shard(1, 2).moments, PROTOCOL))):
        write_statistics(tmp_path / f"{index}.npz", part)
    found = merge_statistics([tmp_path / "0.npz", tmp_path / "1.npz"])
    assert found.features is None and found.indices is None and found.n == 60


def test_other_clips_by_the_same_protocol_compare() -> None:
    other = whole(protocol=PROTOCOL | {"samples": 90, "data": {"seed": 1}})
    assert check_same_protocol(whole(), whole()) == []
    assert check_same_protocol(whole(), other, ("a", "b")) == ["b is not complete: 60 clips of 90"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"frames": 8}, "frames: 16 and 8"),
        ({"codec": "libx264"}, "codec: None and 'libx264'"),
        ({"extractor": {"name": "random-r3d", "weight_sha256": "ef"}}, "extractor.weight_sha256: 'abab"),
        ({"extractor": "c3d"}, "extractor: "),
        ({"range": "uint8"}, "range: .nothing. and 'uint8'"),
        ({"frames": True}, "frames: 16 and True"),
    ],
)
def test_other_protocols_are_refused_and_told(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ScoreError, match=word):
        check_same_protocol(whole(), whole(protocol=PROTOCOL | changes))


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(ScoreError, match="features a clip: 5 and 4"):
        check_same_protocol(whole(), whole(d=4))


def with_array(name: str, change: Any) -> Any:
    return lambda arrays: {**arrays, name: change(arrays[name])}


DAMAGES = {
    "non-finite mean": (with_array("mu", lambda a: a * np.nan), "finite"),
    "infinite sum": (with_array("sum", lambda a: a * np.inf), "not finite"),
    "infinite outer": (with_array("outer", lambda a: a * np.nan), "not finite"),
    "asymmetric": (with_array("sigma", lambda a: np.triu(a)), "symmetric"),
    "negative": (with_array("sigma", lambda a: -a), "negative"),
    "wrong size": (with_array("sigma", lambda a: a[:4, :4]), "expected"),
    "short sum": (with_array("sum", lambda a: a[:4]), "expected"),
    "flat outer": (with_array("outer", np.ravel), "expected"),
    "other count": (with_array("n", lambda a: a - 1), "contradicts"),
    "negative count": (with_array("n", lambda a: -a), "n is"),
    "broken count": (with_array("n", lambda a: a.astype(float)), "n of float64"),
    "several counts": (with_array("n", lambda a: np.array([a, a])), "expected one number"),
    "other outer": (with_array("outer", lambda a: a * 1.001), "outer contradicts"),
    "other mean": (with_array("mu", lambda a: a + 0.01), "contradicts"),
    "integers": (with_array("mu", lambda a: a.astype(int)), "mu of int64"),
    "short features": (with_array("features", lambda a: a[:10]), "features are"),
    "double features": (with_array("features", lambda a: a.astype(float)), "features are float64"),
    "non-finite features": (with_array("features", lambda a: a * np.float32(np.nan)), "not finite"),
    "repeated index": (with_array("indices", lambda a: a // 2), "twice"),
    "far index": (with_array("indices", lambda a: a + 1), "1 to 60"),
    "no sigma": (lambda a: {k: v for k, v in a.items() if k != "sigma"}, "no sigma"),
    "no sum": (lambda a: {k: v for k, v in a.items() if k != "sum"}, "no sum"),
    "no protocol": (lambda a: {k: v for k, v in a.items() if k != "protocol"}, "no protocol"),
    "other keys": (lambda a: {"features": a["features"]}, "no mu, sigma"),
    "no keys": (lambda a: {"real": a["mu"]}, "only nothing"),
    "no JSON": (with_array("protocol", lambda a: np.array("{")), "no JSON"),
    "no object": (with_array("protocol", lambda a: np.array("[1]")), "no JSON object"),
    "bytes": (with_array("protocol", lambda a: np.array(b"{}")), "protocol of"),
    "broken samples": (with_array("protocol", lambda a: np.array('{"samples": "60"}')), "samples is"),
    "endless JSON": (with_array("protocol", lambda a: np.array("[" * 100_000)), "no JSON"),
    "worded frames": (with_array("protocol", lambda a: np.array('{"frames": "16"}')), "frames is '16'"),
    "broken frames": (with_array("protocol", lambda a: np.array('{"frames": NaN}')), "frames is"),
    "true frames": (with_array("protocol", lambda a: np.array('{"frames": true}')), "frames is"),
    "listed data": (with_array("protocol", lambda a: np.array('{"data": [1, 2]}')), "data is"),
    "other features": (with_array("features", lambda a: a * np.float32(1.01)), "features contradict"),
    "shifted features": (with_array("features", lambda a: a + np.float32(0.01)), "features contradict"),
    "spread features": (with_array("features", lambda a: 2 * a - a.mean(axis=0)), "features contradict"),
    "too few samples": (with_array("protocol", lambda a: np.array('{"samples": 59}')), "of 59"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_arrays_are_refused(file: Path, damage: str) -> None:
    change, word = DAMAGES[damage]
    np.savez(file, **change(arrays_of(file)))
    with pytest.raises(ScoreError, match=word) as caught:
        read_statistics(file)
    assert str(file) in caught.value.what


@given(st.floats(0, 0.999))
@settings(max_examples=30)
def test_truncated_files_are_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "stats.npz"
    write_statistics(path, whole())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ScoreError, match="cannot read statistics"):
        read_statistics(path)


@given(st.data())
@settings(max_examples=60)
def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("flip") / "stats.npz"
    write_statistics(path, whole())
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_statistics(path)
    except ScoreError:
        return
    np.testing.assert_array_equal(found.gaussian().mean, whole().gaussian().mean)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "trap.npz", mu=np.array([Trap()], dtype=object), sigma=np.eye(1))
    with pytest.raises(ScoreError, match="cannot read"):
        read_statistics(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_small_file_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_FREE", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", mu=np.zeros(500), sigma=np.zeros((500, 500)))
    with pytest.raises(ScoreError, match="unpacks to"):
        read_statistics(tmp_path / "bomb.npz")
    with open(tmp_path / "claim.npz", "wb") as stream, zipfile.ZipFile(stream, "w") as made:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
        made.writestr("mu.npy", header.getvalue() + bytes(64))
        made.writestr("sigma.npy", header.getvalue() + bytes(64))
    with pytest.raises(ScoreError, match="damaged"):
        read_statistics(tmp_path / "claim.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.eye(3))
    (tmp_path / "text.npz").write_text("mu")
    for path in (tmp_path / "array.npy", tmp_path / "text.npz", tmp_path / "absent.npz", tmp_path):
        with pytest.raises(ScoreError, match="cannot read statistics"):
            read_statistics(path)


def test_a_failed_write_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StorageError, match="disk is full"):
        write_statistics(file, whole(d=3))
    assert file.read_bytes() == before and [path.name for path in file.parent.iterdir()] == [file.name]


def test_files_that_belong_together_are_written_together(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(StorageError, match=r"folder\.npz"):
        write_all({file: whole(d=3), tmp_path / "folder.npz": whole()})
    assert file.read_bytes() == before
    write_all({file: whole(d=3), tmp_path / "other.npz": whole()})
    assert [read_statistics(path).dimension for path in (file, tmp_path / "other.npz")] == [3, 5]


def test_features_that_overflow_are_not_written(tmp_path: Path) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        huge = Statistics(Moments.of(rows().astype(np.float64) * 1e200), PROTOCOL)
        with pytest.raises(ScoreError, match="finite"):
            write_statistics(tmp_path / "huge.npz", huge)
    assert not list(tmp_path.iterdir())


def test_a_distance_uses_features_where_clips_are_few() -> None:
    few, many = whole(20, 30), whole(60, 30)
    assert few.side().form == "features" and many.side().form == "cholesky"
    bare = Statistics(few.moments, PROTOCOL)
    assert bare.side().form == "eigh"
    assert frechet(bare.side(), many.side()).value == pytest.approx(frechet(few.side(), many.side()).value, rel=1e-6)
