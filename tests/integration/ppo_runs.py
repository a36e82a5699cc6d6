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
import subprocess
import sys
from pathlib import Path
from typing import Any

from servers import ROOT, Server


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
    """`train_ppo` with 8 rollouts a step of at most 8 tokens."""
    [problem] = (folder / "problems.jsonl").read_text().splitlines()
    rows = [json.loads(problem) | {"problem_id": str(n), "prompt": f"#c\n{n}\n"} for n in range(problems)]
    file = output / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    return [
        sys.executable,
        *launcher,
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


def run(arguments: list[str], timeout_s: float = 300) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-3000:]


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
