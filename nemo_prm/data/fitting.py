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
"""Completions of prompts of which some may not fit."""

from __future__ import annotations

from typing import Sequence

from nemo_prm.errors import PromptTooLongError
from nemo_prm.protocols import Generator
from nemo_prm.types import Completion, SamplingParams


def generate_fitting(
    generator: Generator, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
) -> tuple[dict[int, list[Completion]], set[int]]:
    """Draw completions for the prompts that fit into the policy's context.

    Returns:
        Completions by index of the prompt, ascending, and the indices of the prompts that do not fit.
    """
    try:
        return dict(enumerate(generator.generate(prompts, n, params, seed, first))), set()
    except PromptTooLongError as error:
        refused = set(error.indices)
        if not refused:
            raise
    fitting = [i for i in range(len(prompts)) if i not in refused]
    drawn = generator.generate([prompts[i] for i in fitting], n, params, seed, first) if fitting else []
    return dict(zip(fitting, drawn)), refused
