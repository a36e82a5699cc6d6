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
"""The contestants of labeling.py: labels made one response at a time, all K completions always, nothing shared.

Written to be read next to PSGPO's Algorithm 1 (arXiv 2410.17621): no cache, no early stop, no batch but the K
completions of one prefix, which the policy draws in one call and the sandbox judges with all its workers. The random
streams are those of `nemo_prm.labeling`, so that labels can be compared one by one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Sequence

from nemo_prm.config import LabelConfig
from nemo_prm.data.fitting import generate_fitting
from nemo_prm.data.splitters import splitter
from nemo_prm.data.steps import is_neutral, make_program
from nemo_prm.labeling.labeler import Key, Work, derive_seed
from nemo_prm.labeling.search import longest_completable_prefix
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import Problem


@dataclass
class Labelled:
    """A response and what its search showed.

    Attributes:
        key: problem_id, response_id.
        correct: it passes.
        points: prefixes that end with a step that is not neutral, ascending.
        passes: of each prefix asked about, whether each of its K completions passed; in the order asked.
        longest: steps of the longest completable prefix; all for a correct response.
    """

    key: Key
    correct: bool
    points: Sequence[int]
    passes: dict[int, list[bool]] = field(default_factory=dict)
    longest: int = 0
    completions: int = 0
    tokens: int = 0
    executions: int = 0
    distinct: int = 0  # programs among the executions of each prefix


def label_one_by_one(
    works: Sequence[Work], generator: Generator, verifier: Verifier, config: LabelConfig, every_prefix: bool = False
) -> tuple[list[Labelled], float]:
    """Label responses.

    Args:
        works: responses, those of a problem next to each other.
        generator: the policy.
        verifier: runs the programs.
        config: sampling, K, seed.
        every_prefix: ask about all prefixes (Math-Shepherd, arXiv 2312.08935) in place of halving.

    Returns:
        What was found, in the order of `works`, and wall seconds.
    """
    found, responses, started = [], dict[str, list[tuple[str, int]]](), time.monotonic()
    for work in works:
        problem = work.problem
        if work.given is None and problem.problem_id not in responses:
            count, seed = config.responses_per_prompt, derive_seed(config.seed, "responses")
            (drawn,) = generator.generate([problem.prompt], count, config.sampling.as_params(), seed)
            responses[problem.problem_id] = [(each.text, each.num_tokens) for each in drawn]
        text, tokens = (work.given.text, 0) if work.given else responses[problem.problem_id][work.number]
        found.append(_label(work, text, tokens, generator, verifier, config, every_prefix))
    return found, time.monotonic() - started


def _label(
    work: Work,
    text: str,
    tokens: int,
    generator: Generator,
    verifier: Verifier,
    config: LabelConfig,
    every_prefix: bool,
) -> Labelled:
    problem = work.problem
    steps = splitter(config.steps)(text, problem.language, problem.prompt)
    points = [i for i, step in enumerate(steps, start=1) if not is_neutral(step.kind, config.neutral)]
    (verdict,) = verifier.verify_many([(problem, make_program(problem, text))])
    found = Labelled(work.key, verdict.passed, points)
    found.completions, found.tokens, found.executions = int(work.given is None), tokens, 1
    if verdict.passed:
        found.longest = len(steps)
        return found

    def completable(prefix: int) -> bool:
        _ask(found, problem, text[: steps[prefix - 1].end], prefix, generator, verifier, config)
        return any(found.passes[prefix])

    if every_prefix:
        for point in points:
            completable(point)
        found.longest = longest_completable_prefix(
            len(steps), points.__contains__, lambda i: any(found.passes[i])
        ).longest
    else:
        found.longest = longest_completable_prefix(len(steps), points.__contains__, completable).longest
    return found


def _ask(
    found: Labelled,
    problem: Problem,
    prefix: str,
    num_steps: int,
    generator: Generator,
    verifier: Verifier,
    config: LabelConfig,
) -> None:
    """Draw all K completions of a prefix and run them; one that fills the context is not completable."""
    seed = derive_seed(config.seed, "completions")
    params = config.sampling.as_params()
    drawn, _ = generate_fitting(generator, [problem.prompt + prefix], config.completions, params, seed)
    completions = drawn.get(0, [])
    programs = [make_program(problem, prefix + each.text) for each in completions]
    verdicts = verifier.verify_many([(problem, program) for program in programs])
    if any(verdict.status == "infra_error" for verdict in verdicts):
        raise RuntimeError(f"the sandbox failed on {problem.problem_id}; the comparison needs all verdicts")
    found.passes[num_steps] = [verdict.passed for verdict in verdicts]
    found.completions += len(completions)
    found.tokens += sum(each.num_tokens for each in completions)
    found.executions += len(verdicts)
    found.distinct += len(set(programs))


def lower_bound(all_passes: Labelled, most: int) -> int:
    """Completions that any way of asking needs for this response: one failed probe, and one pass as it was drawn.

    Args:
        all_passes: with every prefix asked about.
        most: K.
    """
    if all_passes.correct:
        return all_passes.completions
    needed = 1  # the response itself
    asked = {point: i for i, point in enumerate(all_passes.points)}
    if all_passes.longest:
        needed += all_passes.passes[all_passes.longest].index(True) + 1
    if not all_passes.points or all_passes.longest != all_passes.points[-1]:
        after = asked[all_passes.longest] + 1 if all_passes.longest else 0
        needed += most if all_passes.points else 0
        assert not all_passes.points or not any(all_passes.passes[all_passes.points[after]])
    return needed
