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
"""No hostile program passes, learns a secret, reaches anybody, leaves anything behind, or harms the next program."""

from __future__ import annotations

import random
import time
from typing import Iterator

import pytest
from hostile_watch import Program, Watch, innocents, leaks, load_corpus, planter

from nemo_prm.sandbox.level import filters, offered_levels
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Level, Verdict

CORPUS = load_corpus()
INNOCENTS = innocents()
# Without libseccomp, level rlimits confines nothing.
LEVELS = [level for level in offered_levels() if level != "rlimits" or filters()]
# One by one at the best level, all at once at every level.
ONE_BY_ONE = [pytest.param(program, id=program.name) for program in CORPUS if program.holds_at(LEVELS[0])]
MAX_JUDGE_GROWTH_MIB = 200


class Bench:
    """A verifier of one worker at the best level; `processes` is what it keeps."""

    def __init__(self, watch: Watch) -> None:
        self.innocents = [(program.name, *watch.job(program)) for program in INNOCENTS]
        self.verifier = SandboxVerifier(workers=1, stop_at_first_failure=True, level=LEVELS[0])
        for _, problem, text in self.innocents:
            assert self.verifier.verify(problem, text).passed
        self.processes = watch.processes()


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    found = Watch()
    yield found
    found.close()


@pytest.fixture(scope="module")
def bench(watch: Watch) -> Iterator[Bench]:
    found = Bench(watch)
    with found.verifier:
        yield found


def assert_harmless(program: Program, verdict: Verdict, level: Level) -> None:
    assert verdict.status in program.verdicts - {"passed", "infra_error"}, verdict
    assert verdict.level == level
    assert leaks(verdict) is None, verdict


@pytest.mark.parametrize("program", ONE_BY_ONE)
def test_a_hostile_program_gets_nowhere(bench: Bench, watch: Watch, program: Program) -> None:
    verifier = bench.verifier
    if program.before == "right":
        right = next(i for i in INNOCENTS if (i.language, i.kind) == (program.language, program.kind))
        assert verifier.verify(*watch.job(right)).passed
    elif program.before:
        earlier = next((other for other in CORPUS if other.name.endswith(f"/{program.before}")), None)
        verifier.verify(*watch.job(earlier or planter(program)))
    memory, started = watch.forget_peak(), time.monotonic()
    verdict = verifier.verify(*watch.job(program))
    seconds = time.monotonic() - started
    grown = watch.peak_mib() - memory
    assert_harmless(program, verdict, LEVELS[0])
    assert seconds < program.seconds
    assert grown < MAX_JUDGE_GROWTH_MIB
    for name, problem, text in bench.innocents:
        verdict = verifier.verify(problem, text)
        assert verdict.passed, (name, verdict)
    assert list(watch.trouble(bench.processes)) == []


@pytest.mark.parametrize("level", LEVELS)
def test_hostile_programs_among_others(watch: Watch, level: Level) -> None:
    """All of them at once, shuffled among innocent ones, on two workers."""
    before = watch.processes()
    hostile = [program for program in CORPUS if program.holds_at(level)]
    programs = hostile + INNOCENTS * (len(hostile) // len(INNOCENTS))
    random.Random(level).shuffle(programs)
    with SandboxVerifier(workers=2, stop_at_first_failure=True, level=level) as verifier:
        verdicts = verifier.verify_many([watch.job(program) for program in programs])
        for program, verdict in zip(programs, verdicts):
            if program.verdicts == {"passed"}:
                assert verdict.passed, (program.name, verdict)
            else:
                assert_harmless(program, verdict, level)
    assert list(watch.trouble(before)) == []
