"""How layers with weights, and pooling, are written in ONNX; ``to_onnx`` looks them up here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    attributes: dict[str, Any] = {
        "kernel_shape": list(module.kernel_size),
        "strides": list(module.stride),
        "pads": list(pads),
    }
    if module.groups != 1:
        attributes["group"] = module.groups
    if isinstance(module, _Transposed) and any(module.output_padding):
        attributes["output_padding"] = list(module.output_padding)
    kind = "ConvTranspose" if isinstance(module, _Transposed) else "Conv"
    return writer.emit(node, kind, [source, *_weights(writer, node, module)], **attributes)


def _linear(writer: Writer, node: fx.Node) -> str:
    """Of a matrix only: Gemm knows no more axes."""
    module = writer.traced.get_submodule(str(node.target))
    assert writer.rank(node) == 2
    return writer.emit(node, "Gemm", [writer.name(node.args[0]), *_weights(writer, node, module)], transB=1)


def _pool(writer: Writer, node: fx.Node) -> str:
    module = writer.traced.get_submodule(str(node.target))
    assert isinstance(module, nn.MaxPool2d | nn.MaxPool3d | nn.AvgPool3d) and not module.ceil_mode
    axes = writer.rank(node.args[0]) - 2

    def each(value: int | tuple[int, ...]) -> list[int]:
        return [value] * axes if isinstance(value, int) else list(value)

    attributes = {"kernel_shape": each(module.kernel_size), "strides": each(module.stride)}
    if any(each(module.padding)):
        attributes["pads"] = each(module.padding) * 2
    # Padding counts as zeros in torch's average; here nobody pads one.
    assert not isinstance(module, nn.AvgPool3d) or "pads" not in attributes
    kind = "AveragePool" if isinstance(module, nn.AvgPool3d) else "MaxPool"
    return writer.emit(node, kind, [writer.name(node.args[0])], **attributes)


def _batch_norm(writer: Writer, node: fx.Node) -> str:
    """In evaluation mode; runtimes fold it into the convolution before it."""
    module = writer.traced.get_submodule(str(node.target))
    assert isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) and not module.training
    names = [f"{node.target}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    inputs = [writer.name(node.args[0]), *(writer.parameter(name) for name in names)]
    return writer.emit(node, "BatchNormalization", inputs, epsilon=module.eps)


def _leaky_relu(writer: Writer, node: fx.Node) -> str:
    module = writer.traced.get_submodule(str(node.target))
    assert isinstance(module, nn.LeakyReLU)
    return writer.emit(node, "LeakyRelu", [writer.name(node.args[0])], alpha=float(module.negative_slope))


def _relu6(writer: Writer, node: fx.Node) -> str:
    bounds = [writer.graph.constant(bound, "float32") for bound in (0.0, 6.0)]
    return writer.emit(node, "Clip", [writer.name(node.args[0]), *bounds])


LAYERS: dict[type[nn.Module], Handler] = {
    **dict.fromkeys((nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d), _convolution),
    nn.Linear: _linear,
    **dict.fromkeys((nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool3d), _pool),
    **dict.fromkeys((nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    nn.LeakyReLU: _leaky_relu,
    nn.ReLU6: _relu6,
}
