"""What TensorRT says becomes an error with operator, node, target and a way out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vidgen.export.engine_errors import LONGEST_MESSAGE, MOST_MESSAGES, Messages, build_error, crash_error, parse_error
from vidgen.runtime.tensorrt_library import TensorRT

LIBRARY = TensorRT(None, "tensorrt-rtx", (1, 7, 1, 116))
GPU = ("sm_75", "sm_89")


def _built(*messages, gpu=GPU, workspace=None):
    said = Messages()
    for message in messages:
        said.listen("ERROR", message)
    return build_error(LIBRARY, said, gpu, workspace)


TURING = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:358: check_turing_op_compatibility] Cannot "
    "compile operation 'block1.conv_t.0/ConvTranspose_U3' for Turing (SM75): FP32 3D deconvolution is not supported. "
    "In compileGraph at /_src/x.cpp:2012)"
)


def test_a_refused_operation_is_named_with_its_target():
    error = _built(TURING)
    assert error.what == "cannot build the engine for sm_75"
    assert error.seen == "ConvTranspose of node block1.conv_t.0/ConvTranspose: FP32 3D deconvolution is not supported."
    assert error.fix == "export with --fp16, or leave sm_75 out: --gpu sm_89"


def test_a_single_target_cannot_be_left_out():
    assert _built(TURING, gpu=("sm_75",)).fix == "export with --fp16, or name another architecture: --gpu sm_86"


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("no tactics to implement the operation within workspace limit.", "--workspace"),
        ("Error Code 2: OutOfMemory (Requested size was 1 bytes.)", "--batch"),
        ("Error Code 1: Myelin (CHECK(graph().ssa_validation()) failed.)", "one architecture"),
    ],
)
def test_other_failures_say_what_to_do(message, word):
    error = _built(message, workspace=2**20)
    assert word in error.fix and message[-20:] in error.seen


def test_no_message_is_said_so():
    assert _built().seen == "TensorRT gave no reason"


def test_of_a_crashing_compiler_only_the_beginning_is_kept():
    said = Messages()
    for index in range(10 * MOST_MESSAGES):
        said.listen("ERROR", f"{index} " + "x" * 10 * LONGEST_MESSAGE)
        said.listen("INFO", "nothing")
    assert len(said.errors) == MOST_MESSAGES and max(map(len, said.errors)) == LONGEST_MESSAGE
    assert said.warnings == [] and len(build_error(LIBRARY, said, GPU, None).seen) <= 300


def test_the_parser_names_operator_and_node():
    def method(value):
        return lambda: value

    first = SimpleNamespace(
        desc=method("Assertion failed: no\n such thing"), node=method(7), node_name=method("a/Cast"),
        node_operator=method("Cast"),
    )  # fmt: skip
    parser = SimpleNamespace(num_errors=2, get_error=lambda index: first)
    error = parse_error(LIBRARY, parser, Messages(), GPU)
    assert error.seen == "Cast of node a/Cast: Assertion failed: no such thing (and 1 more)"
    assert error.what == "cannot build the engine for sm_75, sm_89" and "--for tensorrt" in error.fix
    silent = SimpleNamespace(num_errors=0, get_error=None)
    assert parse_error(LIBRARY, silent, Messages(), GPU).seen == "no message"


def test_a_crash_tells_its_signal_and_last_words():
    error = crash_error("tensorrt-rtx", -6, "one\n terminate called\n\n", GPU)
    assert "signal 6" in error.seen and error.seen.endswith("terminate called")
    assert "no message" in crash_error("tensorrt-rtx", -9, "", GPU).seen
