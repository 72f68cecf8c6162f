"""Looks up tensor shapes in a state dict and words the refusals of those that do not belong to a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vidgen.errors import CheckpointError
from vidgen.models.safe_pickle import shown

#: State-dict keys of the reference program without ``module.`` -> their sizes.
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ShapeReader:
    """The shapes of one state dict, read as those of one network.

    Attributes:
        network: what messages call it, e.g. ``"a G3AN generator"``. source: what they call the file.
        example: a file name that the reference program gives to it.
    """

    shapes: Shapes
    network: str
    source: str
    example: str

    def shape(self, name: str, axes: int | None = None) -> tuple[int, ...]:
        """The shape of a tensor: so many axes where a number is given, each of at least 1.

        Raises:
            CheckpointError: there is no such tensor, or it is not so.
        """
        shape = self.shapes.get(name)
        if shape is None:
            names = ", ".join(shown(found) for found in list(self.shapes)[:3])
            raise self.refusal(f"no tensor {name} among {len(self.shapes)} ({names}, ...)")
        if (axes is not None and len(shape) != axes) or not shape or min(shape) < 1:
            raise self.refusal(f"{name} is {list(shape)}, expected {axes or 'some'} axes of at least 1")
        return shape

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises:
        CheckpointError: the tensor is missing or of another size.
        """
        found = self.shape(name)
        if found != shape:
            raise self.refusal(f"{name} is {list(found)}, expected {list(shape)}")

    def has(self, prefix: str) -> bool:
        """Whether any name starts so."""
        return any(name.startswith(prefix) for name in self.shapes)

    def refusal(self, seen: str) -> CheckpointError:
        """The error that says these tensors are not the network's."""
        return CheckpointError(
            f"{self.source} does not hold {self.network}",
            seen=seen,
            cause="it is a checkpoint of another network or program, or it was changed",
            fix=f"vidgen import {self.example} OUT.safetensors   (give the file that the training program saved)",
        )
