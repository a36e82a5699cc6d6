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
"""Right programs are never wronged: not by a busy machine, not by one that lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from nemo_prm.data.problems import load_humaneval
from nemo_prm.sandbox.level import Level
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Problem, TestCase

CPP = {
    "sum": ("#include <iostream>\nint main() { long n, s = 0, x; std::cin >> n; while (std::cin >> x) s += x;\n"
            "std::cout << s << '\\n'; }\n", "3\n1 2 3\n", "6\n"),
    "sort": ("#include <algorithm>\n#include <cstdio>\n#include <vector>\nint main() { std::vector<int> v; int x;\n"
             "while (scanf(\"%d\", &x) == 1) v.push_back(x); std::sort(v.begin(), v.end());\n"
             "for (int y : v) printf(\"%d \", y); puts(\"\"); }\n", "3 1 2\n", "1 2 3\n"),
    "map": ("#include <iostream>\n#include <map>\n#include <string>\nint main() { std::map<std::string, int> m;\n"
            "std::string w; while (std::cin >> w) ++m[w]; for (auto& [k, c] : m) std::cout << k << c; }\n",
            "b a b", "a1b2"),
    "threads": ("#include <atomic>\n#include <cstdio>\n#include <thread>\n#include <vector>\nint main() {\n"
                "std::atomic<int> n{0}; std::vector<std::thread> t;\nfor (int i = 0; i < 8; ++i)\n"
                "t.emplace_back([&] { for (int j = 0; j < 1000; ++j) ++n; });\nfor (auto& x : t) x.join();\n"
                "printf(\"%d\", n.load()); }\n", "", "8000"),
    "exception": ("#include <iostream>\n#include <stdexcept>\nint main() { try { throw std::runtime_error(\"x\"); }\n"
                  "catch (std::exception& e) { std::cout << e.what(); } }\n", "", "x"),
    "deep": ("#include <cstdio>\nint f(int n) { volatile int x = n; return x ? f(x - 1) + 1 : 0; }\n"
             "int main() { printf(\"%d\", f(1000000)); }\n", "", "1000000"),
    "fast_input": ("#include <bits/stdc++.h>\nusing namespace std;\nint main() { ios::sync_with_stdio(false);\n"
                   "cin.tie(nullptr); long s = 0, x; while (cin >> x) s ^= x; cout << s; }\n",
                   " ".join(map(str, range(100_000))), "0"),
}  # fmt: skip


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two endless loops on every core."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(2 * len(os.sched_getaffinity(0)))]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


def cpp_problem(name: str) -> tuple[Problem, str]:
    program, stdin, stdout = CPP[name]
    test = TestCase("stdio", stdin=stdin, stdout=stdout)
    return Problem(name, "", (test,), language="cpp"), program


@pytest.mark.usefixtures("busy_machine")
def test_humaneval_passes_twenty_times_over_on_a_busy_machine() -> None:
    jobs = [(problem, problem.program_prefix + problem.extra["canonical_solution"]) for problem in load_humaneval()]
    with SandboxVerifier() as verifier:
        for _ in range(20):
            verdicts = verifier.verify_many(jobs)
            assert [(p.problem_id, v) for (p, _), v in zip(jobs, verdicts) if not v.passed] == []


@pytest.mark.usefixtures("busy_machine")
def test_right_cpp_programs_pass_twenty_times_over_on_a_busy_machine() -> None:
    jobs = [cpp_problem(name) for name in CPP] * 20
    with SandboxVerifier() as verifier:
        assert [(p.problem_id, v) for (p, _), v in zip(jobs, verifier.verify_many(jobs)) if not v.passed] == []


@pytest.mark.usefixtures("busy_machine")
def test_what_takes_most_of_its_time_limit_is_given_it() -> None:
    """0.6 s of CPU with a limit of 1 s, on a machine that takes several times as long for it."""
    program = "import time\nwhile time.process_time() < 0.6: pass\nprint(1)\n"
    problem = Problem("p", "", (TestCase("stdio", stdin="", stdout="1"),), time_limit_s=1.0)
    with SandboxVerifier() as verifier:
        assert [v.status for v in verifier.verify_many([(problem, program)] * 4)] == ["passed"] * 4


THREADS = """
import time
from concurrent.futures import ThreadPoolExecutor
def work(_):
    while time.thread_time() < 0.05: pass
def f(x):
    for _ in range(2):
        with ThreadPoolExecutor(4) as pool: list(pool.map(work, range(4)))
    time.sleep(0.12)
    return x
"""
PROCESSES = """
import os, time
def f(x):
    for _ in range(8):
        if (pid := os.fork()) == 0:
            while time.process_time() < 0.05: pass
            os._exit(0)
        os.waitpid(pid, 0)
    time.sleep(0.12)
    return x
"""


@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize(("program", "level"), [(THREADS, None), (PROCESSES, "namespaces")])
def test_threads_and_processes_that_have_ended_waited_too(program: str, level: Level | None) -> None:
    """The kernel forgets what they waited; the program computes for 0.4 s and sleeps for 0.12 s, the limit is 1 s."""
    problem = Problem("p", "", (TestCase("call", args=(1,), expected=1),), entry_point="f", time_limit_s=1.0)
    with SandboxVerifier(level=level) as verifier:
        assert [v.status for v in verifier.verify_many([(problem, program)] * 4)] == ["passed"] * 4


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become a user without processes to spare")
def test_a_machine_that_refuses_processes_leaves_verdicts_unknown() -> None:
    """The judge as a user at the limit of its processes: nothing can be forked, nothing is said about the program."""
    script = """
