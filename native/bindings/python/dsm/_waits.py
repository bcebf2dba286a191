"""Waits: a call of libdsm that waits for others, and that a signal handler written in Python can end.

Python runs the handlers of a program in the main thread, between the instructions of a program, and so not while a C
function waits. libdsm therefore asks after a signal (native/src/link/interrupts.h): then the handlers run, and if one
raises, as that of ^C does, the wait ends and what it raised comes out of the call.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional

from ._library import OK, OWNER_DIED, load

if TYPE_CHECKING:
    from ._session import Session

_Check = ctypes.CFUNCTYPE(ctypes.c_int)
_check_signals: Callable[[], int] = ctypes.pythonapi.PyErr_CheckSignals


class _Interrupts(ctypes.Structure):
    """struct dsm_interrupts."""

    _fields_ = [("check", _Check), ("status", ctypes.c_int32)]


class _Waiter:
    """What one wait asks: whether a handler has raised, and what."""

    def __init__(self) -> None:
        self.raised: Optional[BaseException] = None
        self._steps = self._run_handlers()
        next(self._steps)
        self.interrupts = _Interrupts(_Check(self._steps.__next__), -1)
        _made.append(self)

    def _run_handlers(self) -> Iterator[int]:
        # What a handler raises where a function begins is raised in its caller: here ctypes, which drops it. A generator
        # that goes on is inside its `try` already.
        while True:
            try:
                yield int(self.raised is not None)
                _check_signals()
            except GeneratorExit:
                return
            except BaseException as error:
                self.raised = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)

    @property
    def usable(self) -> bool:
        return getattr(self._steps, "gi_frame", None) is not None


# Waiters at rest. More than one is in use only while a handler that runs in a wait waits itself.
_resting: list[_Waiter] = []
# All of them: libdsm has the address of one that is in use.
_made: list[_Waiter] = []


# The sessions that the main thread waits in, the innermost last.
_waiting: list[Optional[Session]] = []


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def is_waiting(session: Session) -> bool:
    """Whether this thread waits in the session: then a signal handler runs."""
    return session in _waiting and _is_main_thread()


def wait(
    session: Optional[Session],
    function: Callable[..., int],
    *arguments: Any,
    undo: Optional[Callable[[int], object]] = None,
    needs_session: bool = True,
) -> int:
    """Calls a function that waits, of the session if there is one yet, and returns its status.

    `needs_session` False: the function finds the session by an address.

    `undo` gives back what the wait has got, when a handler raised too late to end it. Other threads than the main one run
    no handlers, and wait to the end.

    After a success neither this function nor its callers call anything more: Python runs handlers where it calls
    something, and one that raises there would leave a lock taken that no one knows of.
    """
    if session is not None:
        pointer = session._pointer
        if needs_session:
            arguments = (pointer, *arguments)
    if not _is_main_thread():
        return function(*arguments)
    interrupt_waits = load().dsm_interrupt_waits
    waiter = _resting.pop() if _resting else _Waiter()
    waiter.raised = None
    waiter.interrupts.status = -1
    depth = len(_waiting)
    before: Optional[int] = None
    try:
        _waiting.append(session)
        before = interrupt_waits(ctypes.addressof(waiter.interrupts))
        status = function(*arguments)
        interrupt_waits(before)
        if waiter.raised is not None:
            raise waiter.raised
        _resting.append(waiter)
        del _waiting[depth:]
        return status
    except BaseException:
        # A handler may also have raised when the call had returned, and its status is lost: so libdsm has kept it.
        interrupt_waits(before)
        del _waiting[depth:]
        if undo is not None and waiter.interrupts.status in (OK, OWNER_DIED):
            undo(waiter.interrupts.status)
        if waiter.usable and waiter not in _resting:
            _resting.append(waiter)
        raise
