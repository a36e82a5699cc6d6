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
"""What programs may do and which verdict they get for it; nothing of them is left afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import psutil
import pytest

from nemo_prm.config import SandboxConfig
from nemo_prm.data.problems import load_problems
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.sandbox import judge
from nemo_prm.sandbox.level import filters, offered_levels
from nemo_prm.sandbox.verifier import SandboxVerifier, default_verifier
from nemo_prm.types import Checker, Level, Problem, TestCase, Verdict


def descendants() -> set[int]:
    """Pids of every process below this one: what the sandbox keeps warm, and whatever a program left behind."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sandbox")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture(scope="module", params=offered_levels())
def verifier(request: pytest.FixtureRequest) -> Iterator[SandboxVerifier]:
    with SandboxVerifier(workers=2, level=request.param) as found:
        for problem in (ADD_ONE, code_problem("def check(candidate):\n    assert candidate(1) == 2\n")):
            verdicts = found.verify_many([(problem, "f = lambda x: x + 1\n")] * 8)
            assert all(verdict.passed and verdict.level == request.param for verdict in verdicts)
        yield found


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, own_temporary_folder: Path) -> Iterator[None]:
    others = set(psutil.Process().children(recursive=True))  # which other tests' modules have started for themselves
    yield
    for process in set(psutil.Process().children(recursive=True)) - others:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert any(part.endswith("zygote.py") for part in process.cmdline()) or process.name() == "bwrap"
    assert list(own_temporary_folder.glob("*/*")) == [], "a working folder was left"


def call_problem(*tests: tuple[list[Any], Any], **keys: Any) -> Problem:
    cases = tuple(TestCase("call", args=tuple(args), expected=expected) for args, expected in tests)
    return Problem("p", "", cases, entry_point="f", **{"time_limit_s": 5.0, **keys})


def code(text: str) -> str:
    return textwrap.dedent(text).strip("\n") + "\n"


def code_problem(*codes: str, **keys: Any) -> Problem:
    return Problem("c", "", tuple(TestCase("code", code=text) for text in codes), entry_point="f", **keys)


ADD_ONE = call_problem(([1], 2), ([5], 6), ([-1], 0))


def test_a_right_program_passes(verifier: SandboxVerifier) -> None:
    verdict = verifier.verify(ADD_ONE, "def f(x):\n    print('noise')\n    return x + 1\n")
    assert verdict.passed
    assert (verdict.num_tests, verdict.num_passed, verdict.failing_test) == (3, 3, None)
    assert 0 < verdict.seconds < 5 and 1 < verdict.peak_mib < 100
    assert verdict.sandbox == "sandbox-2"


def test_a_wrong_program_says_where(verifier: SandboxVerifier) -> None:
    verdict = verifier.verify(ADD_ONE, "def f(x):\n    return x + 1 if x != 5 else 'six'\n")
    assert (verdict.status, verdict.num_passed, verdict.failing_test) == ("wrong_answer", 2, 1)
    assert (verdict.expected, verdict.actual) == ("6", "'six'")


def test_arguments_are_fresh_and_keep_their_types(verifier: SandboxVerifier) -> None:
    tests = (
        TestCase("call", args=([1, 2],), expected=3),
        TestCase("call", args=([1, 2],), expected=3),
        TestCase("call", args=((1, 2), {3: {4}}), kwargs={"k": None}, expected="tuple {3: {4}} None"),
    )
    program = code("""
        def f(x, d=None, k=0):
            if d is not None:
                return f"{type(x).__name__} {d} {k}"
            total = sum(x)
            x.clear()
            return total
    """)
    assert verifier.verify(Problem("p", "", tests, entry_point="f"), program).passed


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("return 1 / 0", "runtime_error", "line 2: ZeroDivisionError: division by zero"),
        ("return f(x)", "runtime_error", "RecursionError"),
        ("import sys; sys.setrecursionlimit(10**9); return eval('(' * 0 + 'f(x)')", None, ""),
        ("import sys; sys.exit(0)", "runtime_error", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "runtime_error", "KeyboardInterrupt"),
        ("import os; os._exit(0)", "runtime_error", "ended early (exit status 0)"),
        ("import os; os.abort()", "runtime_error", "ended early (signal SIG"),
        ("import ctypes; ctypes.string_at(0)", "runtime_error", "SIGSEGV"),
        ("import os; os.closerange(0, 1000); return 2", "passed", ""),
        ("class E(Exception):\n        def __str__(self): raise self\n    raise E", "runtime_error", "cannot be had"),
        ("class E(BaseException):\n        __str__ = lambda s: 'x' * 10**6\n    raise E", "runtime_error", "E: xxx"),
        ("return float('nan')", "wrong_answer", ""),
        ("return object()", "wrong_answer", "a value of type object"),
        ("return True + 1.0", "passed", ""),
        ("y = []; y.append(y); return y", "wrong_answer", "nested too deeply"),
        ("return 'x' * (4 * 10**7)", "output_limit", ""),
        ("return bytearray(10**9)", "memory_limit", "MemoryError"),
        ("return [0] * 10**10", "memory_limit", "MemoryError"),
        ("y = []\n    while True: y.append(' ' * 10**6)", "memory_limit", "line 3: MemoryError"),
        ("return open('x', 'wb').write(b' ' * 2**25)", "runtime_error", "OSError"),
        ("return [open('/dev/null') for _ in range(100)]", "runtime_error", "Too many open files"),
        ("import socket; return len(__import__('os').environ) + 2", "passed", ""),
    ],
)
def test_what_goes_wrong_in_a_call(verifier: SandboxVerifier, body: str, status: str | None, message: str) -> None:
    verdict = verifier.verify(call_problem(([1], 2)), f"def f(x):\n    {body}\n")
    if status is None:  # a crash of the interpreter or a lack of memory, as the platform has it
        assert verdict.status in ("runtime_error", "memory_limit")
    else:
        assert (verdict.status, message in verdict.message) == (status, True), verdict


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("def f(x:\n", "compile_error", "SyntaxError"),
        ("def f(x): return 2\n\0", "compile_error", ""),
        ("x = " + "(" * 1000, "compile_error", ""),
        ("", "runtime_error", "does not define f"),
        ("def g(x): return 2\n", "runtime_error", "does not define f"),
        ("import numpy\n", "runtime_error", "line 1: ModuleNotFoundError"),
        ("exit = 1\nraise SystemExit(0)\n", "runtime_error", "SystemExit"),
        ("exec('(')\n", "runtime_error", "SyntaxError"),
        ("f = lambda x: 2\nimport plain\n", "runtime_error", "ModuleNotFoundError"),
        ("from __future__ import annotations\ndef f(x: what) -> nothing: return 2\n", "passed", ""),
        ("def f(x: what): return 2\n", "runtime_error", "NameError"),
        ("f = lambda x: 2\nif __name__ == '__main__': input()\n", "passed", ""),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    y: int\nf = lambda x: A(2).y\n", "passed", ""),
    ],
)
def test_what_goes_wrong_before_the_call(verifier: SandboxVerifier, program: str, status: str, message: str) -> None:
    verdict = verifier.verify(call_problem(([1], 2)), program)
    assert (verdict.status, message in verdict.message) == (status, True), verdict


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal\n    for s in range(1, 32):\n        try: signal.signal(s, signal.SIG_IGN)\n"
        "        except OSError: pass\n    while True: pass",
        "(lambda: (a for a in iter(int, 1)))() and sum(iter(int, 1))",
        "import threading; threading.Event().wait()",
        "class E(Exception):\n        def __str__(self):\n            while True: pass\n    raise E",
    ],
)
def test_an_endless_program_is_stopped(verifier: SandboxVerifier, body: str) -> None:
    started = time.monotonic()
    verdict = verifier.verify(call_problem(([1], 2), ([2], 3), time_limit_s=0.3), f"def f(x):\n    {body}\n")
    assert verdict.status == "time_limit"
    assert time.monotonic() - started < 3


