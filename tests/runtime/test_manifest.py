"""Manifests: what is read, what is refused, and that nothing else than an ArtifactError comes of a damaged one."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen._files import sha256
from vidgen.errors import ArtifactError
from vidgen.models.config import G3ANConfig, TwoStreamVANConfig
from vidgen.runtime.manifest import (
    ArrowCheck,
    Engine,
    EngineProfile,
    Manifest,
    Precision,
    manifest_path,
    read_manifest,
    write_manifest,
)

PROFILES = (EngineProfile((1, 2, 4), (1, 1, 3)),)
ENGINE = Engine("tensorrt-rtx", "1.7.1.116", PROFILES, 90, 60, 70, ("a",), "inlined", flags=("TF32",), seconds=3.5)
CHECK = ArrowCheck("torch -> onnx", ("batch 1, time 1",), 0.5, 60.0, "batch 1, sample 0", 1.0, (0.1, 0.2), 3.0)


def _whole(digest: str, config: Any = None) -> Manifest:
    """A manifest with something in every field."""
    config = config or TwoStreamVANConfig(n_cat=3)
    return Manifest(
        model="g3an" if isinstance(config, G3ANConfig) else "twostreamvan",
        config=config,
        interface=config.interface(),
        fps=25.0,
        labels=("walk", "wave", "jump"),
        step=7,
        data={"name": "toy", "fps": 25.0},
        precision=Precision("float16", 0.9, ("norms",), ("node",), 2.0),
        sha256=digest,
        onnx_sha256="a" * 64,
        checkpoint_sha256="b" * 64,
        lowering="tensorrt",
        opset=18,
        sepconv="custom",
        builder="vidgen 1",
        target=("sm_86", "sm_120"),
        engine=ENGINE,
        verification=(CHECK,),
        rebuild="vidgen export c.safetensors -o a.onnx --engine a.plan",
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "a.plan"
    path.write_bytes(b"an engine")
    return path


@pytest.mark.parametrize("config", [TwoStreamVANConfig(n_cat=3), G3ANConfig(ch=8)])
def test_a_manifest_is_read_as_it_was_written(plan: Path, config: Any) -> None:
    written = _whole(sha256(plan), config)
    write_manifest(plan, written)
    assert read_manifest(plan) == written == Manifest.from_dict(written.to_dict())


@pytest.mark.parametrize("options", [{"masks": True}, {"conditional": True}, {"output": "float32"}])
def test_every_interface_of_an_export_is_read(plan: Path, options: dict[str, Any]) -> None:
    config = TwoStreamVANConfig()
    written = dataclasses.replace(_whole(sha256(plan), config), interface=config.interface(**options))
    write_manifest(plan, written)
    assert read_manifest(plan) == written


def test_a_manifest_of_a_version_without_engines_is_read(plan: Path) -> None:
    values = json.loads(json.dumps(_whole(sha256(plan)).to_dict()))
    del values["engine"], values["verification"][0]["drift"], values["precision"]["tolerance"]
    manifest_path(plan).write_text(json.dumps(values))
    assert read_manifest(plan).engine is None


def _set(path: str, value: Any) -> Callable[[Any], None]:
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]

    def change(values: Any) -> None:
        for key in parents:
            values = values[key]
        values[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("sha256", value) for value in (None, 5, "", "abc", "A" * 64)),
        *(("fps", value) for value in ("x", 0, -1, True, float("nan"), float("inf"), 10**400)),
        *(("engine.profiles", value) for value in ([], ["a", "b", "c"], [{"batch": [1, 2, 4]}], None)),
        *(("engine.profiles.0.batch", value) for value in ([2, 1, 4], [0, 1, 1], [1, 2], [1, 2, 2.5], "124")),
        *(("engine.library", value) for value in ("foo", "", None)),
        *(("engine.needs", value) for value in ([1], "text", None)),
        *(("inputs", value) for value in ([], {}, [[]], [None])),
        *(("outputs", value) for value in ([], [{}], 3)),
        *(("frames.scale", value) for value in (0, -1, 1.0, "1")),
        *(("frames.axis", value) for value in (0, 7, -1)),
        *(("frames.input", value) for value in ("none", "label", None)),
        *(("frames.offset", value) for value in (-(10**12), None)),
        *(("frames.default", value) for value in (0, -3)),
        *(("inputs.0.shape", value) for value in ([], [1, 2], ["batch", 0], ["batch", "other"], ["batch", None])),
        *(("inputs.0.dtype", value) for value in ("object", "nonsense", 3)),
        *(("inputs.2.range", value) for value in (None, [1], [2, 1], ["a", "b"])),
        *(("config", value) for value in ({}, [], None, {"n_cat": 3}, {"nonsense": 1})),
        *(("config.joint", value) for value in ("yes", 1, None)),
        *(("model", value) for value in ("other", 5, [], "classifier")),
        *(("precision.kind", value) for value in ("int8", None)),
        *(("precision.half_share", value) for value in (2, "x", -1)),
        *(("target", value) for value in (["sm_86", 5], "sm_86", [None], ["\x1b[31m"])),
        *(("rebuild", value) for value in (7, None, "\ud800", [])),
        *(("labels", value) for value in ("walk", [1], ["\x1b]0;title\x07"])),
        *(("verification", value) for value in ({}, [1], [{"arrow": "x"}])),
        *(("data", value) for value in (3, [], "x", {"x": float("nan")})),
        *(("format", value) for value in (2, None)),
        *(("opset", value) for value in (-1, 1.5, False)),
        ("unknown", 1),
    ],
)
def test_nonsense_is_refused(plan: Path, path: str, value: Any) -> None:
    values = json.loads(json.dumps(_whole(sha256(plan)).to_dict()))
    _set(path, value)(values)
    manifest_path(plan).write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="cannot read manifest") as caught:
        read_manifest(plan)
    assert str(caught.value).isprintable() and caught.value.fix.startswith("vidgen export CHECKPOINT.safetensors -o")


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", '"x"', "[" * 100_000, '{"format": 1}', '{"format": ' + "[" * 100_000, "9" * 5000],
)
def test_what_is_no_manifest_is_refused(plan: Path, text: str) -> None:
    manifest_path(plan).write_text(text)
    with pytest.raises(ArtifactError, match="cannot read manifest"):
        read_manifest(plan)
    manifest_path(plan).write_bytes(b"\xff\xfe" + text.encode())
    with pytest.raises(ArtifactError, match="cannot read manifest"):
        read_manifest(plan)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
JSON = st.recursive(
    PLAIN | st.sampled_from([10**400, "batch", "sm_89", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value, with every key of it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


@given(st.data())
def test_any_damage_to_a_manifest_is_read_or_refused(plan: Path, data: st.DataObject) -> None:
    values = json.loads(json.dumps(_whole(sha256(plan)).to_dict()))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(_places(values)))
        change = data.draw(st.sampled_from(["set", "delete", "swap", "repeat"]))
        if change == "set":
            container[key] = data.draw(JSON)
        elif change == "delete":
            del container[key]
        elif change == "swap":
            other, name = data.draw(st.sampled_from(_places(values)))
            container[key] = copy.deepcopy(other[name])
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        if not values:
            break
    manifest_path(plan).write_text(json.dumps(values))
    try:
        manifest = read_manifest(plan)
    except ArtifactError as error:
        assert error.fix.startswith("vidgen export ")
    else:
        json.dumps(manifest.to_dict(), ensure_ascii=False, allow_nan=False).encode()


@given(st.integers(0, 2000), st.binary(max_size=3))
def test_damaged_bytes_are_read_or_refused(plan: Path, at: int, bytes_: bytes) -> None:
    text = json.dumps(_whole(sha256(plan)).to_dict()).encode()
    manifest_path(plan).write_bytes(text[:at] + bytes_ + text[at + len(bytes_) :])
    try:
        manifest = read_manifest(plan)
    except ArtifactError as error:
        assert error.fix
    else:
        assert manifest.sha256 == sha256(plan)
