"""The named protocols of scores over features: what happens to clips on their way to an extractor."""

from __future__ import annotations

from vidgen.bench.scores.protocols.base import ClipProtocol, describe
from vidgen.bench.scores.protocols.clean import CleanProtocol
from vidgen.bench.scores.protocols.g3an import G3ANProtocol
from vidgen.errors import SettingsError

__all__ = ["PROTOCOLS", "CleanProtocol", "ClipProtocol", "G3ANProtocol", "describe", "make_protocol"]

#: Name -> protocol, for scores over features. ``twostreamvan`` is none of these: it asks a classifier.
PROTOCOLS: dict[str, type[ClipProtocol]] = {"clean": CleanProtocol, "g3an": G3ANProtocol}


def make_protocol(name: str, frames: int | None = None) -> ClipProtocol:
    """A protocol by name.

    Args:
        frames: frames of each clip that are looked at; the protocol's own number when None.

    Raises:
        SettingsError: there is no such protocol, or it looks at another number of frames.
    """
    if name not in PROTOCOLS:
        raise SettingsError(
            f"cannot score by protocol {name!r}",
            seen=f"{name!r}, expected one of {', '.join(PROTOCOLS)}",
            cause="a typing error, or a protocol that has no statistics of features",
            fix="use --protocol clean",
        )
    return PROTOCOLS[name]() if frames is None else PROTOCOLS[name](frames=frames)