def test_each_test_has_the_time_limit(verifier: SandboxVerifier) -> None:
    program = "import time\ndef f(x):\n    time.sleep(x)\n    return x\n"
    slow = call_problem(*[([0.25], 0.25)] * 4, ([60.0], 60.0), ([0.0], 0.0), time_limit_s=0.8)
    verdict = verifier.verify(slow, program)
    assert (verdict.status, verdict.failing_test, verdict.num_passed) == ("time_limit", 4, 4)


def test_threads_are_welcome_and_processes_are_not(verifier: SandboxVerifier) -> None:
    threads = code("""
        import threading, time
        def f(x):
            for _ in range(20):
                threading.Thread(target=time.sleep, args=(600,)).start()
            return 2
    """)
    before = descendants()
    assert verifier.verify(call_problem(([1], 2)), threads).passed
    for call in ("os.fork()", "os.system('true')", "os.execv('/bin/true', ['true'])", "subprocess.run(['true'])"):
        verdict = verifier.verify(
            call_problem(([1], 2)), f"import os, subprocess\ndef f(x):\n    {call}\n    return 2\n"
        )
        if verifier.level != "namespaces":  # which is for machines without libseccomp
            assert (verdict.status, verdict.num_passed) in (("runtime_error", 0), ("passed", 1)), verdict
            assert verdict.passed == (call == "os.system('true')")  # it answers -1
    assert descendants() == before


def test_a_fork_bomb_ends_with_its_verdict(verifier: SandboxVerifier) -> None:
    program = code("""
        import os, time
        def f(x):
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline:
                try:
                    if os.fork() == 0 and os.getpid() % 3 == 0:
                        os.setsid()
                except OSError:
                    pass
                time.sleep(0.02)
            time.sleep(60)
    """)
    before = descendants()
    assert verifier.verify(call_problem(([1], 2), time_limit_s=0.5), program).status == "time_limit"
    assert descendants() == before


def test_files_are_removed_and_the_folder_is_its_own(verifier: SandboxVerifier) -> None:
    program = code("""
        import os
        def f(x):
            found = os.listdir(".")
            os.makedirs("a/b")
            open("a/b/c", "w").write("x")
            try:
                os.chmod("a/b", 0)
            except PermissionError:  # refused where programs are not alone with their files
                pass
            for _ in range(1500):
                os.mkdir("d")
                os.chdir("d")
            return found
    """)
    for _ in range(2):
        assert verifier.verify(call_problem(([1], [])), program).passed


def test_a_program_cannot_reach_the_judge(verifier: SandboxVerifier) -> None:
    for deed in ("os.kill(os.getppid(), 9)", "os.kill(-1, 9)", "os.killpg(0, 19)", "os.kill(os.getppid(), 19)"):
        program = f"import os\ndef f(x):\n    try:\n        {deed}\n    except OSError: pass\n    return 3\n"
        if verifier.level != "rlimits" or filters():
            assert verifier.verify(call_problem(([1], 2)), program).status in ("wrong_answer", "runtime_error")
        assert verifier.verify(ADD_ONE, "f = lambda x: x + 1\n").passed


def test_a_dead_box_is_made_anew(verifier: SandboxVerifier) -> None:
    """A worker that is killed from outside, in mid-run and between runs: judged again, nothing is wronged."""
    future = verifier.submit(ADD_ONE, "import time\ntime.sleep(0.5)\nf = lambda x: x + 1\n")
    time.sleep(0.2)
    for _ in range(2):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert future.result(30).passed
        future = verifier.submit(ADD_ONE, "f = lambda x: x + 1\n")
    assert future.result(30).passed


THIEF = code("""
    import ctypes, os
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    top, found = libc.sbrk(0), []
    page = bytearray(4096)
    for start in range(top - (32 << 20), top, 4096):
        if libc.mincore(ctypes.c_void_p(start), 1, ctypes.create_string_buffer(1)) == 0:
            text = ctypes.string_at(start, 4096)
            at = text.find(b"def f(x): #" + b" honest")
            if at >= 0:
                found.append(text[at:text.index(b"# end", at)])
    exec(found[0].decode())
""")


def test_nothing_of_an_earlier_program_can_be_found_in_memory(verifier: SandboxVerifier) -> None:
    """The zygote must not have held it: its children inherit all of its memory, freed parts included."""
    honest = "def f(x): # honest\n    return x + 1\n# end\n"
    for _ in range(4):
        assert all(v.passed for v in verifier.verify_many([(ADD_ONE, honest)] * 8))
        assert not any(v.passed for v in verifier.verify_many([(ADD_ONE, THIEF)] * 2))


