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
"""Labels responses line by line with the policy behind a generation server: `python scripts/label.py output=...`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from nemo_prm.config import GeneratorConfig, LabelConfig
from nemo_prm.entry import script

if TYPE_CHECKING:
    from nemo_prm.serving.client import GenerationClient
    from nemo_prm.types import Completion, SamplingParams


class LazyGenerator:
    """The policy's client, made when it is first needed: given responses that all pass need no policy."""

    def __init__(self, config: GeneratorConfig) -> None:
        self.name = ""
        self._config = config
        self._client: GenerationClient | None = None

    def generate(self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int) -> list[list[Completion]]:
        if self._client is None:
            from nemo_prm.serving.client import GenerationClient

            self._client = GenerationClient(self._config)
            self.name = self._client.name
        completions: list[list[Completion]] = self._client.generate(prompts, n, params, seed)
        return completions

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


@script(LabelConfig)
def main(config: LabelConfig) -> None:
    from contextlib import closing

    from nemo_prm.data.problems import load_problems, load_responses
    from nemo_prm.labeling.run import restrict, run_labeling
    from nemo_prm.labeling.store import LabelStore, label_settings
    from nemo_prm.serving.verifier_client import open_verifier

    problems = load_problems(config.problems, config.split)
    responses = None if config.responses is None else load_responses(config.responses)
    settings = label_settings(config, problems)
    problems, responses = restrict(problems, responses, config.limit)
    with (
        LabelStore(config.output, settings) as store,
        open_verifier(config.sandbox) as verifier,
        closing(LazyGenerator(config.generator)) as generator,
    ):
        summary = run_labeling(problems, responses, generator, verifier, store, config)
    path = Path(f"{config.output}.summary.json")
    path.write_text(json.dumps(summary.as_json(), indent=2) + "\n", encoding="utf-8")
    print(summary.as_table())
    print(config.output)


if __name__ == "__main__":
    main()
