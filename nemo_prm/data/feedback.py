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
"""What came of a program, in words that a model may read."""

from __future__ import annotations

import re

from nemo_prm.types import Problem, TestCase, Verdict

LONGEST_FEEDBACK = 1000  # characters
LONGEST_INPUT = 200  # of them for a test's input
_LINE = re.compile(r"(^line |\(<program>, line )(\d+)")  # of an error, and of one of syntax
_ERROR_KIND = re.compile(r"(?:line \d+: )?(\w+)(?::|$)")  # "line 3: TypeError: ..."


def feedback(problem: Problem, verdict: Verdict, public: bool = False) -> str:
    """Say what came of a program in words that may be shown to the model that wrote it.

    Of a hidden test it tells the number, the kind of failure and the program's own error, never what was expected.
    (An error text may repeat the inputs, which the program was given.) Where the test's code may have written the
    message, only the kind of error is told. Of a public test it tells the input and both sides.

    Args:
        problem: that the program answers.
        verdict: by the hidden tests, or by the public ones.
        public: which of the two.

    Returns:
        At most `LONGEST_FEEDBACK` characters.
    """
    if verdict.passed:
        return f"Passed all {verdict.num_tests} tests." if verdict.num_tests > 1 else "Passed."
    if verdict.status == "infra_error":
        return "Not judged: the judge failed."
    what = verdict.status.replace("_", " ")
    message = _in_lines_of_the_response(verdict.message, problem)
    if verdict.status != "compile_error" and verdict.failing_test is not None:
        what = f"Test {verdict.failing_test + 1} of {verdict.num_tests}: {what}"
        test = (problem.public_tests if public else problem.tests)[verdict.failing_test]
        if public:
            sides = ""
            if verdict.status == "wrong_answer" and verdict.expected is not None:
                sides = f"expected {verdict.expected}, got {verdict.actual}."
            message = " ".join(part for part in (_input_of(test, problem.entry_point), sides, message) if part)
        elif verdict.status == "wrong_answer":
            message = ""
        elif test.kind == "code":
            kind = _ERROR_KIND.match(message)
            message = kind[1] if kind else ""
    text = f"{what[0].upper()}{what[1:]}{': ' if message else ''}{message}"
    return text[:LONGEST_FEEDBACK].encode("utf-8", "replace").decode()


def _in_lines_of_the_response(message: str, problem: Problem) -> str:
    """Lines of a program that the message names, counted from where the model has begun to write.

    A prefix that the prompt shows (HumanEval's) counts; imports of a harness do not.
    """
    hidden = 0 if problem.program_prefix in problem.prompt else problem.program_prefix.count("\n")

    def counted(found: re.Match[str]) -> str:
        return f"{found[1]}{max(int(found[2]) - hidden, 1)}"

    return _LINE.sub(counted, message) if hidden else message


def _input_of(test: TestCase, entry_point: str | None) -> str:
    """The call or the text on stdin; empty for a test that is code."""
    if test.kind == "call":
        arguments = [*map(repr, test.args), *(f"{name}={value!r}" for name, value in test.kwargs.items())]
        return _cut(f"{entry_point}({', '.join(arguments)})") + ":"
    return f"on input {_cut(repr(test.stdin))}:" if test.kind == "stdio" else ""


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_INPUT else f"{text[:LONGEST_INPUT]}..."
