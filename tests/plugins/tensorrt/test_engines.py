"""Engines of TensorRT-RTX with the plugin inside, built without a GPU; what is refused is a reason, never an abort."""

from __future__ import annotations

import pytest
from plugins.tensorrt.models import SIZE, TARGETS, build, loop_model, node_model, node_shapes

from vidgen.errors import OperatorError, VidgenError
from vidgen.plugins.sepconv_trt.tensorrt import prepare, python_plugin


def has_plugin(plan: bytes) -> bool:
    """Whether an engine names the plugin and what it stores."""
    return b"SeparableConvolution" in plan and b"taps" in plan


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("taps", [5, 51])
@pytest.mark.parametrize("dynamic", [False, True])
def test_one_engine_for_three_architectures_has_the_plugin_inside(rtx, dtype, taps, dynamic):
    with prepare(rtx, "python", taps=taps, dtypes=[dtype]) as registration:
        plan = build(rtx, node_model(taps, dtype, dynamic=dynamic), node_shapes(taps))
        registration.raise_failure()
    assert plan and has_plugin(plan)


@pytest.mark.parametrize("target", TARGETS)
def test_an_engine_for_each_architecture(rtx, target):
    with prepare(rtx, "python", taps=5, dtypes=["float32"]):
        plan = build(rtx, node_model(5), node_shapes(5), [target])
    assert plan and has_plugin(plan)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_plugin_works_inside_of_a_loop(rtx, dtype):
    shapes = {name: [(batch, axis, SIZE, SIZE) for batch in (1, 2, 4)] for name, axis in
              (("input", 3), ("vertical", 5), ("horizontal", 5))} | {"latent": [(1,), (4,), (9,)]}  # fmt: skip
    with prepare(rtx, "python", taps=5, dtypes=[dtype]) as registration:
        plan = build(rtx, loop_model(5, dtype), shapes)
        registration.raise_failure()
    assert plan and has_plugin(plan)


def test_the_sampling_path_in_half_precision_has_it_in_its_loop(rtx):
    torch = pytest.importorskip("torch")
    from vidgen.export.pipeline import write_path
    from vidgen.export.precision import to_half
    from vidgen.models.config import TwoStreamVANConfig
    from vidgen.models.twostreamvan import Generator

    torch.manual_seed(0)
    config = TwoStreamVANConfig(n_cat=3, gf_dim=1, cont_dim=6, motion_dim=4, joint=False)
    generator = Generator(config).eval()
    model = write_path(generator, config.interface("uint8"), "tensorrt", "custom", opset=20, name="x", metadata={})
    half, _ = to_half(model, recurrent=True)
    del half.functions[:]
    shapes = {"z_content": [(1, 6), (2, 6), (4, 6)], "z_motion": [(1, 3, 4), (2, 8, 4), (4, 12, 4)],
              "label": [(1,), (2,), (4,)]}  # fmt: skip
    with prepare(rtx, "python", taps=config.ac_kernel, dtypes=["float32", "float16"]) as registration:
        plan = build(rtx, half.SerializeToString(), shapes)
        registration.raise_failure()
    assert plan and has_plugin(plan)


@pytest.mark.parametrize(
    ("model", "shapes", "told"),
    [
        (node_model(7), node_shapes(7), "vertical [?, 7, 8, 8], expected [?, 5, 8, 8]"),
        # Nothing is known while it is parsed: the profile tells.
        (node_model(7, dynamic=True), node_shapes(7), "vertical"),
        (node_model(5, halo=1), node_shapes(5, 1), "input [?, 3, 9, 9], expected [?, 3, 12, 12]"),
        (node_model(5, dynamic=True, halo=1), node_shapes(5, 1), "input"),
        (node_model(5, "float16"), node_shapes(5), "float16"),
        (node_model(5, "bfloat16"), node_shapes(5), "expected all float32"),
    ],
    ids=["taps", "taps later", "size", "size later", "half", "bfloat16"],
)
def test_what_does_not_fit_is_refused_and_the_reason_kept(rtx, capfd, model, shapes, told):
    with prepare(rtx, "python", taps=5, dtypes=["float32"]) as registration:
        assert build(rtx, model, shapes) is None
        with pytest.raises(OperatorError) as caught:
            registration.raise_failure()
    assert told in caught.value.seen and "--sepconv custom" in caught.value.fix


