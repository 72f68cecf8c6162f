"""Both compilers take the kernel text for every architecture, no kernel spills, and the page says so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vidgen.errors import BackendError, MissingDependencyError
from vidgen.plugins.sepconv_trt.cuda import nvrtc, report, source
from vidgen.plugins.sepconv_trt.cuda.compile import ARCHITECTURES, Compiler, Resources, _resources, compile_kernel
from vidgen.plugins.sepconv_trt.geometry import DTYPES, KERNELS, DType, Kernel, plan

PAGE = Path(__file__).resolve().parents[3] / "docs" / "sepconv_cuda.md"
ELF = b"\x7fELF"


def _nvrtc_missing() -> str:
    try:
        nvrtc.Nvrtc.load()
    except MissingDependencyError as error:
        return str(error)
    return ""


COMPILERS = [
    pytest.param("nvrtc", marks=pytest.mark.skipif(bool(_nvrtc_missing()), reason=_nvrtc_missing() or "there")),
    pytest.param("nvcc", marks=pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")),
]


def _check(kernel: Kernel, taps: int, dtype: DType, architecture: str, compiler: Compiler) -> None:
    made = plan(kernel, taps, dtype)
    compiled = compile_kernel(made, architecture, compiler=compiler)
    assert compiled.cubin.startswith(ELF)
    assert made.entry.encode() in compiled.cubin
    assert f".visible .entry {made.entry}(" in compiled.ptx
    assert re.search(rf"\.target {architecture}\b", compiled.ptx)
    assert compiled.resources.shared_bytes == made.shared_bytes
    assert compiled.resources.spill_bytes == 0
    assert compiled.resources.stack_bytes == 0
    threads = made.block[0] * made.block[1]
    assert compiled.resources.registers * threads * made.blocks <= 65536
    # float16 is converted by the processor, float32 and bfloat16 need no such instruction.
    assert ("cvt.f32.f16" in compiled.ptx) == (dtype == "float16")


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("taps", "dtype"), [(5, "float16"), (51, "float32")])
def test_forward_compiles_without_spilling(taps: int, dtype: DType, architecture: str, compiler: Compiler) -> None:
    _check("forward", taps, dtype, architecture, compiler)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("taps", "dtype"), [(5, "bfloat16"), (51, "float32")])
@pytest.mark.parametrize("kernel", ["backward_input", "backward_kernels"])
def test_gradients_compile_without_spilling(kernel: Kernel, taps: int, dtype: DType, compiler: Compiler) -> None:
    _check(kernel, taps, dtype, "sm_90", compiler)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_everything_compiles_without_spilling(kernel: Kernel, architecture: str, compiler: Compiler) -> None:
    for taps in report.TAPS:
        for dtype in DTYPES:
            _check(kernel, taps, dtype, architecture, compiler)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("architecture", ["sm_999", "89", "compute_89", "sm_89 --version", ""])
def test_an_unknown_architecture_is_refused(architecture: str, compiler: Compiler) -> None:
    with pytest.raises(BackendError, match=re.escape(architecture) or "architecture"):
        compile_kernel(plan("forward", 5, "float32"), architecture, compiler=compiler)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_mistake_in_the_text_is_reported_with_its_line(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    text = source.kernel_text().replace("float dots[kPixels] = {};", "float dots[kPixels] = {}")
    monkeypatch.setattr("vidgen.plugins.sepconv_trt.cuda.compile.kernel_text", lambda: text)
    with pytest.raises(BackendError, match=r"forward\.cuh\(\d+\)"):
        compile_kernel(plan("forward", 5, "float32"), "sm_89", compiler=compiler)


def test_a_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_candidates", lambda: iter(()))
    with pytest.raises(MissingDependencyError, match="pip install nvidia-cuda-nvrtc"):
        nvrtc.Nvrtc.load()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match="nvcc"):
        compile_kernel(plan("forward", 5, "float32"), "sm_89", compiler="nvcc")


def test_a_library_that_does_not_load_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libnvrtc.so.13"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(nvrtc, "_candidates", lambda: iter([str(broken)]))
    with pytest.raises(MissingDependencyError, match=re.escape(str(broken))):
        nvrtc.Nvrtc.load()


def test_reports_of_both_compilers_are_read() -> None:
    made = plan("forward", 5, "float32")
    report_of_nvrtc = (
        "ptxas info    : Function properties for k\n"
        "ptxas         .     8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n"
        "ptxas info    : Used 16 registers, used 1 barriers, 640 bytes smem, 368 bytes cmem[0]\n"
    )
    assert _resources(made, report_of_nvrtc) == Resources(16, 640, 8, 28)
    with pytest.raises(BackendError, match="registers and spills"):
        _resources(made, "ptxas info    : nothing of interest")


def test_the_text_needs_no_header_and_knows_its_files() -> None:
    text = source.kernel_text()
    assert "#include" not in text
    assert re.findall(r'#line 1 "(.+)"', text) == [*source.DEVICE_FILES, *source.KERNEL_FILES]
    made = plan("forward", 5, "float32")
    assert source.source_hash(made) == source.source_hash(plan("forward", 5, "float32"))
    assert source.source_hash(made) != source.source_hash(plan("forward", 5, "float16"))


def _rows() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| (for|back)ward", line)
    ]


def test_the_page_is_of_this_text_and_complete() -> None:
    assert f"`{report.text_digest()}`" in PAGE.read_text(encoding="utf-8"), f"make it anew: {report.COMMAND}"
    found = [(row[0], int(row[1]), row[2]) for row in _rows()]
    assert found == [(kernel, taps, dtype) for kernel in KERNELS for taps in report.TAPS for dtype in DTYPES]


def test_the_page_shows_no_spill_in_the_forward() -> None:
    assert [row for row in _rows() if row[0] == "forward" and row[-1] != "0"] == []


@pytest.mark.skipif(bool(_nvrtc_missing()), reason=_nvrtc_missing() or "there")
def test_the_page_says_what_the_compiler_says() -> None:
    if f"Compiled by NVRTC {'.'.join(map(str, nvrtc.Nvrtc.load().version))} " not in PAGE.read_text(encoding="utf-8"):
        pytest.skip("the page was made with another version of NVRTC")
    row = report.row("forward", 5, "float32")
    assert row in PAGE.read_text(encoding="utf-8").splitlines()
