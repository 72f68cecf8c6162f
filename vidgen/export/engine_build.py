"""Builds one engine in this process: ONNX parsed, checked and counted, then handed to TensorRT's builder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidgen.errors import ExportError, VidgenError
from vidgen.export.engine_count import LayerCount, count_layers
from vidgen.export.engine_errors import Messages, build_error, parse_error
from vidgen.export.engine_graph import PLUGINS, GraphFacts
from vidgen.export.engine_inspect import half_layers, inspect
from vidgen.export.engine_progress import Advance, Progress
from vidgen.export.engine_settings import EngineSettings
from vidgen.models.config import ModelInterface, TensorSpec
from vidgen.runtime.manifest import Engine, EngineProfile
from vidgen.runtime.tensorrt_library import CURRENT, TensorRT, load_tensorrt

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuildRequest:
    """All that a build needs, plain data.

    Attributes:
        onnx: the serialised model. facts: what was read from it. interface: the artifact's.
        settings: with the profiles. builder: ``tensorrt`` or ``tensorrt-rtx``, chosen.
        half: the graph is half precision. sepconv: form of the separable convolution, "" without.
        device: architecture of the GPU here, None without one.
        timing_cache: content of the timing cache, b"" for a new one; None where none is kept.
    """

    onnx: bytes
    facts: GraphFacts
    interface: ModelInterface
    settings: EngineSettings
    builder: str
    half: bool
    sepconv: str
    device: str | None = None
    timing_cache: bytes | None = None


@dataclass(frozen=True)
class BuildResult:
    """What a build gave: the engine's bytes, what is known of it, and the new content of the timing cache."""

    plan: bytes
    engine: Engine
    timing_cache: bytes | None = None


