"""Every error tells four parts and survives a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from vidgen import errors
from vidgen._imports import require

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VidgenError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_tells_what_was_seen_why_and_what_to_do(kind: type[errors.VidgenError]) -> None:
    error = kind("cannot", seen="1, expected 2", cause="because", fix="do")
    assert str(error) == "cannot - 1, expected 2 - because - do"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and again.to_dict() == error.to_dict()


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(errors.MissingDependencyError) as caught:
        require("onnxruntime", "run .onnx files")
    assert caught.value.fix == "pip install 'vidgen[cpu]'" and "run .onnx files" in str(caught.value)
