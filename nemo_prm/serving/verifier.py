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
"""The verifier server: judges responses to the problems it has loaded, for any number of clients."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import islice
from types import TracebackType
from typing import Any, Sequence

from numpy.typing import NDArray

from nemo_prm.config import ServeVerifierConfig
from nemo_prm.data.problems import load_problems
from nemo_prm.errors import ConfigError, DataError, RequestError, ServerError
from nemo_prm.metrics import MetricsLogger
from nemo_prm.protocols import Verifier
from nemo_prm.sandbox.verifier import default_verifier
from nemo_prm.serving.loop import ServedModel, serve
from nemo_prm.serving.triton import check_address
from nemo_prm.serving.verifier_messages import Job, ServedProblems, decode_jobs, encode_verdicts
from nemo_prm.serving.wire import VERIFIER, Arrays
from nemo_prm.types import Verdict

METRICS_INTERVAL_S = 10.0


class Meter:
    """Counts verdicts; every ten seconds in which there were any, a line in `<folder>/metrics.jsonl`.

    `step` is the number of programs judged since the start. Keys: `programs_per_s` since the last line, `waiting`
    (programs taken and not judged yet), `level`, and `verdicts/<status>` since the start.
    """

    def __init__(self, folder: str | None) -> None:
        self._logger = MetricsLogger(folder or ".", enabled=folder is not None)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._waiting, self._level = 0, ""
        self._logged, self._logged_at = 0, time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._log_regularly, daemon=True).start()

    def taken(self, count: int) -> None:
        with self._lock:
            self._waiting += count

    def judged(self, count: int, verdicts: Sequence[Verdict]) -> None:
        """Note the end of `count` programs; `verdicts` is empty where they could not be judged at all."""
        with self._lock:
            self._waiting -= count
            self._counts.update(verdict.status for verdict in verdicts)
            self._level = verdicts[-1].level if verdicts else self._level

    def _log_regularly(self) -> None:
        while not self._closed.wait(METRICS_INTERVAL_S):
            self._log()

    def _log(self) -> None:
        with self._lock:
            now, total = time.monotonic(), sum(self._counts.values())
            rate = (total - self._logged) / (now - self._logged_at)
            counts = {f"verdicts/{status}": count for status, count in sorted(self._counts.items())}
            metrics = {"programs_per_s": round(rate, 1), "waiting": self._waiting, "level": self._level, **counts}
            news = total > self._logged
            self._logged, self._logged_at = total, now
        if news:
            self._logger.log(metrics, step=total)

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._log()
        self._logger.close()


class VerifierService:
    """Judges requests; several threads may do so at a time."""

    def __init__(
        self, problems: ServedProblems, verifier: Verifier, meter: Meter, stop_at_first_failure: bool
    ) -> None:
        self.problems, self.verifier, self.meter = problems, verifier, meter
        self.stop_at_first_failure = stop_at_first_failure

    def read(self, inputs: Arrays) -> list[Job]:
        return decode_jobs(inputs, self.problems)

    def answer(self, requests: Sequence[list[Job]]) -> list[dict[str, NDArray[Any]] | RequestError]:
        """Judge the programs of all requests together; a program that cannot be judged refuses its own request."""
        jobs = [job for request in requests for job in request]
        try:
            verdicts = iter(self._judge(jobs))
        except (ConfigError, DataError) as error:
            if len(requests) == 1:
                return [RequestError(str(error))]
            return [answer for request in requests for answer in self.answer([request])]
        stop = self.stop_at_first_failure
        return [encode_verdicts(request, list(islice(verdicts, len(request))), stop) for request in requests]

    def _judge(self, jobs: Sequence[Job]) -> list[Verdict]:
        self.meter.taken(len(jobs))
        verdicts: list[Verdict] = []
        try:
            verdicts = self.verifier.verify_many([(job.judged_problem, job.program) for job in jobs])
        finally:
            self.meter.judged(len(jobs), verdicts)
        return verdicts


def serve_verifier(config: ServeVerifierConfig) -> None:
    """Load the problems, set the sandbox up, and serve verdicts until SIGTERM or SIGINT.

    Raises:
        ConfigError: the sandbox's options ask for other servers in turn.
        DataError: see `nemo_prm.data.problems.load_problems`.
        SandboxError: this machine cannot isolate programs as `sandbox.minimum_level` asks.
        ServerError: see `nemo_prm.serving.loop.serve`; or the sandbox fails on its first program.
    """
    if config.sandbox.remote.urls:
        raise ConfigError("sandbox.remote.urls belongs to the clients of this server, which judges here; leave it out")
    check_address(config.server)
    source = f"problems={config.problems}" + (f" split={config.split}" if config.problems == "embedded" else "")
    problems = [each for each in load_problems(config.problems, config.split, general=True) if each.tests]
    if not problems:
        raise DataError(f"{source} has no problem with tests: there is nothing to judge")
    with default_verifier(config.sandbox) as verifier, Meter(config.metrics) as meter:
        first = verifier.verify(problems[0], "")
        if first.status == "infra_error":
            raise ServerError(f"the sandbox cannot run programs here: {first.message}")
        service = VerifierService(
            ServedProblems.of(problems, source), verifier, meter, config.sandbox.stop_at_first_failure
        )
        model = ServedModel(
            VERIFIER,
            service.answer,
            service.read,
            max_batch=config.max_batch,
            max_queue=config.max_queue,
            instances=config.concurrent_batches,
        )
        serve([model], config.server)
