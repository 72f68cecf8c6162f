"""Separable convolution on CUDA: the kernel text, what compiles it, and what launches it from torch."""
