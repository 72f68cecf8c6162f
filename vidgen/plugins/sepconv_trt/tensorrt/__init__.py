"""The separable convolution as a TensorRT plugin: embedded in the engine, in Python, or in a library of C++."""

from vidgen.plugins.sepconv_trt.tensorrt.registration import FORMS, Registration, prepare

__all__ = ["FORMS", "Registration", "prepare"]
