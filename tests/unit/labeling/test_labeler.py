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
"""The labeler with a simulated policy and the real sandbox."""

from __future__ import annotations

import dataclasses
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import pytest
from simulated_policy import HEAD, SimulatedPolicy, Task, chain

from nemo_prm.config import GeneratorConfig, LabelConfig, NeutralConfig
from nemo_prm.data.rows import label_row_from_json, label_row_to_json
from nemo_prm.errors import ConfigError, GeneratorError, RequestFailedError
from nemo_prm.labeling import scheduler
from nemo_prm.labeling.cache import Cache
from nemo_prm.labeling.labeler import (
    GIVEN,
    QUARANTINED,
    Outcome,
    Skipped,
    Work,
    check_config,
    given,
    resolve,
    sampled,
)
from nemo_prm.labeling.oracle import Spent
from nemo_prm.labeling.scheduler import Scheduler
from nemo_prm.labeling.search import monotonicity_violations
from nemo_prm.protocols import Generator, Verifier
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import Completion, LabelRow, Problem, Response, SamplingParams, TestCase, Verdict


@pytest.fixture(scope="module")
def verifier() -> Iterator[SandboxVerifier]:
    with SandboxVerifier(workers=2) as found:
        yield found


def config(**keys: object) -> LabelConfig:
    return dataclasses.replace(LabelConfig(output="unused"), **keys)  # type: ignore[arg-type]


def written(task: Task, *texts: str) -> list[Work]:
    responses = [Response(task.name, f"r{i}", text, "hand") for i, text in enumerate(texts)]
    return given({task.name: task.problem}, responses)


def run(
    policy: Generator,
    verifier: Verifier,
    work: Sequence[Work],
    settings: LabelConfig,
    completed: Mapping[tuple[str, str], LabelRow] | None = None,
    **keys: Any,
) -> list[Outcome]:
    """Outcomes in the order of the work that is not completed."""
    outcomes: dict[tuple[str, str], Outcome] = {}

    def on_outcome(outcome: Outcome) -> None:
        assert outcomes.setdefault((outcome.problem_id, outcome.response_id), outcome) is outcome, "given twice"

    Scheduler(policy, verifier, settings, **keys).run(work, completed or {}, on_outcome)
    return [outcomes[item.key] for item in work if item.key in outcomes]


def label(policy: Generator, verifier: Verifier, task: Task, *texts: str, **keys: object) -> list[LabelRow]:
    rows = []
    for outcome in run(policy, verifier, written(task, *texts), config(**keys)):
        assert isinstance(outcome, LabelRow), outcome
        rows.append(outcome)
    assert len(rows) == len(texts)
    return rows


def without_cost(outcomes: Sequence[Outcome]) -> list[tuple[object, ...]]:
    rows = [o for o in outcomes if isinstance(o, LabelRow)]
    return sorted((r.problem_id, r.response_id, r.response, r.labels, r.response_class, r.probes) for r in rows)


def test_labels_of_hand_made_responses(verifier: SandboxVerifier) -> None:
    task = chain("a", 6, error_rate=0.1)
    policy = SimulatedPolicy([task])
    right, third, first, last = label(
        policy, verifier, task, task.response(), task.response([2]), task.response([0, 4]), task.response([5])
    )
    # the head, six lines, the tail
    assert (right.response_class, right.labels, right.probes) == ("correct", (1,) * 8, ())
    assert (third.response_class, third.labels) == ("revised", (1, 1, 1, -1, -1, -1, -1, -1))
    assert (first.response_class, first.labels) == ("revised", (1, -1, -1, -1, -1, -1, -1, -1))
    assert (last.response_class, last.labels) == ("revised", (1, 1, 1, 1, 1, 1, -1, -1))
    assert right.generator == GIVEN and third.generator == "simulated"
    assert right.cost.executions == 1 and right.cost.completions == 0
    assert third.verdict is not None and third.verdict.status == "wrong_answer"
    assert (third.sandbox, third.seed, third.checkpoint) == ("sandbox-2", 1234, "hand")