def test_threads_that_wait_for_one_another_are_not_starved(verifier: SandboxVerifier) -> None:
    program = code("""
        import threading, time, zlib
        threading.stack_size(65536)
        data = bytes(380_000)
        def work():
            while True:
                now = time.monotonic()
                time.sleep(0.3 - now % 0.3)
                zlib.crc32(data)
        for _ in range(90):
            threading.Thread(target=work).start()
        work()
    """)
    started = time.monotonic()
    assert verifier.verify(call_problem(([1], 2), time_limit_s=0.5), program).status == "time_limit"
    assert time.monotonic() - started < 5


def test_a_forged_region_does_not_keep_the_judge_busy(verifier: SandboxVerifier) -> None:
    program = code("""
        import os, sys
        frame = sys._getframe()
        while "region" not in frame.f_locals:
            frame = frame.f_back
        memory = frame.f_locals["region"]._map
        memory[8:] = b"\\n" * (len(memory) - 8)
        memory[:8] = (2**24).to_bytes(4, "little") + (len(memory) - 8).to_bytes(4, "little")
        os._exit(0)
    """)
    started = time.monotonic()
    assert verifier.verify(ADD_ONE, program).status == "runtime_error"
    assert time.monotonic() - started < 2


def test_flags_of_a_stream_do_not_reach_the_next_program(verifier: SandboxVerifier) -> None:
    plant = "import fcntl, os\nfor fd in range(3): fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)\n"
    rewrite = "import os\nos.write(1, b'xx\\n')\nos.lseek(1, 0, 0)\nos.write(1, b'ab\\n')\n"
    for _ in range(3):
        verifier.verify_many([(stdio(("", "")), plant)] * 2)
        assert all(v.passed for v in verifier.verify_many([(stdio(("", "ab\n")), rewrite)] * 2))


def test_a_fork_of_the_judge_does_not_close_its_sandbox(verifier: SandboxVerifier) -> None:
    future = verifier.submit(ADD_ONE, "import time\ntime.sleep(0.5)\nf = lambda x: x + 1\n")
    time.sleep(0.1)
    child = subprocess.Popen([sys.executable, "-c", "pass"])  # warms up what a fork does below
    child.wait()
    if (pid := os.fork()) == 0:
        verifier.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert future.result(20).passed


def test_forged_answers_do_not_pass(verifier: SandboxVerifier) -> None:
    """Messages on every descriptor, equal-to-everything objects, and digging for the expected value."""
    problem = call_problem(([1], "secret-1"), ([2], "secret-2"))
    for program in (
        """
        import os
        for fd in range(3, 64):
            try:
                for _ in range(3):
                    os.write(fd, b'{"value": true, "passed": true}\\n')
                os.write(fd, b'{"done": 0}\\n')
            except OSError:
                pass
        os._exit(0)
        """,
        """
        class Any(str):
            __eq__ = lambda self, other: True
            __hash__ = str.__hash__
        f = lambda x: Any()
        """,
        """
        import gc, sys
        def f(x):
            frame, seen = sys._getframe(), []
            while frame:
                seen.append(repr(frame.f_locals)[:10**6])
                frame = frame.f_back
            seen += [repr(o)[:10**4] for o in gc.get_objects() if isinstance(o, (dict, list, tuple))][:5000]
            text = " ".join(seen)
            return "secret-%d" % x if "secret-%d" % x in text.replace("secret-%d", "") else "not found"
        """,
    ):
        verdict = verifier.verify(problem, code(program))
        assert (verdict.status in ("wrong_answer", "runtime_error"), verdict.num_passed) == (True, 0), verdict


def stdio(*pairs: tuple[str, str], **keys: Any) -> Problem:
    return Problem("s", "", tuple(TestCase("stdio", stdin=i, stdout=o) for i, o in pairs), **keys)


ECHO_SUM = stdio(("1 2\n", "3\n"), ("10 20", "30"), ("", "0\n"))


@pytest.mark.parametrize(
    ("program", "status", "passed", "message"),
    [
        ("print(sum(map(int, open(0).read().split())))", "passed", 3, ""),
        ("print(sum(map(int, open(0).read().split())))\nexit()", "passed", 3, ""),
        ("w = open(1, 'w')\nw.write(str(sum(map(int, open(0).read().split()))))", "passed", 3, ""),
        ("import sys\nprint(sum(map(int, open(0).read().split())))\nsys.stdout.close()", "passed", 3, ""),
        ("import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.read().split())))\n    sys.exit()",
         "passed", 3, ""),
        ("import sys, atexit\natexit.register(print, sum(map(int, sys.stdin.read().split())))",
         "passed", 3, ""),
        ("import threading\nthreading.Thread(target=lambda: print(sum(map(int, open(0).read().split())))).start()",
         "passed", 3, ""),
        ("print(sum(map(int, input().split())))", "runtime_error", 2, "line 1: EOFError"),
        ("print(3)", "wrong_answer", 1, ""),
        ("print(3); raise SystemExit(1)", "runtime_error", 0, "exit status 1"),
        ("print(3); exit('bye')", "runtime_error", 0, ""),
        ("print(3, flush=True); import os; os.abort()", "runtime_error", 0, "signal SIG"),
        ("while True: print('x' * 1000)", "output_limit", 0, ""),
        ("print('x' * 2**25)", "output_limit", 0, ""),
        ("x = [0] * 10**10", "memory_limit", 0, ""),
        ("def f(:", "compile_error", 0, ""),
    ],
)  # fmt: skip
def test_stdio(verifier: SandboxVerifier, program: str, status: str, passed: int, message: str) -> None:
    verdict = verifier.verify(ECHO_SUM, program)
    assert (verdict.status, verdict.num_passed, message in verdict.message) == (status, passed, True), verdict


def test_stdio_shows_both_sides(verifier: SandboxVerifier) -> None:
    verdict = verifier.verify(ECHO_SUM, "print(3)\n")
    assert (verdict.failing_test, verdict.expected, verdict.actual) == (1, "'30'", "'3\\n'")


def test_stdio_of_large_input_and_odd_text(verifier: SandboxVerifier) -> None:
    text = "é𝄞" * 100_000 + "\n"
    assert verifier.verify(stdio((text, text)), "print(input())").passed


