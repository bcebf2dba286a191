"""Exceptions: what a failed call raises."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """A call that failed: `code` is the name of the status, such as "DSM_LOST"; the text says why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code

    def __repr__(self) -> str:
        return f"dsm.{type(self).__name__}({self.code!r}, {str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self))


class InvalidValue(Error, ValueError):
    """An argument that is out of range; the text names it, what was given and what is needed. DSM_INVALID."""


class InvalidType(Error, TypeError):
    """An argument of the wrong type; the text names it, what was given and what is needed. DSM_INVALID."""


class Timeout(Error, TimeoutError):
    """A wait whose time is over. DSM_TIMEOUT."""


class OwnerDied(Error):
    """A lock passed on because its last owner died, or left, while it had it: see `Lock`. DSM_OWNER_DIED."""


_CLASSES: dict[str, type[Error]] = {
    "DSM_INVALID": InvalidValue,
    "DSM_TIMEOUT": Timeout,
    "DSM_OWNER_DIED": OwnerDied,
}


def error_of(code: str, reason: str) -> Error:
    """The exception for a status."""
    return _CLASSES.get(code, Error)(code, reason)