def test_a_policy_that_never_gets_it_right_makes_wrong(verifier: SandboxVerifier) -> None:
    task = chain("a", 4, error_rate=1.0)
    (row,) = label(SimulatedPolicy([task]), verifier, task, task.response([0]), completions=5)
    assert (row.response_class, row.labels) == ("wrong", (-1,) * 6)
    assert [(p.num_completions, p.num_passed) for p in row.probes] == [(5, 0)] * len(row.probes)
    assert 2 <= len(row.probes) <= 3


def test_neutral_steps_are_zero_and_never_probed(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.05)
    lines = ["    # so", "    v = 3 * v + 0", "    # far", "    v = 3 * v + 99", "    v = 3 * v + 2", "    # so good"]
    text = HEAD + "\n".join(lines) + "\n    return v\n# end\n"
    good = text.replace("99", "1")
    policy = SimulatedPolicy([task])
    row, right = label(policy, verifier, task, text, good)
    assert row.labels == (1, 0, 1, 0, -1, -1, 0, -1, 0)
    assert {p.num_steps for p in row.probes} <= {1, 3, 5, 6}
    assert right.labels == (1, 0, 1, 0, 1, 1, 0, 1, 0)
    (switched,) = label(policy, verifier, task, good, neutral=NeutralConfig(comments=False))
    assert switched.labels == (1,) * 9


def test_steps_may_be_larger_than_lines(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.05)
    lines = ['    """Far."""', "    # so", "    v = 3 * v + 0", "    v = 3 * v + 99", "    v = 3 * v + 2"]
    text = HEAD + "\n".join(lines[1:]) + "\n    return v\n# end\n"
    policy = SimulatedPolicy([task])
    (blocks,) = label(policy, verifier, task, text, steps="blocks")
    assert [text[step.start : step.end] for step in blocks.steps[:2]] == [HEAD, "    # so\n    v = 3 * v + 0\n"]
    assert blocks.labels == (1, 1, -1, -1, -1)
    right, wrong = label(policy, verifier, task, text.replace("99", "1"), text, steps="functions")
    assert (right.labels, right.response_class) == ((1,), "correct")
    assert (wrong.labels, wrong.response_class) == ((-1,), "wrong")
    documented = HEAD + "\n".join(lines).replace("99", "1") + "\n    return v\n"
    (row,) = label(policy, verifier, task, documented, steps="blocks")
    assert row.labels == (1, 0, 1, 1, 1, 1)
    with pytest.raises(ConfigError, match="steps must be one of lines, blocks, functions, thoughts"):
        label(policy, verifier, task, steps="tokens")


class Thinker:
    """Continues thoughts: finishes them as long as none of them is wrong, and writes the code that they lead to."""

    name = "thinker"

    def __init__(self) -> None:
        self.prompts: set[str] = set()

    def generate(self, prompts: Sequence[str], n: int, *_: Any) -> list[list[Completion]]:
        self.prompts |= set(prompts)
        return [[Completion(self._continue(prompt), 1, "stop")] * n for prompt in prompts]

    def _continue(self, prompt: str) -> str:
        if "```" in prompt:
            return "```\n"
        factor = 3 if "wrong" in prompt else 2
        return f"Thought 9: done.\n\n```python\ndef f(v):\n    return {factor} * v\n```\n"


def test_prefixes_of_thoughts_end_before_the_code(verifier: SandboxVerifier) -> None:
    problem = Problem("p", "Double it.\n", (TestCase("call", args=(2,), expected=4),), entry_point="f")
    thoughts = ["Thought 1: read.\n\n", "Thought 2: wrong.\n\n", "Thought 3: write.\n\n"]
    text = "".join(thoughts) + "```python\ndef f(v):\n    return 3 * v\n```\n"
    thinker = Thinker()
    work = given({"p": problem}, [Response("p", "r", text)])
    (row,) = run(thinker, verifier, work, config(steps="thoughts", search="halve"))  # type: ignore[arg-type]
    assert isinstance(row, LabelRow)
    assert [step.kind for step in row.steps] == ["thought", "thought", "thought", "code"]
    assert (row.labels, row.response_class) == ((1, -1, -1, -1), "revised")
    asked = {"Double it.\n" + "".join(thoughts[:count]) for count in (1, 2)}
    assert thinker.prompts - {"Double it.\n" + "".join(thoughts), "Double it.\n" + text} == asked
    assert label_row_from_json(label_row_to_json(row), "row") == row


