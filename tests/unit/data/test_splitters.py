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
"""Every splitter keeps the text whole and puts a step's end where a reader would; broken code is no exception."""

from __future__ import annotations

import ast
import sys
from typing import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_prm.config import NeutralConfig
from nemo_prm.data.splitters import splitter
from nemo_prm.data.statements import _cpp_grammar, python_statements
from nemo_prm.data.steps import code_span, is_neutral, split_lines
from nemo_prm.errors import ConfigError
from nemo_prm.types import Language

NAMES = ("lines", "blocks", "functions", "thoughts")
LANGUAGES: tuple[Language, ...] = ("python", "cpp")


def texts(name: str, response: str, language: Language = "python") -> list[str]:
    return [response[step.start : step.end] for step in splitter(name)(response, language)]


def kinds(name: str, response: str, language: Language = "python") -> list[str]:
    return [step.kind for step in splitter(name)(response, language)]


def test_lines_are_what_they_were() -> None:
    text = "Text.\n```python\n# a\nx = 1\n\n```\n"
    assert splitter("lines")(text, "python") == split_lines(text, "python")
    assert kinds("lines", text) == ["comment", "code", "blank"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="steps must be one of lines, blocks, functions, thoughts, found 'words'"):
        splitter("words")


# A "|" begins a step, a "^" one that only blocks have; both stand in the first column, which is no part of the code.
PYTHON = '''
|# Reads the input.
 import sys
^from math import inf  # all of it
|
 # What follows is a class.
 @dataclass(
     frozen=True,
 )
 @final
 class Solution:
^    """Finds it.

     # no comment
     """
^    best: int = 0
^
     # Above a method.
     def find(self, numbers):
^        """Of a method."""
^        total = (
             1,
         # inside

             2,
         )
^        for number in numbers:
             if number:
                 continue
             # before a clause
             elif number > 1:
                 break
             else:
                 pass
         else:
             total = 0
^        def inner(x): return x
^        visit = lambda x: (
             x
         )
^        try:
             visit(0)
         except ValueError:
             raise
         finally:
             pass
^        return total
^
     async def wait(self): pass
|
 LIMIT = 3; OTHER = 4
^match LIMIT:
     case 3:
         pass
^if LIMIT:
     def late():
         return 1
 elif OTHER:
     pass
|def main():
^    text = """
 def no():
     return
 """
^    x = 1 + \\
         2
|    # above the next statement, whatever its indentation

 # Runs.
 if __name__ == "__main__":
     main()
 # The end.
'''

CPP = r"""
|#include <bits/stdc++.h>
^#define rep(i, n) \
     for (int i = 0; i < (n); i++)
^using namespace std;
^
 #ifdef LOCAL
 const int N = 10;
 #else
 const int N = 1000;
 #endif
|
 // A point.
 struct Point {
^    int x = 0, y = 0;
^    Point(int x) : x(x) {}
^    bool operator<(const Point& o) const {
^        if (x != o.x) return x < o.x;
^        return y < o.y;
     }
 };
|enum Color {
     RED,
     BLUE,
 };
|
 template <typename T>
 T gcd_of(T a, T b) {
^    while (b) {
         T t = a % b;
         a = b;
         b = t;
     }
^    return a;
 }
|
 namespace util {
|/* power
    modulo */
 long long power(long long b, long long e)
 {
^    return e ? b * power(b, e - 1) : 1;
 }
|const char* text = R"x(
 int no() {
 // no comment
 )x";
 }  // namespace util
|
 class Solution {
^public:
     vector<vector<int>> memo;
^
     int solve(vector<int>& nums, int k) {
^        map<int, vector<pair<int, int>>> groups;
^        auto add = [&](int i) {
             groups[i].push_back({i, 1});
             return true;
         };
^        for (int i = 0; i < k; i++) {
             if (nums[i] > k) {
                 add(i);
             } else {
                 break;
             }
         }
^        do {
             k++;
         } while (k < 10);
^        switch (k) {
             case 0:
                 return 1;
             default:
                 k--;
         }
^        sort(nums.begin(), nums.end(), [](int a, int b) {
             return a > b;
         });
^        return k;
     }
^
 private:
     int helper() const { return 0; }
 };
|
 int main() {
^    rep(i, 3) {
         cout << i << "}\n";
     }
^    int a; int b;
^    try {
         cin >> a;
     } catch (...) {
         return 1;
     }
     // below the last statement
 }
"""


