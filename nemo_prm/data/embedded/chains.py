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
"""Chains of operations and the texts made of them: the prompt, the solution, and what the embedded policy learns from.

A problem of the embedded set reads

    Task: write solve(v) for a list of integers v: keep the even numbers, then sum the numbers.

and its response is the whole program, one operation per line:

    def solve(v):
        v = [x for x in v if x % 2 == 0]
        v = sum(v)
        return v

The prompt ends with a newline, the response with one too, and the policy's end-of-text token follows it.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Iterator, Literal, Sequence

from nemo_prm.data.embedded.operations import BY_SOURCE, INPUT_PHRASES, Operation, ValueKind

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

LEVELS: dict[str, tuple[int, ...]] = {"easy": (2, 3), "medium": (4, 5), "hard": (6, 7, 8)}
PARAMETERS = range(2, 7)
INDENT = "    "
HEAD = "def solve(v):\n"
TAIL = f"{INDENT}return v\n"

_INPUT_WEIGHTS: dict[ValueKind, int] = {"numbers": 8, "words": 5, "text": 4, "number": 1, "counts": 3}
_REMARKS = ("next step", "now the next one", "almost done", "this should work", "as asked")


@dataclass(frozen=True)
class Link:
    """One operation of a chain with its parameter (0 where it has none) and the paraphrase the prompt uses."""

    operation: Operation
    k: int
    phrase: int

    def fill(self, text: str) -> str:
        """Put the parameter into a phrase or an expression."""
        return text.replace("{k}", str(self.k)).replace("{less}", str(self.k - 1)).replace("{more}", str(self.k + 1))

    @property
    def task(self) -> str:
        return self.fill(self.operation.phrases[self.phrase])

    @property
    def expression(self) -> str:
        return self.fill(self.operation.expression)

    def thought(self, expression: str) -> str:
        """What to do for the task, and what for; `expression` may be a slip."""
        return f"take {expression} to {self.task}"

    @property
    def slips(self) -> tuple[str, ...]:
        return tuple(self.fill(slip) for slip in self.operation.slips)


Chain = tuple[Link, ...]


def sample_chain(rng: random.Random, length: int) -> Chain:
    """Draw a type-correct chain of `length` operations, none of them twice."""
    kinds = list(_INPUT_WEIGHTS)
    while True:
        kind = rng.choices(kinds, weights=list(_INPUT_WEIGHTS.values()))[0]
        chain: list[Link] = []
        while len(chain) < length:
            used = {link.operation.name for link in chain}
            fitting = [operation for operation in BY_SOURCE[kind] if operation.name not in used]
            if not fitting:
                break
            operation = rng.choice(fitting)
            k = rng.choice(PARAMETERS) if operation.has_parameter else 0
            chain.append(Link(operation, k, rng.randrange(len(operation.phrases))))
            kind = operation.target
        else:
            return tuple(chain)


def split_of(chain: Chain) -> Split:
    """The split that a chain belongs to, decided by the names of its operations alone.

    So two splits never share a sequence of operations, whatever its parameters and wording, and text for the policy
    can be drawn without end and without touching a validation or test problem.
    """
    bucket = zlib.crc32("/".join(link.operation.name for link in chain).encode()) % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def prompt(chain: Chain) -> str:
    """The task in words."""
    steps = ", then ".join(link.task for link in chain)
    return f"Task: write solve(v) for {INPUT_PHRASES[chain[0].operation.source]} v: {steps}.\n"


def program(expressions: Sequence[str]) -> str:
    """The function that applies `expressions` in order."""
    return HEAD + "".join(f"{INDENT}v = {expression}\n" for expression in expressions) + TAIL


def annotate(text: str, chain: Chain, rng: random.Random) -> str:
    """Put one or two comments or blank lines at random places into the program of `chain`."""
    lines = text.splitlines(keepends=True)
    for place in sorted(rng.sample(range(1, len(lines)), k=rng.randint(1, 2)), reverse=True):
        remark = chain[place - 1].task if place <= len(chain) and rng.random() < 0.5 else rng.choice(_REMARKS)
        lines.insert(place, "\n" if rng.random() < 0.3 else f"{INDENT}# {remark}\n")
    return "".join(lines)


def slipping(chain: Chain, rng: random.Random, slip_scale: float) -> list[str]:
    """The expressions of a chain, some of them wrong: every operation has its own `slip_rate`, times `slip_scale`."""
    return [
        rng.choice(link.slips) if rng.random() < slip_scale * link.operation.slip_rate else link.expression
        for link in chain
    ]


def policy_texts(seed: int, slip_scale: float = 1.0, annotated_share: float = 0.25) -> Iterator[tuple[str, str]]:
    """Prompts and responses for the embedded policy to learn from, without end; train chains only.

    Args:
        seed: of the whole stream.
        slip_scale: factor on every operation's `slip_rate`; 0 gives right programs only.
        annotated_share: share of the responses with comments or blank lines.
    """
    rng = random.Random(f"policy texts {seed}")
    while True:
        chain = sample_chain(rng, rng.choice(range(2, 9)))
        if split_of(chain) != "train":
            continue
        text = program(slipping(chain, rng, slip_scale))
        yield prompt(chain), annotate(text, chain, rng) if rng.random() < annotated_share else text
