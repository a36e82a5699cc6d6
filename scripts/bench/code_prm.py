#!/usr/bin/env python3
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
"""CodePRM and Generate-Verify-Refine on the embedded problems: python scripts/bench/code_prm.py

With the policy that thinks: labels thoughts, trains three PRMs on the same labels (with feedback, without, and on the
plan alone), chooses gvr's threshold on the validation problems, and answers the test problems by every method at equal
budgets. As gvr stops at a response that passes and holds, it is also compared with the best of as many as it has drawn
on average, rounded up. A rerun goes on. Writes code_prm.json of the output folder, and the tables that
docs/benchmarks.md has.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from nemo_prm.data.jsonl import read_json, write_json
from nemo_prm.evaluation.pass_at_k import bootstrap_interval
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.runner import Runner, environment, exclusive, find_policy
from nemo_prm.pipeline.stage import Server, Stage, generation, reward
from nemo_prm.processes import Children

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ("code_prm", "no_feedback", "plan")
THRESHOLDS = (-0.5, 0.0, 0.5)
TUNING_BUDGET, TUNING_PROBLEMS = 4, 100


class Method(NamedTuple):
    """How problems are answered; `inputs` is empty where no PRM has a part in it."""

    name: str
    strategy: str
    inputs: str
    by: str


BEST = Method("best of n, CodePRM", "best_of_n", "code_prm", "prm")
SINGLE = Method("single sample", "single", "", "public")
GVR = Method("gvr, CodePRM", "gvr", "code_prm", "both")
METHODS = (
    Method("best of n, public tests", "best_of_n", "", "public"),
    Method("best of n, plan score", "best_of_n", "plan", "prm"),
    Method("best of n, PRM without feedback", "best_of_n", "no_feedback", "prm"),
    BEST,
    Method("best of n, public tests, then CodePRM", "best_of_n", "code_prm", "both"),
    GVR,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/code_prm"))
    parser.add_argument("--policy", default="embedded:thinking")
    parser.add_argument("--label-problems", type=int, default=200, help="of the training split, one response each")
    parser.add_argument("--completions", type=int, default=4, help="programs derived from each thought")
    parser.add_argument("--problems", type=int, default=200, help="of the test split")
    parser.add_argument("--budgets", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    run, policy = arguments.output.resolve(), str(find_policy(arguments.policy))
    console = Console()
    with exclusive(run), Children(run / "logs", environment(one_thread=True), console.tick) as children:
        runner = Runner(run, ROOT, children, console)
        for stage in training(arguments, policy):
            runner.run(stage)
        search = Search(runner, policy, max(arguments.budgets), arguments.problems)
        tuning = {
            threshold: [search.run(GVR, TUNING_BUDGET, 1, threshold, "validation", TUNING_PROBLEMS)]
            for threshold in THRESHOLDS
        }
        threshold = max(THRESHOLDS, key=lambda each: share(tuning[each]))
        for seed in arguments.seeds:
            search.draw(seed)

        def row(method: Method, budget: int) -> dict[str, Any]:
            found = [search.run(method, budget, seed, threshold) for seed in arguments.seeds]
            return summarize(method.name, budget, found)

        rows = [row(SINGLE, 1)]
        for budget in arguments.budgets:
            rows += [row(method, budget) for method in METHODS]
            if (BEST.name, drawn(rows[-1])) not in {(each["method"], each["budget"]) for each in rows}:
                rows.append(row(BEST, drawn(rows[-1])))
    report = {
        "tuning": {str(each): share(found) for each, found in tuning.items()},
        "threshold": threshold,
        "prms": {each: read_json(run / f"train_{each}/validation.json")["model"] for each in INPUTS},
        "labels": read_json(run / "label/labels.jsonl.summary.json"),
        "rows": rows,
    }
    write_json(run / "code_prm.json", report)
    show(report)


def training(arguments: argparse.Namespace, policy: str) -> list[Stage]:
    """Labels, and a PRM for each of `INPUTS`."""
    server = generation("thinking", policy)
    settings = {
        "output": "{run}/label/labels.jsonl",
        "steps": "thoughts",
        "think": True,
        "limit": arguments.label_problems,
        "responses_per_prompt": 1,
        "completions": arguments.completions,
        "sampling.max_new_tokens": 400,
        "generator.url": "http://127.0.0.1:{generation}",
        "sandbox.minimum_level": "rlimits",
    }
    stages = [
        Stage("label", "label thoughts", "label", settings, (settings["output"],), servers=(server,), resumable=True)
    ]
    for inputs in INPUTS:
        data = f"{{run}}/select_{inputs}"
        select = {
            "labels": ["{run}/label/labels.jsonl"],
            "output": data,
            "strategy": "full",
            "inputs": inputs,
            "per_thought": 2,
        }
        train = {"data": data, "policy": policy, "output": f"{{run}}/train_{inputs}", "trainer.rm.max_epochs": 4}
        stages += [
            Stage(f"select_{inputs}", "select", "select_data", select, (f"{data}/train.jsonl",), after=("label",)),
            Stage(
                f"train_{inputs}",
                f"train the PRM that reads {inputs}",
                "train_prm",
                train,
                (f"{{run}}/train_{inputs}/prm.nemo",),
                after=(f"select_{inputs}",),
            ),
        ]
    return stages


class Search:
    """Answers problems. Methods that draw whole responses share them: they are drawn once, and replayed."""

    def __init__(self, runner: Runner, policy: str, most: int, limit: int) -> None:
        self.runner, self.policy, self.most, self.limit = runner, policy, most, limit

    def draw(self, seed: int) -> None:
        """Draw the responses of a seed."""
        self.run(METHODS[0], self.most, seed, 0.0, recorded=False)

    def run(
        self,
        method: Method,
        budget: int,
        seed: int,
        threshold: float,
        split: str = "test",
        limit: int | None = None,
        recorded: bool = True,
    ) -> dict[str, Any]:
        """results.json of a search."""
        name = f"search_{split}_{method.strategy}_{method.inputs or 'none'}_{method.by}_{budget}_{seed}"
        settings: dict[str, Any] = {
            "split": split,
            "limit": limit or self.limit,
            "strategy": method.strategy,
            "by": method.by,
            "aggregate": "last",
            "budget": budget,
            "seed": seed,
            "think": True,
            "searches_in_flight": 200,
            "sampling.max_new_tokens": 400,
            "sandbox.minimum_level": "rlimits",
        }
        servers: list[Server] = []
        recording = f"{{run}}/drawn_{seed}/completions.jsonl"
        after = [f"train_{method.inputs}"] if method.inputs else []
        if method.strategy == "gvr":
            name += f"_{threshold:g}"
            settings |= {"threshold": threshold, "width": max(2, budget // 4)}
        if method.strategy == "gvr" or not recorded:
            servers.append(generation("thinking", self.policy))
            settings["generator.url"] = "http://127.0.0.1:{generation}"
        if not recorded:
            name = f"drawn_{seed}"
            settings["generator.recording"] = recording
        elif method.strategy != "gvr":
            after.append(f"drawn_{seed}")
            settings |= {"generator.kind": "recorded", "generator.recording": recording}
        if method.inputs:
            prm = f"{{run}}/train_{method.inputs}/prm.nemo"
            servers.append(reward(method.inputs, prm, {"rules.code_only": False}))
            settings |= {"inputs": method.inputs, "reward.url": "http://127.0.0.1:{reward}"}
        settings["output"] = f"{{run}}/{name}"
        outputs = (f"{{run}}/{name}/results.json",)
        title = f"{method.name}, budget {budget}"
        self.runner.run(Stage(name, title, "search", settings, outputs, tuple(after), servers=tuple(servers)))
        return read_json(self.runner.run_folder / name / "results.json")


def share(found: Sequence[dict[str, Any]]) -> float:
    """Share of the answers that pass, over seeds."""
    return float(sum(each["results"]["nemo_prm"]["pass@1"] for each in found) / len(found))


def summarize(name: str, budget: int, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds, and a 95 % interval by bootstrap over problems."""
    problems = list(found[0]["verdicts"])
    passed = [sum(each["verdicts"][problem] == "passed" for each in found) / len(found) for problem in problems]
    return {
        "method": name,
        "budget": budget,
        "pass@1": sum(passed) / len(passed),
        "interval": bootstrap_interval(passed, seed=1, resamples=2000),
        "passed": passed,
        "completions": sum(each["completions_per_problem"] for each in found) / len(found),
        "tokens": sum(each["tokens_per_problem"] for each in found) / len(found),
    }


