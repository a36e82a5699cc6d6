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
"""The verifier: programs in, verdicts out; a pool of warm boxes behind it. docs/sandbox.md has the threat model.

verifier.py      limits, retries, the pool                  -> judge.py
judge.py         what to run, and what the answers mean     -> box.py, compare.py, cpp.py
box.py           one box from outside                       -> zygote.py
zygote.py        the process inside; it forks per program   -> confinement.py, candidate.py, trusted.py
confinement.py   what a child gives up
candidate.py     what a child does with a program
trusted.py       what a child does with tests and checkers
"""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from concurrent.futures import CancelledError
from typing import Callable, Sequence

from nemo_prm.config import SandboxConfig
from nemo_prm.errors import ConfigError, SandboxError
from nemo_prm.sandbox.box import JudgeFailure
from nemo_prm.sandbox.cpp import Compiler
from nemo_prm.sandbox.judge import BrokenTest, Limits, Starved, Task, Worker, check_task, iter_cores
from nemo_prm.sandbox.level import best_level, bubblewrap, why_not
from nemo_prm.sandbox.pool import FairPool, Job
from nemo_prm.types import Level, Problem, TestCase, Verdict

logger = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSE_S = 0.2  # before an attempt is repeated: the machine may be short of something just now


class SandboxVerifier:
    """Judges programs; safe to use from several threads. Close it, or use it as a context manager."""

    name = "sandbox-2"

    def __init__(
        self,
        workers: int = 0,
        time_limit_s: float | None = None,
        memory_limit_mb: int | None = None,
        total_time_limit_s: float | None = None,
        stop_at_first_failure: bool = False,
        minimum_level: str = "full",
        level: Level | None = None,
    ) -> None:
        """
        Args:
            workers: programs run at once, each pinned to a processor; 0 means one per processor.
            time_limit_s: per test, in place of the problem's own: seconds of CPU time, or of wall time in which the
                program did not wait for a processor.
            memory_limit_mb: address space beyond what the interpreter itself takes, in place of the problem's own.
            total_time_limit_s: for all tests of a program together.
            stop_at_first_failure: judge no further test once one has failed; there is no pass rate then.
            minimum_level: take the best isolation of this machine, and none below this.
            level: take exactly this one, in place of `minimum_level`.

        Raises:
            ConfigError: an argument that cannot be.
            SandboxError: the machine does not offer the level.
        """
        if workers < 0:
            raise ConfigError(f"sandbox.workers must not be negative, found {workers}.")
        limits = {
            "time_limit_s": time_limit_s,
            "memory_limit_mb": memory_limit_mb,
            "total_time_limit_s": total_time_limit_s,
        }
        for name, limit in limits.items():
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise ConfigError(f"sandbox.{name} must be over 0, found {limit}.")
        self._time_limit_s, self._memory_limit_mb, self._total_s = time_limit_s, memory_limit_mb, total_time_limit_s
        self._stop_at_first_failure = stop_at_first_failure
        if level is not None and (missing := why_not(level)) is not None:
            raise SandboxError(f"This machine does not isolate programs at level {level}: {missing}.")
        self.level: Level = level or best_level(minimum_level)
        self.workers = workers or len(os.sched_getaffinity(0))
        compiler = Compiler(None if self.level == "rlimits" else bubblewrap())
        self._pool: FairPool[Worker, Verdict] = FairPool(
            [Worker(self.level, core, compiler) for core in iter_cores(self.workers)]
        )
        self._close = weakref.finalize(self, self._pool.close)

    def __enter__(self) -> SandboxVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what is queued and end every process."""
        self._close()

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        """Judge `program`; see `nemo_prm.protocols.Verifier`.

        All tests of kind call share one process, and so do all of kind code; each test of kind stdio has its own. A
        program that fails a test goes on with the next one unless it ran out of time, memory or output.

        Raises:
            ConfigError: there is no test, or the problem lacks what its tests need.
            DataError: the arguments of a test cannot be passed to a program.
        """
        return self._gather([self.submit(problem, program, tests)])[0]

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Judge several programs, `workers` at a time; verdicts in the order of `jobs`."""
        caller = object()
        return self._gather([self._submit(caller, self._task(problem, program, None)) for problem, program in jobs])

    def submit(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Job[Worker, Verdict]:
        """Queue `program` and return a future of its verdict, whose `cancel` ends it even when it runs already.

        Callers take turns: a program that is submitted alone does not wait for the rest of somebody's batch.
        """
        return self._submit(object(), self._task(problem, program, tests))

    def _task(
        self, problem: Problem, program: str, tests: Sequence[TestCase] | None
    ) -> Callable[[Callable[[], bool]], Task]:
        tests = problem.tests if tests is None else tests
        test_s = self._time_limit_s or problem.time_limit_s
        limits = Limits(
            test_s=test_s,
            total_s=self._total_s or test_s * len(tests),
            memory_mb=self._memory_limit_mb or problem.memory_limit_mb,
            stop_at_first_failure=self._stop_at_first_failure,
        )

        def make(unwanted: Callable[[], bool]) -> Task:
            return Task(problem, program, tests, limits, unwanted)

        check_task(make(lambda: False))
        return make

    def _submit(self, caller: object, make: Callable[[Callable[[], bool]], Task]) -> Job[Worker, Verdict]:
        return self._pool.submit(caller, lambda worker, unwanted: self._judge(worker, make, unwanted))

    def _judge(
        self, worker: Worker, make: Callable[[Callable[[], bool]], Task], unwanted: Callable[[], bool]
    ) -> Verdict:
        """Judge with patience for the judge's own failures; what remains unknown is an `infra_error`."""
        problem = "nothing was tried"
        for attempt in range(ATTEMPTS):
            try:
                try:
                    return worker.judge(make(unwanted), self.name)
                except Starved:
                    task = make(unwanted)
                    task.alone = True
                    with self._pool.alone():
                        return worker.judge(task, self.name)
            except Starved:
                problem = "the machine is too busy to say whether the program is too slow"
                break
            except BrokenTest as error:
                problem = str(error)
                break
            except JudgeFailure as error:
                problem = str(error)
                time.sleep(PAUSE_S * attempt)
            except CancelledError:
                raise
            except Exception as error:  # ours to mend; no program may end a training run
                logger.exception("the judge failed on a program of %s", make(unwanted).problem.problem_id)
                problem = f"the judge failed: {type(error).__name__}: {error}"
                worker.close()
        return Verdict(
            "infra_error", num_tests=len(make(unwanted).tests), message=problem, sandbox=self.name, level=self.level
        )

    @staticmethod
    def _gather(jobs: Sequence[Job[Worker, Verdict]]) -> list[Verdict]:
        try:
            return [job.result() for job in jobs]
        except BaseException:  # Ctrl-C, above all
            for job in jobs:
                job.cancel()
            raise


def default_verifier(config: SandboxConfig) -> SandboxVerifier:
    """Return the verifier that a script's `sandbox` section asks for."""
    return SandboxVerifier(
        config.workers,
        config.time_limit_s,
        config.memory_limit_mb,
        config.total_time_limit_s,
        config.stop_at_first_failure,
        config.minimum_level,
    )
