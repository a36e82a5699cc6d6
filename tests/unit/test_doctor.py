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
"""`nemo-prm doctor` says what is there, and never fails because something is not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_prm import doctor
from nemo_prm.sandbox.level import offered_levels

ROOT = Path(doctor.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def report() -> list[doctor.Check]:
    return doctor.examine()


def test_every_line_has_a_state_a_finding_and_a_meaning(report: list[doctor.Check]) -> None:
    for check in report:
        assert check.state in ("ok", "degraded", "missing")
        assert check.found and "\n" not in check.found
        assert check.meaning.endswith((".", ")")) or check.group == "Patches", check


def test_what_the_issue_of_a_user_may_hang_on_is_looked_at(report: list[doctor.Check]) -> None:
    names = {check.name for check in report}
    assert {"CUDA", "Transformer Engine", "Apex", "TensorRT-LLM", "Python library", "/dev/shm"} <= names
    assert {"port 5555", "port 5556", "port 5560"} <= names
    assert {"level full", "level namespaces", "level rlimits", "g++"} <= names
    assert {"nemo-toolkit", "nemo-aligner", "megatron-core", "nvidia-pytriton", "cores", "memory", "disk"} <= names


def test_json_and_table_tell_the_same(report: list[doctor.Check]) -> None:
    parsed = json.loads(doctor.as_json(report))
    assert [line["name"] for line in parsed["checks"]] == [check.name for check in report]
    assert set(parsed["checks"][0]) == {"group", "name", "state", "found", "meaning"}
    table = doctor.as_table(report)
    for check in report:
        assert check.name in table
        assert check.found in table


def test_a_taken_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {"reward": port})
        [check] = doctor.ports()
        assert (check.name, check.state) == (f"port {port}", "degraded")
        assert "pass another port" in check.meaning
    assert doctor.ports()[0].state == "ok"


def test_it_says_which_isolation_programs_get_here() -> None:
    levels = {check.name: check for check in doctor.sandbox() if check.name.startswith("level ")}
    assert list(levels) == ["level full", "level namespaces", "level rlimits"]
    offered = [name for name, check in levels.items() if check.state == "ok"]
    assert offered == [f"level {level}" for level in offered_levels()]
    assert levels[offered[0]].found == "the default"


def test_it_runs_without_the_stack_and_says_how_to_install_it() -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'nemo', 'nemo_aligner', 'megatron', 'pytriton'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import importlib.metadata as metadata\n"
        "def absent(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = absent\n"
        "from nemo_prm.cli import main\n"
        "main(['doctor', '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = {line["name"]: line for line in json.loads(done.stdout)["checks"]}
    assert lines["nemo-aligner"]["state"] == "missing"
    assert "Labeling against a remote policy works" in lines["nemo-aligner"]["meaning"]
    assert ".[nemo]" in lines["how to install"]["found"]
    assert lines["CUDA"]["found"] == "no torch"
    assert lines["compat"]["state"] == "missing"


def test_the_patches_listed_are_those_of_compat(report: list[doctor.Check]) -> None:
    compat = pytest.importorskip("nemo_prm.megatron.compat")
    assert [check.name for check in report if check.group == "Patches"] == [patch.name for patch in compat.PATCHES]
