"""What runs engines asks for nothing that the real bindings of TensorRT and TensorRT-RTX do not have."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support import fake_tensorrt
from support.fake_cuda import FakeCuda
from support.tensorrt_surface import Listing, classic_listing, rtx_listing

import vidgen
from vidgen.errors import BackendError
from vidgen.runtime.engine_file import load_engine
from vidgen.runtime.tensorrt_library import load_tensorrt

RUNTIME = Path(vidgen.__file__).parent / "runtime"
SOURCES = ("engine_file.py", "tensorrt_run.py", "device_loop.py")
#: Name of a variable or attribute in these sources -> TensorRT's class of what it holds; "" is the module.
HOLDS = {
    "trt": "",
    "module": "",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "runtime": "Runtime",
    "config": "IRuntimeConfig",
    "graphs": "CudaGraphStrategy",
    "refitter": "Refitter",
    "parser": "OnnxParserRefitter",
}
#: Only TensorRT-RTX has these, and only for it are they asked for.
RTX_ALONE = {
    "CudaGraphStrategy",
    "CudaGraphStrategy.DISABLED",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "EngineInvalidityDiagnostics",
    "IExecutionContext.is_stream_capturable",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "Runtime.get_engine_validity",
}
#: Class of the fake -> the real one.
FAKES = {"FakeEngine": "ICudaEngine", "FakeContext": "IExecutionContext"}


def used() -> set[str]:
    """Every attribute of a TensorRT object in the sources, as ``Class.attribute`` or, of the module, ``Class``."""
    found: set[str] = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse((RUNTIME / source).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            path = ast.unparse(node).split(".")
            if len(path) >= 2 and path[-2] in HOLDS and path[:2] != ["manifest", "engine"]:
                found.add(f"{HOLDS[path[-2]]}.{path[-1]}".lstrip("."))
            elif len(path) >= 3 and path[-3] in ("trt", "module"):
                found.add(f"{path[-2]}.{path[-1]}")
    return {name for name in found if not name.endswith("__members__")}


def lacks(listing: Listing, names: set[str]) -> set[str]:
    """Which names are not among classes and their attributes."""
    return {name for name in names if name.partition(".")[2] not in ["", *listing.get(name.partition(".")[0], ())]} | {
        name for name in names if name.partition(".")[0] not in listing
    }


def fake_surface() -> set[str]:
    """What the fake offers, by the names of the real classes."""
    found = set()
    for fake, real in FAKES.items():
        members = vars(getattr(fake_tensorrt, fake))
        ours = ("interface", "specs")
        found |= {f"{real}.{name}" for name in members if not name.startswith("_") and name not in ours}
    module = fake_tensorrt.FakeTensorRT(FakeCuda()).library.module
    for kind, values in vars(module).items():
        members = getattr(values, "__members__", vars(values))
        found |= {kind, *(f"{kind}.{name}" for name in members if not name.startswith("_"))}
    return found


def test_the_sources_are_understood() -> None:
    assert used() >= {
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.set_input_shape",
        "ICudaEngine.get_tensor_profile_shape",
        "ICudaEngine.create_runtime_config",
        "Runtime.deserialize_cuda_engine",
        "Runtime.engine_host_code_allowed",
        "Refitter.refit_cuda_engine",
        "OnnxParserRefitter.refit_from_bytes",
        "ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE",
        "TensorLocation.DEVICE",
        *RTX_ALONE,
    }
    assert len(used()) > 35


def test_tensorrt_rtx_has_all_that_is_used() -> None:
    listing = rtx_listing()
    if listing is None:
        pytest.skip("pip install tensorrt-rtx")
    assert lacks(listing, used()) == set()
    assert lacks(listing, fake_surface()) == set()


def test_classic_tensorrt_has_all_that_is_used(tmp_path: Path) -> None:
    listing = classic_listing(tmp_path)
    if listing is None:
        pytest.skip("pip install tensorrt-cu13-bindings, and a C compiler on Linux")
    assert lacks(listing, used() - RTX_ALONE) == set()
    assert lacks(listing, RTX_ALONE) == RTX_ALONE
    assert lacks(listing, fake_surface() - RTX_ALONE) <= {
        f"{kind}.{name}"
        for kind in ("EngineInvalidityDiagnostics", "DynamicShapesKernelSpecializationStrategy")
        for name in ("VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "LAZY")
    }


def test_enumerations_of_the_fake_have_the_values_of_tensorrt() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    module = fake_tensorrt.FakeTensorRT(FakeCuda()).library.module
    for kind in ("TensorIOMode", "TensorLocation", "EngineInvalidityDiagnostics", "ExecutionContextAllocationStrategy"):
        for name, member in getattr(module, kind).__members__.items():
            assert int(getattr(trt, kind).__members__[name]) == member.value, (kind, name)


def test_the_real_library_refuses_what_is_no_engine_in_its_own_words(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    library = load_tensorrt("tensorrt-rtx", "run .plan files")
    plan = tmp_path / "g.plan"
    plan.write_bytes(b"vtrt" + bytes(300))
    with pytest.raises(BackendError) as caught:
        load_engine(library, FakeCuda(), plan, None)
    assert library.version_text in caught.value.seen and "no message" not in caught.value.seen
    assert "vidgen export" in caught.value.fix
