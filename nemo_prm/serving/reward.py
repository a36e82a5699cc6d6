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

from functools import partial
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import torch
from nemo_aligner.utils.distributed import run_distributed_inference
from nemo_aligner.utils.server_utils import (
    calculate_inference_batch_padding_multiple,
    pad_batch_and_strip_sequence,
)
from numpy.typing import NDArray
from omegaconf import DictConfig

from nemo_prm.config import ServerConfig
from nemo_prm.data.alignment import step_end_tokens
from nemo_prm.data.steps import split_lines
from nemo_prm.errors import DataError, RequestError
from nemo_prm.megatron import host
from nemo_prm.megatron.prm import MegatronGPTPRM
from nemo_prm.megatron.vocabulary import encode_continuation, vocabulary_bytes
from nemo_prm.rewards.lines import line_ends, newline_table, normalise_line_scores
from nemo_prm.serving.loop import Op, ServedModel, announce, serve
from nemo_prm.serving.messages import ScoreRequest, decode_score_request
from nemo_prm.serving.wire import PRM, Arrays, encode_text


class Batch(NamedTuple):
    """Requests joined: tokens int64 [B, S], prompt_lengths and total_lengths int64 [B], on the CPU."""

    tokens: torch.Tensor
    prompt_lengths: torch.Tensor
    total_lengths: torch.Tensor


def join_requests(requests: Sequence[ScoreRequest], pad_id: int) -> Batch:
    """Pad requests of mixed length to one batch."""
    length = max(int(request.sequence_lengths.max()) for request in requests)
    rows = [torch.from_numpy(np.array(request.tokens[:, :length])) for request in requests]
    padded = [torch.nn.functional.pad(row, (0, length - row.size(1)), value=pad_id) for row in rows]
    return Batch(
        torch.cat(padded),
        torch.from_numpy(np.concatenate([request.prompt_lengths for request in requests])),
        torch.from_numpy(np.concatenate([request.sequence_lengths for request in requests])),
    )


