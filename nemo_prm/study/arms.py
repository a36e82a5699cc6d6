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
"""What the study compares. An arm is a way to train the policy; every arm runs with every seed, for the same steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from nemo_prm.errors import ConfigError


@dataclass(frozen=True)
class Labels:
    """How responses are labelled: overrides of `label`, and whether all checkpoints are sampled from or the last."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    all_checkpoints: bool = True


@dataclass(frozen=True)
class Prm:
    """How a PRM is trained: on which labels (a key of `LABELS`), which of them, and with which loss."""

    labels: str = "label"
    strategy: str = "full"
    loss: str = "mse"


@dataclass(frozen=True)
class Arm:
    """A way to train the policy.

    Attributes:
        title: for the tables.
        prm: key of `PRMS`; None: no PRM.
        dense_reward: its line rewards.
        value_init: how the critic starts from it, as `serve_critic` has it; none: from the policy.
        overrides: of the training script.
        critic: whether there is one.
        rules: of the reward server, `rules` in conf/serve_reward.yaml.
    """

    title: str
    prm: str | None = "prm"
    dense_reward: bool = True
    value_init: str = "full"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    critic: bool = True


NO_NEUTRAL = {f"neutral.{kind}": False for kind in ("comments", "blank_lines", "docstrings")}
SHORT_CREDIT = {"trainer.ppo.gae_lambda": 0.95}

LABELS = {
    "label": Labels(),
    "label_one_response": Labels(all_checkpoints=False),
    "label_no_neutral": Labels(NO_NEUTRAL),
    "label_soft": Labels({"soft_labels": True}),
}
PRMS = {
    "prm": Prm(),
    "prm_remove_hard": Prm(strategy="remove_hard"),
    "prm_medium_only": Prm(strategy="medium_only"),
    "prm_revised_only": Prm(strategy="revised_only"),
    "prm_one_response": Prm(labels="label_one_response"),
    "prm_no_neutral": Prm(labels="label_no_neutral"),
    "prm_cross_entropy": Prm(loss="cross_entropy"),
    "prm_soft": Prm(labels="label_soft"),
}
ARMS = {
    "rl": Arm("neither", prm=None, dense_reward=False, value_init="none"),
    "value": Arm("ValueInit", dense_reward=False),
    "dense": Arm("DenseReward", value_init="none"),
    "both": Arm("DenseReward and ValueInit"),
    "affine": Arm("DenseReward and affine ValueInit", value_init="affine"),
    "remove_hard": Arm("remove_hard", prm="prm_remove_hard"),
    "medium_only": Arm("medium_only", prm="prm_medium_only"),
    "revised_only": Arm("revised_only", prm="prm_revised_only"),
    "one_response": Arm("one response per problem", prm="prm_one_response"),
    "no_normalisation": Arm("no division by the number of lines", rules={"normalise": False}),
    "no_neutral": Arm("no neutral label", prm="prm_no_neutral"),
    "lambda_1": Arm("lambda 1 and 0.1", overrides={"lambda_failed": 1.0, "lambda_passed": 0.1}),
    # The head of such a PRM gives a logit, which is no value to begin with.
    "cross_entropy": Arm("cross-entropy", prm="prm_cross_entropy", value_init="none"),
    "soft": Arm("soft labels", prm="prm_soft"),
    "rl_short_credit": Arm(
        "neither, GAE's lambda 0.95", prm=None, dense_reward=False, value_init="none", overrides=SHORT_CREDIT
    ),
    "both_short_credit": Arm("DenseReward and ValueInit, 0.95", overrides=SHORT_CREDIT),
    "affine_short_credit": Arm("DenseReward and affine ValueInit, 0.95", value_init="affine", overrides=SHORT_CREDIT),
    "pass_rate": Arm(
        "pass rate as outcome", prm=None, dense_reward=False, value_init="none", overrides={"outcome": "pass_rate"}
    ),
    "rloo": Arm(
        "REINFORCE (RLOO)",
        prm=None,
        dense_reward=False,
        value_init="none",
        critic=False,
        overrides={"algorithm": "reinforce"},
    ),
}


@dataclass(frozen=True)
class Table:
    """A table of the page: its arms by key, with a title of its own or None, and what all are compared with."""

    title: str
    source: str
    arms: Mapping[str, str | None]
    reference: str


TABLES = (
    Table(
        "DenseReward and ValueInit",
        "PSGPO, Table 1; and the critic that starts as a chance of success, v = (s + 1) / 2",
        {"rl": None, "value": None, "dense": None, "both": None, "affine": None},
        reference="rl",
    ),
    Table(
        "Which labelled responses train the PRM",
        "PSGPO, Table 2; all with DenseReward and ValueInit",
        {"both": "full", "remove_hard": None, "medium_only": None, "revised_only": None},
        reference="both",
    ),
    Table(
        "How many labelled responses",
        "PSGPO, Figure 4",
        {"both": "four responses per problem", "one_response": None},
        reference="both",
    ),
    Table(
        "What may be left out",
        "of DenseReward and ValueInit as above: lambda 0.25 and 0.025, mean squared error, hard labels",
        {
            "both": "as above",
            "no_normalisation": None,
            "no_neutral": None,
            "value": "lambda 0",
            "lambda_1": None,
            "soft": None,
        },
        reference="both",
    ),
    Table(
        "The loss of the PRM",
        "DenseReward alone: the head of a PRM trained with cross-entropy gives a logit, and no critic starts from it",
        {"dense": "mean squared error", "cross_entropy": None},
        reference="dense",
    ),
    Table(
        "Credit at short range",
        "GAE's lambda 0.95 in place of 1: an advantage is what the critic says that the next tokens have changed, so "
        "much depends on how good the critic is",
        {
            "rl_short_credit": None,
            "both_short_credit": None,
            "affine_short_credit": None,
            "rl": "neither, GAE's lambda 1",
        },
        reference="rl_short_credit",
    ),
    Table(
        "Without a PRM",
        "what one would try before; as many responses a step, and PPO's learning rate: none of them was tuned",
        {"rl": "PPO, all tests pass", "pass_rate": "PPO, share of the tests", "rloo": None, "both": None},
        reference="rl",
    ),
)


def chosen(names: list[str]) -> dict[str, Arm]:
    """The arms of these names, all where there is none, in the order of `ARMS`.

    Raises:
        ConfigError: there is no such arm.
    """
    if unknown := sorted(set(names) - set(ARMS)):
        raise ConfigError(f"arms: there is no {', '.join(unknown)}; there are {', '.join(ARMS)}")
    return {name: arm for name, arm in ARMS.items() if not names or name in names}
