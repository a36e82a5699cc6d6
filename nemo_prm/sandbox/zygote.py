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
"""A warm Python process inside a box that forks once per program; `box.py` is the judge's end.

Started as a script (`python -S -s zygote.py CONTROL REQUEST REGION STDIN STDOUT STDERR OPTIONS`), with one thread and
without site-packages. It holds no expected value. The descriptors are shared with the judge: a stream socket, and
five memory files. Per program:

    judge -> zygote    `REQUEST`; as ancillary data a descriptor: the binary, or a socket
    child              reads the rest of the request, marshalled, from a memory file; the zygote itself never does,
                       or a later child could find an earlier one's program in the memory that it inherits
    child              writes its answers into the region (a mapping; see `Region`), its output into the memory files
    zygote -> judge    `REPLY`: by now everything that the program started is dead and reaped

C from the judge in between cancels the program. When the judge goes away the socket ends, and with it the zygote.

What a child does is the request's `mode`:

    call     load the program, call its entry point with each of `calls`, answer with the values
    stdio    run the program with the memory files as its standard streams
    exec     the same for a compiled program, whose descriptor came with the request
    proxied  load the program, call its entry point whenever the socket asks for it
    check    trusted test code: run `check(candidate)`, where `candidate` asks a proxied program over the socket
    compare  trusted checker code: run `check(given, expected, actual)` on each of `cases`

Modes check and compare have a box, and so a zygote, of their own. The judge imports the constants from here.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ.clear()  # its variables have done their work; a candidate sees an empty environment

import _sitebuiltins
import atexit
import builtins
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import io
import json
import marshal
import math
import mmap
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import types
from typing import Any, Callable, Iterable, Iterator, NamedTuple, NoReturn

REQUEST = struct.Struct("<?qddqq")  # the fields of `Request`
REPLY = struct.Struct("<qqdddq")  # how it ended, wait status, seconds of CPU, of waiting for one, of wall; peak KiB
ENDED = ("exit", "time", "starved", "cancelled", "memory")
REGION_BYTES = 32 * 2**20
WARM = "bisect cmath collections contextlib copy functools heapq io itertools math numbers operator random re string "
WARM += "typing"
MEBIBYTE = 2**20
MAX_OUTPUT_BYTES, MAX_FILES, MAX_TASKS, SPARE_BYTES = 16 * MEBIBYTE, 64, 128, 64 * MEBIBYTE
TMPFS = b"size=64m,nr_inodes=4096,mode=0700"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")  # a second, of times in /proc
RECURSION_LIMIT = sys.getrecursionlimit()
TICK_S = 0.05  # how often a program that takes its time is looked at
PATIENCE = 20  # wall time may be this many times the limit when the machine is loaded
TRUSTED_TIME_S = 60.0  # of test and checker code
MAX_MESSAGE_BYTES = 16 * MEBIBYTE  # of the socket between a candidate and its tests
TOO_LARGE = "an answer larger than the limit"

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


_plain: Any = None  # the module plain.py, which lies beside this file wherever that is


class Region:
    """Shared memory for the answers of one program: two little-endian uint32, count and bytes, then JSON lines.

    The judge reads it when the program is dead, as data that anyone may have written, and wipes it.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._map = memory
        self._count, self._end = 0, 8

    def add(self, **fields: Any) -> None:
        """Append one answer; one that does not fit says so, and ends the program."""
        line = json.dumps(fields).encode("ascii") + b"\n"
        if self._end + len(line) > REGION_BYTES - 64:
            line = b'{"overflow": true}\n'
        self._map[self._end : self._end + len(line)] = line
        self._end += len(line)
        self._count += 1
        self._map[:8] = struct.pack("<II", self._count, self._end - 8)
        if b"overflow" in line[:12]:
            os._exit(1)

    def count(self) -> int:
        """How many answers the program claims to have given."""
        return int.from_bytes(self._map[:4], "little")


class Request(NamedTuple):
    """What the zygote needs to know of a program."""

    proxied: bool  # it waits for its tests
    num_tests: int
    limit_s: float
    total_s: float
    memory_mb: int
    size: int  # bytes of the rest