class Halves:
    """Finishes thoughts with programs that pass both tests and one of them in turn; none after a wrong thought."""

    name = "halves"

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        return [[self._finish(prompt, number) for number in range(first, first + n)] for prompt in prompts]

    def _finish(self, prompt: str, number: int) -> Completion:
        value = "1 / 0" if "wrong" in prompt else ("2 * v", "4")[number % 2]
        return Completion(f"Thought 9: go.\n```python\ndef f(v):\n    return {value}\n```\n", 3, "stop")


def test_every_thought_is_worth_the_mean_pass_rate_of_its_programs(verifier: SandboxVerifier) -> None:
    hidden = (TestCase("call", args=(2,), expected=4), TestCase("call", args=(3,), expected=6))
    problem = Problem("p", "Double it.\n", hidden, (TestCase("call", args=(5,), expected=10),), entry_point="f")
    code = "```python\ndef f(v):\n    return {}\n```\n"
    good = Response("p", "good", "Thought 1: read.\nThought 2: write.\n" + code.format("v + v"))
    bad = Response("p", "bad", "Thought 1: read.\nThought 2: wrong.\n" + code.format("4"))
    cut = Response("p", "cut", "Thought 1: read.\nThought 2: wri", finish_reason="length")
    settings = config(steps="thoughts", completions=4)
    rows = run(Halves(), verifier, given({"p": problem}, [good, bad, cut]), settings)  # type: ignore[arg-type]
    assert all(isinstance(row, LabelRow) for row in rows)
    first, second, third = [row for row in rows if isinstance(row, LabelRow)]
    # two of four programs pass 2 of 2 tests, the others 1 of 2: p = 0.75, and the label is 2 p - 1
    assert (first.labels, first.response_class) == ((0.5, 0.5, 1), "correct")
    assert (second.labels, second.response_class) == ((0.5, -1, 0), "revised")  # its own program passes 1 of 2
    assert (third.labels, third.response_class) == ((0.5, 0.5), "revised")  # cut off: its last thought is asked about
    assert [(each.num_steps, each.pass_rate) for each in second.derivations] == [
        *[(1, 1.0), (1, 0.5)] * 2, *[(2, 0.0)] * 4, (3, 0.5),
    ]  # fmt: skip
    told = {each.feedback for each in second.derivations}
    assert told == {
        "Passed.",
        "Test 1 of 1: wrong answer: f(5): expected 10, got 4.",
        "Test 1 of 1: runtime error: f(5): line 2: ZeroDivisionError: division by zero",
    }
    assert second.derivations[-1].completion == "" and second.generator == "halves"
    assert second.cost.completions == 8
    for row in (first, second, third):
        assert label_row_from_json(label_row_to_json(row), "row") == row


def test_what_was_run_for_a_prefix_is_kept_where_that_is_asked_for(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.0)
    for keep in (False, True):
        (row,) = label(
            SimulatedPolicy([task]), verifier, task, task.response([1]), search="halve", keep_completions=keep
        )
        assert bool(row.derivations) is keep
    assert {each.num_steps for each in row.derivations} == {probe.num_steps for probe in row.probes}
    for probe in row.probes:
        passed = [each for each in row.derivations if each.num_steps == probe.num_steps and each.pass_rate == 1]
        assert len(passed) == probe.num_passed and all(each.feedback.startswith("Passed") for each in passed)


def test_every_step_wants_all_its_completions() -> None:
    for keys in ({"soft_labels": True}, {"sequential_epsilon": 0.1}, {"audit_share": 0.5}):
        with pytest.raises(ConfigError, match="search=every draws all completions"):
            check_config(resolve(config(steps="thoughts", **keys)))
    assert resolve(config(steps="thoughts")).sandbox.stop_at_first_failure is False
    assert resolve(config()).search == "cost_aware" and resolve(config()).sandbox.stop_at_first_failure


