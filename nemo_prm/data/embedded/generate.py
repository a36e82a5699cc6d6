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
"""Problems made of chains: inputs, unit tests that tell each operation from its slips, rows of the problem file."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any, Callable, Sequence

from nemo_prm.data.embedded.chains import LEVELS, Chain, Split, annotate, program, prompt, sample_chain, split_of
from nemo_prm.data.embedded.operations import ValueKind

MIN_TESTS, MAX_TESTS, PUBLIC_TESTS = 6, 8, 2
CANDIDATE_INPUTS = 24
ANNOTATED_SHARE = 0.25
MAX_JSON_LENGTH = 120  # of one expected value, in characters

# fmt: off
_WORDS = [
    "pear", "fig", "plum", "kiwi", "melon", "grape", "lemon", "apple", "banana", "cherry", "olive", "onion", "leek",
    "bean", "pea", "corn", "rice", "oat", "rye", "tea", "cocoa", "milk", "egg", "salt", "sugar", "honey", "bread",
    "cake", "soup", "stew", "tree", "oak", "elm", "pine", "fern", "moss", "rose", "iris", "lily", "river", "lake",
    "sea", "hill",
]
# fmt: on


def sample_input(kind: ValueKind, rng: random.Random) -> Any:
    """Draw one input; short enough to read, with repeats, negative numbers and ties."""
    if kind == "numbers":
        return [rng.randint(-9, 15) for _ in range(rng.randint(3, 8))]
    if kind == "number":
        return rng.randint(-999, 9999)
    pool = rng.sample(_WORDS, k=6)
    if kind == "counts":
        return {word: rng.randint(0, 8) for word in pool[: rng.randint(3, 6)]}
    words = [rng.choice(pool) for _ in range(rng.randint(3, 7))]
    return words if kind == "words" else " ".join(words[:4])


@cache
def _function(expression: str) -> Callable[[Any], Any]:
    function: Callable[[Any], Any] = eval(f"lambda v: {expression}")
    return function


def run(expressions: Sequence[str], value: Any) -> Any:
    """Apply expressions in order; an exception becomes its class, which equals no value."""
    try:
        for expression in expressions:
            value = _function(expression)(value)
    except Exception as error:  # whatever a wrong expression may raise
        return type(error)
    return value


def mutants(chain: Chain) -> list[list[str]]:
    """The chain with one operation dropped, replaced by a slip, or with its parameter off by one."""
    right = [link.expression for link in chain]
    found = []
    for i, link in enumerate(chain):
        wrong = set(link.slips)
        if link.operation.has_parameter:
            for k in (link.k - 1, link.k + 1):
                wrong.add(type(link)(link.operation, k, link.phrase).expression)
        found += [[*right[:i], expression, *right[i + 1 :]] for expression in sorted(wrong - {right[i]})]
        if link.operation.source == link.operation.target:
            found.append([*right[:i], *right[i + 1 :]])
    return found


def make_tests(chain: Chain, rng: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Choose hidden and public tests, or None where no choice tells the chain from all of its mutants.

    Hidden tests are taken greedily: the input that catches most of the mutants still uncaught comes next.
    """
    right = [link.expression for link in chain]
    candidates: list[tuple[Any, Any]] = []
    seen = set()
    for _ in range(CANDIDATE_INPUTS):
        value = sample_input(chain[0].operation.source, rng)
        expected = run(right, value)
        key = json.dumps(value)
        if key not in seen and not isinstance(expected, type) and len(json.dumps(expected)) <= MAX_JSON_LENGTH:
            seen.add(key)
            candidates.append((value, expected))
    candidates.sort(key=lambda candidate: not candidate[1])  # public tests show something, if they can
    public, candidates = candidates[:PUBLIC_TESTS], candidates[PUBLIC_TESTS:]
    wrong = mutants(chain)
    catches = [{i for i, mutant in enumerate(wrong) if run(mutant, value) != out} for value, out in candidates]
    uncaught = set(range(len(wrong)))
    if uncaught - set().union(*catches):
        return None
    hidden: list[tuple[Any, Any]] = []
    while len(hidden) < MIN_TESTS or uncaught:
        if not candidates or len(hidden) == MAX_TESTS:
            return None
        best = max(range(len(candidates)), key=lambda i: len(catches[i] & uncaught))
        hidden.append(candidates.pop(best))
        uncaught -= catches.pop(best)
    if len({json.dumps(expected) for _, expected in hidden}) < 3:
        return None  # nearly constant: a program that ignores its input would come close
    rows = [[{"kind": "call", "args": [value], "expected": out} for value, out in part] for part in (hidden, public)]
    return rows[0], rows[1]


def make_problems(split: Split, count: int, seed: int) -> list[dict[str, Any]]:
    """Make `count` rows of the problem file, the levels of difficulty in turn; no prompt occurs twice.

    The keys beyond the format's own are `solution`, `num_operations`, `operations` (their names) and `thoughts`.
    """
    rng = random.Random(f"embedded problems {split} {seed}")
    prompts = set()
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        turn, level = len(rows) // len(LEVELS), list(LEVELS)[len(rows) % len(LEVELS)]
        chain = sample_chain(rng, LEVELS[level][turn % len(LEVELS[level])])
        if split_of(chain) != split or prompt(chain) in prompts:
            continue
        tests = make_tests(chain, rng)
        if tests is None:
            continue
        solution = program([link.expression for link in chain])
        if split == "train" and rng.random() < ANNOTATED_SHARE:
            solution = annotate(solution, chain, rng)
        prompts.add(prompt(chain))
        rows.append(
            {
                "problem_id": f"embedded/{split}/{len(rows):04d}",
                "prompt": prompt(chain),
                "tests": tests[0],
                "public_tests": tests[1],
                "language": "python",
                "entry_point": "solve",
                "difficulty": level,
                "time_limit_s": 2.0,
                "memory_limit_mb": 512,
                "solution": solution,
                "num_operations": len(chain),
                "operations": [link.operation.name for link in chain],
                "thoughts": [link.thought(link.expression) for link in chain],
            }
        )
    return rows
