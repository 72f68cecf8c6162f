"""Files that must not be imported, and what their refusal looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidgen.errors import CheckpointError
from vidgen.models.official import import_checkpoint


def refuse(source: Path, match: str) -> None:
    """Import a file in vain."""
    destination = source.with_name("out.safetensors")
    with pytest.raises(CheckpointError, match=match) as caught:
        import_checkpoint(source, destination)
    assert caught.value.fix and caught.value.seen and caught.value.cause
    assert str(caught.value).isprintable()
    assert not destination.exists()


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def import_or_refuse(folder: Path, content: bytes) -> bool:
    """Whether it was imported; any exception but ours fails the test, and what is refused leaves nothing."""
    source, made = folder / "G.pth", folder / "out.safetensors"
    source.write_bytes(content)
    made.unlink(missing_ok=True)
    try:
        import_checkpoint(source, made)
    except CheckpointError as error:
        assert str(error).isprintable() and not made.exists()
        return False
    assert made.stat().st_size
    return True
