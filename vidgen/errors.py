"""The whole tree of errors a caller may catch, rooted at VidgenError."""

from __future__ import annotations


class VidgenError(Exception):
    """A mistake that the user can mend, told in four parts.

    Args:
        what: what failed, e.g. ``"cannot read clip store faces"``.
        seen: the value seen and what was expected.
        cause: the likely cause.
        fix: the exact next command, or the exact change to make.
    """

    def __init__(self, what: str, *, seen: str, cause: str, fix: str) -> None:
        super().__init__(what, seen, cause, fix)
        self.what = what
        self.seen = seen
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} - {self.seen} - {self.cause} - {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and data-loader workers pickle errors.
        return _rebuild, (type(self), self.what, self.seen, self.cause, self.fix)

    def to_dict(self) -> dict[str, str]:
        """The error as the JSON object that ``--json`` prints."""
        return {
            "type": type(self).__name__,
            "what": self.what,
            "seen": self.seen,
            "cause": self.cause,
            "fix": self.fix,
        }


def _rebuild(kind: type[VidgenError], what: str, seen: str, cause: str, fix: str) -> VidgenError:
    return kind(what, seen=seen, cause=cause, fix=fix)


class SettingsError(VidgenError):
    """An option, a TOML key or a combination of them is not acceptable."""


class MissingDependencyError(VidgenError):
    """A package of an extra that is not installed was needed."""


class StorageError(VidgenError):
    """A file could not be written: disk full, no permission, or it exists and may not be replaced."""


class DataError(VidgenError):
    """A video, frame folder or clip store cannot be used."""


class CheckpointError(VidgenError):
    """A checkpoint is truncated, foreign, unsafe, or does not fit the model."""


class TrainingError(VidgenError):
    """Training cannot start, go on or be resumed."""


class ExportError(VidgenError):
    """A model cannot be lowered to the artifact that was asked for."""


class VerificationError(ExportError):
    """An artifact does not compute what its checkpoint computes."""


class OperatorError(VidgenError):
    """An operator of ours was given tensors it cannot take."""


class ArtifactError(VidgenError):
    """An artifact or its manifest is missing, altered, or of an unknown kind."""


class BackendError(VidgenError):
    """A backend cannot load or run the artifact here."""


class SamplingError(VidgenError):
    """Sampling cannot start or go on as asked."""


class ScoreError(VidgenError):
    """A score cannot be computed: classes differ, clips are missing, or the classifier does not suit."""