def test_a_node_without_a_plugin_is_refused_by_the_parser(rtx):
    with prepare(rtx, "python", taps=5, dtypes=["float32"]):
        assert build(rtx, node_model(5, name="AnotherConvolution"), node_shapes(5)) is None
    # And without any of ours, once it is withdrawn.
    assert build(rtx, node_model(5), node_shapes(5)) is None


def test_the_function_body_wins_over_the_plugin(rtx):
    with prepare(rtx, "python", taps=7, dtypes=["float32"]) as registration:
        # Taps that the plugin would refuse: it is not asked.
        plan = build(rtx, node_model(5, body=True), node_shapes(5))
        assert plan and not has_plugin(plan) and not registration.failures
        assert build(rtx, node_model(5), node_shapes(5)) is None


def test_a_later_registration_serves_what_is_parsed_later(rtx):
    first = prepare(rtx, "python", taps=3, dtypes=["float32"])
    second = prepare(rtx, "python", taps=9, dtypes=["float16"])
    first.close()
    assert build(rtx, node_model(9, "float16"), node_shapes(9))
    assert not second.failures
    second.close()
    assert build(rtx, node_model(9, "float16"), node_shapes(9)) is None


def test_many_builds_in_one_process_never_meet_in_memory(rtx, monkeypatch):
    """TensorRT deletes its half of a plugin at once, and what comes to lie there must not be taken for it."""
    places = []
    make = python_plugin.new_plugin

    def watched(*arguments):
        plugin = make(*arguments)
        places.append(python_plugin._address(plugin))
        return plugin

    monkeypatch.setattr(python_plugin, "new_plugin", watched)
    for _ in range(10):
        with prepare(rtx, "python", taps=5, dtypes=["float32"]):
            assert build(rtx, node_model(5), node_shapes(5))
            assert build(rtx, node_model(7, dynamic=True), node_shapes(7)) is None
    assert None not in places and len(set(places)) == len(places) > 40


def test_a_library_that_is_missing_or_no_library_is_told(rtx, tmp_path, monkeypatch):
    monkeypatch.delenv("VIDGEN_TENSORRT_LIBRARY", raising=False)
    with pytest.raises(VidgenError, match="VIDGEN_TENSORRT_LIBRARY is not set"):
        prepare(rtx, "library", taps=5, dtypes=["float32"])
    with pytest.raises(VidgenError, match="is no file"):
        prepare(rtx, "library", taps=5, dtypes=["float32"], path=tmp_path / "none.so")
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(VidgenError, match="no creator of SeparableConvolution"):
        prepare(rtx, "library", taps=5, dtypes=["float32"], path=broken)
    assert build(rtx, node_model(5), node_shapes(5)) is None


def test_the_embedded_form_is_for_classic_tensorrt(rtx):
    with pytest.raises(VidgenError, match="TensorRT-RTX has none"):
        prepare(rtx, "aot", taps=5, dtypes=["float32"])


@pytest.mark.parametrize("taps", [4, 0, 65, "5"])
def test_a_number_of_taps_without_a_kernel_is_refused_before_the_parser(rtx, taps):
    with pytest.raises(OperatorError, match="K = "):
        prepare(rtx, "python", taps=taps, dtypes=["float32"])


@pytest.mark.parametrize("dtypes", [[], ["bfloat16"], ["float32", "float64"]])
def test_dtypes_without_a_kernel_are_refused_before_the_parser(rtx, dtypes):
    with pytest.raises(OperatorError, match="expected float32 or float16"):
        prepare(rtx, "python", taps=5, dtypes=dtypes)
