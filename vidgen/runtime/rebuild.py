"""The command that makes an artifact again, as shown to the user: the manifest's, if it is one of ours."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidgen.runtime.manifest import Manifest

#: Longest command that a manifest is believed to hold, in characters.
LONGEST = 4096


def export_words(manifest: Manifest | None) -> list[str]:
    """The words of the export that a manifest names; none where it names something else.

    A manifest may have been written by anyone, and people type what a message tells them to: no control characters,
    and no command but ``vidgen export CHECKPOINT ...``. The words are shown quoted (``shlex.join``), so that none of
    them ends the command.
    """
    text = manifest.rebuild if manifest else ""
    if not text.isprintable() or len(text) > LONGEST:
        return []
    try:
        words = shlex.split(text)
    except ValueError:
        return []
    ours = len(words) >= 3 and words[:2] == ["vidgen", "export"] and not words[2].startswith("-")
    return words if ours else []


def rebuild_with(
    artifact: Path | None,
    manifest: Manifest | None,
    *switches: str,
    checkpoint: str | Path = "CHECKPOINT.safetensors",
    **options: str,
) -> str:
    """The command that makes an artifact again, with some options set anew.

    Args:
        artifact: the file that it shall make, whatever file the manifest was first written for; None keeps that one.
        switches: options without a value that are added, such as ``"masks"``.
        checkpoint: what to export where the manifest does not tell.
        options: option without dashes -> value.
    """
    words = export_words(manifest)
    if not words:
        words = ["vidgen", "export", str(checkpoint), "-o", "MODEL.onnx"]
    if artifact is not None:
        _aim(words, artifact)
    for name, value in options.items():
        option = f"--{name}"
        if option in words[:-1]:
            at = words.index(option)
            del words[at : at + 2]
        words += [option, value]
    words += [f"--{name}" for name in switches if f"--{name}" not in words]
    return shlex.join(words)


def _aim(words: list[str], artifact: Path) -> None:
    """Let an export write this file: -o names the .onnx of an engine that --engine names, or either one alone."""
    names: dict[str, str] = {
        option: words[words.index(option) + 1] for option in ("-o", "--engine") if option in words[:-1]
    }
    own, other, suffix = ("--engine", "-o", ".onnx") if artifact.suffix == ".plan" else ("-o", "--engine", ".plan")
    if "--engine" not in names:
        own = "-o"
    made = {own: artifact}
    if other in names and other != own:
        # The two keep their names where only their folder changed.
        same = Path(names.get(own, "")).name == artifact.name
        made[other] = artifact.with_name(Path(names[other]).name) if same else artifact.with_suffix(suffix)
    for option, path in made.items():
        if option in names:
            words[words.index(option) + 1] = str(path)
        else:
            words += [option, str(path)]
