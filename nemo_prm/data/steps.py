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
r"""Cutting a response into steps, and making a program of it.

A step is one line of the response's code, its newline included; the last one may lack it. Only "\n" ends a line: a
form feed, "\r" or U+2028 is a character like any other. Where a response wraps its code in a Markdown fence, the first
fenced block is the code, and a fence that is never closed runs to the end; without a fence the whole response is code.
"""

from __future__ import annotations

import re

from nemo_prm.config import NeutralConfig
from nemo_prm.data.lexing import cpp_line_kinds, python_line_kinds
from nemo_prm.types import Language, Problem, Step, StepKind

_FENCE = re.compile(r"^ {0,3}(?P<ticks>`{3,})(?P<info>[^`\n]*)(?:\n|\Z)", re.MULTILINE)


def code_span(response: str) -> tuple[int, int]:
    """Return start and end of the response's code, in code points; fence lines are outside of it."""
    opening = _FENCE.search(response)
    if opening is None:
        return 0, len(response)
    if not opening["info"].strip() and not response[opening.end() :].strip():
        return 0, opening.start()  # it closes a block that was opened in the prompt
    for closing in _FENCE.finditer(response, opening.end()):
        if len(closing["ticks"]) >= len(opening["ticks"]) and not closing["info"].strip():
            return opening.end(), closing.start()
    return opening.end(), len(response)


def extract_code(response: str) -> str:
    """Return the code of a response, without any fence."""
    start, end = code_span(response)
    return response[start:end]


def make_program(problem: Problem, response: str) -> str:
    """Return the program that a response stands for: the problem's prefix, then the response's code."""
    return problem.program_prefix + extract_code(response)


def split_lines(response: str, language: Language = "python") -> tuple[Step, ...]:
    """Cut a response into its steps, each with its kind.

    The steps are contiguous and cover `code_span(response)`. The kind is decided by the language's tokenizer, on code
    that may be broken or cut off: a '#' inside a string is no comment, a string that stands alone as a statement is a
    docstring, and a blank line inside a string is part of it.
    """
    start, end = code_span(response)
    lines = [line for line in re.split(r"(?<=\n)", response[start:end]) if line]
    kinds = (cpp_line_kinds if language == "cpp" else python_line_kinds)(lines)
    steps = []
    for line, kind in zip(lines, kinds):
        steps.append(Step(start, start + len(line), kind))
        start += len(line)
    return tuple(steps)


def is_neutral(kind: StepKind, neutral: NeutralConfig) -> bool:
    """Tell whether a step of this kind gets the neutral label 0 (PSGPO, arXiv 2410.17621, Algorithm 1)."""
    if kind == "comment":
        return neutral.comments
    if kind == "blank":
        return neutral.blank_lines
    return kind == "docstring" and neutral.docstrings
