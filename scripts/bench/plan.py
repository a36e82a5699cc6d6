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
"""What a run needs: python scripts/bench/plan.py --model qwen2.5-coder-7b --gpu h100 --context 4096 --rollouts 1024

Prints how each role is laid out (TP, PP, DP, memory), what a PPO step takes and how many servers keep it from waiting,
labels per day, and the cost. `--check` compares the formulas with published figures. docs/scaling.md explains them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

GIB = 2**30
BANDWIDTH_SHARE = 0.6  # of the memory's peak that decoding reaches
TRAIN_SHARE = 0.40  # of the peak FLOP/s, training
SCORE_SHARE = 0.45  # of the peak FLOP/s, forward passes of whole sequences
USABLE = 0.90  # of a GPU's memory
ALL_REDUCE_S = 50e-6  # of one token's, two a layer, where TP > 1
OVERHEAD = 4 * GIB  # CUDA context, NCCL, workspaces


@dataclass(frozen=True)
class GPU:
    memory: float  # bytes
    flops: float  # dense bf16 FLOP/s
    bandwidth: float  # bytes/s


GPUS = {
    "a100": GPU(80 * GIB, 312e12, 2.04e12),
    "h100": GPU(80 * GIB, 989e12, 3.35e12),
    "h200": GPU(141 * GIB, 989e12, 4.8e12),
}


@dataclass(frozen=True)
class Model:
    """A decoder of the Llama or Qwen2 family: L layers, hidden size h, gated MLP of width f."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool = False
    qkv_bias: bool = True

    @property
    def kv_width(self) -> int:
        return self.hidden // self.heads * self.kv_heads

    @property
    def matmul_weights(self) -> int:
        """Weights that every token is multiplied with: those of the layers, and of the output."""
        layer = 2 * self.hidden**2 + 2 * self.hidden * self.kv_width + 3 * self.hidden * self.mlp
        return self.layers * layer + self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        biases = self.qkv_bias * (self.hidden + 2 * self.kv_width)
        small = self.layers * (2 * self.hidden + biases) + self.hidden
        return self.matmul_weights + small + (0 if self.tied else self.vocab * self.hidden)

    def forward_flops(self, tokens: float, length: float) -> float:
        """Of `tokens` tokens in causal sequences of `length`."""
        return tokens * (2 * self.matmul_weights + 2 * self.layers * self.hidden * length)

    def kv_bytes(self, bytes_each: float = 2) -> float:
        """Of one token in the cache."""
        return 2 * self.layers * self.kv_width * bytes_each


MODELS = {
    "qwen2.5-coder-0.5b": Model(24, 896, 4864, 14, 2, 151936, tied=True),
    "qwen2.5-coder-1.5b": Model(28, 1536, 8960, 12, 2, 151936, tied=True),
    "qwen2.5-coder-3b": Model(36, 2048, 11008, 16, 2, 151936, tied=True),
    "qwen2.5-coder-7b": Model(28, 3584, 18944, 28, 4, 152064),
    "qwen2.5-coder-14b": Model(48, 5120, 13824, 40, 8, 152064),
    "qwen2.5-coder-32b": Model(64, 5120, 27648, 40, 8, 152064),
    "deepseek-coder-1.3b": Model(24, 2048, 5504, 16, 16, 32256, qkv_bias=False),
    "deepseek-coder-6.7b": Model(32, 4096, 11008, 32, 32, 32256, qkv_bias=False),
    "llama-2-7b": Model(32, 4096, 11008, 32, 32, 32000, qkv_bias=False),
    "llama-2-70b": Model(80, 8192, 28672, 64, 8, 32000, qkv_bias=False),
}


@dataclass(frozen=True)
class Layout:
    """How one copy is split, how many copies there are, and the bytes on each GPU."""

    tensor: int
    pipeline: int
    data: int
    memory: float

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data


def training_bytes(model: Model, context: int, micro_batch: int, tensor: int, pipeline: int, data: int) -> float:
    """On each GPU: bf16 weights, fp32 gradients, distributed Adam (fp32 weights, two moments, split over DP),
    activations with selective recomputation and sequence parallelism, 34 s b h L / TP bytes (2205.05198, Table 2;
    the pipeline's stages hold as many micro batches as there are stages), and the logits in fp32 of the last stage.
    """
    weights = model.parameters / (tensor * pipeline)
    activations = 34 * context * micro_batch * model.hidden * model.layers / tensor
    logits = 6 * context * micro_batch * model.vocab / tensor
    return weights * (2 + 4 + 12 / data) + activations + logits + OVERHEAD


def serving_bytes(model: Model, context: int, rows: int, tensor: int, cached: bool) -> float:
    """On each GPU: bf16 weights, and the cache of `rows` sequences, or the activations of one layer."""
    weights = 2 * model.parameters / tensor
    if cached:
        return weights + rows * context * model.kv_bytes() / tensor + OVERHEAD
    return weights + rows * context * (34 * model.hidden + 2 * model.mlp) / tensor + OVERHEAD


