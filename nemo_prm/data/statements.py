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
"""Where the statements of Python or C++ code begin; the code may be broken or cut off, but no line is lost.

Definitions (functions, classes, namespaces) are opened: the statements of their bodies count too, at any depth. Any
other statement is one with all that it holds: a loop, a branch, a lambda. Python is read by its tokenizer and by the
indentation, so that code which does not parse has statements too; C++ by tree-sitter, which parses around errors.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple, Sequence

from nemo_prm.data.lexing import cpp_completion, python_logical_lines
from nemo_prm.errors import ConfigError

if TYPE_CHECKING:
    from tree_sitter import Language, Node


class Statement(NamedTuple):
    """A statement that begins on line `line`; only the first one on a line counts.

    `depth` is the number of functions and classes around it. `is_definition` says that it is one of these itself; a
    decorated or templated definition begins with its decorators or template.
    """

    line: int
    depth: int
    is_definition: bool


_HEAD = re.compile(r"(?P<indent>[ \t\f]*)(?P<word>async[ \t]+def\b|[A-Za-z_]\w*|@)?")
_CLAUSES = frozenset({"else", "elif", "except", "finally"})


class _Level(NamedTuple):
    indent: int
    is_definition: bool


def python_statements(lines: Sequence[str]) -> list[Statement]:
    """Find the statements of Python code, ascending.

    Code that continues a function of the prompt is indented from the start: its statements have depth 0.

    Args:
        lines: each ends with its newline, the last may lack it.
    """
    statements: list[Statement] = []
    around: list[_Level] = []  # statements that the current line is inside of
    decorated = False
    for line in python_logical_lines(lines):
        head = _HEAD.match(lines[line])
        assert head is not None, "every part of the pattern is optional"
        indent = len(head["indent"].rpartition("\f")[2].expandtabs(8))
        word = head["word"] or ""
        before = None
        while around and around[-1].indent >= indent:
            before = around.pop()
        is_definition = word in ("class", "def", "@") or word.startswith("async") and word != "async"
        follows = before is not None and before.indent == indent
        if follows and word in _CLAUSES:
            is_definition = False
        elif follows and decorated:
            is_definition = True
        elif all(level.is_definition for level in around):
            statements.append(Statement(line, len(around), is_definition))
        around.append(_Level(indent, is_definition))
        decorated = word == "@"
    return statements


# Names in the grammar of C++.
_TRANSPARENT = frozenset({"namespace_definition", "linkage_specification"})  # opened, but no level of their own
_CLASSES = frozenset({"class_specifier", "struct_specifier", "union_specifier"})
_WITH_TYPE = frozenset({"declaration", "field_declaration", "type_definition", "function_definition"})
_BROKEN = frozenset({"ERROR", "function_definition"})  # whose children are looked at only where the code is broken
_PUNCTUATION = frozenset("{}()[];:,")


class _Body(NamedTuple):
    """A node whose children are statements at `depth`; `is_code` says that it is a function's body."""

    node: Node
    depth: int
    is_code: bool


def cpp_statements(lines: Sequence[str]) -> list[Statement]:
    """Find the statements of C++ code, ascending; a preprocessor conditional is one statement with all its branches.

    Code that was cut off, or continues a function of the prompt, is parsed with the missing ends around it. What
    continues a function has depth 1. Where the parser finds no structure, each line it can tell apart is a statement.

    Args:
        lines: each ends with its newline, the last may lack it.

    Raises:
        ConfigError: tree-sitter or its C++ grammar is not installed.
    """
    grammar = _cpp_grammar()
    from tree_sitter import Parser

    code = "".join(lines)
    unopened, ends = cpp_completion(code)
    begins = "namespace _ {" * (unopened - 1) + "void _() {" * (unopened > 0)
    tree = Parser(grammar).parse(f"{begins}\n{code}{ends}".encode("utf-8", "replace"))
    found: dict[int, Statement] = {}
    pending = [_Body(tree.root_node, 0, False)]
    while pending:
        body = pending.pop()
        busy = -1  # the last line with code of what came before
        joined = False
        for child in body.node.children:
            if child.type == "comment" or child.is_missing:
                continue
            line = child.start_point.row - 1  # one for `begins`
            is_definition, inner = _open(child, body)
            if child.type not in _PUNCTUATION and not joined and busy < line < len(lines):
                found.setdefault(line, Statement(line, body.depth, is_definition))
            joined = child.type == "access_specifier" or joined and child.type == ":"
            pending += inner
            end = child.end_point
            busy = max(busy, end.row - 1 - (end.column == 0))  # a preprocessor line ends with its newline
    return [found[line] for line in sorted(found)]


def _open(node: Node, around: _Body) -> tuple[bool, list[_Body]]:
    """Tell whether a child of `around` is a definition, and in which nodes further statements lie."""
    if node.type == "ERROR" or node.type == "compound_statement" and around.node.type in _BROKEN:
        return False, [_Body(node, around.depth, around.is_code)]
    if node.type in _TRANSPARENT:
        body = node.child_by_field_name("body")
        return False, [] if body is None else [_Body(body, around.depth, False)]
    while node.type == "template_declaration" and node.named_children:
        node = node.named_children[-1]
    type_ = node.child_by_field_name("type") if node.type in _WITH_TYPE else node
    if type_ is not None and type_.type in _CLASSES and (body := type_.child_by_field_name("body")) is not None:
        if node.type == "function_definition":  # the semicolon after a class is missing
            return False, [_Body(node, around.depth, False)]
        return True, [_Body(body, around.depth + 1, False)]
    if node.type != "function_definition" or around.is_code and type_ is None:  # a loop made by a macro
        return False, []
    body = node.child_by_field_name("body")
    if body is None or body.type != "compound_statement":  # `= default`, or a try block
        return True, []
    return True, [_Body(body, around.depth + 1, True)]


@functools.cache
def _cpp_grammar() -> Language:
    try:
        import tree_sitter_cpp
        from tree_sitter import Language
    except ImportError as error:
        raise ConfigError(
            "Cutting C++ into blocks or functions needs tree-sitter; install it with: "
            "pip install tree-sitter tree-sitter-cpp."
        ) from error
    return Language(tree_sitter_cpp.language())
