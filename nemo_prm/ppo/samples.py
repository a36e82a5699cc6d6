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
"""Responses of a PPO step as a reader wants them: line by line, with score, reward and advantage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import torch

from nemo_prm.data.alignment import step_end_tokens
from nemo_prm.data.jsonl import write_jsonl
from nemo_prm.data.steps import split_lines
from nemo_prm.metrics import finite_or_null
from nemo_prm.ppo.batch import rollout_rows
from nemo_prm.rewards.monitors import Rollout


def samples_file(output: Path, step: int) -> Path:
    """Where the responses of a step are; a step that is run again replaces its own."""
    return output / "rollouts" / f"step_{step:06d}.jsonl"


def write_samples(
    output: Path, step: int, rows: Mapping[str, torch.Tensor], rollouts: Sequence[Rollout], client: Any, limit: int
) -> None:
    """Write down up to `limit` responses of a step.

    Args:
        output: folder of the run.
        step: of PPO.
        rows: as `rollout_rows` reads them; and rewards and advantages float [B, S-1] (as trained on), is_end bool [B].
        rollouts: of this rank, with their scores. The host shuffles responses over data-parallel ranks: one whose
            scores another rank has is passed over.
        client: a `nemo_prm.ppo.client.DenseRewardClient`.
        limit: responses.
    """
    known = {(rollout.problem_id, rollout.text, rollout.num_tokens): rollout for rollout in rollouts}
    samples: list[dict[str, Any]] = []
    for row, found in enumerate(rollout_rows(rows)):
        problem = client.problems[found.problem_index]
        text = client.judge.response(found.response)
        rollout = known.get((problem.problem_id, text, len(found.response)))
        if rollout is None or len(samples) == limit:
            continue
        pieces = [client.judge.pieces[token] for token in found.response]
        text = b"".join(pieces).decode(errors="surrogateescape")  # a policy may write what is no UTF-8
        steps = split_lines(text, rollout.language, problem.prompt)
        ends = step_end_tokens(pieces, steps, text)
        lines = [
            {
                "text": text[each.start : each.end].encode(errors="surrogateescape").decode(errors="replace"),
                "kind": each.kind,
                "score": rollout.line_scores.get(end),
                "reward": float(rows["rewards"][row, found.prompt_length + end - 1]),
                "advantage": float(rows["advantages"][row, found.prompt_length + end - 1]),
            }
            for each, end in zip(steps, ends)
        ]
        samples.append(
            {
                "step": step,
                "problem_id": problem.problem_id,
                "prompt": problem.prompt,
                "response": rollout.text,
                "outcome": rollout.outcome,
                "ended": bool(rows["is_end"][row]),
                "num_tokens": rollout.num_tokens,
                "lines": lines,
            }
        )
    path = samples_file(output, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, (finite_or_null(sample) for sample in samples))
