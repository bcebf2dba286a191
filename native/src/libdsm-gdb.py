"""What gdb is to know of libdsm. Loaded by itself where gdb trusts the folder, else by `source`.

A store to the map is a SIGSEGV that the program is to get and the user need not see. A SIGSEGV of the program's own
stops as ever: in dsm_fault_of_program(), which libdsm calls for it, with the program's frames above.
"""

import gdb


class _Joined(gdb.Breakpoint):
    """From here on SIGSEGV is dsm's first. Until then gdb stops at it as in any program."""

    def stop(self):
        gdb.execute("handle SIGSEGV nostop noprint pass", to_string=True)
        return False


class _Fault(gdb.Breakpoint):
    def stop(self):
        print("dsm: this fault is the program's own; `backtrace` shows its frame below <signal handler called>")
        return True


# Loaded again by each `run`: one of each is enough.
if not hasattr(gdb, "libdsm"):
    gdb.libdsm = [_Joined("dsm_capture_init", internal=True), _Fault("dsm_fault_of_program", internal=True)]
