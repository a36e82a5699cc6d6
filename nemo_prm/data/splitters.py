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
"""The ways to cut a response into steps: lines, blocks, functions, thoughts. Each step ends where a line does.

`lines` is `nemo_prm.data.steps.split_lines`. `blocks` and `functions` join such lines: a step takes the comments and
blank lines above its statement, and the last one those below it. Its kind is that of its weightiest line, in the order
code, docstring, comment, blank. `thoughts` is for a response that reasons before it writes code.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Mapping, Sequence

from nemo_prm.data.lexing import WHITE_SPACE
from nemo_prm.data.statements import Statement, cpp_statements, python_statements
from nemo_prm.data.steps import code_span, split_lines
from nemo_prm.errors import ConfigError
from nemo_prm.protocols import Splitter
from nemo_prm.types import Language, Step, StepKind


def splitter(name: str) -> Splitter:
    """Return the splitter `name`: lines, blocks, functions or thoughts.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in _SPLITTERS:
        raise ConfigError(f"steps must be one of {', '.join(_SPLITTERS)}, found {name!r}.")
    return _SPLITTERS[name]


def split_blocks(response: str, language: Language, prompt: str = "") -> tuple[Step, ...]:
    """Cut code into its statements, those in bodies of functions and classes included (`nemo_prm.data.statements`).

    The head of a definition is a step with its decorators or template; a loop or branch is one with all it holds.
    """
    lines = split_lines(response, language, prompt)
    return _join(lines, [statement.line for statement in _statements(response, lines, language)])


def split_functions(response: str, language: Language, prompt: str = "") -> tuple[Step, ...]:
    """Cut code into its outermost functions and classes, and the code between them."""
    lines = split_lines(response, language, prompt)
    starts, new = [], True
    for statement in _statements(response, lines, language):
        if statement.depth == 0:
            if new or statement.is_definition:
                starts.append(statement.line)
            new = statement.is_definition
    return _join(lines, starts)


def _statements(response: str, lines: Sequence[Step], language: Language) -> list[Statement]:
    texts = [response[line.start : line.end] for line in lines]
    return cpp_statements(texts) if language == "cpp" else python_statements(texts)


_BY_WEIGHT: tuple[StepKind, ...] = ("code", "docstring", "comment", "blank")


def _join(lines: Sequence[Step], starts: Sequence[int]) -> tuple[Step, ...]:
    """Join lines to steps that begin at `starts`, or where the comments above these begin."""
    begins = {0}
    for start in starts:
        while start > 0 and lines[start - 1].kind in ("comment", "blank"):
            start -= 1
        begins.add(start)
    bounds = [*sorted(begins), len(lines)]
    steps = []
    for first, last in zip(bounds, bounds[1:]):
        if part := lines[first:last]:
            steps.append(Step(part[0].start, part[-1].end, min((line.kind for line in part), key=_BY_WEIGHT.index)))
    return tuple(steps)


_BEFORE_MARK = r"^[ ]{0,2}(?:[#*/]+[ \t]*)?"  # a heading, bold type or a comment; deeper lies a list within a thought
_NAMED = re.compile(_BEFORE_MARK + r"(?:thought|step)[ \t]+\d+[ \t]*(?:[:.)*–-]|\r?$)", re.IGNORECASE | re.MULTILINE)
_NUMBERED = re.compile(_BEFORE_MARK + r"\d+[.)][ \t]", re.MULTILINE)
_PARAGRAPH = re.compile(r"(?<=\n)[ \t\r]*\n(?=[^\n]*\S)")


def split_thoughts(response: str, language: Language, prompt: str = "") -> tuple[Step, ...]:
    """Cut a response into its thoughts, each of kind "thought", and its code, which is the last step.

    Thoughts begin at lines such as "Thought 1:" or "Step 1:"; without these at the numbers of a list, "1."; without
    numbers at paragraphs. What comes before the first belongs to it. The code is the first fenced block with the line
    that opens it, so that the thoughts' prefix ends before the fence; without thoughts it begins at 0.

    Without a fence the comments at the top of the code are the thoughts; a response that begins with a marked thought
    was cut off before its code, and has thoughts alone.

    The steps are contiguous from 0 to the end of `code_span(response, prompt)`.
    """
    start, end = code_span(response, prompt)
    fence = response.rfind("\n", 0, start - 1) + 1
    if start == 0:
        fence = _end_of_unfenced_thoughts(response, end, language, prompt)
    thoughts = response[:fence]
    if not thoughts.strip():
        return (Step(0, end, "code" if response[:end].strip(WHITE_SPACE) else "blank"),) if end else ()
    marks: list[int] = []
    for pattern in (_NAMED, _NUMBERED):
        marks = marks or [mark.start() for mark in pattern.finditer(thoughts)]
    if not marks:
        first = len(thoughts) - len(thoughts.lstrip())
        marks = [0, *(gap.end() for gap in _PARAGRAPH.finditer(thoughts, first))]
    bounds = [0, *marks[1:], fence]
    steps = [Step(begin, stop, "thought") for begin, stop in zip(bounds, bounds[1:])]
    return (*steps, Step(fence, end, "code")) if fence < end else tuple(steps)


def _end_of_unfenced_thoughts(response: str, end: int, language: Language, prompt: str) -> int:
    lines = split_lines(response, language, prompt)
    above = list(takewhile(lambda line: line.kind in ("comment", "blank"), lines))
    first = next((line for line in lines if line.kind != "blank"), None)
    if first is None or first.kind == "comment":
        return above[-1].end if above else 0
    text = response[first.start : first.end]
    return end if _NAMED.match(text) or _NUMBERED.match(text) else 0


_SPLITTERS: Mapping[str, Splitter] = {
    "lines": split_lines,
    "blocks": split_blocks,
    "functions": split_functions,
    "thoughts": split_thoughts,
}
