"""A process between a trial and its command, which sees to it that no process of the command outlives either.

Run as a script, with nothing of this package: ``guard.py TAG LEASH COMMAND...``. It starts the command in a
session of its own, and ends all that carries its tag in the environment when the command has ended, when it
is told to (SIGTERM), when the process that started it is gone, and when the file LEASH is. Its exit status is
that of the command; 127 where that cannot be started.
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

TAG = "SWEEPER_ENGINE"
_LOOK_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1


def tagged(tag: str, *, prefix: bool = False) -> list[int]:
    """Processes of this user whose environment has the tag, or one that begins with it; not this one."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if any(one.startswith(wanted) if prefix else one == wanted for one in variables):
            found.append(pid)
    return found


def kill_tagged(tag: str, *, prefix: bool = False) -> int:
    """Kill them, also those that they start in the meantime; how many."""
    killed: set[int] = set()
    for _ in range(20):
        found = set(tagged(tag, prefix=prefix)) - killed
        if not found:
            break
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
    return len(killed)


def main() -> int:
    tag, leash, *words = sys.argv[1:]
    parent = os.getppid()
    watched = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    environment = {**os.environ, TAG: tag}
    try:
        child = subprocess.Popen(
            words,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, watched),
        )
    except OSError as error:
        sys.stdout.write(f"{words[0]}: {error.strerror}\n")
        return 127
    status = None
    while status is None:
        told = signal.sigtimedwait(watched, _LOOK_EVERY_S)
        is_told = told is not None and told.si_signo != signal.SIGCHLD
        if is_told or os.getppid() != parent or not Path(leash).exists():
            kill_tagged(tag)
            child.wait()
            return 143
        status = child.poll()
    kill_tagged(tag)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
