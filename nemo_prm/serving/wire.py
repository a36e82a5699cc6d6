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
"""What goes over the wire: names, dtypes and shapes of every served model's tensors, and how text becomes bytes.

Both sides import this module, so that neither repeats the other's names. Shapes leave out the batch dimension B; -1 is
any size. Text is UTF-8 in object arrays of `bytes`: NumPy's fixed-width "S" arrays drop trailing NULs, which a
completion may hold.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nemo_prm.errors import ConfigError, RequestError

Arrays = Mapping[str, NDArray[Any]]

TOKEN_VARIABLE = "NEMO_PRM_TOKEN"
TOKEN_HEADER = "triton-access-token"  # what PyTriton's TritonSecurityConfig makes Triton expect
TOO_LONG = "prompt_too_long"  # first word of a per-prompt refusal in `errors`


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; `dtype` is a NumPy scalar type, `np.bytes_` for text."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...] = (1,)
    optional: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """A served model: its name and its tensors. A request may come twice: a client repeats what gets no answer."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


GENERATION = ModelSpec(
    "generation",
    inputs=(
        TensorSpec("prompts", np.bytes_),
        TensorSpec("n", np.int64),  # completions per prompt, the same in all rows
        TensorSpec("temperature", np.float32),
        TensorSpec("top_p", np.float32),
        TensorSpec("top_k", np.int64),
        TensorSpec("max_new_tokens", np.int64),
        TensorSpec("seed", np.int64),  # may differ from row to row
        TensorSpec("first", np.int64, optional=True),  # number of the first completion, 0 without it; as `n`
        TensorSpec("stop", np.bytes_, (-1,), optional=True),  # [B, k], k strings to stop at, the same in all rows
    ),
    outputs=(
        TensorSpec("texts", np.bytes_, (-1,)),  # [B, n]
        TensorSpec("num_tokens", np.int64, (-1,)),  # [B, n], all that were generated
        TensorSpec("finish_reasons", np.bytes_, (-1,)),  # [B, n], "stop" or "length"
        TensorSpec("errors", np.bytes_),  # [B, 1], empty, or why this prompt was refused
        TensorSpec("checkpoint", np.bytes_),  # [B, 1], name of the checkpoint that answered, the same in all rows
    ),
)
GENERATION_LOAD = ModelSpec(  # one row: makes the generation server go on with another checkpoint
    "generation_load",
    inputs=(TensorSpec("checkpoint", np.bytes_),),  # path of a .nemo as the server sees it
    outputs=(TensorSpec("name", np.bytes_),),  # as `checkpoint` of GENERATION from now on
)

PRM = ModelSpec(
    "prm",
    inputs=(  # either the first three, or prompts and responses
        TensorSpec("tokens", np.int64, (-1,), optional=True),  # [B, S]
        TensorSpec("sequence_lengths", np.int64, optional=True),  # [B, 1], prompt and response, without padding
        TensorSpec("prompt_lengths", np.int64, optional=True),  # [B, 1]
        TensorSpec("prompts", np.bytes_, optional=True),
        TensorSpec("responses", np.bytes_, optional=True),
        TensorSpec("finished", np.bool_, optional=True),  # [B, 1]: with the responses; one that was cut off has no EOS
    ),
    outputs=(  # column t - 1 belongs to token t
        TensorSpec("line_rewards", np.float32, (-1,)),  # [B, S-1], score / number of lines; 0 off line ends
        TensorSpec("line_scores", np.float32, (-1,)),  # [B, S-1], raw score; NaN off line ends
        TensorSpec("num_lines", np.int64),  # [B, 1]
    ),
)

GENERAL_REWARD = ModelSpec(  # NeMo-Aligner's own reward server (algorithms/reward_server.py of release 0.7.0)
    "reward_model",
    inputs=(
        TensorSpec("sentences", np.bytes_, (-1,), optional=True),
        TensorSpec("tokens", np.int64, (-1,), optional=True),  # [B, S]
        TensorSpec("sequence_lengths", np.int64, (-1,), optional=True),  # [B, 1]
    ),
    outputs=(TensorSpec("rewards", np.float32),),  # [B, 1]
)

VERIFIER = ModelSpec(
    "verifier",
    inputs=(
        TensorSpec("problem_ids", np.bytes_),
        TensorSpec("responses", np.bytes_, optional=True),  # what a model wrote; its program is made by the server
        TensorSpec("programs", np.bytes_, optional=True),  # whole programs, in place of responses
        TensorSpec("public", np.bool_, optional=True),  # judge by the public tests; without it by the hidden ones
        TensorSpec("digests", np.bytes_, optional=True),  # problem_digest; another one at the server is refused
    ),
    outputs=(
        TensorSpec("passed", np.bool_),
        TensorSpec("pass_rate", np.float32),  # share of the tests passed; NaN where unknown
        TensorSpec("verdict", np.bytes_),  # nemo_prm.types.Status
        TensorSpec("feedback", np.bytes_),  # may be shown to a model
        TensorSpec("details", np.bytes_),  # the Verdict as JSON; without a digest its hidden parts are null
    ),
)

