"""Checkpoints: one .safetensors file of reference-named tensors with what the model is in its metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen._files import atomic_file
from vidgen._imports import require
from vidgen.errors import CheckpointError
from vidgen.models.config import ModelConfig, config_from

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
#: The metadata key of the safetensors header that holds our JSON (contracts 3).
METADATA_KEY = "vidgen"


@dataclass(frozen=True)
class DataDescription:
    """The data a model was trained on: name, frames a second, class names, content hash of the clip store."""

    name: str
    fps: float
    labels: tuple[str, ...] = ()
    content_hash: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", float(self.fps))
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    Attributes:
        model: family name, e.g. ``"g3an"``. config: its sizes. step: training steps behind the weights.
        data: what it was trained on; None when unknown (imports).
    """

    model: str
    config: ModelConfig
    step: int = 0
    data: DataDescription | None = None

    def to_json(self) -> str:
        """The metadata value."""
        values = {
            "format": FORMAT,
            "model": self.model,
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "data": dataclasses.asdict(self.data) if self.data else None,
        }
        return json.dumps(values)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """Write a checkpoint atomically.

    Args:
        tensors: a state dict under the reference's names, spectral norm unfolded.

    Raises:
        StorageError: the file cannot be written.
    """
    from safetensors.torch import save

    # Shared or strided memory is refused by the format; a state dict of our modules has neither after this.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as partial:
        # The library's own file writing reports a full disk as an error of its own kind.
        partial.write_bytes(save(plain, metadata={METADATA_KEY: info.to_json()}))


def read_info(path: str | Path) -> CheckpointInfo:
    """What a checkpoint says of itself, without loading its tensors and without torch.

    Raises:
        CheckpointError: missing, truncated, or not written by vidgen.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"cannot open checkpoint {path}",
            seen="no such file" if not path.exists() else "not a file",
            cause="a wrong path, or training has not saved yet",
            fix=f"ls {path.parent}",
        )
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot open checkpoint {path}",
            seen=f"{error}, expected a .safetensors file",
            cause="the file is truncated or of another kind",
            fix=f"vidgen import {path} out.safetensors   (if it is an official .pth checkpoint)",
        ) from error
    return _parse_metadata(path, metadata)


def _parse_metadata(path: Path, metadata: Mapping[str, str]) -> CheckpointInfo:
    foreign = CheckpointError(
        f"cannot open checkpoint {path}",
        seen=f"no valid {METADATA_KEY!r} entry in its metadata (keys: {sorted(metadata) or 'none'})",
        cause="the file was not written by vidgen",
        fix="vidgen import SRC.pth DST.safetensors   (from the original .pth file)",
    )
    try:
        values = json.loads(metadata[METADATA_KEY])
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"cannot open checkpoint {path}",
                seen=f"format {values['format']!r}, expected {FORMAT}",
                cause="it was written by a newer version",
                fix="pip install -U vidgen",
            )
        data = DataDescription(**values["data"]) if values.get("data") else None
        config = config_from(values["model"], values["config"])
        return CheckpointInfo(values["model"], config, int(values["step"]), data)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise foreign from error


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU.

    Raises:
        CheckpointError: missing, truncated or foreign.
    """
    read_info(path)
    require("torch", "load a checkpoint")
    from safetensors.torch import load_file

    return load_file(path)


def load_generator(path: str | Path) -> tuple[nn.Module, CheckpointInfo]:
    """The generator of a checkpoint in evaluation mode on the CPU, and what the checkpoint says of itself.

    Raises:
        CheckpointError: missing, truncated, foreign, or its tensors do not fit its configuration.
    """
    from vidgen.models.registry import build_network

    info = read_info(path)
    info.config.interface()  # refuses what is no generator
    tensors = load_tensors(path)
    generator = build_network(info.config)
    load_into(generator, tensors, path)
    return generator.eval(), info


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state dict exactly; the first tensors that do not fit are named.

    Raises:
        CheckpointError: names or shapes differ.
    """
    expected = module.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensors[name].shape)}, expected {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"cannot load {source} into {type(module).__name__}",
            seen="; ".join(problems[:3]) + more,
            cause="the file holds another network or other sizes",
            fix=f"vidgen import {source} out.safetensors   (infers the sizes from the tensors)",
        )
    module.load_state_dict(dict(tensors))
