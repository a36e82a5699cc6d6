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
"""What can be looked at in the report, one by one: labelled responses, rollouts of PPO, answers of a search.

An item is a JSON object: source, id, group (what it is filtered by), prompt, lines, notes; where there are some also
probes and candidates. A line is [text, label, score, reward, advantage], numbers null where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from nemo_prm.data.jsonl import read_json, read_jsonl
from nemo_prm.data.steps import scored_line_ends
from nemo_prm.data.thoughts import thoughts_of
from nemo_prm.evaluation.ppo_runs import PPORun
from nemo_prm.types import LabelRow, Verdict

Item = dict[str, Any]


@dataclass(frozen=True)
class SearchRunFiles:
    """What a search job has written."""

    name: str
    answers: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    inputs: str | None = None  # what the PRM read; unknown of answers without settings


def read_search(folder: Path, limit: int, name: str) -> SearchRunFiles:
    """Read `output` of a search, to be called `name`.

    Raises:
        DataError: it holds no answers, or no results because it has not ended.
    """
    answers = [value for _, value in read_jsonl(folder / "answers.jsonl")][:limit]
    settings = read_json(folder / "settings.json") if (folder / "settings.json").exists() else {}
    return SearchRunFiles(name, answers, read_json(folder / "results.json"), settings.get("inputs"))


def label_items(rows: Sequence[LabelRow], scores: Mapping[tuple[str, str], Sequence[float]]) -> Iterator[Item]:
    """Items of label rows; `scores` of their steps by (problem_id, response_id)."""
    for row in rows:
        found = scores.get((row.problem_id, row.response_id))
        if found is not None and len(found) != len(row.steps):
            found = None  # of the response as it was cut for another PRM (its thoughts alone)
        steps = [
            (step.start, step.end, row.labels[i], None if found is None else found[i])
            for i, step in enumerate(row.steps)
        ]
        cost = row.cost
        yield {
            "source": "labels",
            "id": f"{row.problem_id}, {row.response_id}",
            "group": row.response_class,
            "prompt": row.prompt,
            "lines": _lines(row.response, steps),
            "notes": [
                ["Verdict", _verdict(row.verdict)],
                ["Difficulty", row.difficulty or "unrated"],
                ["Sampled from", row.checkpoint or "unknown"],
                ["Cost", f"{cost.completions} completions, {cost.tokens} tokens, {cost.executions} runs"],
                ["Made by", f"generator {row.generator}, sandbox {row.sandbox}, seed {row.seed}"],
            ],
            "probes": _probes(row),
        }


def _lines(response: str, steps: Sequence[tuple[int, int, float, float | None]]) -> list[list[Any]]:
    """Cut the response into its lines, each with the label and score of the step that covers its first code point."""
    lines: list[list[Any]] = []
    start, step = 0, 0
    for text in response.removesuffix("\n").split("\n"):
        while step < len(steps) and steps[step][1] <= start:
            step += 1
        covered = step < len(steps) and steps[step][0] <= start
        lines.append([text, *(steps[step][2:] if covered else (None, None)), None, None])
        start += len(text) + 1
    return lines


def _probes(row: LabelRow) -> list[Item]:
    """What was asked about each prefix, and, where they were kept, the programs that were run for the answer."""
    texts: dict[int, list[list[Any]]] = {}
    for each in row.derivations:
        texts.setdefault(each.num_steps, []).append([each.completion, each.pass_rate, each.feedback])
    return [
        {
            "steps": probe.num_steps,
            "line": row.response.count("\n", 0, row.steps[probe.num_steps - 1].end - 1) + 1,
            "drawn": probe.num_completions,
            "passed": probe.num_passed,
            "completions": texts.get(probe.num_steps, []),
        }
        for probe in row.probes
    ]


def _verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return "none in the row"
    parts = [f"{verdict.status}: {verdict.num_passed} of {verdict.num_tests} tests passed in {verdict.seconds:.2f} s"]
    if verdict.failing_test is not None:
        parts.append(f"first failing test: number {verdict.failing_test + 1}")
    if verdict.expected is not None:
        parts.append(f"expected {verdict.expected}")
    if verdict.actual is not None:
        parts.append(f"got {verdict.actual}")
    return "\n".join([*parts, *([verdict.message] if verdict.message else [])])


def ppo_items(runs: Sequence[PPORun]) -> Iterator[Item]:
    """Items of the sample rollouts of PPO runs."""
    for run in runs:
        for sample in run.samples:
            outcome = sample["outcome"]
            group = "unknown" if outcome is None else "passed" if outcome >= 1 else "failed"
            yield {
                "source": f"PPO {run.name}",
                "id": f"step {sample['step']}, {sample['problem_id']}",
                "group": group,
                "prompt": sample["prompt"],
                "lines": [
                    [line["text"].removesuffix("\n"), None, line["score"], line["reward"], line["advantage"]]
                    for line in sample["lines"]
                ],
                "notes": [
                    ["Outcome", group if outcome is None else f"{group} ({outcome:g})"],
                    ["Length", f"{sample['num_tokens']} tokens" + ("" if sample["ended"] else ", cut off")],
                ],
            }


def search_items(searches: Sequence[SearchRunFiles]) -> Iterator[Item]:
    """Items of the answers of searches; the score of a thought stands at its last line."""
    for search in searches:
        verdicts = search.results.get("verdicts", {})
        for answer in search.answers:
            response, candidates = answer["response"], answer["candidates"]
            chosen = next((each for each in candidates if each["response"] == response), None)
            group, prompt = verdicts.get(answer["problem_id"], "unknown"), answer.get("prompt", "")
            yield {
                "source": f"search {search.name}",
                "id": answer["problem_id"],
                "group": group,
                "prompt": prompt,
                "lines": _scored_lines(chosen or {"response": response, "scores": None}, search.inputs, prompt),
                "notes": [
                    ["Verdict of the hidden tests", group],
                    ["Public tests", _public(chosen or {}) or "not run"],
                    ["Cost", f"{answer['completions']} completions, {answer['tokens']} tokens"],
                ],
                "candidates": [
                    {
                        "chosen": each["response"] == response,
                        "refines": each.get("refines"),
                        "kept": each.get("kept"),
                        "public": _public(each),
                        "lines": _scored_lines(each, search.inputs, prompt),
                    }
                    for each in candidates
                ],
            }


def _public(candidate: Mapping[str, Any]) -> str:
    return candidate.get("feedback") or candidate.get("public_tests") or ""


def _scored_lines(candidate: Mapping[str, Any], inputs: str | None, prompt: str) -> list[list[Any]]:
    """Lines with the scores of lines, or of thoughts at their last line."""
    response, scores = candidate["response"], candidate["scores"]
    lines = response.removesuffix("\n").split("\n")
    found: list[list[Any]] = [[text, None, None, None, None] for text in lines]
    if scores is None:
        return found
    thoughts = [step.end for step in thoughts_of(response, "python", prompt)]
    if inputs is None:
        inputs = "thoughts" if len(thoughts) == len(scores) else "lines"
    ends = scored_line_ends(response, len(scores), prompt) if inputs == "lines" else thoughts
    if ends is not None and len(ends) == len(scores):
        for end, score in zip(ends, scores):
            found[response.count("\n", 0, end - 1)][2] = score
    return found


def read_scores(folder: Path) -> dict[tuple[str, str], Sequence[float]]:
    """Scores of steps by (problem_id, response_id), as `evaluate_prm` writes them."""
    rows = (value for _, value in read_jsonl(folder / "scores.jsonl"))
    return {(row["problem_id"], row["response_id"]): row["scores"] for row in rows if row["scores"] is not None}