class Zygote:
    """Serves one box; `options` come from the judge."""

    def __init__(
        self, control: socket.socket, request: int, region: int, folder: str, options: dict[str, Any]
    ) -> None:
        self.control, self.request = control, request
        self.region = Region(mmap.mmap(region, REGION_BYTES))
        os.close(region)
        self.namespaces: bool = options["namespaces"]
        self.filters = [bytes.fromhex(text) for text in options["filters"]]
        # In a pid namespace of its own every child is process 1, so its filters can be made ready before.
        self.ready = [_sock_fprog(code, 1) for code in self.filters] if self.namespaces else []
        self.folder = folder
        self.proc = options["proc"]
        self.ruleset = -1 if self.namespaces else _landlock(options["readable"], folder)
        self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY) if self.namespaces else -1
        self.fresh = 0 if self.filters else CLONE_NEWNS | CLONE_NEWNET
        self.own_bytes = 0
        self.cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        self.stolen_s = self.stolen_before_s = 0.0
        self.clean: tuple[int, ...] = ()

    def serve(self) -> None:
        """Fork a child per request until the judge closes the socket."""
        self._warm_up()
        self._stolen()
        with open("/proc/self/statm") as file:
            self.own_bytes = int(file.read().split()[0]) * resource.getpagesize()
        if self.namespaces:
            self._hide_proc()
        self._clean_folder()
        gc.collect()
        gc.freeze()
        self.control.sendall(b"R")
        while True:
            kind, fds, _, _ = socket.recv_fds(self.control, 1, 2)
            if not kind:
                return
            if kind == b"C":  # it came too late: the program had ended
                continue
            try:
                reply = self._run(Request(*REQUEST.unpack(_receive(self.control, REQUEST.size))), fds)
            finally:
                for fd in fds:
                    os.close(fd)
            if reply is None:
                return
            self.control.sendall(REPLY.pack(*reply))

    def _run(self, request: Request, fds: list[int]) -> tuple[int, int, float, float, float, int] | None:
        """Run one program to its end; None when the judge went away."""
        os.lseek(0, 0, os.SEEK_SET)
        os.lseek(1, 0, os.SEEK_SET)
        os.lseek(2, 0, os.SEEK_SET)
        if self.namespaces:
            syscall("setns", self.pid_namespace, CLONE_NEWPID)
            syscall("unshare", CLONE_NEWPID if self.filters else CLONE_NEWPID | CLONE_NEWIPC)
        # On a machine of its own nothing is ever stolen, and to ask would take long on one with many processors.
        self.stolen_before_s = self._stolen() if self.stolen_s else 0.0
        started = time.monotonic()
        pid = libc.fork()
        if pid == 0:
            try:
                self._child(request, fds)
            finally:
                os._exit(70)
        if self.namespaces:
            syscall("setns", self.pid_namespace, CLONE_NEWPID)
        if pid < 0:
            raise OSError(ctypes.get_errno(), "fork")
        try:
            ended = self._watch(pid, request, started)
            # Its tests give up at their own time, and it may have left before they are heard; /proc still knows it.
            waited_s = self._waited(pid) if ended != "exit" or request.proxied else 0.0
        finally:
            status, usage = self._kill(pid)
        self._clean_folder()
        if ended is None:
            return None
        cpu_s = usage.ru_utime + usage.ru_stime
        return ENDED.index(ended), status, cpu_s, waited_s, time.monotonic() - started, usage.ru_maxrss

    def _watch(self, pid: int, request: Request, started: float) -> str | None:
        """Wait until the program has ended, is out of time, or is no longer wanted.

        A program is charged for its CPU time, and for wall time that it did not spend waiting for a processor. While
        it could run it is not asleep, and the CPU time alone decides: the kernel counts a wait when it is over.
        """
        limit_s, num_tests, total_s = request.limit_s, request.num_tests, request.total_s
        wall_limit_s = math.inf if request.proxied else limit_s  # its tests look after that: it waits for them, too
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        pidfd = -1
        with contextlib.suppress(AttributeError, OSError):  # a kernel before 5.3
            pidfd = os.pidfd_open(pid)
            poller.register(pidfd, select.POLLIN)
        longest_tick_s = tick_s = min(TICK_S, limit_s / 8) if pidfd >= 0 else 0.001
        answered, test_started, cpu_before = 0, started, 0.0
        self.ran_s, self.ran_at = 0.0, started
        try:
            while True:
                ready = poller.poll(math.ceil(tick_s * 1000))
                if any(fd == self.control.fileno() for fd, _ in ready):
                    return "cancelled" if self.control.recv(1) else None
                if ready or (pidfd < 0 and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
                    return "exit"
                now, cpu = time.monotonic(), self._cpu_seconds(pid)
                if cpu > self.ran_s:
                    self.ran_s, self.ran_at = cpu, now
                if not self.filters and self._resident_bytes() > request.memory_mb * MEBIBYTE + SPARE_BYTES:
                    return "memory"
                count = min(self.region.count(), num_tests)
                if count > answered:
                    answered, test_started, cpu_before = count, now, cpu
                tick_s = min(longest_tick_s, max(limit_s - (cpu - cpu_before), 0.001))
                wall = now - test_started
                if cpu - cpu_before >= limit_s or cpu >= total_s:
                    return "time"
                long_s = math.inf if request.proxied else 2 * total_s + 1  # it sleeps a little in every test
                if (wall >= wall_limit_s or now - started >= long_s) and not self._runnable():
                    waited_s = self._waited(pid)
                    if wall - waited_s >= wall_limit_s or now - started - waited_s >= long_s:
                        return "time"
                patience_s = PATIENCE * total_s + (TRUSTED_TIME_S if request.proxied else 0)
                if now - started >= patience_s or (not request.proxied and wall >= PATIENCE * limit_s):
                    return "starved" if self._waited(pid) >= limit_s else "time"
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def _resident_bytes(self) -> int:
        """What the program and the processes that it started take together, shared pages counted once.

        With a filter a program is one process, and RLIMIT_AS is enough.
        """
        total, files = 0, {}
        for line in _read(self.proc, "sysvipc/shm").splitlines()[1:]:  # of our ipc namespace, which is the program's
            total += sum(map(int, line.split()[-2:]))  # resident and swapped, attached or not
        for pid in self._tree():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended meanwhile
                total += self._process_bytes(pid)
                for fd in _list(self.proc, f"{pid}/fd"):
                    state = os.stat(f"{pid}/fd/{fd}", dir_fd=self.proc)
                    if state.st_nlink == 0:  # memory that has the form of a file
                        files[state.st_dev, state.st_ino] = 512 * state.st_blocks
        return total + sum(files.values())

    def _process_bytes(self, pid: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # its first thread has ended
            fields = _read(self.proc, f"{pid}/smaps_rollup").split()
            return int(fields[fields.index("Pss:") + 1]) * 1024
        tasks = _list(self.proc, f"{pid}/task")
        return max(int(_read(self.proc, f"{pid}/task/{task}/statm").split()[1]) for task in tasks) * mmap.PAGESIZE

    def _tree(self) -> Iterator[str]:
        """The program's process and all that came of it, as they are named in /proc."""
        pids = _read(self.proc, "thread-self/children").split()
        while pids:
            yield (pid := pids.pop())
            with contextlib.suppress(OSError):
                for task in _list(self.proc, f"{pid}/task"):
                    pids += _read(self.proc, f"{pid}/task/{task}/children").split()

    def _cpu_seconds(self, pid: int) -> float:
        """CPU time of the program so far; with a filter it is one process."""
        own = time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
        if self.filters:
            return own
        total = 0.0
        for number, each in enumerate(self._tree()):
            with contextlib.suppress(OSError, IndexError, ValueError):
                # "pid (name) state ppid ...": user and system time, and those of children that were waited for
                times = _read(self.proc, f"{each}/stat").rpartition(")")[2].split()[11:15]
                total += sum(map(int, times[2:] if number == 0 else times)) / CLOCK_TICKS
        return own + total

    def _waited(self, pid: int) -> float:
        """Seconds that the program has waited for a processor so far because of others.

        Of all its threads the one counts that others, not the program's own threads, kept waiting longest; the wait
        that lasts is added. What a hypervisor took from the processor the kernel counts neither as waiting nor as CPU
        time.
        """
        cpu_ns = int(1e9 * self._cpu_seconds(pid))
        longest = 0
        for task in self._threads():
            with contextlib.suppress(OSError, IndexError, ValueError):
                ran, delayed = map(int, _read(self.proc, f"{task}/schedstat").split()[:2])
                longest = max(longest, delayed - (cpu_ns - ran))
        lasting_s = time.monotonic() - self.ran_at if cpu_ns <= 1e9 * self.ran_s and self._runnable() else 0.0
        return longest / 1e9 + lasting_s + self._stolen() - self.stolen_before_s

    def _runnable(self) -> bool:
        """Whether a thread of the program runs, or would if it had a processor."""
        for task in self._threads():
            with contextlib.suppress(OSError, IndexError):
                if _read(self.proc, f"{task}/stat").rpartition(")")[2].split()[0] == "R":
                    return True
        return False

    def _threads(self) -> list[str]:
        """The threads of the program's first process, as they are named in /proc."""
        with contextlib.suppress(OSError, IndexError):
            folder = f"{_read(self.proc, 'thread-self/children').split()[0]}/task"
            return [f"{folder}/{task}" for task in _list(self.proc, folder)[:MAX_TASKS]]
        return []

    def _stolen(self) -> float:
        """Seconds since boot that other virtual machines had a processor of ours; of ours the one that lost most.

        Source: proc(5), /proc/stat, "steal".
        """
        with contextlib.suppress(OSError, IndexError, ValueError):
            rows = [line.split() for line in _read(self.proc, "stat").splitlines() if line.startswith("cpu")]
            self.stolen_s = max(int(row[8]) for row in rows if row[0] in self.cores) / CLOCK_TICKS
        return self.stolen_s

    def _kill(self, pid: int) -> tuple[int, resource.struct_rusage]:
        """Kill the child and whatever it started; returns the child's wait status and what it used."""
        if self.namespaces:
            os.kill(pid, signal.SIGKILL)  # it is the init of its namespace: the rest dies with it
            _, status, usage = os.wait4(pid, 0)
            return status, usage
        _kill(pid)
        _, status, usage = os.wait4(pid, 0)
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            try:
                left, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if left == 0:  # we are the reaper of what it left behind
                with contextlib.suppress(OSError):
                    for orphan in _read(self.proc, "thread-self/children").split():
                        _kill(int(orphan))
                time.sleep(0.0005)
        return status, usage

    def _clean_folder(self) -> None:
        """Give the next program an empty working folder, unless this one was not touched at all."""
        if self.clean == self._folder_state() and not os.listdir(self.folder):
            return
        if self.namespaces:
            libc.umount2(self.folder.encode(), MNT_DETACH)
            syscall("mount", b"tmpfs", self.folder.encode(), b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, TMPFS)
        else:
            os.chmod(self.folder, 0o700)
            os.chdir(self.folder)
            # Relative: a folder above may be closed to what has not got our capability.
            _spawn("chmod", "-R", "u+rwx", ".")
            _spawn("find", ".", "-mindepth", "1", "-delete")
        self.clean = self._folder_state()

    def _folder_state(self) -> tuple[int, ...]:
        state = os.stat(self.folder)  # the clock of its times may tick 250 times a second only
        return state.st_ino, state.st_mode, state.st_ctime_ns, state.st_mtime_ns, state.st_atime_ns

    def _hide_proc(self) -> None:
        """Cover /proc with an empty folder; `self.proc` still leads there, for us alone."""
        syscall("mount", b"none", b"/proc", b"tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=4k")

    def _warm_up(self) -> None:
        """Import what programs import, and run what every child runs, so that children find it in shared pages."""
        for name in WARM.split():
            importlib.import_module(name)
        for name in ("fork", "setns", "unshare", "capset", "prctl", "mount", "umount2"):
            getattr(libc, name)  # looks it up, once
        request = {
            "program": "def f(x, y):\n    return [x, y]\n",
            "entry_point": "f",
            "calls": [_plain.dumps(((1, [1.5, "a"]), {})), _plain.dumps((("a",), {"y": {"a": (None, True)}}))],
        }
        scratch = mmap.mmap(-1, mmap.PAGESIZE * 4)
        for _ in range(20):  # the interpreter specializes code that has run a few times
            _run_calls(request, Region(scratch), _plain)
        _open_streams()
        # As glibc has it where the stack is unlimited: 8 MiB for each of many threads are address space, and that is
        # what is limited. A program that needs more asks for it.
        threading.stack_size(2 * MEBIBYTE)
        del sys.modules["program"]
        sys.modules["random"].seed(0)
        # What `site` would define; programs end with exit().
        builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
        builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")

    def _child(self, head: Request, fds: list[int]) -> None:
        """Confine this process and do what the request's mode says."""
        request = marshal.loads(os.pread(self.request, head.size, 0))
        mode = request["mode"]
        os.setsid()  # a signal to its group must not reach us
        if not self.namespaces:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        elif self.fresh:
            syscall("unshare", self.fresh)
        if mode not in ("stdio", "exec"):
            null = os.open(os.devnull, os.O_RDWR)  # its own: flags and locks belong to what was opened
            for fd in range(3):
                os.dup2(null, fd)
        keep = -1
        if fds:
            os.dup2(fds[0], keep := 3)
        if self.ruleset >= 0:
            self.ruleset = os.dup2(self.ruleset, (keep := keep + 1 if fds else 3), inheritable=False)
        os.closerange(keep + 1 if keep > 0 else 3, 4096)
        os.chdir(self.folder)
        own_bytes = 0 if mode == "exec" else self.own_bytes
        memory = own_bytes + head.memory_mb * MEBIBYTE
        _limit(resource.RLIMIT_AS, memory, memory + SPARE_BYTES)
        # Without a user namespace it counts every process of the user.
        _limit(resource.RLIMIT_NPROC, MAX_TASKS if self.namespaces else 4096)
        cpu_s = int(head.total_s) + 2
        _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
        most = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (most, most))  # recursion may use all memory; a thread has 2 MiB
        if mode == "exec":
            os.set_inheritable(3, False)
        self._confine(may_exec=mode == "exec")
        if mode == "exec":
            _execveat(3)
        gc.enable()
        plain = sys.modules.pop("plain")
        {
            "call": _run_calls,
            "stdio": _run_program,
            "proxied": _run_proxied,
            "check": _run_check,
            "compare": _run_compare,
        }[mode](request, self.region, plain)
        os._exit(0)

    def _confine(self, may_exec: bool) -> None:
        """Give up every capability and, last, most system calls."""
        if self.ruleset >= 0:
            syscall("syscall", SYS_LANDLOCK_RESTRICT_SELF, self.ruleset, 0)
            os.close(self.ruleset)  # it is that of later programs, too, and whoever has it can add to it
        if self.namespaces:
            _set_capabilities(0)
        if self.filters:
            program, _ = self.ready[may_exec] if self.ready else _sock_fprog(self.filters[may_exec], os.getpid())
            syscall("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)


def _sock_fprog(code: bytes, pid: int) -> tuple[bytes, Any]:
    """A `struct sock_fprog` of a filter for the process `pid`, and the memory that it points to."""
    buffer = ctypes.create_string_buffer(code.replace(struct.pack("<I", OWN_PID), struct.pack("<I", pid)), len(code))
    return struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)), buffer


