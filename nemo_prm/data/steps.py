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
A prompt may end within a fenced block: then the response begins with its code, and the first closing fence ends it.
"""

from __future__ import annotations

import re

from nemo_prm.config import NeutralConfig
from nemo_prm.data.lexing import cpp_line_kinds, python_line_kinds
from nemo_prm.types import Language, Problem, Step, StepKind

_FENCE = re.compile(r"^ {0,3}(?P<ticks>`{3,})(?P<info>[^`\n]*)(?:\n|\Z)", re.MULTILINE)


def code_span(response: str, prompt: str = "") -> tuple[int, int]:
    """Return start and end of the response's code, in code points; fence lines are outside of it.

    Args:
        response: any text.
        prompt: what it answers. Where that is not known, a bare fence closes the prompt's block if nothing follows it.
    """
    first = _FENCE.search(response)
    if first is None:
        return 0, len(response)
    left_open = _left_open(prompt)
    if (left_open is not None and _closes(first, left_open)) or (
        not first["info"].strip() and not response[first.end() :].strip()
    ):
        return 0, first.start()
    for fence in _FENCE.finditer(response, first.end()):
        if _closes(fence, first):
            return first.end(), fence.start()
    return first.end(), len(response)


def _closes(fence: re.Match[str], opening: re.Match[str]) -> bool:
    return len(fence["ticks"]) >= len(opening["ticks"]) and not fence["info"].strip()


def _left_open(prompt: str) -> re.Match[str] | None:
    """The fence of the block within which a prompt ends."""
    opening = None
    for fence in _FENCE.finditer(prompt):
        if opening is None:
            opening = fence
        elif _closes(fence, opening):
            opening = None
    return opening


def close_fence(prompt: str) -> str:
    """The prompt without a block that it leaves open: closed where something is in it, else left out."""
    opening = _left_open(prompt)
    if opening is None:
        return prompt
    if prompt[opening.end() :].strip():
        return prompt.removesuffix("\n") + f"\n{opening['ticks']}\n"
    return prompt[: opening.start()]


def extract_code(response: str, prompt: str = "") -> str:
    """Return the code of a response, without any fence."""
    start, end = code_span(response, prompt)
    return response[start:end]


def make_program(problem: Problem, response: str) -> str:
    """Return the program that a response stands for: the problem's prefix, then the response's code."""
    return problem.program_prefix + extract_code(response, problem.prompt)


def split_lines(response: str, language: Language = "python", prompt: str = "") -> tuple[Step, ...]:
    """Cut a response into its steps, each with its kind.

    The steps are contiguous and cover `code_span(response, prompt)`. The kind is decided by the language's tokenizer,
    on code that may be broken or cut off: a '#' inside a string is no comment, a string that stands alone as a
    statement is a docstring, and a blank line inside a string is part of it.
    """
    start, end = code_span(response, prompt)
    lines = [line for line in re.split(r"(?<=\n)", response[start:end]) if line]
    kinds = (cpp_line_kinds if language == "cpp" else python_line_kinds)(lines)
    steps = []
    for line, kind in zip(lines, kinds):
        steps.append(Step(start, start + len(line), kind))
        start += len(line)
    return tuple(steps)


def line_ends(text: str) -> list[int]:
    """Where each line ends, its newline included; only a newline ends a line."""
    ends = [index + 1 for index, character in enumerate(text) if character == "\n"]
    return ends if text.endswith("\n") or not text else [*ends, len(text)]


def scored_line_ends(response: str, num_scores: int, prompt: str = "") -> list[int] | None:
    """Where the lines end that have so many scores: those of the code, or all, as the reward server's rules have it.

    None where it is neither, as where two lines end in one token.
    """
    every = line_ends(response)
    if len(every) == num_scores:
        return every
    code = [step.end for step in split_lines(response, prompt=prompt)]
    return code if len(code) == num_scores else None


def is_neutral(kind: StepKind, neutral: NeutralConfig) -> bool:
    """Tell whether a step of this kind gets the neutral label 0 (PSGPO, arXiv 2410.17621, Algorithm 1)."""
    if kind == "comment":
        return neutral.comments
    if kind == "blank":
        return neutral.blank_lines
    return kind == "docstring" and neutral.docstrings
