"""`vidgen score`: which protocol there is, and running one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from vidgen.bench.scores.report import ScoreReport
from vidgen.errors import SettingsError

#: Protocol -> the module, settings and function that do it. A module is imported only when it is asked for.
PROTOCOLS: dict[str, tuple[str, str, str]] = {
    "twostreamvan": ("vidgen.bench.scores.twostreamvan", "TwoStreamVANScoreSettings", "score_twostreamvan"),
}
#: Protocols that are planned, so that asking for one is no typing error.
LATER = ("clean", "g3an")

#: Called with (clips done, clips in all, what is being scored).
Progress = Callable[[int, int, str], None]


def score_settings(protocol: str) -> type[Any]:
    """The settings class of a protocol.

    Raises:
        SettingsError: there is no such protocol, or not yet.
    """
    if protocol not in PROTOCOLS:
        later = protocol in LATER
        raise SettingsError(
            f"cannot score by protocol {protocol!r}",
            seen=f"{protocol!r}, expected one of {', '.join(PROTOCOLS)}",
            cause="this version does not have that protocol yet" if later else "a typing error",
            fix="use --protocol twostreamvan, which needs a classifier: vidgen train classifier"
            if later
            else "use --protocol twostreamvan",
        )
    module, kind, _ = PROTOCOLS[protocol]
    settings: type[Any] = getattr(importlib.import_module(module), kind)
    return settings


def score(settings: Any, progress: Progress | None = None) -> ScoreReport:
    """Score by the protocol that the settings belong to.

    Args:
        settings: an object of :func:`score_settings`.
        progress: called at the start and after each batch.

    Raises:
        SettingsError: the settings are of no protocol.
        VidgenError: as the protocol says.
    """
    module, _, function = PROTOCOLS[_protocol_of(settings)]
    run: Callable[..., ScoreReport] = getattr(importlib.import_module(module), function)
    return run(settings, progress)


def _protocol_of(settings: Any) -> str:
    protocol = str(getattr(settings, "protocol", type(settings).__name__))
    score_settings(protocol)
    return protocol