def fit_training(model: Model, gpu: GPU, context: int, micro_batch: int, gpus: int) -> Layout | None:
    """The layout of `gpus` GPUs with the smallest TP x PP that fits, TP first; it stays within a node of 8."""
    for split, pipeline in sorted(
        (tensor * pipeline, pipeline) for tensor in (1, 2, 4, 8) for pipeline in (1, 2, 4, 8)
    ):
        tensor = split // pipeline
        if gpus % split or model.kv_heads % tensor or model.layers % pipeline:
            continue
        memory = training_bytes(model, context, micro_batch, tensor, pipeline, gpus // split)
        if memory <= USABLE * gpu.memory:
            return Layout(tensor, pipeline, gpus // split, memory)
    return None


def fit_serving(model: Model, gpu: GPU, context: int, rows: int, cached: bool) -> Layout | None:
    """The smallest TP that holds one copy."""
    for tensor in (1, 2, 4, 8):
        if model.kv_heads % tensor:
            continue
        memory = serving_bytes(model, context, rows, tensor, cached)
        if memory <= USABLE * gpu.memory:
            return Layout(tensor, 1, 1, memory)
    return None


def decode_seconds(
    model: Model, gpu: GPU, prompt: int, response: int, rows: int, tensor: int = 1, weight_bytes: float = 2
) -> float:
    """To generate `rows` responses together: the prompts' forward pass, then one pass over weights and cache a token.

    `weight_bytes` 1 is FP8, cache included, whose peak is twice that of bf16.
    """
    prefill = model.forward_flops(rows * prompt, prompt) / (SCORE_SHARE * gpu.flops * 2 / weight_bytes * tensor)
    cache = rows * (prompt + response / 2) * model.kv_bytes(weight_bytes)
    per_token = (weight_bytes * model.matmul_weights + cache) / (tensor * BANDWIDTH_SHARE * gpu.bandwidth)
    return prefill + response * (per_token + (tensor > 1) * 2 * model.layers * ALL_REDUCE_S)


def score_seconds(model: Model, gpu: GPU, sequences: float, length: float, gpus: int) -> float:
    return model.forward_flops(sequences * length, length) / (SCORE_SHARE * gpu.flops * gpus)


def train_seconds(model: Model, gpu: GPU, sequences: float, length: float, gpus: int) -> float:
    """Forward and backward: three forward passes."""
    return 3 * model.forward_flops(sequences * length, length) / (TRAIN_SHARE * gpu.flops * gpus)


def rows_that_fit(model: Model, gpu: GPU, context: int, tensor: int) -> int:
    """How many sequences a copy can generate at a time."""
    free = USABLE * gpu.memory - serving_bytes(model, context, 0, tensor, cached=True)
    return max(int(free * tensor / (context * model.kv_bytes())), 1)


def plan(arguments: argparse.Namespace) -> list[str]:
    model, gpu = MODELS[arguments.model], GPUS[arguments.gpu]
    prompt, response = arguments.prompt_tokens, arguments.response_tokens
    length = prompt + response
    lines = [
        f"{arguments.model}: {model.parameters / 1e9:.2f} G parameters, {arguments.gpu}, context {arguments.context}"
    ]
    training = fit_training(model, gpu, arguments.context, arguments.micro_batch, arguments.gpus)
    serving = fit_serving(model, gpu, arguments.context, arguments.micro_batch, cached=False)
    generating = fit_serving(model, gpu, arguments.context, 8, cached=True)
    if training is None or serving is None or generating is None:
        return [*lines, f"does not fit: more than {arguments.gpus} GPUs, a shorter context, or LoRA"]
    for name, each in (("actor, and critic", training), ("reward server", serving), ("generation server", generating)):
        lines.append(
            f"  {name}: TP {each.tensor} x PP {each.pipeline} x DP {each.data} = {each.gpus} GPUs, "
            f"{each.memory / GIB:.0f} GiB on each"
        )
    lines.append(
        f"  host memory of an actor's node, for the first policy's weights: {2 * model.parameters / GIB:.0f} GiB"
    )

    copies = max(arguments.gpus // generating.tensor, 1)
    rows = min(rows_that_fit(model, gpu, arguments.context, generating.tensor), -(-arguments.rollouts // copies), 256)
    waves = -(-arguments.rollouts // (rows * copies))
    generate = waves * decode_seconds(model, gpu, prompt, response, rows, generating.tensor)
    score = score_seconds(model, gpu, arguments.rollouts, length, 1)
    verify = arguments.rollouts * arguments.test_seconds
    log_probs = 2 * score_seconds(model, gpu, arguments.rollouts, length, arguments.gpus)
    train = train_seconds(model, gpu, arguments.rollouts, length, arguments.gpus)
    step = generate + log_probs + train
    critic_works = score + train_seconds(model, gpu, arguments.rollouts, length, 1)
    critic, cores = -(-critic_works // step), -(-verify // generate)
    lines += [
        f"a PPO step of {arguments.rollouts} rollouts, {prompt} + {response} tokens each, on {arguments.gpus} GPUs:",
        f"  {step:.0f} s: generate {generate:.0f} s ({copies} copies of {rows} rows), log-probs {log_probs:.0f} s, "
        f"train {train:.0f} s",
        "  so that none of it is waited for, since it is done while the next batch is generated:",
        f"    reward servers: {-(-score // generate):.0f} GPU(s), TP {serving.tensor} each ({score:.0f} GPU-seconds)",
        f"    critic: {critic:.0f} GPU(s) for its time, {training.tensor * training.pipeline} for its memory",
        f"    verifier: {cores:.0f} core(s) ({verify:.0f} core-seconds)",
    ]
    label_rows = min(rows_that_fit(model, gpu, arguments.context, generating.tensor), 256)
    rate = label_rows / decode_seconds(model, gpu, prompt, response, label_rows, generating.tensor)
    labels = rate / arguments.label_completions * 86400 / generating.tensor
    busy = arguments.label_completions * arguments.test_seconds * labels / 86400
    hours, ppo_hours = 24 / labels * 1000, 100 * step * arguments.gpus * 2 / 3600
    lines += [
        f"labels, {arguments.label_completions} completions of {response} tokens each: {labels:,.0f} a GPU and day, "
        f"with {busy:.1f} verifier cores for each GPU",
        f"  1,000 labels: {hours:.1f} GPU-hours, {hours * arguments.price:,.0f} at {arguments.price:g} a GPU-hour",
        f"  100 PPO steps, the critic on as many GPUs as the actor: {ppo_hours:.0f} GPU-hours, "
        f"{ppo_hours * arguments.price:,.0f}",
    ]
    return lines


def checks() -> list[tuple[str, float, float]]:
    """What was published, and what the formulas say: (what, published, ours)."""
    seven, seventy = MODELS["llama-2-7b"], MODELS["llama-2-70b"]

    def throughput(model: Model, rows: int, prompt: int, response: int, tensor: int) -> float:
        return rows * response / decode_seconds(model, GPUS["h100"], prompt, response, rows, tensor, weight_bytes=1)

    hours = train_seconds(seven, GPUS["a100"], 2e12 / 4096, 4096, 1) / 3600
    hours70 = train_seconds(seventy, GPUS["a100"], 2e12 / 4096, 4096, 1) / 3600
    return [
        ("Llama 2 7B, A100-hours of 2 T tokens (arXiv 2307.09288, Table 2)", 184_320, hours),
        ("Llama 2 70B, the same", 1_720_320, hours70),
        # TensorRT-LLM 0.5.0, docs/source/performance.md, H100, FP8, output tokens/s
        ("LLaMA 7B, 64 rows, 128 in, 128 out (TensorRT-LLM 0.5.0)", 9_193, throughput(seven, 64, 128, 128, 1)),
        ("LLaMA 7B, 64 rows, 128 in, 2048 out", 5_367, throughput(seven, 64, 128, 2048, 1)),
        ("LLaMA 7B, 64 rows, 2048 in, 128 out", 2_058, throughput(seven, 64, 2048, 128, 1)),
        ("LLaMA 7B, 32 rows, 2048 in, 2048 out", 2_230, throughput(seven, 32, 2048, 2048, 1)),
        ("LLaMA 70B, TP 4, 64 rows, 128 in, 128 out", 3_317, throughput(seventy, 64, 128, 128, 4)),
        ("LLaMA 70B, TP 4, 64 rows, 128 in, 2048 out", 2_616, throughput(seventy, 64, 128, 2048, 4)),
        ("LLaMA 70B, TP 4, 64 rows, 2048 in, 2048 out", 1_583, throughput(seventy, 64, 2048, 2048, 4)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="qwen2.5-coder-7b", help="of actor, critic and PRM")
    parser.add_argument("--gpu", choices=GPUS, default="h100")
    parser.add_argument("--gpus", type=int, default=8, help="of the actor")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--rollouts", type=int, default=1024, help="of a PPO step")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--response-tokens", type=int, default=512)
    parser.add_argument("--test-seconds", type=float, default=0.5, help="that all tests of a program take on one core")
    parser.add_argument(
        "--label-completions", type=int, default=40, help="of a labelled response (docs/benchmarks.md)"
    )
    parser.add_argument("--price", type=float, default=3.0, help="of a GPU-hour")
    parser.add_argument("--check", action="store_true", help="compare the formulas with published figures")
    arguments = parser.parse_args()
    if not arguments.check:
        print("\n".join(plan(arguments)))
        return
    print(f"{'':70}{'published':>12}{'here':>12}{'ratio':>8}")
    for what, published, ours in checks():
        print(f"{what:70}{published:>12,.0f}{ours:>12,.0f}{ours / published:>8.2f}")


if __name__ == "__main__":
    main()
