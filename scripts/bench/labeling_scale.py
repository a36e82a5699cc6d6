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
"""What a million labels cost on 1 to 4,096 GPUs: docs/labeling.md has the assumptions.

    python scripts/bench/labeling_scale.py
    python scripts/bench/labeling_scale.py --measured runs/bench/labeling.json

First what one response takes: its search is simulated with the code that asks the questions, for a policy of a given
strength. Then a Slurm array of one task a GPU, each with its shard: what the tasks take is drawn, with stragglers and
time limits. All of it comes from --seed. `--measured` compares the first part with a run of labeling.py.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from nemo_prm.config import LabelConfig
from nemo_prm.labeling.priors import BINS, ERROR_RATES, Outlook, Prior, Waves
from nemo_prm.labeling.search import PrefixSearch, halve

GPUS = (1, 4, 16, 64, 256, 1024, 4096)
SIZES = (10**6, 10**8)  # labels


@dataclass(frozen=True)
class Policy:
    """What the responses of a policy are like.

    Attributes:
        correct: share of responses that pass.
        num_points: search points of the failed ones, a sample.
        num_points_correct: of the others, on average.
        prior: of the position of the first bad line, and of error rates.
        tokens_per_line: of completions.
        distinct: share of the completions of a prefix that are different programs.
    """

    correct: float
    num_points: Sequence[int]
    num_points_correct: float
    prior: Prior
    tokens_per_line: float
    distinct: float = 1.0

    @staticmethod
    def of_strength(error_rate: float, num_points: Sequence[int], tokens_per_line: float) -> Policy:
        """One that writes each line wrong with this probability."""
        right = [(1 - error_rate) ** n for n in num_points]
        shares = np.ones(BINS + 1) * 1e-6
        for n in num_points:
            for i in range(n):
                shares[-(-BINS * i // n)] += (1 - error_rate) ** i * error_rate
        rates = np.exp(-((np.log(ERROR_RATES / error_rate) / 0.5) ** 2))  # differs from response to response
        return Policy(
            float(np.mean(right)),
            num_points,
            float(np.average(num_points, weights=right)),
            Prior(shares / shares.sum(), rates / rates.sum()),
            tokens_per_line,
        )

    @staticmethod
    def measured(profile: dict[str, Any]) -> Policy:
        """From `profile` of labeling.py."""
        prior = Prior(np.array(profile["shares"]), np.array(profile["rates"]))
        return Policy(
            profile["correct"],
            profile["num_points"],
            profile["num_points_correct"],
            prior,
            profile["tokens_per_line"],
            profile["distinct"],
        )


class Taken(NamedTuple):
    """What each of many simulated responses took; `waves` is the number that follow one another."""

    completions: NDArray[np.float64]
    tokens: NDArray[np.float64]
    executions: NDArray[np.float64]
    waves: NDArray[np.float64]
    labels: NDArray[np.float64]


def simulate(policy: Policy, waves: Waves, search: str, count: int, rng: np.random.Generator) -> Taken:
    """Label `count` responses; `search` is cost_aware, halve, or all_k (Algorithm 1 as written)."""
    rows = []
    for _ in range(count):
        if rng.random() < policy.correct:
            n = policy.num_points_correct
            rows.append((1.0, n * policy.tokens_per_line, 1.0, 1.0, n))
            continue
        n = int(rng.choice(policy.num_points))
        weights = policy.prior.longest(n)
        longest = int(rng.choice(n + 1, p=weights / weights.sum()))
        rate = float(rng.choice(ERROR_RATES, p=policy.prior.rates))
        split = Outlook(policy.prior, n, waves).split if search == "cost_aware" else halve
        asked = PrefixSearch(range(1, n + 1), split)
        taken = np.array([1.0, n * policy.tokens_per_line, 1.0, 1.0])
        while (point := asked.next_probe) is not None:
            passes = (1 - rate) ** (n - point) if point <= longest else 0.0
            first = int(rng.geometric(passes)) if passes > 0 else waves.most + 1  # the first completion that passes
            drawn = rounds = 0
            while drawn < min(first, waves.most):
                drawn, rounds = drawn + waves.next(drawn), rounds + 1
            if search == "all_k":
                drawn, rounds = waves.most, 1
            run = drawn if search == "all_k" else 1 + (min(first, drawn) - 1) * policy.distinct
            taken += [drawn, drawn * max(n - point, 0.5) * policy.tokens_per_line, run, rounds]
            asked.record(first <= waves.most)
        rows.append((*taken, n))
    return Taken(*np.array(rows, dtype=np.float64).T)


@dataclass(frozen=True)
class Cluster:
    """Assumptions about the machines; none of them was measured here."""

    tokens_per_s: float = 5000.0  # that a GPU decodes, all rows together
    row_tokens_per_s: float = 40.0  # of one row among them: what a wave waits for
    cores_per_gpu: float = 12.0  # for the sandbox
    program_s: float = 0.2  # a core runs one program on its tests
    scheduler: float = 0.05  # that the scheduler adds to the busier side
    startup_s: float = 300.0  # container, weights, engine
    speed_spread: float = 0.05  # sigma of the logarithm of a task's speed
    straggler_share: float = 0.01  # of tasks,
    straggler_factor: float = 2.0  # which take so many times as long
    time_limit_s: float = 4 * 3600.0  # of a task; it is submitted again and goes on from its store
    requeue_s: float = 900.0  # until it runs again
    responses_per_problem: int = 5  # a shard has whole problems


class Estimate(NamedTuple):
    wall_h: float
    gpu_h: float
    efficiency: float  # of the hours that the work alone would take
    slowest: float  # task, in means


def estimate(taken: Taken, cluster: Cluster, labels: int, gpus: int, rng: np.random.Generator) -> Estimate:
    """Draw what the tasks of one array take."""
    decoding = taken.tokens / cluster.tokens_per_s
    testing = taken.executions * cluster.program_s / cluster.cores_per_gpu
    busy = max(decoding, testing, key=np.mean)  # the other side waits for this one
    responses = labels / taken.labels.mean()
    problems = max(round(responses / cluster.responses_per_problem), 1)
    counts = np.full(gpus, problems // gpus) + (np.arange(gpus) < problems % gpus)
    per_task = counts * cluster.responses_per_problem
    # Responses to a problem are alike, so that it is problems that are drawn.
    spread = busy.std() * cluster.responses_per_problem * np.sqrt(counts)
    work = np.maximum(per_task * busy.mean() + spread * rng.standard_normal(gpus), 0.0)
    wave_s = float((taken.tokens / taken.completions).mean()) / cluster.row_tokens_per_s
    drain = np.array([np.quantile(taken.waves, 0.5 ** (1 / min(max(n, 1), 256))) for n in np.unique(per_task)])
    longest_chain = dict(zip(np.unique(per_task), drain))
    alone = np.array([longest_chain[n] * wave_s if n else 0.0 for n in per_task])  # the last searches, one by one
    slow = np.exp(cluster.speed_spread * rng.standard_normal(gpus))
    slow = np.where(rng.random(gpus) < cluster.straggler_share, slow * cluster.straggler_factor, slow)
    running = (work * (1 + cluster.scheduler) + alone) * slow
    starts = np.maximum(np.ceil(running / (cluster.time_limit_s - cluster.startup_s)), 1) * (per_task > 0)
    held = running + starts * cluster.startup_s
    wall = held + np.maximum(starts - 1, 0) * cluster.requeue_s
    ideal = responses * busy.mean()
    return Estimate(wall.max() / 3600, held.sum() / 3600, ideal / held.sum(), held.max() / held[per_task > 0].mean())


def print_policies(
    policies: dict[str, Policy], waves: Waves, count: int, rng: np.random.Generator
) -> dict[str, Taken]:
    """A table of what a response takes; returns what it took with the cost-aware search, by policy."""
    print("| policy | search | completions | tokens | executions | waves in a row | tokens per label |")
    print("|---" * 7 + "|")
    exact = {}
    for name, policy in policies.items():
        for search in ("all_k", "halve", "cost_aware"):
            taken = simulate(policy, waves, search, count, rng)
            per_label = taken.tokens.sum() / taken.labels.sum()
            cells = [f"{column.mean():.1f}" for column in taken[:4]]
            print(f"| {name} | {search} | " + " | ".join(cells) + f" | {per_label:.0f} |")
            exact[name] = taken
    return exact


def check(path: Path, waves: Waves, count: int, rng: np.random.Generator) -> None:
    """Compare with what labeling.py has measured on the embedded policy."""
    measured = json.loads(path.read_text())["embedded"]["result"]
    policy = Policy.measured(measured["profile"])
    rows = {row["contestant"]: row for row in measured["contestants"]}
    names = {
        "all_k": "(i) Algorithm 1, all K",
        "halve": f"halve, first wave {waves.first}",
        "cost_aware": "(iii) exact",
    }
    print("\n| per response | | predicted | measured |\n|---|---|---|---|")
    for search, name in names.items():
        taken = simulate(policy, waves, search, count, rng)
        for key in ("completions", "tokens", "executions"):
            print(f"| {search} | {key} | {getattr(taken, key).mean():.1f} | {rows[name][key]:.1f} |")
    speed = measured["profile"]
    # Policy and sandbox share the cores there, so that their times add up; `taken` is that of the last search.
    seconds = taken.tokens.mean() / speed["tokens_per_s"] + taken.executions.mean() / speed["programs_per_s"]
    print(f"| cost_aware | wall s | {seconds:.3f} | {rows[names['cost_aware']]['seconds']:.3f} |")


def main() -> None:
    defaults = Cluster()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, help="JSON of labeling.py to compare with")
    parser.add_argument("--completions", type=int, default=LabelConfig(output="").completions, help="K (%(default)s)")
    parser.add_argument("--first-wave", type=int, default=LabelConfig(output="").first_wave, help="(%(default)s)")
    parser.add_argument("--error-rate", type=float, default=0.05, help="of a line (%(default)s)")
    parser.add_argument("--lines", type=int, nargs=2, default=[10, 40], help="from, to (%(default)s)")
    parser.add_argument("--tokens-per-line", type=float, default=12.0, help="(%(default)s)")
    parser.add_argument("--tokens-per-s", type=float, default=defaults.tokens_per_s, help="of a GPU (%(default)s)")
    parser.add_argument("--program-s", type=float, default=defaults.program_s, help="of a core (%(default)s)")
    parser.add_argument("--cores-per-gpu", type=float, default=defaults.cores_per_gpu, help="(%(default)s)")
    parser.add_argument("--responses", type=int, default=2000, help="simulated for each average (%(default)s)")
    parser.add_argument("--arrays", type=int, default=50, help="drawn for each average (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, waves = np.random.default_rng(args.seed), Waves(args.first_wave, args.completions)
    lines = range(args.lines[0], args.lines[1] + 1)
    rates = sorted({0.02, 0.05, 0.1, 0.2, args.error_rate})
    policies = {f"{rate:.0%}": Policy.of_strength(rate, lines, args.tokens_per_line) for rate in rates}
    taken = print_policies(policies, waves, args.responses, rng)[f"{args.error_rate:.0%}"]
    cluster = Cluster(tokens_per_s=args.tokens_per_s, program_s=args.program_s, cores_per_gpu=args.cores_per_gpu)
    for labels in SIZES:
        print(f"\n{labels / 1e6:.0f} million labels, {args.error_rate:.0%} of lines wrong")
        print("| GPUs | hours | GPU hours | per million labels | efficiency | slowest |")
        print("|---" * 6 + "|")
        for gpus in GPUS:
            drawn = [estimate(taken, cluster, labels, gpus, rng) for _ in range(args.arrays)]
            found = Estimate(*np.mean(drawn, axis=0))
            print(
                f"| {gpus} | {found.wall_h:.2f} | {found.gpu_h:.1f} | {found.gpu_h * 1e6 / labels:.2f} | "
                f"{found.efficiency:.0%} | {found.slowest:.2f} |"
            )
    if args.measured:
        check(args.measured, waves, args.responses, rng)


if __name__ == "__main__":
    main()
