"""Runs the Python column of the table in examples/languages, and says which calls of libdsm each cell made.

Standard input: {"calls": [[C, CELL], ...], "arrays": [CELL, ...], "settings": [[FIELD, CELL], ...], "file": PATH}. Output:
what was called before the first cell, by each cell, and which fields of dsm_config each setting changed.
"""

import json
import os
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import dsm

page = json.load(sys.stdin)
made = []
opened = []


class Recorder:
    """libdsm, with a note of each call."""

    def __init__(self, library) -> None:
        self._library = library
        self.settings_only = False

    def __getattr__(self, name):
        function = getattr(self._library, name)

        def call(*arguments):
            made.append(name)
            if name == "dsm_open" and self.settings_only:
                config = arguments[0]._obj
                opened.append({field: getattr(config, field) for field, _ in config._fields_})
                return 7
            return function(*arguments)

        return call


def settings(cell: str) -> dict:
    try:
        eval(cell, {"dsm": dsm})
    except dsm.Error as error:
        assert error.code == "DSM_INVALID" and opened, f"{cell}: {error}"
    return opened.pop()


recorder = dsm._library._loaded = Recorder(dsm._library.load())
recorder.settings_only = True
default = settings("dsm.join()")
changed = {}
for field, cell in page["settings"]:
    given = settings(cell)
    changed[field] = [name for name in given if given[name] != default[name]]
recorder.settings_only = False

made.clear()
session = dsm.join()
lock = session.lock("table")
try:
    session.alloc(0)
except dsm.Error as failure:
    error = failure
words = session.named("words", 64).cast("i")
place = session.named("objects", 320)
guard = session.mutex_at(place)
table = session.rwlock_at(place[64:])
condition = session.cond_at(place[128:])
step = session.barrier_at(place[256:])


@contextmanager
def signals():
    """Signals the condition variable again and again, from a thread."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(0.01):
            condition.signal()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def around(c: str):
    """What makes a call possible, and ends what it began."""
    if c.startswith("dsm_cond"):
        with guard, signals():
            yield
        return
    if c.startswith("dsm_unlock"):
        lock.acquire()
    elif c.startswith("dsm_mutex_unlock"):
        guard.acquire()
    elif c.startswith("dsm_rwlock_unlock"):
        table.write.acquire()
    yield
    if c.startswith("dsm_lock"):
        lock.release()
    elif c.startswith("dsm_mutex") and "unlock" not in c:
        guard.release()
    elif c.startswith("dsm_rwlock") and "unlock" not in c:
        (table.read if "rdlock" in c else table.write).release()
    elif c == "dsm_barrier_init":
        step.init(1)


names = {
    **{"place": place, "guard": guard, "table": table, "changed": condition, "step": step},
    "units": session.semaphore_at(place[192:]),
    "dsm": SimpleNamespace(join=lambda: session),
    "session": session,
    "lock": lock,
    "semaphore": session.semaphore("table", 100),
    "hole": session.hole(session.named("part", 64)),
    "block": session.alloc(64),
    "words": words,
    "fd": os.open(page["file"], os.O_RDONLY),
    "error": error,
}
earlier = list(made)
for cell in page["arrays"]:
    try:
        eval(cell, names)
    except ImportError as missing:  # python.test.ts makes such arrays
        assert "NumPy" in str(missing), missing
by_cell = {}
for c, cell in page["calls"]:
    with contextmanager(around)(c):
        made.clear()
        result = eval(cell, names)
        by_cell[c] = list(made)
    if c == "dsm_hole_dig":
        result.fill()
print(json.dumps({"earlier": earlier, "calls": by_cell, "changed": changed}))
