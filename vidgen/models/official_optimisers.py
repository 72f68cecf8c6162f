"""Matches an official optimiser's state with the parameters it belongs to, which it tells by their order alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.errors import CheckpointError
from vidgen.models.official_tensors import read_float32
from vidgen.models.safe_pickle import TensorView, shown

if TYPE_CHECKING:
    from vidgen.models.torch_file import TorchFile

Shape = tuple[int, ...]
#: Numbers that the group of an optimiser must tell -> the smallest, and what they must be below.
_OPTIONS = {"lr": (0.0, math.inf), "eps": (0.0, math.inf), "weight_decay": (0.0, math.inf)}
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class OptimiserState:
    """An optimiser in the file that fits its parameters.

    Attributes:
        parameters: shapes by name, in order. options: of its group.
        moments: by number of the parameter: steps, first and second moment; none where no step was made.
    """

    name: str
    source: Path
    parameters: Mapping[str, Shape]
    options: Mapping[str, Any]
    moments: Mapping[int, tuple[int | TensorView, TensorView, TensorView]]

    def views(self) -> Iterator[TensorView]:
        """The moments in the file."""
        for _, first, second in self.moments.values():
            yield from (first, second)

    def read(self, opened: TorchFile) -> dict[str, Any]:
        """The state dict that ``torch.optim.Adam`` loads."""
        import torch

        names = list(self.parameters)
        state = {}
        for number, (steps, first, second) in self.moments.items():
            label = f"{self.name}: {names[number]}"
            moments = (
                read_float32(opened, first, f"{label} exp_avg", self.source),
                read_float32(opened, second, f"{label} exp_avg_sq", self.source, not_negative=True),
            )
            count = torch.tensor(self._steps(opened, steps, label))
            state[number] = {"step": count} | dict(zip(_MOMENTS, map(torch.from_numpy, moments), strict=True))
        usual = torch.optim.Adam([torch.zeros(1)]).state_dict()["param_groups"][0]
        return {"state": state, "param_groups": [{**usual, **self.options, "params": list(range(len(names)))}]}

    def _steps(self, opened: TorchFile, steps: int | TensorView, label: str) -> float:
        value = float(opened.read(steps).reshape(())) if isinstance(steps, TensorView) else float(steps)
        if not (value.is_integer() and 0 <= value <= 1 << 53):
            raise misfit(self.source, f"{label} has made {value} steps")
        return value


def match_optimiser(name: str, saved: Any, parameters: Mapping[str, Shape], source: Path) -> OptimiserState:
    """Check that the state of Adam in a file is one of these parameters; reads no numbers.

    Raises:
        CheckpointError: it is missing, of another optimiser, or of other parameters in number, order or shape.
    """
    if not isinstance(saved, dict):
        raise misfit(source, f"no optimiser {name}")
    groups, entries = saved.get("param_groups"), saved.get("state")
    if not isinstance(groups, list) or len(groups) != 1 or not isinstance(groups[0], dict):
        raise misfit(source, f"{name} has not one group of parameters")
    keys = groups[0].get("params")
    if not isinstance(keys, list) or not all(isinstance(key, int) for key in keys) or len(set(keys)) < len(keys):
        raise misfit(source, f"{name} has no list of parameters")
    if len(keys) != len(parameters):
        first, *_, last = parameters
        raise misfit(source, f"{name} has {len(keys)} parameters, expected {len(parameters)} ({first} to {last})")
    if not isinstance(entries, dict) or not set(entries) <= set(keys):
        raise misfit(source, f"{name} has moments of parameters that are not in its list")
    moments = {}
    for number, (key, (parameter, shape)) in enumerate(zip(keys, parameters.items(), strict=True)):
        if key in entries:
            moments[number] = _moments(f"{name}: {parameter}", entries[key], shape, source)
    return OptimiserState(name, source, parameters, _options(name, groups[0], source), moments)


def _moments(label: str, entry: Any, shape: Shape, source: Path) -> tuple[int | TensorView, TensorView, TensorView]:
    values = entry if isinstance(entry, dict) else {}
    found = []
    for key in _MOMENTS:
        view = values.get(key)
        if not isinstance(view, TensorView):
            raise misfit(source, f"{label} has no {key}: not the state of Adam")
        if view.shape != shape:
            raise misfit(source, f"{label} has {key} of {list(view.shape)}, expected {list(shape)}")
        found.append(view)
    steps = values.get("step")
    scalar = steps.shape in ((), (1,)) if isinstance(steps, TensorView) else not isinstance(steps, bool)
    if not isinstance(steps, TensorView | int) or not scalar:
        raise misfit(source, f"{label} has step {shown(steps)}, expected a count")
    return steps, found[0], found[1]


def _options(name: str, group: Mapping[Any, Any], source: Path) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for option, (low, high) in _OPTIONS.items():
        options[option] = _number(f"{name}: {option}", group.get(option), low, high, source)
    betas = group.get("betas")
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise misfit(source, f"{name} has betas {shown(betas)}: not the options of Adam")
    options["betas"] = tuple(_number(f"{name}: betas", beta, 0.0, 1.0, source) for beta in betas)
    if group.get("amsgrad") or group.get("maximize"):
        raise misfit(source, f"{name} uses amsgrad or maximize, which the reference program does not")
    return options


def _number(label: str, value: Any, low: float, high: float, source: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
        raise misfit(source, f"{label} is {shown(value)}, expected a number from {low:g} to below {high:g}")
    return float(value)


def misfit(source: Path, seen: str) -> CheckpointError:
    """The error that says optimisers in a file cannot be used."""
    return CheckpointError(
        f"cannot continue the training of {source}",
        seen=seen,
        cause="its optimisers are not those of the reference program, or the file is damaged",
        fix=f"vidgen import {source} OUT.safetensors   (imports one network, without optimisers)",
    )
