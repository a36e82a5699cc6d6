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
"""Steps cover the code of a response, and their kinds are what the language's tokenizer says."""

from __future__ import annotations

import io
import tokenize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_prm.config import NeutralConfig
from nemo_prm.data.steps import code_span, extract_code, is_neutral, make_program, split_lines
from nemo_prm.types import Language, Problem, TestCase

KIND = {"c": "code", "#": "comment", ".": "blank", "d": "docstring"}


def kinds(text: str, language: Language = "python") -> str:
    letters = {kind: letter for letter, kind in KIND.items()}
    return "".join(letters[step.kind] for step in split_lines(text, language))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("x = 1", "c"),
        ("x = 1\n", "c"),
        ("x = 1\n\n", "c."),
        ("# a\n  # b\nx = 1  # c\n", "##c"),
        ("x = '# no comment'\n", "c"),
        ("x = '''\n# no comment\n\n'''\n# comment\n", "cccc#"),
        ('def f():\n    """One.\n\n    # Two\n    """\n    return 1\n', "cddddc"),
        ('    """A body that continues a prompt."""\n    # c\n    return 1\n', "d#c"),
        ('"""a""" \'b\'\n', "d"),
        ("'a'; x = 1\n", "c"),
        ("f'{g()}'\n", "c"),
        ("x = (\n    # inside\n\n    1\n)\n", "c#.cc"),
        ("x = 1 + \\\n\\\n2\n", "ccc"),
        ("\f\n\x0c# a\n", ".#"),
        ('x = f"""{a}\n\n{b}\n"""\n', "cccc"),  # a token of its own from Python 3.12 on
        # Python refuses these lines, so they are to blame
        ("x = 1\n\u00a0\n\x0b\n\x1c\n\u3000# c\n# c\n", "ccccc#"),
        ("# a\r\nx = 1\r\n\r\n", "#c."),
        ("x = 1\r# still code\n# b\n", "c#"),
        ("x = '\u2028# one line'\n", "c"),
        # broken or cut off
        ("if a:\n        b = 1\n    # c\n    d = 1\n# e\n", "cc#c#"),
        ("if a:\n        b = 1\n   '''d\n   # d\n   '''\n# e\n", "ccddd#"),
        ("x = (1,\n# c\n", "c#"),
        ("x = 1)\n# c\n", "c#"),
        ("x = '''\n# no comment\n", "cc"),
        ("x = '''\n\n", "cc"),
        ("def f():\n    '''d\n\n    # d\n", "cddd"),
        ("def f():\n    f'''{g()}\n\n    # d\n", "cccc"),
        ("x = 'abc # def\n# c\n", "c#"),
        ("x = $ ? !\n# c\n", "c#"),
        ("x = 0777a\n# c\n", "c#"),
        ("\0\n# c\n", "c#"),
        ("\ud800 = 1\n# c\n", "c#"),
        ("@\n\\\n# c", "cc#"),
    ],
)
def test_python_kinds(text: str, expected: str) -> None:
    assert kinds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int x; // c\n// c\n\n", "c#."),
        ("/* a\n\n b */\nint x; /* c\n d */ int y;\n", "###cc"),
        ('auto s = "// no";\nauto t = "/*";\n// c\n', "cc#"),
        ('auto s = R"x(\n// no\n)" \n\n)x";\n// c\n', "ccccc#"),
        ('auto s = u8R"(\n/* no\n)";\n// c\n', "ccc#"),
        ("char c = '\"'; // c\n// c\n", "c#"),
        ("int x = 1'000'000; // '\n// c\n", "c#"),
        ("char c = '\\''; /* c */\n/* c */\n", "c#"),
        ("// a \\\nstill a comment\nint x;\n", "##c"),
        ('auto s = "a\\\n// no";\n// c\n', "cc#"),
        ('auto s = "never closed // no\n// c\n', "c#"),
        ("/* never closed\n\nint x;", "###"),
        ('auto s = R"(never closed\n// no', "cc"),
        ("int x;\n\u00a0\n\v\n", "cc."),
    ],
)
def test_cpp_kinds(text: str, expected: str) -> None:
    assert kinds(text, "cpp") == expected


