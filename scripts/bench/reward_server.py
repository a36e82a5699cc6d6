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
"""The reward server against NeMo-Aligner's own, and against the bare forward pass, on the same weights in one run.

    python scripts/bench/reward_server.py [--layers 4 --hidden 128] [--seconds 8] [--options max_queue=0]

A request is one sequence: a prompt of the embedded set and a response as the policy was trained on. Clients are
threads of one process with a connection each, which send the next request when the last one is answered; they do not
decode the answers, but check their size. The stock server scores sequences (one value each), ours lines (two values
per token). The bare forward pass scores the same sequences, sorted by length, in batches of
`model.forward_micro_batch_size`. The three take turns; clients, Triton and the model share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from untrained_prm import compose, save_prm

from nemo_prm.config import RewardClientConfig
from nemo_prm.processes import Children, free_ports
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.wire import GENERAL_REWARD, PRM, ModelSpec

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = (1, 8, 64)
SEQUENCES = 512
MICRO_BATCH = 32


class Sequence(NamedTuple):
    tokens: list[int]
    prompt_length: int


class Round(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float


def craft(folder: Path, layers: int, hidden: int) -> None:
    """A PRM with random weights of this size, and the sequences in its tokens."""
    from nemo_prm.megatron import compat

    compat.apply()
    import torch
    from lightning.pytorch import Trainer
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
    from nemo.collections.nlp.parts.nlp_overrides import NLPDDPStrategy
    from nemo_aligner.utils.train_script_utils import init_distributed
    from omegaconf import open_dict

    from nemo_prm.data.embedded.chains import policy_texts
    from nemo_prm.data.embedded.tokenizer import train_tokenizer

    texts = list(islice(policy_texts(1, 1.0), SEQUENCES))
    cfg = compose("pretrain_policy")
    train_tokenizer((prompt + response for prompt, response in texts), folder / "tokenizer.model", cfg.vocab_size)
    cfg.model.tokenizer.model = str(folder / "tokenizer.model")
    cfg.model.update(num_layers=layers, hidden_size=hidden, ffn_hidden_size=4 * hidden)
    cfg.model.update(num_attention_heads=max(hidden // 64, 1), micro_batch_size=8, global_batch_size=16)
    torch.manual_seed(1)
    model = MegatronGPTModel(cfg.model, Trainer(strategy=NLPDDPStrategy(), devices=1, accelerator="cpu", logger=False))
    init_distributed(model.trainer, model)
    with open_dict(model.cfg):
        model.cfg.target = f"{MegatronGPTModel.__module__}.{MegatronGPTModel.__qualname__}"
    model.save_to(str(folder / "policy.nemo"))
    prm = save_prm(folder / "policy.nemo", folder)
    encode, end = prm.tokenizer.text_to_ids, prm.tokenizer.eos_id
    rows = [(encode(prompt), encode(response)) for prompt, response in texts]
    sequences = [Sequence([*prompt, *response, end], len(prompt)) for prompt, response in rows]
    count = sum(parameter.numel() for parameter in prm.model.parameters())
    (folder / "sequences.json").write_text(json.dumps({"parameters": count, "sequences": sequences}))


def stock(checkpoint: Path, port: int) -> None:
    """NeMo-Aligner's server as it is shipped, with the settings of ours."""
    from nemo_prm.megatron import compat

    compat.apply()
    from nemo_aligner.algorithms.reward_server import RewardModelServer
    from nemo_aligner.models.nlp.gpt.megatron_gpt_regression_reward_model import MegatronGPTRegressionRewardModel

    from nemo_prm.megatron import host
    from nemo_prm.serving.triton import use_python_library

    use_python_library()
    cfg = compose("serve_reward", f"checkpoint={checkpoint}", "model.output_sequence=false")
    loaded = host.load(cfg, "rm", MegatronGPTRegressionRewardModel)
    host.initialise(loaded, cfg)
    loaded.model.freeze()
    loaded.model.prepare_for_inference()
    RewardModelServer(
        infer_fn=loaded.model.infer,
        tokenize_func=None,
        model_name=GENERAL_REWARD.name,
        port=port,
        inference_micro_batch_size=MICRO_BATCH,
        model_forward_micro_batch_size=cfg.model.forward_micro_batch_size,
        strip_sequence_length_to_multiple=1,
        max_queue_delay_microseconds=cfg.batch_delay_us,
    ).run_server()


def bare(folder: Path, seconds: float) -> None:
    """For each line of stdin: run the forward pass alone for some seconds, and print the sequences per second."""
    from nemo_prm.megatron import compat

    compat.apply()
    import torch

    from nemo_prm.megatron import host
    from nemo_prm.megatron.prm import MegatronGPTPRM

    cfg = compose("serve_reward", f"checkpoint={folder / 'prm.nemo'}")
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.prepare_for_inference()
    sequences = sorted((tokens for tokens, _ in read_sequences(folder)), key=len)
    batches = []
    for start in range(0, len(sequences), MICRO_BATCH):
        part = sequences[start : start + MICRO_BATCH]
        width = max(map(len, part))
        rows = torch.tensor([row + [0] * (width - len(row)) for row in part])
        batches.append((rows, torch.tensor([len(row) for row in part])))
    with torch.no_grad():
        for batch in batches[:2]:
            loaded.model.infer(batch)
        print("BARE ready", flush=True)
        number = 0
        for _ in sys.stdin:
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                rows, lengths = batches[(number := number + 7) % len(batches)]  # 7 shares no factor with their number
                loaded.model.infer((rows, lengths))
                count += len(rows)
            print(f"BARE {count / (time.perf_counter() - started)}", flush=True)