def annotated(marked: str, marks: str) -> list[str]:
    """The steps of a program whose first column holds marks."""
    steps: list[str] = []
    for line in marked.lstrip("\n").splitlines(keepends=True):
        if line[0] in marks:
            steps.append("")
        steps[-1] += line[1:] or "\n"
    return steps


@pytest.mark.parametrize(("marked", "language"), [(PYTHON, "python"), (CPP, "cpp")])
@pytest.mark.parametrize(("name", "marks"), [("blocks", "|^"), ("functions", "|")])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_steps_of_whole_programs(marked: str, language: Language, name: str, marks: str, newline: str) -> None:
    expected = [step.replace("\n", newline) for step in annotated(marked, marks)]
    program = "".join(expected)
    assert texts(name, program, language) == expected
    fenced = f"Here it is:{newline}```{language}{newline}{program}```{newline}That is all.{newline}"
    assert texts(name, fenced, language) == expected


@pytest.mark.parametrize(
    ("language", "blocks"),
    [
        # what continues the body of a function in the prompt
        ("python", ["    x = 1\n", "    for i in x:\n        y\n", "    return x\n", "\ndef g():\n", "    pass\n"]),
        ("cpp", ["  x = 1;\n", "  for (;;) {\n    y;\n  }\n", "  return x;\n}\n", "int g() {\n", "  y;\n}\n"]),
        ("cpp", ["    return x;\n  }\n", "  int g() {\n", "    y;\n  }\n};\n", "int main() {\n", "  g();\n}\n"]),
        # cut off
        ("python", ["def f():\n", "    x = 1\n", "    for i in g(x,\n"]),
        ("python", ["x = 1\n", "y = '''\n\ndef f():\n"]),
        ("python", ["x = 1\n", "@wraps\n"]),
        ("python", ["x = 1\n", "y = f(1, [2\n"]),
        ("cpp", ["int main() {\n", "  int x;\n", "  for (int i = 0; i < n; i++) {\n    x++;\n    if (x"]),
        ("cpp", ["int main() {\n", "  int x;\n", "  vector<vector<int>> g = {\n    {1, 2},\n    {3"]),
        ("cpp", ["int main() {\n", "  int x;\n", "  f(x, [&](int y) {\n    return y"]),
        ("cpp", ["int x;\n", "int y;\n/* and\nint z;\n"]),
        ("cpp", ["int x;\n", 'auto s = R"a(\nint y; )"\n']),
        ("cpp", ["int main() {\n", "  int x;\n", "  int y;\n  // ends in \\"]),
        ("cpp", ["class A {\n", "public:\n    int f() {\n", "      int x;\n", "      while (true) {\n        x"]),
        # broken
        ("python", ["def f()\n", "    x = 1\n", "y = 1)\n", "z = 2\n"]),
        ("python", ["if a:\n        b = 1\n    c = 1\n", "d = 'e\n", "$ f\n", "g\n"]),
        ("python", ["else:\n", "y = 1\n"]),
        ("cpp", ["int f() {\n", "  int x = 1\n  good();\n}\n", "int g() {\n", "  y;\n}\n"]),
        ("cpp", ["int f() {\n", "  bad bad bad @;\n", "  good();\n}\n", "int g() {\n", "  y;\n}\n"]),
        ("cpp", ["struct A {\n", "  int x;\n}\n", "\nint main() {\n", "  int y;\n", "  return 0;\n}\n"]),
        ("cpp", ["int f() {\n", "  x;\n", "\nint g() {\n", "  y;\n}\n"]),
    ],
)
def test_blocks_of_code_that_does_not_parse(language: Language, blocks: list[str]) -> None:
    assert texts("blocks", "".join(blocks), language) == blocks


