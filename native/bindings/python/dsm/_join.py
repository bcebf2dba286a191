"""Joining a session."""

from __future__ import annotations

import os
import threading
from ctypes import byref, c_void_p
from typing import Any, Optional

from . import _arguments, _library
from ._errors import Error, InvalidValue
from ._library import Config, check, load
from ._session import Session
from ._waits import wait

_PAGE_BYTES = 4096
_DAEMON = b"127.0.0.1:4200"
# The sessions of this process, by name and daemon. A map has the same address on all nodes: a process cannot have two.
_joined: dict[tuple[bytes, bytes], Session] = {}
# One of its threads joins a session at a time: a second one gets it from the first.
_joining: dict[tuple[bytes, bytes], threading.RLock] = {}


def join(
    session: Optional[str] = None,
    *,
    processes: Optional[int] = None,
    size: Optional[int] = None,
    node: Optional[str] = None,
    daemon: Optional[str] = None,
    order: Optional[str] = None,
    on_loss: Optional[str] = None,
    elastic: Optional[bool] = None,
    rank: Optional[int] = None,
    join_timeout_ms: Optional[int] = None,
    timeout: Optional[float] = None,
    direct: Optional[bool] = None,
    autostart: Optional[bool] = None,
    binary: Optional[str] = None,
) -> Session:
    """Joins a session, creating it if it is not there, and waits until all its processes have joined.

    What is left out comes from DSM_SESSION, DSM_PROCESSES, DSM_SIZE, DSM_NODE, DSM_DAEMON, DSM_ORDER, DSM_ON_LOSS,
    DSM_ELASTIC, DSM_RANK, DSM_JOIN_TIMEOUT_MS, DSM_DIRECT, DSM_AUTOSTART and DSM_BIN (`binary`, the path of the dsm
    program). `size` is in bytes; `order` is "sequential", "release" or "pipelined", `on_loss` "fail" or "continue".
    dsm.Timeout: the others had not joined within `timeout` seconds (or `join_timeout_ms`).

    A process is in a session once. So join() of a session that this process is in returns the same Session, and a cell
    of a notebook may run again; settings that are not the session's are an error, as they are for another process.
    """
    library = load()
    config = Config()
    check(library.dsm_config_init(byref(config)))
    texts = {"session": session, "node": node, "daemon": daemon, "order": order, "on_loss": on_loss, "binary": binary}
    for field, text in texts.items():
        if text is not None:
            setattr(config, field, _arguments.text(field, text))
    limits = {"processes": 2**32, "size": 2**64, "join_timeout_ms": 2**32, "rank": 2**31}
    numbers = {"processes": processes, "size": size, "join_timeout_ms": join_timeout_ms, "rank": rank}
    for field, number in numbers.items():
        if number is not None:
            setattr(config, field, _arguments.whole(field, number, limits[field] - 1))
    for field, value in {"direct": direct, "elastic": elastic, "autostart": autostart}.items():
        if value is not None:
            setattr(config, field, _arguments.flag(field, value))
    if timeout is not None:
        if join_timeout_ms is not None:
            _arguments.wrong_type("join_timeout_ms", join_timeout_ms, "it or timeout, not both")
        config.join_timeout_ms = max(1, _arguments.seconds("timeout", timeout, 2**32 - 1))
    if config.binary is None and _library.program is not None:
        config.binary = os.fsencode(_library.program)
    if not config.session:
        _arguments.wrong_value(
            "session", session, 'a name, as in dsm.join("name", processes=1, size=1 << 20), or start the program by dsm run'
        )
    key = (config.session, config.daemon or _DAEMON)
    with _joining.setdefault(key, threading.RLock()):
        here = _here(key)
        if here is not None:
            _compare(here, processes, size, node, order, on_loss)
            return here
        made = _joined[key] = Session(_open(config))
        return made


def _open(config: Config) -> c_void_p:
    library, pointer = load(), c_void_p()
    try:
        check(wait(None, library.dsm_open, byref(config), byref(pointer)))
    except BaseException:
        if pointer.value:  # a signal handler has raised when it had joined
            library.dsm_close(pointer)
        raise
    return pointer


def _here(key: tuple[bytes, bytes]) -> Optional[Session]:
    """The session that this process is in already, if it still answers."""
    for other, joined in list(_joined.items()):
        if joined._left or joined._pid != os.getpid():
            del _joined[other]
    joined_before = _joined.get(key)
    if joined_before is None:
        return None
    # Any request tells whether its arbiter is there.
    if load().dsm_wake(joined_before._pointer, joined_before.address, 0, None) == _library.OK:
        return joined_before
    try:
        joined_before.leave()
    except Error:
        pass
    del _joined[key]
    return None


def _compare(session: Session, processes: Any, size: Any, node: Any, order: Any, on_loss: Any) -> None:
    """Refuses settings that are not those of the session."""
    rounded = None if size is None else -(-int(size) // _PAGE_BYTES) * _PAGE_BYTES
    for what, given, wanted, has in [
        ("processes", processes, processes, session.processes),
        ("size", size, rounded, session.size),
        ("node", node, node, session.node),
        ("order", order, order, session.order),
        ("on_loss", on_loss, on_loss, session.on_loss),
    ]:
        if given is not None and wanted != 0 and wanted != has:
            raise InvalidValue(
                "DSM_INVALID",
                f'{what} is {_arguments.shown(given)}, but this process is in session "{session.name}" with {what} '
                f"{has!r}; leave() it first, or leave {what} out",
            )
