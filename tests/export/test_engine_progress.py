"""Progress goes forward alone, whatever phases a builder tells of, and an exception ends the build."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.export.engine_progress import TOTAL, Progress

NAMES = st.sampled_from(["engine", "graph", "tactics", "copies"])
EVENTS = st.one_of(
    st.tuples(st.just("start"), NAMES, st.integers(0, 50), st.just(0)),
    st.tuples(st.just("step"), NAMES, st.none(), st.integers(0, 60)),
    st.tuples(st.just("finish"), NAMES, st.none(), st.just(0)),
)


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=60))
def test_it_never_goes_back_and_never_beyond_the_end(events):
    told = []
    progress = Progress(lambda *what: told.append(what))
    assert all(progress.step(*event) for event in events)
    done = [each[0] for each in told]
    assert done == sorted(done) and all(0 <= value <= TOTAL for value in done)
    assert all(total == TOTAL for _, total, _ in told)
    assert all(before != after for before, after in itertools.pairwise(told))


def test_nested_phases_are_parts_of_their_step():
    told = []
    progress = Progress(lambda done, total, text: told.append((done, text)))
    progress.step("start", "engine", 2, 0)
    progress.step("start", "graph", 4, 0)
    for index in range(4):
        progress.step("step", "graph", None, index)
    progress.step("finish", "graph", None, 0)
    progress.step("step", "engine", None, 0)
    assert [each for each in told if each[1] == "graph"] == [(0, "graph"), *((n, "graph") for n in (12, 25, 37, 50))]
    assert told[-1] == (50, "engine")
    progress.finish()
    assert told[-1][0] == TOTAL


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError, ValueError])
def test_what_is_raised_ends_the_build_and_is_kept(error):
    calls = []

    def advance(*what):
        calls.append(what)
        raise error

    progress = Progress(advance)
    assert progress.step("start", "engine", 3, 0) is False
    assert progress.step("step", "engine", None, 0) is False
    assert isinstance(progress.failure, error) and len(calls) == 1


def test_threads_may_tell_at_once():
    told = []
    progress = Progress(lambda *what: told.append(what))
    progress.step("start", "engine", 400, 0)
    threads = [
        threading.Thread(
            target=lambda start=start: [progress.step("step", "engine", None, i) for i in range(start, 400, 8)]
        )
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each[0] for each in told] == sorted(each[0] for each in told)
