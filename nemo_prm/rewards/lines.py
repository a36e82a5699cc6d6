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
"""Where lines end in a batch of token sequences, and the normalised reward of each line.

Shapes: B sequences padded to S tokens, V vocabulary items. A tensor of actions has S-1 columns: column t-1 belongs to
the action "token t", as values, log-probs and rewards do in NeMo-Aligner. Masks: True = counted.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch


class NewlineTable(NamedTuple):
    """What each vocabulary item means for lines; one entry per token id."""

    has_newline_V: torch.Tensor  # bool: the item holds at least one newline
    has_tail_V: torch.Tensor  # bool: the item has text after its last newline (any text, when it has no newline)


class LineRewards(NamedTuple):
    line_rewards: torch.Tensor  # float32 [B, S-1]: clamped score / number of lines at line ends, 0 elsewhere
    line_scores: torch.Tensor  # float32 [B, S-1]: raw score at line ends, NaN elsewhere
    num_lines: torch.Tensor  # int64 [B]


def newline_table(pieces: Sequence[bytes], device: torch.device | str = "cpu") -> NewlineTable:
    """Build the table of a vocabulary, once, on the model's device.

    Args:
        pieces: the text of each vocabulary item as UTF-8 bytes; empty for control tokens (BOS, EOS, padding).
        device: where the table lives.
    """
    has_newline = torch.tensor([b"\n" in piece for piece in pieces], dtype=torch.bool, device=device)
    has_tail = torch.tensor([piece.rpartition(b"\n")[2] != b"" for piece in pieces], dtype=torch.bool, device=device)
    return NewlineTable(has_newline, has_tail)


def line_ends(
    table: NewlineTable, tokens: torch.Tensor, prompt_lengths: torch.Tensor, total_lengths: torch.Tensor
) -> torch.Tensor:
    """Find the tokens that end a line of the response.

    A line ends at the token that holds its newline; lines that end in the same token are one. Text after the last
    newline is a line too, and ends at the last token of the response (EOS where there is one).

    Args:
        table: of the tokenizer's vocabulary.
        tokens: int64 [B, S], prompt, response and padding.
        prompt_lengths: int64 [B], tokens of the prompt.
        total_lengths: int64 [B], tokens of prompt and response together (the host calls this `response_lengths`).

    Returns:
        bool [B, S], True at line ends.
    """
    positions_S = torch.arange(tokens.size(1), device=tokens.device)
    in_response = (positions_S >= prompt_lengths.unsqueeze(1)) & (positions_S < total_lengths.unsqueeze(1))
    newline_BS = table.has_newline_V[tokens] & in_response
    last_newline_B = torch.where(newline_BS, positions_S, -1).amax(dim=1)
    tail_BS = table.has_tail_V[tokens] & in_response & (positions_S >= last_newline_B.unsqueeze(1))
    unfinished_B = tail_BS.any(dim=1)
    is_last_BS = (positions_S == (total_lengths - 1).unsqueeze(1)) & in_response
    return newline_BS | (is_last_BS & unfinished_B.unsqueeze(1))


def normalise_line_scores(
    scores: torch.Tensor, ends: torch.Tensor, clamp: float | None = 1.0, normalise: bool = True
) -> LineRewards:
    """Turn a score per token into a reward per line: r_i = clamp(PRM(x, y_<=i), -1, 1) / m.

    PSGPO, arXiv 2410.17621, section 4.2: the division by the number of lines m bounds the sum by 1 in absolute value,
    however many lines are written.

    Args:
        scores: float [B, S], the PRM's output at each token.
        ends: bool [B, S], True at line ends.
        clamp: bound of a score's absolute value; None for none.
        normalise: divide by m.
    """
    num_lines = ends.sum(dim=1)
    raw = torch.where(ends, scores.float(), float("nan"))
    rewards = torch.where(ends, scores.float(), 0.0)
    if clamp is not None:
        rewards = rewards.clamp(-clamp, clamp)
    if normalise:
        rewards = rewards / num_lines.clamp(min=1).unsqueeze(1)
    # the first token is never an action, so column t-1 is token t
    return LineRewards(rewards[:, 1:].contiguous(), raw[:, 1:].contiguous(), num_lines)
