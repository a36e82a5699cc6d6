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
"""The operations that embedded problems chain: what the task says, the line that does it, and the slips people make.

Every operation is one line of Python, `v = <expression>`, that turns a value of one kind into a value of another. Its
slips are expressions of the same shape that are wrong in a typical way (an off-by-one, the opposite order, the wrong
end of a list). They serve twice: the unit tests of a problem must tell each slip from the right line, and the text the
embedded policy learns from contains some, as code from the wild does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ValueKind = Literal["numbers", "words", "text", "number", "counts"]

INPUT_PHRASES: dict[ValueKind, str] = {
    "numbers": "a list of integers",
    "words": "a list of words",
    "text": "a string",
    "number": "an integer",
    "counts": "a dictionary of counts",
}


@dataclass(frozen=True)
class Operation:
    """One kind of step; in its texts `{k}` stands for a small integer, `{less}` for k - 1 and `{more}` for k + 1.

    `slip_rate` is the share of its occurrences in the policy's training text that are slips.
    """

    name: str
    source: ValueKind
    target: ValueKind
    phrases: tuple[str, ...]
    expression: str
    slips: tuple[str, ...]
    slip_rate: float = 0.0

    @property
    def has_parameter(self) -> bool:
        return "{k}" in self.phrases[0]


# The tables below are to be read as tables: one operation, one entry.
# fmt: off
RARE = 0.05  # slip rates: a line that is nearly always right in the text,
OFTEN = 0.45  # one that is about as often wrong as right,
MOSTLY = 0.6  # and one that the text gets wrong more often than not


def _list_operations(kind: ValueKind, one: str) -> tuple[Operation, ...]:
    """Operations that mean the same for a list of numbers and a list of words; `one` names an item."""

    def op(name: str, phrases: tuple[str, ...], expression: str, slip: str, slip_rate: float) -> Operation:
        phrases = tuple(phrase.replace("ITEM", one) for phrase in phrases)
        return Operation(f"{name}_{kind}", kind, kind, phrases, expression, (slip,), slip_rate)

    return (
        op("reverse", ("reverse the list", "turn the list around"), "v[::-1]", "v[:-1]", RARE),
        op("first", ("keep the first {k} ITEMs", "drop all but the first {k} ITEMs"), "v[:{k}]", "v[:{less}]", RARE),
        op("skip", ("drop the first {k} ITEMs", "skip the first {k} ITEMs"), "v[{k}:]", "v[{less}:]", OFTEN),
        op("last", ("keep the last {k} ITEMs", "drop all but the last {k} ITEMs"), "v[-{k}:]", "v[{k}:]", OFTEN),
        op("every_second", ("keep every second ITEM", "drop every other ITEM"), "v[::2]", "v[1::2]", MOSTLY),
        op("unique", ("remove repeated ITEMs", "keep each ITEM once"),
           "list(dict.fromkeys(v))", "sorted(set(v))", RARE),
        op("rotate", ("move the first ITEM to the end",), "v[1:] + v[:1]", "v[-1:] + v[:-1]", OFTEN),
    )


_NUMBERS = (
    *_list_operations("numbers", "number"),
    Operation("even", "numbers", "numbers", ("keep the even numbers", "drop the odd numbers"),
              "[x for x in v if x % 2 == 0]", ("[x for x in v if x % 2 == 1]",), RARE),
    Operation("above", "numbers", "numbers", ("keep the numbers above {k}", "drop the numbers up to {k}"),
              "[x for x in v if x > {k}]", ("[x for x in v if x >= {k}]",), OFTEN),
    Operation("below", "numbers", "numbers", ("keep the numbers below {k}", "keep the numbers less than {k}"),
              "[x for x in v if x < {k}]", ("[x for x in v if x <= {k}]",), RARE),
    Operation("add", "numbers", "numbers", ("add {k} to each number", "increase each number by {k}"),
              "[x + {k} for x in v]", ("[x - {k} for x in v]",), RARE),
    Operation("scale", "numbers", "numbers", ("multiply each number by {k}", "scale each number by {k}"),
              "[x * {k} for x in v]", ("[x ** {k} for x in v]",), RARE),
    Operation("remainder", "numbers", "numbers", ("take each number modulo {k}",),
              "[x % {k} for x in v]", ("[x // {k} for x in v]",), OFTEN),
    Operation("square", "numbers", "numbers", ("square each number",),
              "[x * x for x in v]", ("[x * 2 for x in v]",), RARE),
    Operation("clip", "numbers", "numbers", ("replace negative numbers by 0", "raise negative numbers to 0"),
              "[max(x, 0) for x in v]", ("[min(x, 0) for x in v]",), OFTEN),
    Operation("ascending", "numbers", "numbers", ("sort in ascending order", "sort from small to large"),
              "sorted(v)", ("sorted(v, reverse=True)",), RARE),
    Operation("descending", "numbers", "numbers", ("sort in descending order", "sort from large to small"),
              "sorted(v, reverse=True)", ("sorted(v)",), OFTEN),
    Operation("gaps", "numbers", "numbers", ("take the differences of neighbours",),
              "[b - a for a, b in zip(v, v[1:])]", ("[a - b for a, b in zip(v, v[1:])]",), OFTEN),
    Operation("running", "numbers", "numbers", ("take the running totals",),
              "[sum(v[:i + 1]) for i in range(len(v))]", ("[sum(v[:i]) for i in range(len(v))]",), MOSTLY),
    Operation("sum", "numbers", "number", ("sum the numbers", "add up the numbers"), "sum(v)", ("len(v)",), RARE),
    Operation("largest", "numbers", "number", ("take the largest number or 0",),
              "max(v, default=0)", ("min(v, default=0)",), RARE),
    Operation("smallest", "numbers", "number", ("take the smallest number or 0",),
              "min(v, default=0)", ("max(v, default=0)",), OFTEN),
    Operation("count_above", "numbers", "number", ("count the numbers above {k}",),
              "sum(x > {k} for x in v)", ("sum(x for x in v if x > {k})",), OFTEN),
)

_NUMBER = (
    Operation("plus", "number", "number", ("add {k}", "increase it by {k}"), "v + {k}", ("v - {k}",), RARE),
    Operation("times", "number", "number", ("multiply it by {k}",), "v * {k}", ("v ** {k}",), RARE),
    Operation("digits", "number", "numbers", ("list its digits",),
              "[int(c) for c in str(abs(v))]", ("[int(c) for c in str(abs(v))[::-1]]",), RARE),
    Operation("multiples", "number", "numbers", ("list its first {k} multiples",),
              "[v * i for i in range(1, {more})]", ("[v * i for i in range(1, {k})]",), MOSTLY),
    Operation("as_text", "number", "text", ("write it as a string",), "str(v)", ("repr([v])",), RARE),
)

_WORDS = (
    *_list_operations("words", "word"),
    Operation("upper_each", "words", "words", ("put each word in upper case",),
              "[w.upper() for w in v]", ("[w.title() for w in v]",), RARE),
    Operation("reverse_each", "words", "words", ("reverse each word", "spell each word backwards"),
              "[w[::-1] for w in v]", ("v[::-1]",), RARE),
    Operation("longer", "words", "words", ("keep the words longer than {k}",),
              "[w for w in v if len(w) > {k}]", ("[w for w in v if len(w) >= {k}]",), OFTEN),
    Operation("start_each", "words", "words", ("cut each word to {k} letters",),
              "[w[:{k}] for w in v]", ("[w[{k}:] for w in v]",), OFTEN),
    Operation("alphabetical", "words", "words", ("sort in alphabetical order", "sort the words from a to z"),
              "sorted(v)", ("sorted(v, key=len)",), RARE),
    Operation("by_length", "words", "words", ("sort by length", "sort from short to long"),
              "sorted(v, key=len)", ("sorted(v)",), OFTEN),
    Operation("lengths", "words", "numbers", ("take the length of each word",),
              "[len(w) for w in v]", ("[len(v) for w in v]",), RARE),
    Operation("initials", "words", "text", ("join the first letters",),
              "''.join(w[0] for w in v)", ("''.join(w[1] for w in v)",), OFTEN),
    Operation("dashes", "words", "text", ("join the words with dashes",), "'-'.join(v)", ("' '.join(v)",), RARE),
    Operation("longest", "words", "text", ("take the longest word or an empty string",),
              "max(v, key=len, default='')", ("max(v, default='')",), MOSTLY),
    Operation("occurrences", "words", "counts", ("count how often each word occurs",),
              "{w: v.count(w) for w in v}", ("{w: len(w) for w in v}",), RARE),
)

_TEXT = (
    Operation("upper", "text", "text", ("put it in upper case",), "v.upper()", ("v.title()",), RARE),
    Operation("backwards", "text", "text", ("reverse the string", "spell it backwards"), "v[::-1]", ("v[:-1]",), RARE),
    Operation("no_vowels", "text", "text", ("remove the vowels",),
              "''.join(c for c in v if c not in 'aeiou')", ("''.join(c for c in v if c in 'aeiou')",), OFTEN),
    Operation("underscores", "text", "text", ("replace spaces by underscores",),
              "v.replace(' ', '_')", ("v.replace('_', ' ')",), RARE),
    Operation("head", "text", "text", ("keep the first {k} letters",), "v[:{k}]", ("v[:{less}]",), RARE),
    Operation("tail", "text", "text", ("keep the last {k} letters",), "v[-{k}:]", ("v[{k}:]",), OFTEN),
    Operation("twice", "text", "text", ("repeat it twice",), "v * 2", ("v + '2'",), RARE),
    Operation("split", "text", "words", ("split it into words",), "v.split()", ("list(v)",), RARE),
    Operation("length", "text", "number", ("take its length",), "len(v)", ("len(v.split())",), RARE),
    Operation("vowels", "text", "number", ("count the vowels",),
              "sum(c in 'aeiou' for c in v)", ("sum(c not in 'aeiou' for c in v)",), OFTEN),
    Operation("letter_counts", "text", "counts", ("count each character",),
              "{c: v.count(c) for c in v}", ("{c: 1 for c in v}",), RARE),
)

_COUNTS = (
    Operation("values", "counts", "numbers", ("list the counts in ascending order",),
              "sorted(v.values())", ("list(v.values())",), OFTEN),
    Operation("keys", "counts", "words", ("list the keys in alphabetical order",),
              "sorted(v)", ("sorted(v, key=v.get)",), RARE),
    Operation("keys_by_count", "counts", "words", ("list the keys by rising count",),
              "sorted(v, key=v.get)", ("sorted(v)",), OFTEN),
    Operation("counts_above", "counts", "counts", ("keep the counts above {k}",),
              "{a: b for a, b in v.items() if b > {k}}", ("{a: b for a, b in v.items() if b >= {k}}",), OFTEN),
    Operation("raise_counts", "counts", "counts", ("add {k} to each count",),
              "{a: b + {k} for a, b in v.items()}", ("{a: {k} for a, b in v.items()}",), RARE),
    Operation("total", "counts", "number", ("sum the counts",), "sum(v.values())", ("len(v)",), RARE),
)

# fmt: on
OPERATIONS: tuple[Operation, ...] = (*_NUMBERS, *_NUMBER, *_WORDS, *_TEXT, *_COUNTS)
BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
BY_SOURCE: dict[ValueKind, tuple[Operation, ...]] = {
    kind: tuple(operation for operation in OPERATIONS if operation.source == kind) for kind in INPUT_PHRASES
}
