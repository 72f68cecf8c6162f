"""Separable convolution: its definition, its kernels, its ONNX form and its TensorRT plugin."""
