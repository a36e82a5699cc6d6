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

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest

from nemo_prm.config import SandboxConfig
from nemo_prm.data.problems import load_problems
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.sandbox import zygote_client
from nemo_prm.sandbox.subprocess_verifier import SubprocessVerifier, default_verifier
from nemo_prm.types import Problem, TestCase, Verdict


def zygotes() -> list[str]:
    """Command lines of all zygotes that this test process started, and of programs forked from them."""
    mine = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(part.endswith(b"zygote.py") for part in command) and os.fsencode(tempfile.gettempdir()) in command[-2]:
            mine.append(command[-2].decode())
    return mine


@pytest.fixture(scope="module", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sandbox")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def verifier() -> Iterator[SubprocessVerifier]:
    with SubprocessVerifier(workers=2) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, own_temporary_folder: Path) -> Iterator[None]:
    yield
    found = zygotes()
    assert len(found) == len(set(found)), "a program outlived its verdict"
    assert list(own_temporary_folder.glob("*/*")) == [], "a working folder was left"


def call_problem(*tests: tuple[list[Any], Any], **keys: Any) -> Problem:
    cases = tuple(TestCase("call", args=tuple(args), expected=expected) for args, expected in tests)
    return Problem("p", "", cases, entry_point="f", **{"time_limit_s": 5.0, **keys})


def code(text: str) -> str:
    return textwrap.dedent(text).strip("\n") + "\n"


ADD_ONE = call_problem(([1], 2), ([5], 6), ([-1], 0))


def test_a_right_program_passes(verifier: SubprocessVerifier) -> None:
    verdict = verifier.verify(ADD_ONE, "def f(x):\n    print('noise')\n    return x + 1\n")
    assert verdict.passed
    assert (verdict.num_tests, verdict.num_passed, verdict.failing_test) == (3, 3, None)
    assert 0 < verdict.seconds < 5 and 1 < verdict.peak_mib < 100
    assert verdict.sandbox == "subprocess-1"


def test_a_wrong_program_says_where(verifier: SubprocessVerifier) -> None:
    verdict = verifier.verify(ADD_ONE, "def f(x):\n    return x + 1 if x != 5 else 'six'\n")
    assert (verdict.status, verdict.num_passed, verdict.failing_test) == ("wrong_answer", 2, 1)
    assert (verdict.expected, verdict.actual) == ("6", "'six'")


def test_arguments_are_fresh_and_keep_their_types(verifier: SubprocessVerifier) -> None:
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
        ("import os; os.abort()", "runtime_error", "ended early (signal SIGABRT)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "runtime_error", "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "runtime_error", "SIGSEGV"),
        ("import os; os.closerange(0, 1000); return 2", "runtime_error", ""),
        ("class E(Exception):\n        def __str__(self): raise self\n    raise E", "runtime_error", "cannot be had"),
        ("class E(BaseException):\n        __str__ = lambda s: 'x' * 10**6\n    raise E", "runtime_error", "E: xxx"),
        ("return float('nan')", "wrong_answer", ""),
        ("return object()", "wrong_answer", "a value of type object"),
        ("return True + 1.0", "passed", ""),
        ("y = []; y.append(y); return y", "wrong_answer", "nested too deeply"),
        ("return 'x' * 10**7", "output_limit", ""),
        ("return bytearray(10**9)", "memory_limit", "MemoryError"),
        ("return [0] * 10**10", "memory_limit", "MemoryError"),
        ("y = []\n    while True: y.append(' ' * 10**6)", "memory_limit", "line 3: MemoryError"),
        ("return open('x', 'wb').write(b' ' * 2**25)", "runtime_error", "OSError"),
        ("return [open('/dev/null') for _ in range(100)]", "runtime_error", "Too many open files"),
        ("import socket; return len(__import__('os').environ) + 2", "passed", ""),
    ],
)
def test_what_goes_wrong_in_a_call(verifier: SubprocessVerifier, body: str, status: str | None, message: str) -> None:
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
def test_what_goes_wrong_before_the_call(
    verifier: SubprocessVerifier, program: str, status: str, message: str
) -> None:
    verdict = verifier.verify(call_problem(([1], 2)), program)
    assert (verdict.status, message in verdict.message) == (status, True), verdict


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal, os; os.kill(os.getpid(), signal.SIGSTOP)",
        "import signal\n    for s in range(1, 32):\n        try: signal.signal(s, signal.SIG_IGN)\n"
        "        except OSError: pass\n    while True: pass",
        "(lambda: (a for a in iter(int, 1)))() and sum(iter(int, 1))",
        "import threading; threading.Event().wait()",
        "import os\n    if os.fork(): os._exit(0)\n    import time; time.sleep(60)",
        "class E(Exception):\n        def __str__(self):\n            while True: pass\n    raise E",
    ],
)
def test_an_endless_program_is_stopped(verifier: SubprocessVerifier, body: str) -> None:
    started = time.monotonic()
    verdict = verifier.verify(call_problem(([1], 2), ([2], 3), time_limit_s=0.3), f"def f(x):\n    {body}\n")
    assert verdict.status == "time_limit"
    assert time.monotonic() - started < 3


