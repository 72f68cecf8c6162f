"""Imports official checkpoints: finds the network that is meant and writes it under the same names.

An import is a pure rename (contracts 3): the tensor names of the result are the reference's without ``module.``, so
that an imported or trained checkpoint is again a state dict of the reference program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen._files import sha256
from vidgen._imports import require
from vidgen.errors import SettingsError
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import ClassifierConfig, ModelConfig, ResNeXt3DConfig, TwoStreamVANConfig
from vidgen.models.official_g3an import infer_g3an_config, infer_g3an_discriminator_config
from vidgen.models.official_proof import prove
from vidgen.models.official_search import Contents, FoundNetwork, choose, find_contents, plain_name
from vidgen.models.official_shapes import infer_config, kind_name, model_name
from vidgen.models.official_tensors import check_fit, is_counter, read_network
from vidgen.models.official_twostreamvan import infer_main_config, infer_twostreamvan_config
from vidgen.models.safe_pickle import TensorView, shown
from vidgen.settings import build_settings

if TYPE_CHECKING:
    from vidgen.models.torch_file import TorchFile

__all__ = [
    "MODEL_NAMES",
    "ImportReport",
    "UnseenSettings",
    "import_checkpoint",
    "infer_config",
    "infer_g3an_config",
    "infer_g3an_discriminator_config",
    "infer_main_config",
    "infer_twostreamvan_config",
    "plain_name",
]
#: What ``--model`` accepts.
MODEL_NAMES = (
    *("g3an", "g3an_discriminator", "g3an_video_discriminator", "g3an_image_discriminator"),
    *("twostreamvan", "twostreamvan_discriminator"),
    *("twostreamvan_video_discriminator", "twostreamvan_image_discriminator", "classifier"),
    "resnext3d",
)
#: Settings of a model that leave no trace in its tensors.
_UNSEEN: dict[type[ModelConfig], tuple[str, ...]] = {
    TwoStreamVANConfig: ("no_mask",),
    ClassifierConfig: ("n_actions",),
    ResNeXt3DConfig: ("sample_size", "sample_duration"),
}
#: Steps up to here are exact in every format that counts them.
_MAX_STEP = 1 << 53


@dataclass(frozen=True)
class UnseenSettings:
    """What a caller must say of a model because its tensors do not; None stands for the usual value.

    Attributes:
        no_mask: TwoStreamVAN was trained with ``--no_mask`` (usually not).
        n_actions: actions among the classes of a classifier, 10 of the 90 for Weizmann's actors (usually all).
        sample_size, sample_duration: side and frames of the clips that ResNeXt-3D was trained on (112 and 16).
    """

    no_mask: bool | None = None
    n_actions: int | None = None
    sample_size: int | None = None
    sample_duration: int | None = None


@dataclass(frozen=True)
class ImportReport:
    """What an import read and wrote.

    Attributes:
        step: training steps behind the weights (``iter`` in the file); 0 where the file does not tell.
        entry: where in the file the state dict was, e.g. ``("state_dict",)``; empty when it is the file itself.
        tensors: their number. parameters: numbers in them, without counters.
        renamed: names that had a prefix or the newer spectral norm's endings.
        filled: counters of batches that the file lacked, set to 0.
        converted: element type in the file -> number of tensors converted to float32.
        assumed: settings that leave no trace in the tensors and were not given -> the value taken.
        others: what else the file holds and was not imported: place -> what it is.
        notes: what a reader should know, sentence by sentence.
        source_sha256, sha256: of the source and of the file written.
    """

    source: Path
    destination: Path
    model: str
    config: ModelConfig
    step: int
    entry: tuple[str, ...]
    tensors: int
    parameters: int
    renamed: int
    filled: tuple[str, ...]
    converted: Mapping[str, int]
    assumed: Mapping[str, Any]
    others: Mapping[str, str]
    notes: tuple[str, ...]
    source_sha256: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` prints them."""
        values = dataclasses.asdict(self)
        return {**values, "source": str(self.source), "destination": str(self.destination)}

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(self.config).items())
        line = f"{self.destination}: {self.model} ({sizes}), {self.tensors} tensors, step {self.step}"
        return "\n".join((line, *self.notes))


