"""Imports official checkpoints: finds the state dict, infers model and sizes, and writes it under the same names.

An import is a pure rename (contracts 3): the tensor names of the result are the reference's without ``module.``, so
``{f"module.{name}": tensor}`` of an imported or trained checkpoint is again a state dict of the reference program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen._files import sha256
from vidgen._imports import require
from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import G3ANDiscriminatorConfig, ModelConfig
from vidgen.models.official_proof import prove
from vidgen.models.official_shapes import (
    expected_shapes,
    infer_config,
    infer_g3an_config,
    infer_g3an_discriminator_config,
    model_name,
)
from vidgen.models.safe_pickle import TensorView, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vidgen.models.torch_file import TorchFile

__all__ = [
    "MODEL_NAMES",
    "ImportReport",
    "import_checkpoint",
    "infer_config",
    "infer_g3an_config",
    "infer_g3an_discriminator_config",
    "plain_name",
]
#: What ``--model`` accepts.
MODEL_NAMES = ("g3an", "g3an_discriminator", "g3an_video_discriminator", "g3an_image_discriminator")
_COUNTER = "num_batches_tracked"
#: Endings of the newer spectral norm -> the classic names (spec g3an 1.5).
_PARAMETRISED = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}
#: Put before every name by DataParallel and DistributedDataParallel, and by torch.compile.
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class ImportReport:
    """What an import read and wrote.

    Attributes:
        entry: where in the file the state dict was, e.g. ``("state_dict",)``; empty when it is the file itself.
        tensors: their number. parameters: numbers in them, without counters.
        renamed: names that had a prefix or the newer spectral norm's endings.
        filled: counters of batches that the file lacked, set to 0.
        converted: element type in the file -> number of tensors converted to float32.
        source_sha256, sha256: of the source and of the file written.
    """

    source: Path
    destination: Path
    model: str
    config: ModelConfig
    entry: tuple[str, ...]
    tensors: int
    parameters: int
    renamed: int
    filled: tuple[str, ...]
    converted: Mapping[str, int]
    source_sha256: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` prints them."""
        values = dataclasses.asdict(self)
        return {**values, "source": str(self.source), "destination": str(self.destination)}


@dataclass(frozen=True)
class _Found:
    """A state dict in a file that is a known network: the names as we write them -> where the numbers are."""

    entry: tuple[str, ...]
    views: Mapping[str, TensorView]
    renamed: int
    config: ModelConfig


def import_checkpoint(source: str | Path, destination: str | Path, *, model: str | None = None) -> ImportReport:
    """Convert an official G3AN checkpoint (``G_*.pth``, ``VD_*.pth``, ``ID_*.pth``) to a vidgen checkpoint.

    Reads both formats of ``torch.save``, pickle protocols 1 to 5, float64, half and bfloat16 tensors, state dicts
    inside a dict, names with ``module.``, and both spellings of spectral norm. Nothing in the file is executed.
    The result is loaded into its network and run once before it is written (spec g3an 5).

    Args:
        model: one of :data:`MODEL_NAMES`; needed only when the file holds several networks.

    Raises:
        CheckpointError: the source is missing, truncated, foreign, unsafe, not a known network, or its numbers
            are not finite.
        SettingsError: unknown ``model``, or a destination that is not a new ``.safetensors`` path.
        StorageError: the destination cannot be written.
    """
    source, destination = Path(source), Path(destination)
    _check_arguments(source, destination, model)
    require("torch", "import a checkpoint")
    from vidgen.models.torch_file import open_torch_file

    with open_torch_file(source) as opened:
        found = _choose(_candidates(opened.root), model, source)
        _check_fit(found, source)
        tensors, filled, converted = _materialise(opened, found, source)
    prove(found.config, tensors, source)
    info = CheckpointInfo(model_name(found.config), found.config)
    save_checkpoint(destination, tensors, info)
    return ImportReport(
        source=source,
        destination=destination,
        model=info.model,
        config=info.config,
        entry=found.entry,
        tensors=len(tensors),
        parameters=sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(_COUNTER)),
        renamed=found.renamed,
        filled=filled,
        converted=converted,
        source_sha256=sha256(source),
        sha256=sha256(destination),
    )


