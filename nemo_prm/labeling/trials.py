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
"""Trials: is this prefix completable? Draws completions in growing waves and runs them, many prefixes at once."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Sequence

from nemo_prm.data.steps import make_program
from nemo_prm.errors import PromptTooLongError
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import Completion, Problem, SamplingParams

FIRST_WAVE = 2  # completions drawn at first; each further wave draws twice as many, up to K in all


def derive_seed(seed: int, *parts: object) -> int:
    """Return a seed below 2**63 for one purpose.

    A generator's completion depends on its prompt, its seed and its number alone (`nemo_prm.protocols.Generator`), so
    one seed per purpose and wave is enough: labels depend neither on what shares a batch nor on where a run resumed.
    """
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass
class Spent:
    """What was spent on behalf of one response; see `nemo_prm.types.Cost`."""

    completions: int = 0
    tokens: int = 0
    executions: int = 0
    seconds: float = 0.0

    def add_completions(self, completions: Sequence[Completion], seconds: float) -> None:
        self.completions += len(completions)
        self.tokens += sum(completion.num_tokens for completion in completions)
        self.seconds += seconds


@dataclass
class Trial:
    """One prefix under trial; responses of a problem that begin alike share it, and the first one bears its cost."""

    problem: Problem
    prefix: str
    payer: Spent
    drawn: int = 0
    passed: int = 0
    unknown: int = 0  # completions whose verdict is infra_error
    waves: int = 0
    done: bool = False
    verdicts: dict[str, bool | None] = field(default_factory=dict)  # by program; None is unknown


def advance(
    trials: Sequence[Trial],
    generator: Generator,
    verifier: Verifier,
    params: SamplingParams,
    seed: int,
    max_completions: int,
    draw_all: bool,
) -> None:
    """Give every trial its next wave of completions, and mark those that are done.

    A trial is done at its first completion that passes (the rest of the wave is not executed, the rest of K not even
    generated), or after `max_completions`. A prefix that fills the policy's context cannot be completed.

    Args:
        trials: none of them done, no two alike.
        generator: the policy.
        verifier: runs the programs.
        params: sampling parameters, the same as for responses.
        seed: of the whole job.
        max_completions: K.
        draw_all: draw and execute all K at once, for soft labels.
    """
    sizes: dict[tuple[int, int], list[Trial]] = {}
    for trial in trials:
        left = max_completions - trial.drawn
        size = left if draw_all else min(FIRST_WAVE * 2**trial.waves, left)
        sizes.setdefault((size, trial.waves), []).append(trial)
    for (size, wave), group in sizes.items():
        prompts = [trial.problem.prompt + trial.prefix for trial in group]
        started = time.monotonic()
        drawn, refused = generate_fitting(generator, prompts, size, params, derive_seed(seed, "completions", wave))
        seconds = (time.monotonic() - started) / len(group)
        for i, trial in enumerate(group):
            trial.waves += 1
            if i in refused:
                trial.done = True
                continue
            trial.drawn += size
            trial.payer.add_completions(drawn[i], seconds)
        answered = [trial for i, trial in enumerate(group) if i not in refused]
        _execute(answered, list(drawn.values()), verifier, draw_all)
        for trial in group:
            trial.done = trial.done or trial.drawn >= max_completions or (trial.passed > 0 and not draw_all)


def generate_fitting(
    generator: Generator, prompts: Sequence[str], n: int, params: SamplingParams, seed: int
) -> tuple[dict[int, list[Completion]], set[int]]:
    """Draw completions for the prompts that fit into the policy's context.

    Returns:
        Completions by index of the prompt, ascending, and the indices of the prompts that do not fit.
    """
    try:
        return dict(enumerate(generator.generate(prompts, n, params, seed))), set()
    except PromptTooLongError as error:
        refused = set(error.indices)
        if not refused:
            raise
    fitting = [i for i in range(len(prompts)) if i not in refused]
    drawn = generator.generate([prompts[i] for i in fitting], n, params, seed) if fitting else []
    return dict(zip(fitting, drawn)), refused


def _execute(
    trials: Sequence[Trial], completions: Sequence[Sequence[Completion]], verifier: Verifier, run_all: bool
) -> None:
    """Run the completions of all trials rank by rank: trials share the workers and stop at their first pass."""
    for rank in range(max(map(len, completions), default=0)):
        running = []
        for trial, texts in zip(trials, completions):
            if trial.passed == 0 or run_all:
                running.append((trial, make_program(trial.problem, trial.prefix + texts[rank].text)))
        new = [(trial, program) for trial, program in running if program not in trial.verdicts]
        verdicts = verifier.verify_many([(trial.problem, program) for trial, program in new])
        for (trial, program), verdict in zip(new, verdicts):
            trial.verdicts[program] = None if verdict.status == "infra_error" else verdict.passed
            trial.payer.executions += 1
            trial.payer.seconds += verdict.seconds
        for trial, program in running:
            known = trial.verdicts[program]
            trial.passed += known is True
            trial.unknown += known is None
