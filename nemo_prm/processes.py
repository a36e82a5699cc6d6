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
"""Child processes that cannot be left behind: start, watch, wait until ready, stop.

    with Children(logs) as children:
        server = children.start("serve_reward", [sys.executable, "scripts/serve_reward.py", ...])
        children.wait_ready(server, port, ["/v2/models/prm/ready"], timeout_s=120)
        children.run("train_ppo", [...])

However the block is left, every process started in it and every process those started is gone. Each child runs under
a supervisor of its own (`nemo_prm.supervisor`), which sees to the same when this process is killed outright.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Callable, Iterator, Mapping, Sequence

from nemo_prm import supervisor
from nemo_prm.errors import ServerError, StageError

GRACE_S = 10.0  # between SIGTERM and SIGKILL
POLL_S = 0.1
TAIL_LINES = 12
_SUPERVISOR = [sys.executable, "-I", "-S", supervisor.__file__]


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; not an `Exception`, so that only the outermost caller catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Child:
    """A process under its supervisor; everything it prints goes to `log`."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def exit_code(self) -> int | None:
        """None while it runs; 128 + n after signal n."""
        return self.process.poll()


class Children:
    """The processes of one job. Start them from the main thread: Linux ends a child with the thread that made it.

    Args:
        logs: folder of the log files, one per child.
        env: environment variables added to ours for every child.
        on_tick: called about every 0.1 s of waiting with the child that is waited for.
        grace_s: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        logs: Path,
        env: Mapping[str, str] | None = None,
        on_tick: Callable[[Child], None] = lambda child: None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.logs = logs
        self.env = dict(env or {})
        self.on_tick = on_tick
        self.grace_s = grace_s
        self._running: list[Child] = []
        self._retired: list[Child] = []

    def __enter__(self) -> Children:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with _signals_held_back():
            self.stop(*self._running, *self._retired)

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a command in the background; its log `<name>.log` is begun anew."""
        log = self.logs / f"{name}.log"
        with open(log, "wb") as output, _signals_held_back():
            process = subprocess.Popen(
                [*_SUPERVISOR, str(self.grace_s), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                start_new_session=True,  # Ctrl-C reaches us alone; we end the others in order
            )
            child = Child(name, log, process)
            self._running.append(child)
        return child

    def run(self, name: str, command: Sequence[str]) -> None:
        """Run a command to its end, while every other child must keep running.

        Raises:
            StageError: it exited with another code than 0, or a server that it may depend on died meanwhile.
        """
        others = list(self._running)
        child = self.start(name, command)
        while (code := child.exit_code()) is None:
            self.on_tick(child)
            for other in others:
                if other.exit_code() is not None:
                    self.stop(child)
                    raise StageError(f"{failure(other)}\n{name} was stopped, because it depends on {other.name}")
            time.sleep(POLL_S)
        self._running.remove(child)
        if code != 0:
            raise StageError(failure(child))

    def wait_ready(self, child: Child, port: int, paths: Sequence[str], timeout_s: float) -> None:
        """Wait until `GET http://127.0.0.1:port/path` answers 200 for every path.

        Raises:
            StageError: the child ended first, or did not answer within `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.on_tick(child)
            if child.exit_code() is not None:  # asked first: somebody else may answer at that port
                raise StageError(failure(child))
            if all(_answers(port, path) for path in paths):
                return
            if time.monotonic() > deadline:
                self.stop(child)
                raise StageError(f"{child.name} was not ready within {timeout_s:.0f} s; {_last_words(child.log)}")
            time.sleep(POLL_S)

    def retire(self, *children: Child) -> None:
        """Ask these children to end without waiting for it: a server takes seconds. The block's end waits."""
        for child in children:
            if child.exit_code() is None:
                child.process.terminate()
        self._running = [child for child in self._running if child not in children]
        self._retired += children

    def stop(self, *children: Child) -> None:
        """End these children and all they started: SIGTERM to all, then SIGKILL where the grace has passed."""
        self.retire(*children)
        # The supervisor keeps the time; it is killed only if it should fail to.
        deadline = time.monotonic() + self.grace_s + 2 * supervisor.ORPHAN_GRACE_S + 5
        for child in children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._retired = [child for child in self._retired if child.exit_code() is None]


@contextmanager
def owning_process() -> Iterator[None]:
    """For a program whose only business is its children: within this block SIGINT, SIGTERM and SIGHUP raise
    `Interrupted`, also where a shell had them ignored, and at its end no process below this one is left.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    supervisor.become_subreaper()  # for what a killed supervisor would leave
    before = {number: signal.signal(number, handle) for number in supervisor.STOP}
    try:
        yield
    finally:
        with _signals_held_back():
            supervisor.end_descendants(supervisor.ORPHAN_GRACE_S)
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A second Ctrl-C must not cut the clean-up short, nor one hit between a start and its bookkeeping."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def free_ports(count: int) -> list[int]:
    """Ports that can be bound on the loopback interface now, below the range the kernel hands out to clients.

    Raises:
        ServerError: none were found.
    """
    found: list[int] = []
    for port in random.sample(range(20000, 30000), 500):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ServerError(f"fewer than {count} free ports were found between 20000 and 30000")


def failure(child: Child) -> str:
    """How a child has ended, and the last lines of its log."""
    return f"{child.name} ended with exit code {child.exit_code()}; {_last_words(child.log)}"


def last_lines(path: Path, count: int, window: int = 16384) -> list[str]:
    """The last lines with text in a log file; a progress bar's carriage returns count as line ends."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - window))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    return [line for line in lines if line][-count:]


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)  # unlike urllib, asks no proxy
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_words(log: Path) -> str:
    lines = last_lines(log, TAIL_LINES)
    shown = "".join(f"\n    {line}" for line in lines) or " nothing"
    return f"its log is {log}; it last printed:{shown}"
