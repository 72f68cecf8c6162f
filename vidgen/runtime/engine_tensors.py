"""A manifest for an engine that has none and is trusted all the same: what its own tensors tell."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from vidgen._files import sha256
from vidgen.errors import ArtifactError, VidgenError
from vidgen.models.config import G3ANConfig, ModelInterface
from vidgen.runtime.cuda import open_cuda
from vidgen.runtime.elsewhere import runs_elsewhere
from vidgen.runtime.engine_file import LoadedEngine, Tensor, dynamic_axis, load_engine
from vidgen.runtime.manifest import DEFAULT_FPS, Engine, EngineProfile, Manifest, Precision
from vidgen.runtime.tensorrt_library import load_tensorrt

#: First bytes of a .plan file -> the library that wrote it. Its version is in bytes 24 to 27.
MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}


def untold_manifest(artifact: Path) -> Manifest:
    """Open an engine without a manifest far enough to know its interface.

    Only G3AN can be told from tensors alone: its sizes that matter for sampling are shapes. Its width, frames a second,
    precision and origin are not in an engine; the manifest then says ``unknown`` or holds the default. An engine of
    TwoStreamVAN does not say how many classes there are, and is refused.

    Raises:
        ArtifactError: not an engine, or its tensors are not those of a G3AN.
        BackendError, MissingDependencyError: no device or library here, or the engine is for others.
    """
    library_name, version = _written_by(artifact)
    bare = _manifest(G3ANConfig(), "uint8", Engine(library_name, version, ()), sha256(artifact))
    with ExitStack() as stack:
        try:
            cuda = stack.enter_context(open_cuda())
            library = load_tensorrt(library_name, "run .plan files")
        except VidgenError as error:
            raise runs_elsewhere(artifact, bare, error) from error
        loaded = load_engine(library, cuda, artifact, None)
        stack.callback(loaded.close)
        config, output = _as_g3an(artifact, loaded.tensors)
        interface = config.interface(output)
        engine = Engine(library_name, version, _profiles(loaded, interface))
        return _manifest(config, output, engine, bare.sha256)


def _manifest(config: G3ANConfig, output: str, engine: Engine, digest: str) -> Manifest:
    return Manifest(
        model="g3an",
        config=config,
        interface=config.interface(output),
        fps=DEFAULT_FPS,
        precision=Precision("unknown"),
        sha256=digest,
        builder=f"{engine.library} {engine.version}, no manifest",
        engine=engine,
    )


def _written_by(artifact: Path) -> tuple[str, str]:
    """Library and version that wrote a .plan file, from its first bytes."""
    try:
        with artifact.open("rb") as file:
            head = file.read(28)
    except OSError as error:
        raise ArtifactError(
            f"cannot open engine {artifact}",
            seen=error.strerror or str(error),
            cause="a wrong path, or no permission to read it",
            fix=f"vidgen export CHECKPOINT.safetensors -o {artifact}",
        ) from error
    library = MAGIC.get(head[:4])
    if library is None or len(head) < 28:
        raise ArtifactError(
            f"cannot open engine {artifact}",
            seen=f"a file that begins with {head[:4]!r}, expected {' or '.join(map(repr, MAGIC))}",
            cause="not an engine of TensorRT or TensorRT-RTX, or cut off",
            fix=f"vidgen export CHECKPOINT.safetensors -o {artifact}",
        )
    return library, ".".join(str(number) for number in head[24:28])


def _as_g3an(artifact: Path, tensors: tuple[Tensor, ...]) -> tuple[G3ANConfig, str]:
    """Configuration and output of the G3AN whose interface these tensors are."""
    found = {tensor.name: tensor for tensor in tensors}
    if {"za", "zm", "video"} == set(found) and (len(found["za"].shape), len(found["zm"].shape)) == (2, 3):
        sizes = found["za"].shape[1], found["zm"].shape[1]
        if min(sizes) >= 1:
            config = G3ANConfig(c_a=sizes[0], c_m=sizes[1])
            output = found["video"].dtype
            if output in ("uint8", "float32") and _agrees(config.interface(output), found):
                return config, output
    labelled = "z_motion" in found
    raise ArtifactError(
        f"cannot run engine {artifact} without its manifest",
        seen=", ".join(f"{each.name} {each.dtype} {list(each.shape)}" for each in tensors)
        + ("; the number of classes is missing" if labelled else "; expected za, zm and video of a G3AN"),
        cause="an engine of TwoStreamVAN does not say how many classes the model has"
        if labelled
        else "these are not the inputs and outputs of a model of vidgen",
        fix=f"put its manifest {artifact.name}.json beside it, or: vidgen export CHECKPOINT.safetensors -o {artifact}",
    )


def _agrees(interface: ModelInterface, found: dict[str, Tensor]) -> bool:
    """Whether tensors have the names, types and sizes of an interface; a named size may be fixed in the engine."""
    for spec in (*interface.inputs, interface.output):
        tensor = found[spec.name]
        fits = len(tensor.shape) == len(spec.shape) and all(
            isinstance(wanted, str) or size == wanted for size, wanted in zip(tensor.shape, spec.shape, strict=True)
        )
        if not fits or tensor.dtype != spec.dtype or tensor.is_input != (spec in interface.inputs):
            return False
    return True


def _profiles(loaded: LoadedEngine, interface: ModelInterface) -> tuple[EngineProfile, ...]:
    batch = dynamic_axis(interface.inputs, "batch")
    return loaded.profiles(batch, dynamic_axis(interface.inputs, interface.frames.dimension))