def test_each_test_has_the_time_limit(verifier: SubprocessVerifier) -> None:
    program = "import time\ndef f(x):\n    time.sleep(x)\n    return x\n"
    slow = call_problem(*[([0.25], 0.25)] * 4, ([60.0], 60.0), ([0.0], 0.0), time_limit_s=0.8)
    verdict = verifier.verify(slow, program)
    assert (verdict.status, verdict.failing_test, verdict.num_passed) == ("time_limit", 4, 4)


@pytest.mark.parametrize(
    "program",
    [
        # in the group, in a session of its own, a daemon, an exec'ed one
        "import os\ndef f(x):\n    if os.fork() == 0:\n        while True: pass\n    return 2\n",
        "import os, time\ndef f(x):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(600)\n    return 2\n",
        "import os, time\ndef f(x):\n    for _ in range(5):\n        if os.fork() == 0:\n            os.setsid()\n"
        "            if os.fork(): os._exit(0)\n            time.sleep(600)\n    return 2\n",
        "import os\ndef f(x):\n    os.system('setsid sleep 600 >/dev/null 2>&1 &')\n    return 2\n",
        "import threading, time\ndef f(x):\n    for _ in range(20):\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()\n    return 2\n",
    ],
)
def test_what_a_program_leaves_running_is_killed(verifier: SubprocessVerifier, program: str) -> None:
    verdict = verifier.verify(call_problem(([1], 2)), program)
    assert verdict.passed, verdict
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"sleep\x00600" not in status.read_bytes()
        except OSError:
            continue


def test_a_fork_bomb_ends_with_its_verdict(verifier: SubprocessVerifier) -> None:
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
    assert verifier.verify(call_problem(([1], 2), time_limit_s=0.5), program).status == "time_limit"


def test_files_are_removed_and_the_folder_is_its_own(verifier: SubprocessVerifier) -> None:
    program = code("""
        import os
        def f(x):
            found = os.listdir(".")
            os.makedirs("a/b")
            open("a/b/c", "w").write("x")
            os.chmod("a/b", 0)
            for _ in range(1500):
                os.mkdir("d")
                os.chdir("d")
            return found
    """)
    for _ in range(2):
        assert verifier.verify(call_problem(([1], [])), program).passed


def test_the_judge_survives_what_is_done_to_it(verifier: SubprocessVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote_client, "REPLY_TIMEOUT_S", 2.0)
    for deed in ("SIGKILL", "SIGSTOP"):
        program = f"import os, signal\ndef f(x):\n    os.kill(os.getppid(), signal.{deed})\n    return 3\n"
        verdict = verifier.verify(call_problem(([1], 2)), program)
        assert verdict.status in ("infra_error", "wrong_answer") and not verdict.passed
        assert verifier.verify(ADD_ONE, "f = lambda x: x + 1\n").passed
        if deed == "SIGKILL":
            assert verdict.status == "infra_error" and verdict.message


def test_forged_answers_do_not_pass(verifier: SubprocessVerifier) -> None:
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
        ("print(3, flush=True); import os; os.abort()", "runtime_error", 0, "SIGABRT"),
        ("while True: print('x' * 1000)", "output_limit", 0, ""),
        ("print('x' * 2**21)", "output_limit", 0, ""),
        ("x = [0] * 10**10", "memory_limit", 0, ""),
        ("def f(:", "compile_error", 0, ""),
    ],
)  # fmt: skip
def test_stdio(verifier: SubprocessVerifier, program: str, status: str, passed: int, message: str) -> None:
    verdict = verifier.verify(ECHO_SUM, program)
    assert (verdict.status, verdict.num_passed, message in verdict.message) == (status, passed, True), verdict


def test_stdio_shows_both_sides(verifier: SubprocessVerifier) -> None:
    verdict = verifier.verify(ECHO_SUM, "print(3)\n")
    assert (verdict.failing_test, verdict.expected, verdict.actual) == (1, "'30'", "'3\\n'")


def test_stdio_of_large_input_and_odd_text(verifier: SubprocessVerifier) -> None:
    text = "é𝄞" * 100_000 + "\n"
    assert verifier.verify(stdio((text, text)), "print(input())").passed


def code_problem(*codes: str) -> Problem:
    return Problem("c", "", tuple(TestCase("code", code=text) for text in codes), entry_point="f")


