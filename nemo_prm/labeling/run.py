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
"""One labeling job: from problems to a label store and a summary, resuming what is there."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Sequence, cast

from tqdm import tqdm

from nemo_prm.config import LabelConfig
from nemo_prm.data.problems import check_limit
from nemo_prm.data.splitters import splitter
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.labeling.cache import Cache
from nemo_prm.labeling.labeler import Outcome, Skipped, Work, given, sampled
from nemo_prm.labeling.oracle import Spent
from nemo_prm.labeling.scheduler import Scheduler
from nemo_prm.labeling.store import LabelStore
from nemo_prm.labeling.summary import LabelSummary
from nemo_prm.protocols import CheckpointGenerator, Generator, StepScorer, Verifier
from nemo_prm.types import Problem, Response


def restrict(
    problems: Sequence[Problem], responses: Sequence[Response] | None, limit: int | None
) -> tuple[list[Problem], list[Response] | None]:
    """Keep the first `limit` problems and the responses to them.

    Responses to problems that are in no set at all are kept, so that `run_labeling` refuses them.
    """
    check_limit(limit)
    left_out = set() if limit is None else {problem.problem_id for problem in problems[limit:]}
    kept = None if responses is None else [r for r in responses if r.problem_id not in left_out]
    return list(problems[:limit]), kept


class _Part(NamedTuple):
    """What is labelled with one checkpoint; `load` is None where the generator has it already."""

    config: LabelConfig
    work: list[Work]
    load: str | None = None


def run_labeling(
    problems: Sequence[Problem],
    responses: Sequence[Response] | None,
    generator: Generator,
    verifier: Verifier,
    store: LabelStore,
    config: LabelConfig,
    cache: Cache | None = None,
    scorer: StepScorer | None = None,
) -> LabelSummary:
    """Label what the store does not hold yet; progress goes to stderr.

    SIGINT and SIGTERM end it early: what is in flight at the policy and the sandbox is finished and kept, and the
    summary says which signal it was.

    Args:
        problems: to sample responses to, or which `responses` answer.
        responses: given responses; None samples them.
        generator: the policy; one that can change its checkpoint where `config.checkpoints` asks for it.
        verifier: runs the programs.
        store: open; each row is in it as soon as it is known.
        config: of the job.
        cache: of what was paid for; None keeps it in memory.
        scorer: a process reward model that sharpens the choice of questions.

    Raises:
        ConfigError: a setting that cannot work, or the parser that `config.steps` needs is not installed.
        DataError: a given response to an unknown problem.
        GeneratorError: the policy is lost.
    """
    for language in {problem.language for problem in problems}:
        splitter(config.steps)("", language)  # so that a missing parser shows before anything is sampled
    parts = _parts(problems, responses, store, config)
    work = [item for part in parts for item in part.work]
    done = sum(item.key in store.completed for item in work)
    summary = LabelSummary(store.rows, len(work), done)
    classes: Counter[str] = Counter()
    started = time.monotonic()
    with (
        tqdm(total=len(work), initial=done, desc="label", unit="response", file=sys.stderr) as progress,
        _StoppedBySignals() as stopped,
    ):
        for part in parts:
            if all(item.key in store.completed for item in part.work):
                continue
            scheduler = Scheduler(generator, verifier, part.config, cache, scorer)
            stopped.scheduler, before = scheduler, summary.paid
            if stopped.signal is not None:  # looked at last: a later signal finds the scheduler
                break

            def on_outcome(outcome: Outcome, scheduler: Scheduler = scheduler, before: Spent = before) -> None:
                if isinstance(outcome, Skipped):
                    summary.skipped[outcome.reason] += 1
                    summary.last_skipped[outcome.reason] = outcome
                    classes["skipped"] += 1
                    with open(f"{store.path}.skipped", "a", encoding="utf-8") as file:
                        file.write(json.dumps(outcome._asdict()) + "\n")
                else:
                    store.append(outcome)
                    summary.new_rows += 1
                    summary.labelled += 1
                    classes[outcome.response_class] += 1
                paid = before + scheduler.paid
                cost = f"{paid.completions} completions, {paid.tokens / 1000:.0f}k tokens, {paid.executions} runs"
                progress.set_postfix_str(f"{', '.join(f'{k} {n}' for k, n in classes.items())}; {cost}", refresh=False)
                progress.update()

            if part.load is not None:
                progress.set_description(f"label {part.config.checkpoint}")
                cast(CheckpointGenerator, generator).load(part.load)
            scheduler.run(part.work, store.completed, on_outcome)
            summary.paid = before + scheduler.paid
        summary.seconds, summary.signal = time.monotonic() - started, stopped.signal
    return summary


def _parts(
    problems: Sequence[Problem], responses: Sequence[Response] | None, store: LabelStore, config: LabelConfig
) -> list[_Part]:
    """The work, by checkpoint."""
    if responses is not None:
        if config.checkpoints:
            raise ConfigError("checkpoints are sampled from; given responses have theirs, so leave one of both out.")
        by_id = {problem.problem_id: problem for problem in problems}
        for response in responses:
            if response.problem_id not in by_id:
                raise DataError(
                    f"response {response.response_id!r} answers the unknown problem {response.problem_id!r}."
                )
        store.check_responses(responses)
        return [_Part(config, given(by_id, responses))]
    if not config.checkpoints:
        return [_Part(config, sampled(problems, config))]
    names = _checkpoint_names(config.checkpoints)
    configs = [replace(config, checkpoint=name) for name in names]
    return [_Part(each, sampled(problems, each), path) for each, path in zip(configs, config.checkpoints)]


def _checkpoint_names(checkpoints: Sequence[str]) -> list[str]:
    """What the rows call these checkpoints: their file names, or, where two are alike, those of their folders too."""
    paths = [Path(checkpoint.removesuffix(".nemo")) for checkpoint in checkpoints]
    for parts in (1, 2):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"checkpoints must differ in name, found {', '.join(names)}.")


class _StoppedBySignals:
    """SIGINT and SIGTERM end the job when what is in flight is saved; a second one ends it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.scheduler: Scheduler | None = None
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _StoppedBySignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for each in self._former:
            signal.signal(each, signal.SIG_DFL)
        if self.scheduler is not None:
            self.scheduler.stop()
        print("\nstopping: what is in flight is finished and saved; once more ends it at once", file=sys.stderr)
