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
"""The study's plan: every arm is what its title says, and every stage comes after those that it uses."""

from __future__ import annotations

import pytest

from nemo_prm.config import StudyConfig
from nemo_prm.errors import ConfigError
from nemo_prm.pipeline.stage import Stage
from nemo_prm.study.arms import ARMS, LABELS, PRMS, TABLES, chosen
from nemo_prm.study.stages import Cell, ancestors, study_stages

POLICY = "/models/policy.nemo"


def plan(*cells: Cell) -> dict[str, Stage]:
    stages = study_stages(StudyConfig(steps=9), POLICY, [(cell, ARMS[cell.arm]) for cell in cells])
    return {stage.name: stage for stage in stages}


def servers(stage: Stage) -> dict[str, dict[str, object]]:
    return {server.role: dict(server.overrides) for server in stage.servers}


def test_every_stage_comes_after_what_it_needs_and_reads_what_that_writes() -> None:
    stages = plan(*(Cell(arm, seed) for seed in (1, 2) for arm in ARMS))
    before: set[str] = set()
    for name, stage in stages.items():
        assert set(stage.after) <= before, name
        used = repr((stage.overrides, stage.servers))
        needed = {each.name for each in ancestors(list(stages.values()), name)}
        for other in stages.values():
            for path in other.outputs:
                assert path not in used or other.name in needed, (name, path)
        before.add(name)


def test_the_arms_of_table_1() -> None:
    stages = plan(*(Cell(arm, 3) for arm in ("rl", "value", "dense", "both", "affine")))
    prm = "{run}/prm/prm.nemo"
    arms = {
        "rl": (False, "none"),
        "value": (False, "full"),
        "dense": (True, "none"),
        "both": (True, "full"),
        "affine": (True, "affine"),
    }
    for arm, (dense, value) in arms.items():
        stage = stages[f"{arm}_seed_3"]
        assert stage.overrides["dense_reward"] is dense
        assert stage.overrides["policy"] == POLICY
        assert stage.overrides["trainer.ppo.max_steps"] == 9
        critic = servers(stage)["critic"]
        assert (critic["checkpoint"], critic["value_init"]) == (POLICY if value == "none" else prm, value)
        assert stage.overrides["model.seed"] == critic["model.seed"] == 3
        assert ("reward" in servers(stage)) is dense
        if dense:
            assert servers(stage)["reward"]["checkpoint"] == prm


def test_the_baseline_alone_needs_no_prm() -> None:
    assert list(plan(Cell("rl", 1))) == ["rl_seed_1", "evaluate_rl_seed_1"]


def test_the_labels_come_from_four_checkpoints_of_one_run() -> None:
    stages = plan(Cell("both", 1), Cell("one_response", 1))
    steps = [stages[f"baseline_{number}"].overrides["trainer.ppo.max_steps"] for number in (1, 2, 3)]
    assert steps == [3, 6, 9]
    baseline = [f"{{run}}/baseline_{number}/policy.nemo" for number in (1, 2, 3)]
    assert stages["label"].overrides["checkpoints"] == [POLICY, *baseline]
    assert stages["label_one_response"].overrides["checkpoints"] == [baseline[-1]]
    assert stages["label_one_response"].overrides["cache"] == stages["label"].overrides["cache"]


def test_ablations_change_one_thing() -> None:
    stages = plan(*(Cell(arm, 1) for arm in ARMS))
    both = stages["both_seed_1"]
    unnormalised = stages["no_normalisation_seed_1"]
    assert servers(unnormalised)["reward"] == servers(both)["reward"] | {"rules.normalise": False}
    lambdas = stages["lambda_1_seed_1"].overrides
    assert (lambdas["lambda_failed"], lambdas["lambda_passed"]) == (1.0, 0.1)
    assert stages["label_no_neutral"].overrides["neutral.comments"] is False
    assert stages["prm_cross_entropy"].overrides["loss"] == "cross_entropy"
    for arm in ARMS.values():  # such a PRM gives logits: serve_critic refuses to start from it
        assert arm.prm is None or PRMS[arm.prm].loss == "mse" or arm.value_init == "none"
    assert stages["data_prm_revised_only"].overrides["strategy"] == "revised_only"


def test_tables_and_arms_agree() -> None:
    assert {name for table in TABLES for name in table.arms} == set(ARMS)
    assert all(table.reference in table.arms for table in TABLES)
    assert {arm.prm for arm in ARMS.values() if arm.prm} == set(PRMS)
    assert {prm.labels for prm in PRMS.values()} == set(LABELS)
    assert list(chosen(["both", "rl"])) == ["rl", "both"]
    with pytest.raises(ConfigError, match="there is no sparse; there are rl, value"):
        chosen(["sparse"])