@pytest.mark.parametrize(
    ("language", "functions"),
    [
        ("python", ["    x = 1\n    return x\n", "\ndef g():\n    pass\n"]),
        ("cpp", ["    int x;\n    return x;\n}\n", "int g() {\n  y;\n}\n", "int z;\n"]),
        ("python", ["import x\ny = 1\n", "class A:\n    def f(self):\n        x = (1,\n"]),
        ("cpp", ["using x;\nint y;\n", "int g() {\n  y;\n}\n", "int main() {\n  for (;;) {\n    if (x"]),
        ("cpp", ["int f();\nint y;\n", "typedef struct {\n  int q;\n} B;\n", 'extern "C" {\nint z;\n}\n']),
    ],
)
def test_functions_of_code_that_does_not_parse(language: Language, functions: list[str]) -> None:
    assert texts("functions", "".join(functions), language) == functions


def test_python_blocks_agree_with_ast_on_the_standard_library() -> None:
    def lines_of(body: list[ast.stmt]) -> Iterator[int]:
        for node in body:
            opened = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            decorators = getattr(node, "decorator_list", [])
            yield min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
            if opened:
                yield from lines_of(node.body)  # type: ignore[attr-defined]

    for module in ("argparse", "dataclasses", "heapq", "inspect", "textwrap", "typing"):
        with open(str(sys.modules[module].__file__), encoding="utf-8") as file:
            text = file.read()
        found = [statement.line for statement in python_statements(text.splitlines(keepends=True))]
        assert found == sorted(set(lines_of(ast.parse(text).body))), module


@pytest.mark.parametrize(("marked", "language"), [(PYTHON, "python"), (CPP, "cpp")])
@pytest.mark.parametrize("name", ["blocks", "functions"])
def test_a_prefix_of_steps_has_the_same_steps(marked: str, language: Language, name: str) -> None:
    """So the steps of a completion are those of the prefix that it continues, and more."""
    steps = texts(name, "".join(annotated(marked, "|^")), language)
    for count in range(len(steps)):
        assert texts(name, "".join(steps[:count]), language) == steps[:count]


def test_blocks_without_code_are_neutral() -> None:
    default, without_docstrings = NeutralConfig(), NeutralConfig(docstrings=False)
    text = '# a\n\n"""Docs."""\nx = 1  # b\n# c\n'
    assert texts("blocks", text) == ['# a\n\n"""Docs."""\n', "x = 1  # b\n# c\n"]
    docstring, code = splitter("blocks")(text, "python")
    assert is_neutral(docstring.kind, default) and not is_neutral(docstring.kind, without_docstrings)
    assert not is_neutral(code.kind, default)
    for name in ("blocks", "functions"):
        assert kinds(name, "# a\n\n# b\n") == ["comment"] and kinds(name, "\n\n") == ["blank"]
        assert kinds(name, "// a\n\n/* b\n */\n", "cpp") == ["comment"]
        assert kinds(name, "") == kinds(name, "```python\n```\n") == []


