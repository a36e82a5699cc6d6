#!/usr/bin/env python3
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
"""A PPO run on two hosts in which everything fails once: python scripts/bench/faults.py --output runs/faults

The hosts are two network namespaces of this machine (root): servers on one, the actor with two data-parallel ranks on
the other. Each server is killed once, and started again as a service manager would; the network is cut; the verifier's
disk is filled; the actor is killed and started again. Says what each fault cost; exits with 1 unless every step was
made.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from untrained_prm import in_a_process

from nemo_prm.data.embedded import policy_path
from nemo_prm.data.jsonl import write_json
from nemo_prm.supervisor import descendants

ROOT = Path(__file__).resolve().parents[2]
SERVERS, ACTOR = "prm-servers", "prm-actor"  # the hosts
ADDRESS = {SERVERS: "10.231.77.1", ACTOR: "10.231.77.2"}
PORTS = {"reward": 5555, "critic": 5556, "verifier": 5557}
SMALL = ("model.global_batch_size=8", "model.micro_batch_size=4")
START_S = 300.0  # for all servers together


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, stderr=None if check else subprocess.DEVNULL)


@contextlib.contextmanager
def two_hosts() -> Iterator[None]:
    """Two network namespaces and a cable between them."""
    for name in (SERVERS, ACTOR):
        ip("netns", "del", name, check=False)
    try:
        for name in (SERVERS, ACTOR):
            ip("netns", "add", name)
        ip("link", "add", "prm0", "netns", SERVERS, "type", "veth", "peer", "name", "prm0", "netns", ACTOR)
        for name, address in ADDRESS.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "prm0")
            ip("-n", name, "link", "set", "prm0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in (SERVERS, ACTOR):
            ip("netns", "del", name, check=False)


@dataclass
class Service:
    """A process on a host; `run` keeps it running."""

    name: str
    host: str
    command: list[str]
    log: Path
    environment: dict[str, str]
    stopping: threading.Event
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.host, *self.command],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def run(self) -> None:
        """Start it again whenever it ends."""
        while not self.stopping.is_set():
            self.start()
            assert self.process is not None
            self.process.wait()
            self.stopping.wait(1)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill it with all that came of it."""
        if self.process is not None and self.process.poll() is None:
            for process in (*descendants(self.process.pid), self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)

    def ready(self) -> bool:
        return self.log.exists() and self.log.read_bytes().count(b"ready on ") >= 1


@dataclass
class Fault:
    """What happens once `step` is done, and, `lasts_s` later, what ends it."""

    name: str
    step: int
    begin: Callable[[], Any]
    lasts_s: float = 0.0
    end: Callable[[], Any] = field(default=lambda: None)


