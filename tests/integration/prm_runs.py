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
"""Runs of `scripts/train_prm.py` and of its models, each in forks of a process that has imported the stack once.

    python prm_runs.py FOLDER    makes the runs of FOLDER/runs.json, one `Run` each; ends with the first that fails

A run is what torchrun would start: a process per rank, with torchrun's environment.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from torchrun import rank_environments

from nemo_prm import supervisor

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "train_prm.py"


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: of its log file, in the folder.
        overrides: of `train_prm`; of `serve_reward` with `score`.
        ranks: processes.
        score: label rows to score in place of training; the scores go to `<name>.json`.
        kill_at: a file, relative to the folder, and a text: the ranks are killed (-9) once the file holds the text.
    """

    name: str
    overrides: list[str] = field(default_factory=list)
    ranks: int = 1
    score: str | None = None
    kill_at: list[str] | None = None


def main(folder: Path) -> None:
    import hydra.main  # noqa: F401
    import torch

    torch.set_num_threads(1)
    from nemo_prm.megatron import compat

    compat.apply()
    import nemo_prm.megatron.train_prm  # noqa: F401

    supervisor.become_subreaper()  # the host's queue of checkpoint saves outlives a process that does not end as usual
    for item in json.loads((folder / "runs.json").read_text()):
        run = Run(**item)
        started = time.monotonic()
        pids = [fork(run, folder, environment) for environment in rank_environments(run.ranks)]
        if run.kill_at:
            file, text = run.kill_at
            while not (path := folder / file).exists() or text not in path.read_text():
                time.sleep(0.001)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        for pid in supervisor.descendants(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        print(f"{run.name}: {time.monotonic() - started:.1f} s", flush=True)
        if codes != [-signal.SIGKILL if run.kill_at else 0] * run.ranks:
            sys.exit(f"{run.name} ended with {codes}:\n{(folder / f'{run.name}.log').read_text()[-3000:]}")


def fork(run: Run, folder: Path, environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    output = os.open(folder / f"{run.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.chdir(folder)
    os.environ |= environment
    if run.score:
        score(run, folder / f"{run.name}.json")
    else:
        sys.argv = [str(SCRIPT), *run.overrides]
        runpy.run_path(str(SCRIPT), run_name="__main__")
    os._exit(0)  # what the parent has set up is the parent's to end


def score(run: Run, output: Path) -> None:
    import torch
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from nemo_prm.data.rows import read_label_rows
    from nemo_prm.megatron import host
    from nemo_prm.megatron.prm import MegatronGPTPRM
    from nemo_prm.megatron.prm_dataset import PRMDataset
    from nemo_prm.megatron.prm_validation import score_dataset

    OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("serve_reward", run.overrides)
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.prepare_for_inference()
    dataset = PRMDataset(read_label_rows(Path(run.score)), loaded.model.tokenizer, cfg.model.encoder_seq_length)
    scored = score_dataset(loaded.model, dataset)
    if torch.distributed.get_rank() == 0:
        output.write_text(json.dumps([response.scores for response in scored]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
