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
"""The jobs of scripts/slurm in a real Slurm: a controller and four nodes of it on this machine, with the CPU stack.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge; `make test-deploy` runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest
from label_rows import make_rows

from nemo_prm.data.manifest import read_labels
from nemo_prm.processes import free_ports

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "munged")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING) or os.geteuid() != 0, reason=f"not root, or not installed: {', '.join(MISSING)}"),
]
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobRequeue=1
MpiDefault=none
ReturnToService=2
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{last}] CPUs=2 CoresPerSocket=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def neighbours(count: int) -> list[int]:
    """Free ports in a row."""
    for first in free_ports(20):
        ports = range(first, first + count)
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(ports)
    raise AssertionError("no free ports in a row")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands talk to it."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    host, ports = socket.gethostname().partition(".")[0], neighbours(5)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, ports=ports, last=ports[-1]))
    environment = os.environ | {"SLURM_CONF": str(config), "OMP_NUM_THREADS": "1"}
    if subprocess.run(["munge", "-n"], stdin=subprocess.DEVNULL, capture_output=True).returncode:  # nobody answers
        for path in ("/run/munge", "/var/log/munge"):
            Path(path).mkdir(exist_ok=True)
            shutil.chown(path, "munge", "munge")
        if not Path("/etc/munge/munge.key").exists():
            subprocess.run(["mungekey"], check=True)
            shutil.chown("/etc/munge/munge.key", "munge", "munge")
        Path("/run/munge/munge.socket.2").unlink(missing_ok=True)  # of a daemon that was killed
        subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force"], check=True)
    processes = [subprocess.Popen(["slurmctld", "-D"], env=environment)]
    processes += [subprocess.Popen(["slurmd", "-D", "-N", f"n{number}"], env=environment) for number in range(1, 5)]
    try:
        deadline = time.monotonic() + 60
        while slurm(environment, "sinfo", "--noheader", "--format=%T %D", check=False) != "idle 4":
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()[-3000:]
            time.sleep(0.5)
        yield environment
    finally:
        slurm(environment, "scancel", "--user=root", check=False)
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # it waits for a step that has ended long ago
                process.kill()
                process.wait()


def slurm(environment: dict[str, str], *command: str, check: bool = True) -> str:
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait(environment: dict[str, str], job: str, timeout_s: float) -> str:
    """Wait for the end of a job, however often it is queued again; returns its state and exit code."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = dict(
            field.split("=", 1)
            for field in slurm(environment, "scontrol", "--oneliner", "show", "job", job).splitlines()[0].split()
            if "=" in field
        )
        if found["JobState"] not in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED"):
            return f"{found['JobState']} {found['ExitCode']}"
        assert time.monotonic() < deadline, found
        time.sleep(1)


def test_an_array_labels_and_a_merge_follows(cluster: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "labels.jsonl"
    environment = cluster | {
        "OUTPUT": str(output),
        "LABEL_ARGS": "limit=6 responses_per_prompt=1 completions=2 sandbox.minimum_level=rlimits",
    }
    said = slurm(environment, "scripts/slurm/label.sh", "2", f"--output={tmp_path}/%x-%A_%a.log")
    merge = said.rpartition(" ")[2]
    logs = "".join(path.read_text()[-1000:] for path in tmp_path.glob("*.log"))
    assert wait(cluster, merge, timeout_s=400) == "COMPLETED 0:0", logs
    rows = list(read_labels(str(output.with_suffix(".json"))))
    assert len({row.problem_id for row in rows}) == len(rows) == 6


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRM of the embedded policy, after one step."""
    folder = tmp_path_factory.mktemp("prm")
    for name, count in (("train", 16), ("validation", 4)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make_rows(count, seed=1)))
    settings = [f"data={folder}", f"output={folder / 'run'}", "policy=embedded", "trainer.rm.max_steps=1"]
    settings += ["trainer.rm.val_check_interval=1", "model.global_batch_size=8", "model.micro_batch_size=4"]
    subprocess.run([sys.executable, "scripts/train_prm.py", *settings], cwd=ROOT, check=True)
    return folder / "run/prm.nemo"


def test_ppo_on_four_nodes_goes_on_after_its_time_limit(cluster: dict[str, str], prm: Path, tmp_path: Path) -> None:
    """Four minutes, of which the last 60 s are for the end: the job is queued again, and resumes."""
    steps = 400
    small = "model.global_batch_size=8 model.micro_batch_size=4"
    environment = cluster | {
        "OUTPUT": str(tmp_path / "ppo"),
        "PRM": str(prm),
        "MARGIN_S": "60",
        "ACTOR_ARGS": f"limit=32 trainer.ppo.max_steps={steps} trainer.ppo.save_interval=1000 {small} "
        "rollout_samples=0 "
        "model.ppo.num_rollout_samples=8 model.ppo.rollout_micro_batch_size=8 model.ppo.forward_micro_batch_size=8 "
        "model.ppo.length_params.max_length=4 exp_manager.create_tensorboard_logger=false",
        "CRITIC_ARGS": f"value_init=none {small}",
        "VERIFIER_ARGS": "sandbox.minimum_level=rlimits",
    }
    log = tmp_path / "ppo.log"
    job = slurm(environment, "sbatch", "--parsable", "--time=4", f"--output={log}", "scripts/slurm/ppo.sbatch")
    state = wait(cluster, job, timeout_s=1500)
    assert state == "COMPLETED 0:0", log.read_text()[-3000:]
    assert "not done yet: queued again, to go on from the last checkpoint" in log.read_text()
    assert (tmp_path / "ppo/policy.nemo").exists()
    lines = [line for file in (tmp_path / "ppo").rglob("metrics.jsonl") for line in file.read_text().splitlines()]
    done = [row["step"] for row in map(json.loads, lines) if "train_rollouts/rewards" in row]
    assert sorted(set(done)) == list(range(steps))
    assert len(done) == steps  # it saved when its time was up: no step was done twice