class Builder:
    """One build; holds what TensorRT must find alive until it is done.

    Args:
        advance: see :class:`vidgen.export.engine_progress.Progress`; what it raises ends the build and is raised again.
        say: told what the user should know.
    """

    def __init__(self, request: BuildRequest, advance: Advance, say: Say) -> None:
        self.request = request
        self.settings = request.settings
        self.library = load_tensorrt(request.builder, "build engines")
        self.library.check_options(self.settings.optional(), device=request.device)
        self.messages = Messages()
        self.progress = Progress(advance)
        self._say = say
        self._logger = self.library.logger(self.messages.listen)
        # Before any parser is made: what is registered is found by it.
        self._plugin = self._register()
        self._cache: Any = None
        self._config: Any = None

    def build(self) -> BuildResult:
        """Parse, check, count, build.

        Raises:
            ExportError: TensorRT does not take the graph, it is not what the interface says, or not half.
            SettingsError: the library lacks an option.
        """
        start = time.monotonic()
        module = self.library.module
        builder = module.Builder(self._logger)
        embedded = self.request.sepconv == "aot"
        network = builder.create_network(self.library.network_flags(embed_plugins=embedded))
        parser = module.OnnxParser(network, self._logger)
        self._parse(parser)
        check_interface(self.library, network, self.request.interface)
        count = count_layers(self.library, network)
        if self.request.half:
            count.expect_half()
        config, flags = self._configure(builder)
        cache = self._timing_cache(config)
        monitor = self.library.progress_monitor(self.progress.step)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if self.progress.failure is not None:
            raise self.progress.failure
        if plan is None:
            self._raise_plugin_failure()
            raise build_error(self.library, self.messages, self.settings.gpu, self.settings.workspace)
        self._inspect(bytes(plan))
        self.progress.finish()
        self._cache, self._config = cache, config
        kept = None if cache is None else bytes(cache.serialize())
        return BuildResult(bytes(plan), self._engine(count, flags, time.monotonic() - start), kept)

    def merge(self, content: bytes) -> bytes:
        """The timing cache of a build that is done, with the timings of another in it where they are of use."""
        other = self._config.create_timing_cache(content)
        if other is not None and not self._cache.combine(other, False):
            self._say(f"the timing cache {self.settings.timing_cache} was replaced: what was in it is of no use here")
        return bytes(self._cache.serialize())

    def _inspect(self, plan: bytes) -> None:
        """Where the GPU is here, have the engine say itself that it is half.

        Raises:
            ExportError: it should be, and not a single layer is.
        """
        device = self.request.device
        if not self.request.half or not {CURRENT, device}.intersection(self.settings.gpu) or device is None:
            return
        found = half_layers(inspect(self.library, self._logger, plan))
        if found is None:
            return
        self._say(f"in the engine itself {found[0]} of {found[1]} layers have a half output")
        if found[0] == 0:
            raise ExportError(
                "the engine is not half precision",
                seen=f"none of its {found[1]} layers has a half output",
                cause=f"{self.library.name} {self.library.version_text} changed the types that the graph has",
                fix=f"pip install -U {self.library.name}, or export without --fp16",
            )

    def _register(self) -> Any:
        if self.request.sepconv not in PLUGINS:
            return None
        from vidgen.plugins.sepconv_trt.tensorrt import prepare

        facts, settings = self.request.facts, self.settings
        named: dict[str, Any] = {"taps": facts.taps, "dtypes": facts.dtypes, "path": settings.plugin_library}
        # An engine that runs on later GPUs too needs a kernel for the earliest of them.
        if self.request.device is not None and settings.hardware_compatibility_level is None:
            named["architecture"] = self.request.device
        return prepare(self.library, self.request.sepconv, **named)

    def _raise_plugin_failure(self) -> None:
        """What a plugin raised is more than what TensorRT says of it."""
        if self._plugin is not None:
            self._plugin.raise_failure()

    def _parse(self, parser: Any) -> None:
        for operator, node in self.request.facts.operators.items():
            # The parser looks for a plugin of that name next, and without one ends the process.
            if not parser.supports_operator(operator):
                raise ExportError(
                    f"cannot build the engine for {', '.join(self.settings.gpu)}",
                    seen=f"{operator} of node {node or 'without a name'}",
                    cause=f"{self.library.name} {self.library.version_text} does not have this operator",
                    fix="export again with --for tensorrt",
                )
        if not parser.parse(self.request.onnx):
            self._raise_plugin_failure()
            raise parse_error(self.library, parser, self.messages, self.settings.gpu)

    def _configure(self, builder: Any) -> tuple[Any, tuple[str, ...]]:
        """The builder's configuration, and what was set in it by TensorRT's names."""
        module, settings = self.library.module, self.settings
        config = builder.create_builder_config()
        self.library.set_targets(config, settings.gpu)
        if self.request.half and self.request.device is not None:
            # Types are in the report of such engines alone.
            config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
        flags = ["STRONGLY_TYPED"]
        if settings.workspace is not None:
            config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, settings.workspace)
            flags.append(f"WORKSPACE={settings.workspace}")
        if settings.builder_optimization_level is not None:
            config.builder_optimization_level = settings.builder_optimization_level
            flags.append(f"builder_optimization_level={settings.builder_optimization_level}")
        if settings.hardware_compatibility_level is not None:
            level = settings.hardware_compatibility_level.upper()
            config.hardware_compatibility_level = module.HardwareCompatibilityLevel.__members__[level]
            flags.append(f"hardware_compatibility_level={level}")
        wanted = {
            "TF32": settings.tf32,
            "VERSION_COMPATIBLE": settings.version_compatible,
            "WEIGHT_STREAMING": settings.weight_streaming,
            "STRIP_PLAN": settings.strip_plan,
            "REFIT": settings.refit,
        }
        for name, on in wanted.items():
            flag = module.BuilderFlag.__members__[name]
            (config.set_flag if on else config.clear_flag)(flag)
            flags += [name] if on else []
        for profile in settings.profiles:
            self._add_profile(builder, config, profile)
        return config, tuple(flags)

    def _add_profile(self, builder: Any, config: Any, profile: EngineProfile) -> None:
        ranges = builder.create_optimization_profile()
        rule = self.request.interface.frames
        for spec in self.request.interface.inputs:
            shapes = [
                spec.resolve(**{"batch": batch, rule.dimension: length})
                for batch, length in zip(profile.batch, profile.length, strict=True)
            ]
            ranges.set_shape(spec.name, *shapes)
        if config.add_optimization_profile(ranges) < 0:
            raise build_error(self.library, self.messages, self.settings.gpu, self.settings.workspace)

    def _timing_cache(self, config: Any) -> Any:
        """Give the builder the timings of earlier builds, if they are of use to it."""
        if self.request.timing_cache is None:
            return None
        self.messages.clear()
        cache = config.create_timing_cache(self.request.timing_cache)
        taken = cache is not None and config.set_timing_cache(cache, False)
        complaint = next(iter((*self.messages.errors, *self.messages.warnings)), "")
        if self.request.timing_cache and (not taken or complaint):
            self._say(
                f"the timing cache {self.settings.timing_cache} is of another version of TensorRT or another GPU, or "
                f"damaged: timings start afresh ({complaint or 'it was not taken'})"
            )
        if not taken:
            cache = config.create_timing_cache(b"")
            if not config.set_timing_cache(cache, False):
                raise build_error(self.library, self.messages, self.settings.gpu, self.settings.workspace)
        self.messages.clear()
        return cache

    def _engine(self, count: LayerCount, flags: tuple[str, ...], seconds: float) -> Engine:
        request = self.request
        return Engine(
            library=self.library.name,
            version=self.library.version_text,
            profiles=self.settings.profiles,
            layers=count.layers,
            half_layers=count.half,
            float_layers=count.floating,
            kept_float32=count.not_half if request.half else (),
            sepconv=request.sepconv,
            needs=_needs(request),
            flags=flags,
            seconds=round(seconds, 3),
            stripped=self.settings.strip_plan,
            streamable=request.facts.weight_bytes if self.settings.weight_streaming else 0,
        )