def test_python_kinds_agree_with_tokenize_on_the_standard_library() -> None:
    """Every comment-only line of real files, found by a second, simpler use of the tokenizer."""
    import argparse
    import heapq
    import textwrap

    for module in (argparse, heapq, textwrap, tokenize):
        with open(str(module.__file__), encoding="utf-8") as file:
            text = file.read()
        rows: dict[int, set[int]] = {}
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            for row in range(token.start[0] - 1, token.end[0]):
                rows.setdefault(row, set()).add(token.type)
        ignore = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT}
        expected = [row for row, types in sorted(rows.items()) if types - ignore == {tokenize.COMMENT}]
        steps = split_lines(text)
        assert [i for i, step in enumerate(steps) if step.kind == "comment"] == expected
        assert "docstring" in {step.kind for step in steps}


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("x = 1\n", "x = 1\n"),
        ("Text.\n```python\nx = 1\n```\nMore.\n```\ny\n```\n", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n", "x = 1\n"),
        ("```python", ""),
        ("````\n```\nx\n````\n", "```\nx\n"),
        ("  ```py\nx\n  ```\n", "x\n"),
        ("x = 1\n```\n", "x = 1\n"),
        ("s = '```'\n", "s = '```'\n"),
        ("```\n```\n", ""),
    ],
)
def test_extract_code(response: str, code: str) -> None:
    assert extract_code(response) == code
    assert "".join(response[step.start : step.end] for step in split_lines(response)) == code


@pytest.mark.parametrize(
    ("prompt", "response", "code"),
    [
        ("Do it:\n```python\n", "x = 1\n```\nThis does it.\n", "x = 1\n"),
        ("Do it:\n```python\n", "x = 1\n```\nUse:\n```python\nprint(x)\n```\n", "x = 1\n"),
        ("Do it:\n```python\n", "```python\nx = 1\n```\nDone.\n", "x = 1\n"),  # opened once more
        ("Do it:\n````python\n", "```\nx = 1\n```\n", "x = 1\n"),  # three do not close four
        ("Starter:\n```python\nf\n```\nDo it.\n", "Here:\n```\nx = 1\n```\nDone.\n", "x = 1\n"),
        ("Do it.\n", "x = 1\n```\n", "x = 1\n"),  # the policy closes what nobody opened
    ],
)
def test_a_prompt_may_open_the_block(prompt: str, response: str, code: str) -> None:
    assert extract_code(response, prompt) == code
    assert "".join(response[step.start : step.end] for step in split_lines(response, "python", prompt)) == code
    assert make_program(Problem("p", prompt, (TestCase("stdio"),)), response) == code


def test_a_carriage_return_ends_a_comment() -> None:
    kinds = [step.kind for step in split_lines("# a\rx = 1\n# a\r\n# a\r# b\n# a\r\r\n's\r# x'\n")]
    assert kinds == ["code", "comment", "comment", "comment", "docstring"]


def test_program_is_prefix_and_code() -> None:
    problem = Problem("p", "prompt", (TestCase("stdio"),), program_prefix="def f():\n")
    assert make_program(problem, "```python\n    return 1\n```\n") == "def f():\n    return 1\n"


def test_neutral_kinds_are_switchable() -> None:
    default, off = NeutralConfig(), NeutralConfig(comments=False, blank_lines=False, docstrings=False)
    for kind in ("comment", "blank", "docstring"):
        assert is_neutral(kind, default) and not is_neutral(kind, off)
    assert not is_neutral("code", default)


FRAGMENTS = st.sampled_from(
    [*"\n\r\f \t#'\"\\(){x=é𝄞\u2028\0\ud800", "\r\n", "    ", '"""', "'''", "def f():", "f'", 'R"(', ')"', "0x"]
    + ["//", "/*", "*/", "```", "```python\n", "\n```\n"]
)
SOUP = st.lists(FRAGMENTS, max_size=40).map("".join) | st.text(max_size=60)


@given(SOUP, st.sampled_from(["python", "cpp"]))
@example("\n\x0c'''", "python")
@settings(max_examples=600, deadline=None)
def test_steps_are_contiguous_and_cover_the_code(response: str, language: Language) -> None:
    start, end = code_span(response)
    steps = split_lines(response, language)
    position = start
    for step in steps:
        assert step.start == position < step.end
        line = response[step.start : step.end]
        assert "\n" not in line[:-1]
        assert line.endswith("\n") or step is steps[-1]
        position = step.end
    assert position == end
    assert response[:start] + "".join(response[s.start : s.end] for s in steps) + response[end:] == response
    assert not "".join(response[step.start : step.end] for step in steps if step.kind == "blank").strip()


@given(st.lists(st.sampled_from(["c", "#", ".", "d"]), max_size=12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_kinds_of_assembled_programs(sequence: list[str], close: bool) -> None:
    text = {"c": "x = '#'  # c\n", "#": "    # '''\n", ".": "  \n", "d": "'''# \"\"\" '''\n"}
    program = "".join(text[letter] for letter in sequence)
    assert kinds(program if close else program[:-1]) == "".join(sequence)
