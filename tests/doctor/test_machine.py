"""The texts of the operating system are read right, and requirements are what the metadata says."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.doctor.machine import machine, parse_cpuinfo, parse_limit, parse_meminfo, parse_quota
from vidgen.doctor.packages import Requirement, installed, older, parse_requirement, requirements

X86 = """processor\t: 0
model name\t: Some CPU @ 3.00GHz
flags\t\t: fpu avx2 fma avx512f avx512_vnni amx_tile

processor\t: 1
model name\t: Some CPU @ 3.00GHz
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd asimddp sve\nCPU part\t: 0xd40\n"


def test_cpuinfo_of_x86_and_arm() -> None:
    name, flags = parse_cpuinfo(X86)
    assert name == "Some CPU @ 3.00GHz" and {"avx2", "avx512_vnni", "amx_tile"} <= flags
    assert parse_cpuinfo(ARM) == ("", frozenset({"fp", "asimd", "asimddp", "sve"}))
    assert parse_cpuinfo("") == ("", frozenset())


def test_memory_and_container_limits() -> None:
    assert parse_meminfo("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n") == (1024000, 614400)
    assert parse_meminfo("nonsense") == (None, None)
    assert (parse_limit("1048576\n"), parse_limit("max\n"), parse_limit("")) == (1048576, None, None)
    assert (parse_quota("150000 100000\n"), parse_quota("max 100000\n"), parse_quota("")) == (1.5, None, None)


@given(st.text(max_size=200))
def test_no_text_breaks_a_parser(text: str) -> None:
    name, flags = parse_cpuinfo(text)
    assert isinstance(name, str) and isinstance(flags, frozenset)
    total, _ = parse_meminfo(text)
    assert total is None or total >= 0
    quota = parse_quota(text)
    assert quota is None or quota >= 0
    requirement = parse_requirement(text)
    assert requirement is None or requirement.name


def test_this_machine_is_plausible() -> None:
    found = machine()
    assert found.cpu and 0 < found.usable <= found.cores == os.cpu_count()
    assert found.memory is None or (found.available is not None and 0 < found.available <= found.memory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("av>=14", Requirement("av", "14")),
        ('torch>=2.10; extra == "torch"', Requirement("torch", "2.10", "torch")),
        ("tensorrt>=10.12 ; extra == 'gpu'", Requirement("tensorrt", "10.12", "gpu")),
        ("Pillow", Requirement("pillow")),
        ('vidgen[torch,cpu]; extra == "all"', Requirement("vidgen", "", "all")),
        ("numpy (>=1.26)", Requirement("numpy", "1.26")),
        ("numpy<3,>=1.26", Requirement("numpy", "1.26")),
    ],
)
def test_requirements_are_parsed(text: str, expected: Requirement) -> None:
    assert parse_requirement(text) == expected


def test_requirements_come_from_the_metadata() -> None:
    found = {requirement.name: requirement for requirement in requirements()}
    assert found["numpy"].extra == "" and "vidgen" not in found
    assert {requirement.name for requirement in requirements("no-such-distribution")} >= {"numpy", "av"}


def test_versions_compare_as_numbers() -> None:
    assert older("2.9.1", "2.10") and not older("2.10", "2.10") and not older("2.13.0+cpu", "2.10")
    assert not older("1.0", "") and older("14rc1", "14.1")


def test_alternative_distributions_count() -> None:
    assert installed("onnxruntime") == installed("onnxruntime-gpu") != ""
    assert installed("no-such-distribution") == ""
