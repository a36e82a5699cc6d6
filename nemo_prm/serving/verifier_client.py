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
"""Verdicts from other hosts behind the `Verifier` protocol, and the choice between those and this machine's own."""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Sequence, Union, cast

import numpy as np

import nemo_prm
from nemo_prm.config import SandboxConfig
from nemo_prm.errors import ConfigError, RequestError, SandboxError
from nemo_prm.sandbox.level import LEVELS
from nemo_prm.sandbox.verifier import SandboxVerifier, default_verifier
from nemo_prm.serving.hosts import Hosts, RequestFailed
from nemo_prm.serving.verifier_messages import Job, decode_verdicts, encode_jobs
from nemo_prm.serving.wire import VERIFIER
from nemo_prm.types import Level, Problem, TestCase, Verdict

SERVERS_OPTIONS = ("workers", "time_limit_s", "memory_limit_mb", "total_time_limit_s")


class VerifierClient:
    """The sandboxes behind `scripts/serve_verifier.py` of one or several hosts; a `nemo_prm.protocols.Verifier`.

    A verdict is `infra_error` where a server says so (another host, if there is one, is asked too) or where servers
    have failed on the request three times. That no server is there is no verdict but an error.
    """

    def __init__(self, config: SandboxConfig, pass_rates: bool = False) -> None:
        """Prepare a client; connects to nothing yet.

        Args:
            config: `remote` and `minimum_level` are read here; how programs are run is the servers' to say, and so
                is whether they stop at the first failure, which no status depends on.
            pass_rates: refuse verdicts of servers that stop there.

        Raises:
            ConfigError: an option that belongs to the servers.
        """
        default = SandboxConfig()
        for name in SERVERS_OPTIONS:
            if getattr(config, name) != getattr(default, name):
                raise ConfigError(
                    f"sandbox.{name} has no effect on programs that run elsewhere: give it to "
                    "scripts/serve_verifier.py, or leave sandbox.remote.urls out"
                )
        if config.remote.batch_size < 1 or config.remote.requests_per_host < 1:
            raise ConfigError("sandbox.remote.batch_size and requests_per_host must be at least 1")
        self.name = f"nemo-prm-verifier/{nemo_prm.__version__}"
        self._remote, self._minimum, self._pass_rates = config.remote, config.minimum_level, pass_rates
        self._hosts = Hosts(VERIFIER, config.remote, "scripts/serve_verifier.py")
        self._num_threads = len(self._hosts) * config.remote.requests_per_host
        self._threads = ThreadPoolExecutor(self._num_threads, thread_name_prefix="verifier")
        self._waiting: deque[tuple[Job, Future[Verdict]]] = deque()
        self._lock = threading.Lock()

    def wait_ready(self) -> None:
        """Return when a server is ready.

        Raises:
            ServerError: none is, within `connect_timeout_s`.
        """
        self._hosts.wait_ready()

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        """Judge `program`; see `nemo_prm.protocols.Verifier`.

        Args:
            problem: the servers must have the same one.
            program: a whole program.
            tests: None, the problem's hidden tests or its public ones. Servers judge by no others.

        Raises:
            ConfigError: other tests, or a server refuses the request: it has another problem of this name, or none.
            SandboxError: a server isolates programs less than `sandbox.minimum_level`.
            ServerError: no server answers.
        """
        return self._judge([_job(problem, program, tests)])[0]

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Judge several programs by hidden tests, on all hosts at once; verdicts in the order of `jobs`."""
        futures = [self.submit(problem, program) for problem, program in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def submit(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Future[Verdict]:
        """Queue `program` to be judged; what waits together is sent together.

        Args and errors: those of `verify`; what a server refuses is raised by the future.
        """
        job, future = _job(problem, program, tests), Future[Verdict]()
        with self._lock:
            self._waiting.append((job, future))
        self._threads.submit(self._judge_waiting)
        return future

    def _judge_waiting(self) -> None:
        """Judge a fair share of what waits; there is a call of this for each program that was queued."""
        with self._lock:
            size = min(self._remote.batch_size, math.ceil(len(self._waiting) / self._num_threads))
            taken = [self._waiting.popleft() for _ in range(size)]
        batch = [(job, future) for job, future in taken if future.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            verdicts = self._judge([job for job, _ in batch])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), verdict in zip(batch, verdicts):
                future.set_result(verdict)

    def _judge(self, jobs: Sequence[Job]) -> list[Verdict]:
        verdicts, host = self._ask(jobs)
        unknown = [i for i, verdict in enumerate(verdicts) if verdict.status == "infra_error"]
        if host and unknown and len(self._hosts) > 1:  # that host may be ill
            again, _ = self._ask([jobs[i] for i in unknown], avoid=[host])
            for i, verdict in zip(unknown, again):
                verdicts[i] = verdict
        return verdicts

    def _ask(self, jobs: Sequence[Job], avoid: Sequence[str] = ()) -> tuple[list[Verdict], str]:
        """Verdicts, and the host that gave them (empty: none could)."""
        try:
            answer = self._hosts.ask(encode_jobs(jobs), len(jobs), avoid)
        except RequestError as error:
            raise ConfigError(str(error)) from error
        except RequestFailed as error:
            return [Verdict("infra_error", message=str(error), sandbox=self.name)] * len(jobs), ""
        verdicts = decode_verdicts(answer.outputs)
        for level in {verdict.level for verdict in verdicts}:
            check_level(level, self._minimum, answer.url)
        if self._pass_rates:
            unknown = np.isnan(answer.outputs["pass_rate"]).reshape(-1)
            if any(none and verdict.status != "infra_error" for none, verdict in zip(unknown, verdicts)):
                raise ConfigError(
                    f"{answer.url} judges no test after the first failure, so there are no pass rates: start "
                    "serve_verifier with sandbox.stop_at_first_failure=false"
                )
        return verdicts, answer.url

    def close(self) -> None:
        """Stop waiting for servers, and drop what waits to be sent; call it always."""
        self._hosts.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for _, future in self._waiting:
                future.cancel()

    def __enter__(self) -> VerifierClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _job(problem: Problem, program: str, tests: Sequence[TestCase] | None) -> Job:
    if tests is None or tuple(tests) == tuple(problem.tests):
        return Job(problem, program)
    if tuple(tests) != tuple(problem.public_tests):
        raise ConfigError(f"{problem.problem_id}: servers judge by the problem's own tests, hidden or public")
    return Job(problem, program, public=True)


def check_level(level: str, minimum: str, url: str) -> None:
    """Refuse verdicts of a server that isolates programs less than this client accepts.

    Raises:
        ConfigError: `minimum` is no level.
        SandboxError: `level` is below `minimum`.
    """
    if minimum not in LEVELS:
        raise ConfigError(f"sandbox.minimum_level must be one of {', '.join(LEVELS)}, found {minimum!r}.")
    if level not in LEVELS[: LEVELS.index(cast(Level, minimum)) + 1]:
        raise SandboxError(
            f"{url} isolates programs at level {level or 'unknown'}, below sandbox.minimum_level={minimum}; "
            "lower it, or ask another server"
        )


def open_verifier(config: SandboxConfig, pass_rates: bool = False) -> Union[SandboxVerifier, VerifierClient]:
    """Return the verifier that a script's `sandbox` section asks for: this machine's, or those at `remote.urls`.

    Args:
        config: the section.
        pass_rates: the share of passed tests counts, and not only whether all do.

    Raises:
        ConfigError: pass rates, and programs are judged up to the first failure.
        SandboxError: this machine cannot isolate programs as `minimum_level` asks.
        ServerError: none of the servers is there.
    """
    if not config.remote.urls:
        if pass_rates and config.stop_at_first_failure:
            raise ConfigError("sandbox.stop_at_first_failure must be false: there are no pass rates with it")
        return default_verifier(config)
    client = VerifierClient(config, pass_rates)
    try:
        client.wait_ready()
    except BaseException:
        client.close()
        raise
    return client
