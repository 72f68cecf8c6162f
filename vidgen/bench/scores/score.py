"""`vidgen score`: which protocol there is, and running one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from vidgen.errors import SettingsError

#: Protocol -> the module, settings and function that do it. A module is imported only when it is asked for.
_FEATURES = ("vidgen.bench.scores.feature_score", "FeatureScoreSettings", "score_features")
PROTOCOLS: dict[str, tuple[str, str, str]] = {
    "clean": _FEATURES,
    "g3an": _FEATURES,
    "twostreamvan": ("vidgen.bench.scores.twostreamvan", "TwoStreamVANScoreSettings", "score_twostreamvan"),
}

#: Called with (clips done, clips in all, what is being scored).
Progress = Callable[[int, int, str], None]


class Report(Protocol):
    """What every protocol's report can do."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

    def table(self) -> str:
        """For a console."""

    def markdown(self) -> str:
        """As a Markdown document."""


def score_settings(protocol: str) -> type[Any]:
    """The settings class of a protocol.

    Raises:
        SettingsError: there is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise SettingsError(
            f"cannot score by protocol {protocol!r}",
            seen=f"{protocol!r}, expected one of {', '.join(PROTOCOLS)}",
            cause="a typing error",
            fix="use --protocol clean, or twostreamvan, which asks a classifier",
        )
    module, kind, _ = PROTOCOLS[protocol]
    settings: type[Any] = getattr(importlib.import_module(module), kind)
    return settings


def score(settings: Any, progress: Progress | None = None) -> Report:
    """Score by the protocol that the settings belong to.

    Args:
        settings: an object of :func:`score_settings`.
        progress: called at the start and after each batch.

    Raises:
        SettingsError: the settings are of no protocol.
        VidgenError: as the protocol says.
    """
    module, _, function = PROTOCOLS[_protocol_of(settings)]
    run: Callable[..., Report] = getattr(importlib.import_module(module), function)
    return run(settings, progress)


def _protocol_of(settings: Any) -> str:
    protocol = str(getattr(settings, "protocol", type(settings).__name__))
    score_settings(protocol)
    return protocol
