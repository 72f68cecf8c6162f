"""Damaged and foreign files are refused with our error; none exhausts memory."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hostile_files import Call, import_or_refuse, refuse
from support.official_files import classifier_file, twostreamvan_file, twostreamvan_networks

from vidgen.errors import VidgenError
from vidgen.models.config import ClassifierConfig, G3ANConfig, G3ANDiscriminatorConfig, TwoStreamVANConfig
from vidgen.models.official import import_checkpoint
from vidgen.models.registry import build_network
from vidgen.models.safe_pickle import PickleRefusedError, read_pickle


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/readme.txt", "hello")


def _script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def _safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"net.0.bias": torch.zeros(3)}, path)


def _onnx(path: Path) -> None:
    path.write_bytes(bytes.fromhex("080a1207707974") + b"orch" * 5)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "empty file"),
    "text": (lambda p: p.write_text("epoch 3: loss 0.2\n"), "starts with"),
    "text that looks like a pickle": (lambda p: p.write_text("class loss\n0.3 0.2\n"), "Nothing was run"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html><title>Quota exceeded</title>"), "web page"),
    "lfs": (lambda p: p.write_text("version https://git-lfs.example/spec/v1\noid sha256:0\n"), "Git LFS"),
    "json": (lambda p: p.write_text("{}"), "JSON"),
    "npy": (lambda p: np.save(p, np.zeros(3)), "NumPy array"),
    "npz": (lambda p: np.savez(p, a=np.zeros(3)), "NumPy arrays"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "HDF5"),
    "tensorflow index": (lambda p: p.write_bytes(bytes(40) + bytes.fromhex("57fb808b247547db")), "TensorFlow"),
    "onnx": (_onnx, "protocol buffer"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(20)), "gzip"),
    "tar": (_tar, "cannot import"),
    "zip": (_zip, "not written by torch.save"),
    "torchscript": (_script, "TorchScript"),
    "safetensors": (_safetensors, "safetensors"),
    "plain pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "torch.save did not write"),
    "list": (lambda p: torch.save([1, 2], p), "no tensors with names"),
    "one tensor": (lambda p: torch.save(torch.zeros(3), p), "no tensors with names"),
    "zeros": (lambda p: p.write_bytes(bytes(1000)), "starts with"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_named(kind: str, tmp_path: Path) -> None:
    make, message = FOREIGN[kind]
    made = tmp_path / ("G.npz" if kind == "npz" else "G.npy" if kind == "npy" else "G.pth")
    make(made)
    source = made.rename(tmp_path / "source")
    refuse(source, message)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refuse(tmp_path / "G.pth", "no such file")
    refuse(tmp_path, "a folder")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small valid checkpoints in both formats: one network, and one with its optimiser."""
    folder = tmp_path_factory.mktemp("valid")
    network = build_network(G3ANDiscriminatorConfig("image", 1)).state_dict()
    training = classifier_file(ClassifierConfig(2, 1))
    for saved, name, zipped in (
        (network, "zip", True),
        (network, "legacy", False),
        (training, "training zip", True),
        (training, "training legacy", False),
    ):
        torch.save(saved, folder / name, _use_new_zipfile_serialization=zipped)
        import_checkpoint(folder / name, folder / "out.safetensors")
    return {name: (folder / name).read_bytes() for name in FORMATS}


FORMATS = ["zip", "legacy", "training zip", "training legacy"]
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(format=st.sampled_from(FORMATS), part=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused(valid: dict[str, bytes], tmp_path: Path, format: str, part: float) -> None:
    content = valid[format]
    assert not import_or_refuse(tmp_path, content[: int(part * len(content))])


@QUICK
@given(
    format=st.sampled_from(FORMATS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8),
)
def test_flipped_bytes_are_refused_or_harmless(
    valid: dict[str, bytes], tmp_path: Path, format: str, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(valid[format])
    for part, change in flips:
        content[int(part * len(content))] ^= change
    import_or_refuse(tmp_path, bytes(content))


@QUICK
@given(format=st.sampled_from(FORMATS), at=st.integers(0, 2500), change=st.integers(1, 255))
def test_flipped_bytes_near_the_start_are_refused_or_harmless(
    valid: dict[str, bytes], tmp_path: Path, format: str, at: int, change: int
) -> None:
    """The pickles lie at the start of both formats."""
    content = bytearray(valid[format])
    content[at] ^= change
    import_or_refuse(tmp_path, bytes(content))


@QUICK
@given(data=st.binary(max_size=200), protocol=st.sampled_from([b"", b"\x80\x02", b"\x80\x04"]))
def test_random_programs_only_ever_describe(data: bytes, protocol: bytes) -> None:
    try:
        read_pickle(io.BytesIO(protocol + data + b"."))
    except PickleRefusedError as error:
        assert str(error).isprintable()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(bytes([code]) for code in b"()}]t\x85\x86\x87R\x81bQsuae01\x94\x93N\x88"),
                *(b"q\x00", b"h\x00", b"K\x01", b"J\xff\xff\xff\xff", b"G" + struct.pack(">d", float("nan"))),
                *(b"X\x01\x00\x00\x00a", b"X\x07\x00\x00\x00storage"),
                *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n"),
                *(b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"cargparse\nNamespace\n"),
            ]
        ),
        max_size=40,
    )
)
def test_any_sequence_of_instructions_only_ever_describes(program: list[bytes]) -> None:
    try:
        read_pickle(io.BytesIO(b"".join(program) + b"."))
    except PickleRefusedError as error:
        assert str(error).isprintable()


