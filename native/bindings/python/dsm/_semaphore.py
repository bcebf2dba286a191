"""Semaphores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Optional

from . import _arguments
from ._library import AGAIN, OK, check, load, reason_of
from ._waits import wait

if TYPE_CHECKING:
    from ._session import Session

_VALUE_MAX = 2**31 - 1


class Semaphore:
    """A named semaphore, shared by the session. It exists from its first use on.

    Waits are granted first come, first served; in direct mode a wait may be overtaken for its first 0.2 s.
    """

    def __init__(self, session: Session, name: str, initial: int = 1) -> None:
        self._session = session
        self._encoded = _arguments.text("name", name)
        self.name = name
        self._initial = _arguments.whole("initial", initial, _VALUE_MAX)

    def __repr__(self) -> str:
        return f'<dsm.Semaphore "{self.name}" of session "{self._session.name}", initially {self._initial}>'

    def wait(self, *unnamed: NoReturn, timeout: Optional[float] = None, timeout_ms: Optional[int] = None) -> None:
        """Takes one; raises dsm.Timeout if there was none within `timeout` seconds (or `timeout_ms`)."""
        library, limit_ms = load(), _arguments.milliseconds(timeout, timeout_ms, unnamed)
        if limit_ms < 0:
            status = wait(self._session, library.dsm_sem_wait, self._encoded, self._initial, undo=self._undo)
        else:
            call = library.dsm_sem_timedwait
            status = wait(self._session, call, self._encoded, self._initial, limit_ms, undo=self._undo)
        # Nothing is called after success: Python runs handlers at calls, and what the wait has got would be lost.
        if status != OK:
            raise reason_of(status)

    def try_wait(self) -> bool:
        """Takes one if there is one, else returns False."""
        status = wait(self._session, load().dsm_sem_trywait, self._encoded, self._initial, undo=self._undo)
        if status == OK:
            return True
        if status == AGAIN:
            return False
        raise reason_of(status)

    def post(self) -> None:
        """Adds one: the first that waits goes on."""
        check(load().dsm_sem_post(self._session._pointer, self._encoded, self._initial))

    def _undo(self, _: int) -> None:
        load().dsm_sem_post(self._session._handle, self._encoded, self._initial)

    def __enter__(self) -> Semaphore:
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.post()