# An actor's own number: once another one has asked for its step's checkpoint, what the former has left in the queue is
# refused. Values are those after so many training requests of it: a request for values may overtake one of these.
SESSION = "session"
TRAINED = "trained"
# NeMo-Aligner's critic, as its CriticServerTrainer has it (algorithms/critic_server_trainer.py of release 0.7.0)
CRITIC_INFER = ModelSpec(
    "critic_infer",
    inputs=(
        TensorSpec("sentences", np.bytes_, (-1,), optional=True),
        TensorSpec("tokens", np.int64, (-1,), optional=True),  # [B, S]
        TensorSpec("sequence_lengths", np.int64, (-1,), optional=True),  # [B, 1]
        TensorSpec(SESSION, np.int64, optional=True),  # [B, 1]
        TensorSpec(TRAINED, np.int64, optional=True),  # [B, 1]
    ),
    outputs=(TensorSpec("values", np.float32, (-1,)),),  # [B, S]
)
REQUEST_ID = "request_id"  # a request that comes again under its id is answered as before, and not acted upon again
CRITIC_TRAIN = ModelSpec(  # no batch dimension: one request is one PPO step
    "critic_train",
    inputs=(
        TensorSpec("tokens", np.int64, (-1, -1)),  # [B, S]
        TensorSpec("returns", np.float32, (-1, -1)),  # [B, S-1]
        TensorSpec("prev_values", np.float32, (-1, -1)),  # [B, S-1]
        TensorSpec("mask", np.float32, (-1, -1)),  # [B, S-1], 1 = counted
        TensorSpec(REQUEST_ID, np.int64, optional=True),
        TensorSpec(SESSION, np.int64, optional=True),
    ),
    outputs=(TensorSpec("loss_mean", np.float32),),
)
PPO_STEP = "ppo_step"  # PPO steps that an actor and its critic have done
CRITIC_SAVE = ModelSpec(
    "critic_save",
    inputs=(
        TensorSpec("dummy_var", np.int64),
        TensorSpec(PPO_STEP, np.int64, optional=True),
        TensorSpec(REQUEST_ID, np.int64, optional=True),
        TensorSpec(SESSION, np.int64, optional=True),
    ),
    outputs=(TensorSpec("status", np.int64),),
)
CRITIC_LOAD = ModelSpec(  # ours: makes the critic that of the actor's checkpoint
    "critic_load",
    inputs=(TensorSpec(PPO_STEP, np.int64), TensorSpec(SESSION, np.int64, optional=True)),
    outputs=(TensorSpec("status", np.int64),),
)


def resolve_token(token: str | None) -> str | None:
    """The configured access token, else the environment's, without blanks around it; an empty one means none.

    Raises:
        ConfigError: HTTP cannot carry it.
    """
    found = (token or os.environ.get(TOKEN_VARIABLE) or "").strip()
    if not (found.isascii() and found.isprintable()):
        raise ConfigError("a token must be of printable ASCII characters; make one with: openssl rand -hex 16")
    return found or None


def encode_text(texts: Sequence[str] | Sequence[Sequence[str]], name: str = "text") -> NDArray[np.object_]:
    """Text as an object array of UTF-8 bytes: [B, 1] from a flat sequence, [B, n] from a nested one.

    Raises:
        RequestError: a text holds a lone surrogate, which has no UTF-8 form.
    """
    rows = [[row] if isinstance(row, str) else list(row) for row in texts]
    array = np.empty((len(rows), len(rows[0]) if rows else 1), dtype=object)
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            try:
                array[i, j] = text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise RequestError(f"{name} {i} is not Unicode: {error.reason} at character {error.start}") from error
    return array


def decode_text(array: NDArray[Any], name: str = "text") -> list[list[str]]:
    """The inverse of `encode_text`: one list of texts per row.

    Raises:
        RequestError: an item is not UTF-8; names the row.
    """
    rows: list[list[str]] = []
    for i, row in enumerate(array):
        try:
            rows.append([bytes(item).decode("utf-8") for item in row])
        except UnicodeDecodeError as error:
            raise RequestError(f"{name} {i} is not UTF-8: {error.reason} at byte {error.start}") from error
    return rows
