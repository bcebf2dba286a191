"""Holes."""

from __future__ import annotations

from ctypes import byref, c_int
from typing import TYPE_CHECKING

from . import _arguments
from ._errors import Error
from ._library import check, load

if TYPE_CHECKING:
    from ._arrays import Memory
    from ._session import Session


class Hole:
    """A hole over part of the map: what is written there stays private until it is filled. For `with`."""

    def __init__(self, session: Session, array: Memory) -> None:
        pointer = session._pointer
        view = _arguments.memory("array", array)
        address = _arguments.address_of(view)
        number = c_int()
        self._session = session
        self._number = 0
        self.nbytes = view.nbytes
        self.offset = address - session.address if view.nbytes else 0
        try:
            check(load().dsm_hole_dig(pointer, address, view.nbytes, byref(number)))
            self._number = number.value
        except BaseException:
            if number.value:  # a signal handler has raised when it was dug; nothing is written yet
                load().dsm_hole_fill(pointer, number.value)
            raise

    def __repr__(self) -> str:
        state = "open" if self._number else "filled"
        return f'<dsm.Hole of {self.nbytes} bytes at byte {self.offset} of session "{self._session.name}", {state}>'

    def fill(self) -> None:
        """Publishes exactly the bytes that changed, as one entry of the order."""
        pointer = self._session._pointer
        number, self._number = self._number, 0
        if number == 0:
            raise Error("DSM_INVALID", f"this hole of {self.nbytes} bytes has been filled already")
        check(load().dsm_hole_fill(pointer, number))

    def __enter__(self) -> Hole:
        return self

    def __exit__(self, *_: object) -> None:
        if self._number:
            self.fill()
