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
"""Estimates pass@k of the policy behind a generation server: `python scripts/evaluate.py output=runs/evaluation`."""

from __future__ import annotations

import json
from pathlib import Path

from nemo_prm.config import EvaluateConfig
from nemo_prm.entry import script


@script(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    from nemo_prm.data.jsonl import write_json
    from nemo_prm.data.problems import load_problems
    from nemo_prm.data.thoughts import with_thoughts
    from nemo_prm.evaluation.evaluate import Sample, evaluate
    from nemo_prm.serving.generators import open_generator
    from nemo_prm.serving.verifier_client import open_verifier

    problems = load_problems(config.problems, config.split, config.limit)
    if config.think:
        problems = [with_thoughts(problem) for problem in problems]
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    samples, results = output / "samples.jsonl", output / "results.json"
    partial = samples.with_suffix(".partial")  # both files appear together, when all is done
    with (
        open_generator(config.generator) as generator,
        open_verifier(config.sandbox) as verifier,
        partial.open("w", encoding="utf-8") as file,
    ):

        def write(sample: Sample) -> None:
            file.write(json.dumps({"checkpoint": config.checkpoint, **sample._asdict()}) + "\n")
            file.flush()

        result = evaluate(problems, generator, verifier, config, on_sample=write)
    results.unlink(missing_ok=True)
    partial.replace(samples)
    write_json(results, result.as_json(config))
    print(result.as_table())
    print(f"{results}: {result.num_samples} samples in {result.seconds:.1f} s")


if __name__ == "__main__":
    main()