def test_early_stop_neither_generates_nor_executes_the_rest(verifier: SandboxVerifier) -> None:
    task = chain("a", 2, error_rate=0.0)  # each completion of a good prefix passes
    policy = SimulatedPolicy([task])
    (row,) = label(policy, verifier, task, task.response([1]), search="halve")
    # points: head, line 1, line 2, tail; line 2 is wrong
    assert [(p.num_steps, p.num_completions, p.num_passed) for p in row.probes] == [(3, 20, 0), (2, 2, 1)]
    assert [(n, first) for _, n, first in policy.calls] == [(2, 0), (4, 2), (8, 6), (6, 14), (2, 0)]
    assert row.cost.completions == 22
    # the response, one passing completion, one (distinct) program of the hopeless prefix
    assert row.cost.executions == 3
    assert row.cost.tokens > 0 and row.cost.seconds > 0


def test_soft_labels_draw_all_and_give_shares(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.5)
    policy = SimulatedPolicy([task])
    (row,) = label(policy, verifier, task, task.response([2]), soft_labels=True, completions=20)
    shares = {p.num_steps: p.num_passed / p.num_completions for p in row.probes}
    assert {p.num_completions for p in row.probes} == {20}
    assert {n for _, n, _ in policy.calls} == {20}
    assert row.response_class == "revised"
    assert row.labels[2] == 2 * shares[3] - 1 and 0 < shares[3] < 1
    assert row.labels[3:] == (-1, -1)


def test_requests_are_batched_over_searches(verifier: SandboxVerifier) -> None:
    tasks = [chain(f"t{i}", 6, error_rate=0.3) for i in range(8)]
    policy = SimulatedPolicy(tasks, seconds=0.05)
    settings = config(responses_per_prompt=4)
    rows = run(policy, verifier, sampled([task.problem for task in tasks], settings), settings)
    assert len(rows) == 32
    waves = sum(len(prompts) for prompts, _, _ in policy.calls)
    assert policy.calls[0] == ([task.prompt for task in tasks], 4, 0)
    assert len(policy.calls) < waves / 4
    for prompts, _, _ in policy.calls:
        assert len(set(prompts)) == len(prompts)


def test_labels_depend_neither_on_batches_nor_on_resumption(verifier: SandboxVerifier) -> None:
    tasks = [chain(f"t{i}", 4, error_rate=0.3) for i in range(6)]
    settings = config(responses_per_prompt=3, completions=6)
    work = sampled([task.problem for task in tasks], settings)

    def again(items: Sequence[Work], completed: Mapping[tuple[str, str], LabelRow], **keys: Any) -> list[Outcome]:
        return run(SimulatedPolicy(tasks), verifier, items, dataclasses.replace(settings, **keys), completed)

    whole = again(work, {})
    assert len({key[:2] for key in without_cost(whole)}) == 18
    assert without_cost(again(work, {})) == without_cost(whole)
    one_by_one = [outcome for item in reversed(work) for outcome in again([item], {}, searches_in_flight=1)]
    assert without_cost(one_by_one) == without_cost(whole)
    completed = {(o.problem_id, o.response_id): o for o in whole[:7] if isinstance(o, LabelRow)}
    assert without_cost([*whole[:7], *again(work, completed)]) == without_cost(whole)
    assert without_cost(again(work, {}, seed=5)) != without_cost(whole)


def test_a_cache_pays_for_everything_but_the_rows(verifier: SandboxVerifier, tmp_path: Path) -> None:
    tasks = [chain(f"t{i}", 5, error_rate=0.3) for i in range(5)]
    settings = config(responses_per_prompt=3, completions=8)
    work = sampled([task.problem for task in tasks], settings)
    with Cache(tmp_path / "cache.jsonl") as cache:
        policy = SimulatedPolicy(tasks)
        first = run(policy, verifier, work, settings, cache=cache)
        assert policy.calls
    with Cache(tmp_path / "cache.jsonl") as cache:
        policy = SimulatedPolicy(tasks, name="not known before it answers")
        scheduler, rows = Scheduler(policy, verifier, settings, cache), list[Outcome]()
        scheduler.run(work, {}, rows.append)
        assert policy.calls == [] and scheduler.paid == Spent()
        assert without_cost(rows) == without_cost(first)
        assert {row.generator for row in rows if isinstance(row, LabelRow)} == {"simulated"}
        assert sorted(r.cost.completions for r in rows if isinstance(r, LabelRow)) == sorted(
            r.cost.completions for r in first if isinstance(r, LabelRow)
        )
        more, policy = dataclasses.replace(settings, completions=20), SimulatedPolicy(tasks)
        run(policy, verifier, work, more, cache=cache)
        assert min(first for _, _, first in policy.calls) == 8  # the first eight of each are there already


