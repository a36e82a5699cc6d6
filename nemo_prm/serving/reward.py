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
"""The reward server: the PRM's score of every line, and the normalised rewards that PPO adds at the newlines.

Shapes: B sequences padded to S tokens; column t-1 of [B, S-1] belongs to token t.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import torch
from nemo_aligner.utils import parallel_state
from nemo_aligner.utils.distributed import run_distributed_inference
from numpy.typing import NDArray
from omegaconf import DictConfig

from nemo_prm.config import ServerConfig, typed
from nemo_prm.data.alignment import step_end_tokens
from nemo_prm.data.steps import split_lines
from nemo_prm.errors import ConfigError, DataError, RequestError
from nemo_prm.megatron import host
from nemo_prm.megatron.identity import checkpoint_name
from nemo_prm.megatron.prm import MegatronGPTPRM
from nemo_prm.megatron.vocabulary import encode_continuation, vocabulary_bytes
from nemo_prm.rewards.lines import line_ends, newline_table, normalise_line_scores
from nemo_prm.serving.loop import Op, ServedModel, announce, serve
from nemo_prm.serving.messages import ScoreRequest, decode_score_request
from nemo_prm.serving.wire import PRM, TOO_LONG, Arrays, encode_text

# Of a forward pass beside its tokens, as a number of tokens: launching kernels on a GPU, Python on a CPU. It is a
# constant and not measured, so that the same rows share a pass, and scores are the same to the bit, after a restart.
FIXED_COST = 512.0


@dataclass(frozen=True)
class RewardRules:
    """How the PRM's scores become rewards; `serve_reward` shows them in Triton's config of the model.

    Attributes:
        clamp: scores are cut to [-clamp, clamp] (the labels' scale); None leaves them.
        normalise: divide by the number of lines (PSGPO, arXiv 2410.17621, section 4.2).
        code_only: where a response fences its code, only lines inside the fence are paid; else all lines are.
    """

    clamp: float | None = 1.0
    normalise: bool = True
    code_only: bool = True

    def __post_init__(self) -> None:
        if self.clamp is not None and not self.clamp > 0:
            raise ConfigError(f"rules.clamp must be over 0, or null for none, got {self.clamp}")


class Row(NamedTuple):
    """One sequence of a request, without its padding."""

    tokens: NDArray[np.int64]
    prompt_length: int


class ScoredRow(NamedTuple):
    """Line rewards and line scores, float [S-1] without padding, of one row, and whether all scores are numbers."""

    line_rewards: NDArray[np.float32]
    line_scores: NDArray[np.float32]
    num_lines: int
    finite: bool


def plan_passes(lengths: Sequence[int], max_rows: int, fixed_cost: float) -> list[list[int]]:
    """Which rows share a forward pass, so that all passes together cost least: rows of similar length.

    Args:
        lengths: of the rows, in tokens.
        max_rows: of one pass.
        fixed_cost: of a pass, beside that of its tokens (padding included), as a number of tokens.

    Returns:
        Indices into `lengths`, shortest rows first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cost, first = [0.0], [0]  # of the best plan for the shortest so many rows; where its last pass begins
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        options = (
            (cost[start] + fixed_cost + (end - start) * longest, start) for start in range(max(end - max_rows, 0), end)
        )
        best, start = min(options)
        cost.append(best)
        first.append(start)
    passes, end = [], len(order)
    while end:
        passes.append(order[first[end] : end])
        end = first[end]
    return passes[::-1]


class LineScorer:
    """Scores the lines of token sequences with a PRM; `score` runs on rank 0, `follow` on the others."""

    def __init__(
        self,
        model: Any,
        infer: Callable[..., NDArray[Any]],
        rules: RewardRules = RewardRules(),
        op: Op = Op.FORWARD,
    ) -> None:
        """
        Args:
            model: gives tokenizer and config.
            infer: scores float [B, S] of the host's inputs, which rank 0 has and the others lack; collective.
            rules: how scores become rewards.
            op: what tells the other ranks to `follow`.
        """
        self.model, self.tokenizer, self.infer, self.rules, self.op = model, model.tokenizer, infer, rules, op
        self.vocab_size, self.max_length = model.padded_vocab_size, model.cfg.encoder_seq_length
        self.pieces = vocabulary_bytes(self.tokenizer, self.vocab_size)
        self.table = newline_table(self.pieces, device=torch.cuda.current_device())
        self.has_backtick_V = np.array([b"`" in piece for piece in self.pieces])
        self.counters = {"tokens": 0, "padding_tokens": 0}  # of all forward passes

    def read(self, inputs: Arrays) -> ScoreRequest:
        """Check one request; text is tokenised as in training, with EOS at the end of a response that has ended."""
        request = decode_score_request(inputs, self.vocab_size, self.max_length)
        if isinstance(request, ScoreRequest):
            return request
        prompts = [self.tokenizer.text_to_ids(prompt) for prompt, _ in request]
        finished = inputs["finished"].reshape(-1).tolist() if "finished" in inputs else [True] * len(prompts)
        try:
            rows = [
                [*ids, *encode_continuation(self.tokenizer, self.pieces, response), *[self.tokenizer.eos_id] * ended]
                for ids, (_, response), ended in zip(prompts, request, finished)
            ]
        except DataError as error:  # one request's text: the others of the batch are answered
            raise RequestError(str(error)) from error
        # a response that fills the context was cut off, and has no EOS, here as in training
        rows = [row[:-1] if ended and len(row) == self.max_length + 1 else row for row, ended in zip(rows, finished)]
        for index, (ids, row) in enumerate(zip(prompts, rows)):
            if not ids:
                raise RequestError(f"prompt {index} is empty")
            if len(row) > self.max_length:
                raise RequestError(
                    f"{TOO_LONG}: prompt and response {index} have {len(row)} tokens, "
                    f"the model takes {self.max_length}"
                )
        length = max(2, *(len(row) for row in rows))  # scores are [B, S-1]; a prompt of one token may stand alone
        padding = self.tokenizer.eos_id
        return ScoreRequest(
            np.array([row + [padding] * (length - len(row)) for row in rows], dtype=np.int64),
            np.array([len(row) for row in rows], dtype=np.int64),
            np.array([len(ids) for ids in prompts], dtype=np.int64),
        )

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[dict[str, NDArray[Any]] | RequestError]:
        """Score a batch of requests; collective, the other ranks run `follow` for each forward pass.

        Rows of similar length share a pass, whichever request they came with, so that little of it is padding.
        """
        rows = [
            Row(tokens[:length], int(prompt))
            for request in requests
            for tokens, length, prompt in zip(request.tokens, request.sequence_lengths, request.prompt_lengths)
        ]
        size = self.model.forward_micro_batch_size * parallel_state.get_data_parallel_world_size()
        scored: list[Any] = [None] * len(rows)
        for part in plan_passes([len(row.tokens) for row in rows], size, FIXED_COST):
            for index, answer in zip(part, self._score_rows([rows[index] for index in part])):
                scored[index] = answer
        answers, first = [], 0
        for request in requests:
            count, width = request.tokens.shape[0], request.tokens.shape[1] - 1
            answers.append(_join(scored[first : first + count], width))
            first += count
        return answers

    def follow(self) -> None:
        """What the ranks other than 0 do while rank 0 scores."""
        self.infer()

    def _score_rows(self, rows: Sequence[Row]) -> list[ScoredRow]:
        multiple = parallel_state.get_data_parallel_world_size()
        height = -(-len(rows) // multiple) * multiple
        lengths = [len(row.tokens) for row in rows]
        tokens = np.full((height, max(lengths)), self.tokenizer.eos_id, dtype=np.int64)
        for index, row in enumerate(rows):
            tokens[index, : lengths[index]] = row.tokens
        self.counters["tokens"] += sum(lengths)
        self.counters["padding_tokens"] += tokens.size - sum(lengths)
        totals = np.array(lengths + [1] * (height - len(rows)), dtype=np.int64)
        announce(self.op)
        scores = self.infer({"inputs": torch.from_numpy(tokens), "sequence_length": torch.from_numpy(totals)[:, None]})
        ends = self._ends(rows, tokens[: len(rows)], totals[: len(rows)])
        rewards, raw, counts = normalise_line_scores(
            torch.from_numpy(scores[: len(rows)]).to(ends.device), ends, self.rules.clamp, self.rules.normalise
        )
        line_rewards, line_scores = rewards.cpu().numpy(), raw.cpu().numpy()
        scored = np.isfinite(line_scores).sum(axis=1) == counts.cpu().numpy()
        return [
            ScoredRow(line_rewards[index, : length - 1], line_scores[index, : length - 1], count, bool(scored[index]))
            for index, (length, count) in enumerate(zip(lengths, counts.tolist()))
        ]

    def _ends(self, rows: Sequence[Row], tokens: NDArray[np.int64], totals: NDArray[np.int64]) -> torch.Tensor:
        """bool [B, S], True at line ends; where the response fences its code, only lines inside the fence count."""
        prompts = np.array([row.prompt_length for row in rows], dtype=np.int64)
        device = self.table.has_newline_V.device
        ends_BS = line_ends(self.table, *(torch.from_numpy(array).to(device) for array in (tokens, prompts, totals)))
        if not self.rules.code_only:
            return ends_BS
        for index, row in enumerate(rows):
            response = row.tokens[row.prompt_length :]
            if not self.has_backtick_V[response].any():
                continue
            pieces = [self.pieces[token] for token in response.tolist()]
            text = b"".join(pieces).decode(errors="surrogateescape")
            if "```" in text:
                ends_BS[index] = False
                before = b"".join(self.pieces[token] for token in row.tokens[: row.prompt_length].tolist())
                steps = split_lines(text, prompt=before.decode(errors="surrogateescape"))
                positions = step_end_tokens(pieces, steps, text)
                ends_BS[index, [row.prompt_length + position for position in positions]] = True
        return ends_BS


def _join(scored: Sequence[ScoredRow], width: int) -> dict[str, NDArray[Any]] | RequestError:
    """The rows of one request, as wide as it came; NaN stands for tokens that end no line, and for nothing else."""
    if broken := [index for index, row in enumerate(scored) if not row.finite]:
        return RequestError(
            f"the PRM's score of a line of row {broken[0]} is no finite number: its checkpoint is broken, or its "
            "activations overflow (trainer.precision=32 or bf16)"
        )
    line_rewards = np.zeros((len(scored), width), dtype=np.float32)
    line_scores = np.full((len(scored), width), np.nan, dtype=np.float32)
    for index, (rewards, scores, *_) in enumerate(scored):
        line_rewards[index, : len(rewards)], line_scores[index, : len(scores)] = rewards, scores
    counts = np.array([[row.num_lines] for row in scored], dtype=np.int64)
    return {"line_rewards": line_rewards, "line_scores": line_scores, "num_lines": counts}


def served_prm(
    scorer: LineScorer, checkpoint: str, max_batch: int, batch_delay_us: int, max_queue: int
) -> ServedModel:
    """The `prm` model, for `serve`; clients are told the name of its `checkpoint`, a path."""
    told = {"checkpoint": checkpoint_name(Path(checkpoint)), **asdict(scorer.rules)}
    warm_up = {"prompts": encode_text(["a"]), "responses": encode_text(["b\n"])}
    return ServedModel(
        PRM,
        scorer.score,
        scorer.read,
        warm_up,
        max_batch=max_batch,
        batch_delay_us=batch_delay_us,
        max_queue=max_queue,
        info={name: json.dumps(value) for name, value in told.items()},
        counters=scorer.counters,
    )


def serve_reward(cfg: DictConfig, server: ServerConfig) -> None:
    """Load the PRM and serve it until SIGTERM; collective.

    Args:
        cfg: `conf/serve_reward.yaml`.
        server: where to listen.
    """
    rules = typed(RewardRules, cfg, "rules")
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.freeze()
    loaded.model.cuda()
    loaded.model.prepare_for_inference()
    scorer = LineScorer(loaded.model, partial(run_distributed_inference, infer_fn=loaded.model.infer), rules)
    model = served_prm(scorer, cfg.checkpoint, cfg.max_batch, cfg.batch_delay_us, cfg.max_queue)
    serve([model], server, {Op.FORWARD: scorer.follow})
