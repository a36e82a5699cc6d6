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
"""The quickstart from its config to its table; the children it starts are gone when it returns or raises."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from nemo_prm.config import QuickstartConfig
from nemo_prm.data.jsonl import write_json
from nemo_prm.errors import ConfigError
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.runner import Runner, environment, exclusive, find_policy
from nemo_prm.pipeline.stage import Stage
from nemo_prm.processes import Children
from nemo_prm.quickstart.problems import prepare
from nemo_prm.quickstart.stages import pipeline
from nemo_prm.quickstart.summary import as_table, count_labels, summarize


def quickstart(config: QuickstartConfig, root: Path, console: Console | None = None) -> Path:
    """Run every stage and print the table.

    Args:
        config: what to run.
        root: the checkout: `scripts/` and `conf/` are in it.
        console: where progress is shown; standard output by default.

    Returns:
        The path of summary.json.

    Raises:
        StageError: a stage failed; it names the stage, its log file and the last lines of it.
        NemoPrmError: the configuration, the policy or the problem file cannot be used.
    """
    console = console or Console()
    started = time.monotonic()
    run = Path(config.output).expanduser().resolve()
    policy = find_policy(config.policy)
    variables = environment(one_thread=config.policy == "embedded")
    with exclusive(run), Children(run / "logs", variables, console.tick) as children:
        sets = prepare(config.problems, run / "problems", config.held_out_share)
        console.say(sets.note)
        stages = pipeline(
            config,
            sets,
            str(policy),
            lambda: choose_strategy(config.strategy, run, console),
            lambda: choose_rows(run),
        )
        check_overrides(config.overrides, stages)
        runner = Runner(run, root, children, console, config.overrides, config.startup_timeout_s)
        for number, stage in enumerate(stages, start=1):
            if stage.name == "report":  # it shows the summary of all before it
                write_json(run / "summary.json", summarize(run, runner.results))
            runner.run(stage, f"{number}/{len(stages)} ")
        summary = summarize(run, runner.results)
        write_json(run / "summary.json", summary)
    console.say(f"done in {time.monotonic() - started:.0f} s")
    print(f"\n{as_table(summary)}\n\n{run / 'summary.json'}\n{run / 'report.html'}", file=console.stream, flush=True)
    return run / "summary.json"


def choose_strategy(strategy: str, run: Path, console: Console) -> Mapping[str, Any]:
    """Overrides of `select_data`; a sentence is printed where `strategy` would select nothing."""
    counts = count_labels(run / "label" / "labels.jsonl")
    if counts["correct"] + counts["revised"] == 0:
        console.say(
            "Every response is Wrong: the policy solves none of these problems, and nothing can be learned from its "
            "labels. Take easier problems, more completions, or a stronger policy (policy=...)."
        )
    if strategy == "revised_only" and counts["revised"] == 0:
        console.say("No response is Revised, so revised_only would select nothing: taking full in its place.")
        strategy = "full"
    return {"strategy": strategy}


def choose_rows(run: Path) -> Mapping[str, Any]:
    """Overrides of `evaluate_prm`: the validation rows; of a single problem there are none, then all labels."""
    rows = run / "select_data" / "validation.jsonl"
    return {"labels": [str(rows if rows.stat().st_size else run / "label" / "labels.jsonl")]}


def check_overrides(overrides: Mapping[str, Any], stages: Sequence[Stage]) -> None:
    names = {name for stage in stages for name in (stage.name, stage.script)}
    names |= {name for stage in stages for server in stage.servers for name in (server.name, server.script)}
    for name in overrides:
        if name not in names:
            raise ConfigError(f"overrides: {name} is no stage, server or script; there are {', '.join(sorted(names))}")
