"""Sizes of TwoStreamVAN's networks and its classifier from the shapes of their tensors (spec twostreamvan 1, 2, 7)."""

from __future__ import annotations

from vidgen.errors import SettingsError
from vidgen.models.config import ClassifierConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.official_reader import ShapeReader, Shapes

_EXAMPLE = "latest_model.pth.tar"


def infer_twostreamvan_config(shapes: Shapes, *, source: str = "the checkpoint") -> TwoStreamVANConfig:
    """The sizes of a TwoStreamVAN generator. ``no_mask`` leaves no trace in the tensors and comes out False.

    Raises:
        CheckpointError: the tensors are not those of a TwoStreamVAN generator, or their sizes contradict each other.
    """
    reader = ShapeReader(shapes, "a TwoStreamVAN generator", source, _EXAMPLE)
    gf, channels, *_ = reader.shape("contEnc.encode_cnn.0.weight", 4)
    cont_dim, content_inputs = reader.shape("contSampler.mean.weight", 2)
    motion_dim, _ = reader.shape("motionSampler.mean.weight", 2)
    n_cat = content_inputs - 32 * gf
    if n_cat < 1:
        raise reader.refusal(
            f"contSampler.mean takes {content_inputs} inputs and contEnc is {gf} wide, which leaves {n_cat} action "
            "classes, expected 32 gf_dim + n_cat inputs with n_cat at least 1"
        )
    # The same sizes again in other layers: the bytes of the file, not its claims, bound what is built from them.
    reader.expect("motionSampler.mean.weight", (motion_dim, 512 + n_cat))
    reader.expect("trajGenerator.fc_block.0.weight", (1024, motion_dim + n_cat))
    reader.expect("contMotionStateGen.fc_cont1.0.weight", (32 * gf, cont_dim + n_cat))
    reader.expect("videoDec.conv1_block.0.weight", (gf, 8 * gf, 3, 3))
    joint = reader.has("contMotionStateGen.fc_motion.") or reader.has("contMotionStateGen.fc_comb.")
    if joint:
        reader.expect("contMotionStateGen.fc_comb.0.weight", (1024, 2048 * gf))
    try:
        return TwoStreamVANConfig(
            n_cat=n_cat,
            gf_dim=gf,
            cont_dim=cont_dim,
            motion_dim=motion_dim,
            joint=joint,
            use_bn=reader.has("contEnc.fc1_block.1."),
            ac_kernel=reader.shape("kernelGen.kernel_h_block5.0.weight", 4)[0],
            kernel_layer=_kernel_layer(reader),
            n_channels=channels,
        )
    except SettingsError as error:
        raise reader.refusal(error.seen) from error


def _kernel_layer(reader: ShapeReader) -> int:
    """At how many scales motion acts: the branches are those of the largest scales (spec 1.6)."""
    branches = [number for number in (2, 3, 4, 5) if reader.has(f"kernelGen.branch_block{number}.")]
    if branches != [2, 3, 4, 5][-len(branches) :]:
        raise reader.refusal(f"kernelGen has branches {branches}, expected [5], [4, 5], [3, 4, 5] or [2, 3, 4, 5]")
    return len(branches)


def infer_main_config(
    shapes: Shapes, *, source: str = "the checkpoint"
) -> TwoStreamVANDiscriminatorConfig | ClassifierConfig:
    """The kind and sizes of a network whose layers are all in ``main``: either discriminator, or the classifier.

    ``n_actions`` of a classifier leaves no trace in the tensors and comes out as the number of its classes.

    Raises:
        CheckpointError: the tensors are not those of any of the three.
    """
    network = "a TwoStreamVAN discriminator or classifier"
    reader = ShapeReader(shapes, network, source, _EXAMPLE)
    # The discriminators' first convolution is number 1: a place is kept for a noise layer before it.
    if "main.0.weight" in shapes:
        ndf = reader.shape("main.0.weight", 5)[0]
        reader.expect("main.8.weight", (8 * ndf, 4 * ndf, 4, 4, 4))
        return ClassifierConfig(reader.shape("main.11.weight", 5)[0], ndf)
    first = reader.shape("main.1.weight")
    ndf = first[0]
    if len(first) == 4:
        reader.expect("main.8.weight", (4 * ndf, 2 * ndf, 4, 4))
        return TwoStreamVANDiscriminatorConfig("image", 0, ndf)
    if len(first) != 5:
        raise reader.refusal(f"main.1.weight is {list(first)}, expected 4 axes (images) or 5 (clips)")
    reader.expect("main.12.weight", (8 * ndf, 4 * ndf, 4, 4, 4))
    outputs = reader.shape("main.15.weight", 5)[0]
    if outputs < 2:
        raise reader.refusal(f"main.15 gives {outputs} output, expected 1 + n_cat with n_cat at least 1")
    return TwoStreamVANDiscriminatorConfig("video", outputs - 1, ndf)