import os, resource, sys
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Problem, TestCase
problem = Problem("p", "", (TestCase("call", args=(1,), expected=2),), entry_point="f")
with SandboxVerifier(workers=1, level="rlimits") as verifier:
    resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
    os.setresuid(54321, 54321, 54321)
    print(verifier.verify(problem, "f = lambda x: x + 1\\n").status)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["infra_error"], run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may take a processor from everybody")
@pytest.mark.parametrize("kind", ["stdio", "code"])
def test_a_long_wait_that_the_kernel_has_not_counted_yet_is_one(kind: str) -> None:
    """Something takes the processor for 0.4 s at a time: when the sandbox looks again, its program still waits."""
    hog = "import time\nwhile True:\n    end = time.monotonic() + 0.4\n    while time.monotonic() < end: pass\n"
    hog += "    time.sleep(0.06)\n"
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    if kind == "stdio":
        test, program = TestCase("stdio", stdin="", stdout="1"), f"{burn}print(1)\n"
    else:
        program = "def f():\n" + "".join(f"    {line}\n" for line in burn.splitlines())
        test = TestCase("code", code="def check(candidate):\n    for _ in [1]:\n        assert candidate() is None\n")
    problem = Problem("p", "", (test,), entry_point="f", time_limit_s=0.5)
    cores = sorted(os.sched_getaffinity(0))
    with SandboxVerifier(workers=1) as verifier:
        assert verifier.verify(problem, program).passed
        with subprocess.Popen([sys.executable, "-S", "-c", hog]) as process:
            try:
                os.sched_setaffinity(process.pid, [cores[os.getpid() % len(cores)]])
                os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
                verdicts = [verifier.verify(problem, program) for _ in range(3)]
            finally:
                process.kill()
    assert [verdict.status for verdict in verdicts] == ["passed"] * 3, verdicts


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can lay a file over /proc/stat")
@pytest.mark.parametrize("stolen, status", [(True, "passed"), (False, "time_limit")])
def test_what_the_hypervisor_takes_is_no_time_of_the_program(stolen: bool, status: str, tmp_path: Path) -> None:
    """A program that sleeps looks like one whose virtual processor is not run; a file over /proc/stat says it."""
    script = f"""
import os, threading, time
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Problem, TestCase
began = time.monotonic()
def steal():
    ticks = 5000 + (int((time.monotonic() - began) * os.sysconf("SC_CLK_TCK")) if {stolen} else 0)
    with open({str(tmp_path / "stat")!r}, "r+") as file:
        file.write("".join(f"cpu{{n}} 1 1 1 1 1 1 1 {{ticks:>9}} 0 0\\n" for n in ["", *range(os.cpu_count())]))
def go_on():
    while True:
        steal()
        time.sleep(0.01)
steal()
threading.Thread(target=go_on, daemon=True).start()
problem = Problem("p", "", (TestCase("stdio", stdin="", stdout="1"),), time_limit_s=1.0)
with SandboxVerifier(workers=1, level="rlimits") as verifier:
    print(verifier.verify(problem, "import time\\ntime.sleep(1.5)\\nprint(1)\\n").status)
"""
    (tmp_path / "stat").touch()
    inside = ["sh", "-ec", 'mount --bind "$1" /proc/stat; exec "$2" -c "$3"', "sh", str(tmp_path / "stat")]
    command = ["unshare", "--mount", *inside, sys.executable, script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == [status], run.stderr


def test_a_full_disk_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Here /dev/full stands where folders should be: without the cache it is slower, without a folder unknown."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/full")
    with SandboxVerifier(workers=1) as verifier:
        assert verifier.verify(*cpp_problem("sum")).passed
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", "/dev/full")
    with SandboxVerifier(workers=1, level="full") as verifier:
        verdict = verifier.verify(*cpp_problem("sum"))
    assert verdict.status == "infra_error" and "cannot be started" in verdict.message


@pytest.mark.usefixtures("busy_machine")
def test_a_busy_machine_does_not_make_test_code_impatient() -> None:
    """0.6 s of CPU with a limit of 1 s, in test code that needs the second box."""
    burn = "    end = time.process_time() + 0.6\n    while time.process_time() < end: pass\n"
    program = f"import time\ndef f(x):\n{burn}    return x\n"
    check = "def check(candidate):\n    for x in [3]:\n        assert candidate(x) == x\n"
    problem = Problem("p", "", (TestCase("code", code=check),), entry_point="f", time_limit_s=1.0)
    with SandboxVerifier() as verifier:
        verdicts = verifier.verify_many([(problem, program)] * 4)
        assert [v.status for v in verdicts] == ["passed"] * 4, verdicts


def test_a_program_that_fills_its_folder_harms_itself_alone() -> None:
    fill = "def f(x):\n    for i in range(100):\n        open(str(i), 'wb').write(b'x' * 10**6)\n"
    problem = Problem("p", "", (TestCase("call", args=(1,), expected=None),), entry_point="f")
    with SandboxVerifier(workers=1, level="full") as verifier:
        verdict = verifier.verify(problem, fill)
        assert verdict.status == "runtime_error" and "No space left" in verdict.message
        assert verifier.verify(problem, "def f(x):\n    open('a', 'wb').write(b'x' * 10**6)\n").passed
