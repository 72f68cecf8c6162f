"""Sizes and random tensors for the kernels, and what they are to compute."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from plugins.cuda.emulation import reference
from plugins.cuda.emulation.emulator import Emulator

from vidgen.plugins.sepconv_trt.geometry import ARGUMENTS, DType, Kernel, launch_geometry

STORED: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
#: Half a unit in the last place of a result, relative.
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True)
class Case:
    """One launch."""

    kernel: Kernel
    dtype: DType
    taps: int
    batch: int
    channels: int
    height: int
    width: int
    group: int | None = None

    def __str__(self) -> str:
        sizes = "x".join(str(size) for size in (self.batch, self.channels, self.height, self.width))
        return f"{self.kernel}-{self.dtype}-k{self.taps}-{sizes}" + (f"-g{self.group}" if self.group else "")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by name, gradients included."""
        halo = self.taps - 1
        image = (self.batch, self.channels, self.height + halo, self.width + halo)
        kernels = (self.batch, self.taps, self.height, self.width)
        output = (self.batch, self.channels, self.height, self.width)
        return {
            "input": image, "vertical": kernels, "horizontal": kernels, "grad": output, "output": output,
            "grad_input": image, "grad_vertical": kernels, "grad_horizontal": kernels,
        }  # fmt: skip

    def inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Normal tensors in the dtype of the kernel."""
        random = np.random.default_rng(seed)
        names = ("input", "vertical", "horizontal", "grad")
        return {name: random.standard_normal(self.shapes[name]).astype(STORED[self.dtype]) for name in names}


def run(emulator: Emulator, case: Case, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The kernel's outputs, in its dtype."""
    launch = launch_geometry(
        case.kernel, case.batch, case.channels, case.height, case.width, case.taps, case.dtype, group=case.group
    )
    scalars = {"channels": case.channels, "height": case.height, "width": case.width}
    outputs = {name: (case.shapes[name], STORED[case.dtype]) for name in ARGUMENTS[case.kernel][1]}
    return emulator.run(launch, inputs, scalars, outputs)


def expected(case: Case, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same in float64, from the values as they are stored."""
    exact = {name: value.astype(np.float64) for name, value in inputs.items()}
    image, vertical, horizontal, grad = (exact[name] for name in ("input", "vertical", "horizontal", "grad"))
    if case.kernel == "forward":
        return {"output": reference.forward(image, vertical, horizontal)}
    if case.kernel == "backward_input":
        return {"grad_input": reference.backward_input(grad, vertical, horizontal)}
    of_vertical, of_horizontal = reference.backward_kernels(grad, image, vertical, horizontal)
    return {"grad_vertical": of_vertical, "grad_horizontal": of_horizontal}


def assert_right(case: Case, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    """Compare with float64: float32 sums, one rounding to the stored dtype, and infinities only where they belong."""
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = expected(case, inputs)
        magnitudes = expected(case, {name: np.abs(value) for name, value in inputs.items()})
    for name, exact in wanted.items():
        found = outputs[name].astype(np.float64)
        finite = np.isfinite(exact)
        wrong = np.count_nonzero(finite != np.isfinite(found))
        assert wrong == 0, f"{case}: {name} has {wrong} values that are finite and should not be, or the reverse"
        # float32 sums err relative to the sum of magnitudes; storing errs relative to the result.
        allowed = 16 * 2.0**-24 * magnitudes[name] + 1.01 * ROUNDING[case.dtype] * np.abs(exact) + 2.0**-25
        with np.errstate(invalid="ignore"):
            excess = np.where(finite, np.abs(found - exact) / allowed, 0)
        worst = np.unravel_index(np.argmax(excess), exact.shape)
        place = f"{name}{[int(index) for index in worst]}"
        assert excess[worst] <= 1, f"{case}: {place} is {found[worst]}, expected {exact[worst]}"
