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
"""Line ends, normalisation and composition against literals worked out by hand."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_prm.rewards.compose import compose_rewards
from nemo_prm.rewards.lines import line_ends, newline_table, normalise_line_scores

#           0      1     2     3        4        5       6
PIECES = [b"", b"a", b"b", b"\n", b"x\n\ny", b"\n ", b"```"]
EOS = 0


def ends_of(tokens, prompt_length, total_length):
    ends = line_ends(
        newline_table(PIECES), torch.tensor([tokens]), torch.tensor([prompt_length]), torch.tensor([total_length])
    )
    return ends[0].nonzero().flatten().tolist()


def test_newline_of_the_prompt_and_of_the_padding_do_not_count():
    assert ends_of([1, 3, 1, 3, EOS, 3], prompt_length=2, total_length=5) == [3]


def test_text_after_the_last_newline_ends_at_eos_or_at_the_last_token():
    assert ends_of([1, 1, 3, 2, EOS], 1, 5) == [2, 4]
    assert ends_of([1, 1, 3, 2, 2], 1, 5) == [2, 4]


def test_several_newlines_in_one_token_are_one_line_end():
    assert ends_of([1, 4, 2, 3, EOS], 1, 5) == [1, 3]


def test_a_token_with_newline_and_indentation_ends_two_lines_when_it_is_the_last():
    # "a\n " then EOS: the newline ends line 1, the blank " " is the unfinished line 2, which ends at EOS
    assert ends_of([1, 1, 5, EOS], 1, 4) == [2, 3]
    # without EOS both end in the same token and are one step
    assert ends_of([1, 1, 5], 1, 3) == [2]


def test_empty_responses_have_no_line():
    assert ends_of([1, 1, EOS, EOS], 2, 3) == []  # EOS alone
    assert ends_of([1, 1, EOS, EOS], 2, 2) == []  # nothing at all


def test_rewards_are_clamped_divided_by_the_number_of_lines_and_shifted_by_one():
    scores = torch.tensor([[9.0, 9.0, 0.5, 9.0, -3.0, 9.0]])
    ends = torch.tensor([[False, False, True, False, True, False]])
    result = normalise_line_scores(scores, ends)
    assert result.line_rewards.tolist() == [[0.0, 0.25, 0.0, -0.5, 0.0]]
    assert result.line_scores.isnan().tolist() == [[True, False, True, False, True]]
    assert result.line_scores[0, [1, 3]].tolist() == [0.5, -3.0]
    assert result.num_lines.tolist() == [2]


def test_composition_by_outcome():
    line_rewards = torch.tensor([[0.0, 0.5, 0.0, -0.5], [0.0, 0.5, 0.0, 0.5], [0.0, 0.5, 0.0, 0.0]])
    outcomes = torch.tensor([0.0, 1.0, float("nan")])
    rewards = compose_rewards(outcomes, line_rewards, total_lengths=torch.tensor([5, 4, 4]))
    assert torch.allclose(rewards[0], torch.tensor([0.0, 0.125, 0.0, -0.125]))
    assert torch.allclose(rewards[1], torch.tensor([0.0, 0.0125, 1.0, 0.0125]))
    assert rewards[2].isnan().all()


def test_a_share_of_the_tests_is_a_failure_with_a_reward():
    rewards = compose_rewards(
        torch.tensor([0.75, -2.5]),
        torch.tensor([[0.0, 0.5, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0]]),  # a reward model's has no line rewards
        total_lengths=torch.tensor([5, 3]),
    )
    assert rewards.tolist() == [[0.0, 0.125, 0.0, 0.625], [0.0, -2.5, 0.0, 0.0]]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, len(PIECES) - 1), max_size=12),
    st.booleans(),
    st.lists(st.floats(-2, 2, width=32), min_size=16, max_size=16),
)
def test_the_sum_of_the_rewards_is_the_mean_of_the_clamped_scores(response, with_eos, scores):
    tokens = [1, *response] + ([EOS] if with_eos else [])
    padded = torch.tensor([tokens + [EOS] * (16 - len(tokens))])
    ends = line_ends(newline_table(PIECES), padded, torch.tensor([1]), torch.tensor([len(tokens)]))
    rewards, _, num_lines = normalise_line_scores(torch.tensor([scores]), ends)
    expected = torch.tensor(scores).clamp(-1, 1)[ends[0]].mean() if num_lines.item() else torch.tensor(0.0)
    assert torch.isclose(rewards.sum(), expected, atol=1e-6)
    assert rewards.sum().abs() <= 1 + 1e-6
    text = b"".join(PIECES[token] for token in tokens[1:])
    assert (num_lines.item() == 0) == (text == b"")  # some text, some line
