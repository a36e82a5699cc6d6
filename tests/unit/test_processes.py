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
"""No process is left behind: real children, the ones that misbehave included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from nemo_prm import supervisor
from nemo_prm.errors import StageError
from nemo_prm.processes import Children, free_ports, last_lines

ROOT = Path(__file__).resolve().parents[2]

IGNORES_SIGTERM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.environ["MARK"], flush=True)
time.sleep(300)
"""
# Leaves a grandchild in a session of its own, twice forked, and itself ends or stays.
DAEMONISES = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("daemon", flush=True)
        time.sleep(300)
    os._exit(0)
time.sleep(float(sys.argv[1]))
"""
SERVER = """
import http.server, sys, time
time.sleep(float(sys.argv[2]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
ORCHESTRATOR = """
import sys, time
from pathlib import Path
from nemo_prm.processes import Children, Interrupted, owning_process
try:
    with owning_process(), Children(Path(sys.argv[1]), grace_s=0.5) as children:
        children.start("stubborn", [sys.executable, "-c", sys.argv[2]])
        children.start("daemon", [sys.executable, "-c", sys.argv[3], "300"])
        print("started", flush=True)
        if sys.argv[4] == "fail":
            children.run("stage", [sys.executable, "-c", "import sys; sys.exit(3)"])
        children.run("stage", [sys.executable, "-c", "import time; time.sleep(300)"])
except Interrupted as signal:
    sys.exit(signal.exit_code)
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A value in the environment by which every process that comes of a test is found, whoever its parent is."""
    value = f"nemo_prm_test_{os.getpid()}_{time.monotonic_ns()}"
    monkeypatch.setenv("MARK", value)
    yield value
    left = alive(value)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def alive(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
            except (OSError, IndexError):
                continue
            if f"MARK={mark}".encode() in environment and state != b"Z":
                found.append(int(entry.name))
    return found


def wait_until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", code, *args]


def test_output_goes_to_the_log_and_a_success_leaves_nothing(tmp_path: Path, mark: str) -> None:
    with Children(tmp_path / "logs", env={"EXTRA": "1"}) as children:
        children.run("stage", python("import os; print('hello', os.environ['EXTRA'])"))
    assert (tmp_path / "logs" / "stage.log").read_text() == "hello 1\n"
    assert alive(mark) == []


def test_a_failure_names_the_stage_the_log_and_its_last_lines(tmp_path: Path, mark: str) -> None:
    code = "import sys; print('begun', flush=True); sys.exit('no such problem')"
    with pytest.raises(StageError) as failure, Children(tmp_path) as children:
        children.run("label", python(code))
    message = str(failure.value)
    assert message.startswith(f"label ended with exit code 1; its log is {tmp_path / 'label.log'}; it last printed:")
    assert message.endswith("\n    begun\n    no such problem")


def test_a_child_killed_by_a_signal_is_afailure(tmp_path: Path, mark: str) -> None:
    with pytest.raises(StageError, match="exit code 137"), Children(tmp_path) as children:
        children.run("stage", python("import os; os.kill(os.getpid(), 9)"))


def test_a_command_that_does_not_exist_is_afailure(tmp_path: Path, mark: str) -> None:
    with pytest.raises(StageError, match="exit code 127.*\n.*cannot start /no/such/program"):
        with Children(tmp_path) as children:
            children.run("stage", ["/no/such/program"])


def test_the_end_of_a_short_command_is_never_missed(tmp_path: Path, mark: str) -> None:
    command = [sys.executable, "-I", "-S", supervisor.__file__, "1", str(os.getpid()), "/bin/sh", "-c", "exit 5"]
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # one core: the command may well end before its parent goes on
    try:
        for _ in range(60):
            assert subprocess.run(command, timeout=20).returncode == 5
    finally:
        os.sched_setaffinity(0, everywhere)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path, mark: str) -> None:
    with Children(tmp_path, grace_s=0.3) as children:
        child = children.start("stubborn", python(IGNORES_SIGTERM))
        wait_until(lambda: last_lines(child.log, 1) == [mark])
        start = time.monotonic()
    assert 0.3 <= time.monotonic() - start < 3
    assert alive(mark) == []


def test_a_child_that_obeys_sigterm_may_clean_up(tmp_path: Path, mark: str) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: sys.exit(print('cleaned up')))\n"
        "print('ready', flush=True)\ntime.sleep(300)"
    )
    with Children(tmp_path) as children:
        child = children.start("server", python(code))
        wait_until(lambda: last_lines(child.log, 1) == ["ready"])
    assert last_lines(child.log, 1) == ["cleaned up"]


@pytest.mark.parametrize("lifetime", ["0.2", "300"])
def test_a_daemonised_grandchild_goes_too(tmp_path: Path, mark: str, lifetime: str) -> None:
    """Whether the command has ended before (0.2 s) or is stopped (300 s)."""
    with Children(tmp_path, grace_s=0.3) as children:
        child = children.start("daemon", python(DAEMONISES, lifetime))
        wait_until(lambda: last_lines(child.log, 1) == ["daemon"])
        if lifetime != "300":
            wait_until(lambda: child.exit_code() == 0)
            assert alive(mark) == []
    assert alive(mark) == []


def test_a_stopped_child_is_ended(tmp_path: Path, mark: str) -> None:
    with Children(tmp_path, grace_s=1) as children:
        child = children.start("stage", python("import os; print(os.getpid(), flush=True)\nwhile True: pass"))
        wait_until(lambda: last_lines(child.log, 1))
        os.kill(int(last_lines(child.log, 1)[0]), signal.SIGSTOP)


