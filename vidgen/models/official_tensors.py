"""Reads the numbers of a network out of a file: every name and size is compared first, every value is checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.errors import CheckpointError
from vidgen.models.official_search import FoundNetwork
from vidgen.models.official_shapes import expected_shapes, kind_name, not_official
from vidgen.models.safe_pickle import TensorView, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vidgen.models.torch_file import TorchFile

#: How many names of each kind of misfit a message holds.
_NAMED = 3
_COUNTER = "num_batches_tracked"


def is_counter(name: str) -> bool:
    """Whether a tensor counts the batches that a batch norm has seen: an integer that nothing depends on."""
    return name.endswith(_COUNTER)


def check_fit(found: FoundNetwork, source: Path) -> None:
    """Compare every name and shape with the network's, before any number is read.

    Raises:
        CheckpointError: how many are missing, unknown or of another size, and the first of each.
    """
    expected = expected_shapes(found.config)
    given = {name: view.shape for name, view in found.views.items()}
    missing = [f"{name} is missing" for name in expected if name not in given and not is_counter(name)]
    unknown = [f"{shown(name)} is unknown" for name in given if name not in expected]
    resized = [
        f"{name} is {list(given[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    if missing or unknown or resized:
        counts = f"{len(missing)} missing, {len(unknown)} unknown, {len(resized)} of another size"
        named = [problem for problems in (missing, unknown, resized) for problem in problems[:_NAMED]]
        raise not_official(
            source, f"of the {len(expected)} tensors of {kind_name(found.config)} {counts}: {'; '.join(named)}"
        )


def read_network(
    opened: TorchFile, found: FoundNetwork, source: Path
) -> tuple[dict[str, Tensor], tuple[str, ...], dict[str, int]]:
    """The tensors of a network whose names and shapes fit: float32, in the network's order.

    Returns:
        The tensors; the counters that the file lacked, set to 0; element type in the file -> tensors converted.

    Raises:
        CheckpointError: a tensor holds other than floating point numbers, or numbers that are not finite.
    """
    import torch

    check_bytes(found.views.values(), source)
    tensors: dict[str, Tensor] = {}
    filled: list[str] = []
    converted: dict[str, int] = {}
    for name in expected_shapes(found.config):
        view = found.views.get(name)
        if view is None:
            tensors[name] = torch.zeros((), dtype=torch.int64)
            filled.append(name)
        elif is_counter(name):
            tensors[name] = torch.tensor(_read_count(opened, view, name, source), dtype=torch.int64)
        else:
            kind = view.storage.dtype
            not_negative = name.endswith("running_var")
            tensors[name] = torch.from_numpy(read_float32(opened, view, name, source, not_negative=not_negative))
            if kind != "float32":
                converted[kind] = converted.get(kind, 0) + 1
    return tensors, tuple(filled), converted


def _read_count(opened: TorchFile, view: TensorView, name: str, source: Path) -> int:
    if "int" not in view.storage.dtype:
        raise not_official(source, f"{name} holds {view.storage.dtype} numbers, expected int64")
    return int(opened.read(view))


def check_bytes(views: Iterable[TensorView], source: Path) -> None:
    """Refuse tensors that together are larger than their file: they share numbers, to fill the memory.

    Raises:
        CheckpointError: they are.
    """
    size = source.stat().st_size
    claimed = sum(_bytes_of(view) for view in views)
    if claimed > size:
        raise not_official(source, f"tensors of {claimed} bytes in a file of {size}: many share the same numbers")


def _bytes_of(view: TensorView) -> int:
    elements = 1
    for size in view.shape:
        elements *= size
    return elements * (2 if view.storage.dtype in ("float16", "bfloat16") else 4)


def read_float32(
    opened: TorchFile, view: TensorView, name: str, source: Path, *, not_negative: bool = False
) -> NDArray[np.float32]:
    """The numbers of a tensor as float32.

    Raises:
        CheckpointError: they are not floating point, not finite, or negative where they may not be.
    """
    import numpy as np

    kind = view.storage.dtype
    if not kind.startswith(("float", "bfloat")):
        raise not_official(source, f"{name} holds {kind} numbers, expected floating point")
    values: NDArray[Any] = opened.read(view)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow: NDArray[np.float32] = values.astype(np.float32, copy=False)
    wrong = narrow.size - int(np.isfinite(narrow).sum())
    if wrong or (not_negative and bool((narrow < 0).any())):
        raise CheckpointError(
            f"cannot import {source}",
            seen=f"{name} has {wrong} values that are NaN, infinite or beyond float32"
            if wrong
            else f"{name} has values below 0",
            cause="training diverged before this checkpoint was saved, or the file is damaged",
            fix="import an earlier checkpoint of the run",
        )
    return narrow
