"""What a model is, without its weights: sizes, inputs, output and how many frames it makes. Needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from vidgen.errors import SamplingError, SettingsError

Dimension = int | str  # a fixed size, or the name of a dynamic one
G3AN_MODES = ("1p2d", "2p1d", "3d")
ATTENTION_MERGES = ("reference", "clean")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an artifact.

    Attributes:
        dtype: NumPy name, e.g. ``"float32"``.
        shape: sizes; a string names a dynamic axis.
        kind: ``"normal"`` (standard normal noise), ``"label"`` (class index) or ``"video"``.
        range: smallest and largest value; None where unbounded.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]
    kind: str
    range: tuple[float, float] | None = None

    def resolve(self, **sizes: int) -> tuple[int, ...]:
        """The shape with each dynamic axis replaced by the size given for its name."""
        return tuple(sizes[d] if isinstance(d, str) else d for d in self.shape)


@dataclass(frozen=True)
class FramesRule:
    """How the length of the motion latent sets the number of frames: ``scale * length + offset``.

    Attributes:
        input: name of the motion latent. ``axis``: its dynamic axis. ``dimension``: that axis's name.
        default: the number of frames the model was trained for.
    """

    input: str
    axis: int
    dimension: str
    scale: int
    offset: int
    default: int

    def frames(self, length: int) -> int:
        """Frames made from a motion latent of this length (>= 1)."""
        return self.scale * length + self.offset

    def length(self, frames: int) -> int:
        """The length of motion latent that makes this many frames.

        Raises:
            SamplingError: no length makes that number.
        """
        length, rest = divmod(frames - self.offset, self.scale)
        if rest or length < 1:
            smallest = self.frames(1)
            near = max(smallest, self.frames(max(1, round((frames - self.offset) / self.scale))))
            raise SamplingError(
                f"cannot make videos of {frames} frames",
                seen=f"{frames} frames asked for, expected {smallest}, {smallest + self.scale}, "
                f"{smallest + 2 * self.scale}, ...",
                cause=f"a motion latent of length n makes {self.scale} n + {self.offset} frames",
                fix=f"use --frames {near}",
            )
        return length


@dataclass(frozen=True)
class ModelInterface:
    """Inputs, output and frame rule shared by a checkpoint and every artifact made from it (contracts 4)."""

    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    frames: FramesRule


def _video_output(output: str, height: int, width: int) -> TensorSpec:
    if output == "uint8":
        return TensorSpec("video", "uint8", ("batch", "frames", height, width, 3), "video", (0, 255))
    return TensorSpec("video", "float32", ("batch", 3, "frames", height, width), "video", (-1.0, 1.0))


@dataclass(frozen=True)
class G3ANConfig:
    """Sizes of a G3AN generator (spec g3an 1.1).

    Attributes:
        c_a: appearance noise size. c_m: motion noise size. ch: base width.
        mode: factorisation of the video stream: ``1p2d``, ``2p1d`` or ``3d``.
        use_attention: factorised self-attention before block5.
        attention_merge: ``reference`` reinterprets memory as the official program does (1.4);
            ``clean`` permutes axes, and must not be used with official weights.
    """

    c_a: int = 128
    c_m: int = 10
    ch: int = 64
    mode: Literal["1p2d", "2p1d", "3d"] = "1p2d"
    use_attention: bool = True
    attention_merge: Literal["reference", "clean"] = "reference"

    def __post_init__(self) -> None:
        for name in ("c_a", "c_m", "ch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _bad_config(name, value, "a whole number of at least 1")
        if self.mode not in G3AN_MODES:
            raise _bad_config("mode", self.mode, "one of " + ", ".join(G3AN_MODES))
        if self.attention_merge not in ATTENTION_MERGES:
            raise _bad_config("attention_merge", self.attention_merge, "one of " + ", ".join(ATTENTION_MERGES))
        if self.use_attention and self.ch % 2:
            raise _bad_config("ch", self.ch, "an even number when attention is on (4 ch must divide by 8)")

    def interface(self, output: str = "uint8") -> ModelInterface:
        """Inputs and output of this generator as an artifact; ``output`` is ``uint8`` or ``float32``."""
        return ModelInterface(
            inputs=(
                TensorSpec("za", "float32", ("batch", self.c_a), "normal"),
                TensorSpec("zm", "float32", ("batch", self.c_m, "time"), "normal"),
            ),
            output=_video_output(output, 64, 64),
            frames=FramesRule("zm", 2, "time", scale=4, offset=12, default=16),
        )


def _bad_config(name: str, value: object, expected: str) -> SettingsError:
    return SettingsError(
        "cannot build the model",
        seen=f"{name} = {value!r}, expected {expected}",
        cause="the configuration does not describe a model of this family",
        fix=f"set {name} to {expected}",
    )


@dataclass(frozen=True)
class G3ANDiscriminatorConfig:
    """Sizes of a G3AN discriminator (spec g3an 2).

    Attributes:
        kind: ``video`` or ``image``. ch: base width.
    """

    kind: Literal["video", "image"]
    ch: int = 64

    def __post_init__(self) -> None:
        if self.kind not in ("video", "image"):
            raise _bad_config("kind", self.kind, "video or image")
        if not isinstance(self.ch, int) or isinstance(self.ch, bool) or self.ch < 1:
            raise _bad_config("ch", self.ch, "a whole number of at least 1")

    def interface(self, output: str = "uint8") -> ModelInterface:
        """A discriminator makes no videos.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(
            "cannot sample or export a discriminator",
            seen=f"a G3AN {self.kind} discriminator, expected a generator",
            cause="the file of another network of the same run was given",
            fix="use the generator's checkpoint (G_*.safetensors)",
        )


ModelConfig = G3ANConfig | G3ANDiscriminatorConfig
#: Model name in a checkpoint -> its configuration.
CONFIGS: dict[str, type[ModelConfig]] = {"g3an": G3ANConfig, "g3an_discriminator": G3ANDiscriminatorConfig}


def config_from(model: str, values: Mapping[str, Any]) -> ModelConfig:
    """The configuration object of a model from its name and plain values (JSON, TOML).

    Raises:
        SettingsError: unknown model, unknown key or unacceptable value.
    """
    if model not in CONFIGS:
        raise SettingsError(
            f"unknown model {model!r}",
            seen=f"{model!r}, expected one of {', '.join(sorted(CONFIGS))}",
            cause="the file was made by another program or a newer version",
            fix="pip install -U vidgen",
        )
    kind = CONFIGS[model]
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise SettingsError(
            f"cannot read the configuration of a {model} model",
            seen=f"unknown key {unknown[0]!r}, expected some of {', '.join(sorted(known))}",
            cause="the file was made by a newer version",
            fix="pip install -U vidgen",
        )
    return kind(**cast(dict[str, Any], dict(values)))
