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
"""Responses that think before they write code: what asks for them, what asks for a better thought, what a PRM reads.

A response is a trace of thoughts, then a fenced program (`nemo_prm.data.splitters.split_thoughts`). CodePRM (Findings
of ACL 2025, 2025.findings-acl.428) scores thought i by what is known once a program was derived from the thoughts up
to i and run: problem, thoughts, program, execution feedback.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Sequence, get_args

from nemo_prm.data.splitters import split_thoughts
from nemo_prm.data.steps import close_fence, extract_code
from nemo_prm.errors import ConfigError
from nemo_prm.types import LabelRow, Language, Problem, Step

# What a PRM reads of a response. lines: all of it, a score per line. The others have a score per thought: of the
# thoughts so far and, with code_prm, the program and its feedback; with no_feedback, the program; with plan, no more.
PRMInput = Literal["lines", "code_prm", "no_feedback", "plan"]

THINK = 'Write numbered thoughts ("Thought 1: ..."), then the program in a ```{language} block.\n'
REFINE = "An earlier attempt had this thought:\n{thought}Its program was run. {feedback}\nWrite a better one.\n"


def check_inputs(inputs: str) -> PRMInput:
    """The name of an input of the PRM, which `inputs` must be.

    Raises:
        ConfigError: there is no such input.
    """
    for name in get_args(PRMInput):
        if name == inputs:
            return name  # type: ignore[no-any-return]
    raise ConfigError(f"inputs must be one of {', '.join(get_args(PRMInput))}, found {inputs!r}.")


def with_thoughts(problem: Problem) -> Problem:
    """The problem with a prompt that asks for thoughts before the program."""
    return replace(problem, prompt=think_prompt(problem.prompt, problem.language))


def think_prompt(prompt: str, language: Language = "python") -> str:
    """The prompt, asking for thoughts before the program."""
    return close_fence(prompt).removesuffix("\n") + "\n" + THINK.format(language=language)


def refine_hint(thought: str, feedback: str) -> str:
    """What is put between a prompt and the thoughts that are kept, to get another thought after them.

    Args:
        thought: to be replaced.
        feedback: of its program, from public tests.
    """
    return REFINE.format(thought=thought.removesuffix("\n") + "\n", feedback=_one_line(feedback))


def thoughts_of(response: str, language: Language, prompt: str) -> tuple[Step, ...]:
    """The steps of a response that are thoughts."""
    return tuple(step for step in split_thoughts(response, language, prompt) if step.kind == "thought")


def prm_text(inputs: PRMInput, thoughts: str, response: str, feedback: str, prompt: str) -> str:
    """What a PRM reads after the prompt to score a thought; the score is that of the text's last line.

    Args:
        inputs: one of those with a score per thought.
        thoughts: up to the one that is scored.
        response: goes on from there to the program.
        feedback: of the program.
        prompt: of the response; one that leaves a fence open has the program begin without one.
    """
    text = thoughts.removesuffix("\n") + "\n" if thoughts else ""
    if inputs == "plan":
        return text
    text += f"```\n{extract_code(response, prompt).removesuffix(chr(10))}\n```\n"
    return text if inputs == "no_feedback" else f"{text}{_one_line(feedback)}\n"


def prm_rows(row: LabelRow, inputs: PRMInput, per_thought: int = 1) -> list[LabelRow]:
    """What a PRM with these inputs learns from a row of thoughts (`LabelConfig.search` every).

    A derived program is a row with one step, whose label is the thought's: the mean pass rate of all programs that
    were derived from it. With plan there is no program, and all thoughts of a response are one row.

    Args:
        row: of a response with thoughts.
        inputs: with lines, the row is left as it is.
        per_thought: how many of a thought's programs become rows.
    """
    if inputs == "lines":
        return [row]
    if inputs == "plan":
        count = sum(step.kind == "thought" for step in row.steps)
        if not count:
            return []
        text, steps = row.response[: row.steps[count - 1].end], row.steps[:count]
        return [
            replace(
                row,
                response=text,
                steps=steps,
                labels=row.labels[:count],
                derivations=(),
                probes=tuple(probe for probe in row.probes if probe.num_steps <= count),
                finish_reason="length",
            )
        ]
    taken: dict[int, int] = {}
    rows = []
    for derivation in row.derivations:
        number = taken.get(derivation.num_steps, 0)
        if number == per_thought:
            continue
        taken[derivation.num_steps] = number + 1
        last = row.steps[derivation.num_steps - 1]
        thoughts = row.response[: last.end if last.kind == "thought" else last.start]
        response = row.response[: last.end] + derivation.completion
        text = prm_text(inputs, thoughts, response, derivation.feedback, row.prompt)
        label = row.labels[derivation.num_steps - 1]
        rows.append(
            replace(
                row,
                response_id=f"{row.response_id}/{derivation.num_steps}.{number}",
                response=text,
                steps=(Step(0, len(text), "thought"),),
                labels=(label,),
                response_class="correct" if label > 0 else "wrong",
                derivations=(),
                probes=(),
                audit=(),
                finish_reason="length",
            )
        )
    return rows


def scored_texts(
    inputs: PRMInput, response: str, feedback: str, language: Language, prompt: str
) -> tuple[Sequence[Step], list[str]]:
    """The thoughts of a response, and the text to score for each; one without thoughts is scored once, as it is."""
    thoughts = thoughts_of(response, language, prompt)
    prefixes = [response[: step.end] for step in thoughts] or [""]
    return thoughts, [prm_text(inputs, prefix, response, feedback, prompt) or "\n" for prefix in prefixes]


def _one_line(text: str) -> str:
    return " ".join(text.split())
