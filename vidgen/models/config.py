"""What a model is, without its weights: sizes, inputs, output and how many frames it makes. Needs no torch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from vidgen.errors import SamplingError, SettingsError

Dimension = int | str  # a fixed size, or the name of a dynamic one
G3AN_MODES = ("1p2d", "2p1d", "3d")
ATTENTION_MERGES = ("reference", "clean")
#: Frames that TwoStreamVAN's videos warm up for; the reference's driver drops them (spec twostreamvan 3.3).
WARM_UP_FRAMES = 2
#: Frames of the only clip length that TwoStreamVAN's video discriminator and the classifier take.
CLIP_FRAMES = 10
#: Heights of the scales at which TwoStreamVAN can apply motion.
MASK_SIZES = (8, 16, 32, 64)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an artifact.

    Attributes:
        dtype: NumPy name, e.g. ``"float32"``.
        shape: sizes; a string names a dynamic axis.
        kind: ``"normal"`` (standard normal noise), ``"label"`` (class index), ``"image"``, ``"video"``, ``"mask"``
            or ``"features"``.
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

    @property
    def shortest(self) -> int:
        """The shortest motion latent that makes a frame at all."""
        return next(length for length in itertools.count(1) if self.frames(length) >= 1)

    def frames(self, length: int) -> int:
        """Frames made from a motion latent of this length (>= 1)."""
        return self.scale * length + self.offset

    def length(self, frames: int) -> int:
        """The length of motion latent that makes this many frames.

        Raises:
            SamplingError: no length makes that number.
        """
        length, rest = divmod(frames - self.offset, self.scale)
        if rest or length < 1 or frames < 1:
            smallest = self.frames(self.shortest)
            near = max(smallest, self.frames(max(1, round((frames - self.offset) / self.scale))))
            raise SamplingError(
                f"cannot make videos of {frames} frames",
                seen=f"{frames} frames asked for, expected {smallest}, {smallest + self.scale}, "
                f"{smallest + 2 * self.scale}, ...",
                cause=f"a motion latent of length n makes {self.scale} n {self.offset:+d} frames",
                fix=f"use --frames {near}",
            )
        return length


@dataclass(frozen=True)
class ModelInterface:
    """Inputs, output and frame rule shared by a checkpoint and every artifact made from it (contracts 4).

    Attributes:
        extras: further outputs an artifact was asked to have, such as the masks of TwoStreamVAN.
    """

    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    frames: FramesRule
    extras: tuple[TensorSpec, ...] = ()


def _video_output(output: str, height: int, width: int) -> TensorSpec:
    if output == "uint8":
        return TensorSpec("video", "uint8", ("batch", "frames", height, width, 3), "video", (0.0, 255.0))
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
        _check_counts(self, "c_a", "c_m", "ch")
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


def _check_counts(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _bad_config(name, value, "a whole number of at least 1")


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
        _check_counts(self, "ch")

    def interface(self, output: str = "uint8") -> ModelInterface:
        """A discriminator makes no videos.

        Raises:
            SettingsError: always.
        """
        raise _no_generator(f"a G3AN {self.kind} discriminator")


@dataclass(frozen=True)
class TwoStreamVANConfig:
    """Sizes and options of a TwoStreamVAN generator, under the reference's flag names (spec twostreamvan 1).

    Attributes:
        n_cat: action classes. cont_dim, motion_dim: sizes of the latents. gf_dim: base width of the content stream.
        joint: motion is conditioned on content (without it: the -C ablation).
        no_mask: kernels are applied without the soft mask (-M).
        use_bn: batch norm in the content modules too.
        ac_kernel: size K of the adaptive kernels, odd. kernel_layer: scales with motion, 1 (64x64) to 4 (from 8x8).
    """

    n_cat: int = 10
    gf_dim: int = 16
    cont_dim: int = 512
    motion_dim: int = 64
    joint: bool = True
    no_mask: bool = False
    use_bn: bool = False
    ac_kernel: int = 5
    kernel_layer: int = 4
    n_channels: int = 3

    def __post_init__(self) -> None:
        _check_counts(self, "n_cat", "gf_dim", "cont_dim", "motion_dim", "ac_kernel", "kernel_layer", "n_channels")
        if self.ac_kernel % 2 == 0:
            raise _bad_config("ac_kernel", self.ac_kernel, "an odd number")
        if self.kernel_layer > len(MASK_SIZES):
            raise _bad_config("kernel_layer", self.kernel_layer, "1, 2, 3 or 4")
        if self.n_channels != 3:
            raise _bad_config("n_channels", self.n_channels, "3: the pixels are normalised as RGB")

    @property
    def scales(self) -> tuple[int, ...]:
        """Heights (= widths) at which motion is applied, ascending."""
        return MASK_SIZES[-self.kernel_layer :]

    def interface(self, output: str = "uint8", *, masks: bool = False, conditional: bool = False) -> ModelInterface:
        """Inputs and output of this generator as an artifact (contracts 4).

        Args:
            output: ``uint8``, or ``float32``: the raw output, which may leave [-1, 1] where motion acts on pixels.
            masks: add an output ``mask_R`` for each scale, float32 [batch, frames, R, R] in [0, 1]. With
                ``conditional`` the first frame, which no motion made, has masks of zeros.
            conditional: ``first_frame`` float32 [batch, 3, 64, 64] in [-1, 1] takes the place of ``z_content``;
                its reconstruction is the first frame of the video (spec twostreamvan 7, protocol 2).
        """
        content = TensorSpec("z_content", "float32", ("batch", self.cont_dim), "normal")
        if conditional:
            content = TensorSpec("first_frame", "float32", ("batch", self.n_channels, 64, 64), "image", (-1.0, 1.0))
        video = _video_output(output, 64, 64)
        if output == "float32":
            video = dataclasses.replace(video, range=None)
        return ModelInterface(
            inputs=(
                content,
                TensorSpec("z_motion", "float32", ("batch", "steps", self.motion_dim), "normal"),
                TensorSpec("label", "int64", ("batch",), "label", (0.0, float(self.n_cat - 1))),
            ),
            output=video,
            frames=FramesRule(
                "z_motion", 1, "steps", scale=1, offset=1 if conditional else 1 - WARM_UP_FRAMES, default=10
            ),
            extras=tuple(
                TensorSpec(f"mask_{size}", "float32", ("batch", "frames", size, size), "mask", (0.0, 1.0))
                for size in (self.scales if masks else ())
            ),
        )


@dataclass(frozen=True)
class TwoStreamVANDiscriminatorConfig:
    """Sizes of a TwoStreamVAN discriminator (spec twostreamvan 2).

    Attributes:
        kind: ``image`` (patches) or ``video`` (clips of 10 frames, with classes). n_cat: classes; 0 for images.
        ndf: base width; the reference's are 16 (image) and 64 (video).
    """

    kind: Literal["video", "image"]
    n_cat: int = 0
    ndf: int = 64

    def __post_init__(self) -> None:
        if self.kind not in ("video", "image"):
            raise _bad_config("kind", self.kind, "video or image")
        _check_counts(self, "ndf", *(("n_cat",) if self.kind == "video" else ()))

    def interface(self, output: str = "uint8") -> ModelInterface:
        """A discriminator makes no videos.

        Raises:
            SettingsError: always.
        """
        raise _no_generator(f"a TwoStreamVAN {self.kind} discriminator")


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of the clip classifier (spec twostreamvan 7).

    Attributes:
        n_class: outputs: ``n_actions``, or ``n_actions * actors`` with class = action + n_actions * actor.
        n_actions: action classes among them; 0 stands for ``n_class``.
        ndf: base width; the reference's option is 64.
    """

    n_class: int = 10
    ndf: int = 64
    n_actions: int = 0

    def __post_init__(self) -> None:
        if not self.n_actions:
            object.__setattr__(self, "n_actions", self.n_class)
        _check_counts(self, "n_class", "ndf", "n_actions")
        if self.n_class % self.n_actions:
            raise _bad_config("n_actions", self.n_actions, f"a divisor of n_class ({self.n_class})")

    def interface(self, output: str = "uint8") -> ModelInterface:
        """A classifier makes no videos.

        Raises:
            SettingsError: always.
        """
        raise _no_generator("a classifier")


