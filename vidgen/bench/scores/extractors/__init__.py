"""Networks that describe clips by features: a registry of names, and files of the user's own."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.bench.scores.extractors.base import Extractor
from vidgen.errors import SettingsError

if TYPE_CHECKING:
    from vidgen.bench.scores.extractors.artifact import Artifact
    from vidgen.runtime.manifest import Manifest

__all__ = [
    "NEEDS_WEIGHTS",
    "REGISTRY",
    "Extractor",
    "export_extractor",
    "extractor_graph",
    "open_extractor",
    "parse_request",
    "request_of",
]

#: Name -> what it is and what it needs, for help texts.
REGISTRY: dict[str, str] = {
    "resnext101-kinetics": "ResNeXt-101 3-D of G3AN's FID; --weights: the imported resnext-101-kinetics.pth",
    "classifier": "your own classifier of actions; --weights: of vidgen train classifier",
    "efficientnet-lite0": "ImageNet features of frames: appearance and motion; needs vidgen[scores]",
    "random-r3d": "random weights, a smoke test and no measure of quality",
}
#: Those whose weights are the user's own file.
NEEDS_WEIGHTS = frozenset({"resnext101-kinetics", "classifier"})
#: Options after a name: ``efficientnet-lite0@size=128``, ``my.onnx@range=-1..1,size=112,backend=openvino``.
_REQUEST = re.compile(r"(?P<target>.+)@(?P<options>[a-z]+=[^=,@/\\]+(,[a-z]+=[^=,@/\\]+)*)")
_FILE_OPTIONS = ("layout", "range", "frames", "size", "batch")
#: Smallest and largest side of registered extractors that work at any size.
_SIDES = range(32, 513)


def parse_request(text: str) -> tuple[str, dict[str, str]]:
    """Split ``NAME@key=value,key=value`` into the name or path and its options."""
    match = _REQUEST.fullmatch(text)
    if match is None:
        return text, {}
    return match["target"], dict(pair.split("=", 1) for pair in match["options"].split(","))


def request_of(name: str, settings: object) -> str:
    """The text that opens an extractor again, from its name and settings as statistics keep them.

    Of extractors that work at any size it names the size; files must be where the name says.
    """
    if name not in REGISTRY or not isinstance(settings, Mapping):
        return name
    module, sizes = _registered(name)
    size = settings.get("size")
    if not sizes or not isinstance(size, list) or size[:1] * 2 != size or size[0] == module.SIZE:
        return name
    return f"{name}@size={size[0]}"


def open_extractor(
    name_or_path: str | Path | None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    weights: Path | None = None,
    trust: bool = False,
) -> Extractor:
    """Open an extractor of the registry, or a file.

    Args:
        name_or_path: a name of :data:`REGISTRY`; a ``.safetensors`` checkpoint of a classifier or of ResNeXt-3D; an
            ``.onnx`` file; a ``.pt2`` file of torch.export. Options may follow after ``@``: ``size`` for
            ``efficientnet-lite0`` and ``random-r3d``; ``layout``, ``range``, ``frames``, ``size``, ``batch`` for files,
            and ``trust=yes`` for ``.pt2``; ``backend`` (``onnxruntime``, ``openvino`` or ``tensorrt``) for all but
            ``.pt2``. None opens what ``weights`` are of.
        threads: CPU threads; None leaves the library's choice. device: as of the backend.
        weights: of ``resnext101-kinetics`` and ``classifier``. trust: allow a ``.pt2`` file, which may run code.

    Raises:
        SettingsError: an unknown name or option, or weights that are missing or not asked for.
        CheckpointError, ArtifactError: the weights or the file cannot be used.
        MissingDependencyError: a package is not installed.
        BackendError: no such backend, or it cannot load the network, or has no such device.
        ScoreError: a file gives no usable features.
    """
    target, options = parse_request(str(name_or_path if name_or_path is not None else weights or ""))
    if "backend" in options:
        from vidgen.bench.scores.extractors.network import check_backend

        check_backend(options["backend"])
    if name_or_path is None and weights is not None:
        weights = None
    suffix = Path(target).suffix.lower()
    if suffix in (".onnx", ".pt2"):
        _refuse_weights(target, weights)
        return _open_file(Path(target), suffix, options, threads, device, trust)
    if suffix == ".safetensors":
        _refuse_weights(target, weights)
        target, weights = _kind_of(Path(target)), Path(target)
    return _open_registered(target, options, weights, threads, device)


def extractor_graph(name_or_path: str | Path | None, *, weights: Path | None = None) -> Artifact:
    """The ONNX model of a registered extractor with its manifest, in the user's cache.

    Args:
        name_or_path: a name of :data:`REGISTRY`, with ``@size=N`` where it has sizes, or a ``.safetensors`` checkpoint.
        weights: as of :func:`open_extractor`.

    Raises:
        SettingsError, CheckpointError, MissingDependencyError: as of :func:`open_extractor`.
    """
    target, options = parse_request(str(name_or_path if name_or_path is not None else weights or ""))
    if name_or_path is None and weights is not None:
        weights = None
    if Path(target).suffix.lower() == ".safetensors":
        _refuse_weights(target, weights)
        target, weights = _kind_of(Path(target)), Path(target)
    module, sizes = _registered(target)
    _check_options(target, options, ("size",) if sizes else ())
    if sizes:
        _refuse_weights(target, weights)
    graph: Artifact = module.graph(_side(target, options, module.SIZE) if sizes else weights and Path(weights))
    return graph


def export_extractor(
    name_or_path: str | Path | None, out: Path, *, weights: Path | None = None, gpu: tuple[str, ...] | None = None
) -> Manifest:
    """Write a registered extractor as an artifact: ``.onnx``, or ``.plan`` built by TensorRT; with its manifest beside.

    Args:
        name_or_path, weights: as of :func:`extractor_graph`. out: the file, which ``--extractor`` takes if it is .onnx.
        gpu: architectures of an engine, such as ``("sm_89",)``; the GPU of this machine when None.

    Raises:
        VidgenError: the extractor, the builder or the file cannot be used.
    """
    from vidgen.bench.scores.extractors.artifact import cached_engine, save_artifact

    graph = extractor_graph(name_or_path, weights=weights)
    return save_artifact(cached_engine(graph, gpu=gpu) if out.suffix == ".plan" else graph, out)


def _registered(name: str) -> tuple[Any, bool]:
    """The module of a registered extractor, and whether it works at any size.

    Raises:
        SettingsError: there is none of that name.
    """
    modules = {
        "resnext101-kinetics": ("resnext101", False),
        "classifier": ("action_classifier", False),
        "efficientnet-lite0": ("efficientnet_lite0", True),
        "random-r3d": ("random_r3d", True),
    }
    if name not in modules:
        raise SettingsError(
            f"unknown extractor {name!r}",
            seen=f"{name!r}, expected one of {', '.join(REGISTRY)}, or a file .onnx, .pt2 or .safetensors",
            cause="a typing error" if name else "no extractor was named",
            fix="use --extractor efficientnet-lite0   (pip install 'vidgen[scores]')",
        )
    module, sizes = modules[name]
    return importlib.import_module(f"{__name__}.{module}"), sizes


def _open_file(
    file: Path, suffix: str, options: Mapping[str, str], threads: int | None, device: str, trust: bool
) -> Extractor:
    _check_options(str(file), options, (*_FILE_OPTIONS, "trust" if suffix == ".pt2" else "backend"))
    if suffix == ".onnx":
        from vidgen.bench.scores.extractors.onnx_file import open_onnx

        return open_onnx(file, options, threads=threads, device=device)
    from vidgen.bench.scores.extractors.exported_program import open_exported_program

    allowed = trust or options.get("trust") == "yes"
    return open_exported_program(file, options, threads=threads, device=device, trust=allowed)


def _open_registered(
    name: str, options: Mapping[str, str], weights: Path | None, threads: int | None, device: str
) -> Extractor:
    module, sizes = _registered(name)
    _check_options(name, options, ("size", "backend") if sizes else ("backend",))
    how: dict[str, Any] = {"threads": threads, "device": device, "backend": options.get("backend")}
    if sizes:
        _refuse_weights(name, weights)
        opened: Extractor = module.opens(size=_side(name, options, module.SIZE), **how)
    else:
        opened = module.opens(weights and Path(weights), **how)
    return opened


def _kind_of(checkpoint: Path) -> str:
    """The registered extractor whose weights a checkpoint holds."""
    from vidgen.models.checkpoint import read_info

    model = read_info(checkpoint).model
    names = {"classifier": "classifier", "resnext3d": "resnext101-kinetics"}
    if model not in names:
        raise SettingsError(
            f"cannot use {checkpoint} as an extractor",
            seen=f"a {model} checkpoint, expected classifier or resnext3d",
            cause="the checkpoint of another network was given",
            fix="vidgen train classifier --data STORE --out RUN, then --extractor RUN/classifier.safetensors",
        )
    return names[model]


def _refuse_weights(name: str, weights: Path | None) -> None:
    if weights is not None:
        raise SettingsError(
            f"cannot use weights {weights} with the extractor {name}",
            seen="--weights, expected none",
            cause="this extractor has its own",
            fix="drop --weights",
        )


def _check_options(name: str, options: Mapping[str, str], known: tuple[str, ...]) -> None:
    for option in options:
        if option not in known:
            raise SettingsError(
                f"cannot open the extractor {name}",
                seen=f"option {option}={options[option]}, expected {' or '.join(known) if known else 'none'}",
                cause="a typing error, or an option of another extractor",
                fix=f"--extractor {name}",
            )


def _side(name: str, options: Mapping[str, str], default: int) -> int:
    text = options.get("size", str(default))
    if not text.isdecimal() or int(text) not in _SIDES:
        raise SettingsError(
            f"cannot open the extractor {name}",
            seen=f"size={text}, expected a whole number from {_SIDES.start} to {_SIDES.stop - 1}",
            cause="a typing error",
            fix=f"--extractor {name}@size={default}",
        )
    return int(text)