CHECK = "def check(candidate):\n    assert candidate(1) == 2, 'one'\n    assert helper(1) == 1 and f is candidate\n"
HELPER = "def helper(x):\n    return x\n"  # of the problem, not of the candidate


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("def f(x): return x + 1", "passed", ""),
        ("def f(x): return x", "wrong_answer", "AssertionError: one"),
        ("def f(x): return x[0]", "runtime_error", "line 1: TypeError"),
        ("def f(x): raise SystemExit(0)", "runtime_error", "SystemExit"),
        ("import os\ndef f(x): os._exit(0)", "runtime_error", "the program ended"),
        ("check = lambda candidate: None\nimport os\nos._exit(0)", "runtime_error", "the program ended"),
        ("check = lambda candidate: None\ndef f(x): return 3", "wrong_answer", "one"),
        ("def f(x): return type('L', (), {'__eq__': lambda a, b: True})()", "wrong_answer", "a value of type L"),
        ("def g(x): return 2", "runtime_error", "does not define f"),
        ("def f(x): return 2 +", "compile_error", "SyntaxError"),
        ("def f(x):\n  while True: pass", "time_limit", ""),
        ("def f(x): return [0] * 10**10", "memory_limit", ""),
        ("import time\ndef f(x): time.sleep(60)", "time_limit", ""),
    ],
)
def test_code(verifier: SandboxVerifier, program: str, status: str, message: str) -> None:
    verdict = verifier.verify(code_problem(CHECK, program_prefix=HELPER, time_limit_s=0.5), program + "\n")
    assert (verdict.status, message in verdict.message) == (status, True), verdict


def test_code_sees_what_a_candidate_does_to_its_arguments_and_raises(verifier: SandboxVerifier) -> None:
    check = code("""
        def check(candidate):
            numbers, table = [3, 1, 2], {"a": 1}
            assert candidate(numbers, table=table) is None
            assert numbers == [1, 2, 3] and table == {"b": [2]}
            try:
                candidate([], table={})
            except ValueError as error:
                assert error.args == ("empty",)
            else:
                assert False, "nothing raised"
    """)
    program = code("""
        def f(numbers, table):
            if not numbers:
                raise ValueError("empty")
            numbers.sort()
            table.pop("a")
            table["b"] = [2]
    """)
    verdict = verifier.verify(code_problem(check), program)
    assert verdict.passed, verdict


LOOP = "def check(candidate):\n    for y in map(candidate, [1, 2]):\n        assert y == 2\n"
SUM = "def check(candidate):\n    assert sum(1 for y in range(candidate(3))) == 3\n"
LAZY = "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass\n"
RAISES = (
    "def check(candidate):\n    for _ in range(9):\n        try:\n            candidate(1)\n"
    "        except ValueError:\n            pass\n        else:\n            assert False\n"
)
SLOW = "import time\ndef check(candidate):\n    time.sleep(2.5)\n    y = candidate(1)\n    assert y == 2\n"


@pytest.mark.parametrize(
    ("check", "program", "status"),
    [
        (LOOP, "def f(x): raise StopIteration", "runtime_error"),
        (SUM, "def f(x): return 10**18", "wrong_answer"),
        (SUM, "import os, threading\ndef f(x):\n    threading.Timer(0.3, os._exit, [0]).start()\n    return 10**18",
         "runtime_error"),
        (SLOW, "import os, threading\ndef f(x): pass\nthreading.Timer(0.2, os._exit, [0]).start()", "runtime_error"),
        (RAISES, "import time\ndef f(x):\n    time.sleep(1.2)\n    raise ValueError", "time_limit"),
        (RAISES, "import os, time\nos.write(3, b'x9\\0\\0')\nwhile os.write(3, b'x'): time.sleep(0.1)", "time_limit"),
        (RAISES, "def f(x): raise ValueError", "passed"),
        (LAZY, "def f(x): return object()", "wrong_answer"),
        (LAZY, "def f(x): raise ValueError", "passed"),
        (SLOW, "def f(x): return 2", "passed"),
    ],
)  # fmt: skip
def test_tests_that_a_candidate_plays_with(
    verifier: SandboxVerifier, check: str, program: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "TRUSTED_TIME_S", 4.0)  # of the test's own endless loop
    verdict = verifier.verify(code_problem(check, time_limit_s=0.5), program + "\n")
    assert verdict.status == status, verdict


@pytest.mark.parametrize(
    ("check", "program", "status", "message"),
    [
        # What plain data cannot say cannot be passed; a test that expects an error must not take that for it.
        ("    candidate(lambda: 1)", "def f(x): return 2", "infra_error", "a value of type function"),
        ("    try: candidate(object())\n    except ValueError: pass", "def f(x): return 2", "infra_error", "object"),
        ("    candidate([0] * 2_000_000)", "def f(x): return 2", "infra_error", "too large"),
        ("    import nowhere\n    candidate(1)", "def f(x): return 2", "infra_error", "No module named 'nowhere'"),
        ("    pass", "def f(x): return 2", "infra_error", "does not call the candidate"),
        ("    undefined\n    candidate(1)", "def f(x): return 2", "infra_error", "NameError"),
        # ... but not because of what the candidate returned.
        ("    v = candidate(1)\n    for _ in range(99): v = [v]\n    candidate(v)",
         "def f(x):\n    for _ in range(150): x = [x]\n    return x", "wrong_answer", "too large"),
        ("    x = [0]\n    try: candidate(x)\n    except ValueError: candidate((x,))",  # it came as a changed argument
         "def f(x):\n    for _ in range(197): x[0] = [x[0]]\n    raise ValueError", "wrong_answer", "too large"),
    ],
)  # fmt: skip
def test_a_broken_test_is_not_the_programs_fault(
    verifier: SandboxVerifier, check: str, program: str, status: str, message: str
) -> None:
    verdict = verifier.verify(code_problem(f"def check(candidate):\n{check}\n"), program + "\n")
    assert (verdict.status, message in verdict.message) == (status, True), verdict


EXCEPTIONS = """
import json, threading
from concurrent.futures import ThreadPoolExecutor

def raised(x):
    try:
        f(x)
    except Exception as error:
        return error

for kind, known, args in (
    ("ValueError('negative', 3)", ValueError, ("negative", 3)),
    ("OSError(2, 'gone')", FileNotFoundError, (2, "gone")),
    ("type('Negative', (KeyError,), {})('k')", KeyError, ("k",)),
    ("__import__('json').JSONDecodeError('bad', 'doc', 0)", ValueError, None),
    ("__import__('decimal').InvalidOperation()", ArithmeticError, None),
    ("Full('queue')", Full, ("queue",)),
):
    error = raised(kind)
    assert isinstance(error, known) and args in (None, error.args), (kind, error)
assert "SystemExit" in str(raised("SystemExit(3)"))

with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(f, range(200))) == list(range(200))

numbers, ordered = [3, 1, 2], __import__("collections").OrderedDict(a=1)
assert isinstance(raised([numbers, ordered]), RuntimeError)
assert numbers == [1, 2, 3] and ordered == {}
"""
RAISER = """
def f(x):
    if isinstance(x, str):
        raise eval(x)
    if isinstance(x, list):
        x[0].sort()
        x[1].clear()
        raise RuntimeError
    return x
"""