def await_word(process: subprocess.Popen[str]) -> str:
    """What the next line of `bare` says."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("BARE "):
            return line.split()[1]
    sys.exit("the bare forward pass has ended")


def read_sequences(folder: Path) -> list[Sequence]:
    return [Sequence(*row) for row in json.loads((folder / "sequences.json").read_text())["sequences"]]


def load_test(spec: ModelSpec, port: int, sequences: list[Sequence], clients: int, seconds: float) -> Round:
    """Ask from `clients` connections at once, for some seconds."""
    encoder = ModelClient(spec, RewardClientConfig(url=f"http://127.0.0.1:{port}"))
    bodies = []
    for tokens, prompt_length in sequences:
        inputs = {"tokens": np.array([tokens]), "sequence_lengths": np.array([[len(tokens)]])}
        if spec is PRM:
            inputs["prompt_lengths"] = np.array([[prompt_length]])
        bodies.append((*encoder.encode(inputs), 8 * (len(tokens) - 1) if spec is PRM else 4))
    latencies: list[float] = []
    failures: list[str] = []
    deadline = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection, sent = HTTPConnection("127.0.0.1", port, timeout=60), number
        while time.perf_counter() < deadline and not failures:
            body, headers, size = bodies[sent % len(bodies)]
            started = time.perf_counter()
            connection.request("POST", f"/v2/models/{spec.name}/infer", body, headers)
            response = connection.getresponse()
            content = response.read()
            latencies.append(time.perf_counter() - started)
            if response.status != 200 or len(content) < size:
                failures.append(f"status {response.status}: {content[:200]!r}")
            sent += clients
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if failures:
        sys.exit(f"{spec.name} failed: {failures[0]}")
    cuts = statistics.quantiles(latencies, n=100)
    return Round(len(latencies) / elapsed, 1e3 * cuts[49], 1e3 * cuts[98])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", nargs="*", default=[], help="of our server: max_queue=0")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, folder, *rest = arguments.child
        {
            "craft": lambda: craft(Path(folder), *map(int, rest)),
            "stock": lambda: stock(Path(folder), int(rest[0])),
            "bare": lambda: bare(Path(folder), float(rest[0])),
        }[name]()
        return

    with tempfile.TemporaryDirectory(prefix="nemo_prm_bench_") as name:
        folder = Path(name)
        environment = {"PYTHONPATH": str(ROOT)}

        def child(*parts: object) -> list[str]:
            return [sys.executable, __file__, "--child", *map(str, parts)]

        def run(*parts: object) -> str:
            done = subprocess.run(child(*parts), env=os.environ | environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{parts[0]} failed:\n{done.stderr[-3000:]}")
            return done.stdout

        run("craft", folder, arguments.layers, arguments.hidden)
        content = json.loads((folder / "sequences.json").read_text())
        sequences = read_sequences(folder)
        load_before = os.getloadavg()[0]
        rounds: dict[tuple[str, int], list[Round]] = {}
        limits: dict[int, list[float]] = {}
        ours_port, stock_port = free_ports(2)
        with Children(folder, env=environment) as children:
            ours = [f"checkpoint={folder / 'prm.nemo'}", f"server.port={ours_port}", *arguments.options]
            servers = [
                (PRM, ours_port, [sys.executable, str(ROOT / "scripts" / "serve_reward.py"), *ours]),
                (GENERAL_REWARD, stock_port, child("stock", folder / "prm.nemo", stock_port)),
            ]
            for spec, port, command in servers:
                process = children.start(spec.name, command)
                children.wait_ready(process, port, [f"/v2/models/{spec.name}/ready"], timeout_s=180)
                load_test(spec, port, sequences, 8, 2.0)  # warm
            with subprocess.Popen(
                child("bare", folder, arguments.seconds),
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as forward:
                assert forward.stdin is not None
                await_word(forward)
                for _ in range(arguments.rounds):
                    for clients in CLIENTS:
                        for spec, port, _ in servers:
                            found = load_test(spec, port, sequences, clients, arguments.seconds)
                            rounds.setdefault((spec.name, clients), []).append(found)
                        print("go", file=forward.stdin, flush=True)
                        limits.setdefault(clients, []).append(float(await_word(forward)))
                forward.stdin.close()

    def median(spec: ModelSpec, clients: int) -> Round:
        return Round(*(statistics.median(column) for column in zip(*rounds[spec.name, clients])))

    lengths = [len(sequence.tokens) for sequence in sequences]
    print(
        f"{content['parameters'] / 1e6:.2f} M parameters; sequences of {min(lengths)} to {max(lengths)} tokens, mean "
        f"{statistics.mean(lengths):.0f}; load before {load_before:.1f}\n"
    )
    print("| clients | ours, 1/s | p50, p99 ms | stock, 1/s | p50, p99 ms | bare, 1/s | ours / stock | ours / bare |")
    print("|---|---|---|---|---|---|---|---|")
    table = {}
    for clients in CLIENTS:
        ours_, stock_, limit = (
            median(PRM, clients),
            median(GENERAL_REWARD, clients),
            statistics.median(limits[clients]),
        )
        print(
            f"| {clients} | {ours_.per_second:.0f} | {ours_.p50_ms:.1f}, {ours_.p99_ms:.1f} | {stock_.per_second:.0f} "
            f"| {stock_.p50_ms:.1f}, {stock_.p99_ms:.1f} | {limit:.0f} | {ours_.per_second / stock_.per_second:.2f} x "
            f"| {ours_.per_second / limit:.2f} x |"
        )
        table[clients] = {"ours": ours_._asdict(), "stock": stock_._asdict()}
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        result = {"parameters": content["parameters"], "bare_per_second": limits, "clients": table}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
