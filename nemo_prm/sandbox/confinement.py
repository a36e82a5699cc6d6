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
"""How a process of the box gives up what it could do: namespaces, capabilities, Landlock, system calls, limits.

It runs inside the box, too, so it imports the standard library alone. What the filters forbid is in `seccomp.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from typing import Any, Callable

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
CLONE_NEWIPC, CLONE_NEWNET = 0x08000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 2, 4, 8, 16384, 1 << 18, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
SECCOMP_MODE_FILTER = 2
# In a filter it stands for the child's own pid: a program may signal itself alone. No kernel gives such a pid
# (PID_MAX_LIMIT is 2**22).
OWN_PID = 0x5AFEC0DE
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_READ, LANDLOCK_ALL = 0b1100, 0b1111111111110  # reading files and folders; and writing, making, removing them
LANDLOCK_TRUNCATE = 1 << 14  # of Linux 6.2, the third version
PR_SET_KEEPCAPS, CAP_DAC_READ_SEARCH = 8, 2
CAPABILITY_HEADER = struct.pack("<Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
NOBODY = 65534
BOX_UID = 1000

# PyDLL keeps the GIL, and its fork runs no Python hook: this process has one thread, and the hooks (reseeding, new
# locks) would cost a child 0.3 ms of page faults.
libc = ctypes.PyDLL(None, use_errno=True)


def syscall(name: str, *args: Any) -> int:
    """Call libc; raises OSError when it says no."""
    result: int = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def enter_namespaces() -> None:
    """Make a user, mount and pid namespace of our own, and become the init of the latter.

    Whoever started us has made the net, ipc and uts namespaces and the read-only root already. As root we become
    nobody first: a user namespace does not take its power over files and limits from the root that made it.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # inside a container that has no other user, root is nobody already
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self belongs to root
    uid, gid = os.geteuid(), os.getegid()
    syscall("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{BOX_UID} {uid} 1"), ("gid_map", f"{BOX_UID} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    syscall("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    # With a user namespace of its own a program could mount: a tmpfs, which is memory, or the judge's control group.
    with contextlib.suppress(OSError), open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    fork_off(lambda: None)


def fork_off(afterwards: Callable[[], None]) -> None:
    """Go on in a child; this process waits for its end, and dies with it."""
    parent = os.getpid()
    if (pid := os.fork()) > 0:
        os.closerange(0, 4096)
        os.waitpid(pid, 0)
        afterwards()
        os._exit(0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() not in (parent, 0):  # 0: it is outside our pid namespace
        os._exit(0)


def become_nobody(folder: str) -> None:
    """Without namespaces, as root: run as nobody, who may still read what Landlock then allows."""
    ruleset = landlock([], folder)
    os.chown(folder, NOBODY, NOBODY)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    set_capabilities(1 << CAP_DAC_READ_SEARCH if ruleset >= 0 else 0)
    if ruleset >= 0:
        os.close(ruleset)


def landlock(readable: list[str], writable: str) -> int:
    """Make a Landlock ruleset for children to enter, the file rules where there are no namespaces; -1: it cannot be.

    https://docs.kernel.org/userspace-api/landlock.html; it needs no privilege, and Linux 5.13.
    """
    version = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)
    everything = LANDLOCK_ALL | (LANDLOCK_TRUNCATE if version >= 3 else 0)
    ruleset: int = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, struct.pack("<Q", everything), 8, 0)
    if ruleset < 0:
        return -1
    for path, access in [*((path, LANDLOCK_READ) for path in readable), (writable, everything)]:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_PATH)
            allowed = access if os.path.isdir(path) else access & 0b110
            syscall("syscall", SYS_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("<Qi", allowed, fd), 0)
            os.close(fd)
    return ruleset


def set_capabilities(mask: int) -> None:
    """Give up every capability that is not in `mask`."""
    syscall("capset", CAPABILITY_HEADER, struct.pack("<6I", mask, mask, 0, 0, 0, 0))


def sock_fprog(code: bytes, pid: int) -> tuple[bytes, Any]:
    """A `struct sock_fprog` of a filter for the process `pid`, and the memory that it points to."""
    buffer = ctypes.create_string_buffer(code.replace(struct.pack("<I", OWN_PID), struct.pack("<I", pid)), len(code))
    return struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)), buffer


def limit(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit of setrlimit(2), as far as the one that there is allows it; `hard` is `soft` where it is None."""
    _, allowed = resource.getrlimit(which)
    top = soft if hard is None else hard
    top = top if allowed == resource.RLIM_INFINITY else min(top, allowed)
    resource.setrlimit(which, (min(soft, top), top))


def execveat(fd: int) -> None:
    """Become the program that `fd` is, with no arguments and an empty environment."""
    argv = (ctypes.c_char_p * 2)(b"program", None)
    envp = (ctypes.c_char_p * 1)(None)
    libc.fexecve(fd, argv, envp)
    os._exit(71)
