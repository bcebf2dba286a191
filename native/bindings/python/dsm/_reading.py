"""Reading from files and sockets into the map, to which the kernel cannot write."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import select
import time
from typing import TYPE_CHECKING, Any, Optional, Protocol, Union

from . import _arguments
from ._errors import Error, Timeout
from ._library import load

if TYPE_CHECKING:
    from ._arrays import Memory


class HasFileno(Protocol):
    def fileno(self) -> int: ...


Source = Union[int, HasFileno]
_POSITION_MAX = 2**63 - 1
_WAIT_MAX_S = 2**31 / 1000 - 1


def read_into(source: Source, array: Memory, position: Optional[int]) -> int:
    """See Session.readinto()."""
    view = _arguments.memory("array", array)
    if position is not None:
        position = _arguments.whole("position", position, _POSITION_MAX)
    descriptor = _descriptor(source)
    if isinstance(source, io.TextIOBase):
        _arguments.wrong_type("file", source, "one that was opened in binary mode")
    if isinstance(source, (io.BufferedReader, io.BufferedRandom)):
        return _read_buffered(source, descriptor, view, position)
    timeout_s = _timeout_of(source)
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            return _read(descriptor, view, position)
        except BlockingIOError:
            # A socket with a timeout does not block by itself.
            if end_s is None:
                raise Error("DSM_SYSTEM", f"descriptor {descriptor} has nothing to read now (it does not block)") from None
            left_s = min(max(0.0, end_s - time.monotonic()), _WAIT_MAX_S)
            if not _await_readable(descriptor, left_s):
                raise Timeout("DSM_TIMEOUT", f"nothing came on descriptor {descriptor} within {timeout_s} s") from None


def _descriptor(source: Any) -> int:
    needed = "an open file or socket, or the number of a descriptor"
    if hasattr(source, "fileno"):
        try:
            source = source.fileno()
        except (OSError, ValueError) as error:
            _arguments.wrong_value("file", source, f"{needed} ({error})")
    return _arguments.whole("file", source, 2**31 - 1, needed=needed)


def _timeout_of(source: Any) -> Optional[float]:
    timeout = getattr(source, "gettimeout", lambda: None)()
    return timeout if timeout else None


def _await_readable(descriptor: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _read(descriptor: int, view: memoryview, position: Optional[int]) -> int:
    library, address = load(), _arguments.address_of(view)
    while True:
        if position is None:
            got = library.dsm_read(descriptor, address, view.nbytes)
        else:
            got = library.dsm_pread(descriptor, address, view.nbytes, position)
        if got >= 0:
            return int(got)
        reason = ctypes.get_errno()
        if reason == errno.EINTR:  # Python's handlers run, and may raise
            continue
        if reason == errno.EAGAIN:
            raise BlockingIOError(reason, os.strerror(reason))
        raise Error("DSM_SYSTEM", f"descriptor {descriptor} cannot be read: {os.strerror(reason)}")


def _read_buffered(file: Any, descriptor: int, view: memoryview, position: Optional[int]) -> int:
    """Reads where the program is in the file: the descriptor is further, by what the file has in its buffer."""
    if isinstance(file, io.BufferedRandom):
        file.flush()
    if position is not None:
        return _read(descriptor, view, position)
    if not file.seekable():
        _arguments.wrong_value("file", file, "one opened with buffering=0: it cannot seek, and may have read ahead")
    start = file.tell()
    got = _read(descriptor, view, start)
    file.seek(start + got)
    return got