@dataclass(frozen=True)
class ResNeXt3DConfig:
    """Sizes of a ResNeXt in 3-D (spec g3an 8.1).

    Attributes:
        layers: blocks of each; (3, 4, 23, 3) is ResNeXt-101. n_class: outputs of ``fc``.
        shortcut: ``B`` (1x1x1 convolution) or ``A`` (subsampling and zeros).
        sample_size, sample_duration: side and frames of the clips it was trained on; they set its pooling window.
    """

    layers: tuple[int, ...] = (3, 4, 23, 3)
    cardinality: int = 32
    shortcut: Literal["A", "B"] = "B"
    n_class: int = 400
    sample_size: int = 112
    sample_duration: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if len(self.layers) != 4 or not all(isinstance(n, int) and n >= 1 for n in self.layers):
            raise _bad_config("layers", self.layers, "four whole numbers of at least 1")
        if self.shortcut not in ("A", "B"):
            raise _bad_config("shortcut", self.shortcut, "A or B")
        _check_counts(self, "cardinality", "n_class", "sample_size", "sample_duration")

    def interface(self, output: str = "uint8") -> ModelInterface:
        """Raises:
        SettingsError: always; it makes no videos.
        """
        raise _no_generator("a ResNeXt-3D network")


@dataclass(frozen=True)
class ExtractorConfig:
    """A network that describes clips for scores; its graph is all there is of it.

    Attributes:
        network: name of the extractor. batch: items that are always computed together.
    """

    network: str
    batch: int

    def __post_init__(self) -> None:
        _check_counts(self, "batch")

    def interface(self, output: str = "uint8") -> ModelInterface:
        """Raises:
        SettingsError: always; it makes no videos.
        """
        raise _no_generator("an extractor of features")


def _no_generator(seen: str) -> SettingsError:
    return SettingsError(
        "cannot sample or export this network",
        seen=f"{seen}, expected a generator",
        cause="the file of another network was given",
        fix="use the generator's checkpoint: the .safetensors file at the top of the run's folder",
    )


_Generators = G3ANConfig | TwoStreamVANConfig
_Judges = (
    G3ANDiscriminatorConfig | TwoStreamVANDiscriminatorConfig | ClassifierConfig | ResNeXt3DConfig | ExtractorConfig
)
ModelConfig = _Generators | _Judges
#: Model name in a checkpoint -> its configuration.
CONFIGS: dict[str, type[ModelConfig]] = {
    "g3an": G3ANConfig,
    "g3an_discriminator": G3ANDiscriminatorConfig,
    "twostreamvan": TwoStreamVANConfig,
    "twostreamvan_discriminator": TwoStreamVANDiscriminatorConfig,
    "classifier": ClassifierConfig,
    "resnext3d": ResNeXt3DConfig,
    "extractor": ExtractorConfig,
}


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
