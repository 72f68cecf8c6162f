"""Statistics that a score compares with: which files they are, whether they belong together and fit, who made them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidgen.bench.scores.statistics_file import (
    OF_THE_RUN,
    OF_THE_SET,
    Statistics,
    differences,
    read_statistics,
)
from vidgen.errors import ScoreError


def space_files(out: Path, spaces: Sequence[str]) -> dict[str, Path]:
    """The file of each feature space: ``out`` itself, or with its name added where there are several."""
    if len(spaces) == 1:
        return {spaces[0]: out}
    return {space: out.with_name(f"{out.stem}-{_word(space)}{out.suffix}") for space in spaces}


def _word(space: str) -> str:
    """A space's name as part of a file's; those of files of the user's own may hold anything."""
    word = re.sub(r"[^\w.+-]+", "-", space)[:60]
    return word if word == space else f"{word}-{hashlib.sha256(space.encode()).hexdigest()[:8]}"


def read_reference(path: Path) -> dict[str, Statistics]:
    """The statistics that a path means, by name: the file itself, named ``""``; or where there is none, those that
    `vidgen stats -o PATH` made, one for each space of its extractor. Empty of a path that is no statistics file.

    Raises:
        ScoreError: no such file, a damaged one, or files beside each other of different sets.
    """
    if path.suffix != ".npz":
        return {}
    beside = _siblings(path)
    if os.path.exists(path) or not beside:
        return {"": read_statistics(path)}
    read = {each: read_statistics(each) for each in beside}
    # A name may go on like that of another set: faces-v2-motion.npz is no file of faces.npz.
    found = {
        str(statistics.protocol.get("space") or each.stem[len(path.stem) + 1 :]): statistics
        for each, statistics in read.items()
        if not statistics.protocol or each.stem == f"{path.stem}-{_word(str(statistics.protocol.get('space')))}"
    }
    if not found:
        return {"": read_statistics(path)}
    _check_one_set(path, found)
    return found


def _siblings(path: Path) -> list[Path]:
    """Files beside ``path`` whose names say that they may be spaces of it."""
    try:
        names = sorted(path.parent.iterdir())
    except OSError:
        return []
    return [
        each
        for each in names
        if each.name.startswith(f"{path.stem}-") and each.suffix == ".npz" and ".unfinished" not in each.name
    ]


def _check_one_set(path: Path, found: Mapping[str, Statistics]) -> None:
    first, *others = found
    for other in others:
        ignored = ("space", *OF_THE_RUN)
        different = differences(found[first].protocol, found[other].protocol, ignored=ignored)
        if different:
            raise ScoreError(
                f"cannot score against {path}",
                seen=f"{first} and {other} differ in {'; '.join(different)}",
                cause="the files of its spaces were made by different runs",
                fix=f"make them again together: vidgen stats DATA -o {path}",
            )


def fitting(
    stored: Mapping[str, Statistics], labels: Mapping[str, Mapping[str, Any]], path: Path
) -> dict[str, Statistics]:
    """The statistics by the extractor's spaces.

    Args:
        labels: what the extractor at hand makes, by space.

    Raises:
        ScoreError: they were made by another protocol or extractor; it says in what they differ.
    """
    found = {}
    for name, statistics in stored.items():
        space = str(statistics.protocol.get("space") or name or next(iter(labels)))
        made, wanted = dict(statistics.protocol), labels.get(space, next(iter(labels.values())))
        different = differences(made, wanted, ignored=(*OF_THE_SET, *OF_THE_RUN)) if made else []
        if different:
            raise ScoreError(
                f"cannot score against {path}",
                seen="it differs in " + "; ".join(different),
                cause="it was made by another protocol or extractor than is asked for now (the second value)",
                fix=_fix(path, name, list(labels)),
            )
        found[space] = statistics
    return found


def _fix(path: Path, name: str, spaces: Sequence[str]) -> str:
    hidden = [] if name else [each for each in space_files(path, spaces).values() if each != path and each.exists()]
    if hidden:
        return f"name {hidden[0]}, or remove {path}: it hides the files of the single spaces"
    return f"give the options it was made with, or make it again: vidgen stats DATA -o {path}"


def extractor_of(label: Mapping[str, Any], weights: Path | None) -> str | None:
    """The ``--extractor`` that statistics name; None where they name none.

    Args:
        weights: the file that the user gave for it.

    Raises:
        ScoreError: it is a file that is not here, its weights were not given, or the name brings options along:
            statistics must not give the user's consent to what they name.
    """
    from vidgen.bench.scores.extractors import NEEDS_WEIGHTS, REGISTRY, parse_request, request_of

    name = label.get("extractor")
    if not isinstance(name, str):
        return None
    if parse_request(name)[1]:
        raise ScoreError(
            "cannot open the extractor that the statistics name",
            seen=f"{name[:80]!r}, expected a name without options",
            cause="the statistics were changed by hand, or the extractor's file has an odd name",
            fix=f"if you know where it is from: --extractor {name[:80]}",
        )
    if name not in REGISTRY and not Path(name).exists():
        raise ScoreError(
            f"cannot open the extractor {name[:80]} that the statistics name",
            seen=f"no file {name[:80]} here, expected it in this folder",
            cause="statistics keep the name of a user's own file, not its place",
            fix=f"say where it is: --extractor PATH/{name[:80]}",
        )
    if name in NEEDS_WEIGHTS and weights is None:
        raise ScoreError(
            f"cannot open the extractor {name} that the statistics name",
            seen=f"no --weights, expected those with SHA-256 {str(label.get('weight_sha256', '?'))[:12]}...",
            cause="statistics keep the hash of the weights they were made with, not their place",
            fix="add --weights FILE.safetensors, the same file as for vidgen stats",
        )
    return request_of(name, label.get("extractor_settings"))
