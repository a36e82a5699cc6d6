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
"""The README, taken at its word: its problems load and judge, its commands parse, its tree exists."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks

from nemo_prm.config import SandboxConfig
from nemo_prm.data.problems import load_problem_file
from nemo_prm.data.steps import make_program
from nemo_prm.sandbox.verifier import default_verifier

ANSWERS = {  # to the problems of the README: (right, wrong)
    "double": ("def solve(v):\n    return [2 * x for x in v]\n", "def solve(v):\n    return v\n"),
    "sum-of-lines": ("import sys\nprint(sum(map(int, sys.stdin)))\n", "print(3)\n"),
    "greet": ("    return f'Hello, {name}!'\n", "    return 'Hello, Ada!'\n"),
}


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    found = [line.split("#")[0].rstrip(" &") for line in lines if line.startswith("python scripts/")]
    return list(dict.fromkeys(found))


def test_the_problem_file_loads_and_its_tests_tell_right_from_wrong(tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "README.md", "jsonl")
    path = tmp_path / "problems.jsonl"
    path.write_text(example, encoding="utf-8")
    problems = load_problem_file(path)
    assert [problem.problem_id for problem in problems] == list(ANSWERS)
    assert {test.kind for problem in problems for test in problem.tests} == {"call", "stdio", "code"}
    verifier = default_verifier(SandboxConfig())
    for problem in problems:
        right, wrong = ANSWERS[problem.problem_id]
        assert verifier.verify(problem, make_program(problem, right)).status == "passed"
        assert verifier.verify(problem, make_program(problem, f"```python\n{right}```\n")).status == "passed"
        assert verifier.verify(problem, make_program(problem, wrong)).status == "wrong_answer"


@pytest.mark.parametrize("command", commands())
def test_commands_are_accepted_by_the_scripts(command: str) -> None:
    """`--cfg job` composes the configuration and prints it; an unknown key or script is an error.

    The benchmarks take no Hydra overrides: they parse their arguments, and `--help` ends them there.
    """
    _, script, *arguments = shlex.split(command)
    dry_run = ["--help"] if script.startswith("scripts/bench/") else ["--cfg", "job"]
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments, *dry_run],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr


def test_the_tree_exists() -> None:
    (tree,) = [block for block in blocks(ROOT / "README.md", "") if block.startswith(".\n")]
    folder: list[str] = []
    for line in tree.splitlines()[1:]:
        prefix, name = re.match(r"([│├└─ ]*)(\S+)", line).groups()  # type: ignore[union-attr]
        folder = [*folder[: len(prefix) // 4 - 1], name]
        assert (ROOT / "/".join(folder)).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def messages_of_the_project() -> str:
    """Every string of the source, with `#` where a value is filled in; what several lines join is one."""
    texts = []
    for path in [*(ROOT / "nemo_prm").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "#" for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join([*texts, *(path.read_text() for path in (ROOT / "scripts/slurm").iterdir())])


def test_the_messages_that_troubleshooting_explains_are_those_of_the_project() -> None:
    said = messages_of_the_project()
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (.+?) \| .+ \|$", page, re.MULTILINE)
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 50
    for text in quoted:
        pattern = re.sub(r"\b[A-Z]{1,9}\b(?!\.)", "\0", text.removeprefix("FILE:LINE: "))
        parts = [re.escape(part) for part in pattern.split("\0")]
        assert re.search(r"[^\n]{0,60}?".join(parts), said), text
