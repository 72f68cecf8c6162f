"""Random programs of copies on several streams: what they must compute, and which waits they need."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from host_cuda import inside

from vidgen.runtime.cuda import open_cuda

STREAMS, BUFFERS, COUNT = 3, 4, 8


@dataclass(frozen=True)
class Step:
    """In a stream: buffer ``target`` becomes ``target + factor * source``."""

    stream: int
    target: int
    source: int
    factor: int


@dataclass(frozen=True)
class Program:
    """Steps, and the waits between them: (later, earlier) by number."""

    steps: tuple[Step, ...]
    waits: tuple[tuple[int, int], ...]

    def without(self, wait: tuple[int, int]) -> Program:
        """The same program with one wait left out."""
        return Program(self.steps, tuple(one for one in self.waits if one != wait))


def draw(seed: int, length: int = 10) -> Program:
    """A program with exactly the waits it needs: leaving out any of them leaves two steps in no order."""
    random = np.random.default_rng(seed)
    steps = tuple(
        Step(int(random.integers(STREAMS)), *map(int, random.permutation(BUFFERS)[:2]), int(random.integers(1, 5)))
        for _ in range(length)
    )
    before: list[set[int]] = []  # of each step, all steps that come before it
    waits: list[tuple[int, int]] = []
    for number, step in enumerate(steps):
        known: set[int] = set()
        same = [earlier for earlier in range(number) if steps[earlier].stream == step.stream]
        if same:
            known = {same[-1], *before[same[-1]]}
        # The latest first: what it waited for needs no wait of its own.
        for earlier in range(number - 1, -1, -1):
            other = steps[earlier]
            meet = other.target in (step.target, step.source) or other.source == step.target
            if meet and earlier not in known:
                waits.append((number, earlier))
                known |= {earlier, *before[earlier]}
        before.append(known)
    return Program(steps, tuple(waits))


def computed(program: Program) -> np.ndarray:
    """What the buffers hold at the end, step by step: [BUFFERS, COUNT], float64."""
    buffers = _first_values().astype(np.float64)
    for step in program.steps:
        buffers[step.target] += step.factor * buffers[step.source]
    return buffers


def _first_values() -> np.ndarray:
    return np.arange(BUFFERS * COUNT, dtype=np.float32).reshape(BUFFERS, COUNT)


def run(library: str, programs: list[Program]) -> list[np.ndarray]:
    """What each program leaves in its buffers."""
    return [_run(library, program) for program in programs]


def _run(library: str, program: Program) -> np.ndarray:
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        streams = [stack.enter_context(cuda.stream()) for _ in range(STREAMS)]
        memory = [stack.enter_context(cuda.allocate(4 * COUNT)).address for _ in range(BUFFERS)]
        done = [stack.enter_context(cuda.event()) for _ in program.steps]
        for address, values in zip(memory, _first_values()):
            cuda.to_device(address, values, streams[0])
        streams[0].synchronize()

        def work(step: Step) -> None:
            target, source = (inside.view(memory[index], np.float32, [COUNT]) for index in (step.target, step.source))
            target += step.factor * source

        for number, step in enumerate(program.steps):
            for later, earlier in program.waits:
                if later == number:
                    streams[step.stream].wait(done[earlier])
            ranges = [(memory[index], 4 * COUNT) for index in (step.source, step.target)]
            inside.enqueue(
                streams[step.stream].handle, lambda step=step: work(step), reads=ranges[:1], writes=ranges[1:]
            )
            done[number].record(streams[step.stream])
        for stream in streams:
            stream.synchronize()
        found = np.zeros((BUFFERS, COUNT), np.float32)
        for row, address in zip(found, memory):
            cuda.to_host(row, address, streams[0])
        streams[0].synchronize()
        return found
