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
"""What tokens say about Python or C++ code that may be broken or cut off.

What each line is (code, comment, blank or docstring), where Python's logical lines begin, what C++ leaves open.
"""

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
WHITE_SPACE = " \t\f\r\n"  # what Python takes for white space; a line of any other is one that it refuses
_FSTRING = re.compile(r"[ \t\f]*[rR]?[fF][rR]?['\"]")


def python_line_kinds(lines: Sequence[str]) -> list[StepKind]:
    """Classify lines of Python by Python's own tokenizer.

    Where the tokenizer gives up, it starts again at the line it cannot place (a bad dedent) or below the line it
    cannot read, so the rest of a broken program is still classified. A string that never ends runs to the last line.

    Args:
        lines: each ends with its newline, the last may lack it.
    """
    return _read_python(lines)[0]


def python_logical_lines(lines: Sequence[str]) -> list[int]:
    """Return the lines at which a logical line begins, ascending; comments and blank lines belong to none."""
    kinds, begins = _read_python(lines)
    return [row for row in sorted(set(begins)) if kinds[row] in ("code", "docstring")]


def _read_python(lines: Sequence[str]) -> tuple[list[StepKind], list[int]]:
    kinds: list[StepKind] = ["code" if line.strip(WHITE_SPACE) else "blank" for line in lines]
    begins: list[int] = []
    clean = [_NEUTRALISE.sub(" ", line.replace("\r\n", "\n")) for line in lines]
    first = 0
    while first < len(clean):
        first = _read_from(first, clean, kinds, begins)
    for i, line in enumerate(lines):
        if kinds[i] == "comment" and _runs_after_return(line):
            kinds[i] = "code"
    return kinds, begins


def _runs_after_return(line: str) -> bool:
    """Whether code follows a carriage return: it ends a line for Python, and with it a comment."""
    parts = re.split(r"\r(?!\n)", line)[1:]
    return any(part.strip(WHITE_SPACE) and not part.lstrip(WHITE_SPACE).startswith("#") for part in parts)


def _read_from(first: int, lines: Sequence[str], kinds: list[StepKind], begins: list[int]) -> int:
    """Tokenize from line `first` on, set kinds, extend begins, and return the line to start again from.

    That line is the end if all went well.
    """
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
            elif token.type not in _LAYOUT and (token.type != tokenize.ERRORTOKEN or token.string.strip(WHITE_SPACE)):
                if not statement:
                    begins.append(rows.start)
                statement.append(token)
                with_code.update(rows)
    except (tokenize.TokenError, SyntaxError) as error:
        message, place = str(error.args[0]), error.args[1]
        line = first + (place[0] if isinstance(place[0], int) else place[1]) - 1  # TokenError, or SyntaxError
        if isinstance(error, IndentationError):
            resume = max(line, first + 1)
        elif "multi-line string" in message or "triple-quoted" in message:
            kind: StepKind = "code" if statement or _FSTRING.match(lines[line]) else "docstring"
            for i in range(line, len(lines)):
                kinds[i] = kind
                with_code.add(i)
            begins += [] if statement else [line]
        elif "multi-line statement" not in message:  # that is a bracket open at the end: all tokens have been seen
            resume = max(line + 1, first + 1)
            begins += [] if statement else [min(line, len(lines) - 1)]
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
    | (?P<space>    [ \t\n\v\f\r]+ )
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


_BEFORE_LIST = frozenset({"=", ",", "(", "[", "return"})  # a brace after one of these begins a list of values


def cpp_completion(code: str) -> tuple[int, str]:
    """Return what C++ code lacks that begins or ends in the middle of something.

    Returns:
        How many braces it closes that it has not opened, and the text that closes what it leaves open at its end.
        A bracket closed by one of another kind is an error inside of the code, and left to the parser.
    """
    unopened, end, before = 0, "", ""
    opened: list[str] = []  # what closes each open bracket; a block's last statement may lack its semicolon
    for token in _CPP_TOKEN.finditer(code):
        text = token.group()
        if token.lastgroup == "comment" and text.startswith("/*"):
            end = "" if len(text) >= 4 and text.endswith("*/") else "*/"
        elif token.lastgroup == "raw":
            close = f'){token["delimiter"]}"'
            end = "" if text.endswith(close) else close
        elif text == "{":
            in_list = before == "{" and opened[-1] == "}"
            opened.append("}" if in_list or before in _BEFORE_LIST else ";}")
        elif text in ("(", "["):
            opened.append(")" if text == "(" else "]")
        elif text == "}":
            while opened and opened[-1] in (")", "]"):
                opened.pop()
            if opened:
                opened.pop()
            else:
                unopened += 1
        elif opened and text == opened[-1]:
            opened.pop()
        if token.lastgroup not in ("space", "comment"):
            before = text
    # A backslash at the end takes one newline away.
    return unopened, end + "\n\n" + "".join(reversed(opened))
