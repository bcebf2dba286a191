"""What Python programs do with their signals, while they store to the map. `signals.py CASE`: prints "stored 5"."""

import faulthandler
import os
import signal
import sys
import threading

import dsm

case = sys.argv[1]
if case == "faulthandler-before":
    faulthandler.enable()
if case == "mask-before":
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

with dsm.join() as session:
    memory = session.alloc(4096)

    def store() -> None:
        memory[8 * session.rank] = 5
        print("stored", memory[8 * session.rank], flush=True)

    if case == "mask":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        assert signal.SIGSEGV in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if case == "faulthandler-after":
        faulthandler.enable()
    if case == "default":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    if case == "crash":
        faulthandler.enable()
        store()
        faulthandler._sigsegv()
    if case == "thread":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
        thread = threading.Thread(target=store)
        thread.start()
        thread.join()
    elif case == "child":
        # What it starts is as ever, and has the mask of its parent.
        import subprocess

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
        code = "import signal; print(signal.SIGSEGV in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        assert said == (b"True\n" if os.environ.get("LD_PRELOAD") else b"False\n"), said
        store()
    else:
        store()
