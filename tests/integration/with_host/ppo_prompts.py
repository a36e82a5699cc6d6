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
"""Which problems a step of PPO is of: whole steps, and all problems in the long run."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from nemo_prm.megatron import compat
from nemo_prm.types import Problem


def settings(num_problems: int, step: int, micro: int, rank: int, ranks: int, number: int) -> dict[str, Any]:
    compat.apply()
    from nemo_prm.ppo.prompts import ProblemPrompts

    tokenizer = SimpleNamespace(text_to_ids=lambda text: [1])
    problems = [Problem(str(i), "", ()) for i in range(num_problems)]
    return {
        "total_samples": len(ProblemPrompts(problems, tokenizer, 1, step)),
        "consumed_samples": number * step,
        "micro_batch_size": micro,
        "data_parallel_rank": rank,
        "data_parallel_size": ranks,
        "global_batch_size": step,
        "seed": 5,
    }


def problems_of(num_problems: int, step: int, micro: int, ranks: int, number: int) -> list[int]:
    """Of step `number`; each is sampled anew, as the host's trainers do."""
    compat.apply()
    from nemo_prm.ppo.prompts import PromptSampler

    found = []
    for rank in range(ranks):
        sampler = PromptSampler(num_problems, **settings(num_problems, step, micro, rank, ranks, number))
        for batch in islice(sampler, step // (micro * ranks)):
            found += batch
    return found


@pytest.mark.parametrize(("num_problems", "micro", "ranks"), [(164, 128, 1), (164, 16, 1), (150, 16, 2), (400, 32, 2)])
def test_steps_are_whole_and_none_of_the_problems_is_left_out(num_problems: int, micro: int, ranks: int) -> None:
    steps = [problems_of(num_problems, 128, micro, ranks, number) for number in range(40)]
    assert all(len(step) == len(set(step)) == 128 for step in steps)
    counts = Counter(problem for step in steps for problem in step)
    assert set(counts) == set(range(num_problems))
    assert max(counts.values()) - min(counts.values()) <= 40 * 128 // num_problems // 4 + 2


def test_few_problems_take_turns_at_being_in_a_step_twice() -> None:
    steps = [problems_of(100, 128, 32, 2, number) for number in range(25)]
    assert all(len(step) == 128 and len(set(step)) == 100 for step in steps)
    assert set(Counter(problem for step in steps for problem in step).values()) == {32}


def test_the_first_epoch_is_the_hosts() -> None:
    from nemo.collections.nlp.data.language_modeling.megatron.data_samplers import MegatronPretrainingRandomSampler

    host = MegatronPretrainingRandomSampler(**settings(300, 128, 128, 0, 1, 1))
    assert problems_of(300, 128, 128, 1, 1) == next(iter(host))