def _rewrite_pickle(content: bytes, change: Callable[[bytes], bytes], **options: Any) -> bytes:
    """A torch zip with its data.pkl changed, and right checksums."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", **options) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(data) if entry.filename.endswith("/data.pkl") else data)
    return made.getvalue()


def test_compressed_and_repeated_entries_are_refused(valid: dict[str, bytes], tmp_path: Path) -> None:
    source = tmp_path / "G.pth"
    source.write_bytes(_rewrite_pickle(valid["zip"], lambda data: data, compression=zipfile.ZIP_DEFLATED))
    refuse(source, "compressed")
    content = io.BytesIO(valid["zip"])
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], "twice")
    source.write_bytes(content.getvalue())
    refuse(source, "more than its")


def test_overlapping_entries_are_refused(valid: dict[str, bytes], tmp_path: Path) -> None:
    """A zip whose directory lists the same bytes many times unpacks to far more than its size."""
    content = io.BytesIO(valid["zip"])
    with zipfile.ZipFile(content, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(50):
            copy = zipfile.ZipInfo(f"archive/data/{number + 1000}")
            for name in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(copy, name, getattr(largest, name))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "G.pth").write_bytes(content.getvalue())
    refuse(tmp_path / "G.pth", "more than its")


def _tensor_pickle(elements: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """A state dict of one tensor, written by hand."""

    class Key:
        pass

    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", elements) if isinstance(value, Key) else None

    made = io.BytesIO()
    Writer(made, 2).dump(
        {"net.0.bias": Call(torch._utils._rebuild_tensor_v2, Key(), offset, shape, strides, False, {})}
    )
    return made.getvalue()


@pytest.mark.parametrize(
    ("elements", "shape", "strides", "offset"),
    [
        (1, (1 << 40,), (0,), 0),
        (1 << 50, (1 << 50,), (1,), 0),
        (4, (2, 2), (2, 2), 0),
        (4, (4,), (1,), 1),
        (4, (4,), (1 << 61,), 0),
        (4, (-1,), (1,), 0),
        (4, (4,), (-1,), 3),
        (4, (1,) * 17, (1,) * 17, 0),
        (-4, (4,), (1,), 0),
    ],
)
def test_absurd_tensors_are_refused(
    elements: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    program = _tensor_pickle(elements, shape, strides, offset)
    with zipfile.ZipFile(tmp_path / "G.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", bytes(16))
    refuse(tmp_path / "G.pth", "cannot import")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_training_state_is_refused(zipped: bool, tmp_path: Path) -> None:
    config = TwoStreamVANConfig(n_cat=2, gf_dim=1, cont_dim=2, motion_dim=2, joint=False, kernel_layer=1)
    source = tmp_path / "latest_model.pth.tar"
    saved = twostreamvan_file(twostreamvan_networks(config, ndf=1))
    torch.save(saved, source, _use_new_zipfile_serialization=zipped)
    content = source.read_bytes()
    # Among the pickles, in the numbers of the generator, in those of the last optimiser.
    for end in (0, 1, 100, 5000, len(content) // 3, len(content) - 1000, len(content) - 1):
        assert not import_or_refuse(tmp_path, content[:end]), end


@pytest.mark.parametrize(
    "name", ["contEnc.encode_cnn.0.weight", "contSampler.mean.weight", "kernelGen.kernel_h_block5.0.weight"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_empty_tensors_of_huge_sizes_are_refused(name: str, axis: int, tmp_path: Path) -> None:
    """A tensor without numbers may claim any size and take no bytes."""
    config = TwoStreamVANConfig(n_cat=2, gf_dim=1, cont_dim=2, motion_dim=2, joint=False, kernel_layer=1)
    state = dict(build_network(config).state_dict())
    shape = [0] * state[name].dim()
    shape[axis] = 1 << 40
    state[name] = torch.empty(shape)
    torch.save(state, tmp_path / "g.pth")
    refuse(tmp_path / "g.pth", "at least 1")


def test_many_tensors_on_one_storage_are_refused(tmp_path: Path) -> None:
    """Views that share their numbers would make a small file fill the memory."""
    state = build_network(G3ANDiscriminatorConfig("image", 8)).state_dict()
    shared = torch.zeros(max(value.numel() for value in state.values()))
    torch.save({name: shared[: v.numel()].view(v.shape) for name, v in state.items()}, tmp_path / "G.pth")
    refuse(tmp_path / "G.pth", "share the same numbers")


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02" + b"(" * 2_000_001 + b".",
        b"\x80\x02" + b")" + b"\x85" * 300_000 + b"}h\x00.",
        b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7f.",
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x04\x8e" + b"\xff" * 8 + b".",
        b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
        b"\x80\x02]q\x00h\x00a}h\x00h\x00ss.",
    ],
    ids=["marks", "nesting", "memo", "deep key", "long", "bytes", "integer", "cycle"],
)
def test_programs_that_exhaust_memory_are_refused(program: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "G.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    refuse(tmp_path / "G.pth", "cannot import")


def test_names_from_the_file_cannot_control_the_terminal(tmp_path: Path) -> None:
    state = dict(build_network(G3ANConfig(c_a=2, c_m=2, ch=2)).state_dict())
    state["\x1b[2J\nerased" + "x" * 500] = torch.zeros(1)
    torch.save(state, tmp_path / "G.pth")
    with pytest.raises(VidgenError) as caught:
        import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 800
