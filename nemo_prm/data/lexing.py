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
"""What each line of Python or C++ code is: code, comment, blank or docstring; the code may be broken or cut off."""

from __future__ import annotations

import io
import re
import tokenize
from typing import Sequence

from nemo_prm.types import StepKind

_LAYOUT = frozenset({tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING})
# Characters on which tokenizers of different Python versions disagree; none of them can begin or end a token that
# matters here, and one stands for one, so lines keep their numbers.
_NEUTRALISE = re.compile("[\r\0\ud800-\udfff]")


def python_line_kinds(lines: Sequence[str]) -> list[StepKind]:
    """Classify lines of Python by Python's own tokenizer.

    Where the tokenizer gives up, it starts again at the line it cannot place (a bad dedent) or below the line it
    cannot read, so the rest of a broken program is still classified. A string that never ends runs to the last line.

    Args:
        lines: each ends with its newline, the last may lack it.
    """
    kinds: list[StepKind] = ["code" if line.strip() else "blank" for line in lines]
    clean = [_NEUTRALISE.sub(" ", line.replace("\r\n", "\n")) for line in lines]
    first = 0
    while first < len(clean):
        first = _classify_from(first, clean, kinds)
    return kinds


def _classify_from(first: int, lines: Sequence[str], kinds: list[StepKind]) -> int:
    """Tokenize from line `first` on, set kinds, and return the line to start again from (the end if all went well)."""
    with_code: set[int] = set()
    comments: set[int] = set()
    statement: list[tokenize.TokenInfo] = []  # tokens of the current logical line, comments left out
    resume = len(lines)
    try:
        for token in tokenize.generate_tokens(io.StringIO("".join(lines[first:])).readline):
            rows = range(first + token.start[0] - 1, first + token.end[0])
            if token.type == tokenize.COMMENT:
                comments.update(rows)
            elif token.type == tokenize.NEWLINE:
                if _is_docstring(statement):
                    for i in range(first + statement[0].start[0] - 1, first + statement[-1].end[0]):
                        kinds[i] = "docstring"
                statement = []
            elif token.type not in _LAYOUT and token.string.strip():
                statement.append(token)
                with_code.update(rows)
    except (tokenize.TokenError, SyntaxError) as error:
        message, place = str(error.args[0]), error.args[1]
        line = first + (place[0] if isinstance(place[0], int) else place[1]) - 1  # TokenError, or SyntaxError
        if isinstance(error, IndentationError):
            resume = max(line, first + 1)
        elif "multi-line string" in message or "triple-quoted" in message:
            for i in range(line, len(lines)):
                kinds[i] = "code" if statement else "docstring"
                with_code.add(i)
        elif "multi-line statement" not in message:  # that is a bracket open at the end: all tokens have been seen
            resume = max(line + 1, first + 1)
    for i in with_code:
        if kinds[i] == "blank":
            kinds[i] = "code"  # inside a string
    for i in comments - with_code:
        kinds[i] = "comment"
    return min(resume, len(lines))


def _is_docstring(statement: Sequence[tokenize.TokenInfo]) -> bool:
    """Tell whether a statement is plain strings alone, which do nothing when run; an f-string runs code."""
    return bool(statement) and all(
        token.type == tokenize.STRING and "f" not in re.split("['\"]", token.string)[0].lower() for token in statement
    )


_CPP_TOKEN = re.compile(
    r"""
      (?P<comment>  //(?:[^\n\\]|\\(?:\r?\n|.)|\\\Z)* | /\*(?:.*?\*/|.*\Z) )
    | (?P<space>    \s+ )
    | (?P<raw>      (?:u8|[LuU])?R"(?P<delimiter>[^()\\\s]{0,16})\( (?:.*?\)(?P=delimiter)"|.*\Z) )
    | (?P<string>   "(?:[^"\\\n]|\\(?:\r?\n|.))*(?:"|(?=\n)|\Z|\\\Z) )
    | (?P<number>   \.?[0-9](?:'?[0-9A-Za-z_]|\.)* )
    | (?P<name>     [A-Za-z_]\w* )
    | (?P<char>     '(?:[^'\\\n]|\\(?:\r?\n|.))*(?:'|(?=\n)|\Z|\\\Z) )
    | (?P<other>    . )
    """,
    re.VERBOSE | re.DOTALL,
)


def cpp_line_kinds(lines: Sequence[str]) -> list[StepKind]:
    """Classify lines of C++; a // comment goes on after a backslash at the line's end, as the standard says."""
    kinds: list[StepKind] = ["blank"] * len(lines)
    row = 0
    for token in _CPP_TOKEN.finditer("".join(lines)):
        text = token.group()
        last = row + text.count("\n")
        if token.lastgroup != "space":
            kind: StepKind = "comment" if token.lastgroup == "comment" else "code"
            for i in range(row, min(last + (not text.endswith("\n")), len(lines))):
                if kinds[i] != "code":
                    kinds[i] = kind
        row = last
    return kinds
