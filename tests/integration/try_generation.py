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
"""Completions of the embedded policy as JSON, beside those of NeMo's own `generate`.

A process of its own, since Megatron's process groups cannot be set up twice in one.
"""

from __future__ import annotations

import json
from typing import Any

from nemo_prm.data.embedded import policy_path
from nemo_prm.data.embedded.chains import policy_texts
from nemo_prm.megatron import compat
from nemo_prm.types import SamplingParams

NEW_TOKENS = 80


def prompts() -> list[str]:
    """Prompts of several lengths; the later ones hold the start of a response, cut after a line or an indentation."""
    texts = [text for text, _ in zip(policy_texts(5), range(8))]
    cuts = [0, 0, 0, 0, 1, 2, 2, 1]
    return [prompt + "".join(response.splitlines(True)[:cut]) for (prompt, response), cut in zip(texts, cuts)] + [
        texts[0][0] + "def ",
        texts[1][0] + texts[1][1].splitlines(True)[0] + "    ",
    ]


def nemo_generate(model: Any, texts: list[str]) -> list[list[int]]:
    """Greedy continuations by NeMo: token ids, the prompt's included, as many as the longest prompt allows."""
    from nemo.collections.nlp.modules.common.text_generation_strategy import GPTModelTextGenerationStrategy
    from nemo.collections.nlp.modules.common.text_generation_utils import generate

    output = generate(
        model,
        texts,
        strategy=GPTModelTextGenerationStrategy(model),
        tokens_to_generate=NEW_TOKENS,
        compute_logprob=False,
        add_BOS=False,
        greedy=True,
        repetition_penalty=1.0,
        end_strings=["<|endoftext|>"],
    )
    return list(output["token_ids"])


def main() -> None:
    compat.apply()
    from nemo_prm.megatron.generation import MegatronGenerator
    from nemo_prm.megatron.policy import load_policy

    texts = prompts()
    model = load_policy(policy_path())
    nemo_ids = nemo_generate(model, texts)  # first: the generator changes how the model caches its keys
    generator = MegatronGenerator(model, "embedded", max_batch=7)
    tokenizer = generator.tokenizer
    greedy = generator.generate(texts, 1, SamplingParams(temperature=0.0, max_new_tokens=NEW_TOKENS), seed=0)
    params = SamplingParams(max_new_tokens=NEW_TOKENS)
    sampled = generator.generate(texts, 3, params, seed=3)

    nemo = []  # cut to what was asked for, and at the end of text
    for text, ids in zip(texts, nemo_ids):
        start = len(tokenizer.text_to_ids(text))
        new = ids[start : start + NEW_TOKENS]
        stopped = tokenizer.eos_id in new
        new = new[: new.index(tokenizer.eos_id) + 1] if stopped else new
        whole = tokenizer.ids_to_text(ids[:start] + (new[:-1] if stopped else new))
        nemo.append({"whole": whole, "num_tokens": len(new), "finish_reason": "stop" if stopped else "length"})
    result = {
        "prompts": texts,
        "nemo": nemo,
        "greedy": [vars(row[0]) for row in greedy],
        "sampled": [[vars(completion) for completion in row] for row in sampled],
        "alone": [[vars(c) for c in generator.generate([text], 3, params, seed=3)[0]] for text in texts],
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
