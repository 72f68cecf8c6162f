"""A whole build with each mistake of the plugin's: an error with the reason, and the process goes on."""

from __future__ import annotations

import pytest
from plugins.tensorrt.models import node_model

from vidgen.errors import VidgenError
from vidgen.export.engine import EngineSettings, build_engine
from vidgen.models.config import FramesRule, ModelInterface, TensorSpec
from vidgen.runtime.manifest import EngineProfile

pytest.importorskip("tensorrt_rtx")


def _interface(taps: int) -> ModelInterface:
    """Of ``node_model``, with the taps standing for the motion latent."""
    kernels = ("batch", taps, 8, 8)
    inputs = tuple(
        TensorSpec(name, "float32", shape, "noise")
        for name, shape in (("input", ("batch", 3, taps + 7, taps + 7)), ("vertical", kernels), ("horizontal", kernels))
    )
    output = TensorSpec("output", "float32", ("batch", 3, 8, 8), "video")
    return ModelInterface(inputs, output, FramesRule("input", 0, "batch", 1, 0, 1))


@pytest.mark.parametrize(
    ("taps", "form", "compiler", "told"),
    [
        (5, "python", "none-such", "libtensorrt_rtx.so"),
        (4, "python", None, "K = 4, expected an odd number from 1 to 63"),
        (5, "", None, "SeparableConvolution"),
        (5, "aot", None, "tensorrt-rtx"),
        (5, "library", None, "VIDGEN_TENSORRT_LIBRARY"),
    ],
    ids=["no shim", "even", "no plugin", "embedded", "no library"],
)
def test_a_mistake_is_an_error_and_never_an_abort(tmp_path, monkeypatch, taps, form, compiler, told):
    if compiler:
        monkeypatch.setenv("CXX", compiler)
        monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path))
    monkeypatch.delenv("VIDGEN_TENSORRT_LIBRARY", raising=False)
    profiles = (EngineProfile((1, 2, 4), (1, 1, 1)),)
    settings = EngineSettings(gpu=("sm_86", "sm_89", "sm_120"), builder="tensorrt-rtx", profiles=profiles)
    with pytest.raises(VidgenError) as caught:
        build_engine(
            node_model(taps),
            _interface(taps),
            settings,
            half=False,
            sepconv=form,
            advance=lambda *_: None,
            say=lambda _: None,
        )
    assert told in str(caught.value)
    assert ("apt-get install g++" if compiler else "--sepconv") in caught.value.fix