def drawn(row: dict[str, Any]) -> int:
    """How many completions a problem took on average, rounded up."""
    return math.ceil(float(row["completions"]))


def difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the paired differences over problems, and its 95 % interval by bootstrap."""
    pairs = [a - b for a, b in zip(one, other)]
    return sum(pairs) / len(pairs), *bootstrap_interval(pairs, seed=1, resamples=2000)


def show(report: dict[str, Any]) -> None:
    names = ("mse", "auc", "accuracy", "ece")
    print("\n| the PRM reads | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for inputs, numbers in report["prms"].items():
        print(
            f"| {inputs} | " + " | ".join("-" if (n := numbers[name]) is None else f"{n:.3f}" for name in names) + " |"
        )
    tuned = ", ".join(f"{each}: {100 * found:.1f} %" for each, found in report["tuning"].items())
    where = f"{TUNING_PROBLEMS} validation problems, budget {TUNING_BUDGET}"
    print(f"\nThreshold of gvr on {where}: {tuned}; taken: {report['threshold']:g}.")
    print("\n| method | budget | pass@1 | 95 % interval | completions drawn | tokens |\n|---|---|---|---|---|---|")
    for row in report["rows"]:
        low, high = row["interval"]
        print(
            f"| {row['method']} | {row['budget']} | {100 * row['pass@1']:.1f} % | {100 * low:.1f} to {100 * high:.1f} "
            f"| {row['completions']:.1f} | {row['tokens']:.0f} |"
        )
    by_name = {(row["method"], row["budget"]): row["passed"] for row in report["rows"]}
    print(
        "\n| budget | gvr - best of n, CodePRM | gvr - best of as many as it drew | CodePRM - no feedback "
        "| no feedback - one sample |\n|---|---|---|---|---|"
    )
    for row in report["rows"]:
        if row["method"] != GVR.name:
            continue
        best = by_name[BEST.name, row["budget"]]
        no_feedback = by_name["best of n, PRM without feedback", row["budget"]]
        pairs = [
            (row["passed"], best),
            (row["passed"], by_name[BEST.name, drawn(row)]),
            (best, no_feedback),
            (no_feedback, by_name[SINGLE.name, 1]),
        ]
        cells = [
            f"{100 * mean:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            for mean, low, high in (difference(one, other) for one, other in pairs)
        ]
        print(f"| {row['budget']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
