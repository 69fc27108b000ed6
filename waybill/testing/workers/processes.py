"""Processes: ending with the parent, and ending a whole group."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress

# prctl(2); elsewhere than on Linux there is no such thing.
PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Get this signal when the thread that started us ends, as it does with its process; end at once if it has.

    Args:
        parent: the pid of the process that started us.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def forks_end_with_us() -> None:
    """Let each process that the main thread forks, such as a pool's, end with us.

    Not what another thread forks: the kernel would end it with that thread.
    """
    main, forking = threading.main_thread(), threading.local()

    def before() -> None:
        forking.parent = os.getpid() if threading.current_thread() is main else None

    def in_child() -> None:
        if forking.parent is not None:
            end_with_parent(forking.parent)

    os.register_at_fork(before=before, after_in_child=in_child)


def kill_group(pid: int) -> None:
    """Kill a process that leads a group, with the group; a worker's are its pool processes."""
    for kill in (os.killpg, os.kill):  # one that has just been forked doesn't lead a group yet
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses it for a group of zombies
            kill(pid, signal.SIGKILL)
