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
"""What dense rewards cost: a PPO step with the PRM against a step with the unit tests alone, and where the time goes.

    python scripts/bench/ppo_step.py [--steps 4] [--rounds 2] [--output FILE.json]

Both train the embedded policy on the embedded problems with the same critic; PRM and critic are the policy with a new
head. One asks the reward server for line rewards, the other does not; the rest is the same. They take turns, each run
with a critic that begins; the first step of a run is left out. Times are those that the host's trainer logs. The last
part compares the advantages' computation with the host's loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from untrained_prm import in_a_process

from nemo_prm.data.embedded import resolve_policy
from nemo_prm.processes import Children, free_ports
from nemo_prm.rewards.advantages import advantages_and_returns

ROOT = Path(__file__).resolve().parents[2]
TIMERS = ("rollout_time", "generate", "logprobs", "init_logprobs", "critic_wait", "train_time")
SEQUENCES, LENGTH = 128, 4096  # of the advantages


def step_times(folder: Path, prm: Path, dense: bool, steps: int) -> list[dict[str, float]]:
    """Seconds of each step but the first, by the host's name."""
    critic_port, reward_port = free_ports(2)
    policy = f"checkpoint={resolve_policy('embedded')}"
    critic = [policy, "value_init=none", f"output={folder / 'critic'}", f"server.port={critic_port}"]
    servers = [("serve_critic", critic_port, "critic_infer", critic)]
    if dense:
        servers.append(("serve_reward", reward_port, "prm", [f"checkpoint={prm}", f"server.port={reward_port}"]))
    with Children(folder, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}) as children:
        for name, port, model, options in servers:
            process = children.start(name, [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *options])
            children.wait_ready(process, port, [f"/v2/models/{model}/ready"], timeout_s=180)
        children.run(
            "train_ppo",
            [
                sys.executable,
                str(ROOT / "scripts" / "train_ppo.py"),
                f"output={folder / 'actor'}",
                f"critic.port={critic_port}",
                f"reward.port={reward_port}",
                f"dense_reward={str(dense).lower()}",
                f"trainer.ppo.max_steps={steps}",
                f"trainer.ppo.save_interval={steps}",
                "sandbox.minimum_level=rlimits",
            ],
        )
    rows: dict[int, dict[str, float]] = {}
    for line in (folder / "actor/metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found = {name: row[f"timers/{name}"] for name in TIMERS if f"timers/{name}" in row}
        rows.setdefault(row["step"], {}).update(found)
    return [{name: rows[step].get(name, 0.0) for name in TIMERS} for step in sorted(rows) if step]


def advantages() -> tuple[float, float]:
    """Seconds of our computation and of the host's loop: the fastest of ten, in turns."""
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_aligner.utils.ppo_utils import calculate_advantages_and_returns

    values, rewards = torch.randn(SEQUENCES, LENGTH), torch.randn(SEQUENCES, LENGTH)
    mask = torch.ones(SEQUENCES, LENGTH)
    fastest = []
    for function in (advantages_and_returns, calculate_advantages_and_returns):
        took = []
        for _ in range(10):
            start = time.perf_counter()
            function(values, rewards, 1.0, 0.95, mask)
            took.append(time.perf_counter() - start)
        fastest.append(min(took))
    return fastest[0], fastest[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="of a run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    times: dict[str, list[dict[str, float]]] = {"dense": [], "outcome": []}
    with tempfile.TemporaryDirectory(prefix="nemo_prm_bench_") as name:
        prm = in_a_process(Path(name))
        for number in range(arguments.rounds):
            for kind in times:
                folder = Path(name, f"{kind}-{number}")
                folder.mkdir()
                times[kind] += step_times(folder, prm, kind == "dense", arguments.steps)
    median = {
        kind: {name: statistics.median(row[name] for row in rows) for name in TIMERS} for kind, rows in times.items()
    }
    total = {kind: row["rollout_time"] + row["train_time"] for kind, row in median.items()}
    print("| seconds of a step | all | " + " | ".join(TIMERS) + " |")
    print("|---|---|" + "---|" * len(TIMERS))
    for kind, row in median.items():
        print(f"| {kind} | {total[kind]:.2f} | " + " | ".join(f"{row[name]:.2f}" for name in TIMERS) + " |")
    print(f"\ndense / outcome: {total['dense'] / total['outcome']:.2f} x, of {len(times['dense'])} steps each")
    ours, host = advantages()
    print(f"advantages of {SEQUENCES} x {LENGTH}: {1e3 * ours:.1f} ms, the host's loop {1e3 * host:.1f} ms")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"steps": times, "advantages_s": [ours, host]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
