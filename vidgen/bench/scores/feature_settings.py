"""What statistics and scores over features are asked for: settings of `vidgen stats` and `vidgen score`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vidgen.bench.scores.intervals import REPLICATES
from vidgen.bench.scores.protocols import PROTOCOLS
from vidgen.errors import SettingsError
from vidgen.runtime.latents import LIMIT

#: Videos of an artifact where nobody says how many: the reference's number (spec g3an 7).
VIDEOS = 5000
SPLITS = ("all", "train", "held-out")
#: Videos of each artifact that are compared pixel by pixel with those of the first.
COMPARED = 64
#: Appearances, and motions, that a grid may have.
GRID_SIDES = range(2, 257)


@dataclass(frozen=True)
class ClipSettings:
    """Which clips, and how their features are taken; shared by statistics and scores.

    Attributes:
        protocol: ``clean`` or ``g3an``.
        extractor: name in the registry, or a file.
        weights: of a registered extractor that finds none by itself.
        n: videos of an artifact (5000 when None); of a folder or store that many drawn by the seed, all when None.
        frames: of each clip that are looked at, from its middle; what the protocol or extractor says when None.
        seed: of latents, of clips drawn, and of resampling.
        labels: classes an artifact is asked for, in turn; drawn from the seed when empty.
        batch: videos computed together; the artifact's own when None.
        split, held_out, split_seed: which clips of a store, see :class:`~vidgen.bench.scores.clip_sources.StoreClips`.
        frame_step: take each n-th frame of videos and stored clips, as training did.
        features: keep the features themselves, for kernel distances, precision and recall, and intervals.
        backend, device, threads, trust: as for sampling; device and threads are the extractor's too.
        resume: go on with an interrupted run.
    """

    protocol: str = "clean"
    extractor: str | None = None
    weights: Path | None = None
    n: int | None = None
    frames: int | None = None
    seed: int = 0
    labels: tuple[str, ...] = ()
    batch: int | None = None
    split: str = "all"
    held_out: float = 0.1
    split_seed: int = 0
    frame_step: int = 1
    features: bool = True
    backend: str | None = None
    device: str = "cpu"
    threads: int | None = None
    trust: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        for name in ("n", "frames", "batch", "frame_step", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise bad(name, value, "at least 1")
        if self.n is not None and self.n < 2:
            raise bad("n", self.n, "at least 2: one clip has no covariance")
        if not 0 <= self.seed < LIMIT:
            raise bad("seed", self.seed, f"0 to {LIMIT - 1}")
        if self.protocol not in PROTOCOLS:
            raise bad("protocol", self.protocol, "one of " + ", ".join(PROTOCOLS))
        if self.split not in SPLITS:
            raise bad("split", self.split, "one of " + ", ".join(SPLITS))
        if not 0 < self.held_out < 1:
            raise bad("held_out", self.held_out, "above 0 and below 1")


@dataclass(frozen=True)
class StatsSettings(ClipSettings):
    """What `vidgen stats` takes the statistics of.

    Attributes:
        source: artifact, folder of videos, or clip store. out: .npz file to write.
        shard: ``"i/n"``, i from 0: every n-th clip, or group of videos normalised together, from the i-th on.
    """

    source: Path = Path()
    out: Path = Path("stats.npz")
    shard: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "source", Path(self.source))
        object.__setattr__(self, "out", Path(self.out))
        self.shard_of  # noqa: B018 - it says whether the text can be read
        if self.out.suffix != ".npz":
            raise bad("out", self.out, "a name that ends with .npz")

    @property
    def shard_of(self) -> tuple[int, int]:
        """This shard, from 0, and the number of shards; (0, 1) for the whole."""
        if self.shard is None:
            return 0, 1
        match = re.fullmatch(r"([0-9]{1,6})/([1-9][0-9]{0,5})", self.shard)
        if match is None or int(match[1]) >= int(match[2]):
            raise bad("shard", self.shard, "i/n with i from 0 to n - 1")
        return int(match[1]), int(match[2])


@dataclass(frozen=True)
class FeatureScoreSettings(ClipSettings):
    """What `vidgen score` compares with reference data over features.

    Attributes:
        reference: statistics file, clip store, folder of videos, or artifact. Statistics of data are cached.
        engines: artifacts; all get the same latents. videos: folders of videos, or clip stores.
        replicates: resamplings behind the intervals that need them (Inception Score, entropies, temporal
            consistency, disentanglement); 0 leaves out those of the Fréchet distance too.
        infinity: also extrapolate the distance to infinitely many clips.
        disentanglement: ``"AxM"``: also judge a grid of A appearances x M motions of each artifact.
        compared: videos of each artifact whose pixels are compared with the first one's; 0 compares none.
        out: JSON file to write.
    """

    reference: Path | None = None
    engines: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    replicates: int = REPLICATES
    infinity: bool = False
    disentanglement: str | None = None
    compared: int = COMPARED
    out: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("engines", "videos"):
            object.__setattr__(self, name, tuple(Path(path) for path in getattr(self, name)))
        for name in ("replicates", "compared"):
            if getattr(self, name) < 0:
                raise bad(name, getattr(self, name), "0 or more")
        if self.out is not None and Path(self.out).suffix == ".npz":
            raise bad("out", self.out, "the name of a report, e.g. scores.json")
        self.grid  # noqa: B018 - it says whether the text can be read
        command = f"vidgen score --protocol {self.protocol}"
        if self.reference is None:
            raise SettingsError(
                "nothing to compare with",
                seen="no reference",
                cause="--reference was left out; features say something beside other features only",
                fix=f"{command} --engine MODEL.onnx --reference DATA (or STATS.npz of vidgen stats)",
            )
        if not self.engines and not self.videos:
            raise SettingsError(
                "nothing to score",
                seen="neither an artifact nor videos",
                cause="both --engine and --videos were left out",
                fix=f"{command} --engine MODEL.onnx --reference {self.reference}",
            )

    @property
    def grid(self) -> tuple[int, int] | None:
        """Appearances and motions of the grid that disentanglement is judged by."""
        if self.disentanglement is None:
            return None
        match = re.fullmatch(r"([0-9]{1,4})[xX]([0-9]{1,4})", self.disentanglement)
        sides = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(side in GRID_SIDES for side in sides):
            expected = f"AxM, appearances x motions, each {GRID_SIDES[0]} to {GRID_SIDES[-1]}, e.g. 16x16"
            raise bad("disentanglement", self.disentanglement, expected)
        return sides


#: Fields whose option has another name.
_OPTIONS = {"n": "-n", "out": "-o", "engines": "--engine"}


def bad(name: str, value: object, expected: str) -> SettingsError:
    """The error of a setting that is out of range."""
    option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
    return SettingsError(
        f"cannot take features with {option} {value}",
        seen=f"{str(value) if isinstance(value, Path) else value!r}, expected {expected}",
        cause="the option is out of range",
        fix=f"see vidgen {'stats' if name in ('out', 'shard') else 'score'} --help about {option}",
    )
