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
"""PPO runs of a tiny policy over the models of `hand_rollout.py`; critic and PRM are behind one server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from servers import ROOT, Server
from torchrun import rank_environments
from warm import Process
from warm_stack import stack


def serve(folder: Path, output: Path, *overrides: str) -> Server:
    """A critic that begins, and the PRM.

    Args:
        folder: of the models.
        output: of the run.
        overrides: of the server's config.
    """
    output.mkdir(exist_ok=True)
    return Server(
        output / "critic.log",
        "scripts/serve_critic.py",
        f"checkpoint={folder / 'prm.nemo'}",
        f"output={output / 'critic'}",
        "combined=true",
        "model.micro_batch_size=1",
        "server.port=0",
        *overrides,
    )


def command(folder: Path, output: Path, port: int, *overrides: str, ranks: int = 1, problems: int = 24) -> list[str]:
    """`train_ppo` and its arguments, with 8 rollouts a step of at most 8 tokens."""
    [problem] = (folder / "problems.jsonl").read_text().splitlines()
    rows = [json.loads(problem) | {"problem_id": str(n), "prompt": f"#c\n{n}\n"} for n in range(problems)]
    file = output / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        str(ROOT / "scripts/train_ppo.py"),
        f"policy={folder / 'policy.nemo'}",
        f"problems={file}",
        f"output={output / 'actor'}",
        f"reward.port={port}",
        f"critic.port={port}",
        f"trainer.devices={ranks}",
        "model.ppo.num_rollout_samples=8",
        "model.ppo.length_params.max_length=8",
        "sandbox.minimum_level=rlimits",
        *overrides,
    ]


def start(arguments: list[str], log: Path, ranks: int = 1) -> list[Process]:
    """Start the ranks of a run, as torchrun does where they are several."""
    with log.open("ab") as output:
        return [stack().start(*arguments, stdout=output, env=os.environ | own) for own in rank_environments(ranks)]


def run(arguments: list[str], log: Path, ranks: int = 1, timeout_s: float = 300) -> None:
    processes = start(arguments, log, ranks)
    try:
        codes = [process.wait(timeout_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * ranks, log.read_text()[-3000:]


def logged(folder: Path) -> dict[tuple[int, str], Any]:
    """All numbers of a run by step and name, wherever a resumed run has put them; times are left out."""
    found: dict[tuple[int, str], Any] = {}
    for path in sorted(folder.rglob("metrics.jsonl"), key=lambda path: path.stat().st_mtime):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found |= {(row["step"], name): value for name, value in row.items() if is_result(name)}
    return found


def is_result(name: str) -> bool:
    return name.startswith(("train_rollouts/", "train_optim/", "train/")) and "time" not in name
