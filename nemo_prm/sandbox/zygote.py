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
import sys

if __name__ == "__main__":
    os.environ.clear()  # its variables have done their work; a candidate sees an empty environment
    sys.path[:1] = []  # this folder; the package lies two folders above, and `main` takes that away again
    sys.path.append(os.path.abspath(f"{__file__}/../../.."))

import _sitebuiltins
import builtins
import contextlib
import ctypes
import gc
import importlib
import itertools
import json
import marshal
import math
import mmap
import resource
import select
import signal
import socket
import struct
import threading
import time
from typing import Any, Iterator, NamedTuple

from nemo_prm.sandbox import candidate, plain, trusted
from nemo_prm.sandbox.candidate import REGION_BYTES, Region
from nemo_prm.sandbox.confinement import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    MNT_DETACH,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    SYS_LANDLOCK_RESTRICT_SELF,
    become_nobody,
    enter_namespaces,
    execveat,
    fork_off,
    landlock,
    libc,
    limit,
    set_capabilities,
    sock_fprog,
    syscall,
)

REQUEST = struct.Struct("<?qddqq")  # the fields of `Request`
REPLY = struct.Struct("<qqdddq")  # how it ended, wait status, seconds of CPU, of waiting for one, of wall; peak KiB
ENDED = ("exit", "time", "starved", "cancelled", "memory")
WARM = "bisect cmath collections contextlib copy functools heapq io itertools math numbers operator random re string "
WARM += "typing"
MEBIBYTE = 2**20
MAX_OUTPUT_BYTES, MAX_FILES, MAX_TASKS, SPARE_BYTES = 16 * MEBIBYTE, 64, 128, 64 * MEBIBYTE
TMPFS = b"size=64m,nr_inodes=4096,mode=0700"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")  # a second, of times in /proc
TICK_S = 0.05  # how often a program that takes its time is looked at
PATIENCE = 20  # wall time may be this many times the limit when the machine is loaded
TRUSTED_TIME_S = 60.0  # of test and checker code
MODES = {**candidate.MODES, **trusted.MODES}


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
        self.ready = [sock_fprog(code, 1) for code in self.filters] if self.namespaces else []
        self.folder = folder
        self.proc = options["proc"]
        self.ruleset = -1 if self.namespaces else landlock(options["readable"], folder)
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
                reply = self._run(Request(*REQUEST.unpack(candidate.receive(self.control, REQUEST.size))), fds)
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
            waited_s = self._waited(pid, started) if ended != "exit" or request.proxied else 0.0
        finally:
            status, usage = self._kill(pid)
        self._clean_folder()
        if ended is None:
            return None
        cpu_s = usage.ru_utime + usage.ru_stime
        return ENDED.index(ended), status, cpu_s, waited_s, time.monotonic() - started, usage.ru_maxrss

    def _watch(self, pid: int, request: Request, started: float) -> str | None:
        """Wait until the program has ended, is out of time, or is no longer wanted.

        A program is charged for its CPU time, and for wall time that it did not spend waiting for a processor. It is
        looked at at moments that it cannot foresee.
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
        self.ran_s, self.ran_at, self.looked_at, self.slept_s, self.runnable = 0.0, started, started, 0.0, True
        try:
            while True:
                ready = poller.poll(math.ceil(tick_s * 1000 * (1 - os.urandom(1)[0] / 512)))
                if any(fd == self.control.fileno() for fd, _ in ready):
                    return "cancelled" if self.control.recv(1) else None
                if ready or (pidfd < 0 and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
                    return "exit"
                now, cpu = time.monotonic(), self._cpu_seconds(pid)
                self.runnable = self._runnable()
                if not self.runnable:
                    self.slept_s += max(now - self.looked_at - (cpu - self.ran_s), 0.0)
                self.looked_at = now
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
                if wall >= wall_limit_s or now - started >= long_s:
                    waited_s = self._waited(pid, started)
                    if wall - waited_s >= wall_limit_s or now - started - waited_s >= long_s:
                        return "time"
                patience_s = PATIENCE * total_s + (TRUSTED_TIME_S if request.proxied else 0)
                if now - started >= patience_s or (not request.proxied and wall >= PATIENCE * limit_s):
                    return "starved" if self._waited(pid, started) >= limit_s else "time"
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

    def _waited(self, pid: int, started: float) -> float:
        """Seconds that the program has waited for a processor so far because of others: the larger of two answers.

        The kernel's: of all its threads the one counts that others, not the program's own threads, kept waiting
        longest. The kernel counts a wait when it is over, so the one that lasts is added; and what a hypervisor took
        from the processor, which the kernel counts neither as waiting nor as CPU time. It forgets ended threads.

        Ours: what is left of the time up to the last look without the CPU time, and without the times between looks
        at whose end no thread could run.
        """
        cpu_ns = int(1e9 * self._cpu_seconds(pid))
        longest = 0
        for task in self._threads():
            with contextlib.suppress(OSError, IndexError, ValueError):
                ran, delayed = map(int, _read(self.proc, f"{task}/schedstat").split()[:2])
                longest = max(longest, delayed - (cpu_ns - ran))
        lasting_s = time.monotonic() - self.ran_at if cpu_ns <= 1e9 * self.ran_s and self.runnable else 0.0
        counted_s = longest / 1e9 + lasting_s + self._stolen() - self.stolen_before_s
        return max(counted_s, self.looked_at - started - self.ran_s - self.slept_s)

    def _runnable(self) -> bool:
        """Whether a thread of the program runs, or would if it had a processor."""
        for task in self._threads():
            with contextlib.suppress(OSError, IndexError):
                if _read(self.proc, f"{task}/stat").rpartition(")")[2].split()[0] == "R":
                    return True
        return False

    def _threads(self) -> Iterator[str]:
        """The threads of the program's processes, as they are named in /proc; with a filter it is one process."""
        with contextlib.suppress(OSError):
            for pid in itertools.islice(self._tree(), 1 if self.filters else None):
                with contextlib.suppress(OSError):
                    yield from (f"{pid}/task/{task}" for task in _list(self.proc, f"{pid}/task")[:MAX_TASKS])

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
            "calls": [plain.dumps(((1, [1.5, "a"]), {})), plain.dumps((("a",), {"y": {"a": (None, True)}}))],
        }
        scratch = mmap.mmap(-1, mmap.PAGESIZE * 4)
        for _ in range(20):  # the interpreter specializes code that has run a few times
            candidate.run_calls(request, Region(scratch))
        candidate.open_streams()
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
        limit(resource.RLIMIT_AS, memory, memory + SPARE_BYTES)
        # Without a user namespace it counts every process of the user.
        limit(resource.RLIMIT_NPROC, MAX_TASKS if self.namespaces else 4096)
        cpu_s = int(head.total_s) + 2
        limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
        most = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (most, most))  # recursion may use all memory; a thread has 2 MiB
        if mode == "exec":
            os.set_inheritable(3, False)
        self._confine(may_exec=mode == "exec")
        if mode == "exec":
            execveat(3)
        gc.enable()
        MODES[mode](request, self.region)
        os._exit(0)

    def _confine(self, may_exec: bool) -> None:
        """Give up every capability and, last, most system calls."""
        if self.ruleset >= 0:
            syscall("syscall", SYS_LANDLOCK_RESTRICT_SELF, self.ruleset, 0)
            os.close(self.ruleset)  # it is that of later programs, too, and whoever has it can add to it
        if self.namespaces:
            set_capabilities(0)
        if self.filters:
            program, _ = self.ready[may_exec] if self.ready else sock_fprog(self.filters[may_exec], os.getpid())
            syscall("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)


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


def _main() -> None:
    # Nothing of ours is left for a candidate to import.
    sys.path.pop()
    for name in [name for name in sys.modules if name.partition(".")[0] == "nemo_prm"]:
        del sys.modules[name]
    control_fd, request, region, *streams = map(int, sys.argv[1:7])
    options = json.loads(sys.argv[7])
    control = socket.socket(fileno=control_fd)
    try:
        if options["namespaces"]:
            enter_namespaces()
        else:
            fork_off(lambda: _spawn("rm", "-rf", options["folder"]))
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a program leaves behind becomes our child
            if os.geteuid() == 0:
                with contextlib.suppress(OSError):  # a container that has no other user
                    become_nobody(options["folder"])
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
            limit(which, most)
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
