"""Settings of an engine are checked before anything is loaded, and each mistake is named with what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import SettingsError
from vidgen.export import engine_settings
from vidgen.export.engine_settings import LARGEST_WORKSPACE, EngineSettings, parse_gpu, parse_workspace
from vidgen.models.config import G3ANConfig, TwoStreamVANConfig
from vidgen.runtime.manifest import EngineProfile
from vidgen.runtime.tensorrt_library import ARCHITECTURES


@given(st.lists(st.sampled_from(ARCHITECTURES), min_size=1, unique=True))
def test_architectures_are_read_in_the_order_given(names):
    assert parse_gpu(" , ".join(names).upper()) == tuple(names)


@pytest.mark.parametrize("text", ["sm_88", "", "sm_86,", "sm86", "8.6", "rtx4090", "sm_86;sm_89"])
def test_an_unknown_architecture_is_refused_with_the_list(text):
    with pytest.raises(SettingsError) as caught:
        parse_gpu(text)
    assert all(name in caught.value.seen for name in (*ARCHITECTURES, "current"))


@pytest.mark.parametrize("names", [("sm_86", "sm_86"), ("current", "sm_86"), ()])
def test_each_architecture_once_and_current_alone(names):
    with pytest.raises(SettingsError, match="--gpu"):
        EngineSettings(gpu=names)


@pytest.mark.parametrize(("device", "expected"), [(None, ("sm_86", "sm_89", "sm_120")), ("sm_90", ("current",))])
def test_without_a_word_it_is_for_the_gpu_here_or_the_usual_ones(monkeypatch, device, expected):
    monkeypatch.setattr(engine_settings, "device_architecture", lambda: device)
    assert parse_gpu(None) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2**31), ("512 MiB", 2**29), ("1.5gb", 1_500_000_000), ("1048576", 2**20), ("0.5TiB", 2**39),
        ("3000kib", 3000 * 1024),
    ],
)  # fmt: skip
def test_sizes_are_read(text, size):
    assert parse_workspace(text) == size


@given(st.integers(2**20, LARGEST_WORKSPACE))
def test_bytes_are_themselves(size):
    assert parse_workspace(str(size)) == size


@pytest.mark.parametrize("text", ["", "2", "GiB", "2XB", "-1GiB", "1e9", "nan", "1023KiB", "2 GiB please", "1.GiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SettingsError, match="--workspace"):
        parse_workspace(text)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("builder", "trt"), ("builder_optimization_level", 6), ("builder_optimization_level", -1),
        ("builder_optimization_level", True), ("workspace", 1000), ("hardware_compatibility_level", "turing"),
        ("profiles", [EngineProfile((2, 1, 3), (1, 1, 1))]), ("profiles", [EngineProfile((1, 1, 1), (0, 1, 1))]),
        ("profiles", [EngineProfile((1, 1), (1, 1, 1))]), ("profiles", [EngineProfile((1, 1.5, 2), (1, 1, 1))]),
        ("profiles", [EngineProfile((1, 1, 1), (1, 1, 1))] * 2),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(option, value):
    with pytest.raises(SettingsError, match="cannot build an engine"):
        EngineSettings(**{option: value})


def test_values_are_settled():
    settings = EngineSettings(
        gpu=["sm_86"], timing_cache="x.cache", hardware_compatibility_level="AMPERE-PLUS", plugin_library="a.so"
    )
    assert settings.gpu == ("sm_86",) and settings.hardware_compatibility_level == "ampere_plus"
    assert (settings.timing_cache, settings.plugin_library) == (Path("x.cache"), Path("a.so"))
    assert EngineSettings(hardware_compatibility_level="none").hardware_compatibility_level is None


def test_profiles_must_suit_the_model():
    interface = TwoStreamVANConfig().interface()
    with pytest.raises(SettingsError, match="no profile"):
        EngineSettings().check_profiles(interface)
    with pytest.raises(SettingsError, match="makes no frame"):
        EngineSettings(profiles=(EngineProfile((1, 1, 1), (1, 2, 3)),)).check_profiles(interface)
    EngineSettings(profiles=(EngineProfile((1, 1, 1), (2, 2, 3)),)).check_profiles(interface)
    EngineSettings(profiles=(EngineProfile((1, 1, 1), (1, 2, 3)),)).check_profiles(G3ANConfig().interface())


def test_settings_load_no_library():
    code = (
        "import sys, vidgen.export.engine_settings as e; e.EngineSettings(gpu=e.parse_gpu('sm_86'));"
        "assert not {'tensorrt', 'tensorrt_rtx', 'torch', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
