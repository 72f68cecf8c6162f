"""A network saved by torch.export (.pt2) as an extractor: only with the user's word, since loading one may run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.given_network import Contract, given_extractor, read_contract, refusal
from vidgen.bench.scores.extractors.network import Outputs, in_batches
from vidgen.errors import ArtifactError, BackendError
from vidgen.runtime.backends.buffers import closed_error, run_error


def open_exported_program(
    file: Path, options: Mapping[str, str], *, threads: int | None, device: str, trust: bool
) -> Extractor:
    """Open a file of torch.export whose one input is a video.

    Args:
        options: see :func:`read_contract`. trust: the user knows where the file is from.

    Raises:
        ArtifactError: the file may not or cannot be loaded.
        MissingDependencyError: torch is not installed.
        BackendError: no such device here.
        SettingsError, ScoreError: as of ONNX files.
    """
    if not trust:
        raise ArtifactError(
            f"refusing extractor {file}",
            seen="a torch.export file, expected one that you trust",
            cause="torch reads parts of it by pickle, which can run code",
            fix=f"--extractor {file}@trust=yes if you know where it is from; an .onnx file needs no trust",
        )
    torch = require("torch", "run torch.export files")
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise BackendError(f"cannot run {file.name} on {device}", seen=f"device {device!r}, expected cpu",
                           cause="this torch has no such device here", fix="use device cpu")  # fmt: skip
    if not file.is_file():
        raise ArtifactError(f"cannot open extractor {file}", seen="no such file", cause="a wrong path",
                            fix=f"ls {file.parent}")  # fmt: skip
    try:
        program = torch.export.load(str(file))
    except Exception as error:  # zip, JSON, schema and pickle errors of its own
        raise ArtifactError(
            f"cannot open extractor {file}",
            seen=(" ".join(str(error).split()) or type(error).__name__)[:300],
            cause="no file of torch.export, a damaged one, or one of another version of torch",
            fix="save it again with this torch: torch.export.save(torch.export.export(model, inputs), PATH)",
        ) from error
    contract = _contract(file, program, options)
    network = _TorchNetwork(program, contract, threads, device)
    return given_extractor(file, network, contract)


def _contract(file: Path, program: Any, options: Mapping[str, str]) -> Contract:
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise refusal(file, f"{len(names)} inputs, expected one", "it is no network of clips")
    node = next(node for node in program.graph.nodes if node.name == names[0])
    value = node.meta["val"]
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return read_contract(file, str(value.dtype).removeprefix("torch."), shape, options)


class _TorchNetwork:
    """An exported program with a fixed batch."""

    def __init__(self, program: Any, contract: Contract, threads: int | None, device: str) -> None:
        self._module: Any = program.module().to(device)
        self._batch, self._threads, self._device = contract.batch, threads, device

    @property
    def description(self) -> str:
        """Library, version and device."""
        import torch

        return f"torch {torch.__version__}, {self._device}"

    def run(self, items: NDArray[Any]) -> Outputs:
        """Describe items, with as many threads as were asked for."""
        import torch

        if self._module is None:
            raise closed_error("torch")
        before = torch.get_num_threads()
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return in_batches(lambda parts: map(self._run, parts), items, self._batch)
        except (RuntimeError, MemoryError, ValueError) as error:
            raise run_error("torch", error, self._batch) from error
        finally:
            torch.set_num_threads(before)

    def _run(self, part: NDArray[Any]) -> Outputs:
        import torch

        found = self._module(torch.from_numpy(part).to(self._device))
        values = {"features": found} if torch.is_tensor(found) else None
        if isinstance(found, dict):
            values = found
        elif isinstance(found, tuple | list):
            values = {"features": found[0], "logits": found[1]} if len(found) == 2 else {"features": found[0]}
        if values is None:
            raise ValueError(f"the network gives {type(found).__name__}, expected a tensor")
        return {str(name): np.asarray(value.float().cpu().numpy()) for name, value in values.items()}

    def close(self) -> None:
        """Drop the module."""
        self._module = None
