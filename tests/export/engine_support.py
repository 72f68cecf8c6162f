"""Requests for small engines, and classic TensorRT played by TensorRT-RTX with the parts that it lacks."""

from __future__ import annotations

import functools
import types
from typing import Any

import onnx
from support.fill import fill_module

from vidgen.export.engine import EngineSettings
from vidgen.export.engine_build import BuildRequest, BuildResult, build
from vidgen.export.engine_graph import read_graph
from vidgen.export.precision import to_half
from vidgen.export.prepare import PlainGenerator
from vidgen.export.to_onnx import to_onnx
from vidgen.models.config import G3ANConfig, ModelInterface, TwoStreamVANConfig
from vidgen.models.g3an import Generator as G3AN
from vidgen.models.twostreamvan import Generator
from vidgen.runtime.manifest import EngineProfile

TARGETS = ("sm_86", "sm_89", "sm_120")
PROFILE = EngineProfile((1, 2, 4), (1, 1, 1))


def write_g3an(generator, output="uint8", *, half=False):
    """The ONNX model of a G3AN for TensorRT, and its interface."""
    interface = generator.config.interface(output)
    model = to_onnx(PlainGenerator(generator, output), interface, opset=20, name="g3an", metadata={})
    return (to_half(model)[0] if half else model), interface


def write_actor(generator, output="uint8", *, half=False, sepconv="custom", **options):
    """The ONNX model of a TwoStreamVAN's sampling path for TensorRT, and its interface."""
    from vidgen.export.pipeline import write_path

    interface = generator.config.interface(output, **options)
    model = write_path(generator, interface, "tensorrt", sepconv, opset=20, name="twostreamvan", metadata={})
    return (to_half(model, recurrent=True)[0] if half else model), interface


@functools.cache
def _smallest(half: bool) -> tuple[bytes, ModelInterface]:
    model, interface = write_g3an(fill_module(G3AN(G3ANConfig(ch=2))).eval(), half=half)
    return model.SerializeToString(), interface


def small_g3an(*, half=False):
    """The smallest G3AN, written once."""
    content, interface = _smallest(half)
    return onnx.load_from_string(content), interface


@functools.cache
def _small(half: bool) -> tuple[bytes, ModelInterface]:
    config = TwoStreamVANConfig(n_cat=3, gf_dim=1, cont_dim=6, motion_dim=4, kernel_layer=1, joint=False)
    model, interface = write_actor(fill_module(Generator(config)).eval(), half=half)
    return model.SerializeToString(), interface


def small_actor(*, half=False, body=True):
    """The smallest sampling path with our operator, written once; without its body where none is wanted."""
    content, interface = _small(half)
    model = onnx.load_from_string(content)
    if not body:
        del model.functions[:]
    return model, interface


def request(model, interface, *, half=False, sepconv="", builder="tensorrt-rtx", **options) -> BuildRequest:
    """A request that needs no choice of a builder; options are of EngineSettings and BuildRequest."""
    named = {name: options.pop(name) for name in ("device", "timing_cache") if name in options}
    content = model if isinstance(model, bytes) else model.SerializeToString()
    settings = EngineSettings(**{"gpu": TARGETS, "profiles": (PROFILE,), **options})
    return BuildRequest(content, read_graph(content, sepconv), interface, settings, builder, half, sepconv, **named)


def build_here(model, interface, say=lambda _: None, **options) -> BuildResult:
    """Build in this process."""
    return build(request(model, interface, **options), lambda *_: None, say)


class _Wrapped:
    """An object of TensorRT's, some attributes of which are ours."""

    def __init__(self, inner: Any, **ours: Any) -> None:
        self.__dict__.update(inner=inner, ours=ours)

    def __getattr__(self, name: str) -> Any:
        return self.ours[name] if name in self.ours else getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.ours:
            self.ours[name] = value
        else:
            setattr(self.inner, name, value)


class Cache:
    """A timing cache: lines of text after a line that names who made it."""

    def __init__(self, lines: set[str]) -> None:
        self.lines = lines

    def serialize(self) -> bytes:
        return "\n".join([MADE_BY, *sorted(self.lines)]).encode()

    def combine(self, other: Cache, ignore_mismatch: bool) -> bool:
        self.lines |= other.lines
        return True


MADE_BY = "TensorRT 11.4 sm_89"


def classic(rtx: types.ModuleType) -> types.ModuleType:
    """A module like ``tensorrt`` that builds for sm_89 and keeps timings; ``set_up`` lists what was set on it."""
    module = types.ModuleType("tensorrt")
    module.__dict__.update({name: value for name, value in vars(rtx).items() if not name.startswith("__")})
    module.__version__ = "11.4.0.106"
    module.set_up = []
    del module.ComputeCapability

    def make_builder(logger):
        builder = rtx.Builder(logger)

        def create_builder_config():
            config = builder.create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(rtx.ComputeCapability.SM89, 0)
            taken = []

            def create_timing_cache(content):
                head, *lines = content.decode(errors="replace").split("\n")
                if content and head != MADE_BY:
                    logger.log(rtx.ILogger.Severity.WARNING, "Failed to deserialize timing cache.")
                    return Cache(set())
                return Cache(set(lines))

            def set_timing_cache(cache, ignore_mismatch):
                assert not ignore_mismatch
                taken.append(cache)
                return True

            def build_serialized_network(network, wrapped):
                for cache in taken[-1:]:
                    cache.lines.add("convolution 3 us")
                return builder.build_serialized_network(network, config)

            made.ours["build_serialized_network"] = build_serialized_network
            wrapped = _Wrapped(
                config,
                create_timing_cache=create_timing_cache,
                set_timing_cache=set_timing_cache,
                get_timing_cache=lambda: taken[-1],
                set_flag=lambda flag: module.set_up.append(flag.name),
                hardware_compatibility_level=None,
            )
            module.configs.append(wrapped)
            return wrapped

        made = _Wrapped(builder, create_builder_config=create_builder_config)
        return made

    class Runtime:
        """Loads nothing, as where there is no GPU, unless ``report`` is set."""

        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, plan):
            assert isinstance(plan, bytes)
            inspector = types.SimpleNamespace(get_engine_information=lambda kind: module.report)
            return module.report and types.SimpleNamespace(create_engine_inspector=lambda: inspector)

    module.Runtime = Runtime
    module.report = None
    module.configs = []
    module.Builder = make_builder
    return module