class LineScorer:
    """Scores the lines of token sequences with a PRM; `score` runs on rank 0, `follow` on the others."""

    def __init__(self, model: Any, infer: Callable[..., NDArray[Any]], op: Op = Op.FORWARD) -> None:
        """
        Args:
            model: gives tokenizer and config.
            infer: scores float [B, S] of the host's inputs, which rank 0 has and the others lack; collective.
            op: what tells the other ranks to `follow`.
        """
        self.model, self.tokenizer, self.infer, self.op = model, model.tokenizer, infer, op
        self.vocab_size, self.max_length = model.padded_vocab_size, model.cfg.encoder_seq_length
        self.pieces = vocabulary_bytes(self.tokenizer, self.vocab_size)
        self.table = newline_table(self.pieces, device=torch.cuda.current_device())
        self.has_backtick_V = torch.tensor([b"`" in piece for piece in self.pieces])

    def read(self, inputs: Arrays) -> ScoreRequest:
        """Check one request; text is tokenised as in training, with EOS at the end."""
        request = decode_score_request(inputs, self.vocab_size, self.max_length)
        if isinstance(request, ScoreRequest):
            return request
        prompts = [self.tokenizer.text_to_ids(prompt) for prompt, _ in request]
        try:
            rows = [
                [*ids, *encode_continuation(self.tokenizer, self.pieces, response), self.tokenizer.eos_id]
                for ids, (_, response) in zip(prompts, request)
            ]
        except DataError as error:  # one request's text: the others of the batch are answered
            raise RequestError(str(error)) from error
        for index, (ids, row) in enumerate(zip(prompts, rows)):
            if not ids:
                raise RequestError(f"prompt {index} is empty")
            if len(row) > self.max_length:
                raise RequestError(
                    f"prompt and response {index} have {len(row)} tokens, the model takes {self.max_length}"
                )
        length = max(len(row) for row in rows)
        padding = self.tokenizer.eos_id
        return ScoreRequest(
            np.array([row + [padding] * (length - len(row)) for row in rows], dtype=np.int64),
            np.array([len(row) for row in rows], dtype=np.int64),
            np.array([len(ids) for ids in prompts], dtype=np.int64),
        )

    @torch.no_grad()
    def score(self, requests: Sequence[ScoreRequest]) -> list[dict[str, NDArray[Any]]]:
        """Score a batch of requests in one pass; collective, the other ranks run `follow`."""
        batch = join_requests(requests, self.tokenizer.eos_id)
        announce(self.op)
        multiple = calculate_inference_batch_padding_multiple(
            batch.tokens.size(0), self.model.forward_micro_batch_size
        )
        inputs, extra, _ = pad_batch_and_strip_sequence(
            batch.tokens, batch.total_lengths.unsqueeze(1), pad_to_multiple=multiple
        )
        scores = torch.from_numpy(self.infer(inputs))
        scores_BS = scores[: scores.size(0) - extra].to(self.table.has_newline_V.device)
        rewards = normalise_line_scores(scores_BS, self.ends(batch).to(scores_BS.device))
        return self._split(requests, *(tensor.cpu().numpy() for tensor in rewards))

    def follow(self) -> None:
        """What the ranks other than 0 do while rank 0 scores."""
        self.infer()

    def ends(self, batch: Batch) -> torch.Tensor:
        """bool [B, S], True at line ends; where the response fences its code, only lines inside the fence count."""
        device = self.table.has_newline_V.device
        ends_BS = line_ends(self.table, *(tensor.to(device) for tensor in batch)).cpu()
        backtick_rows = (self.has_backtick_V[batch.tokens]).any(dim=1).nonzero().flatten().tolist()
        for row in backtick_rows:
            prompt, total = int(batch.prompt_lengths[row]), int(batch.total_lengths[row])
            pieces = [self.pieces[token] for token in batch.tokens[row, prompt:total].tolist()]
            text = b"".join(pieces).decode(errors="surrogateescape")
            if "```" in text:
                ends_BS[row] = False
                positions = step_end_tokens(pieces, split_lines(text), text)
                ends_BS[row, [prompt + position for position in positions]] = True
        return ends_BS

    @staticmethod
    def _split(
        requests: Sequence[ScoreRequest],
        line_rewards: NDArray[np.float32],
        line_scores: NDArray[np.float32],
        num_lines: NDArray[np.int64],
    ) -> list[dict[str, NDArray[Any]]]:
        """Cut the batch back into requests, each as wide as it came."""
        answers, start = [], 0
        for request in requests:
            rows = slice(start, start + request.tokens.shape[0])
            start, width = rows.stop, request.tokens.shape[1] - 1
            answers.append(
                {
                    "line_rewards": _fit(line_rewards[rows], width, 0.0),
                    "line_scores": _fit(line_scores[rows], width, float("nan")),
                    "num_lines": num_lines[rows].reshape(-1, 1),
                }
            )
        return answers


def _fit(array: NDArray[np.float32], width: int, fill: float) -> NDArray[np.float32]:
    """Cut or pad the columns of [B, any] to `width`."""
    cut = array[:, :width]
    return np.pad(cut, ((0, 0), (0, width - cut.shape[1])), constant_values=fill)


def served_prm(scorer: LineScorer, max_batch: int, batch_delay_us: int, max_queue: int) -> ServedModel:
    """The `prm` model, for `serve`."""
    warm_up = {"prompts": encode_text(["a"]), "responses": encode_text(["b\n"])}
    return ServedModel(
        PRM,
        scorer.score,
        scorer.read,
        warm_up,
        max_batch=max_batch,
        batch_delay_us=batch_delay_us,
        max_queue=max_queue,
    )


def serve_reward(cfg: DictConfig, server: ServerConfig) -> None:
    """Load the PRM and serve it until SIGTERM; collective.

    Args:
        cfg: `conf/serve_reward.yaml`.
        server: where to listen.
    """
    loaded = host.load(cfg, "rm", MegatronGPTPRM)
    host.initialise(loaded, cfg)
    loaded.model.freeze()
    loaded.model.cuda()
    loaded.model.prepare_for_inference()
    scorer = LineScorer(loaded.model, partial(run_distributed_inference, infer_fn=loaded.model.infer))
    model = served_prm(scorer, cfg.max_batch, cfg.batch_delay_us, cfg.max_queue)
    serve([model], server, {Op.FORWARD: scorer.follow})
