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
"""The study from its config to its page; what it starts is gone when it returns or raises."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Sequence

from nemo_prm.config import StudyConfig
from nemo_prm.errors import ConfigError
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.runner import Runner, environment, exclusive, find_policy, hydra_override
from nemo_prm.pipeline.stage import Stage
from nemo_prm.processes import Children
from nemo_prm.study.arms import chosen
from nemo_prm.study.page import write_page
from nemo_prm.study.results import collect, read_results, write_results
from nemo_prm.study.schedule import run_stages
from nemo_prm.study.stages import Cell, ancestors, study_stages


def study(config: StudyConfig, root: Path) -> Path:
    """Run every arm with every seed that results.jsonl does not have yet, and write the page.

    Args:
        config: what to run.
        root: the checkout: `scripts/` and `conf/` are in it.

    Returns:
        The path of the page.

    Raises:
        StageError: stages failed; the others have run, and the page shows them.
        NemoPrmError: the configuration or the policy cannot be used.
    """
    run, stages, cells = _prepare(config)
    if config.stage is not None:
        return _work(config, root, run, stages)
    page, console = Path(config.page), Console()
    table = page.with_suffix("") / "results.jsonl"
    results = read_results(table, config)

    def keep(stage: Stage) -> None:
        cell = next((cell for cell in cells if cell.evaluation == stage.name), None)
        if cell is not None:
            results[cell] = collect(run, cell, config)
            write_results(table, results)

    missing = [cell.evaluation for cell in cells if cell not in results]
    needed = {stage.name for name in missing for stage in ancestors(stages, name)}
    try:
        if config.run and needed:
            with exclusive(run), Children(run / "logs", environment(one_thread=True), console.tick) as children:
                todo = [stage for stage in stages if stage.name in needed]
                run_stages(todo, lambda stage: _worker(config, root, stage), children, console, config.jobs, keep)
    finally:
        if results:
            page.parent.mkdir(parents=True, exist_ok=True)
            write_page(page, results, config)
    return page


def _prepare(config: StudyConfig) -> tuple[Path, list[Stage], list[Cell]]:
    if min(config.jobs, config.steps, config.baseline_seed, *config.seeds, len(config.seeds)) < 1:
        raise ConfigError("jobs, steps and all seeds must be at least 1, and there must be a seed")
    run = Path(config.output).expanduser().resolve()
    policy = find_policy(config.policy)
    arms = chosen(config.arms)
    cells = [Cell(name, seed) for seed in config.seeds for name in arms]
    stages = study_stages(config, str(policy), [(cell, arms[cell.arm]) for cell in cells])
    return run, stages, cells


def _worker(config: StudyConfig, root: Path, stage: Stage) -> Sequence[str]:
    settings = asdict(replace(config, stage=stage.name))
    return [
        sys.executable,
        str(root / "scripts/study.py"),
        *(hydra_override(name, value) for name, value in settings.items()),
    ]


def _work(config: StudyConfig, root: Path, run: Path, stages: Sequence[Stage]) -> Path:
    """Run one stage; those before it stand, and are looked at again."""
    assert config.stage is not None
    console = Console()
    with Children(run / "logs", on_tick=console.tick) as children:
        runner = Runner(run, root, children, console, startup_timeout_s=config.startup_timeout_s)
        for stage in ancestors(stages, config.stage):
            runner.run(stage)
    return run / config.stage