def start_orchestrator(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    command = python(ORCHESTRATOR, str(tmp_path), IGNORES_SIGTERM, DAEMONISES, how)
    orchestrator = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert orchestrator.stdout and orchestrator.stdout.readline() == "started\n"
    wait_until(lambda: last_lines(tmp_path / "daemon.log", 1) == ["daemon"])
    wait_until(lambda: last_lines(tmp_path / "stubborn.log", 1))
    return orchestrator


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(tmp_path: Path, mark: str, number: signal.Signals) -> None:
    orchestrator = start_orchestrator(tmp_path, "run")
    os.killpg(orchestrator.pid, number)  # the whole foreground group, as a terminal does
    time.sleep(0.1)
    os.killpg(orchestrator.pid, number)  # an impatient second one
    orchestrator.communicate(timeout=20)
    assert orchestrator.returncode == 128 + number
    assert alive(mark) == []


def test_sigint_works_where_the_shell_has_it_ignored(tmp_path: Path, mark: str) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        orchestrator = start_orchestrator(tmp_path, "run")
    finally:
        signal.signal(signal.SIGINT, before)
    orchestrator.send_signal(signal.SIGINT)
    orchestrator.communicate(timeout=20)
    assert orchestrator.returncode == 130
    assert alive(mark) == []


def test_a_failed_stage_ends_everything(tmp_path: Path, mark: str) -> None:
    orchestrator = start_orchestrator(tmp_path, "fail")
    _, errors = orchestrator.communicate(timeout=20)
    assert "StageError: stage ended with exit code 3" in errors
    assert alive(mark) == []


def test_kill_9_of_the_parent_ends_everything(tmp_path: Path, mark: str) -> None:
    orchestrator = start_orchestrator(tmp_path, "run")
    orchestrator.kill()
    orchestrator.communicate(timeout=20)
    wait_until(lambda: alive(mark) == [])


def test_kill_9_of_a_supervisor_ends_what_it_kept(tmp_path: Path, mark: str) -> None:
    orchestrator = start_orchestrator(tmp_path, "run")
    supervisors = [
        pid for pid in alive(mark) if b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3]
    ]
    assert len(supervisors) == 3
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    _, errors = orchestrator.communicate(timeout=20)
    assert "StageError" in errors
    assert alive(mark) == []


def test_a_server_is_waited_for(tmp_path: Path, mark: str) -> None:
    [port] = free_ports(1)
    ticks = []
    with Children(tmp_path, on_tick=lambda child: ticks.append(child.name)) as children:
        server = children.start("server", python(SERVER, str(port), "0.5"))
        start = time.monotonic()
        children.wait_ready(server, port, ["/ready"], timeout_s=20)
        assert time.monotonic() - start >= 0.4
        assert set(ticks) == {"server"}
        children.stop(server)
        assert alive(mark) == []


def test_a_retired_child_ends_in_the_background_and_is_waited_for_at_the_end(tmp_path: Path, mark: str) -> None:
    code = (
        "import signal, sys, time\n"
        "def slowly(*a): print('ending', flush=True); time.sleep(1); sys.exit(print('ended'))\n"
        "signal.signal(signal.SIGTERM, slowly)\n"
        "print('ready', flush=True)\ntime.sleep(300)"
    )
    with Children(tmp_path) as children:
        child = children.start("server", python(code))
        wait_until(lambda: last_lines(child.log, 1) == ["ready"])
        start = time.monotonic()
        children.retire(child)
        assert time.monotonic() - start < 0.5
        children.run("next", python("pass"))  # its end is no failure of the server
    assert last_lines(child.log, 1) == ["ended"]
    assert alive(mark) == []


def test_a_server_that_is_not_ready_in_time_is_afailure(tmp_path: Path, mark: str) -> None:
    [port] = free_ports(1)
    with pytest.raises(StageError, match="server was not ready within 1 s"), Children(tmp_path) as children:
        server = children.start("server", python(SERVER, str(port), "0"))
        children.wait_ready(server, port, ["/ready", "/other"], timeout_s=1)


def test_a_server_that_dies_at_the_start_fails_at_once(tmp_path: Path, mark: str) -> None:
    [port] = free_ports(1)
    start = time.monotonic()
    with pytest.raises(StageError, match="server ended with exit code 2.*\n.*port taken"):
        with Children(tmp_path) as children:
            server = children.start("server", python("import sys; print('port taken'); sys.exit(2)"))
            children.wait_ready(server, port, ["/ready"], timeout_s=60)
    assert time.monotonic() - start < 10


def test_a_server_that_dies_mid_run_stops_the_stage(tmp_path: Path, mark: str) -> None:
    with pytest.raises(StageError, match="(?s)server ended with exit code 5.*train_ppo was stopped"):
        with Children(tmp_path) as children:
            children.start("server", python("import sys, time; time.sleep(0.5); sys.exit(5)"))
            children.run("train_ppo", python("import time; time.sleep(300)"))


def test_last_lines_reads_progress_bars(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n\n 10%|#\r 20%|##\r\xff 30%|###\n")
    assert last_lines(log, 2) == ["20%|##", "\ufffd 30%|###"]
    assert last_lines(tmp_path / "none", 2) == []


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(20))) == 20
