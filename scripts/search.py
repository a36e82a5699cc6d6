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
"""Answers problems by search, and judges the answers: `python scripts/search.py output=runs/search`"""

from __future__ import annotations

from pathlib import Path

from nemo_prm.config import SearchConfig
from nemo_prm.entry import script


@script(SearchConfig)
def main(config: SearchConfig) -> None:
    from contextlib import ExitStack

    from nemo_prm.data.problems import load_problems
    from nemo_prm.search.run import SearchRun
    from nemo_prm.search.strategies import needs_prm
    from nemo_prm.serving.client import RewardClient
    from nemo_prm.serving.generators import open_generator
    from nemo_prm.serving.verifier_client import open_verifier

    run = SearchRun(config, load_problems(config.problems, config.split, config.limit))
    with ExitStack() as stack:
        generator = stack.enter_context(open_generator(config.generator))
        verifier = stack.enter_context(open_verifier(config.sandbox, pass_rates=config.by != "prm"))
        scorer = None
        if needs_prm(config.strategy, config):
            scorer = stack.enter_context(RewardClient(config.reward))
            if config.inputs != "lines":
                scorer.require_all_lines()
        run.answer(generator, verifier, scorer, scorer.name if scorer else "")
        results = run.judge(verifier)
    print(run.as_table(results))
    print(Path(config.output) / "results.json")


if __name__ == "__main__":
    main()
