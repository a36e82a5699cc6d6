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
"""Pass@k of a policy: sample n responses a problem, run the hidden tests, and estimate over problems."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from tqdm import tqdm

from nemo_prm.config import EvaluateConfig
from nemo_prm.data.fitting import generate_fitting
from nemo_prm.data.steps import make_program
from nemo_prm.errors import ConfigError
from nemo_prm.evaluation.pass_at_k import Counts, Estimate, estimate
from nemo_prm.metrics import finite_or_null
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.types import Problem, Status

LENGTH_BUCKETS = (("<=50", 50.0), ("51-100", 100.0), (">100", math.inf))  # response tokens, upper end included


class Sample(NamedTuple):
    """One response and its verdict; `sample` counts from 0 within the problem, `num_tokens` are the response's."""

    problem_id: str
    sample: int
    response: str
    status: Status
    num_tokens: int


class Rate(NamedTuple):
    """Share of samples that passed, over the samples with a known verdict; NaN where there is none."""

    pass_rate: float
    num_samples: int


@dataclass(frozen=True)
class EvaluationResult:
    """Estimates by k, over all problems and by difficulty; pass rates by response length.

    `num_unknown` samples had the verdict `infra_error`: the judge failed, so they enter no estimate.
    `skipped` are the ids of problems whose prompt leaves the policy no room for an answer; they enter none either.
    """

    pass_at_k: dict[int, Estimate]
    by_difficulty: dict[str, dict[int, Estimate]]
    by_length: dict[str, Rate]
    num_problems: int
    num_samples: int
    num_unknown: int
    skipped: tuple[str, ...]
    seconds: float

    def as_json(self, config: EvaluateConfig) -> dict[str, Any]:
        """Return the content of results.json: undefined numbers are null, and tokens of servers are left out."""
        settings = asdict(config)
        for server in (settings["generator"], settings["sandbox"]["remote"]):
            del server["token"]
        content = {
            "results": {"nemo_prm": estimates_as_json(self.pass_at_k)},
            "by_difficulty": {name: estimates_as_json(entry) for name, entry in self.by_difficulty.items()},
            "by_length": {name: rate._asdict() for name, rate in self.by_length.items()},
            "num_problems": self.num_problems,
            "num_samples": self.num_samples,
            "num_unknown": self.num_unknown,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "config": settings,
        }
        return dict(finite_or_null(content))

    def as_table(self) -> str:
        """Return a small table for the terminal."""
        rows = [f"{'':26}{'problems':>10}{'pass@k':>10}   95 % interval"]
        groups = {"all": self.pass_at_k}
        if len(self.by_difficulty) > 1:
            groups |= {f"difficulty {name}": entry for name, entry in self.by_difficulty.items()}
        for name, entry in groups.items():
            for k, value in entry.items():
                interval = f"{_percent(value.low)} to {_percent(value.high)}"
                rows.append(f"{f'{name}, pass@{k}':26}{value.num_problems:>10}{_percent(value.mean):>10}   {interval}")
        rows.append(f"{'':26}{'samples':>10}{'passed':>10}")
        for bucket, rate in self.by_length.items():
            rows.append(f"{f'{bucket} tokens':26}{rate.num_samples:>10}{_percent(rate.pass_rate):>10}")
        if self.num_unknown:
            rows.append(
                f"{self.num_unknown} of {self.num_samples} samples have no verdict (infra_error); not counted."
            )
        if self.skipped:
            rows.append(f"{len(self.skipped)} problems were skipped: their prompt fills the policy's context.")
        return "\n".join(rows)