@pytest.mark.parametrize(
    ("thoughts", "code"),
    [
        (["Thought 1: read.\n1. a\n2. b\n\n", "Thought 2: add.\n\n"], "```python\nx = 1\n"),
        (["Sure.\n\nStep 1: read.\n", "Step 2. add.\n", "step 10\nprint\n"], "```\nx = 1\n"),
        (["**Step 1:** read\n", "**Step 2:** add\n"], "```cpp\nx;\n"),
        (["### Thought 1\nread\n", "### Thought 2\nadd\n"], "```\nx\n"),
        (["1. read\n   1. a number\n   2. another\n", "2. add\n"], "```\nx\n"),
        (["1) read\r\n\r\n", "2) add\r\n"], "```\r\nx\r\n"),
        (["\n\nFirst we read.\nThen more.\n\n\n", "  Step by step, we add.\n\n"], "```python\nx\n"),
        (["We add 1 and 2.\n"], "```python\nx = 1"),
        (["We add.\n"], "```python"),
        ([], "```python\nx = 1\n"),
        # without a fence
        ([], "x = 1\n# Step 1: no\ny = 1\n"),
        (["# Step 1: read\n#   a number\n", "# Step 2: add\n\n"], "x = 1\n# c\ny = 1\n"),
        (["# We read.\n# Then more.\n\n", "# We add.\n"], "x = 1\n"),
        (["// 1. read\n", "// 2. add\n"], "int x;\n"),
        (["# only\n# this"], ""),
        (["Thought 1: read.\n", "Thought 2: cut o"], ""),
    ],
)
def test_thoughts(thoughts: list[str], code: str) -> None:
    language: Language = "cpp" if code == "int x;\n" else "python"
    response = "".join(thoughts) + code
    expected = [*thoughts, *([code] if code else [])]
    assert texts("thoughts", response, language) == expected
    assert kinds("thoughts", response, language) == ["thought"] * len(thoughts) + ["code"] * bool(code)
    if code.startswith("```") and code.endswith("\n"):
        assert texts("thoughts", response + "```\nThat is all.\n", language) == expected


def test_thoughts_of_nothing() -> None:
    assert texts("thoughts", "") == texts("thoughts", "```") == []
    assert kinds("thoughts", "\n\n") == ["blank"]
    # a fence that was opened in the prompt
    assert texts("thoughts", "# add\nx = 1\n```\n") == ["# add\n", "x = 1\n"]


def test_thoughts_are_never_neutral() -> None:
    assert not is_neutral("thought", NeutralConfig())


def test_cpp_without_tree_sitter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tree_sitter_cpp", None)
    _cpp_grammar.cache_clear()
    with pytest.raises(ConfigError, match="pip install tree-sitter tree-sitter-cpp"):
        splitter("blocks")("", "cpp")
    assert texts("blocks", "x = 1\n") == ["x = 1\n"]
    assert texts("lines", "int x;\n", "cpp") == ["int x;\n"]


FRAGMENTS = st.sampled_from(
    [*"\n\r\f \t#'\"\\(){}[]<>;:,x=é𝄞\u2028\0\ud800", "\r\n", "    ", '"""', "f'", 'R"(', ')"', "//", "/*", "*/"]
    + ["def f():\n", "class A:\n", "@a\n", "async ", "else:\n", "if x:\n", "return 1\n", "    x = 1\n"]
    + ["int f() {\n", "struct A {\n", "template <class T>\n", "namespace a {\n", "public:\n", "};\n", "try {", "do "]
    + ["for (;;) {\n", "rep(i, 3) {\n", "= {", "[&](int x) {", 'extern "C" {\n', "#if 1\n", "#endif"]
    + ["Thought 1: ", "Step 2:\n", "1. ", "```", "```python\n", "\n```\n"]
)
SOUP = st.lists(FRAGMENTS, max_size=40).map("".join) | st.text(max_size=60)


@given(SOUP, st.sampled_from(NAMES), st.sampled_from(LANGUAGES))
@example("template <class T>\n", "blocks", "cpp")
@example("\x85", "thoughts", "python")  # no white space to Python
@settings(max_examples=1000, deadline=None)
def test_any_text_is_cut_into_contiguous_steps(response: str, name: str, language: Language) -> None:
    steps = splitter(name)(response, language)
    start, end = code_span(response)
    position = 0 if name == "thoughts" else start
    for step in steps:
        assert step.start == position < step.end
        assert response[step.start : step.end].endswith("\n") or step.end == len(response)
        position = step.end
    assert position == end
    assert steps == splitter(name)(response, language)
    for step in steps:
        if is_neutral(step.kind, NeutralConfig()):
            inside = [line for line in split_lines(response, language) if step.start <= line.start < step.end]
            assert all(line.kind != "code" for line in inside)


def test_functions_are_made_of_blocks() -> None:
    text = "".join(annotated(PYTHON, "|^"))
    ends = {step.end for step in splitter("blocks")(text, "python")}
    assert {step.end for step in splitter("functions")(text, "python")} < ends
