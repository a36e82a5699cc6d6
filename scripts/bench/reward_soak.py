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
"""Thousands of requests to the reward server, some of them malformed: every answer is checked, and its memory watched.

    python scripts/bench/reward_soak.py [--requests 10000] [--clients 8]

The PRM has random weights and the embedded policy's size. A good request has 1 to 4 sequences and must get what each
of them gets alone from the same model in another process. One in twenty is malformed in one of the ways of
`MALFORMED` and must get that way's own message. Memory is the proportional set size, without files, of the server and
all its processes after each tenth of the requests, and a rest in which the server gives back what it has freed. Exits
with 1 where an answer is wrong, or where memory has grown by over 5 % since the third tenth: until then allocators
fill their pools.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from numpy.typing import NDArray
from reward_server import ROOT, Sequence, craft, read_sequences
from untrained_prm import compose

from nemo_prm.config import RewardClientConfig
from nemo_prm.processes import Children, free_ports
from nemo_prm.serving.loop import TRIM_INTERVAL_S
from nemo_prm.serving.model_client import HTTPFailure, ModelClient
from nemo_prm.serving.wire import PRM, TOKEN_HEADER, Arrays
from nemo_prm.supervisor import descendants

TOKEN = "soak"
BAD_SHARE = 0.05
GROWTH = 1.05  # of the memory
REST_S = TRIM_INTERVAL_S + 2
WARM = 2  # index of the measurement that counts as warm

Inputs = dict[str, NDArray[Any]]


def make_inputs(sequences: list[Sequence], padding: int = 0) -> Inputs:
    width = max(len(tokens) for tokens, _ in sequences) + padding
    return {
        "tokens": np.array([tokens + [0] * (width - len(tokens)) for tokens, _ in sequences]),
        "sequence_lengths": np.array([[len(tokens)] for tokens, _ in sequences]),
        "prompt_lengths": np.array([[prompt] for _, prompt in sequences]),
    }


class Malformed(NamedTuple):
    """A way to be wrong: what it does to good inputs, and what the server must say."""

    spoil: Callable[[Inputs], Inputs]
    message: str
    status: int = 400


def put(name: str, value: int) -> Callable[[Inputs], Inputs]:
    """Inputs whose last row has `value` as the last item of `name`."""

    def spoil(inputs: Inputs) -> Inputs:
        array = inputs[name].copy()
        array[-1, -1] = value
        return {**inputs, name: array}

    return spoil


def too_long(inputs: Inputs) -> Inputs:
    width = 5000
    tokens = np.zeros((1, width), dtype=np.int64)
    return {"tokens": tokens, "sequence_lengths": np.array([[width]]), "prompt_lengths": np.array([[1]])}


def empty(inputs: Inputs) -> Inputs:
    nothing = np.zeros((1, 1), dtype=np.int64)
    return {"tokens": np.zeros((1, 0), dtype=np.int64), "sequence_lengths": nothing, "prompt_lengths": nothing}


MALFORMED = {
    "wrong dtype": Malformed(lambda i: {**i, "tokens": i["tokens"].astype(np.float32)}, "data-type"),
    "no inputs": Malformed(lambda i: {}, "inputs"),
    "no tokens": Malformed(empty, "input 'tokens' is empty"),
    "empty prompt": Malformed(
        lambda i: {"prompts": np.array([[b""]], dtype=object), "responses": np.array([[b"x\n"]], dtype=object)},
        "prompt 0 is empty",
    ),
    "longer than the model": Malformed(too_long, "the model takes 1024 tokens"),
    "prompt longer than the sequence": Malformed(put("prompt_lengths", 4000), "prompt_lengths of row"),
    "sequence longer than its tokens": Malformed(put("sequence_lengths", 900), "sequence_lengths of row"),
    "negative ids": Malformed(put("tokens", -1), "must lie in [0, "),
    "ids beyond the vocabulary": Malformed(put("tokens", 10**6), "got 1000000"),
    "half the inputs": Malformed(lambda i: {"tokens": i["tokens"]}, "inputs must be"),
    "no token": Malformed(lambda i: i, "", 0),  # any of the statuses that refuse a token
}


def expected_scores(folder: Path) -> None:
    """Write the line scores of each sequence, asked alone."""
    from functools import partial

    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_aligner.utils.distributed import run_distributed_inference

    from nemo_prm.megatron import host
    from nemo_prm.megatron.prm import MegatronGPTPRM
    from nemo_prm.serving.reward import LineScorer

    cfg = compose("serve_reward", f"checkpoint={folder / 'prm.nemo'}")
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.prepare_for_inference()
    scorer = LineScorer(loaded.model, partial(run_distributed_inference, infer_fn=loaded.model.infer))
    found = []
    for sequence in read_sequences(folder):
        [answer] = scorer.score([scorer.read(make_inputs([sequence]))])
        scores = answer["line_scores"][0]
        found.append({int(i): float(scores[i]) for i in np.flatnonzero(~np.isnan(scores))})
    (folder / "expected.json").write_text(json.dumps(found))


def resident_mib(pid: int) -> dict[str, float]:
    """Memory by program of a process and all that came of it; what they share counts once (proportional set size).

    Files are left out: libraries that are mapped elsewhere on the machine, too, seem to grow when those processes end.
    """
    total: defaultdict[str, float] = defaultdict(float)
    for each in (pid, *descendants(pid)):
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            found = [int(rollup.split(f"{name}:")[1].split()[0]) for name in ("Pss_Anon", "Pss_Shmem", "SwapPss")]
            total[Path(f"/proc/{each}/comm").read_text().strip()] += sum(found) / 1024
        except (OSError, IndexError):  # it has ended
            continue
    return dict(total)


class Soak:
    """The requests, and what is wrong with their answers."""

    def __init__(self, url: str, sequences: list[Sequence], expected: list[dict[str, float]], total: int) -> None:
        self.sequences, self.expected, self.left = sequences, expected, total
        self.client = ModelClient(PRM, RewardClientConfig(url=url, token=TOKEN))
        self.lock = threading.Lock()
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.go = threading.Event()

    def work(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self.wrong:
            self.go.wait()
            with self.lock:
                if not self.left:
                    return
                self.left -= 1
            try:
                self.ask(rng)
            except Exception as error:  # whatever it is, the run has failed
                self.wrong.append(f"{type(error).__name__}: {error}")

    def ask(self, rng: random.Random) -> None:
        chosen = [rng.randrange(len(self.sequences)) for _ in range(rng.randint(1, 4))]
        inputs = make_inputs([self.sequences[index] for index in chosen], rng.choice([0, 0, 5]))
        if rng.random() < BAD_SHARE:
            kind = rng.choice(list(MALFORMED))
            self.check_refusal(kind, MALFORMED[kind].spoil(inputs))
        else:
            kind = "good"
            self.check(chosen, self.client.infer(inputs))
        with self.lock:
            self.answered[kind] += 1

    def check(self, chosen: list[int], outputs: Arrays) -> None:
        for row, index in enumerate(chosen):
            scores, rewards = outputs["line_scores"][row], outputs["line_rewards"][row]
            wanted = self.expected[index]
            positions = np.array([int(position) for position in wanted])
            values = np.array(list(wanted.values()))
            same = np.array_equal(np.flatnonzero(~np.isnan(scores)), positions)
            if not same or not np.allclose(scores[positions], values, atol=1e-4):
                self.wrong.append(f"sequence {index} was scored {scores[~np.isnan(scores)]}, not {values}")
            if abs(rewards.sum() - np.clip(values, -1, 1).mean()) > 1e-4:
                self.wrong.append(f"sequence {index}: rewards sum to {rewards.sum()}")

    def check_refusal(self, kind: str, inputs: Inputs) -> None:
        body, headers = self.client.encode(inputs)
        if kind == "no token":
            headers.pop(TOKEN_HEADER)
        try:
            self.client.attempt(body, headers, 60, 5)
        except HTTPFailure as error:
            wanted = MALFORMED[kind]
            right = error.refuses_token if kind == "no token" else error.status == wanted.status
            if not right or wanted.message not in str(error):
                self.wrong.append(f"{kind}: status {error.status}, {error}")
        else:
            self.wrong.append(f"{kind} was answered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rests", type=int, default=10, help="how often the memory is looked at")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, folder = arguments.child[0], Path(arguments.child[1])
        craft(folder, 4, 128) if name == "craft" else expected_scores(folder)
        return

    with tempfile.TemporaryDirectory(prefix="nemo_prm_soak_") as name:
        folder = Path(name)
        environment = {"PYTHONPATH": str(ROOT)}
        for step in ("craft", "expect"):
            command = [sys.executable, __file__, "--child", step, str(folder)]
            done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{step} failed:\n{done.stderr[-3000:]}")
        expected = json.loads((folder / "expected.json").read_text())
        [port] = free_ports(1)
        with Children(folder, env=environment) as children:
            script = str(ROOT / "scripts" / "serve_reward.py")
            options = [f"checkpoint={folder / 'prm.nemo'}", f"server.port={port}", f"server.token={TOKEN}"]
            server = children.start("serve_reward", [sys.executable, script, *options])
            children.wait_ready(server, port, ["/v2/models/prm/ready"], timeout_s=180)
            soak = Soak(f"http://127.0.0.1:{port}", read_sequences(folder), expected, arguments.requests)
            threads = [threading.Thread(target=soak.work, args=(seed,)) for seed in range(arguments.clients)]
            started = time.monotonic()
            memory: list[dict[str, float]] = []  # after each part of the requests
            soak.go.set()
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.2)
                done_ = arguments.requests - soak.left
                if done_ >= arguments.requests * (len(memory) + 1) / arguments.rests:
                    soak.go.clear()
                    time.sleep(REST_S)
                    memory.append(resident_mib(server.process.pid))
                    soak.go.set()
            seconds = time.monotonic() - started
            time.sleep(REST_S)
            memory.append(resident_mib(server.process.pid))
            if server.exit_code() is not None:
                soak.wrong.append(f"the server ended with code {server.exit_code()}")
    show(soak, seconds, memory)


def show(soak: Soak, seconds: float, memory: list[dict[str, float]]) -> None:
    count = sum(soak.answered.values())
    bad = count - soak.answered["good"]
    print(f"{count} requests in {seconds:.0f} s, {bad} of them malformed")
    for kind, number in sorted(soak.answered.items()):
        print(f"  {kind}: {number}")
    totals = [sum(each.values()) for each in memory]
    print(f"memory, MiB: {', '.join(f'{total:.0f}' for total in totals)}")
    for program in memory[0]:
        print(f"  {program}: {', '.join(f'{each.get(program, 0):.0f}' for each in memory)}")
    if soak.wrong:
        sys.exit("wrong: " + "\n".join(soak.wrong[:5]))
    if totals[-1] > GROWTH * totals[WARM]:
        sys.exit(f"memory has grown by {100 * (totals[-1] / totals[WARM] - 1):.1f} %")


if __name__ == "__main__":
    main()
