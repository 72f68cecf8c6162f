"""Malicious files are refused with our error, and nothing in them runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from support.hostile_files import Call, refuse
from support.official_files import classifier_file

from vidgen.models.config import ClassifierConfig, G3ANDiscriminatorConfig
from vidgen.models.registry import build_network


def _attacks(marker: Path) -> dict[str, Any]:
    write = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": Call(os.system, f"touch '{marker}'"),
        "eval": Call(builtins.eval, f"__import__('pathlib').Path({str(marker)!r}).touch()"),
        "exec": Call(builtins.exec, write),
        "popen": Call(subprocess.call, ["touch", str(marker)]),
        "getattr": Call(builtins.getattr, Call(builtins.__import__, "os"), "system"),
        "open": Call(builtins.open, str(marker), "w"),
    }


ATTACKS = sorted(_attacks(Path("m")))


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_are_real(attack: str, tmp_path: Path) -> None:
    """The files refused below do harm when they are unpickled; otherwise those tests prove nothing."""
    marker = tmp_path / "marker"
    result = pickle.loads(pickle.dumps(_attacks(marker)[attack]))
    assert marker.exists() or result is os.system


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("container", ["zip", "legacy", "bare", "legacy header"])
def test_nothing_in_a_malicious_file_runs(attack: str, protocol: int, container: str, tmp_path: Path) -> None:
    marker, source = tmp_path / "marker", tmp_path / "G.pth"
    evil = _attacks(marker)[attack]
    network = build_network(G3ANDiscriminatorConfig("image", 1))
    state = {**network.state_dict(), "extra": evil}
    if container == "bare":
        source.write_bytes(pickle.dumps({"extra": evil}, protocol=protocol))
    elif container == "legacy header":
        source.write_bytes(pickle.dumps(evil, protocol=protocol) + pickle.dumps(1001) * 4)
    elif protocol == 0:
        pytest.skip("torch.save cannot write protocol 0")
    else:
        zipped = container == "zip"
        torch.save(state, source, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    refuse(source, "Nothing was run")
    assert not marker.exists()


def test_torch_load_as_a_gadget_is_refused(tmp_path: Path) -> None:
    """A file whose state dict asks torch to load a second, unsafe file."""
    marker = tmp_path / "marker"
    inner = io.BytesIO()
    torch.save(Call(os.system, f"touch '{marker}'"), inner)
    for name, gadget in {
        "path": Call(torch.load, str(tmp_path / "inner.pth")),
        "bytes": Call(torch.storage._load_from_bytes, inner.getvalue()),
    }.items():
        (tmp_path / "inner.pth").write_bytes(inner.getvalue())
        torch.save({"net.0.bias": gadget}, tmp_path / f"{name}.pth")
        refuse(tmp_path / f"{name}.pth", "Nothing was run")
    assert not marker.exists()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", ["iter", "moment", "options", "counter", "top"])
def test_nothing_in_a_malicious_training_state_runs(attack: str, place: str, tmp_path: Path) -> None:
    marker, source = tmp_path / "marker", tmp_path / "latest_model.pth.tar"
    evil = _attacks(marker)[attack]
    saved = classifier_file(ClassifierConfig(2, 1))
    if place == "moment":
        saved["optimizer"]["state"][0]["exp_avg"] = evil
    elif place == "options":
        saved["optimizer"]["param_groups"][0]["lr"] = evil
    elif place == "counter":
        saved["classifer"]["main.3.num_batches_tracked"] = evil
    else:
        saved[place] = evil
    torch.save(saved, source)
    refuse(source, "Nothing was run")
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"(S'touch MARKER'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch MARKER'\no.",
        b"cos\nsystem\n(S'touch MARKER'\ntR.",
        b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch MARKER\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00ass\x86b.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81}X\x07\x00\x00\x00__del__cos\nsystem\nsb.",
        b"\x80\x02\x8c\x02os\x8c\x06system\x86Q.",
    ],
)
def test_hand_written_programs_are_refused(program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "G.pth").write_bytes(program)
    refuse(tmp_path / "G.pth", "G.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["G.pth"]


def test_a_pickled_module_is_explained(tmp_path: Path) -> None:
    torch.save(build_network(G3ANDiscriminatorConfig("image", 1)), tmp_path / "G.pth")
    refuse(tmp_path / "G.pth", r"ImageDiscriminator.*torch\.save\(model\.state_dict")