def cut(state: str) -> Callable[[], None]:
    return lambda: ip("-n", SERVERS, "link", "set", "prm0", state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/faults"))
    parser.add_argument("--cut-seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("network namespaces want root")
    output = arguments.output.resolve()
    output.mkdir(parents=True)
    cut_s = arguments.cut_seconds
    disk = output / "verifier_disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=True)
    stopping = threading.Event()
    token = {"NEMO_PRM_TOKEN": secrets.token_hex(16), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    policy = str(policy_path())

    def script(name: str, *overrides: str) -> list[str]:
        return [sys.executable, str(ROOT / f"scripts/{name}.py"), *overrides]

    def service(name: str, *overrides: str, **environment: str) -> Service:
        where = ["server.host=0.0.0.0", f"server.port={PORTS[name]}"]
        command = script(f"serve_{name}", *overrides, *where)
        return Service(name, SERVERS, command, output / f"{name}.log", token | environment, stopping)

    reward = service("reward", f"checkpoint={in_a_process(output)}")
    critic = service("critic", f"checkpoint={policy}", "value_init=none", f"output={output / 'critic'}", *SMALL)
    verifier = service("verifier", "sandbox.minimum_level=rlimits", TMPDIR=str(disk))
    services = [reward, critic, verifier]
    filler = disk / "filler"
    faults = [
        Fault("the reward server is killed", 3, reward.kill),
        Fault("the critic server is killed", 7, critic.kill),
        Fault("the verifier is killed", 11, verifier.kill),
        Fault(f"the network is cut for {cut_s:g} s", 15, cut("down"), cut_s, cut("up")),
        Fault("the verifier's disk is full for 20 s", 19, lambda: fill(filler), 20, lambda: filler.unlink(True)),
        Fault("the actor is killed and started again", 23, lambda: actor.kill()),
    ]
    steps = faults[-1].step + 4
    train = [
        f"policy={policy}",
        f"output={output / 'actor'}",
        "limit=32",
        f"trainer.ppo.max_steps={steps}",
        "trainer.ppo.save_interval=2",
        "trainer.devices=2",
        *SMALL,
        "rollout_samples=0",
        "model.ppo.num_rollout_samples=8",
        "model.ppo.rollout_micro_batch_size=4",
        "model.ppo.forward_micro_batch_size=4",
        "model.ppo.length_params.max_length=24",
        "exp_manager.create_tensorboard_logger=false",
        f"reward.host={ADDRESS[SERVERS]}",
        f"critic.host={ADDRESS[SERVERS]}",
        f"sandbox.remote.urls=[http://{ADDRESS[SERVERS]}:{PORTS['verifier']}]",
        "sandbox.minimum_level=rlimits",
        "remote_critic_rm.reconnect_timeout_s=300",
        "sandbox.remote.reconnect_timeout_s=300",
    ]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(ROOT / "scripts/train_ppo.py"), *train]
    actor = Service("actor", ACTOR, command, output / "actor.log", token, stopping)
    threads = [threading.Thread(target=each.run, daemon=True) for each in services]
    try:
        with two_hosts():
            for thread in threads:
                thread.start()
            logs = f"the servers are not ready; their logs are in {output}"
            wait_until(lambda: all(each.ready() for each in services), START_S, logs)
            print("servers are ready", flush=True)
            actor.start()
            report = watch(actor, output / "actor", faults, steps)
    finally:
        stopping.set()
        for each in (actor, *services):
            each.kill()
        subprocess.run(["umount", "--lazy", str(disk)], check=False)
    report["starts"] = {each.name: each.starts for each in (actor, *services)}
    write_json(output / "faults.json", report)
    show(report)
    sys.exit(0 if report["complete"] else 1)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb") as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()


def wait_until(reached: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            sys.exit(otherwise)
        time.sleep(0.5)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The steps that were made, those of a killed actor too; a step may occur twice."""
    found = []
    for path in sorted(folder.rglob("metrics.jsonl"), key=lambda path: path.stat().st_mtime):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # torn
                row = json.loads(line)
                if "train_rollouts/rewards" in row:
                    found.append(row)
    return found


def watch(actor: Service, folder: Path, faults: list[Fault], steps: int, timeout_s: float = 1200.0) -> dict[str, Any]:
    """Wait for the end of the run, let the faults happen, and time every step."""
    seen: list[tuple[int, float]] = []  # step, when
    waiting, began = list(faults), {}
    timers: list[threading.Timer] = []
    deadline = time.monotonic() + timeout_s
    policy = folder / "policy.nemo"
    while not policy.exists():
        rows = rows_of(folder)
        for row in rows[len(seen) :]:
            seen.append((row["step"], time.monotonic()))
            print(f"step {row['step']}", flush=True)
        if waiting and seen and seen[-1][0] >= waiting[0].step:
            fault = waiting.pop(0)
            print(fault.name, flush=True)
            began[fault.name] = time.monotonic()
            fault.begin()
            if fault.lasts_s:
                timers.append(threading.Timer(fault.lasts_s, fault.end))
                timers[-1].start()
        if actor.process is not None and actor.process.poll() is not None and not policy.exists():
            if actor.starts > 3:
                break
            time.sleep(1)
            actor.start()
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for timer in timers:
        timer.join()
    rows = rows_of(folder)
    gaps = [after - before for (_, before), (_, after) in zip(seen, seen[1:])]
    usual = statistics.median(gaps) if gaps else 0.0
    times = [began.get(fault.name, deadline) for fault in faults]
    costs = [
        cost_of(fault, begin, until, seen, usual, rows)
        for fault, begin, until in zip(faults, times, [*times[1:], deadline])
    ]
    done = {row["step"] for row in rows}
    return {
        "complete": policy.exists() and done == set(range(steps)),
        "steps": steps,
        "usual_step_s": usual,
        "faults": costs,
    }


def cost_of(
    fault: Fault,
    begin: float,
    until: float,
    seen: list[tuple[int, float]],
    usual: float,
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """What a fault cost before the next one began: the longest pause, steps made again, outcomes that are unknown."""
    pauses = [end - start for (_, start), (_, end) in zip(seen, seen[1:]) if end >= begin and start < until - 0.2]
    unknown = [row.get("train_rollouts/unknown_outcomes", 0) for row in rows if 0 <= row["step"] - fault.step <= 3]
    return {
        "fault": fault.name,
        "step": fault.step,
        "pause_s": max(pauses, default=float("nan")) - usual,
        "steps_again": sum(step <= fault.step and begin + 0.2 < when < until for step, when in seen),
        "unknown": sum(unknown),
    }


def show(report: dict[str, Any]) -> None:
    verdict = "every step was made" if report["complete"] else "NOT every step was made"
    print(f"\n{report['steps']} steps, {report['usual_step_s']:.1f} s each: {verdict}; starts: {report['starts']}\n")
    print("| fault | after step | pause | steps made again | unknown outcomes |\n|---|---|---|---|---|")
    for row in report["faults"]:
        numbers = f"{row['step']} | {row['pause_s']:.0f} s | {row['steps_again']} | {row['unknown']:g}"
        print(f"| {row['fault']} | {numbers} |")


if __name__ == "__main__":
    main()
