"""Small artifacts for the runtime tests: a tiny checkpoint, a toy ONNX file, a labelled manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen._files import sha256
from vidgen.models.config import FramesRule, G3ANConfig, ModelInterface, TensorSpec, TwoStreamVANConfig
from vidgen.runtime.backends import ALLOWS_FAKE
from vidgen.runtime.manifest import Manifest, write_manifest

TINY = G3ANConfig(c_a=6, c_m=4, ch=2, use_attention=True)
LABELS = ("walk", "wave", "jump")


@pytest.fixture(autouse=True)
def fake_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let settings name the backend ``fake``, in child processes too."""
    monkeypatch.setenv(ALLOWS_FAKE, "1")


@pytest.fixture
def labelled() -> Manifest:
    """A manifest with the inputs of TwoStreamVAN: labels, and a motion latent with time before channels."""
    interface = ModelInterface(
        inputs=(
            TensorSpec("z_content", "float32", ("batch", 5), "normal"),
            TensorSpec("z_motion", "float32", ("batch", "steps", 3), "normal"),
            TensorSpec("label", "int64", ("batch",), "label", (0, 2)),
        ),
        output=TensorSpec("video", "uint8", ("batch", "frames", 8, 10, 3), "video", (0, 255)),
        frames=FramesRule("z_motion", 1, "steps", scale=1, offset=-1, default=4),
    )
    return Manifest(model="g3an", config=TINY, interface=interface, fps=10.0, labels=LABELS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny G3AN with attention, with weights such that its videos differ and fill the range."""
    import torch

    from vidgen.models.checkpoint import CheckpointInfo, DataDescription, save_checkpoint
    from vidgen.models.g3an import Generator

    torch.manual_seed(5)
    generator = Generator(TINY).eval()
    tensors = generator.state_dict()
    for name, tensor in tensors.items():
        if name.endswith("weight_orig"):
            # Spectral norm divides by u^T W v: with the drawn u and v, which no training has improved, by nearly 0.
            matrix = (tensor.transpose(0, 1) if name.startswith("block") else tensor).flatten(1)
            left, _, right = torch.linalg.svd(matrix, full_matrices=False)
            tensors[name.replace("orig", "u")].copy_(left[:, 0])
            tensors[name.replace("orig", "v")].copy_(right[0])
        elif name.endswith("gamma"):
            tensor.fill_(0.5)
        elif name.endswith("running_var"):
            tensor.fill_(0.1)
        elif name == "to_rgb.0.weight":
            tensor.mul_(2)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, tensors, CheckpointInfo("g3an", TINY, 7, DataDescription("toy", 12.5)))
    return path


@pytest.fixture
def small_actor(tmp_path: Path) -> Callable[[], Path]:
    """To write a tiny TwoStreamVAN."""

    def write() -> Path:
        import torch

        from vidgen.models.checkpoint import CheckpointInfo, DataDescription, save_checkpoint
        from vidgen.models.twostreamvan import Generator

        torch.manual_seed(5)
        config = TwoStreamVANConfig(n_cat=3, gf_dim=2, cont_dim=4, motion_dim=3)
        path = tmp_path / "actor.safetensors"
        info = CheckpointInfo("twostreamvan", config, 7, DataDescription("toy", 12.5, LABELS))
        save_checkpoint(path, Generator(config).eval().state_dict(), info)
        return path

    return write


def write_toy_onnx(path: Path, output: str = "uint8", *, external: bool = False) -> Manifest:
    """Write a small graph with the interface of a G3AN, every output value a function of its own latents."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(value, name)

    node = helper.make_node
    constants = [
        constant("look", rng.standard_normal((6, 3 * 64 * 64)).astype(np.float32)),
        constant("move", rng.standard_normal((4, 12)).astype(np.float32)),
        constant("pads", np.array([0, 0, 0, 0, 3, 0], dtype=np.int64)),
        constant("to_frames", np.array([0, -1, 1], dtype=np.int64)),
        constant("to_image", np.array([0, 1, 64 * 64, 3], dtype=np.int64)),
        constant("per_frame", np.array([0, -1, 1, 3], dtype=np.int64)),
        constant("to_video", np.array([0, 0, 64, 64, 3], dtype=np.int64)),
        constant("one", np.float32(1)),
        constant("half", np.float32(127.5)),
        constant("low", np.float32(0)),
        constant("high", np.float32(255)),
    ]
    nodes = [
        node("MatMul", ["za", "look"], ["appearance"]),
        node("Reshape", ["appearance", "to_image"], ["image"]),
        node("Transpose", ["zm"], ["steps"], perm=[0, 2, 1]),
        node("Pad", ["steps", "pads"], ["longer"]),
        node("MatMul", ["longer", "move"], ["motion"]),
        node("Reshape", ["motion", "per_frame"], ["frames_colours"]),
        node("Add", ["image", "frames_colours"], ["sum"]),
        node("Tanh", ["sum"], ["flat"]),
        node("Reshape", ["flat", "to_video"], ["raw"]),
    ]
    if output == "uint8":
        nodes += [
            node("Add", ["raw", "one"], ["shifted"]),
            node("Mul", ["shifted", "half"], ["scaled"]),
            node("Round", ["scaled"], ["rounded"]),
            node("Clip", ["rounded", "low", "high"], ["clipped"]),
            node("Cast", ["clipped"], ["video"], to=TensorProto.UINT8),
        ]
    else:
        nodes.append(node("Transpose", ["raw"], ["video"], perm=[0, 4, 1, 2, 3]))
    interface = TINY.interface(output)
    kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    inputs = [helper.make_tensor_value_info(s.name, kinds[s.dtype], list(s.shape)) for s in interface.inputs]
    result = helper.make_tensor_value_info("video", kinds[output], list(interface.output.shape))
    graph = helper.make_graph(nodes, "toy", inputs, [result], initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path, save_as_external_data=external, location=path.name + ".data", size_threshold=0)
    manifest = Manifest(
        model="g3an",
        config=TINY,
        interface=interface,
        fps=20.0,
        sha256=sha256(path),
        rebuild=f"vidgen export toy.safetensors -o {path}",
    )
    write_manifest(path, manifest)
    return manifest


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A toy ONNX artifact with 8-bit output."""
    path = tmp_path / "toy.onnx"
    write_toy_onnx(path)
    return path


@pytest.fixture
def make_toy() -> Callable[..., Manifest]:
    """To write toy ONNX artifacts of other kinds."""
    return write_toy_onnx


@pytest.fixture
def with_output() -> Callable[[Manifest, str], Manifest]:
    """To change the output of a G3AN's manifest."""

    def change(manifest: Manifest, output: str) -> Manifest:
        return dataclasses.replace(manifest, interface=manifest.config.interface(output))

    return change


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with two first frames of one colour each."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, colour in (("a", (200, 40, 0)), ("b", (0, 90, 250))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    return folder
