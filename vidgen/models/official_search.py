"""Finds the networks in a saved object, and the one that is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import CheckpointError
from vidgen.models.config import G3ANConfig, ModelConfig, TwoStreamVANConfig
from vidgen.models.official_shapes import infer_config, kind_name, model_name, not_official
from vidgen.models.safe_pickle import TensorView, shown

Entry = tuple[str, ...]
#: Endings of the newer spectral norm -> the classic names (spec g3an 1.5).
_PARAMETRISED = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}
#: Put before every name by DataParallel and DistributedDataParallel, and by torch.compile.
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class FoundNetwork:
    """A state dict that is a known network.

    Attributes:
        entry: where in the file it is, e.g. ``("state_dict",)``; empty when it is the file itself.
        views: the names as we write them -> where the numbers are.
        renamed: names that had a prefix or the newer spectral norm's endings.
    """

    entry: Entry
    views: Mapping[str, TensorView]
    renamed: int
    config: ModelConfig

    @property
    def makes_videos(self) -> bool:
        return isinstance(self.config, G3ANConfig | TwoStreamVANConfig)


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        refusals: state dicts that are no known network, by entry: number of tensors and why.
        optimisers: entries that are an optimiser's state.
    """

    networks: Sequence[FoundNetwork]
    refusals: Mapping[Entry, tuple[int, CheckpointError]]
    optimisers: Sequence[Entry]

    def besides(self, chosen: FoundNetwork) -> dict[str, str]:
        """Everything but the chosen network: place -> what it is."""
        found = {_place(other.entry): kind_name(other.config) for other in self.networks if other is not chosen}
        found |= {_place(entry): f"{count} tensors of no known network" for entry, (count, _) in self.refusals.items()}
        return found | {_place(entry): "optimiser" for entry in self.optimisers}


def plain_name(name: str) -> str:
    """A state-dict key without wrapper prefixes, with the classic endings of spectral norm."""
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    for ending, classic in _PARAMETRISED.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + classic
    return name


def find_contents(root: Any, source: Path) -> Contents:
    """The networks and optimisers of a saved object, at most three dicts deep."""
    networks: list[FoundNetwork] = []
    refusals: dict[Entry, tuple[int, CheckpointError]] = {}
    optimisers: list[Entry] = []
    for entry, value in _dicts(root):
        if isinstance(value.get("param_groups"), list) and isinstance(value.get("state"), dict):
            optimisers.append(entry)
            continue
        views = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, TensorView)}
        if views:
            try:
                networks.append(_recognise(entry, views, source))
            except CheckpointError as error:
                refusals[entry] = len(views), error
    return Contents(networks, refusals, optimisers)


def _dicts(root: Any) -> Iterator[tuple[Entry, dict[Any, Any]]]:
    waiting: list[tuple[Entry, dict[Any, Any]]] = [((), root)] if isinstance(root, dict) else []
    while waiting:
        entry, value = waiting.pop(0)
        yield entry, value
        if len(entry) < 3:
            inner = [(name, item) for name, item in value.items() if isinstance(name, str) and isinstance(item, dict)]
            # A training state nests a few dicts; a file made to waste time nests millions.
            waiting += [((*entry, name), item) for name, item in inner[: max(0, 100 - len(waiting))]]


def _recognise(entry: Entry, views: Mapping[str, TensorView], source: Path) -> FoundNetwork:
    names = {name: plain_name(name) for name in views}
    if len(set(names.values())) < len(names):
        raise not_official(source, "two tensors that differ only by the prefix 'module.'")
    renamed = {names[name]: view for name, view in views.items()}
    config = infer_config({name: view.shape for name, view in renamed.items()}, source=str(source))
    return FoundNetwork(entry, renamed, sum(new != old for old, new in names.items()), config)


def choose(contents: Contents, model: str | None, source: Path) -> FoundNetwork:
    """The one network of the kind asked for; the one generator, where none was asked for.

    Raises:
        CheckpointError: there is none, or several.
    """
    networks = contents.networks
    generators = [found for found in networks if found.makes_videos]
    chosen = [found for found in networks if model in (model_name(found.config), kind_name(found.config))]
    if model is None:
        chosen = generators or list(networks)
    damaged = _damaged(contents)
    if damaged and not (chosen if model else generators):
        raise damaged
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise _several(source, chosen)
    if networks:
        raise CheckpointError(
            f"cannot import {source} as {model}",
            seen=f"{_listed(networks)}, expected {model}",
            cause="--model names another network than the file holds",
            fix=f"vidgen import {source} OUT.safetensors",
        )
    raise not_official(source, "no tensors with names")


def _damaged(contents: Contents) -> CheckpointError | None:
    """What is wrong with the largest state dict, where that is no known network: it is the one that was meant."""
    count, error = max(contents.refusals.values(), key=lambda refusal: refusal[0], default=(0, None))
    return error if all(len(found.views) < count for found in contents.networks) else None


def _place(entry: Entry) -> str:
    return "/".join(entry)


def _listed(networks: Sequence[FoundNetwork]) -> str:
    places = [
        kind_name(found.config) + (f" at {shown(_place(found.entry))}" if found.entry else "") for found in networks
    ]
    more = f" and {len(places) - 4} more" if len(places) > 4 else ""
    return f"{len(networks)} network{'s' * (len(networks) > 1)}: {', '.join(places[:4])}{more}"


def _several(source: Path, chosen: Sequence[FoundNetwork]) -> CheckpointError:
    kinds = sorted({kind_name(found.config) for found in chosen})
    return CheckpointError(
        f"cannot import {source}",
        seen=f"{_listed(chosen)}, expected one",
        cause="the file holds a whole training state",
        fix=f"vidgen import {source} OUT.safetensors --model {kinds[0]}"
        if len(kinds) == len(chosen)
        else "save the one network to a file of its own: torch.save(saved['NAME'], 'G.pth')",
    )
