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
"""Can this prefix be completed? Draws completions in growing waves and runs them; what was paid for is asked once.

Everything that costs goes through here: completions from the policy, verdicts from the sandbox. Both are looked up in
the cache first, asked once however many searches want them, and kept before anybody sees them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Awaitable, Callable, Hashable, NamedTuple, Sequence, TypeVar
from weakref import WeakValueDictionary

from nemo_prm.data.fitting import generate_fitting
from nemo_prm.data.problems import problem_to_json
from nemo_prm.data.steps import code_span, make_program
from nemo_prm.errors import GeneratorError
from nemo_prm.labeling.batcher import Batcher, Stopped
from nemo_prm.labeling.cache import Cache, Drawn, digest
from nemo_prm.labeling.priors import Waves
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import Problem, SamplingParams, Verdict

Result = TypeVar("Result")


@dataclass
class Spent:
    """What was spent; see `nemo_prm.types.Cost`."""

    completions: int = 0
    tokens: int = 0
    executions: int = 0
    seconds: float = 0.0

    def add(self, other: Spent) -> None:
        self.completions += other.completions
        self.tokens += other.tokens
        self.executions += other.executions
        self.seconds += other.seconds

    def __add__(self, other: Spent) -> Spent:
        total = replace(self)
        total.add(other)
        return total


class Wave(NamedTuple):
    """Completions `first` to `first + size - 1` of a prompt."""

    prompt: str
    seed: int
    first: int
    size: int


@dataclass
class Answer:
    """What a question about a prefix showed; `completable` is None where verdicts that count are unknown.

    `passing` is the first completion that passed.
    """

    drawn: int = 0
    passed: int = 0
    passing: str | None = None
    unknown: int = 0
    results: list[tuple[str, Verdict]] = field(default_factory=list)  # what was run
    spent: Spent = field(default_factory=Spent)

    @property
    def completable(self) -> bool | None:
        return True if self.passed else (None if self.unknown else False)


@dataclass(frozen=True)
class Rules:
    """How a question is answered.

    Attributes:
        waves: of completions, K in all; the first that passes decides.
        patience: completions that may fail before the prefix is given up; K in exact mode.
        draw_all: draw and run all K, whatever passes.
    """

    waves: Waves
    patience: int
    draw_all: bool = False

    def next_wave(self, answer: Answer) -> int:
        """How many completions to draw next; 0 when the question is answered."""
        if self.draw_all:
            return self.waves.most - answer.drawn
        return 0 if answer.passed or answer.drawn >= self.patience else self.waves.next(answer.drawn)


def _begins_anew(problem: Problem, prefix: str, completion: str) -> bool:
    """Whether the code of the whole begins elsewhere than that of the prefix."""
    if "`" not in completion:
        return False
    return code_span(prefix + completion, problem.prompt)[0] != code_span(prefix, problem.prompt)[0]


class Oracle:
    """Answers for one policy and one sandbox, for as many coroutines as ask; belongs to one event loop."""

    def __init__(
        self,
        generator: Generator,
        verifier: Verifier,
        cache: Cache,
        checkpoint: str,
        params: SamplingParams,
        limits: Sequence[Any] = (),
        max_batch: int = 64,
        in_flight: int = 2,
        policy: str | None = None,
        of_code: bool = True,
    ) -> None:
        """
        Args:
            generator: the policy.
            verifier: runs the programs.
            cache: of what was paid for.
            checkpoint: names the policy there.
            params: sampling parameters, the same for responses and completions.
            limits: what else a verdict depends on (limits of the sandbox that override the problems').
            max_batch: prompts in one call of the generator.
            in_flight: calls of the generator at a time.
            policy: the generator's name in labels that there are already; None takes the first one that shows.
            of_code: prefixes are of code, and not of thoughts: a completion that begins the code anew, in a fence of
                its own, leaves the prefix out of the program, says nothing of it, and has failed.
        """
        self._of_code = of_code
        self._generator, self._verifier, self._cache, self._params = generator, verifier, cache, params
        self._source = [checkpoint, asdict(params)]
        self._limits = list(limits)
        self._draws = Batcher(self._generate, max_batch, in_flight, lambda wave: wave[1:])
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}  # in flight
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()  # by prompt and seed
        self._problems: dict[str, str] = {}  # problem_id -> digest
        self._stopped = False
        self._policy = policy
        self.paid = Spent()  # by this process

    @property
    def generator_name(self) -> str:
        """Some generators know it only when they have answered; in a rerun the cache may answer first."""
        return self._policy or self._generator.name

    @property
    def sandbox_name(self) -> str:
        return self._verifier.name

    def stop(self) -> None:
        """Begin nothing new; what is in flight is finished and kept."""
        self._stopped = True
        self._draws.stop()

    def close(self) -> None:
        self._draws.close()

    async def draw(self, wave: Wave) -> list[Drawn] | None:
        """Return completions of a prompt; None where it fills the policy's context.

        Raises:
            Stopped: see `stop`.
            GeneratorError: the policy gave none, or it is another one than before.
        """
        return await self._once(wave, lambda: self._draw(wave))

    async def judge(self, problem: Problem, program: str, public: bool = False) -> Verdict:
        """Return the verdict on a program, by the hidden tests or by the public ones.

        Raises:
            Stopped: see `stop`.
        """
        return await self._once((problem.problem_id, program, public), lambda: self._judge(problem, program, public))

    async def ask(self, problem: Problem, prefix: str, seed: int, rules: Rules) -> Answer:
        """Return whether a prefix of a response can be completed; a prefix that fills the context cannot.

        Args:
            problem: that the response answers.
            prefix: of the response, to the end of a step.
            seed: of the completions.
            rules: of the question.
        """
        key = (problem.problem_id, prefix, rules)
        return await self._once(key, lambda: self._answer(problem, prefix, seed, rules))

    async def _answer(self, problem: Problem, prefix: str, seed: int, rules: Rules) -> Answer:
        answer, verdicts = Answer(), dict[str, Verdict]()
        while size := rules.next_wave(answer):
            drawn = await self.draw(Wave(problem.prompt + prefix, seed, answer.drawn, size))
            if drawn is None:
                return answer
            for completion, seconds, _ in drawn:
                answer.drawn += 1
                answer.spent.add(Spent(1, completion.num_tokens, 0, seconds))
            for completion, _, _ in drawn:
                if answer.passed and not rules.draw_all:
                    break
                if self._of_code and _begins_anew(problem, prefix, completion.text):
                    continue
                program = make_program(problem, prefix + completion.text)
                if program not in verdicts:
                    verdicts[program] = await self.judge(problem, program)
                    answer.spent.add(Spent(0, 0, 1, verdicts[program].seconds))
                answer.results.append((completion.text, verdicts[program]))
                answer.passed += verdicts[program].passed
                if verdicts[program].passed and answer.passing is None:
                    answer.passing = completion.text
                answer.unknown += verdicts[program].status == "infra_error"
        return answer

    async def _draw(self, wave: Wave) -> list[Drawn] | None:
        base = digest(*self._source, wave.prompt, wave.seed)
        async with self._turns.setdefault(base, asyncio.Lock()):  # an audit's wave overlaps with a search's
            return await self._draw_missing(wave, base)

    async def _draw_missing(self, wave: Wave, base: bytes) -> list[Drawn] | None:
        keys = [base + number.to_bytes(4, "big") for number in range(wave.first, wave.first + wave.size)]
        found = [self._cache.completion(key) for key in keys]
        missing = next((i for i, drawn in enumerate(found) if drawn is None), len(found))
        drawn = [each for each in found[:missing] if each is not None]
        self._check_policy(drawn)
        if missing == wave.size:
            return drawn
        rest = await self._draws.ask(Wave(wave.prompt, wave.seed, wave.first + missing, wave.size - missing))
        if rest is None:
            return None
        self._check_policy(rest)
        for key, each in zip(keys[missing:], rest):
            self._cache.add_completion(key, each)
            self.paid.add(Spent(1, each.completion.num_tokens, 0, each.seconds))
        return drawn + rest

    def _check_policy(self, drawn: Sequence[Drawn]) -> None:
        """Refuse to mix two policies, such as those before and after a server's restart with another checkpoint."""
        for each in drawn:
            self._policy = self._policy or each.generator
            if each.generator != self._policy:
                raise GeneratorError(
                    f"{each.generator} answers under the name of checkpoint {self._source[0]!r}, and what is there "
                    f"already is of {self._policy}: serve that one, or choose another output and checkpoint"
                )

    def _generate(self, waves: list[Wave]) -> list[list[Drawn] | None]:
        """Call the generator; runs in a thread."""
        started = time.monotonic()
        _, seed, first, size = waves[0]
        prompts = [wave.prompt for wave in waves]
        drawn, _ = generate_fitting(self._generator, prompts, size, self._params, seed, first)
        seconds, name = (time.monotonic() - started) / max(len(drawn) * size, 1), self._generator.name
        return [[Drawn(c, seconds, name) for c in drawn[i]] if i in drawn else None for i in range(len(waves))]

    async def _judge(self, problem: Problem, program: str, public: bool) -> Verdict:
        if problem.problem_id not in self._problems:
            self._problems[problem.problem_id] = digest(problem_to_json(problem)).hex()
        kind = ["public"] if public else []
        key = digest(self._problems[problem.problem_id], program, self._limits, *kind)
        verdict = self._cache.verdict(key)
        if verdict is None:
            if self._stopped:
                raise Stopped
            tests = problem.public_tests if public else None
            verdict = await asyncio.wrap_future(self._verifier.submit(problem, program, tests))
            self._cache.add_verdict(key, verdict)
            self.paid.add(Spent(0, 0, 1, verdict.seconds))
        return verdict

    async def _once(self, key: Hashable, begin: Callable[[], Awaitable[Result]]) -> Result:
        """Await what is asked under this key, beginning it unless somebody has."""
        if key not in self._asked:
            future: asyncio.Future[Result] = asyncio.ensure_future(begin())
            self._asked[key] = future
            future.add_done_callback(lambda _: self._asked.pop(key))
        result: Result = await self._asked[key]
        return result
