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
"""Thought traces of the embedded problems: a thought per operation, then the program.

    Thought 1: take [x for x in v if x % 2 == 0] to keep the even numbers
    Thought 2: take sum(v) to sum the numbers
    ```python
    def solve(v):
        v = [x for x in v if x % 2 == 0]  # 1
        v = sum(v)  # 2
        return v
    ```

A wrong thought makes a wrong line. The policy that writes them has learned, too, to replace a thought when it is shown
that one with the feedback of its program (`nemo_prm.data.thoughts.refine_hint`): by another one for the same
operation, right or wrong.
"""

from __future__ import annotations

import random
from typing import Any, Iterator, Sequence

from nemo_prm.data.embedded.chains import Chain, Link, program, prompt, sample_chain, slipping, split_of
from nemo_prm.data.embedded.generate import PUBLIC_TESTS, run, sample_input
from nemo_prm.data.feedback import feedback
from nemo_prm.data.thoughts import refine_hint, think_prompt
from nemo_prm.types import Problem, TestCase, Verdict

CODE_SLIP_RATE = 0.01  # a line that says something else than its thought
LENGTHS = (2, 2, 3, 3, 4, 4, 5, 6, 7, 8)  # operations: long ones are dear, and learned from short ones
MISPLACED = 0.2  # of the refinements: the thought that is to be replaced is any one, not the first wrong one


def thought(number: int, link: Link, expression: str) -> str:
    """Thought `number`, from 1: what to do, and what for."""
    return f"Thought {number}: {link.thought(expression)}\n"


def response(chain: Chain, expressions: Sequence[str], code: Sequence[str]) -> str:
    """Thoughts that say `expressions`, and a program that does `code`."""
    numbered = enumerate(zip(chain, expressions), start=1)
    thoughts = "".join(thought(number, link, text) for number, (link, text) in numbered)
    lines = [f"{text}  # {number}" for number, text in enumerate(code, start=1)]
    return f"{thoughts}```python\n{program(lines)}```\n"


def thought_texts(seed: int, slip_scale: float = 1.0, refined_share: float = 0.4) -> Iterator[tuple[str, str]]:
    """Prompts and responses for the policy that thinks to learn from, without end; train chains only.

    Args:
        seed: of the whole stream.
        slip_scale: factor on every operation's `slip_rate`.
        refined_share: share of the prompts that show a thought to be replaced.
    """
    rng = random.Random(f"thought texts {seed}")
    while True:
        chain = sample_chain(rng, rng.choice(LENGTHS))
        if split_of(chain) != "train":
            continue
        said = slipping(chain, rng, slip_scale)
        asked = think_prompt(prompt(chain))
        if rng.random() < refined_share:
            wrong = [i for i, (link, text) in enumerate(zip(chain, said)) if text != link.expression]
            place = rng.randrange(len(chain)) if not wrong or rng.random() < MISPLACED else wrong[0]
            link, doubted = chain[place], said[place]
            asked += refine_hint(thought(place + 1, link, doubted), _feedback(chain, said, rng))
            another = link.expression if doubted != link.expression else rng.choice(link.slips)
            said = [*said[:place], another, *slipping(chain[place + 1 :], rng, slip_scale)]
        code = [rng.choice(link.slips) if rng.random() < CODE_SLIP_RATE else text for link, text in zip(chain, said)]
        yield asked, response(chain, said, code)


def _feedback(chain: Chain, expressions: Sequence[str], rng: random.Random) -> str:
    """What the public tests would tell of a program."""
    right = [link.expression for link in chain]
    tests: list[TestCase] = []
    while len(tests) < PUBLIC_TESTS:
        value = sample_input(chain[0].operation.source, rng)
        expected = run(right, value)
        if not isinstance(expected, type):
            tests.append(TestCase(kind="call", args=(value,), expected=expected))
    problem = Problem("", "", (), tuple(tests), entry_point="solve")
    verdict = Verdict("passed", len(tests), len(tests))
    for index, test in reversed(list(enumerate(tests))):
        message, actual = _apply(expressions, test.args[0])
        if message:
            verdict = Verdict("runtime_error", len(tests), index, index, message=message)
        elif actual != test.expected:
            verdict = Verdict("wrong_answer", len(tests), index, index, repr(test.expected), repr(actual))
    return feedback(problem, verdict, public=True)


def _apply(expressions: Sequence[str], value: Any) -> tuple[str, Any]:
    """The error, if there is one, and the result."""
    for line, expression in enumerate(expressions, start=2):
        result = run([expression], value)
        if isinstance(result, type):
            return f"line {line}: {result.__name__}", None
        value = result
    return "", value
