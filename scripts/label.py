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

import sys
from pathlib import Path

from nemo_prm.config import LabelConfig, RewardClientConfig
from nemo_prm.entry import script


@script(LabelConfig)
def main(config: LabelConfig) -> None:
    from contextlib import ExitStack

    from nemo_prm.data.jsonl import write_json
    from nemo_prm.data.problems import load_problems, load_responses
    from nemo_prm.data.thoughts import with_thoughts
    from nemo_prm.errors import GeneratorError
    from nemo_prm.labeling.cache import Cache
    from nemo_prm.labeling.labeler import resolve
    from nemo_prm.labeling.run import restrict, run_labeling
    from nemo_prm.labeling.shards import parse_shard, shard_of, shard_path
    from nemo_prm.labeling.store import LabelStore, label_settings, summary_path
    from nemo_prm.serving.client import RewardClient
    from nemo_prm.serving.generators import open_generator
    from nemo_prm.serving.verifier_client import open_verifier

    config = resolve(config)
    problems = load_problems(config.problems, config.split)
    if config.think:
        problems = [with_thoughts(problem) for problem in problems]
    responses = None if config.responses is None else load_responses(config.responses)
    settings = label_settings(config, problems)
    problems, responses = restrict(problems, responses, config.limit)
    output = Path(config.output)
    if config.shard is not None:
        shard = parse_shard(config.shard)
        problems, responses = shard_of(problems, responses, shard)
        output = shard_path(output, shard)
    with ExitStack() as stack:
        store = stack.enter_context(LabelStore(output, settings))
        cache = stack.enter_context(Cache(config.cache or f"{output}.cache"))
        verifier = stack.enter_context(open_verifier(config.sandbox, pass_rates=config.search == "every"))
        generator = stack.enter_context(open_generator(config.generator))
        scorer = None
        if config.prm_url is not None:
            scorer = stack.enter_context(RewardClient(RewardClientConfig(url=config.prm_url)))
        summary_path(output).unlink(missing_ok=True)  # that of an earlier run says nothing about this one's end
        try:
            summary = run_labeling(problems, responses, generator, verifier, store, config, cache, scorer)
        except GeneratorError as error:
            saved = f"{len(store.rows)} responses are labelled in {output}; the same command goes on from there"
            raise GeneratorError(f"{error} ({saved})") from error
    write_json(summary_path(output), {"shard": config.shard, "limit": config.limit, **summary.as_json()})
    print(summary.as_table())
    print(f"{output}; what was skipped: {output}.skipped" if summary.skipped else output)
    if summary.signal is not None:
        sys.exit(128 + summary.signal)


if __name__ == "__main__":
    main()