CHECK = "def check(candidate):\n    assert candidate(1) == 2, 'one'\n    assert helper(1) == 1\n"


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("def helper(x): return x\ndef f(x): return x + 1", "passed", ""),
        ("def helper(x): return x\ndef f(x): return x", "wrong_answer", "AssertionError: one"),
        ("def f(x): return x + 1", "runtime_error", "helper"),
        ("def f(x): return x[0]", "runtime_error", "line 1: TypeError"),
        ("def f(x): raise SystemExit(0)", "runtime_error", "SystemExit"),
        ("import os\ndef f(x): os._exit(0)", "runtime_error", "ended early"),
        ("check = lambda candidate: None\nimport os\nos._exit(0)", "runtime_error", "ended early"),
        ("check = lambda candidate: None\ndef f(x): return 3", "wrong_answer", "one"),
    ],
)
def test_code(verifier: SubprocessVerifier, program: str, status: str, message: str) -> None:
    verdict = verifier.verify(code_problem(CHECK), program + "\n")
    assert (verdict.status, message in verdict.message) == (status, True), verdict


def test_kinds_mix_and_tests_can_be_given(verifier: SubprocessVerifier) -> None:
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


def test_misuse_is_refused(verifier: SubprocessVerifier) -> None:
    with pytest.raises(ConfigError, match="not cpp"):
        verifier.verify(stdio(("", ""), language="cpp"), "int main() {}")
    with pytest.raises(ConfigError, match="no test"):
        verifier.verify(ADD_ONE, "", [])
    with pytest.raises(ConfigError, match="entry_point"):
        verifier.verify(Problem("p", "", ADD_ONE.tests), "")
    with pytest.raises(DataError, match="a value of type object"):
        verifier.verify(call_problem(([object()], 1)), "")
    with pytest.raises(ConfigError, match="workers"):
        SubprocessVerifier(workers=-1)
    with pytest.raises(ConfigError, match="time_limit_s"):
        default_verifier(SandboxConfig(time_limit_s=0.0))


def test_limits_of_the_config_take_precedence() -> None:
    with default_verifier(SandboxConfig(workers=1, time_limit_s=0.2, memory_limit_mb=50)) as verifier:
        assert verifier.verify(ADD_ONE, "import time\ntime.sleep(1)\n").status == "time_limit"
        assert verifier.verify(ADD_ONE, "x = bytearray(60 * 2**20)\n").status == "memory_limit"
        assert verifier.verify(ADD_ONE, "x = bytearray(40 * 2**20)\ndef f(x): return x + 1\n").passed


def test_verdicts_come_in_order_from_several_threads(verifier: SubprocessVerifier) -> None:
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
        with SubprocessVerifier(workers=1) as verifier:
            seen.add(verifier.verify(problem, program).actual)
    assert len(seen) == 1


def test_closing_leaves_no_process_and_no_folder(own_temporary_folder: Path) -> None:
    before = set(zygotes())
    with SubprocessVerifier(workers=2) as verifier:
        verifier.verify_many([(ADD_ONE, "f = lambda x: x + 1\n")] * 8)
        started = set(zygotes()) - before
        assert 1 <= len(started) <= 2
    assert set(zygotes()) == before
    assert not any(Path(folder).exists() for folder in started)


def test_a_killed_judge_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    script = code("""
        from nemo_prm.sandbox.subprocess_verifier import SubprocessVerifier
        from nemo_prm.types import Problem, TestCase
        problem = Problem("p", "", (TestCase("call", expected=1),), entry_point="f", time_limit_s=60.0)
        print("ready", flush=True)
        SubprocessVerifier(workers=1).verify(problem, "import os\\nos.fork()\\nwhile True: pass\\n")
    """)
    before = set(zygotes())
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "TMPDIR": tempfile.gettempdir(), "PYTHONPATH": root}
    judge = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert judge.stdout is not None
    judge.stdout.readline()
    deadline = time.monotonic() + 20
    while len(zygotes()) < len(before) + 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    folder = next(iter(set(zygotes()) - before))
    judge.send_signal(signal.SIGKILL)
    judge.wait()
    judge.stdout.close()
    while set(zygotes()) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(zygotes()) == before
    assert not Path(folder).exists()


def test_humaneval_solutions_all_pass(verifier: SubprocessVerifier) -> None:
    problems = load_problems("humaneval")
    started = time.monotonic()
    verdicts = verifier.verify_many([(p, p.program_prefix + p.extra["canonical_solution"]) for p in problems])
    assert [p.problem_id for p, verdict in zip(problems, verdicts) if not verdict.passed] == []
    assert time.monotonic() - started < 60
    stubs = verifier.verify_many([(p, p.program_prefix + "    return None\n") for p in problems])
    assert not any(verdict.passed for verdict in stubs)


def test_embedded_solutions_all_pass(verifier: SubprocessVerifier) -> None:
    problems = load_problems("embedded", "validation")[:50]
    verdicts = verifier.verify_many([(p, p.extra["solution"]) for p in problems])
    assert all(verdict.passed for verdict in verdicts)
