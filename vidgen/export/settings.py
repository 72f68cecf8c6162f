"""What one export is asked for, checked before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.errors import SettingsError
from vidgen.export.onnx_graph import DEFAULT_OPSET, OPSETS

if TYPE_CHECKING:
    from vidgen.export.engine import EngineSettings

LOWERINGS = ("cpu", "tensorrt")
OUTPUTS = ("uint8", "float32")
#: Forms of the separable convolution (contracts 4): our operator with its function body, standard operators only, our
#: operator alone (for TensorRT with the plugin: in its parsers a function body goes before a plugin).
SEPCONVS = ("custom", "standard", "plugin")
#: Batch sizes of an engine where none were asked for.
DEFAULT_BATCH = "1:16:64"
#: Options that say something of an engine alone, and their value where they were left out.
_OF_ENGINES = {
    "gpu": None,
    "builder": None,
    "workspace": None,
    "builder_optimization_level": None,
    "timing_cache": None,
    "version_compatible": False,
    "hardware_compatibility_level": None,
    "weight_streaming": False,
    "strip_plan": False,
    "refit": False,
    "tf32": False,
    "plugin_library": None,
}

Range = tuple[int, int, int]


@dataclass(frozen=True)
class ExportSettings:
    """One export.

    Attributes:
        checkpoint: .safetensors of a generator.
        out: .onnx to write; a .plan here is short for ``engine`` with an .onnx of the same name beside it.
        engine: .plan to write too.
        fp16: type the graph to half precision.
        tolerance: with ``fp16``: grey levels the half graph may be off; as few nodes as that takes stay float32.
        lowering: ``cpu`` (rewritten) or ``tensorrt`` (plain); when None, ``tensorrt`` with an engine, else ``cpu``.
        output: ``uint8`` frames or the ``float32`` network output.
        frames: of each video where the artifact's user asks for no number, or ``"MIN:OPT:MAX"``, where OPT is that
            number; the model's own when None. OPT and MAX are verified. An engine makes MIN to MAX frames, or from the
            shortest to this number.
        batch: ``"MIN:OPT:MAX"``. An .onnx takes any batch; MIN and OPT are verified. An engine takes these
            (1:16:64 when None), or several profiles of them: ``"1:1:4,8:32:64"``.
        gpu: architectures of an engine: ``"sm_86,sm_89"``, or ``"current"``.
        builder: ``auto``, ``tensorrt`` or ``tensorrt-rtx``.
        sepconv: form of TwoStreamVAN's separable convolution: ``custom`` (when None), ``standard`` or ``plugin``.
        masks: TwoStreamVAN's masks as further outputs. conditional: a first frame takes the place of ``z_content``.
        opset: ONNX operator set, 18 to 21.
        workspace, builder_optimization_level, timing_cache, version_compatible, hardware_compatibility_level,
            weight_streaming, strip_plan, refit, tf32: of an engine, see :class:`vidgen.export.engine.EngineSettings`.
        plugin_library: shared library of the separable convolution, with ``sepconv="plugin"``.

    Raises:
        SettingsError: an option is out of range, or does not apply.
    """

    checkpoint: Path
    out: Path | None = None
    engine: Path | None = None
    fp16: bool = False
    tolerance: float | None = None
    lowering: str | None = None
    output: str = "uint8"
    frames: int | str | None = None
    batch: str | None = None
    gpu: str | None = None
    builder: str | None = None
    sepconv: str | None = None
    masks: bool = False
    conditional: bool = False
    opset: int = DEFAULT_OPSET
    workspace: str | None = None
    builder_optimization_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatibility_level: str | None = None
    weight_streaming: bool = False
    strip_plan: bool = False
    refit: bool = False
    tf32: bool = False
    plugin_library: Path | None = None

    def __post_init__(self) -> None:
        for name in ("checkpoint", "out", "engine", "timing_cache", "plugin_library"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        self._settle_paths()
        object.__setattr__(self, "lowering", self.lowers_for)
        self._check_choices()
        self._check_numbers()
        self._check_engine_options()

    def _settle_paths(self) -> None:
        """``-o x.plan`` is short for both files."""
        if self.out is not None and self.out.suffix == ".plan" and self.out.stem:
            if self.engine not in (None, self.out):
                raise bad_option("engine", self.engine, "nothing", f"-o {self.out} names an engine already")
            object.__setattr__(self, "engine", self.out)
            object.__setattr__(self, "out", self.out.with_suffix(".onnx"))
        if self.out is None and self.engine is not None and self.engine.suffix == ".plan":
            object.__setattr__(self, "out", self.engine.with_suffix(".onnx"))
        self._check_suffix(self.out, ".onnx")
        if self.engine is not None:
            self._check_suffix(self.engine, ".plan")

    def _check_suffix(self, path: Path | None, suffix: str) -> None:
        if path is None:
            raise SettingsError(
                "cannot export",
                seen="no output file, expected -o MODEL.onnx or -o MODEL.plan",
                cause="the file to write was not named",
                fix=f"vidgen export {self.checkpoint} -o {self.checkpoint.with_suffix('.onnx')}",
            )
        if path.suffix != suffix or path.stem in ("", suffix):
            expected = ".onnx or .plan" if suffix == ".onnx" else suffix
            option = "-o" if suffix == ".onnx" else "--engine"
            named = path.with_suffix(suffix) if path.stem.strip(".") not in ("", "onnx", "plan") else f"MODEL{suffix}"
            raise SettingsError(
                f"cannot export to {path}",
                seen=f"a name ending in {path.suffix or 'nothing'!r}, expected {expected}",
                cause="the suffix tells every other command what the file is",
                fix=f"use {option} {named}",
            )

    def _check_choices(self) -> None:
        for name, choices in (("lowering", LOWERINGS), ("output", OUTPUTS), ("opset", OPSETS)):
            value = getattr(self, name)
            if value not in choices:
                spelled = "for" if name == "lowering" else name
                raise bad_option(spelled, value, " or ".join(map(str, choices)), "a typing error")
        if self.sepconv is not None and self.sepconv not in SEPCONVS:
            raise bad_option("sepconv", self.sepconv, " or ".join(SEPCONVS), "a typing error")
        if self.plugin_library is not None and self.sepconv != "plugin":
            raise bad_option(
                "plugin-library",
                self.plugin_library,
                "nothing",
                "it goes with --sepconv plugin",
                "add --sepconv plugin",
            )
        if self.plugin_library is not None and not self.plugin_library.is_file():
            raise bad_option("plugin-library", self.plugin_library, "a shared library", "there is no such file")

    def _check_numbers(self) -> None:
        if self.frame_range is not None and self.frame_range[0] < 1:
            raise bad_option("frames", self.frames, "at least 1", "a video has frames")
        profiles = [] if self.batch is None else [parse_range("batch", part) for part in self.batch.split(",")]
        if len(profiles) > 1 and self.engine is None:
            raise bad_option("batch", self.batch, "one MIN:OPT:MAX", "several profiles are for engines")
        if self.tolerance is not None and not self.fp16:
            raise bad_option("tolerance", self.tolerance, "nothing", "it is for half precision", "add --fp16")
        if self.tolerance is not None and not 0 < self.tolerance <= 255:
            raise bad_option("tolerance", self.tolerance, "grey levels above 0, at most 255", "a typing error")

    def _check_engine_options(self) -> None:
        if self.engine is not None:
            _ = self.engine_settings
            if self.lowers_for == "cpu" and self.output == "uint8":
                cause = "TensorRT takes 8-bit values as the very last, and the lowering for CPUs makes them earlier"
                raise bad_option("for", "cpu", "tensorrt", cause, "leave --for out, or add --output float32")
            return
        for name, left_out in _OF_ENGINES.items():
            if getattr(self, name) != left_out:
                option = name.replace("_", "-")
                fix = f"add --engine {self.path.with_suffix('.plan')}"
                raise bad_option(option, getattr(self, name), "nothing", "it is for engines", fix)

    @cached_property
    def frame_range(self) -> Range | None:
        """Fewest, usual and most frames that were asked for; None where nothing was."""
        if self.frames is None:
            return None
        if isinstance(self.frames, str) and ":" in self.frames:
            return parse_range("frames", self.frames)
        text = str(self.frames)
        if not re.fullmatch(r"-?[0-9]{1,6}", text):
            raise bad_option("frames", text, "a number, or MIN:OPT:MAX such as 16:16:48", "a typing error")
        return int(text), int(text), int(text)

    @property
    def several_frames(self) -> bool:
        """Whether a range of frames was asked for, rather than a number."""
        return isinstance(self.frames, str) and ":" in self.frames

    @property
    def batches(self) -> tuple[Range, ...]:
        """Smallest, usual and largest batch of each profile that was asked for."""
        return tuple(parse_range("batch", part) for part in self.batch.split(",")) if self.batch else ()

    @cached_property
    def engine_settings(self) -> EngineSettings:
        """How the engine is built; its profiles' lengths are known only with the model."""
        from vidgen.export.engine import EngineSettings, parse_gpu, parse_workspace

        return EngineSettings(
            gpu=parse_gpu(self.gpu),
            builder=self.builder or "auto",
            workspace=None if self.workspace is None else parse_workspace(self.workspace),
            builder_optimization_level=self.builder_optimization_level,
            timing_cache=self.timing_cache,
            version_compatible=self.version_compatible,
            hardware_compatibility_level=self.hardware_compatibility_level,
            weight_streaming=self.weight_streaming,
            strip_plan=self.strip_plan,
            refit=self.refit,
            tf32=self.tf32,
            plugin_library=self.plugin_library,
        )

    @property
    def lowers_for(self) -> str:
        """The target that the network is rewritten for."""
        return self.lowering or ("cpu" if self.engine is None else "tensorrt")

    @property
    def separable(self) -> str:
        """The form of the separable convolution, of models that have one."""
        return self.sepconv or SEPCONVS[0]

    @property
    def path(self) -> Path:
        """The .onnx to write."""
        if self.out is None:
            raise ValueError("settings without an output file cannot be made")
        return self.out


def parse_range(option: str, text: str) -> Range:
    """``"1:16:64"`` as least, usual and most.

    Raises:
        SettingsError: not three whole numbers in that order.
    """
    match = re.fullmatch(r"\s*([0-9]{1,6}):([0-9]{1,6}):([0-9]{1,6})\s*", text)
    sizes = tuple(int(part) for part in match.groups()) if match else ()
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        example = "1:16:64" if option == "batch" else "16:16:48"
        expected = f"MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX, such as {example}"
        raise bad_option(option, text, expected, "a typing error")
    return sizes[0], sizes[1], sizes[2]


def bad_option(option: str, value: object, expected: str, cause: str, fix: str = "") -> SettingsError:
    """The error of an option that does not apply (``expected`` is "nothing") or is out of range."""
    fix = fix or f"leave --{option} out" if expected == "nothing" else f"use --{option} with {expected}"
    return SettingsError("cannot export", seen=f"--{option} {value}, expected {expected}", cause=cause, fix=fix)
