# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Run one command; when it ends, or our parent does, or we are told to stop, end every process that came of it.

    python -I -S nemo_prm/supervisor.py GRACE_SECONDS PARENT_PID COMMAND...

A server may start others (PyTriton starts tritonserver, which starts Python stubs), in sessions of their own, and
they outlive a killed parent and hold its port. A supervisor is a "child subreaper": orphans below it become its
children, so that it can find and end them all. The kernel tells it of its parent's death, so kill -9 is covered too.

Linux only, standard library only: it is started by path, without site-packages, in 20 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
ORPHAN_GRACE_S = 0.7  # for what is left when the command itself has ended (a server's own clean-up, say)
_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def become_subreaper() -> None:
    """Orphans among our descendants become our children, in place of init's."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends, whichever way `parent` ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(1)


def descendants(root: int) -> list[int]:
    """Every live process below `root`, parents before children; zombies are not counted."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # "pid (name) state ppid ..."; the name may hold blanks and parentheses
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(parent), []).append(int(entry))
        if state in (b"Z", b"X"):
            zombies.add(int(entry))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += [pid for pid in below if pid not in zombies]
        queue += below
    return found


def end_descendants(grace_s: float) -> None:
    """See every process below us end: for `grace_s` seconds by itself, as long again by SIGTERM, then by SIGKILL.

    Reaps children that are reaped by nobody else; call it only where no one waits for them any more.
    """
    signalled: set[int] = set()
    start = time.monotonic()
    while alive := descendants(os.getpid()):
        elapsed = time.monotonic() - start
        for pid in alive:
            if elapsed > 2 * grace_s:
                _signal(pid, signal.SIGKILL)
            elif elapsed > grace_s and pid not in signalled:
                signalled.add(pid)
                _signal(pid, signal.SIGTERM)
                _signal(pid, signal.SIGCONT)  # a stopped process gets the first only when it continues
        reap()
        time.sleep(0.02)
    reap()


def reap(pid: int | None = None) -> int | None:
    """Collect every child that has ended; the exit code of `pid` if it was among them (128 + n for signal n)."""
    code = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if ended == 0:
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code


def main(argv: list[str]) -> int:
    grace_s, parent, command = float(argv[0]), int(argv[1]), argv[2:]
    # Blocked signals stay pending for sigwait, also where the shell that started us ignores SIGINT.
    signals = STOP | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    become_subreaper()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked to be told
        return 1

    child = os.fork()  # not subprocess.Popen, which may reap the child behind our back
    if child == 0:
        execute(command)
    code = None
    while code is None:
        if signal.sigwait(signals) in STOP:
            code = 128 + signal.SIGTERM
            end_command(child, grace_s)
        else:
            code = reap(child)
    end_descendants(ORPHAN_GRACE_S)
    return code


def execute(command: list[str]) -> NoReturn:
    """Become `command` in a session of its own, with signals as a shell in the foreground would hand them on."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        for number in STOP:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvp(command[0], command)
    except OSError as error:
        print(f"error: cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def end_command(child: int, grace_s: float) -> None:
    """Ask the command alone to stop, so that a server can end its own helpers in order; wait at most `grace_s`."""
    _signal(child, signal.SIGTERM)
    _signal(child, signal.SIGCONT)
    deadline = time.monotonic() + grace_s
    while reap(child) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if time.monotonic() >= deadline:
        _signal(child, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