CAPABILITY_HEADER = struct.pack("<Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process


def _set_capabilities(mask: int) -> None:
    """Give up every capability that is not in `mask`."""
    syscall("capset", CAPABILITY_HEADER, struct.pack("<6I", mask, mask, 0, 0, 0, 0))


def _landlock(readable: list[str], writable: str) -> int:
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


def _become_nobody(folder: str) -> None:
    """Without namespaces, as root: run as nobody, who may still read what Landlock then allows."""
    landlock = _landlock([], folder)
    os.chown(folder, NOBODY, NOBODY)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    _set_capabilities(1 << CAP_DAC_READ_SEARCH if landlock >= 0 else 0)
    if landlock >= 0:
        os.close(landlock)


def _receive(stream: socket.socket, count: int, deadline: float | None = None) -> bytes:
    """Read so many bytes; raises TimeoutError when they are not there at the deadline, however they trickle in."""
    data = bytearray()
    while len(data) < count:
        if deadline is not None:
            stream.settimeout(max(deadline - time.monotonic(), 0.001))
        part = stream.recv(min(count - len(data), MEBIBYTE))
        if not part:
            raise EOFError("the other end went away")
        data += part
    return bytes(data)


def _read(folder: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY, dir_fd=folder)
    with open(fd, errors="replace") as file:  # a program may have any name
        return file.read()


def _list(folder: int, path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _kill(pid: int) -> None:
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _spawn(command: str, *args: str) -> None:
    path = next((path for path in (f"/bin/{command}", f"/usr/bin/{command}") if os.path.exists(path)), command)
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    os.waitpid(os.posix_spawn(path, [command, *args], {}, file_actions=null), 0)


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    _, allowed = resource.getrlimit(which)
    top = soft if hard is None else hard
    top = top if allowed == resource.RLIM_INFINITY else min(top, allowed)
    resource.setrlimit(which, (min(soft, top), top))


def _execveat(fd: int) -> None:
    argv = (ctypes.c_char_p * 2)(b"program", None)
    envp = (ctypes.c_char_p * 1)(None)
    libc.fexecve(fd, argv, envp)
    os._exit(71)


def _load(request: dict[str, Any], region: Region, name: str = "program") -> types.ModuleType:
    """Compile and run the module that the program is."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    sys.argv = ["program.py"]
    try:
        code = compile(request["program"].removeprefix("\ufeff"), "<program>", "exec", dont_inherit=True)
    except BaseException as error:  # SyntaxError, ValueError (NUL), RecursionError, MemoryError
        region.add(compile_error=_describe(error)["text"])
        os._exit(1)
    module.__dict__.update(__builtins__=builtins, __file__="program.py")
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    sys.setrecursionlimit(RECURSION_LIMIT + depth)  # the program has as many as it would have by itself
    exec(code, module.__dict__)
    return module


def _load_function(request: dict[str, Any], region: Region) -> Callable[..., Any]:
    """Load the program and find its entry point: `f`, or a method, `Solution.f`, of an object made for each call.

    A program that defines no `f` but a class `Solution` with a method `f` has meant that (LeetCode, LiveCodeBench).
    """
    scope = _load(request, region).__dict__
    owner, _, name = request["entry_point"].rpartition(".")
    if not owner and name not in scope and hasattr(scope.get("Solution"), name):
        owner = "Solution"
    if owner in scope and hasattr(scope[owner], name):
        return lambda *args, **kwargs: getattr(scope[owner](), name)(*args, **kwargs)
    if owner or name not in scope:
        raise NameError(f"the program does not define {request['entry_point']}")
    function: Callable[..., Any] = scope[name]
    return function


def _run_program(request: dict[str, Any], region: Region, plain: Any) -> NoReturn:
    """Run a whole program as the interpreter would: threads are joined, exit functions run, output is flushed."""
    status = 0
    try:
        try:
            _load(request, region, "__main__")
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
            status = status if -(2**63) <= status < 2**63 else -1  # as the interpreter has it
        if threading.active_count() > 1:
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _flush(request["program"])
        _forget(sys.modules.get("__main__"))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            _flush(request["program"])
        region.add(error=_describe(error))
        status = 1
    os._exit(status & 0xFF)


def _forget(module: Any) -> None:
    """Let go of what the program has made, as the interpreter does at its end: `__del__` and `finally` may print."""
    if isinstance(module, types.ModuleType):
        for name in [name for name in module.__dict__ if name != "__builtins__"]:
            module.__dict__[name] = None
    gc.collect()
    with contextlib.suppress(Exception):
        sys.__stdout__.flush()  # type: ignore[union-attr]


def _flush(program: str) -> None:
    """Write out what the program left in its streams, those that it opened itself included, as the interpreter would.

    It may have put anything in place of `sys.stdout`; what that raises is the program's error. What a forgotten file
    raises is ignored.
    """
    if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
        sys.stdout.flush()
    forgotten: list[Any] = [sys.__stdout__]
    if any(word in program for word in ("open", "Wrapper", "Buffered", "FileIO")):
        forgotten += [item for item in gc.get_objects() if isinstance(item, io.IOBase)]  # ours are frozen, not listed
    for stream in forgotten:
        with contextlib.suppress(Exception):
            if stream is not None and not stream.closed:
                stream.flush()


def _open_streams() -> None:
    """Make the standard streams that all children inherit, unused: to open them takes half a millisecond."""
    sys.stdin, sys.stdout, sys.stderr = (
        open(fd, "w" if fd else "r", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        for fd in range(3)
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _run_calls(request: dict[str, Any], region: Region, plain: Any) -> None:
    """Answer with the value of every call, or with what it raised."""
    try:
        function = _load_function(request, region)
    except BaseException as error:
        region.add(load_error=_describe(error))
        return
    for call in request["calls"]:
        try:
            args, kwargs = plain.loads(call)
            region.add(value=plain.dumps(function(*args, **kwargs)))
        except plain.NotPlainError as error:
            region.add(refused=str(error))
        except BaseException as error:
            region.add(error=_describe(error))


def _run_proxied(request: dict[str, Any], region: Region, plain: Any) -> None:
    """Serve calls that the tests make; arguments that a call changed go back with its value."""
    stream = socket.socket(fileno=3)
    try:
        function = _load_function(request, region)
    except BaseException as error:
        region.add(load_error=_describe(error))
        return
    _send(stream, "ready")
    while True:
        try:
            call = _receive(stream, int.from_bytes(_receive(stream, 4), "little")).decode("ascii")
        except (EOFError, ConnectionError):
            return
        try:
            args, kwargs = plain.loads(call)
            answer = {"value": plain.dumps(function(*args, **kwargs))}
        except plain.NotPlainError as error:
            answer = {"refused": str(error)}
        except BaseException as error:
            answer = _raised(error, plain)
        with contextlib.suppress(plain.NotPlainError):
            after = plain.dumps((args, kwargs))
            if after != call:
                answer["args"] = after
        _send(stream, json.dumps(answer))


def _raised(error: BaseException, plain: Any) -> dict[str, Any]:
    """What a test is told of an exception: its classes' names, most special first, and its arguments as plain data."""
    described = _describe(error)
    kinds = [_class_name(kind) for kind in type.mro(type(error))[:20]]
    try:
        args = plain.dumps(BaseException.args.__get__(error))  # type: ignore[attr-defined]
    except plain.NotPlainError:
        args = plain.dumps((described["text"],))
    return {"error": described["text"], "kinds": kinds, "error_args": args}


def _send(stream: socket.socket, text: str) -> None:
    data = text.encode("ascii")
    stream.sendall(len(data).to_bytes(4, "little") + data)


class CandidateError(Exception):
    """What the candidate raised, when it is no built-in exception."""


class CandidateGone(BaseException):
    """The candidate's process ended, or gave no answer that can be read; no test can go on."""


class NotPlain(BaseException):
    """The candidate returned what plain data cannot say; it equals no expected value."""


class BrokenTest(BaseException):
    """The test is at fault, whatever the candidate is."""


class Candidate:
    """Stands for the candidate's entry point: a call goes to its process and comes back as plain data."""

    def __init__(self, name: str, stream: socket.socket, region: Region, plain: Any) -> None:
        self.__name__ = self.__qualname__ = name
        self._stream, self._region, self._plain = stream, region, plain
        # Why, for good: a test that catches every exception must not pass for it.
        self._gone: str | None = None
        self._broken: str | None = None
        self.refused: str | None = None
        self.attempted = self._asked = self._answered = False
        self.raised: tuple[Exception, str] | None = None  # by the candidate last, and where in its program
        self.scope: dict[str, Any] = {}  # of the tests: exceptions of the problem's own are looked up there
        self._lock = threading.Lock()  # a test may have threads

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.check()
        self.attempted = True
        try:
            request = self._plain.dumps((args, kwargs))
        except self._plain.NotPlainError as error:
            if self._answered and isinstance(error, self._plain.TooLargeError):  # it may hold what came from there
                raise self._refuse(f"{error}, as the test saw when it passed it on") from None
            self._broken = f"it passes {error}, and only plain data can be passed to a program"
            raise BrokenTest(self._broken) from None
        if not self._asked:
            self._asked = True
            self._region.add(asked=True)
        try:
            self._stream.settimeout(self._answer_s)
            _send(self._stream, request)
        except OSError:
            raise self._lost("the program ended") from None
        answer = self._answer()
        try:
            if "args" in answer:
                _merged((args, kwargs), self._plain.loads(str(answer["args"])))
            if "value" in answer:
                value = self._plain.loads(str(answer["value"]))
                self._answered = True
                return value
            if "refused" in answer:
                raise self._refuse(str(answer["refused"]))
            raise self._exception(answer)
        except self._plain.NotPlainError as error:
            raise self._refuse(str(error)) from None

    def _exception(self, answer: dict[str, Any]) -> Exception:
        """An exception of the most special class that the test knows, too."""
        text, kinds = str(answer.get("error")), answer.get("kinds")
        args = self._plain.loads(str(answer.get("error_args")))
        args = args if type(args) is tuple else (text,)
        raised: Exception = CandidateError(text)
        for name in map(str, kinds if isinstance(kinds, list) else []):
            kind = self.scope.get(name, getattr(builtins, name, None))
            # StopIteration would end a loop of the test, as if it had gone through.
            loops = (StopIteration, StopAsyncIteration)
            if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind in (Exception, *loops):
                continue
            with contextlib.suppress(Exception):  # it is not made from these arguments
                raised = kind(*args)
                break
        self.raised = raised, text
        return raised

    def allow(self, seconds: float) -> None:
        """How long the candidate may take for one answer, from its first byte waited for to its last."""
        self._answer_s = seconds

    def wait(self) -> None:
        """Return when the candidate is loaded."""
        if self._receive() != b"ready":
            raise CandidateGone("its first message is not the one expected")

    def check(self) -> None:
        """Raise CandidateGone, NotPlain or BrokenTest when a call already did so."""
        if self._gone is not None:
            raise CandidateGone(self._gone)
        if self._broken is not None:
            raise BrokenTest(self._broken)
        if self.refused is not None:
            raise NotPlain(self.refused)

    def _refuse(self, why: str) -> NotPlain:
        self.refused = why
        return NotPlain(why)

    def _answer(self) -> dict[str, Any]:
        try:
            answer = self._plain.parse(self._receive())
        except self._plain.NotPlainError:
            answer = None
        if not isinstance(answer, dict):
            raise self._lost("an answer that cannot be read")
        return answer

    def _receive(self) -> bytes:
        deadline = time.monotonic() + self._answer_s
        try:
            size = int.from_bytes(_receive(self._stream, 4, deadline), "little")
            if size > MAX_MESSAGE_BYTES:
                raise self._lost(TOO_LARGE)
            return _receive(self._stream, size, deadline)
        except TimeoutError:
            raise self._lost("slow") from None
        except (EOFError, OSError):
            raise self._lost("the program ended") from None

    def _lost(self, why: str) -> CandidateGone:
        self._gone = why
        return CandidateGone(why)


def _write_back(mine: Any, theirs: Any) -> None:
    """Repeat in our arguments what the candidate changed in its copies; what we hold inside them stays ours."""
    if isinstance(mine, list) and type(theirs) is list:
        mine[:] = [*map(_merged, mine, theirs), *theirs[len(mine) :]]
    elif isinstance(mine, dict) and type(theirs) is dict:
        merged_items = {key: _merged(mine[key], new) if key in mine else new for key, new in theirs.items()}
        mine.clear()
        mine.update(merged_items)
    elif isinstance(mine, set) and type(theirs) is set:
        mine.clear()
        mine.update(theirs)


def _merged(old: Any, new: Any) -> Any:
    """The old container with its new content; anything else is replaced."""
    if type(old) is type(new) is tuple and len(old) == len(new):
        return tuple(map(_merged, old, new))
    for kind in (list, dict, set):
        if isinstance(old, kind) and type(new) is kind:
            _write_back(old, new)
            return old
    return new


def _run_check(request: dict[str, Any], region: Region, plain: Any) -> None:
    """Run trusted test code against the candidate at the other end of the socket; one answer per test.

    The code defines `check(candidate)`, or asserts by itself under the entry point's name (MBPP). What it raises
    before it has called the candidate is its own fault.
    """
    candidate = Candidate(request["entry_point"], socket.socket(fileno=3), region, plain)
    candidate.allow(request["answer_s"])
    _seed(request["checks"])
    prefix = None
    with contextlib.suppress(SyntaxError):  # a prefix that the response goes on with may be no program by itself
        prefix = compile(request["prefix"], "<prefix>", "exec", dont_inherit=True)
    try:
        candidate.wait()
        for source in request["checks"]:
            scope: dict[str, Any] = {"__name__": "test"}
            if prefix is not None:
                exec(prefix, scope)  # anew for each: a candidate may have changed what it was passed of the former's
            scope.update({request["entry_point"]: candidate, "candidate": candidate})
            candidate.refused, candidate.attempted, candidate.scope = None, False, scope
            try:
                exec(compile(source, "<test>", "exec", dont_inherit=True), scope)
                if "check" in scope:
                    scope["check"](candidate)
                candidate.check()
                if not candidate.attempted:
                    raise BrokenTest("it does not call the candidate")
                region.add(passed=True)
            except BrokenTest as error:
                region.add(broken=str(error)[:300])
            except NotPlain as error:
                region.add(refused=str(error)[:300])
            except Exception as error:
                described = _describe(error, "<test>")
                if not candidate.attempted:
                    region.add(broken=described["text"])
                elif isinstance(error, AssertionError):
                    region.add(failed=described["text"])
                elif candidate.raised is not None and error is candidate.raised[0]:
                    region.add(raised={**described, "text": candidate.raised[1]})
                else:
                    region.add(raised=described)
    except CandidateGone as error:
        region.add(gone=str(error))


def _run_compare(request: dict[str, Any], region: Region, plain: Any) -> None:
    """Run trusted checker code on what candidates answered; one answer per case.

    Every checker is tried on a right answer first: no program's answer takes the time for that.
    """
    _seed([*request["codes"], *(right for _, rights, _ in request["cases"] for right in rights)])
    checks: list[Callable[[Any, Any, Any], Any]] = []
    for code, (given, rights, _) in zip(request["codes"], request["cases"]):
        scope: dict[str, Any] = {"__name__": "checker"}
        try:
            exec(compile(code, "<checker>", "exec", dont_inherit=True), scope)
            checks.append(scope["check"])
            _accepts(checks[-1], plain, given, rights[0], rights[0])
        except Exception as error:  # not even on a right answer does it work
            region.add(broken=_describe(error, "<checker>")["text"])
            return
        region.add(sound=True)
    for check, (given, rights, actual) in zip(checks, request["cases"]):
        try:
            region.add(passed=any(_accepts(check, plain, given, right, actual) for right in rights))
        except Exception as error:  # an answer of a shape that the checker does not expect
            region.add(passed=False, message=_describe(error, "<checker>")["text"])


def _seed(secrets: Iterable[str]) -> None:
    """Let tests draw random numbers that no candidate can foresee, and the same ones each time."""
    sys.modules["random"].seed("\0".join(secrets))


def _accepts(check: Callable[[Any, Any, Any], Any], plain: Any, given: str, expected: str, actual: str) -> bool:
    """Ask a checker; it gets values of its own each time, since it may change them."""
    try:
        return bool(check(plain.loads(given), plain.loads(expected), plain.loads(actual)))
    except AssertionError:
        return False


def _class_name(kind: type) -> str:
    """The name that a class was given, whatever its metaclass says of it."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name[:100]


def _describe(error: BaseException, filename: str = "<program>") -> dict[str, Any]:
    """Say what was raised and where in the program, whatever the exception does when it is looked at."""
    if isinstance(error, MemoryError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room to say so
    kind = _class_name(type(error))
    try:
        message = str(error)[:300]
    except BaseException:
        message = "(its text cannot be had)"
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    text = f"{kind}: {message}" if message else kind
    return {"kind": kind, "text": text if line is None else f"line {line}: {text}"}


def _enter_namespaces() -> None:
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
    _fork_off(lambda: None)


def _fork_off(afterwards: Callable[[], None]) -> None:
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


def _main() -> None:
    global _plain
    sys.path.pop(0)  # this folder is no place for a candidate's imports
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "plain.py")
    spec = importlib.util.spec_from_file_location("plain", path)
    assert spec is not None and spec.loader is not None
    sys.modules["plain"] = _plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(_plain)
    control_fd, request, region, *streams = map(int, sys.argv[1:7])
    options = json.loads(sys.argv[7])
    control = socket.socket(fileno=control_fd)
    try:
        if options["namespaces"]:
            _enter_namespaces()
        else:
            _fork_off(lambda: _spawn("rm", "-rf", options["folder"]))
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a program leaves behind becomes our child
            if os.geteuid() == 0:
                with contextlib.suppress(OSError):  # a container that has no other user
                    _become_nobody(options["folder"])
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for fd, stream in enumerate(streams):
            os.dup2(stream, fd)
            os.close(stream)
        if options["core"] is not None:
            os.sched_setaffinity(0, [options["core"]])
        for which, most in (
            (resource.RLIMIT_FSIZE, MAX_OUTPUT_BYTES),
            (resource.RLIMIT_NOFILE, MAX_FILES),
            (resource.RLIMIT_CORE, 0),
        ):
            _limit(which, most)
        options["proc"] = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        Zygote(control, request, region, options["folder"], options).serve()
    except (EOFError, ConnectionError):
        pass  # the judge went away
    except BaseException as error:
        with contextlib.suppress(OSError):
            control.sendall(b"E" + str(error).encode("utf-8", "replace")[:500])
        raise


if __name__ == "__main__":
    _main()