def _check_arguments(source: Path, destination: Path, model: str | None) -> None:
    if model is not None and model not in MODEL_NAMES:
        raise SettingsError(
            "cannot import as asked",
            seen=f"--model {model}, expected one of {', '.join(MODEL_NAMES)}",
            cause="a typing error, or a model that this version does not import",
            fix="leave --model out: it is inferred from the tensors",
        )
    if destination.suffix != ".safetensors" or destination.is_dir():
        raise SettingsError(
            f"cannot write {destination}",
            seen=f"{destination.name!r}, expected a file name that ends in .safetensors",
            cause="commands tell a checkpoint by its ending",
            fix=f"vidgen import {source} {destination.with_suffix('.safetensors')}",
        )
    if destination.exists() and source.exists() and destination.samefile(source):
        raise SettingsError(
            f"cannot write {destination}",
            seen="source and destination are the same file",
            cause="the original would be lost",
            fix=f"vidgen import {source} {source.with_name(source.stem + '-imported.safetensors')}",
        )


def _candidates(root: Any) -> dict[tuple[str, ...], dict[str, TensorView]]:
    """State dicts in a saved object: text -> tensor mappings, at most three dicts deep."""
    found: dict[tuple[str, ...], dict[str, TensorView]] = {}
    waiting: list[tuple[tuple[str, ...], dict[Any, Any]]] = [((), root)] if isinstance(root, dict) else []
    while waiting:
        entry, value = waiting.pop(0)
        tensors = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, TensorView)}
        if tensors:
            found[entry] = tensors
        if len(entry) < 3:
            inner = [(name, item) for name, item in value.items() if isinstance(name, str) and isinstance(item, dict)]
            # A training state nests a few dicts; a file made to waste time nests millions.
            waiting += [((*entry, name), item) for name, item in inner[: max(0, 100 - len(waiting))]]
    return found


def _choose(candidates: Mapping[tuple[str, ...], Mapping[str, TensorView]], model: str | None, source: Path) -> _Found:
    """The one candidate that is a known network (of the kind asked for)."""
    known: list[_Found] = []
    refusals: dict[int, CheckpointError] = {}  # by number of tensors
    for entry, views in candidates.items():
        names = {name: plain_name(name) for name in views}
        if len(set(names.values())) < len(names):
            refusals[len(views)] = _unknown(source, "two tensors that differ only by the prefix 'module.'")
            continue
        renamed = {names[name]: view for name, view in views.items()}
        try:
            config = infer_config({name: view.shape for name, view in renamed.items()}, source=str(source))
        except CheckpointError as error:
            refusals[len(views)] = error
            continue
        changed = sum(new != old for old, new in names.items())
        known.append(_Found(entry, renamed, changed, config))
    chosen = [found for found in known if model is None or _is(found.config, model)]
    if len(chosen) == 1:
        return chosen[0]
    if len(chosen) > 1:
        raise _several(source, chosen)
    if known:
        raise CheckpointError(
            f"cannot import {source} as {model}",
            seen=f"a {_kind_name(known[0].config)} network, expected {model}",
            cause="--model names another network than the file holds",
            fix=f"vidgen import {source} OUT.safetensors",
        )
    if not refusals:
        raise _unknown(source, "no tensors with names")
    # Of several parts the one with most tensors is the network that was meant.
    raise refusals[max(refusals)]


def plain_name(name: str) -> str:
    """A state-dict key without wrapper prefixes, with the classic endings of spectral norm."""
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    for ending, classic in _PARAMETRISED.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + classic
    return name


def _kind_name(config: ModelConfig) -> str:
    return f"g3an_{config.kind}_discriminator" if isinstance(config, G3ANDiscriminatorConfig) else model_name(config)


