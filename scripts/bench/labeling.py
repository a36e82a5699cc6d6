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
"""What labels cost, whether they are those of Algorithm 1, and how often they are right: docs/benchmarks.md.

    python scripts/serve_generation.py &
    python scripts/bench/labeling.py --output runs/bench/labeling.json
    python scripts/bench/labeling.py --only simulated timed overhead accuracy    # needs no server

embedded: the embedded policy behind its server, the real sandbox. simulated: policies of known strength. timed: one of
them with the real sandbox and the time that a policy on a GPU takes, scaled. overhead: what the scheduler adds to the
side that is busier. accuracy: bugs at known lines. All contestants see the same random streams.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Iterator, Sequence

from labeling_doors import Comparing, JudgedOnce, Latency, Memory, SimulatedPolicy, Task, Timed, chains, embedded_tasks
from labeling_reference import Labelled, label_one_by_one, lower_bound

from nemo_prm.config import GeneratorConfig, LabelConfig, SandboxConfig
from nemo_prm.data.problems import load_problems
from nemo_prm.labeling.labeler import Key, Outcome, Skipped, Work, given, sampled
from nemo_prm.labeling.oracle import Spent
from nemo_prm.labeling.priors import Waves, learn
from nemo_prm.labeling.scheduler import Scheduler
from nemo_prm.labeling.search import monotonicity_violations
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.sandbox.verifier import default_verifier
from nemo_prm.types import Cost, LabelRow, Problem

SECTIONS = ("embedded", "simulated", "timed", "overhead", "accuracy")
EPSILONS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
WANTED_AGREEMENT = 0.98
RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
LENGTHS = range(8, 33)  # lines of simulated tasks, without head and tail
STREAMS = LabelConfig(output="", responses_per_prompt=2)


@dataclass
class Run:
    """What a contestant did; costs are sums over responses, `paid` what the policy and the sandbox did for them."""

    name: str
    longest: dict[Key, int]  # steps in the longest completable prefix
    completions: int
    tokens: int
    executions: int
    paid: Spent | None = None
    seconds: float | None = None
    rows: list[LabelRow] = field(default_factory=list)


def totals(costs: Sequence[Cost | Labelled]) -> tuple[int, int, int]:
    """Completions, tokens and executions."""
    return sum(c.completions for c in costs), sum(c.tokens for c in costs), sum(c.executions for c in costs)


def ours(name: str, works: Sequence[Work], generator: Generator, verifier: Verifier, config: LabelConfig) -> Run:
    rows: list[LabelRow] = []

    def on_outcome(outcome: Outcome) -> None:
        if isinstance(outcome, Skipped):
            raise SystemExit(f"error: {outcome.problem_id} was skipped: {outcome.reason} {outcome.detail}")
        rows.append(outcome)

    scheduler, started = Scheduler(generator, verifier, config), time.monotonic()
    scheduler.run(works, {}, on_outcome)
    seconds = time.monotonic() - started
    longest = {}
    for row in rows:
        good = [i for i, label in enumerate(row.labels, start=1) if label > 0]
        longest[row.problem_id, row.response_id] = good[-1] if good else 0
    return Run(name, longest, *totals([row.cost for row in rows]), scheduler.paid, seconds, rows)


def reference(
    name: str,
    works: Sequence[Work],
    generator: Generator,
    verifier: Verifier,
    config: LabelConfig,
    every_prefix: bool = False,
) -> tuple[Run, list[Labelled]]:
    found, seconds = label_one_by_one(works, generator, verifier, config, every_prefix)
    return Run(name, {each.key: each.longest for each in found}, *totals(found), None, seconds), found


def agreement(run: Run, wanted: Run, responses: Sequence[Labelled]) -> float:
    """Share of the line labels of `responses` that `wanted` gives, too; NaN without any."""
    same = [
        (point <= run.longest[each.key]) == (point <= wanted.longest[each.key])
        for each in responses
        for point in each.points
    ]
    return sum(same) / len(same) if same else float("nan")


class Comparison:
    """Contestants on one set of responses; `all_asked` has the answers of every prefix of each."""

    def __init__(self, wanted: Run, all_asked: Sequence[Labelled], config: LabelConfig) -> None:
        self.wanted, self.config = wanted, config
        self.num_responses = len(all_asked)
        failed = [each for each in all_asked if not each.correct]
        self.groups: dict[str, list[Labelled]] = {"monotone": [], "other": [], "failed": failed}
        for each in failed:
            answers = [any(each.passes[point]) for point in each.points]
            self.groups["other" if monotonicity_violations(answers) else "monotone"].append(each)
        self.bound = sum(lower_bound(each, config.completions) for each in all_asked)
        self.bound_where_monotone = sum(lower_bound(each, config.completions) for each in self.groups["monotone"])

    def row(self, run: Run) -> dict[str, Any]:
        n = self.num_responses
        return {
            "contestant": run.name,
            "completions": run.completions / n,
            "tokens": run.tokens / n,
            "executions": run.executions / n,
            "seconds": None if run.seconds is None else run.seconds / n,
            "paid_completions": None if run.paid is None else run.paid.completions / n,
            "fewer_completions": self.wanted.completions / run.completions,
            "over_bound": run.completions / self.bound,
            **{f"agreement_{name}": agreement(run, self.wanted, group) for name, group in self.groups.items()},
        }

    def about(self) -> dict[str, Any]:
        return {
            "responses": self.num_responses,
            "failed": len(self.groups["failed"]),
            "monotone": len(self.groups["monotone"]),
            "points": sum(len(each.points) for each in self.groups["failed"]) / max(len(self.groups["failed"]), 1),
            "bound": self.bound / self.num_responses,
        }


def compare(
    works: Sequence[Work], generator: Generator, verifier: Verifier, config: LabelConfig, timed: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """All contestants on the same responses; the policy is asked once for all of them, and again to take the time.

    Time is taken of exact mode on all responses, between two runs of (i) on `timed` responses each; 0 takes none.
    """
    memory, judged = Memory(generator), JudgedOnce(verifier)
    if timed:  # draw all that is needed in large batches
        ours("", works, memory, judged, replace(config, audit_share=1.0))
    line_by_line, all_asked = reference("(ii) line by line", works, memory, judged, config, every_prefix=True)
    wanted, _ = reference("(i) Algorithm 1, all K", works, memory, judged, config)
    comparison = Comparison(wanted, all_asked, config)
    exact = ours("(iii) exact", works, memory, judged, config)
    runs = [wanted, line_by_line, exact]
    for run in runs:
        run.seconds = None
    if timed:
        before, after = works[:timed], works[-timed:]
        one_by_one = [reference("", before, generator, verifier, config)[0]]
        again = ours("", works, generator, verifier, config)
        one_by_one.append(reference("", after, generator, verifier, config)[0])
        every, _ = reference("", before, generator, verifier, config, every_prefix=True)
        for run in (*one_by_one, again):
            known = wanted if run is not again else exact
            assert all(known.longest[key] == longest for key, longest in run.longest.items())
        per_response = len(works) / timed
        wanted.seconds = sum(run.seconds or 0.0 for run in one_by_one) * per_response / 2
        line_by_line.seconds = (every.seconds or 0.0) * per_response
        exact.seconds = again.seconds

    def replayed(name: str, **settings: Any) -> Run:
        run = ours(name, works, memory, judged, replace(config, **settings))
        run.seconds = None
        return run

    for first_wave in (1, 2, 4):
        runs.append(replayed(f"halve, first wave {first_wave}", search="halve", first_wave=first_wave))
    for first_wave in (1, 4):
        runs.append(replayed(f"cost-aware, first wave {first_wave}", first_wave=first_wave))
    sequential: dict[tuple[int, float], dict[str, Any]] = {}
    for first_wave in (1, 2):
        for epsilon in EPSILONS:
            run = replayed(
                f"sequential {epsilon}, first wave {first_wave}", first_wave=first_wave, sequential_epsilon=epsilon
            )
            sequential[first_wave, epsilon] = comparison.row(run)
    rows = [comparison.row(run) for run in runs]
    for first_wave in (1, 2):
        kept = [row for (wave, _), row in sequential.items() if wave == first_wave]
        kept = [row for row in kept if row["agreement_failed"] >= WANTED_AGREEMENT]
        rows += kept[-1:]  # the largest
    about = {**comparison.about(), "sequential": list(sequential.values())}
    return about, rows, profile(exact.rows, all_asked, config)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    head = (
        "completions",
        "tokens",
        "executions",
        "seconds",
        "paid",
        "fewer",
        "over bound",
        "agree",
        "monotone",
        "other",
    )
    keys = (
        "completions", "tokens", "executions", "seconds", "paid_completions", "fewer_completions", "over_bound",
        "agreement_failed", "agreement_monotone", "agreement_other",
    )  # fmt: skip
    print("| contestant | " + " | ".join(head) + " |\n|---" * 1 + "|---" * len(head) + "|")
    for row in rows:
        cells = []
        for key in keys:
            value = row[key]
            if value is None:
                cells.append("-")
            elif key.startswith("agreement"):
                cells.append(f"{value:.2%}")
            else:
                cells.append(f"{value:.3f}" if key == "seconds" else f"{value:.2f}" if value < 100 else f"{value:.0f}")
        print(f"| {row['contestant']} | " + " | ".join(cells) + " |")


def print_about(title: str, about: dict[str, Any]) -> None:
    print(
        f"\n{title}: {about['responses']} responses, {about['failed']} failed with {about['points']:.1f} search "
        f"points each, {about['monotone']} of them monotone; lower bound {about['bound']:.2f} completions a response"
    )


@contextlib.contextmanager
def embedded_policy(url: str) -> Iterator[Generator]:
    from nemo_prm.serving.generators import open_generator

    with open_generator(GeneratorConfig(url=url)) as generator:
        yield generator


def measure_embedded(args: argparse.Namespace) -> dict[str, Any]:
    problems = load_problems("embedded", "train")[: args.problems]
    works = sampled(problems, STREAMS)
    config = replace(STREAMS, completions=args.completions)
    with embedded_policy(args.url) as policy, default_verifier(config.sandbox) as sandbox:
        policy.generate([problems[0].prompt], 1, config.sampling.as_params(), 0)  # warm
        speed = rates(problems, policy, sandbox, config)
        about, rows, known = compare(works, policy, sandbox, config, args.timed)
    print_about("embedded", about)
    print_table(rows)
    return {**about, "contestants": rows, "profile": {**known, **speed}}


def rates(problems: Sequence[Problem], policy: Generator, sandbox: Verifier, config: LabelConfig) -> dict[str, float]:
    """Tokens and programs per second of the two sides, each alone, in batches as the scheduler makes them."""
    started = time.monotonic()
    drawn = policy.generate([each.prompt for each in problems], 8, config.sampling.as_params(), 1)
    decoding_s, started = time.monotonic() - started, time.monotonic()
    jobs = [(problem, each.text) for problem, texts in zip(problems, drawn) for each in texts]
    sandbox.verify_many(jobs)
    tokens = sum(each.num_tokens for texts in drawn for each in texts)
    return {
        "tokens_per_s": tokens / decoding_s,
        "programs_per_s": len(jobs) / (time.monotonic() - started),
    }


def profile(rows: Sequence[LabelRow], all_asked: Sequence[Labelled], config: LabelConfig) -> dict[str, Any]:
    """What labeling_scale.py wants to know of a policy and its responses."""
    prior = learn(rows, Waves(config.first_wave, config.completions))
    correct = [row for row in rows if row.response_class == "correct"]
    lines = sum(label != 0 for row in correct for label in row.labels)
    failed = [each for each in all_asked if not each.correct]
    programs = sum(len(passes) for each in failed for passes in each.passes.values())
    return {
        "correct": len(correct) / len(rows),
        "num_points": [len(each.points) for each in failed],
        "num_points_correct": lines / max(len(correct), 1),
        "shares": prior.shares.tolist(),
        "rates": prior.rates.tolist(),
        "tokens_per_line": sum(row.cost.tokens for row in correct) / max(lines, 1),
        "distinct": sum(each.distinct for each in failed) / max(programs, 1),
    }


def measure_simulated(args: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {}
    config = replace(STREAMS, completions=args.completions)
    for rate in RATES[:4]:
        tasks = chains(args.tasks, rate, LENGTHS)
        policy, judge = doors(tasks)
        works = sampled([task.problem for task in tasks], config)
        about, rows, _ = compare(works, policy, judge, config)
        print_about(f"simulated, {rate:.0%} of lines wrong", about)
        print_table(rows)
        result[str(rate)] = {**about, "contestants": rows}
    return result


def measure_timed(args: argparse.Namespace) -> dict[str, Any]:
    """Algorithm 1 as written against exact mode, with the real sandbox and a policy that takes its time."""
    config = replace(STREAMS, completions=args.completions)
    latency = Latency(scale=args.time_scale)
    tasks = chains(args.timed_tasks, 0.1, LENGTHS, seed=1)
    timed, judge = Timed(doors(tasks)[0], latency), doors(tasks)[1]
    works = sampled([task.problem for task in tasks], config)
    with default_verifier(config.sandbox) as sandbox:
        wanted, _ = reference("(i) Algorithm 1, all K", works, timed, sandbox, config)
        slow = timed.busy_s
        exact = ours("(iii) exact", works, timed, sandbox, config)
    found, all_asked = reference("", works, doors(tasks)[0], judge, config, every_prefix=True)
    comparison = Comparison(wanted, all_asked, config)
    rows = [comparison.row(run) for run in (wanted, exact)]
    print_about(f"10% of lines wrong, {latency}", comparison.about())
    print_table(rows)
    ratio = (wanted.seconds or 0) / (exact.seconds or 1)
    print(f"{ratio:.2f} times less wall time; the policy was busy for {slow:.1f} s, then {timed.busy_s - slow:.1f} s")
    return {**comparison.about(), "contestants": rows, "latency": asdict(latency), "ratio": ratio}


def doors(tasks: Sequence[Task]) -> tuple[SimulatedPolicy, Comparing]:
    return (
        SimulatedPolicy({task.problem.prompt: task for task in tasks}),
        Comparing({task.problem.problem_id: task for task in tasks}),
    )


def measure_overhead(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Wall time against the time of the busier side, each call and each program taking a fixed time."""
    results = []
    tasks = chains(args.overhead_tasks, 0.05, LENGTHS, seed=2)
    by_id = {task.problem.problem_id: task for task in tasks}
    works = sampled([task.problem for task in tasks], STREAMS)
    print("\n| bound by | call s | program s | workers | wall s | policy busy s | sandbox busy s | added | CPU s |")
    print("|---" * 9 + "|")
    for bound, call_s, program_s, workers in (
        ("policy", 0.2, 0.002, 64),
        ("both", 0.02, 0.005, 2),
        ("sandbox", 0.02, 0.01, 2),
    ):
        policy = Timed(SimulatedPolicy({task.problem.prompt: task for task in tasks}), None, call_s)
        judge = Comparing(by_id, program_s, workers)
        cpu = cpu_seconds()
        run = ours("", works, policy, judge, STREAMS)
        cpu, wall = cpu_seconds() - cpu, run.seconds or 0.0
        busy = {"policy": policy.busy_s, "sandbox": judge.busy_s / workers}
        over = wall / max(busy.values()) - 1
        print(
            f"| {bound} | {call_s} | {program_s} | {workers} | {wall:.1f} | {busy['policy']:.1f} | "
            f"{busy['sandbox']:.1f} | {over:.1%} | {cpu:.1f} |"
        )
        full = policy.rows / policy.calls
        print(f"{len(works)} responses, {policy.calls} calls of {full:.0f} completions each")
        results.append(
            {"bound": bound, "call_s": call_s, "program_s": program_s, "workers": workers, "wall": wall, "busy": busy,
             "calls": policy.calls, "completions": policy.rows, "added": over, "cpu": cpu}
        )  # fmt: skip
    return results


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure_accuracy(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Responses with one bug at a known line; the policy that completes their prefixes has a known strength."""
    problems = load_problems("embedded", "train")[: args.bugs]
    tasks, rng = embedded_tasks(problems), random.Random(0)
    bugs = [rng.randrange(len(task.steps)) for task in tasks]
    by_id: dict[str, Problem] = {problem.problem_id: problem for problem in problems}
    works = given(by_id, [task.with_bug(bug) for task, bug in zip(tasks, bugs)])
    truth = {work.key: bug + 1 for work, bug in zip(works, bugs)}  # steps before the bug, the head with them
    results = []
    print("\n| search | K |" + "".join(f" {rate:.0%} |" for rate in RATES) + "\n|---|---|" + "---|" * len(RATES))
    with default_verifier(SandboxConfig(stop_at_first_failure=True)) as sandbox:
        judged = JudgedOnce(sandbox)
        for search in ("halve", "cost_aware"):
            for most in (5, 10, 20, 40):
                cells = []
                for rate in RATES:
                    policy = SimulatedPolicy({task.problem.prompt: task for task in tasks}, rate)
                    run = ours("", works, policy, judged, replace(STREAMS, completions=most, search=search))
                    exact = sum(run.longest[key] == longest for key, longest in truth.items()) / len(truth)
                    late = sum(run.longest[key] > longest for key, longest in truth.items()) / len(truth)
                    cells.append(f"{exact:.1%} ({run.completions / len(truth):.0f})")
                    results.append({"search": search, "completions": most, "error_rate": rate, "exact": exact,
                                    "late": late, "drawn": run.completions / len(truth)})  # fmt: skip
                print(f"| {search} | {most} | " + " | ".join(cells) + " |")
    return results


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "processor": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--url", default=GeneratorConfig().url, help="of serve_generation (%(default)s)")
    parser.add_argument("--output", type=Path, help="write everything measured as JSON; sections not run stay")
    parser.add_argument("--completions", type=int, default=LabelConfig(output="").completions, help="K (%(default)s)")
    parser.add_argument("--problems", type=int, default=80, help="embedded: 2 responses to each (%(default)s)")
    parser.add_argument("--timed", type=int, default=20, help="embedded: responses timed one by one (%(default)s)")
    parser.add_argument("--tasks", type=int, default=150, help="simulated: of each strength (%(default)s)")
    parser.add_argument("--timed-tasks", type=int, default=100, help="timed: 2 responses to each (%(default)s)")
    parser.add_argument("--time-scale", type=float, default=0.05, help="timed: 1 is a GPU's (%(default)s)")
    parser.add_argument("--overhead-tasks", type=int, default=300, help="overhead: 2 responses to each (%(default)s)")
    parser.add_argument("--bugs", type=int, default=150, help="accuracy: responses (%(default)s)")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    if args.output and args.output.exists():
        result = json.loads(args.output.read_text())
    measure = {
        "embedded": measure_embedded,
        "simulated": measure_simulated,
        "timed": measure_timed,
        "overhead": measure_overhead,
        "accuracy": measure_accuracy,
    }
    for section in args.only:
        about, started = machine(), time.monotonic()
        result[section] = {"machine": about, "result": measure[section](args)}
        print(f"{section}: {time.monotonic() - started:.0f} s, load {about['load_before']:.1f} before")
        if args.output:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