def test_assertions_under_the_entry_points_name_see_exceptions_threads_and_changes(verifier: SandboxVerifier) -> None:
    """MBPP's form, and what tests of exceptions rely on: class, arguments, changes made before it was raised."""
    full = "class Full(Exception):\n    pass\n"
    problem = code_problem(EXCEPTIONS, program_prefix=full)
    verdict = verifier.verify(problem, full + RAISER)
    assert verdict.passed, verdict
    bare = code_problem("assert f(1) == 2\nassert f([1]) == [1, 2]\n")
    assert verifier.verify(bare, "def f(x): return x + [2] if isinstance(x, list) else 2\n").passed
    assert verifier.verify(bare, "def f(x): return 2\n").status == "wrong_answer"


SOLUTION = "class Solution:\n    seen = 0\n    def f(self, x):\n        self.seen += 1\n        return x + self.seen\n"


@pytest.mark.parametrize("entry_point", ["f", "Solution.f"])
def test_methods_of_a_solution_class(verifier: SandboxVerifier, entry_point: str) -> None:
    """LeetCode's and LiveCodeBench's form; each call is on a new object."""
    for problem in (
        call_problem(([1], 2), ([5], 6)),
        code_problem("def check(candidate):\n    got = candidate(1), candidate(1)\n    assert got == (2, 2)\n"),
    ):
        problem = dataclasses.replace(problem, entry_point=entry_point)
        verdict = verifier.verify(problem, SOLUTION)
        assert verdict.passed, verdict
        verdict = verifier.verify(problem, SOLUTION.replace("def f", "def g"))
        assert f"does not define {entry_point}" in verdict.message


def test_a_solution_class_goes_before_what_is_imported(verifier: SandboxVerifier) -> None:
    problem = dataclasses.replace(call_problem(([[2, 1]], [1, 2])), entry_point="merge")
    method = "from heapq import *\nclass Solution:\n    def merge(self, v):\n        return sorted(v)\n"
    assert verifier.verify(problem, method).passed
    own = method + "def merge(v):\n    return v\n"  # what the program itself defines goes before both
    assert verifier.verify(problem, own).status == "wrong_answer"
    imported = "from heapq import heapify as merge\n"
    assert verifier.verify(dataclasses.replace(problem, tests=(TestCase("call", args=([1],)),)), imported).passed


def test_a_function_may_be_called_check(verifier: SandboxVerifier) -> None:
    problem = code_problem("import math\nassert math.isclose(check(1), 0.5)\n")
    problem = dataclasses.replace(problem, entry_point="check")
    assert verifier.verify(problem, "def check(x): return x / 2\n").passed
    assert verifier.verify(problem, "def check(x): return x\n").status == "wrong_answer"


FAST_IO = """
import os, sys
from io import BytesIO, IOBase

class FastIO(IOBase):
    def __init__(self, file):
        self._fd = file.fileno()
        self.buffer = BytesIO()
        self.writable = "x" in file.mode or "r" not in file.mode
        self.write = self.buffer.write if self.writable else None
    def flush(self):
        if self.writable:
            os.write(self._fd, self.buffer.getvalue())
            self.buffer.truncate(0), self.buffer.seek(0)

class IOWrapper(IOBase):
    def __init__(self, file):
        self.buffer = FastIO(file)
        self.flush = self.buffer.flush
        self.writable = self.buffer.writable
        self.write = lambda s: self.buffer.write(s.encode("ascii"))

line = sys.stdin.readline()
sys.stdout = IOWrapper(sys.stdout)
print(int(line) + 1)  # open
"""
PLAIN_WRITER = """
import sys
class Writer:
    def __init__(self): self.parts = []
    def write(self, text): self.parts.append(text)
    def flush(self):
        sys.__stdout__.write("".join(self.parts)); self.parts = []
sys.stdout = Writer()
print(int(input()) + 1)
"""


@pytest.mark.parametrize("program", [FAST_IO, PLAIN_WRITER])
def test_output_streams_of_the_programs_own(verifier: SandboxVerifier, program: str) -> None:
    verdict = verifier.verify(stdio(("1\n", "2"), ("5\n", "6")), program)
    assert verdict.passed, verdict


def test_many_threads_need_no_memory_limit_of_their_own(verifier: SandboxVerifier) -> None:
    program = code("""
        import threading
        from concurrent.futures import ThreadPoolExecutor
        def f(x):
            gate = threading.Barrier(60)
            with ThreadPoolExecutor(60) as pool:
                return len(list(pool.map(lambda _: gate.wait(), range(60))))
    """)
    assert verifier.verify(call_problem(([1], 60), memory_limit_mb=256), program).passed


def test_what_was_printed_to_stderr_is_in_the_message(verifier: SandboxVerifier) -> None:
    program = "import threading\nthreading.Thread(target=lambda: [][0]).start()\n"
    verdict = verifier.verify(stdio(("", "1")), program)
    assert verdict.status == "wrong_answer" and "IndexError" in verdict.message


def test_kinds_mix_and_tests_can_be_given(verifier: SandboxVerifier) -> None:
    tests = (
        TestCase("stdio", stdin="4", stdout="5"),
        TestCase("call", args=(1,), expected=2),
        TestCase("code", code="def check(candidate):\n    assert candidate(3) == 4\n"),
        TestCase("call", args=(2,), expected=99),
    )
    program = "def f(x):\n    return x + 1\nif __name__ == '__main__':\n    print(f(int(input())))\n"
    problem = Problem("m", "", tests, entry_point="f")
    verdict = verifier.verify(problem, program)
    assert (verdict.num_passed, verdict.failing_test, verdict.expected, verdict.actual) == (3, 3, "99", "3")
    assert verifier.verify(problem, program, tests[:3]).passed