def test_questions_and_costs_do_not_depend_on_the_schedule(
    verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of 4 to 8 responses, so that much is learned on the way: the same is asked of each response."""
    monkeypatch.setattr(scheduler, "FIRST_EPOCH", 4)
    monkeypatch.setattr(scheduler, "EPOCH", 8)
    tasks = [chain(f"t{i}", 9, error_rate=0.2) for i in range(12)]
    settings = config(responses_per_prompt=4, completions=8, audit_share=0.2)
    work = sampled([task.problem for task in tasks], settings)
    reference = run(SimulatedPolicy(tasks), verifier, work, settings)
    narrow = dataclasses.replace(settings, searches_in_flight=3)
    rows = run(SimulatedPolicy(tasks), verifier, work, narrow)
    strip = [dataclasses.replace(r, cost=dataclasses.replace(r.cost, seconds=0), verdict=None) for r in rows]  # type: ignore[union-attr, arg-type]
    wanted = [dataclasses.replace(r, cost=dataclasses.replace(r.cost, seconds=0), verdict=None) for r in reference]  # type: ignore[union-attr, arg-type]
    assert strip == wanted
    assert len({tuple(p.num_steps for p in r.probes[:1]) for r in reference if isinstance(r, LabelRow)}) > 1


def test_a_search_that_learns_nothing_waits_for_nothing(
    verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "FIRST_EPOCH", 4)
    tasks = [chain(f"t{i}", 3) for i in range(30)]
    prompts = {}
    for search in ("halve", "cost_aware"):
        policy, settings = SimulatedPolicy(tasks), config(responses_per_prompt=1, search=search)
        run(policy, verifier, sampled([task.problem for task in tasks], settings), settings)
        prompts[search] = len(policy.calls[0][0])
    assert prompts["halve"] == 30 > prompts["cost_aware"]


def test_every_search_gives_the_labels_of_algorithm_1(
    verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked, and in which order: where completability is monotone the labels are the same."""
    monkeypatch.setattr(scheduler, "FIRST_EPOCH", 8)
    tasks = [chain(f"t{i}", 8, error_rate=0.15) for i in range(6)]
    work = sampled([task.problem for task in tasks], config(responses_per_prompt=4))

    def rows(**keys: Any) -> tuple[list[LabelRow], Spent]:
        settings = config(responses_per_prompt=4, **keys)
        scheduler, found = Scheduler(SimulatedPolicy(tasks), verifier, settings), list[Outcome]()
        scheduler.run(work, {}, found.append)
        return sorted((r for r in found if isinstance(r, LabelRow)), key=lambda r: r.response_id), scheduler.paid

    written_out, all_drawn = rows(search="halve", first_wave=20)
    halved, early_stop = rows(search="halve")
    ours, cost_aware = rows()
    audited, _ = rows(audit_share=1.0)
    monotone = {
        (r.problem_id, r.response_id)
        for r in audited
        if monotonicity_violations([p.num_passed > 0 for p in r.audit]) == 0
    }
    assert len(monotone) >= 20
    labels = [{(r.problem_id, r.response_id): r.labels for r in each} for each in (written_out, halved, ours, audited)]
    assert labels[0] == labels[1] and labels[2] == labels[3]
    assert {key: labels[2][key] for key in monotone} == {key: labels[0][key] for key in monotone}
    assert cost_aware.completions < early_stop.completions < all_drawn.completions


def test_a_completion_that_passed_shows_where_to_ask_next(
    verifier: SandboxVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most later questions are about the two prefixes around the line where the completion left the response."""
    monkeypatch.setattr(scheduler, "FIRST_EPOCH", 8)
    task = chain("a", 16, error_rate=0.02)
    rows = run(
        SimulatedPolicy([task]), verifier, written(task, *(task.response([i % 16]) for i in range(64))), config()
    )
    questions = []
    for row in rows[32:]:
        assert isinstance(row, LabelRow)
        first_bad = row.labels.index(-1) + 1
        later = [probe.num_steps for i, probe in enumerate(row.probes) if any(p.num_passed for p in row.probes[:i])]
        questions += [num_steps in (first_bad - 1, first_bad) for num_steps in later]
    assert sum(questions) > 0.6 * len(questions)  # without: 47 %


def test_a_sequential_question_is_given_up_early(verifier: SandboxVerifier) -> None:
    tasks = [chain(f"t{i}", 6, error_rate=0.1) for i in range(30)]
    settings = config(responses_per_prompt=2, sequential_epsilon=0.2)
    rows = run(SimulatedPolicy(tasks), verifier, sampled([task.problem for task in tasks], settings), settings)
    drawn = {p.num_completions for r in rows if isinstance(r, LabelRow) for p in r.probes if not p.num_passed}
    assert drawn and max(drawn) < 20


def test_a_process_reward_model_is_asked_about_failed_responses(verifier: SandboxVerifier) -> None:
    task = chain("a", 6, error_rate=0.02)
    asked = []

    class Scorer:
        def score_steps(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[float]]:
            asked.extend(zip(prompts, responses))
            return [[0.0] * response.count("\n") for response in responses]

    texts = task.response([3]), task.response(), task.response([1])
    rows = run(SimulatedPolicy([task]), verifier, written(task, *texts), config(), scorer=Scorer())
    assert sorted(asked) == sorted((task.prompt, text) for text in (texts[0], texts[2]))
    assert [r.labels.index(-1) for r in rows if isinstance(r, LabelRow) and -1 in r.labels] == [4, 2]


def test_class_shares_follow_the_error_rate(verifier: SandboxVerifier) -> None:
    """Correct is (1 - error)^lines, up to sampling: 60 responses, 4 standard deviations."""
    tasks = [chain(f"t{i}", 3, error_rate=0.2) for i in range(12)]
    settings = config(responses_per_prompt=5)
    outcomes = run(SimulatedPolicy(tasks), verifier, sampled([task.problem for task in tasks], settings), settings)
    counts = Counter(outcome.response_class for outcome in outcomes if isinstance(outcome, LabelRow))
    share = 0.8**3
    assert sum(counts.values()) == 60
    assert abs(counts["correct"] / 60 - share) < 4 * (share * (1 - share) / 60) ** 0.5
    # with K = 20 some completion of the bare head nearly always passes
    assert counts["wrong"] <= 1


def test_responses_that_begin_alike_share_their_trials(verifier: SandboxVerifier) -> None:
    task = chain("a", 5, error_rate=0.2)
    policy = SimulatedPolicy([task])
    alike = [task.response([3], extra="    v = v\n"), task.response([3], extra="    v = +v\n")]
    first, second = label(policy, verifier, task, *alike)
    assert first.probes[-1].num_steps == second.probes[-1].num_steps
    asked = [prompt for prompts, _, _ in policy.calls for prompt in prompts]
    alone = SimulatedPolicy([task])
    for response in alike:
        label(alone, verifier, task, response)
    assert len(asked) < len([prompt for prompts, _, _ in alone.calls for prompt in prompts])


def test_prompts_that_are_too_long_are_skipped(verifier: SandboxVerifier) -> None:
    short, long = chain("a", 2), chain("b" * 500, 2)
    policy = SimulatedPolicy([short, long], max_prompt=300)
    settings = config(responses_per_prompt=2)
    outcomes = run(policy, verifier, sampled([long.problem, short.problem], settings), settings)
    skipped = [outcome for outcome in outcomes if isinstance(outcome, Skipped)]
    assert [(s.problem_id, s.response_id) for s in skipped] == [(long.name, "policy-0"), (long.name, "policy-1")]
    assert "context" in skipped[0].reason
    assert {o.problem_id for o in outcomes if isinstance(o, LabelRow)} == {"a"}


def test_a_prefix_that_fills_the_context_cannot_be_completed(verifier: SandboxVerifier) -> None:
    task = chain("a", 6, error_rate=0.05)
    text = task.response([5])
    limit = len(task.prompt) + len(HEAD) + 2 * len("    v = 3 * v + 0\n")
    (row,) = label(SimulatedPolicy([task], max_prompt=limit), verifier, task, text)
    assert (row.response_class, row.labels) == ("revised", (1, 1, 1, -1, -1, -1, -1, -1))
    assert {p.num_completions for p in row.probes if p.num_steps > 3} == {0}


def test_a_dead_generator_is_an_error(verifier: SandboxVerifier) -> None:
    class Dead(SimulatedPolicy):
        def generate(self, *args: object, **kwargs: object) -> list[list[object]]:  # type: ignore[override]
            raise GeneratorError("no answer")

    task = chain("a", 2)
    (row,) = label(Dead([]), verifier, task, task.response())  # type: ignore[arg-type]
    assert row.response_class == "correct"
    with pytest.raises(GeneratorError, match="no answer"):
        label(Dead([]), verifier, task, task.response([0]))


@pytest.mark.parametrize("prompts_per_request", [1, 64])
def test_a_prompt_that_the_policy_fails_on_is_set_aside(verifier: SandboxVerifier, prompts_per_request: int) -> None:
    class Allergic(SimulatedPolicy):
        def generate(self, prompts: Sequence[str], *args: Any, **keys: Any) -> list[list[Completion]]:
            self.calls.append((list(prompts), 0, 0))
            if any(prompt.startswith("Task t3.") for prompt in prompts):
                raise RequestFailedError("HTTP 500")
            return super().generate(prompts, *args, **keys)

    tasks = [chain(f"t{i}", 3) for i in range(6)]
    settings = config(responses_per_prompt=2, generator=GeneratorConfig(batch_size=prompts_per_request))
    policy = Allergic(tasks)
    outcomes = run(policy, verifier, sampled([task.problem for task in tasks], settings), settings)
    labelled = [o.problem_id for o in outcomes if isinstance(o, LabelRow)]
    assert labelled == [f"t{i}" for i in (0, 1, 2, 4, 5) for _ in range(2)]
    set_aside = [o for o in outcomes if isinstance(o, Skipped)]
    assert [(o.problem_id, o.reason, o.detail) for o in set_aside] == [("t3", QUARANTINED, "HTTP 500")] * 2
    assert sum(prompts == ["Task t3.\n"] for prompts, _, _ in policy.calls) == 3


def test_a_policy_that_fails_on_everything_ends_the_job(verifier: SandboxVerifier) -> None:
    class Broken(SimulatedPolicy):
        def generate(self, *args: Any, **keys: Any) -> list[list[Completion]]:
            raise RequestFailedError("HTTP 500")

    tasks = [chain(f"t{i}", 3) for i in range(40)]
    settings = config(responses_per_prompt=1)
    with pytest.raises(GeneratorError, match="20 responses in a row, the last time: HTTP 500"):
        run(Broken(tasks), verifier, sampled([task.problem for task in tasks], settings), settings)


class FlakyVerifier(SandboxVerifier):
    """The real verifier, whose judge has broken down for programs with a certain text, unless they have another."""

    broken, spared = "never", "never"

    def submit(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Future[Verdict]:
        if self.broken not in program or self.spared in program:
            return super().submit(problem, program, tests)
        down: Future[Verdict] = Future()
        down.set_result(Verdict("infra_error", message="down"))
        return down


def test_unknown_verdicts_are_never_labels() -> None:
    task = chain("a", 4, error_rate=0.0)
    with FlakyVerifier(workers=1) as verifier:
        work = written(task, task.response([1]), task.response([3]), task.response())
        verifier.broken = "v = 3 * v + 3 + 1"  # the second response itself
        first, second, third = run(SimulatedPolicy([task]), verifier, work, config(completions=3))
        assert isinstance(second, Skipped) and "infra_error" in second.reason and second.detail == "down"
        assert isinstance(first, LabelRow) and isinstance(third, LabelRow)
        verifier.broken = "v = 3 * v + 1\n    v = 3 * v + 2\n    v = 3 * v + 3\n"  # what completes its good prefix
        (first,) = run(SimulatedPolicy([task]), verifier, work[:1], config(completions=3))
        assert isinstance(first, Skipped)


def test_unknown_verdicts_are_no_share_of_a_soft_label() -> None:
    task = chain("a", 3, error_rate=0.5)
    settings = config(soft_labels=True, completions=20)
    labels = []
    with FlakyVerifier(workers=1) as verifier:
        verifier.spared = "v + 1 + 1"  # the line that the response has wrong
        for verifier.broken in ("never", "v + 2 + 1"):  # the last line, written wrong
            (row,) = run(SimulatedPolicy([task]), verifier, written(task, task.response([1])), settings)
            assert isinstance(row, LabelRow) and row.response_class == "revised"
            labels.append(row.labels)
            shares = {probe.num_steps: probe.num_passed / probe.num_completions for probe in row.probes}
    assert labels[1][1] > labels[0][1] == 2 * shares[2] - 1  # fewer are known to fail, as many pass


class BeginsAnew:
    """Gives up whatever it is to continue, and writes the right program in a fence of its own."""

    name = "begins anew"

    def __init__(self, task: Task) -> None:
        self.text = f"\nWait, that is wrong.\n```python\n{task.response()}```\n"

    def generate(self, prompts: Sequence[str], n: int, *_: Any) -> list[list[Completion]]:
        return [[Completion(self.text, 5, "stop")] * n for _ in prompts]


def test_a_completion_that_leaves_its_prefix_out_says_nothing_for_it(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.0)
    (row,) = label(BeginsAnew(task), verifier, task, task.response([1]))
    assert (row.response_class, set(row.labels)) == ("wrong", {-1})


class SometimesBeginsAnew(BeginsAnew):
    """As that one, but for one completion in four, which goes on."""

    def __init__(self, task: Task, rest: str) -> None:
        super().__init__(task)
        self.rest = rest

    def generate(self, prompts: Sequence[str], n: int, *_: Any) -> list[list[Completion]]:
        return [[Completion(self.text, 5, "stop")] * (n - 1) + [Completion(self.rest, 5, "stop")] for _ in prompts]


def test_monte_carlo_counts_a_completion_that_leaves_its_prefix_out_as_failed(verifier: SandboxVerifier) -> None:
    task = chain("a", 1, error_rate=0.0)
    good = task.response()
    first = good.index("\n") + 1
    policy = SometimesBeginsAnew(task, good[first:])
    wrong = good[:first] + "    return None\n"
    (row,) = label(policy, verifier, task, wrong, search="every", completions=4, first_wave=4)
    assert row.labels[0] == 2 * 1 / 4 - 1
    assert (row.probes[0].num_completions, row.probes[0].num_passed) == (4, 1)


def test_empty_and_fenced_responses(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.05)
    policy = SimulatedPolicy([task])
    empty, fenced = label(policy, verifier, task, "", f"Here:\n```python\n{task.response()}```\nDone.\n")
    assert (empty.response_class, empty.steps, empty.labels) == ("wrong", (), ())
    assert (fenced.response_class, fenced.labels) == ("correct", (1,) * 5)
    assert fenced.response[fenced.steps[0].start :].startswith("def f")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seed": -1}, "seed must be at least 0"),
        ({"completions": 0}, "completions must be at least 1"),
        ({"responses_per_prompt": 0}, "responses_per_prompt must be at least 1"),
        ({"first_wave": 0}, "first_wave must be at least 1"),
        ({"searches_in_flight": 0}, "searches_in_flight must be at least 1"),
        ({"audit_share": 1.5}, "audit_share must lie in"),
        ({"sequential_epsilon": -1.0}, "sequential_epsilon must lie in"),
        ({"search": "thirds"}, "search must be one of auto, cost_aware, halve, every"),
        ({"soft_labels": True, "sequential_epsilon": 0.1}, "sequential_epsilon must be 0"),
    ],
)
def test_settings_that_cannot_be(verifier: SandboxVerifier, keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scheduler(SimulatedPolicy([]), verifier, config(**keys))
