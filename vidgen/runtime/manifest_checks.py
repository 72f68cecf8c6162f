"""What values a manifest may hold, beyond their types: nothing else would notice before a run fails half-way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vidgen.errors import SamplingError
from vidgen.models.config import ExtractorConfig, FramesRule, ModelInterface, TensorSpec

if TYPE_CHECKING:
    from vidgen.runtime.manifest import Engine, Manifest, Precision

DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8")
INPUT_KINDS = ("normal", "label", "image")
#: Axes of a tensor, and the frames that a rule's offset may add or take: far above any model's.
MOST_AXES, MOST_FRAMES = 8, 1_000_000


def check_manifest(manifest: Manifest) -> None:
    """Raise unless every value of a stored manifest is one that an export can have written.

    Raises:
        ValueError: says which is not.
    """
    _need(manifest.fps > 0, "fps", manifest.fps, "above 0")
    for name in ("step", "opset"):
        _at_least(0, name, getattr(manifest, name))
    for name in ("sha256", "onnx_sha256", "checkpoint_sha256"):
        if getattr(manifest, name):
            _digest(name, getattr(manifest, name))
    _one_of(("", "cpu", "tensorrt"), "lowering", manifest.lowering)
    _one_of(("", "custom", "standard", "plugin"), "sepconv", manifest.sepconv)
    for name in manifest.target:
        _need(bool(re.fullmatch(r"sm_[0-9]{2,3}[a-z]?", name)), "target", name, "an architecture such as sm_89")
    for name in (*manifest.labels, manifest.builder):
        _need(name.isprintable(), "labels or builder", name, "printable text")
    if isinstance(manifest.config, ExtractorConfig):
        _check_extractor(manifest.interface)
    else:
        _check_interface(manifest.interface)
    _check_precision(manifest.precision)
    for check in manifest.verification:
        for value in (check.max_grey_levels, check.tolerance_grey_levels, *check.drift):
            _at_least(0, "verification", value)
    if manifest.engine is not None:
        _check_engine(manifest.engine)


def _check_interface(interface: ModelInterface) -> None:
    rule, outputs = interface.frames, (interface.output, *interface.extras)
    _need(bool(interface.inputs), "inputs", [], "at least one")
    names = [spec.name for spec in (*interface.inputs, *outputs)]
    _need(len(set(names)) == len(names), "names of inputs and outputs", names, "each once")
    for spec in interface.inputs:
        _one_of(INPUT_KINDS, f"kind of {spec.name}", spec.kind)
        _check_tensor(spec, ("batch", rule.dimension) if spec.name == rule.input else ("batch",))
        _need(spec.kind != "label" or spec.range is not None, f"range of {spec.name}", None, "that of the classes")
        _need(spec.kind != "image" or len(spec.shape) == 4, f"shape of {spec.name}", spec.shape, "4 axes")
    _one_of(("video",), "kind of the first output", interface.output.kind)
    _one_of(("uint8", "float32"), "dtype of the video", interface.output.dtype)
    _need(len(interface.output.shape) == 5, "shape of the video", interface.output.shape, "5 axes")
    for spec in interface.extras:
        _one_of(("mask",), f"kind of {spec.name}", spec.kind)
        _need(len(spec.shape) == 4, f"shape of {spec.name}", spec.shape, "4 axes")
    for spec in outputs:
        _check_tensor(spec, ("batch", "frames"))
    _check_rule(rule, interface.inputs)


def _check_extractor(interface: ModelInterface) -> None:
    """The same of a network that describes clips: a video, or frames, to rows of features."""
    rule, outputs = interface.frames, (interface.output, *interface.extras)
    _need(len(interface.inputs) == 1, "inputs", len(interface.inputs), "one")
    names = [spec.name for spec in (*interface.inputs, *outputs)]
    _need(len(set(names)) == len(names), "names of inputs and outputs", names, "each once")
    (clips,) = interface.inputs
    _one_of(("video",), f"kind of {clips.name}", clips.kind)
    _need(len(clips.shape) in (4, 5), f"shape of {clips.name}", clips.shape, "4 or 5 axes")
    _check_tensor(clips, ("batch", rule.dimension))
    for spec in outputs:
        _one_of(("features",), f"kind of {spec.name}", spec.kind)
        _check_tensor(spec, ("batch",))
    _need((rule.scale, rule.offset) == (1, 0), "frames", (rule.scale, rule.offset), "1 of each frame")
    _between(1, MOST_FRAMES, "frames.default", rule.default)


def _check_tensor(spec: TensorSpec, dynamic: tuple[str, ...]) -> None:
    _need(bool(spec.name) and spec.name.isprintable(), "name of a tensor", spec.name, "printable text")
    _one_of(DTYPES, f"dtype of {spec.name}", spec.dtype)
    what = f"shape of {spec.name}"
    _need(1 <= len(spec.shape) <= MOST_AXES and spec.shape[0] == "batch", what, spec.shape, "batch first")
    for size in spec.shape:
        if isinstance(size, str):
            _one_of(dynamic, what, size)
        else:
            _between(1, 2**31 - 1, what, size)
    _need(len(set(names := [s for s in spec.shape if isinstance(s, str)])) == len(names), what, names, "each axis once")
    if spec.range is not None:
        _need(spec.range[0] <= spec.range[1], f"range of {spec.name}", spec.range, "smallest, largest")


def _check_rule(rule: FramesRule, inputs: Iterable[TensorSpec]) -> None:
    moving = next((spec for spec in inputs if spec.name == rule.input), None)
    if moving is None:
        raise ValueError(f"frames.input is {rule.input!r}, expected the name of an input")
    known = 0 < rule.axis < len(moving.shape) and moving.shape[rule.axis] == rule.dimension
    _need(known and moving.kind == "normal", "frames.axis", rule.axis, f"the axis {rule.dimension!r} of {moving.name}")
    for name in ("scale", "default"):
        _between(1, MOST_FRAMES, f"frames.{name}", getattr(rule, name))
    # Looking for the shortest video counts up from here.
    _between(-MOST_FRAMES, MOST_FRAMES, "frames.offset", rule.offset)
    try:
        rule.length(rule.default)
    except SamplingError as error:
        raise ValueError(f"frames.default is {rule.default}, which the model does not make: {error.cause}") from error


def _check_precision(precision: Precision) -> None:
    _one_of(("float32", "float16"), "precision.kind", precision.kind)
    _between(0, 1, "precision.half_share", precision.half_share)
    if precision.tolerance is not None:
        _between(0, 255, "precision.tolerance", precision.tolerance)


def _check_engine(engine: Engine) -> None:
    _one_of(("tensorrt", "tensorrt-rtx"), "engine.library", engine.library)
    dotted = re.fullmatch(r"[0-9]+(\.[0-9a-z]+)*", engine.version)
    _need(dotted is not None, "engine.version", engine.version, "a version such as 1.7.1.116")
    _need(bool(engine.profiles), "engine.profiles", [], "at least one")
    for profile in engine.profiles:
        for name, sizes in (("batch", profile.batch), ("length", profile.length)):
            rising = 1 <= sizes[0] <= sizes[1] <= sizes[2] < 2**31
            _need(rising, f"{name} of a profile", sizes, "smallest, usual and largest")
    for name in ("half_layers", "float_layers", "seconds", "streamable"):
        _at_least(0, f"engine.{name}", getattr(engine, name))
    _need(engine.float_layers <= engine.layers, "engine.float_layers", engine.float_layers, "no more than the layers")
    _need(engine.half_layers <= engine.float_layers, "engine.half_layers", engine.half_layers, "no more than those")
    _one_of(("", "inlined", "aot", "python", "library"), "engine.sepconv", engine.sepconv)
    if engine.timing_cache_sha256:
        _digest("engine.timing_cache_sha256", engine.timing_cache_sha256)


def _need(good: bool, what: str, value: Any, expected: str) -> None:
    if not good:
        shown = ascii(value)
        raise ValueError(f"{what} is {shown if len(shown) <= 60 else shown[:60] + '...'}, expected {expected}")


def _one_of(known: tuple[str, ...], what: str, value: str) -> None:
    _need(value in known, what, value, " or ".join(map(repr, known)))


def _at_least(least: float, what: str, value: float) -> None:
    _need(value >= least, what, value, f"at least {least}")


def _between(least: float, most: float, what: str, value: float) -> None:
    _need(least <= value <= most, what, value, f"from {least} to {most}")


def _digest(what: str, value: str) -> None:
    _need(re.fullmatch("[0-9a-f]{64}", value) is not None, what, value, "64 hexadecimal digits")