def test_misuse_is_refused(verifier: SandboxVerifier) -> None:
    with pytest.raises(ConfigError, match="of kind stdio"):
        verifier.verify(call_problem(([1], 2), language="cpp"), "int main() {}")
    with pytest.raises(ConfigError, match="no test"):
        verifier.verify(ADD_ONE, "", [])
    with pytest.raises(ConfigError, match="entry_point"):
        verifier.verify(Problem("p", "", ADD_ONE.tests), "")
    with pytest.raises(DataError, match="a value of type object"):
        verifier.verify(call_problem(([object()], 1)), "")
    with pytest.raises(ConfigError, match="workers"):
        SandboxVerifier(workers=-1)
    with pytest.raises(ConfigError, match="time_limit_s"):
        default_verifier(SandboxConfig(time_limit_s=0.0))


def test_limits_of_the_config_take_precedence() -> None:
    with default_verifier(SandboxConfig(workers=1, time_limit_s=0.2, memory_limit_mb=50)) as verifier:
        assert verifier.verify(ADD_ONE, "import time\ntime.sleep(1)\n").status == "time_limit"
        assert verifier.verify(ADD_ONE, "x = bytearray(60 * 2**20)\n").status == "memory_limit"
        assert verifier.verify(ADD_ONE, "x = bytearray(40 * 2**20)\ndef f(x): return x + 1\n").passed


def test_verdicts_come_in_order_from_several_threads(verifier: SandboxVerifier) -> None:
    jobs = [(call_problem(([i], i)), f"f = lambda x: {i if i % 3 else -1}\n") for i in range(1, 61)]
    expected = ["passed" if i % 3 else "wrong_answer" for i in range(1, 61)]
    with ThreadPoolExecutor(3) as pool:
        results: list[list[Verdict]] = list(pool.map(verifier.verify_many, [jobs] * 3))
    assert [[verdict.status for verdict in verdicts] for verdicts in results] == [expected] * 3


def test_set_order_does_not_change_from_judge_to_judge() -> None:
    problem = call_problem(([1], "never"))
    program = "f = lambda x: ''.join({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})\n"
    seen = set()
    for _ in range(3):
        with SandboxVerifier(workers=1) as verifier:
            seen.add(verifier.verify(problem, program).actual)
    assert len(seen) == 1


@pytest.mark.parametrize("level", offered_levels())
def test_closing_leaves_no_process_and_no_folder(own_temporary_folder: Path, level: Level) -> None:
    before, files, fds = descendants(), list(own_temporary_folder.iterdir()), psutil.Process().num_fds()
    with SandboxVerifier(workers=2, level=level) as verifier:
        verifier.verify_many([(ADD_ONE, "f = lambda x: x + 1\n")] * 8)
        verifier.submit(ADD_ONE, "while True: pass\n")
        assert len(descendants() - before) >= 2
    assert (descendants(), list(own_temporary_folder.iterdir()), psutil.Process().num_fds()) == (before, files, fds)


@pytest.mark.parametrize("level", offered_levels())
def test_a_killed_judge_leaves_no_process(tmp_path: Path, level: Level) -> None:
    script = code(f"""
        from nemo_prm.sandbox.verifier import SandboxVerifier
        from nemo_prm.types import Problem, TestCase
        problem = Problem("p", "", (TestCase("call", expected=1),), entry_point="f", time_limit_s=60.0)
        verifier = SandboxVerifier(workers=1, level={level!r})
        print("ready", flush=True)
        verifier.verify(problem, "while True: pass\\n")
    """)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    judge = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert judge.stdout is not None
    judge.stdout.readline()
    deadline = time.monotonic() + 20
    while len(started := psutil.Process(judge.pid).children(recursive=True)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    judge.send_signal(signal.SIGKILL)
    judge.wait()
    judge.stdout.close()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert len(started) >= 2 and not alive
    assert list(tmp_path.iterdir()) == []


def test_cancelling_drops_what_waits_and_ends_what_runs(verifier: SandboxVerifier) -> None:
    endless = call_problem(([1], 2), time_limit_s=60.0)
    jobs = [verifier.submit(endless, "while True: pass\n") for _ in range(6)]
    time.sleep(0.5)
    started = time.monotonic()
    assert all(job.cancel() for job in jobs)
    assert all(job.cancelled() or isinstance(job.exception(10), CancelledError) for job in jobs)
    assert verifier.verify(ADD_ONE, "f = lambda x: x + 1\n").passed
    assert time.monotonic() - started < 5


def test_a_batch_does_not_hold_up_others(verifier: SandboxVerifier) -> None:
    slow = "import time\ntime.sleep(0.2)\nf = lambda x: x + 1\n"
    with ThreadPoolExecutor(1) as thread:
        batch = thread.submit(verifier.verify_many, [(ADD_ONE, slow)] * 20)
        time.sleep(0.3)
        started = time.monotonic()
        assert verifier.verify(ADD_ONE, "f = lambda x: x + 1\n").passed
        assert time.monotonic() - started < 1
        assert all(verdict.passed for verdict in batch.result())


def test_stopping_at_the_first_failure(verifier: SandboxVerifier) -> None:
    with SandboxVerifier(workers=1, level=verifier.level, stop_at_first_failure=True) as impatient:
        started = time.monotonic()
        program = "import time\ndef f(x):\n    time.sleep(x)\n    return x\n"
        verdict = impatient.verify(call_problem(([0], 1), *[([1], 1)] * 4), program)
        assert (verdict.status, verdict.failing_test, verdict.num_passed) == ("wrong_answer", 0, 0)
        assert time.monotonic() - started < 2
        verdict = impatient.verify(stdio(("a", "a"), ("b", "a"), ("c", "c")), "print(input())")
        assert (verdict.status, verdict.failing_test, verdict.num_passed) == ("wrong_answer", 1, 1)


def test_all_tests_together_have_a_limit() -> None:
    with SandboxVerifier(workers=1, total_time_limit_s=0.6) as verifier:
        burn = "    clock = time.process_time\n    end = clock() + 0.2\n    while clock() < end: pass\n"
        program = f"import time\ndef f(x):\n{burn}"
        verdict = verifier.verify(call_problem(*[([1], None)] * 20), program)
        assert verdict.status == "time_limit" and 1 <= verdict.num_passed <= 4


CPP_SUM = "#include <iostream>\nint main() { long a, b; std::cin >> a >> b; std::cout << a + b << std::endl; }\n"


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        (CPP_SUM, "passed", ""),
        (CPP_SUM.replace("+", "-"), "wrong_answer", ""),
        ("int main() { return 3; }", "runtime_error", "exit status 3"),
        ("int main() { for (;;); }", "time_limit", ""),
        (
            "#include <vector>\nint main() { std::vector<int> v; for (;;) v.push_back(1); }",
            "memory_limit",
            "bad_alloc",
        ),
        ('#include <cstdio>\nint main() { for (;;) puts("a long line of text"); }', "output_limit", ""),
        ("#include <cstdlib>\nint main() { abort(); }", "runtime_error", "signal"),
        ("int main() { return x; }", "compile_error", "'x' was not declared"),
        ('#include "/etc/passwd"\nint main() {}', "compile_error", "No such file"),
    ],
)
def test_cpp(verifier: SandboxVerifier, program: str, status: str, message: str) -> None:
    if "/etc" in program and verifier.level == "rlimits":
        pytest.skip("files are in sight at this level")
    problem = stdio(("1 2\n", "3"), ("10 20", "30"), language="cpp", time_limit_s=1.0)
    verdict = verifier.verify(problem, program)
    assert (verdict.status, message in verdict.message) == (status, True), verdict


