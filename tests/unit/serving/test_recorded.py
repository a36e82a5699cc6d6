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
"""Recording completions and replaying them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulated_policy import SimulatedPolicy, chain

from nemo_prm.errors import DataError, GeneratorError, PromptTooLongError
from nemo_prm.serving.recorded import RecordedGenerator, Recorder
from nemo_prm.types import SamplingParams

TASKS = [chain("one", 3), chain("two", 4)]
PROMPTS = [task.prompt for task in TASKS]
PARAMS = SamplingParams(temperature=0.5, max_new_tokens=9, stop=("\n\n", "é"))


def policy(name: str = "nemo-prm-generation/0.1.0/policy.nemo@12ab", max_prompt: int = 10**9) -> SimulatedPolicy:
    return SimulatedPolicy(TASKS, max_prompt, name)


def test_what_was_drawn_is_replayed_however_the_calls_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "completions.jsonl"
    prompts = [*PROMPTS, PROMPTS[0]]
    with Recorder(policy(), path) as recorder:
        drawn = recorder.generate(prompts, 2, PARAMS, 7)
        more = recorder.generate(prompts, 4, PARAMS, 7, first=2)
        assert recorder.name == "nemo-prm-generation/0.1.0/policy.nemo@12ab"
    assert drawn == policy().generate(prompts, 2, PARAMS, 7)
    replay = RecordedGenerator(path)
    assert replay.name == "nemo-prm-generation/0.1.0/policy.nemo@12ab"
    assert replay.generate(prompts, 6, PARAMS, 7) == [a + b for a, b in zip(drawn, more)]
    assert replay.generate(PROMPTS[1:], 1, PARAMS, 7, first=3) == [more[1][1:2]]


def test_the_file_is_one_object_a_completion(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    with Recorder(policy("p"), path) as recorder:
        [[completion]] = recorder.generate(PROMPTS[:1], 1, PARAMS, 7, first=5)
        assert [json.loads(line) for line in path.read_text().splitlines()] == [
            {
                "checkpoint": "p",
                "prompt": "Task one.\n",
                "seed": 7,
                "params": {"temperature": 0.5, "top_p": 1.0, "top_k": 0, "max_new_tokens": 9, "stop": ["\n\n", "é"]},
                "number": 5,
                "text": completion.text,
                "num_tokens": completion.num_tokens,
                "finish_reason": "stop",
            }
        ]  # on disk while the recorder is open


def test_what_is_not_recorded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    with Recorder(policy(), path) as recorder:
        recorder.generate(PROMPTS[:1], 2, PARAMS, 7)
    replay = RecordedGenerator(path)
    for prompts, n, params, seed in (
        (PROMPTS[:1], 3, PARAMS, 7),
        (PROMPTS[1:], 1, PARAMS, 7),
        (PROMPTS[:1], 1, SamplingParams(), 7),
        (PROMPTS[:1], 1, PARAMS, 8),
    ):
        message = f"completions.jsonl holds no completion number {n - 1} of the prompt 'Task "
        with pytest.raises(GeneratorError, match=message):
            replay.generate(prompts, n, params, seed)


def test_two_versions_of_a_completion_are_not_chosen_from(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    for text in ("a", "b", "b"):
        with Recorder(policy(), path) as recorder:
            recorder.generate(PROMPTS[:1], 1, PARAMS, 7)
        rows = path.read_text().splitlines()
        path.write_text("\n".join([*rows[:-1], json.dumps(json.loads(rows[-1]) | {"text": text})]) + "\n")
    with pytest.raises(GeneratorError, match="holds several completions number 0"):
        RecordedGenerator(path).generate(PROMPTS[:1], 1, PARAMS, 7)


def test_a_prompt_that_was_too_long_is_too_long_again(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    prompts = [PROMPTS[0], "Task two.\n" + "x" * 99, PROMPTS[1]]
    with Recorder(policy(max_prompt=50), path) as recorder:
        with pytest.raises(PromptTooLongError):
            recorder.generate(prompts, 1, PARAMS, 7)
        fitting = recorder.generate(PROMPTS, 1, PARAMS, 7)
    replay = RecordedGenerator(path)
    with pytest.raises(
        PromptTooLongError, match="prompt 1 was too long when .*completions.jsonl was recorded"
    ) as caught:
        replay.generate(prompts, 1, PARAMS, 7)
    assert caught.value.indices == (1,)
    assert replay.generate(PROMPTS, 1, PARAMS, 7) == fitting


def test_several_checkpoints_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    names = ["g/policy.nemo@1", "g/step10.nemo@2", "openai/step20"]
    for seed, name in enumerate(names):
        with Recorder(policy(name), path) as recorder:
            recorder.generate(PROMPTS, 1, PARAMS, 7 + seed)
    replay = RecordedGenerator(path)
    with pytest.raises(GeneratorError, match="holds several checkpoints: load one of g/policy.nemo@1, g/step10"):
        replay.generate(PROMPTS, 1, PARAMS, 7)
    assert replay.load("runs/a/step10.nemo") == names[1] == replay.name
    assert replay.generate(PROMPTS, 1, PARAMS, 8) == policy().generate(PROMPTS, 1, PARAMS, 8)
    with pytest.raises(GeneratorError, match="no completion number 0"):
        replay.generate(PROMPTS, 1, PARAMS, 7)
    assert replay.load(names[2]) == names[2]
    with pytest.raises(GeneratorError, match="and none of step1.nemo"):
        replay.load("step1.nemo")


def test_a_line_that_a_kill_has_cut_short_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    with Recorder(policy(), path) as recorder:
        drawn = recorder.generate(PROMPTS, 1, PARAMS, 7)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert RecordedGenerator(path).generate(PROMPTS, 1, PARAMS, 7) == drawn
    with Recorder(policy(), path) as recorder:
        more = recorder.generate(PROMPTS, 1, PARAMS, 7, first=1)
    assert RecordedGenerator(path).generate(PROMPTS, 2, PARAMS, 7) == [a + b for a, b in zip(drawn, more)]


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    path = tmp_path / "completions.jsonl"
    with pytest.raises(DataError, match="completions.jsonl: no such file"):
        RecordedGenerator(path)
    path.write_text('{"checkpoint": "p"}\n')
    with pytest.raises(DataError, match="completions.jsonl:1: .prompt. is missing"):
        RecordedGenerator(path)
    path.write_text('{"checkpoint": "p", "prompt": "", "seed": 1, "params": {"top_q": 1}, "number": 0}\n')
    with pytest.raises(DataError, match="completions.jsonl:1: .params. are no sampling parameters"):
        RecordedGenerator(path)
    path.unlink()
    with Recorder(policy(), path), pytest.raises(DataError, match="another process is writing completions"):
        Recorder(policy(), path)
    with pytest.raises(DataError, match="cannot be written"):
        Recorder(policy(), tmp_path)


def test_closing_a_recorder_closes_what_it_records(tmp_path: Path) -> None:
    closed = []

    class Closing(SimulatedPolicy):
        def close(self) -> None:
            closed.append(self.name)

        def load(self, checkpoint: str) -> str:
            self.name = checkpoint
            return checkpoint

    with Recorder(Closing(TASKS, name="a"), tmp_path / "c.jsonl") as recorder:
        assert recorder.load("b") == "b" == recorder.name
    assert closed == ["b"]