def _needs(request: BuildRequest) -> tuple[str, ...]:
    if request.sepconv == "python":
        return ("the plugin in Python, which vidgen registers",)
    if request.sepconv == "library":
        library = request.settings.plugin_library
        return (library.name if library else "the plugin library of the separable convolution",)
    return ()


def check_interface(library: TensorRT, network: Any, interface: ModelInterface) -> None:
    """Raise unless a parsed network has the inputs and outputs of an artifact: names, order, types and sizes.

    Raises:
        ExportError: they differ.
    """
    outputs = (interface.output, *interface.extras)
    for kind, count, get, specs in (
        ("input", network.num_inputs, network.get_input, interface.inputs),
        ("output", network.num_outputs, network.get_output, outputs),
    ):
        found = [_described(library, get(index)) for index in range(count)]
        expected = [_expected(spec) for spec in specs]
        if found != expected:
            raise ExportError(
                "the parsed network is not the model",
                seen=f"{kind}s {', '.join(found)}, expected {', '.join(expected)}",
                cause="the ONNX file is of another model, or TensorRT changed a type",
                fix="export again from the checkpoint with --for tensorrt",
            )


def _described(library: TensorRT, tensor: Any) -> str:
    sizes = ("?" if size < 0 else str(size) for size in tensor.shape)
    return f"{tensor.name} {library.dtype(tensor.dtype)} [{', '.join(sizes)}]"


def _expected(spec: TensorSpec) -> str:
    sizes = ("?" if isinstance(size, str) else str(size) for size in spec.shape)
    return f"{spec.name} {spec.dtype} [{', '.join(sizes)}]"


def build(request: BuildRequest, advance: Advance, say: Say) -> BuildResult:
    """Build in this process. A library that ends its process ends this one: see :mod:`vidgen.export.engine`.

    Raises:
        VidgenError: of every kind, see :class:`Builder`. Whatever ``advance`` raises.
    """
    return Builder(request, advance, say).build()


def named(error: BaseException) -> VidgenError:
    """An error of any kind as one of ours, to be sent from process to process."""
    if isinstance(error, VidgenError):
        return error
    return ExportError(
        "cannot build the engine",
        seen=f"{type(error).__name__}: {error}",
        cause="a defect of this version of vidgen, or a TensorRT that it does not know",
        fix="pip install -U vidgen, or another version of TensorRT",
    )
