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
"""The embedded policy, used as a user does: run as a script in a process of its own, prints one JSON object."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from nemo_prm.data.embedded import policy_path
from nemo_prm.data.problems import load_problems
from nemo_prm.data.thoughts import with_thoughts
from nemo_prm.megatron import compat
from nemo_prm.types import SamplingParams

TEXT = "    v = v[::-1]\n\n\t# \u00e9\u2581 \U0001f600  \n"


def passes(program: str, problem: Any) -> bool:
    """Run a program of the embedded policy on the hidden tests, in this process."""
    space: dict[str, Any] = {}
    try:
        exec(program, space)
        return all(space["solve"](*json.loads(json.dumps(test.args))) == test.expected for test in problem.tests)
    except Exception:  # whatever a wrong program may raise
        return False


def pass_rates(model: Any, temperature: float, problems: list[Any]) -> dict[str, float]:
    from nemo_prm.megatron.generation import MegatronGenerator

    params = SamplingParams(temperature=temperature, max_new_tokens=200)
    answers = MegatronGenerator(model, "policy").generate([problem.prompt for problem in problems], 1, params, seed=1)
    passed: dict[str, list[bool]] = {"all": []}
    for problem, (completion,) in zip(problems, answers):
        verdict = passes(completion.text, problem)
        passed["all"].append(verdict)
        passed.setdefault(problem.difficulty, []).append(verdict)
    return {level: sum(verdicts) / len(verdicts) for level, verdicts in passed.items()}


def thinks(model: Any, problems: list[Any]) -> dict[str, float]:
    """Shares of the responses with a thought per operation, and of the lines that are as it was thought."""
    from nemo_prm.megatron.generation import MegatronGenerator

    params = SamplingParams(temperature=0.2, max_new_tokens=400)
    prompts = [with_thoughts(problem).prompt for problem in problems]
    whole, same = [], []
    for problem, (answer,) in zip(problems, MegatronGenerator(model, "p").generate(prompts, 1, params, seed=1)):
        said = re.findall(r"^Thought \d+: take (.+?) to ", answer.text, re.MULTILINE)
        lines = re.findall(r"^    v = (.+)  # \d+$", answer.text, re.MULTILINE)
        whole.append(len(said) == problem.extra["num_operations"] and "```python\ndef solve(v):\n" in answer.text)
        same += [one == other for one, other in zip(said, lines)]
    return {"thought_per_operation": sum(whole) / len(whole), "lines_as_thought": sum(same) / max(len(same), 1)}


def host_generates(model: Any, prompt: str) -> dict[str, Any]:
    """What NeMo's own `generate` answers, and how many tokens it took until its one end string stopped it."""
    from nemo.collections.nlp.modules.common.text_generation_strategy import GPTModelTextGenerationStrategy

    sampling = {"use_greedy": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    flags = {"add_BOS": False, "all_probs": False, "compute_logprob": False, "end_strings": ["<|endoftext|>"]}
    output = model.generate(
        inputs=[prompt],
        length_params={"min_length": 1, "max_length": 200},
        sampling_params={**sampling, **flags},
        strategy=GPTModelTextGenerationStrategy(model),
    )
    return {"text": output["sentences"][0], "length": len(output["token_ids"][0])}


def main() -> None:
    compat.apply()
    from nemo_prm.megatron.policy import load_policy

    model = load_policy(Path(sys.argv[1]) if len(sys.argv) > 1 else policy_path())
    tokenizer = model.tokenizer
    problems = load_problems("embedded", "test")
    if len(sys.argv) > 2:
        print(json.dumps(thinks(model, problems[:60])))
        return
    print(
        json.dumps(
            {
                "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
                "vocabulary": [tokenizer.vocab_size, model.padded_vocab_size],
                "context": model.cfg.encoder_seq_length,
                "round_trip": tokenizer.ids_to_text(tokenizer.text_to_ids(TEXT)) == TEXT,
                "pass_at_1": pass_rates(model, 0.2, problems),
                "host": host_generates(model, problems[0].prompt),
                "prompt": problems[0].prompt,
            }
        )
    )


if __name__ == "__main__":
    main()
