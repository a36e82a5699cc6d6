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
"""The served models behind the protocols of the light side: the policy and the process reward model."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

import nemo_prm
from nemo_prm.config import GeneratorConfig, RewardClientConfig
from nemo_prm.data.seeds import occurrence_seeds
from nemo_prm.errors import (
    ConfigError,
    GeneratorError,
    PromptTooLongError,
    RequestError,
    RequestFailedError,
    ServerError,
)
from nemo_prm.serving.messages import GenerationRequest, decode_completions, encode_generation_request
from nemo_prm.serving.model_client import ModelClient
from nemo_prm.serving.wire import GENERATION, GENERATION_LOAD, PRM, TOO_LONG, Arrays, decode_text, encode_text
from nemo_prm.types import Completion, SamplingParams

MAX_ROWS = 512  # completions in one request: bounds how long one takes
SCRIPT = "scripts/serve_generation.py"


class GenerationClient:
    """The policy behind `scripts/serve_generation.py`; a `nemo_prm.protocols.Generator`.

    It answers from one checkpoint: once the server has named it, answers from another one are refused, until `load`
    asks for that one. `name` ends with it.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        self.name = f"nemo-prm-generation/{nemo_prm.__version__}"
        self.checkpoint = ""  # as the server names it; empty before its first answer
        self._config = config
        seen = threading.Event()
        self._client = ModelClient(GENERATION, config, GeneratorError, SCRIPT, RequestFailedError, seen)
        patient = replace(config, timeout_s=config.load_timeout_s)
        self._loader = ModelClient(GENERATION_LOAD, patient, GeneratorError, SCRIPT, seen=seen)
        self._lock = threading.Lock()  # several threads may ask

    def generate(
        self, prompts: Sequence[str], n: int, params: SamplingParams, seed: int, first: int = 0
    ) -> list[list[Completion]]:
        """See `nemo_prm.protocols.Generator`.

        Raises:
            PromptTooLongError: prompts that fill the policy's context; the others were generated in vain.
            RequestFailedError: the server failed on these prompts, or answered nonsense.
            GeneratorError: it cannot be reached, or another client has changed its checkpoint.
        """
        seeds = occurrence_seeds(prompts, seed)
        size = max(1, min(self._config.batch_size, MAX_ROWS // max(n, 1)))
        answers: list[list[Completion] | str] = []
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            try:
                request = GenerationRequest(list(prompts[part]), n, params, seeds[part], first)
                outputs = self._client.infer(encode_generation_request(request))
            except RequestError as error:
                raise RequestFailedError(f"{self._config.url} refused the request: {error}") from error
            try:
                found, checkpoint = decode_completions(outputs, len(request.prompts), n)
            except (RequestError, ValueError, LookupError, TypeError) as error:
                raise RequestFailedError(f"{self._config.url} answered nonsense: {error}") from error
            self._check(checkpoint)
            answers += found
        refused = {i: answer for i, answer in enumerate(answers) if isinstance(answer, str)}
        if refused:
            index, reason = next(iter(refused.items()))
            message = f"{len(refused)} of {len(prompts)} prompts were refused, the first is number {index}: {reason}"
            if all(answer.startswith(TOO_LONG) for answer in refused.values()):
                raise PromptTooLongError(message, list(refused))
            raise RequestFailedError(message)
        return [answer for answer in answers if not isinstance(answer, str)]

    def load(self, checkpoint: str) -> str:
        """Make the server go on with another checkpoint, for all its clients.

        Args:
            checkpoint: path of a `.nemo` as the server sees it, of the architecture it was started with.

        Returns:
            The checkpoint's name, as in `self.checkpoint`.

        Raises:
            GeneratorError: the server refuses it and keeps the one it has, or cannot be reached.
        """
        try:
            answer = self._loader.infer({"checkpoint": encode_text([checkpoint], "checkpoint")})
        except RequestError as error:
            raise GeneratorError(f"{self._config.url} refused the checkpoint: {error}") from error
        with self._lock:
            self._know(decode_text(answer["name"])[0][0])
        return self.checkpoint

    def _check(self, checkpoint: str) -> None:
        with self._lock:
            if not self.checkpoint:
                self._know(checkpoint)
            if checkpoint != self.checkpoint:
                raise GeneratorError(
                    f"{self._config.url} answered from checkpoint {checkpoint} and no longer from {self.checkpoint}: "
                    "was it restarted, or does another job load checkpoints there?"
                )

    def _know(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.name = f"nemo-prm-generation/{nemo_prm.__version__}/{checkpoint}"

    def close(self) -> None:
        """Stop waiting for the server; call it always."""
        self._client.close()
        self._loader.close()

    def __enter__(self) -> GenerationClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LineScores(NamedTuple):
    """Answer of the `prm` model; column t - 1 belongs to token t.

    Attributes:
        line_rewards: float32 [B, S-1], score over number of lines at the token that ends a line, else 0.
        line_scores: float32 [B, S-1], raw score at the token that ends a line, else NaN.
        num_lines: int64 [B].
    """

    line_rewards: NDArray[np.float32]
    line_scores: NDArray[np.float32]
    num_lines: NDArray[np.int64]


def _code_only(said: Mapping[str, str]) -> bool:
    return bool(json.loads(said.get("code_only", "false")))


class RewardClient:
    """The process reward model behind `scripts/serve_reward.py`; a `nemo_prm.protocols.StepScorer`."""

    def __init__(self, config: RewardClientConfig) -> None:
        self._config = config
        self._client = ModelClient(PRM, config, ServerError, "scripts/serve_reward.py")

    def score_tokens(self, tokens: ArrayLike, sequence_lengths: ArrayLike, prompt_lengths: ArrayLike) -> LineScores:
        """Score token sequences.

        Args:
            tokens: int64 [B, S], padded with any token of the vocabulary.
            sequence_lengths: int64 [B], prompt and response in tokens, without padding.
            prompt_lengths: int64 [B], in tokens.
        """
        ids = np.ascontiguousarray(tokens, dtype=np.int64)
        if not len(ids):
            nothing = np.zeros((0, max(ids.shape[-1] - 1, 0)), dtype=np.float32)
            return LineScores(nothing, nothing, np.zeros(0, dtype=np.int64))
        lengths = [np.asarray(x, dtype=np.int64).reshape(-1, 1) for x in (sequence_lengths, prompt_lengths)]
        answers = [
            self._infer(
                {"tokens": ids[part], "sequence_lengths": lengths[0][part], "prompt_lengths": lengths[1][part]}
            )
            for part in self._parts(len(ids))
        ]
        rewards, scores, counts = (
            np.concatenate([answer[name] for answer in answers])
            for name in ("line_rewards", "line_scores", "num_lines")
        )
        return LineScores(rewards, scores, counts.reshape(-1))

    def score_steps(
        self, prompts: Sequence[str], responses: Sequence[str], finished: Sequence[bool] | None = None
    ) -> list[list[float]]:
        """Raw scores of the lines of each response; lines that end in the same token have one score together.

        Args:
            prompts: one for each response.
            responses: one that does not fit the PRM's context with its prompt has no scores.
            finished: whether the policy has ended it; by default all. A last line without newline is scored at EOS, or
                at its own last token where the response was cut off.
        """
        ended = [True] * len(responses) if finished is None else list(finished)
        rows: list[list[float]] = []
        for part in self._parts(len(responses)):
            texts = {"prompts": encode_text(prompts[part], "prompt"), "responses": encode_text(responses[part])}
            if not all(ended[part]):
                texts["finished"] = np.array(ended[part], dtype=np.bool_).reshape(-1, 1)
            try:
                answer = self._client.infer(texts)
            except RequestError as error:
                if not str(error).startswith(TOO_LONG):
                    raise self._refused(error) from error
                each = list(zip(prompts[part], responses[part], ended[part]))
                rows += [[]] if len(each) == 1 else [self.score_steps([p], [r], [end])[0] for p, r, end in each]
                continue
            for scores, count in zip(answer["line_scores"], answer["num_lines"].reshape(-1)):
                found = scores[~np.isnan(scores)].tolist()
                if len(found) != count:
                    raise ServerError(f"{self._config.url} gave {len(found)} scores for {count} lines")
                rows.append(found)
        return rows

    @property
    def name(self) -> str:
        """Which PRM, for provenance, and whether it scores only code.

        Raises:
            ServerError: it does not answer.
        """
        said = self._client.parameters()
        checkpoint = json.loads(said.get("checkpoint", '"unknown"'))
        return f"nemo-prm-reward/{nemo_prm.__version__}/{checkpoint}" + "/code_only" * _code_only(said)

    @property
    def code_only(self) -> bool:
        """Whether the server scores only lines inside a code fence, where there is one.

        Raises:
            ServerError: it does not answer.
        """
        return _code_only(self._client.parameters())

    def require_all_lines(self) -> None:
        """Refuse a server that scores only code: what is scored for a thought ends outside of it.

        Raises:
            ConfigError: it does.
            ServerError: it does not answer.
        """
        if self.code_only:
            raise ConfigError(
                f"{self._config.url} scores only lines inside a code fence, and a thought's score is that of the last "
                "line: start serve_reward with rules.code_only=false"
            )

    def _infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        try:
            return self._client.infer(inputs)
        except RequestError as error:
            raise self._refused(error) from error

    def _refused(self, error: RequestError) -> ServerError:
        return ServerError(f"{self._config.url} refused the request: {error}")

    def _parts(self, count: int) -> list[slice]:
        size = self._config.batch_size
        return [slice(start, start + size) for start in range(0, count, size)]

    def close(self) -> None:
        """Stop waiting for the server; call it always."""
        self._client.close()

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