def import_checkpoint(
    source: str | Path,
    destination: str | Path,
    *,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ImportReport:
    """Convert an official checkpoint of G3AN, TwoStreamVAN, its classifier or ResNeXt-3D to a vidgen checkpoint.

    Takes ``G_*.pth``, ``VD_*.pth`` and ``ID_*.pth`` of G3AN, ``*_model.pth.tar`` of TwoStreamVAN and of its
    classifier, and ``resnext-101-kinetics.pth``. Reads both formats of ``torch.save``, pickle protocols 1 to 5,
    float64, half and bfloat16 tensors, state dicts inside dicts, names with ``module.``, and both spellings of
    spectral norm. Nothing in the file is executed. The result is loaded into its network and run once before it is
    written (spec g3an 5 and 8.1, twostreamvan 5.1).

    Args:
        model: one of :data:`MODEL_NAMES`. Without it the generator is imported where the file holds several networks.
        settings: values of :class:`UnseenSettings`, or text as typed on a command line.

    Raises:
        CheckpointError: the source is missing, truncated, foreign, unsafe, not a known network, or its numbers
            are not finite.
        SettingsError: unknown ``model`` or setting, or a destination that is not a new ``.safetensors`` path.
        StorageError: the destination cannot be written.
    """
    source, destination = Path(source), Path(destination)
    given = parse_settings(settings or {})
    _check_arguments(source, destination, model)
    require("torch", "import a checkpoint")
    from vidgen.models.torch_file import open_torch_file

    with open_torch_file(source) as opened:
        contents = find_contents(opened.root, source)
        found = choose(contents, model, source)
        config, assumed = complete(found.config, given)
        check_fit(found, source)
        step, doubt = read_step(opened, found)
        tensors, filled, converted = read_network(opened, found, source)
    prove(config, tensors, source)
    info = CheckpointInfo(model_name(config), config, step)
    save_checkpoint(destination, tensors, info)
    return ImportReport(
        source=source,
        destination=destination,
        model=info.model,
        config=config,
        step=step,
        entry=found.entry,
        tensors=len(tensors),
        parameters=sum(tensor.numel() for name, tensor in tensors.items() if not is_counter(name)),
        renamed=found.renamed,
        filled=filled,
        converted=converted,
        assumed=assumed,
        others=contents.besides(found),
        notes=(*_notes(assumed, filled, converted), *doubt, *_left_out(contents, found)),
        source_sha256=sha256(source),
        sha256=sha256(destination),
    )


def _check_arguments(source: Path, destination: Path, model: str | None) -> None:
    if model is not None and model not in MODEL_NAMES:
        raise SettingsError(
            "cannot import as asked",
            seen=f"--model {model}, expected one of {', '.join(MODEL_NAMES)}",
            cause="a typing error, or a model that this version does not import",
            fix="leave --model out: it is inferred from the tensors",
        )
    if destination.suffix != ".safetensors" or destination.is_dir():
        raise SettingsError(
            f"cannot write {destination}",
            seen=f"{destination.name!r}, expected a file name that ends in .safetensors",
            cause="commands tell a checkpoint by its ending",
            fix=f"vidgen import {source} {destination.with_suffix('.safetensors')}",
        )
    if destination.exists() and source.exists() and destination.samefile(source):
        raise SettingsError(
            f"cannot write {destination}",
            seen="source and destination are the same file",
            cause="the original would be lost",
            fix=f"vidgen import {source} {source.with_name(source.stem + '-imported.safetensors')}",
        )


def parse_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, of the right type.

    Raises:
        SettingsError: a setting that is unknown, of another type, or read from the tensors.
    """
    unseen = {field.name for field in dataclasses.fields(UnseenSettings)}
    seen = {field.name for kind in _UNSEEN for field in dataclasses.fields(kind)} - unseen
    for name in settings:
        if name in seen:
            raise SettingsError(
                f"cannot set {name}",
                seen=f"{name} = {settings[name]!r}, expected some of {', '.join(sorted(unseen))}",
                cause="it is read from the shapes of the tensors",
                fix=f"leave {name} out",
            )
    values = dataclasses.asdict(build_settings(UnseenSettings, ("the settings of an import", settings)))
    return {name: value for name, value in values.items() if value is not None}


def complete(config: ModelConfig, given: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """A configuration with what its tensors do not tell, and which of that was not given either.

    Raises:
        SettingsError: a setting of another model, or a value that does not fit the sizes.
    """
    unseen = _UNSEEN.get(type(config), ())
    for name in given:
        if name not in unseen:
            raise SettingsError(
                f"cannot set {name}",
                seen=f"{name} = {given[name]!r} for a {kind_name(config)} network",
                cause="it is a setting of another model",
                fix=f"leave {name} out, or name the network that is meant with --model",
            )
    completed = dataclasses.replace(config, **given)
    return completed, {name: getattr(completed, name) for name in unseen if name not in given}


def read_step(opened: TorchFile, found: FoundNetwork) -> tuple[int, tuple[str, ...]]:
    """Training steps behind a network: ``iter`` beside its state dict, and a note where that is no count."""
    beside = opened.root
    for name in found.entry[:-1]:
        beside = beside[name]
    value = beside.get("iter") if found.entry else None
    if value is None:
        return 0, ()
    if isinstance(value, TensorView) and value.shape in ((), (1,)) and "int" in value.storage.dtype:
        value = int(opened.read(value).reshape(()))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_STEP:
        return value, ()
    return 0, (f"iter in the file is {shown(value)}, not a count of steps: step 0 is recorded",)


def _notes(assumed: Mapping[str, Any], filled: tuple[str, ...], converted: Mapping[str, int]) -> list[str]:
    notes = []
    for name, value in assumed.items():
        text = str(value).lower()
        other = "true" if value is False else "N"
        notes.append(f"assumed {name} = {text}, which no tensor tells; if it was not so: --set {name}={other}")
    if filled:
        notes.append(f"{len(filled)} batch counters that the file lacks are set to 0")
    notes += [f"{count} tensors converted from {kind} to float32" for kind, count in converted.items()]
    return notes


def _left_out(contents: Contents, found: FoundNetwork) -> list[str]:
    others = contents.besides(found)
    if not others:
        return []
    listed = ", ".join(f"{shown(place)[1:-1] or 'top level'} ({what})" for place, what in list(others.items())[:12])
    more = f" and {len(others) - 12} more" if len(others) > 12 else ""
    advice = "; --model imports another network" if len(contents.networks) > 1 else ""
    return [f"not imported: {listed}{more}{advice}"]
