"""Engines of both models are built here, for three GPUs at once that nobody here has."""

from __future__ import annotations

import itertools

import pytest
from export.engine_support import build_here, small_actor, small_g3an, write_actor, write_g3an
from onnx import TensorProto, helper

from vidgen.errors import ExportError
from vidgen.models.config import FramesRule, ModelInterface, TensorSpec
from vidgen.runtime.manifest import EngineProfile

pytest.importorskip("tensorrt_rtx")
#: 16 to 48 frames, and two ranges of batches.
PROFILES = (EngineProfile((1, 1, 4), (1, 1, 9)), EngineProfile((4, 8, 16), (1, 3, 9)))
MODES, ATTENTION, OUTPUTS, HALF = ("1p2d", "2p1d", "3d"), (False, True), ("uint8", "float32"), (False, True)
#: Each pair of values once: all of them are 24 builds, which the slow test does.
PAIRS = [
    ("1p2d", True, "uint8", True),
    ("2p1d", False, "uint8", False),
    ("3d", True, "float32", False),
    ("1p2d", False, "float32", True),
]
REST = [case for case in itertools.product(MODES, ATTENTION, OUTPUTS, HALF) if case not in PAIRS]


@pytest.mark.parametrize(
    ("mode", "attention", "output", "half"),
    PAIRS + [pytest.param(*case, marks=pytest.mark.slow) for case in REST],
)
def test_g3an_is_built_for_three_targets(filled, mode, attention, output, half):
    model, interface = write_g3an(filled(mode=mode, use_attention=attention), output, half=half)
    # Every profile is compiled for itself.
    profiles = PROFILES if half else PROFILES[:1]
    made = build_here(model, interface, half=half, profiles=profiles)
    engine = made.engine
    assert len(made.plan) > 1e6 and engine.profiles == profiles and engine.library == "tensorrt-rtx"
    assert engine.layers > engine.float_layers > 40
    if half:
        assert engine.half_layers > 0.85 * engine.float_layers
        kept = {name.partition("/")[2] for name in engine.kept_float32}
        assert kept <= {"Tanh", "Softmax", "Add", "Mul", "Round", "Clip"}
        assert len(engine.kept_float32) == engine.float_layers - engine.half_layers
    else:
        assert engine.half_layers == 0 and engine.kept_float32 == ()


#: Configuration, options of the artifact, output, half.
ACTORS = {
    "everything": ({}, {"masks": True}, "uint8", True),
    "first frame": ({"kernel_layer": 1, "joint": False}, {"conditional": True, "masks": True}, "float32", True),
    "no mask": ({"kernel_layer": 2, "no_mask": True, "use_bn": True, "gf_dim": 2}, {"masks": True}, "uint8", False),
}
SLOW_ACTORS = {
    f"{name}, {output}{', half' if half else ''}{', first frame' if conditional else ''}{', masks' if masks else ''}": (
        config,
        {"conditional": conditional, "masks": masks},
        output,
        half,
    )
    for name, config in {
        "joint": {},
        "nojoint": {"joint": False},
        "nomask": {"no_mask": True},
        "layer1": {"kernel_layer": 1},
        "layer3": {"kernel_layer": 3},
        "bn": {"use_bn": True, "gf_dim": 2},
        "taps1": {"ac_kernel": 1},
        "taps17": {"ac_kernel": 17, "kernel_layer": 1},
    }.items()
    for output, half, conditional, masks in (
        ("float32", False, False, False),
        ("float32", True, False, True),
        ("uint8", False, True, True),
        ("uint8", True, True, False),
        ("uint8", True, False, True),
    )
}


@pytest.mark.parametrize("case", [*ACTORS, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_ACTORS)])
def test_the_sampling_path_is_built_with_any_number_of_frames(actor, case):
    config, options, output, half = (ACTORS | SLOW_ACTORS)[case]
    model, interface = write_actor(actor(**config), output, half=half, **options)
    shortest = interface.frames.shortest
    profiles = (EngineProfile((1, 2, 4), (shortest, 11, 49)),)
    if config.get("kernel_layer") == 1:
        profiles += (EngineProfile((8, 8, 8), (shortest, shortest, 11)),)
    engine = build_here(model, interface, half=half, sepconv="inlined", profiles=profiles).engine
    assert engine.sepconv == "inlined" and engine.needs == () and engine.profiles == profiles
    # The body of the loop is in the network: every scale has hundreds of layers.
    assert engine.layers > 600
    assert engine.half_layers > 0.6 * engine.float_layers if half else engine.half_layers == 0


def test_the_share_of_half_does_not_depend_on_where_the_body_is(actor):
    """Counted in the parsed network alone: nothing is built."""
    shares = {}
    for sepconv in ("custom", "standard"):
        model, interface = write_actor(actor(kernel_layer=2), half=True, sepconv=sepconv)
        shares[sepconv] = _counted(model, interface)
    (floating, half), (same, about) = shares.values()
    # Of one call more or less is half: the rules of half precision go by names, which inlining changes.
    assert floating == same and abs(half - about) <= 1


def _counted(model, interface):
    from vidgen.export.engine_build import check_interface
    from vidgen.export.engine_count import count_layers
    from vidgen.runtime.tensorrt_library import load_tensorrt

    library = load_tensorrt("tensorrt-rtx", "count")
    logger = library.logger(lambda *_: None)
    builder = library.module.Builder(logger)
    network = builder.create_network(library.network_flags())
    parser = library.module.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString())
    check_interface(library, network, interface)
    count = count_layers(library, network)
    return count.floating, count.half


def test_half_that_is_not_half_is_refused():
    model, interface = small_g3an()
    with pytest.raises(ExportError, match="would not be half") as caught:
        build_here(model, interface, half=True)
    assert "0 of" in caught.value.seen and "block1" in caught.value.seen


