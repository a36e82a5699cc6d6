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
"""What a verifier server reads and says: programs, verdicts, and nothing that a model must not know."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nemo_prm.data.feedback import feedback
from nemo_prm.errors import ConfigError, RequestError, SandboxError
from nemo_prm.serving.verifier_client import check_level
from nemo_prm.serving.verifier_messages import (
    Job,
    ServedProblems,
    decode_jobs,
    decode_verdicts,
    encode_jobs,
    encode_verdicts,
    problem_digest,
)
from nemo_prm.serving.wire import VERIFIER, encode_text
from nemo_prm.types import Problem, TestCase, Verdict

CALLS = Problem(
    "calls",
    "Add.",
    tests=(TestCase("call", args=(1, 2), expected=777), TestCase("call", args=(2, 2), expected=888)),
    public_tests=(TestCase("call", args=(0, 0), expected=0),),
    entry_point="add",
)
CODE = Problem(
    "code", "def f():\n", tests=(TestCase("code", code="..."),), entry_point="f", program_prefix="def f():\n"
)
SERVED = ServedProblems.of([CALLS, CODE], "problems=p.jsonl")
WRONG = Verdict("wrong_answer", 2, 1, 1, "888", "4", "", 0.5, 12.0, "sandbox", "full")


def test_jobs_come_back() -> None:
    jobs = [Job(CALLS, "a\0é"), Job(CODE, "", public=False), Job(CALLS, "b", public=True)]
    arrays = encode_jobs(jobs)
    for spec in VERIFIER.inputs:
        if spec.name in arrays:
            assert arrays[spec.name].shape == (3, 1)
            assert arrays[spec.name].dtype == (object if spec.dtype is np.bytes_ else spec.dtype)
    assert decode_jobs(arrays, SERVED) == jobs


def test_a_response_is_made_a_program_and_a_program_is_not() -> None:
    text = "Sure:\n```python\n    return 1\n```\n"
    names, texts = encode_text(["code"]), encode_text([text])
    assert decode_jobs({"problem_ids": names, "responses": texts}, SERVED) == [
        Job(CODE, "def f():\n    return 1\n", known=False)
    ]
    assert decode_jobs({"problem_ids": names, "programs": texts}, SERVED)[0].program == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_ids": encode_text(["calls", "nope"])}, "problem 'nope' is not among the 2 of problems=p.jsonl"),
        ({"responses": encode_text(["x", "y"])}, "either responses or programs, got responses and programs"),
        ({"programs": None}, "either responses or programs, got neither"),
        ({"programs": np.array([[b"x"], [b"\xff"]], dtype=object)}, "program 1 is not UTF-8"),
        ({"public": np.array([[False], [True]])}, "problem 'code' has no public tests"),
        (encode_jobs([Job(CALLS, ""), Job(replace(CODE, time_limit_s=9.0), "")]), "'code' .* other tests or limits"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    inputs = {"problem_ids": encode_text(["calls", "code"]), "programs": encode_text(["x", "y"])} | changes
    with pytest.raises(RequestError, match=message):
        decode_jobs({name: array for name, array in inputs.items() if array is not None}, SERVED)


def test_the_digest_is_of_what_decides_a_verdict() -> None:
    digest = problem_digest(CALLS)
    assert problem_digest(replace(CALLS, prompt="Sum.", difficulty="2", extra={"a": 1})) == digest
    for change in ({"tests": CALLS.tests[:1]}, {"time_limit_s": 9.0}, {"program_prefix": "x"}, {"public_tests": ()}):
        assert problem_digest(replace(CALLS, **change)) != digest  # type: ignore[arg-type]


def test_verdicts_come_back_whole_to_who_has_the_problem() -> None:
    verdicts = [WRONG, Verdict("passed", 2, 2), Verdict("infra_error", 2, message="no \ud800 disk")]
    outputs = encode_verdicts([Job(CALLS, "")] * 3, verdicts)
    for spec in VERIFIER.outputs:
        assert outputs[spec.name].shape == (3, 1)
        assert outputs[spec.name].dtype == (object if spec.dtype is np.bytes_ else spec.dtype)
    back = decode_verdicts(outputs)
    assert back[0] == WRONG
    assert [replace(v, peak_mib=0.0) for v in back] == [replace(v, peak_mib=0.0) for v in verdicts]
    assert math.isnan(back[1].peak_mib)
    assert outputs["passed"].tolist() == [[False], [True], [False]]
    np.testing.assert_array_equal(outputs["pass_rate"], np.array([[0.5], [1.0], [np.nan]], dtype=np.float32))


def test_what_was_not_judged_has_no_pass_rate() -> None:
    outputs = encode_verdicts([Job(CALLS, "")] * 2, [WRONG, Verdict("passed", 2, 2)], stop_at_first_failure=True)
    np.testing.assert_array_equal(outputs["pass_rate"], np.array([[np.nan], [1.0]], dtype=np.float32))


def test_who_does_not_have_the_problem_learns_no_expected_value() -> None:
    verdict = replace(WRONG, message="assert f() == 888")
    outputs = encode_verdicts([Job(CALLS, "", known=False)], [verdict])
    assert not any(b"888" in outputs[name].item() for name in ("verdict", "feedback", "details"))
    assert decode_verdicts(outputs) == [replace(WRONG, expected=None)]


@pytest.mark.parametrize(
    ("job", "verdict", "text"),
    [
        (Job(CALLS, ""), Verdict("passed", 2, 2), "Passed all 2 tests."),
        (Job(CALLS, ""), WRONG, "Test 2 of 2: wrong answer"),
        (Job(CALLS, "", public=True), replace(WRONG, failing_test=0, num_tests=1, expected="0"),
         "Test 1 of 1: wrong answer: add(0, 0): expected 0, got 4."),
        (Job(CALLS, ""), replace(WRONG, status="runtime_error", message="line 2: KeyError: 'x'"),
         "Test 2 of 2: runtime error: line 2: KeyError: 'x'"),
        (Job(CALLS, ""), Verdict("compile_error", 2, 0, 0, message="line 1: SyntaxError: no"),
         "Compile error: line 1: SyntaxError: no"),
        (Job(replace(CALLS, program_prefix="import a\nimport b\n"), ""), Verdict("compile_error", 2, 0, 0,
         message="line 5: SyntaxError: no (<program>, line 5)"),
         "Compile error: line 3: SyntaxError: no (<program>, line 3)"),
        (Job(CALLS, ""), Verdict("time_limit", 2, 0, 0), "Test 1 of 2: time limit"),
        (Job(CODE, ""), Verdict("wrong_answer", 1, 0, 0, message="line 4: AssertionError: want 9"),
         "Test 1 of 1: wrong answer"),
        (Job(CODE, ""), Verdict("runtime_error", 1, 0, 0, message="line 4: ValueError: want 9"),
         "Test 1 of 1: runtime error: ValueError"),
        (Job(CODE, ""), Verdict("runtime_error", 1, 0, 0, message="the program ended early (exit status 9)"),
         "Test 1 of 1: runtime error"),
        (Job(CODE, ""), Verdict("infra_error", 1, message="/secret/path"), "Not judged: the judge failed."),
    ],
)  # fmt: skip
def test_feedback(job: Job, verdict: Verdict, text: str) -> None:
    assert feedback(job.problem, verdict, job.public) == text


def test_a_server_below_the_level_asked_for_is_refused() -> None:
    check_level("full", "namespaces", "u")
    check_level("rlimits", "rlimits", "u")
    for level in ("rlimits", ""):
        with pytest.raises(SandboxError, match="u isolates programs at level (rlimits|unknown), below"):
            check_level(level, "namespaces", "u")
    with pytest.raises(ConfigError, match="minimum_level must be one of full, namespaces, rlimits, found 'best'"):
        check_level("full", "best", "u")