def test_cpp_without_a_compiler_is_unknown(verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    verdict = verifier.verify(stdio(("", ""), language="cpp"), "int main() {}")
    assert verdict.status == "infra_error" and "no g++" in verdict.message


def test_humaneval_solutions_all_pass(verifier: SandboxVerifier) -> None:
    problems = load_problems("humaneval")
    started = time.monotonic()
    verdicts = verifier.verify_many([(p, p.program_prefix + p.extra["canonical_solution"]) for p in problems])
    assert [p.problem_id for p, verdict in zip(problems, verdicts) if not verdict.passed] == []
    assert time.monotonic() - started < 60
    stubs = verifier.verify_many([(p, p.program_prefix + "    return None\n") for p in problems])
    assert not any(verdict.passed for verdict in stubs)


def test_embedded_solutions_all_pass(verifier: SandboxVerifier) -> None:
    problems = load_problems("embedded", "validation")[:50]
    verdicts = verifier.verify_many([(p, p.extra["solution"]) for p in problems])
    assert all(verdict.passed for verdict in verdicts)


@pytest.mark.parametrize(
    ("program", "status"),
    [("import time\ntime.sleep(60)\ndef f(x): return 2\n", "time_limit"),
     ("import time\ndef f(x):\n    time.sleep(0.8)\n    return 2\n", "passed")],
)  # fmt: skip
def test_a_program_may_take_longer_than_its_tests(
    verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch, program: str, status: str
) -> None:
    """Where the time limit is long: silence is no broken test, and who is slow is heard out."""
    monkeypatch.setattr(judge, "TRUSTED_TIME_S", 0.5)
    test = TestCase("code", code="def check(candidate):\n    for x in [1]: assert candidate(x) == 2\n")
    problem = Problem("p", "", (test,) * 4, entry_point="f", time_limit_s=1.5)
    assert verifier.verify(problem, program).status == status


CLOSE = (
    "def check(given, expected, actual):\n    assert type(actual) is float\n    return abs(actual - expected) < 0.1\n"
)


def test_a_checker_that_an_answer_hangs_or_overwhelms(
    verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "TRUSTED_TIME_S", 1.0)
    prime = Checker("code", code="def check(g, e, a):\n    return all(a % i for i in range(2, a))\n")
    tests = tuple(TestCase("call", args=(x,), expected=7, checker=prime) for x in range(3))
    verdict = verifier.verify(Problem("p", "", tests, entry_point="f"), "f = lambda x: 7 + x * 2**607 - x\n")
    assert (verdict.status, verdict.failing_test, verdict.num_passed) == ("wrong_answer", 1, 1), verdict
    wide = code("""
        import os, sys
        def f(x):
            region = sys._getframe(1).f_locals["region"]
            region.add(value="[" + "1," * 1_500_000 + "1]")
            os._exit(0)
    """)
    verdict = verifier.verify(Problem("p", "", tests[:1], entry_point="f"), wide)
    assert verdict.status == "wrong_answer", verdict


def test_a_problem_may_bring_its_own_checker(verifier: SandboxVerifier) -> None:
    """Trusted code, in a box of its own: it may reject, and fail; only its own failure leaves the verdict unknown."""
    checker = Checker("code", code=CLOSE)
    tests = (
        TestCase("call", args=(1,), expected=1.0, checker=checker),
        TestCase("call", args=(2,), expected=5.0, alternatives=(2.0, 3.0), checker=checker),
    )
    problem = Problem("p", "", tests, entry_point="f")
    assert verifier.verify(problem, "f = lambda x: x + 0.05\n").passed
    verdict = verifier.verify(problem, "f = lambda x: x + 0.5\n")
    assert (verdict.status, verdict.num_passed, verdict.expected, verdict.actual) == ("wrong_answer", 0, "1.0", "1.5")
    assert verifier.verify(problem, "f = lambda x: None\n").status == "wrong_answer"
    length = Checker("code", code="def check(given, expected, actual):\n    return len(actual) == len(expected)\n")
    naive = Problem("p", "", (TestCase("call", args=(1,), expected="ab", checker=length),), entry_point="f")
    assert verifier.verify(naive, "f = lambda x: 'cd'\n").passed
    assert verifier.verify(naive, "f = lambda x: 3\n").status == "wrong_answer"
    greedy = "def check(g, e, a):\n    for x in e:\n        a.remove(x)\n    return not a\n"
    permutation = TestCase("call", args=(1,), expected=[1, 2, 3], checker=Checker("code", code=greedy))
    for answer, status in (("[3, 2, 1]", "passed"), ("[2]", "wrong_answer")):
        verdict = verifier.verify(Problem("p", "", (permutation,), entry_point="f"), f"f = lambda x: {answer}\n")
        assert verdict.status == status
    for code_of_checker in ("def check(g, e, a):\n    return e.no\n", "check = 3\n"):
        broken = TestCase("stdio", stdin="", stdout="", checker=Checker("code", code=code_of_checker))
        verdict = verifier.verify(Problem("p", "", (broken,)), "print(1)\n")
        assert verdict.status == "infra_error" and "the checker of test 0" in verdict.message


def test_a_checker_of_what_was_printed_sees_the_input(verifier: SandboxVerifier) -> None:
    divides = "def check(given, expected, actual):\n    return int(given) % int(actual) == 0 and int(actual) > 1\n"
    test = TestCase("stdio", stdin="91\n", stdout="7", checker=Checker("code", code=divides))
    for printed, status in (("7", "passed"), ("13", "passed"), ("5", "wrong_answer"), ("x", "wrong_answer")):
        assert verifier.verify(Problem("p", "", (test,)), f"print({printed!r})\n").status == status


RANDOM_CHECK = code("""
    import random
    def check(candidate):
        got = candidate(20000)
        for i in random.sample(range(20000), 50):
            assert got[i] == i * i % 9973
    """)
FORESEES = code("""
    import random
    def f(n):
        out = [0] * n
        for i in random.sample(range(n), 50):
            out[i] = i * i % 9973
        return out
    """)


def test_what_a_test_draws_cannot_be_foreseen(verifier: SandboxVerifier) -> None:
    right = "def f(n):\n    return [i * i % 9973 for i in range(n)]\n"
    problem = code_problem(RANDOM_CHECK)
    assert verifier.verify(problem, right).passed
    assert verifier.verify(problem, FORESEES).status == "wrong_answer"
    checker = Checker(
        "code",
        code=(
            "import random\n"
            "def check(given, expected, actual):\n"
            "    return all(expected[i] == actual[i] for i in random.sample(range(len(expected)), 50))\n"
        ),
    )
    expected = [i * i % 9973 for i in range(2000)]
    test = TestCase("call", args=(2000,), expected=expected, checker=checker)
    problem = Problem("p", "", (test,), entry_point="f", time_limit_s=5.0)
    assert verifier.verify(problem, right).passed
    assert verifier.verify(
        problem, FORESEES.replace("out = [0]", "random.sample(range(n), 50)\n    out = [0]")
    ).status == ("wrong_answer")


def test_a_candidate_changes_nothing_of_the_next_tests_prefix(verifier: SandboxVerifier) -> None:
    first = "def check(candidate):\n    assert candidate(DATA) == 6\n"
    second = "want = sum(DATA)\ndef check(candidate):\n    assert candidate(DATA) == want\n"
    problem = code_problem(first, second, program_prefix="DATA = [3, 1, 2]\n")
    program = "DATA = [3, 1, 2]\ndef f(x):\n    found = sum(x)\n    x[:] = ['a']\n    return found\n"
    assert verifier.verify(problem, program).passed


RECURSION = "@functools.lru_cache(None)\ndef f(n):\n    return 0 if n == 0 else 1 + f(n - 1)\n"


@pytest.mark.parametrize(
    ("program", "stdout"),
    [
        (f"import functools, sys\nsys.setrecursionlimit(10**6)\n{RECURSION}print(f(50_000))\n", "50000\n"),
        ("def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)\nprint(f(997))\n", "997\n"),
        ("\ufeffprint(1)\n", "1\n"),
        ("import io, sys\nout = io.TextIOWrapper(sys.stdout.buffer)\nout.write('1\\n')\n", "1\n"),
        ("import io\nout = io.BufferedWriter(io.FileIO(1, 'w'))\nout.write(b'1\\n')\n", "1\n"),
        ("class A:\n    def __del__(self):\n        print(1)\na = A()\n", "1\n"),
        ("def g():\n    try:\n        yield\n    finally:\n        print(1)\ni = g()\nnext(i)\n", "1\n"),
    ],
    ids=["a deep stack", "default recursion limit", "byte order mark", "a wrapper", "a buffer", "__del__", "finally"],
)
def test_what_plain_python_does(verifier: SandboxVerifier, program: str, stdout: str) -> None:
    problem = Problem("p", "", (TestCase("stdio", stdout=stdout),), time_limit_s=5.0)
    verdict = verifier.verify(problem, program)
    assert verdict.passed, verdict


DETACHED = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmdt.argtypes = [ctypes.c_void_p]
def f():
    for _ in range(8):
        key = libc.shmget(0, 64 << 20, 0o1600)
        at = libc.shmat(key, None, 0)
        if key < 0 or at in (None, 2**64 - 1):
            return "no memory to be had"
        ctypes.memset(at, 1, 64 << 20)
        libc.shmdt(at)
    while True:
        pass
"""


def test_memory_that_is_let_go_of_but_kept_counts(verifier: SandboxVerifier) -> None:
    verdict = verifier.verify(call_problem(([], 1), memory_limit_mb=128, time_limit_s=5.0), DETACHED)
    assert verdict.status == "memory_limit" or "no memory" in (verdict.actual or ""), verdict


def test_no_namespace_of_a_programs_own(verifier: SandboxVerifier) -> None:
    program = "import ctypes\ndef f():\n    return ctypes.CDLL(None).unshare(0x10000000)\n"  # CLONE_NEWUSER
    verdict = verifier.verify(call_problem(([], -1)), program)
    assert verdict.passed or verifier.level == "rlimits", verdict


def test_opening_to_read_does_not_truncate(verifier: SandboxVerifier) -> None:
    """Landlock before Linux 6.2 does not know of it, and the owner of a file may."""
    program = code("""
        import os
        def f():
            with open("own", "w") as file:
                file.write("kept")
            try:
                os.close(os.open("own", os.O_RDONLY | os.O_TRUNC))
            except PermissionError:
                pass
            return open("own").read()
    """)
    verdict = verifier.verify(call_problem(([], "kept")), program)
    assert verdict.passed or verifier.level != "rlimits", verdict


def test_a_string_of_commas_is_one_value(verifier: SandboxVerifier) -> None:
    long = "," * 3_100_000
    assert verifier.verify(call_problem(([], long)), "def f():\n    return ',' * 3_100_000\n").passed
    assert (
        verifier.verify(call_problem(([], 1)), "def f():\n    return [[] for _ in range(3_100_000)]\n").status
        != "passed"
    )


def test_a_candidate_that_wakes_its_tests_again_and_again_waits_for_nobody(verifier: SandboxVerifier) -> None:
    drip = code("""
        import os, time
        start = time.process_time()
        def f(x):
            os.write(3, (1_000_000).to_bytes(4, "little"))
            while time.process_time() - start < 0.13:
                os.write(3, b" ")
                os.sched_yield()
            time.sleep(1000)
        """)
    check = "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == i * i + 7\n"
    problem = code_problem(check, time_limit_s=0.2)
    # on a busy machine it may have waited for others indeed
    assert "time_limit" in (verifier.verify(problem, drip).status for _ in range(4))