def evaluate(
    problems: Sequence[Problem],
    generator: Generator,
    verifier: Verifier,
    config: EvaluateConfig,
    on_sample: Callable[[Sample], None] | None = None,
) -> EvaluationResult:
    """Sample `config.samples` responses a problem, judge them by the hidden tests, and estimate pass@k.

    Args:
        problems: what to solve.
        generator: the policy.
        verifier: runs the tests.
        config: `samples`, `k`, `seed` and `sampling` are read here.
        on_sample: called with each sample as soon as it has its verdict.

    Returns:
        Estimates, each problem weighing the same.

    Raises:
        ConfigError: `samples` or a `k` that cannot give an estimate.
        GeneratorError: the policy could not be reached or answered nonsense.
    """
    if config.samples < 1:
        raise ConfigError(f"samples must be at least 1, found {config.samples}.")
    for k in config.k:
        if not 1 <= k <= config.samples:
            raise ConfigError(f"k must lie between 1 and samples={config.samples}, found {k}.")
    started = time.monotonic()
    params = config.sampling.as_params()
    chunk_size = max(1, config.generator.batch_size // config.samples)
    samples: dict[str, list[Sample]] = {}
    skipped: list[str] = []
    with tqdm(total=len(problems), desc="evaluate", unit="problem", file=sys.stderr) as progress:
        for start in range(0, len(problems), chunk_size):
            chunk = problems[start : start + chunk_size]
            prompts = [problem.prompt for problem in chunk]
            drawn, too_long = generate_fitting(generator, prompts, config.samples, params, config.seed)
            skipped += [chunk[i].problem_id for i in sorted(too_long)]
            pairs = [(chunk[i], completion) for i, completions in drawn.items() for completion in completions]
            verdicts = verifier.verify_many([(problem, make_program(problem, c.text)) for problem, c in pairs])
            for (problem, completion), verdict in zip(pairs, verdicts):
                entries = samples.setdefault(problem.problem_id, [])
                entries.append(
                    Sample(problem.problem_id, len(entries), completion.text, verdict.status, completion.num_tokens)
                )
                if on_sample is not None:
                    on_sample(entries[-1])
            progress.update(len(chunk))
    return _summarize([p for p in problems if p.problem_id in samples], samples, skipped, config, started)


def _summarize(
    problems: Sequence[Problem],
    samples: dict[str, list[Sample]],
    skipped: Sequence[str],
    config: EvaluateConfig,
    started: float,
) -> EvaluationResult:
    counts: dict[str, list[Counts]] = defaultdict(list)
    lengths: dict[str, list[bool]] = {name: [] for name, _ in LENGTH_BUCKETS}
    for problem in problems:
        known = [sample for sample in samples[problem.problem_id] if sample.status != "infra_error"]
        counts[problem.difficulty or "unrated"].append(
            Counts(len(known), sum(sample.status == "passed" for sample in known))
        )
        for sample in known:
            bucket = next(name for name, upper in LENGTH_BUCKETS if sample.num_tokens <= upper)
            lengths[bucket].append(sample.status == "passed")
    num_samples = sum(map(len, samples.values()))
    every = [entry for entries in counts.values() for entry in entries]
    return EvaluationResult(
        pass_at_k={k: estimate(every, k, config.seed) for k in config.k},
        by_difficulty={
            name: {k: estimate(counts[name], k, config.seed) for k in config.k}
            # numbers in their order, words in the order of the problem file (easy, medium, hard)
            for name in sorted(counts, key=lambda name: int(name) if name.isdecimal() else math.inf)
        },
        by_length={
            name: Rate(sum(passed) / len(passed) if passed else math.nan, len(passed))
            for name, passed in lengths.items()
        },
        num_problems=len(problems),
        num_samples=num_samples,
        num_unknown=num_samples - sum(entry.num_samples for entry in every),
        skipped=tuple(skipped),
        seconds=time.monotonic() - started,
    )


def estimates_as_json(estimates: Mapping[int, Estimate]) -> dict[str, Any]:
    """Estimates by k as results.json has them: `pass@k`, `pass@k_ci` and `pass@k_problems`."""
    content: dict[str, Any] = {}
    for k, value in estimates.items():
        content[f"pass@{k}"] = value.mean
        content[f"pass@{k}_ci"] = [value.low, value.high]
        content[f"pass@{k}_problems"] = value.num_problems
    return content


def _percent(share: float) -> str:
    return "undefined" if math.isnan(share) else f"{100 * share:.1f} %"