def test_a_target_that_refuses_an_operation_is_named_with_it():
    model, interface = small_g3an()
    with pytest.raises(ExportError) as caught:
        build_here(model, interface, gpu=("sm_75", "sm_89"))
    error = caught.value
    assert "sm_75" in error.what and "sm_89" not in error.what
    assert "ConvTranspose of node block1." in error.seen
    assert "--fp16" in error.fix and "--gpu sm_89" in error.fix
    assert build_here(*small_g3an(half=True), half=True, gpu=("sm_75",)).plan


def test_an_operation_that_fits_into_no_workspace_is_said_so():
    model, interface = small_g3an()
    with pytest.raises(ExportError) as caught:
        build_here(
            model, interface, gpu=("sm_89",), workspace=2**20, profiles=(EngineProfile((64, 64, 64), (9, 9, 9)),)
        )
    assert "workspace" in caught.value.cause and "--workspace" in caught.value.fix


def _tiny(nodes, *, dtype=TensorProto.FLOAT, name="video"):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, "time"])],
        [helper.make_tensor_value_info(name, dtype, ["batch", 4, "time"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


TINY = ModelInterface(
    (TensorSpec("x", "float32", ("batch", 4, "time"), "normal"),),
    TensorSpec("video", "float32", ("batch", 4, "time"), "video"),
    FramesRule("x", 2, "time", 1, 0, 1),
)


def test_an_unknown_operator_is_named_before_the_parser_ends_the_process():
    model = _tiny([helper.make_node("Frobnicate", ["x"], ["video"], name="step/Frobnicate")])
    with pytest.raises(ExportError, match="step/Frobnicate"):
        build_here(model, TINY)


def test_a_node_without_a_body_never_reaches_the_parser():
    model, interface = small_actor(body=False)
    with pytest.raises(ExportError, match="SeparableConvolution") as caught:
        build_here(model, interface, sepconv="inlined")
    assert "--sepconv custom" in caught.value.fix


def test_a_body_that_would_go_before_the_plugin_is_refused():
    model, interface = small_actor()
    with pytest.raises(ExportError, match="python form"):
        build_here(model, interface, sepconv="python")


@pytest.mark.parametrize(
    ("name", "dtype", "nodes"),
    [
        ("movie", TensorProto.FLOAT, [helper.make_node("Relu", ["x"], ["movie"])]),
        ("video", TensorProto.FLOAT16, [helper.make_node("Cast", ["x"], ["video"], to=TensorProto.FLOAT16)]),
    ],
)
def test_another_model_is_not_built(name, dtype, nodes):
    with pytest.raises(ExportError, match="not the model") as caught:
        build_here(_tiny(nodes, dtype=dtype, name=name), TINY)
    assert "video float32 [?, 4, ?]" in caught.value.seen


def test_a_graph_that_the_parser_refuses_names_operator_and_node():
    """8-bit integers in the middle of a graph."""
    nodes = [
        helper.make_node("Cast", ["x"], ["bytes"], name="to_bytes", to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], ["turned"], name="turn", perm=[0, 2, 1]),
        helper.make_node("Cast", ["turned"], ["floats"], name="back", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["video"], name="turn_back", perm=[0, 2, 1]),
    ]
    with pytest.raises(ExportError) as caught:
        build_here(_tiny(nodes), TINY)
    assert "Cast of node to_bytes" in caught.value.seen and "sm_86" in caught.value.what


def test_flags_are_told_by_the_names_of_tensorrt(filled):
    model, interface = small_g3an()
    options = {"workspace": 2**30, "builder_optimization_level": 2, "weight_streaming": True, "tf32": True}
    engine = build_here(model, interface, gpu=("sm_89",), **options).engine
    assert engine.flags == (
        "STRONGLY_TYPED", "WORKSPACE=1073741824", "builder_optimization_level=2", "TF32", "WEIGHT_STREAMING",
    )  # fmt: skip
    weights = sum(value.numel() * 4 for value in filled(ch=2).parameters())
    assert 0.9 * weights < engine.streamable < 1.1 * weights


@pytest.mark.slow
@pytest.mark.parametrize(("half", "mebibytes"), [(False, 91), (True, 47)])
def test_the_largest_g3an(filled, half, mebibytes):
    model, interface = write_g3an(filled(ch=64, use_attention=True), half=half)
    made = build_here(model, interface, half=half, profiles=(EngineProfile((1, 16, 64), (1, 1, 1)),))
    assert len(made.plan) / 2**20 == pytest.approx(mebibytes, rel=0.05)
    assert made.engine.seconds < 60


@pytest.mark.slow
@pytest.mark.parametrize(("half", "mebibytes"), [(False, 143), (True, 76)])
def test_the_joint_model_of_37_million_parameters(actor, half, mebibytes):
    generator = actor(n_cat=10, gf_dim=16, cont_dim=512, motion_dim=64)
    model, interface = write_actor(generator, half=half)
    profile = EngineProfile((1, 4, 16), (2, 11, 48))
    made = build_here(model, interface, half=half, sepconv="inlined", profiles=(profile,))
    assert len(made.plan) / 2**20 == pytest.approx(mebibytes, rel=0.05)
    assert made.engine.seconds < 90


def test_the_plugin_in_python_gets_into_an_engine():
    """And the share of half is the same as with the body in the file."""
    model, interface = small_actor(half=True, body=False)
    profiles = (EngineProfile((1, 2, 4), (2, 2, 2)),)
    engine = build_here(model, interface, half=True, sepconv="python", profiles=profiles).engine
    assert engine.sepconv == "python" and len(engine.needs) == 1
    counted = _counted(*small_actor(half=True))
    assert counted == (engine.float_layers, engine.half_layers)
