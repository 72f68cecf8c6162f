"""The kernel as a custom-operator library of ONNX Runtime; without torch."""

from __future__ import annotations

from pathlib import Path

from vidgen.plugins.sepconv_trt import native

#: The operator as every .onnx file that uses it spells it.
MARK = b"SeparableConvolution"


def custom_op_library() -> Path | None:
    """The library for ``SessionOptions.register_custom_ops_library``, built at first use.

    It serves ``vidgen::SeparableConvolution`` version 1 on the CPU, in float32, float64 and float16 (summed in
    float32), with onnxruntime 1.17 or later. A file that carries the function body runs without it too, slower.

    Returns:
        None where it cannot be built (said once, as a warning) or ``VIDGEN_SEPCONV=portable``.

    Raises:
        SettingsError: ``$VIDGEN_SEPCONV`` is neither auto nor portable.
    """
    return native.library_path()


def is_needed(model: bytes) -> bool:
    """Whether a serialised model names the operator."""
    return MARK in model
