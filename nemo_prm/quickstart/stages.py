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
"""The table of stages of the quickstart."""

from __future__ import annotations

from typing import Any, Callable

from nemo_prm.config import QuickstartConfig
from nemo_prm.pipeline.stage import Overrides, Server, Stage, critic, evaluation, generation, reward
from nemo_prm.quickstart.problems import ProblemSets

SEARCHED = 40  # problems


def pipeline(
    config: QuickstartConfig,
    sets: ProblemSets,
    policy: str,
    choose_strategy: Callable[[], Overrides],
    choose_rows: Callable[[], Overrides],
) -> list[Stage]:
    """The quickstart, in the order in which it runs.

    Args:
        config: sizes and strategy.
        sets: training and held-out problems.
        policy: path of the `.nemo` to start from.
        choose_strategy: overrides of `select_data` that depend on the labels.
        choose_rows: overrides of `evaluate_prm`: the rows that the PRM was not trained on.
    """
    labels, prm = "{run}/label/labels.jsonl", "{run}/train_prm/prm.nemo"
    files = (policy, *sets.files)
    policy_server, trained = generation("policy", policy), generation("rl_prm", "{run}/rl_prm/policy.nemo")
    return [
        Stage(
            "label",
            "sample responses, run the unit tests, find the first bad line by binary search",
            "label",
            {
                **sets.train,
                "output": labels,
                "search": "halve",  # with so few responses the other order learns too late, and waits for it
                "keep_completions": True,
                "limit": config.label_problems,
                "responses_per_prompt": config.responses_per_prompt,
                "completions": config.completions,
                "sandbox.minimum_level": config.minimum_level,
                "generator.url": "http://127.0.0.1:{generation}",
            },
            outputs=(labels,),
            files=files,
            servers=(policy_server,),
            resumable=True,
        ),
        evaluate(config, sets, "policy", policy_server, files=files),
        Stage(
            "select_data",
            "choose the labelled responses that train the PRM",
            "select_data",
            {"labels": [labels], "output": "{run}/select_data", "exclude_problems": sets.excluded},
            outputs=("{run}/select_data/train.jsonl", "{run}/select_data/validation.jsonl"),
            after=("label",),
            files=sets.files,
            decide=choose_strategy,
        ),
        Stage(
            "train_prm",
            "train the process reward model",
            "train_prm",
            {"data": "{run}/select_data", "policy": policy, "output": "{run}/train_prm"},
            outputs=(prm,),
            after=("select_data",),
            files=(policy,),
        ),
        Stage(
            "rl",
            "PPO with unit tests alone",
            "train_ppo",
            {**ppo(config, sets, policy, "rl"), "dense_reward": False},
            outputs=("{run}/rl/policy.nemo",),
            files=files,
            servers=(critic("rl", policy, value_init="none"),),
        ),
        evaluate(config, sets, "rl", generation("rl", "{run}/rl/policy.nemo"), after=("rl",)),
        Stage(
            "rl_prm",
            "PPO with unit tests, the PRM's line rewards, and the critic started from the PRM",
            "train_ppo",
            {**ppo(config, sets, policy, "rl_prm"), "dense_reward": True, "reward.port": "{reward}"},
            outputs=("{run}/rl_prm/policy.nemo",),
            after=("train_prm",),
            files=files,
            servers=(reward("rl_prm", prm), critic("rl_prm", prm, value_init="full")),
        ),
        Stage(
            "evaluate_prm",
            "how well the PRM scores lines that it was not trained on",
            "evaluate_prm",
            {"output": "{run}/evaluate_prm", "reward.url": "http://127.0.0.1:{reward}"},
            outputs=("{run}/evaluate_prm/results.json",),
            after=("select_data", "train_prm"),
            servers=(reward("rl_prm", prm),),
            decide=choose_rows,
        ),
        Stage(
            "search",
            "the best of 4 responses by the PRM, of held-out problems",
            "search",
            {
                **sets.held_out,
                "output": "{run}/search",
                "limit": SEARCHED if config.evaluate_problems is None else min(SEARCHED, config.evaluate_problems),
                "by": "prm",
                "budget": 4,
                "generator.url": "http://127.0.0.1:{generation}",
                "reward.url": "http://127.0.0.1:{reward}",
                "sandbox.minimum_level": config.minimum_level,
            },
            outputs=("{run}/search/results.json",),
            after=("rl_prm",),
            files=sets.files,
            servers=(reward("rl_prm", prm), trained),
        ),
        evaluate(config, sets, "rl_prm", trained, after=("rl_prm",)),
        Stage(
            "report",
            "write the HTML report",
            "report",
            {
                "labels": [labels],
                "output": "{run}/report.html",
                "summary": "{run}/summary.json",
                "ppo": ["{run}/rl", "{run}/rl_prm"],
                "prm": "{run}/evaluate_prm",
                "search": ["{run}/search"],
            },
            outputs=("{run}/report.html",),
            after=("label", "evaluate_prm", "search", *map(evaluation_of, POLICIES)),
        ),
    ]


POLICIES = {"policy": "policy", "rl": "RL without PRM", "rl_prm": "RL with PRM"}  # the keys of pass_at_1


def evaluation_of(policy: str) -> str:
    return f"evaluate_{policy}"


def evaluate(
    config: QuickstartConfig,
    sets: ProblemSets,
    policy: str,
    server: Server,
    files: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
) -> Stage:
    sizes = {
        **sets.held_out,
        "limit": config.evaluate_problems,
        "samples": config.evaluate_samples,
        "sandbox.minimum_level": config.minimum_level,
    }
    return evaluation(policy, POLICIES[policy], sizes, server, (*sets.files, *files), after)


def ppo(config: QuickstartConfig, sets: ProblemSets, policy: str, stage: str) -> dict[str, Any]:
    return {
        **sets.train,
        "policy": policy,
        "output": f"{{run}}/{stage}",
        "critic.port": "{critic}",
        "sandbox.minimum_level": config.minimum_level,
        "trainer.ppo.max_steps": config.ppo_steps,
        "trainer.ppo.save_interval": config.ppo_steps,
    }
