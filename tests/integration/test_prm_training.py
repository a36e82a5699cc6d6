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
"""Training a PRM gives the same losses and scores however it is split over processes, killed, and resumed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_rows import make_rows
from prm_runs import Run
from warm_stack import run_script

pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

TOLERANCE = 1e-5
STEPS = 4
THIRD_STEP = '"train/consumed_samples": 24'  # metrics hold it after the checkpoint of step 2, before that of step 4
TARGETS = ("attention_qkv", "mlp_fc1", "mlp_fc2")  # of LoRA: all that can be adapted
COMMON = [
    "model.global_batch_size=8",
    "model.micro_batch_size=4",
    f"trainer.rm.max_steps={STEPS}",
    "trainer.rm.val_check_interval=2",
    "exp_manager.create_tensorboard_logger=false",
]
SPLITS = {
    "one": [],
    "micro_1": ["model.micro_batch_size=1"],
    "micro_8": ["model.micro_batch_size=8"],
    "tp": ["trainer.devices=2", "model.tensor_model_parallel_size=2"],
    "pp": ["trainer.devices=2", "model.pipeline_model_parallel_size=2"],
    "dp": ["trainer.devices=2"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_policy_nemo: Path) -> Path:
    """All runs, made by one process."""
    folder = tmp_path_factory.mktemp("prm")
    (folder / "data").mkdir()
    for name, count, seed in (("train", 24, 1), ("validation", 9, 2)):
        text = "".join(json.dumps(row) + "\n" for row in make_rows(count, seed))
        (folder / "data" / f"{name}.jsonl").write_text(text)

    def train(name: str, output: str, *overrides: str, **others: Any) -> Run:
        ranks = 2 if "trainer.devices=2" in overrides else 1
        given = [f"policy={tiny_policy_nemo}", f"data={folder / 'data'}", f"output={folder / output}"]
        return Run(name, [*given, *COMMON, *overrides], ranks, **others)

    def score(name: str, prm: str, *overrides: str) -> Run:
        ranks = 2 if "trainer.devices=2" in overrides else 1
        rows = str(folder / "data" / "validation.jsonl")
        return Run(name, [f"checkpoint={folder / prm}", *overrides], ranks, score=rows)

    lora = ["model.peft.peft_scheme=lora", f"model.peft.lora_tuning.target_modules=[{','.join(TARGETS)}]"]
    runs = [
        *(train(name, name, *overrides) for name, overrides in SPLITS.items()),
        score("one_scores", "one/prm.nemo"),
        score("tp_scores", "tp/prm.nemo", *SPLITS["tp"]),
        score("tp_scores_at_1", "tp/prm.nemo"),
        score("pp_scores", "pp/prm.nemo", *SPLITS["pp"]),
        train("killed", "killed", kill_at=["killed/metrics.jsonl", THIRD_STEP]),
        train("resumed", "killed"),
        train("entropy", "entropy", "loss=cross_entropy"),
        score("entropy_scores", "entropy/checkpoints/prm.nemo"),  # the last, which the report is of,
        train(
            "from_prm",
            "from_prm",
            f"policy={folder / 'one/prm.nemo'}",
            "model.optim.lr=0",
        ),
        score("from_prm_scores", "from_prm/prm.nemo"),
        train("from_prm_anew", "from_prm_anew", f"policy={folder / 'one/prm.nemo'}", "new_head=true"),
        train("lora", "lora", *lora, *SPLITS["tp"]),
        score("lora_scores", "lora/checkpoints/prm.nemo"),
        train("lora_killed", "lora_killed", *lora, *SPLITS["tp"], kill_at=["lora_killed/metrics.jsonl", THIRD_STEP]),
        train("lora_resumed", "lora_killed", *lora),
    ]
    driver = Path(__file__).with_name("prm_runs.py")
    (folder / "runs.json").write_text(json.dumps([asdict(run) for run in runs]))
    print(run_script(str(driver), str(folder), timeout_s=600))
    return folder


def training_rows(folder: Path, run: str) -> list[dict[str, Any]]:
    """Metrics of the steps as they were made; the host moves those of a run that is resumed to a folder `run_0`."""
    files = [*sorted((folder / run).glob("run_*/metrics.jsonl")), folder / run / "metrics.jsonl"]
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [row for row in rows if "train/loss" in row]


def losses(folder: Path, run: str) -> list[float]:
    """Training losses by step; of a step that was run twice, the later."""
    found = {row["step"]: row["train/loss"] for row in training_rows(folder, run)}
    return [found[step] for step in sorted(found)]


@pytest.mark.parametrize("split", list(SPLITS))
def test_losses_do_not_depend_on_the_split(folder: Path, split: str) -> None:
    assert len(losses(folder, split)) == STEPS
    np.testing.assert_allclose(losses(folder, split), losses(folder, "one"), atol=TOLERANCE)
    reports = [json.loads((folder / name / "validation.json").read_text()) for name in (split, "one")]
    assert reports[0]["model"] == pytest.approx(reports[1]["model"], abs=TOLERANCE, nan_ok=True)


def scores(folder: Path, run: str) -> list[float]:
    return [score for row in json.loads((folder / f"{run}.json").read_text()) for score in row]


@pytest.mark.parametrize("run", ["tp_scores", "tp_scores_at_1", "pp_scores"])
def test_scores_do_not_depend_on_the_split(folder: Path, run: str) -> None:
    np.testing.assert_allclose(scores(folder, run), scores(folder, "one_scores"), atol=TOLERANCE)
    assert np.std(scores(folder, run)) > 0.01


def resumed_at_two(folder: Path, run: str) -> bool:
    steps = [row["step"] for row in training_rows(folder, run)]
    return steps in ([0, 1, 2, 2, 3], [0, 1, 2, 3, 2, 3])


def test_a_killed_run_goes_on_as_if_nothing_had_been(folder: Path) -> None:
    assert resumed_at_two(folder, "killed")
    assert losses(folder, "killed") == losses(folder, "one")
    reports = [json.loads((folder / name / "validation.json").read_text()) for name in ("killed", "one")]
    assert reports[0] == reports[1]


def squared_error(folder: Path, run: str) -> float:
    rows = [json.loads(line) for line in (folder / "data" / "validation.jsonl").read_text().splitlines()]
    labels = [label for row in rows for label in row["labels"]]
    return float(np.mean((np.array(scores(folder, run)) - labels) ** 2))


def test_scores_of_cross_entropy_are_on_the_scale_of_the_labels(folder: Path) -> None:
    assert max(map(abs, scores(folder, "entropy_scores"))) < 1
    mse = json.loads((folder / "entropy" / "validation.json").read_text())["model"]["mse"]
    assert squared_error(folder, "entropy_scores") == pytest.approx(mse, abs=1e-5)


def test_training_goes_on_from_a_reward_model_with_its_head_or_a_new_one(folder: Path) -> None:
    np.testing.assert_allclose(scores(folder, "from_prm_scores"), scores(folder, "one_scores"), atol=TOLERANCE)
    first = [losses(folder, name)[0] for name in ("one", "from_prm", "from_prm_anew")]
    assert first[1] < first[0] and abs(first[2] - first[1]) > 0.001


def test_adapters_of_two_ranks_are_merged_into_a_prm_that_one_rank_loads(folder: Path) -> None:
    """The server's loader knows nothing of adapters; the report is of the model that had them."""
    report = json.loads((folder / "lora" / "validation.json").read_text())
    assert squared_error(folder, "lora_scores") == pytest.approx(report["model"]["mse"], abs=TOLERANCE)
    assert losses(folder, "lora")[0] == pytest.approx(losses(folder, "one")[0], abs=TOLERANCE)  # they start as nothing
    assert abs(losses(folder, "lora")[1] - losses(folder, "one")[1]) > 0.01


def test_adapters_of_two_ranks_go_on_at_one(folder: Path) -> None:
    assert resumed_at_two(folder, "lora_killed")
    np.testing.assert_allclose(losses(folder, "lora_killed"), losses(folder, "lora"), atol=TOLERANCE)


def test_the_validation_is_reported_and_drawn(folder: Path) -> None:
    report = json.loads((folder / "one" / "validation.json").read_text())
    assert report["step"] == STEPS and report["model"]["responses"] == 9
    assert set(report["by_class"]) <= {"correct", "revised", "wrong"} and report["best"]["step"] in (2, 4)
    assert "<svg" in (folder / "one" / "reliability.svg").read_text()


def padding_shares(folder: Path, run: str) -> list[float]:
    return [row["train/padding_share"] for row in training_rows(folder, run)]


def test_little_is_padding(folder: Path) -> None:
    assert padding_shares(folder, "micro_1") == [0.0] * STEPS
    # pipeline stages take micro batches of any length, not of the context's
    assert padding_shares(folder, "pp") == padding_shares(folder, "one")
    assert 0 < max(padding_shares(folder, "one")) < 0.2
