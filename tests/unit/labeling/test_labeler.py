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
from typing import Iterator, Sequence

import pytest
from simulated_policy import HEAD, SimulatedPolicy, Task, chain

from nemo_prm.config import LabelConfig, NeutralConfig
from nemo_prm.errors import ConfigError, GeneratorError
from nemo_prm.labeling.labeler import GIVEN, Labeler, Outcome, Skipped
from nemo_prm.sandbox.verifier import SandboxVerifier
from nemo_prm.types import LabelRow, Problem, Response, TestCase, Verdict


@pytest.fixture(scope="module")
def verifier() -> Iterator[SandboxVerifier]:
    with SandboxVerifier(workers=2) as found:
        yield found


def config(**keys: object) -> LabelConfig:
    return dataclasses.replace(LabelConfig(output="unused"), **keys)  # type: ignore[arg-type]


def given(task: Task, *texts: str) -> list[Response]:
    return [Response(task.name, f"r{i}", text, "hand") for i, text in enumerate(texts)]


def label(
    policy: SimulatedPolicy, verifier: SandboxVerifier, task: Task, *texts: str, **keys: object
) -> list[LabelRow]:
    labeler = Labeler(policy, verifier, config(**keys))
    rows = {}
    for outcome in labeler.label_given({task.name: task.problem}, given(task, *texts), set()):
        assert isinstance(outcome, LabelRow), outcome
        rows[outcome.response_id] = outcome
    return [rows[f"r{i}"] for i in range(len(texts))]


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


def test_early_stop_neither_generates_nor_executes_the_rest(verifier: SandboxVerifier) -> None:
    task = chain("a", 2, error_rate=0.0)  # each completion of a good prefix passes
    policy = SimulatedPolicy([task])
    (row,) = label(policy, verifier, task, task.response([1]))
    # points: head, line 1, line 2, tail; line 2 is wrong
    assert [(p.num_steps, p.num_completions, p.num_passed) for p in row.probes] == [(3, 20, 0), (2, 2, 1)]
    assert [n for _, n, _ in policy.calls] == [2, 4, 8, 6, 2]
    seeds = [seed for _, _, seed in policy.calls]
    assert seeds[0] == seeds[4] and len(set(seeds[:4])) == 4  # by wave: a later wave must not draw the same again
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
    policy = SimulatedPolicy(tasks)
    labeler = Labeler(policy, verifier, config(responses_per_prompt=4))
    rows = list(labeler.label_sampled([task.problem for task in tasks], set()))
    assert len(rows) == 32
    searched = sum(len(row.probes) for row in rows if isinstance(row, LabelRow))
    assert len(policy.calls[0][0]) == 8 and policy.calls[0][1] == 4
    # 4 sizes (2, 4, 8, 6) at most, in at most 3 rounds of waves each of 4: far fewer calls than probes
    assert len(policy.calls) - 1 <= 4 * 4 * 3 < searched
    for prompts, _, _ in policy.calls:
        assert len(set(prompts)) == len(prompts)


def test_sampled_labels_do_not_depend_on_batches_or_resumption(verifier: SandboxVerifier) -> None:
    tasks = [chain(f"t{i}", 4, error_rate=0.3) for i in range(6)]
    problems = [task.problem for task in tasks]
    settings = config(responses_per_prompt=3, completions=6)

    def run(subset: Sequence[Problem], completed: set[tuple[str, str]]) -> list[Outcome]:
        return list(Labeler(SimulatedPolicy(tasks), verifier, settings).label_sampled(subset, completed))

    whole = run(problems, set())
    assert len({key[:2] for key in without_cost(whole)}) == 18
    assert without_cost(run(problems, set())) == without_cost(whole)
    one_by_one = [outcome for problem in reversed(problems) for outcome in run([problem], set())]
    assert without_cost(one_by_one) == without_cost(whole)
    completed = {(o.problem_id, o.response_id) for o in whole[:7]}
    assert without_cost([*whole[:7], *run(problems, completed)]) == without_cost(whole)
    other = list(
        Labeler(SimulatedPolicy(tasks), verifier, dataclasses.replace(settings, seed=5)).label_sampled(problems, set())
    )
    assert without_cost(other) != without_cost(whole)


def test_class_shares_follow_the_error_rate(verifier: SandboxVerifier) -> None:
    """Correct is (1 - error)^lines, up to sampling: 60 responses, 4 standard deviations."""
    tasks = [chain(f"t{i}", 3, error_rate=0.2) for i in range(12)]
    outcomes = Labeler(SimulatedPolicy(tasks), verifier, config(responses_per_prompt=5)).label_sampled(
        [task.problem for task in tasks], set()
    )
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
    labeler = Labeler(policy, verifier, config(responses_per_prompt=2))
    outcomes = list(labeler.label_sampled([long.problem, short.problem], set()))
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


class FlakyVerifier(SandboxVerifier):
    """The real verifier, whose judge has broken down for programs that hold a certain text."""

    broken = "never"

    def verify(self, problem: Problem, program: str, tests: Sequence[TestCase] | None = None) -> Verdict:
        if self.broken in program:
            return Verdict("infra_error", message="down")
        return super().verify(problem, program, tests)

    def verify_many(self, jobs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        return [self.verify(problem, program) for problem, program in jobs]


def test_unknown_verdicts_are_never_labels() -> None:
    task = chain("a", 4, error_rate=0.0)
    with FlakyVerifier(workers=1) as verifier:
        labeler = Labeler(SimulatedPolicy([task]), verifier, config(completions=3))
        responses = given(task, task.response([1]), task.response([3]), task.response())
        verifier.broken = "v = 3 * v + 3 + 1"  # the second response itself
        outcomes = {o.response_id: o for o in labeler.label_given({"a": task.problem}, responses, set())}
        assert isinstance(outcomes["r1"], Skipped) and "infra_error" in outcomes["r1"].reason
        assert isinstance(outcomes["r0"], LabelRow) and isinstance(outcomes["r2"], LabelRow)
        verifier.broken = "v = 3 * v + 1\n    v = 3 * v + 2\n    v = 3 * v + 3\n"  # what completes its good prefix
        outcomes = {o.response_id: o for o in labeler.label_given({"a": task.problem}, responses[:1], set())}
        assert isinstance(outcomes["r0"], Skipped)


def test_empty_and_fenced_responses(verifier: SandboxVerifier) -> None:
    task = chain("a", 3, error_rate=0.05)
    policy = SimulatedPolicy([task])
    empty, fenced = label(policy, verifier, task, "", f"Here:\n```python\n{task.response()}```\nDone.\n")
    assert (empty.response_class, empty.steps, empty.labels) == ("wrong", (), ())
    assert (fenced.response_class, fenced.labels) == ("correct", (1,) * 5)
    assert fenced.response[fenced.steps[0].start :].startswith("def f")


@pytest.mark.parametrize("keys", [{"completions": 0}, {"responses_per_prompt": 0}])
def test_counts_must_be_positive(verifier: SandboxVerifier, keys: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        Labeler(SimulatedPolicy([]), verifier, config(**keys))
