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
"""The stages of the study: a baseline run, its labels, PRMs; for each arm and seed a training and an evaluation."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Sequence

from nemo_prm.config import StudyConfig
from nemo_prm.data.embedded import split_path
from nemo_prm.pipeline.stage import Server, Stage, critic, evaluation, generation, reward
from nemo_prm.study.arms import LABELS, PRMS, Arm

CHECKPOINTS = 4  # of the baseline's run, evenly spaced; PSGPO, section 4.1


class Cell(NamedTuple):
    """An arm with a seed."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}_seed_{self.seed}"

    @property
    def evaluation(self) -> str:
        return f"evaluate_{self.name}"


def study_stages(config: StudyConfig, policy: str, cells: Sequence[tuple[Cell, Arm]]) -> list[Stage]:
    """All that these cells need, each stage after those that it uses.

    Args:
        config: sizes.
        policy: path of the `.nemo` that every arm starts from.
        cells: to run, in this order.
    """
    prms = [name for name in PRMS if name in {arm.prm for _, arm in cells}]
    labels = [name for name in LABELS if name in {PRMS[prm].labels for prm in prms} | ({"label"} if prms else set())]
    stages = list(_baseline(config, policy)) if labels else []
    for name in labels:
        stages.append(_label(config, policy, name, stages))
    for name in prms:
        stages += _prm(config, policy, name)
    for cell, arm in cells:
        stages += _cell(config, policy, cell, arm)
    return stages


def ancestors(stages: Sequence[Stage], name: str) -> list[Stage]:
    """The stages that `name` needs, itself last."""
    by_name = {stage.name: stage for stage in stages}
    needed, frontier = {name}, [name]
    while frontier:
        found = set(by_name[frontier.pop()].after) - needed
        needed |= found
        frontier += found
    return [stage for stage in stages if stage.name in needed]


def _train(config: StudyConfig, name: str, policy: str, seed: int, steps: int) -> dict[str, Any]:
    return {
        "problems": "embedded",
        "split": "train",
        "policy": policy,
        "output": f"{{run}}/{name}",
        "rollout_samples": 0,
        "sandbox.minimum_level": config.minimum_level,
        "trainer.ppo.max_steps": steps,
        "trainer.ppo.save_interval": steps,
        "model.seed": seed,
    }


def _baseline(config: StudyConfig, policy: str) -> Iterable[Stage]:
    """The baseline's checkpoints: runs of one seed that end at evenly spaced steps, each the beginning of the next."""
    for number in range(1, CHECKPOINTS):
        steps = max(1, config.steps * number // (CHECKPOINTS - 1))
        name = f"baseline_{number}"
        yield Stage(
            name,
            f"the baseline's run, up to step {steps}",
            "train_ppo",
            {
                **_train(config, name, policy, config.baseline_seed, steps),
                "dense_reward": False,
                "critic.port": "{critic}",
            },
            outputs=(f"{{run}}/{name}/policy.nemo",),
            files=(policy, str(split_path("train"))),
            servers=(critic(name, policy, "none", {"model.seed": config.baseline_seed}),),
        )


def _label(config: StudyConfig, policy: str, name: str, before: Sequence[Stage]) -> Stage:
    labels = LABELS[name]
    baseline = [stage.outputs[0] for stage in before if stage.name.startswith("baseline_")]
    checkpoints = [policy, *baseline] if labels.all_checkpoints else baseline[-1:]
    return Stage(
        name,
        "label responses of the baseline's checkpoints",
        "label",
        {
            "output": f"{{run}}/{name}/labels.jsonl",
            "cache": "{run}/label/completions.cache",  # in all kinds of labels much is the same
            "checkpoints": checkpoints,
            "limit": config.label_problems,
            "responses_per_prompt": 1,
            "completions": config.completions,
            "sandbox.minimum_level": config.minimum_level,
            "generator.url": "http://127.0.0.1:{generation}",
            **labels.overrides,
        },
        outputs=(f"{{run}}/{name}/labels.jsonl",),
        after=tuple(stage.name for stage in before),  # one at a time, because of the cache
        files=(policy, str(split_path("train"))),
        servers=(generation(name, policy),),
        resumable=True,
    )


def _prm(config: StudyConfig, policy: str, name: str) -> Iterable[Stage]:
    prm = PRMS[name]
    data = f"data_{name}"
    yield Stage(
        data,
        f"choose the labelled responses of {name}",
        "select_data",
        {"labels": [f"{{run}}/{prm.labels}/labels.jsonl"], "output": f"{{run}}/{data}", "strategy": prm.strategy},
        outputs=(f"{{run}}/{data}/train.jsonl", f"{{run}}/{data}/validation.jsonl"),
        after=(prm.labels,),
    )
    yield Stage(
        name,
        f"train {name}",
        "train_prm",
        {"data": f"{{run}}/{data}", "policy": policy, "output": f"{{run}}/{name}", "loss": prm.loss},
        outputs=(f"{{run}}/{name}/prm.nemo",),
        after=(data,),
        files=(policy,),
    )


def _cell(config: StudyConfig, policy: str, cell: Cell, arm: Arm) -> Iterable[Stage]:
    name, prm = cell.name, f"{{run}}/{arm.prm}/prm.nemo"
    overrides = {
        **_train(config, name, policy, cell.seed, config.steps),
        "dense_reward": arm.dense_reward,
        **arm.overrides,
    }
    servers: list[Server] = []
    if arm.critic:
        overrides["critic.port"] = "{critic}"
        checkpoint = policy if arm.value_init == "none" else prm
        servers.append(critic(name, checkpoint, arm.value_init, {"model.seed": cell.seed}))
    if arm.dense_reward:
        overrides["reward.port"] = "{reward}"
        servers.append(reward(name, prm, {f"rules.{key}": value for key, value in arm.rules.items()}))
    yield Stage(
        name,
        f"train the policy: {arm.title}, seed {cell.seed}",
        "train_ppo",
        overrides,
        outputs=(f"{{run}}/{name}/policy.nemo",),
        after=(arm.prm,) if arm.prm else (),
        files=(policy, str(split_path("train"))),
        servers=tuple(servers),
    )
    sizes = {
        "problems": "embedded",
        "split": "test",
        "limit": config.evaluate_problems,
        "samples": config.evaluate_samples,
        "sandbox.minimum_level": config.minimum_level,
    }
    server = generation(name, f"{{run}}/{name}/policy.nemo")
    title = f"{arm.title}, seed {cell.seed}"
    yield evaluation(name, title, sizes, server, files=(str(split_path("test")),), after=(name,))
