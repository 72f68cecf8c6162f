"""How layers with weights, and pooling, are written in ONNX; ``to_onnx`` looks them up here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx, nn

from vidgen.export.onnx_operators import Handler, Padded

if TYPE_CHECKING:
    from vidgen.export.to_onnx import Writer

_Transposed = nn.ConvTranspose2d | nn.ConvTranspose3d


def _weights(writer: Writer, node: fx.Node, module: nn.Module) -> list[str]:
    names = [writer.parameter(f"{node.target}.weight")]
    return names if module.bias is None else [*names, writer.parameter(f"{node.target}.bias")]


def _convolution(writer: Writer, node: fx.Node) -> str:
    module = writer.traced.get_submodule(str(node.target))
    assert isinstance(module, nn.Conv2d | nn.Conv3d | _Transposed)
    source = writer.argument(node.args[0])
    pads = tuple(int(size) for size in module.padding) * 2
    if isinstance(source, Padded):
        pads = tuple(own + more for own, more in zip(pads, source.pads, strict=True))
        source = source.name
    attributes = {"kernel_shape": list(module.kernel_size), "strides": list(module.stride), "pads": list(pads)}
    if isinstance(module, _Transposed) and any(module.output_padding):
        attributes["output_padding"] = list(module.output_padding)
    kind = "ConvTranspose" if isinstance(module, _Transposed) else "Conv"
    return writer.emit(node, kind, [source, *_weights(writer, node, module)], **attributes)


def _linear(writer: Writer, node: fx.Node) -> str:
    """Of a matrix only: Gemm knows no more axes."""
    module = writer.traced.get_submodule(str(node.target))
    assert writer.rank(node) == 2
    return writer.emit(node, "Gemm", [writer.name(node.args[0]), *_weights(writer, node, module)], transB=1)


def _max_pool(writer: Writer, node: fx.Node) -> str:
    module = writer.traced.get_submodule(str(node.target))
    assert isinstance(module, nn.MaxPool2d) and isinstance(module.kernel_size, int) and module.padding == 0
    size = [module.kernel_size] * 2
    return writer.emit(node, "MaxPool", [writer.name(node.args[0])], kernel_shape=size, strides=size)


LAYERS: dict[type[nn.Module], Handler] = {
    **dict.fromkeys((nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d), _convolution),
    nn.Linear: _linear,
    nn.MaxPool2d: _max_pool,
}