def _is(config: ModelConfig, model: str) -> bool:
    return model in (model_name(config), _kind_name(config))


def _check_fit(found: _Found, source: Path) -> None:
    """Compare every name and shape with the network's, before any number is read."""
    expected = expected_shapes(found.config)
    given = {name: view.shape for name, view in found.views.items()}
    problems = [f"{name} is missing" for name in expected if name not in given and not name.endswith(_COUNTER)]
    problems += [f"{shown(name)} is unknown" for name in given if name not in expected]
    problems += [
        f"{name} is {list(given[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise _unknown(source, "; ".join(problems[:3]) + more)


def _materialise(
    opened: TorchFile, found: _Found, source: Path
) -> tuple[dict[str, Tensor], tuple[str, ...], dict[str, int]]:
    """Read the numbers: float32 tensors in the network's order, counters filled in, element types converted."""
    import torch

    size = source.stat().st_size
    claimed = sum(_bytes_of(view) for view in found.views.values())
    if claimed > size:
        raise _unknown(source, f"tensors of {claimed} bytes in a file of {size}: many share the same numbers")
    tensors: dict[str, Tensor] = {}
    filled: list[str] = []
    converted: dict[str, int] = {}
    for name in expected_shapes(found.config):
        view = found.views.get(name)
        if view is None:
            tensors[name] = torch.zeros((), dtype=torch.int64)
            filled.append(name)
        elif name.endswith(_COUNTER):
            tensors[name] = torch.tensor(int(opened.read(view)), dtype=torch.int64)
        else:
            kind = view.storage.dtype
            tensors[name] = torch.from_numpy(_float32(opened.read(view), name, kind, source))
            if kind != "float32":
                converted[kind] = converted.get(kind, 0) + 1
    return tensors, tuple(filled), converted


def _bytes_of(view: TensorView) -> int:
    elements = 1
    for size in view.shape:
        elements *= size
    return elements * (2 if view.storage.dtype in ("float16", "bfloat16") else 4)


def _float32(values: NDArray[Any], name: str, kind: str, source: Path) -> NDArray[np.float32]:
    import numpy as np

    if not kind.startswith(("float", "bfloat")):
        raise _unknown(source, f"{name} holds {kind} numbers, expected floating point")
    with np.errstate(over="ignore", invalid="ignore"):
        narrow: NDArray[np.float32] = values.astype(np.float32)
    wrong = narrow.size - int(np.isfinite(narrow).sum())
    if wrong or (name.endswith("running_var") and bool((narrow < 0).any())):
        raise CheckpointError(
            f"cannot import {source}",
            seen=f"{name} has {wrong} values that are NaN, infinite or beyond float32"
            if wrong
            else f"{name} has a negative variance",
            cause="training diverged before this checkpoint was saved, or the file is damaged",
            fix="import an earlier checkpoint of the run",
        )
    return narrow


def _several(source: Path, chosen: list[_Found]) -> CheckpointError:
    places = ", ".join(f"{_kind_name(found.config)} at {shown('/'.join(found.entry))}" for found in chosen[:4])
    kinds = sorted({_kind_name(found.config) for found in chosen})
    alone = len(kinds) == len(chosen)
    return CheckpointError(
        f"cannot import {source}",
        seen=f"{len(chosen)} networks: {places}, expected one",
        cause="the file holds a whole training state",
        fix=f"vidgen import {source} OUT.safetensors --model {kinds[0]}"
        if alone
        else "save the one network to a file of its own: torch.save(saved['NAME'], 'G.pth')",
    )


def _unknown(source: Path, seen: str) -> CheckpointError:
    return CheckpointError(
        f"cannot import {source}",
        seen=seen,
        cause="the file does not hold a G3AN generator or discriminator as the official program saves it",
        fix="vidgen import G_4900.pth OUT.safetensors   (give the file that the training program saved)",
    )
