"""Keeps why a plugin refused: TensorRT swallows what a callback raises, prints it and fails later in its own words."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from vidgen.errors import BackendError, VidgenError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class _Service(Protocol):
    @property
    def failures(self) -> list[VidgenError]: ...


class _Served(Protocol):
    @property
    def service(self) -> _Service: ...


_Owner = TypeVar("_Owner", bound=_Served)


def told(
    callback: Callable[Concatenate[_Owner, _Parameters], _Result],
) -> Callable[Concatenate[_Owner, _Parameters], _Result]:
    """A method that appends what it raises to ``self.service.failures``, for whoever called TensorRT to raise."""

    @functools.wraps(callback)
    def wrapped(self: _Owner, /, *arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        try:
            return callback(self, *arguments, **named)
        except VidgenError as error:
            # A copy has no traceback, which would keep what TensorRT lent to the callback beyond the call.
            self.service.failures.append(copy.copy(error))
            raise
        except Exception as error:
            self.service.failures.append(_unforeseen(callback.__name__, error))
            raise

    return wrapped


def _unforeseen(name: str, error: Exception) -> BackendError:
    return BackendError(
        f"the plugin of the separable convolution failed in {name}",
        seen=f"{type(error).__name__}: {error}",
        cause="a version of TensorRT that calls plugins otherwise",
        fix="export again with --sepconv custom, which needs no plugin",
    )
