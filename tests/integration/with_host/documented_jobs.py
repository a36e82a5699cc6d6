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
"""The jobs of several processes in README and docs/: their batches can be shared by their ranks."""

from __future__ import annotations

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pages import PAGES, ROOT, blocks

from nemo_prm.megatron import compat


def jobs() -> list[str]:
    """Commands of a launcher or of Slurm, in one line each."""
    text = "\n".join(block for page in PAGES for block in blocks(page, "bash")).replace("\\\n", " ")
    lines = [line.split("  #")[0] for line in text.splitlines()]
    return [line for line in lines if re.search(r"torchrun .*train_(ppo|prm)\.py|(ppo|train_prm)\.sbatch", line)]


def number(pattern: str, command: str) -> int:
    found = re.search(pattern, command)
    return int(found[1]) if found else 1


@pytest.mark.parametrize("command", jobs())
def test_the_batches_of_a_job_can_be_shared_by_its_ranks(command: str) -> None:
    compat.apply()
    from nemo_prm.megatron import host
    from nemo_prm.ppo.train_ppo import check_batch_sizes

    words = shlex.split(command)
    settings = {name: value for name, _, value in (word.partition("=") for word in words)}
    arguments = settings.get("ACTOR_ARGS", settings.get("TRAIN_ARGS", "")).replace("$steps", "1").split()
    arguments += [word for word in words if word.startswith("model.")]
    script = "train_prm" if "train_prm" in command else "train_ppo"
    OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(script, arguments)
    cfg.trainer.num_nodes = number(r"--n?nodes[ =](\d+)", command)
    cfg.trainer.devices = number(r"(?:--nproc-per-node|PROCESSES)[ =](\d+)", command)
    if script == "train_ppo":
        check_batch_sizes(cfg)
    host.check_batch_size(cfg)
    assert cfg.model.optim.sched.min_lr <= cfg.model.optim.lr


def test_a_batch_that_the_ranks_cannot_share_is_refused() -> None:
    compat.apply()
    from nemo_prm.errors import ConfigError
    from nemo_prm.megatron import host

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train_prm", ["trainer.devices=8", "model.tensor_model_parallel_size=2"])
    with pytest.raises(ConfigError, match="global_batch_size=16 must be a multiple of model.micro_batch_size=8 on 4"):
        host.check_batch_size(cfg)
