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
"""Imports point one way, and the light side needs nothing heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "nemo_prm"

# Lower layers never import from higher ones. A room (folder or file) that is not listed here fails the test.
LAYERS = [
    {"types", "protocols", "errors"},
    {"config", "metrics", "data", "sandbox", "rewards", "processes", "supervisor", "pipeline"},
    {"labeling", "search", "evaluation"},
    {"megatron", "serving"},
    {"ppo"},
    {"cli", "entry", "doctor", "quickstart", "study", "__main__"},
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
HEAVY_ROOMS = {"megatron", "serving", "ppo"}
HOST = {"nemo", "nemo_aligner", "megatron", "pytriton", "tritonclient", "apex", "transformer_engine", "tensorrt_llm"}
TORCH_ROOMS = {"rewards"}
LAZY_TORCH = {"doctor", "metrics"}  # ask torch about CUDA, write TensorBoard files: inside functions, when asked to
LIGHT_REQUIREMENTS = {
    "hydra",
    "omegaconf",
    "antlr4",
    "yaml",
    "packaging",
    "tqdm",
}  # install_requires and what it brings


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path, top_level_only: bool = False) -> list[tuple[str, int]]:
    """Absolute names of the modules that a file imports, with line numbers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            base = node.module or ""
            found += [(f"{base}.{a.name}" if base == "nemo_prm" else base, node.lineno) for a in node.names]
    return found


def room_imports(path: Path) -> list[tuple[str, int]]:
    return [
        (name.split(".")[1], line)
        for name, line in imports(path)
        if name.startswith("nemo_prm.") and name != "nemo_prm.__version__"
    ]


def test_every_room_has_a_layer() -> None:
    assert {room_of(path) for path in modules()} <= set(LAYER)


def test_imports_never_point_up() -> None:
    offences = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {room_of(path)} imports {target}"
        for path in modules()
        for target, line in room_imports(path)
        if LAYER[target] > LAYER[room_of(path)]
    ]
    assert offences == []


def test_rooms_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        room = room_of(path)
        graph.setdefault(room, set()).update(target for target, _ in room_imports(path) if target != room)
    TopologicalSorter(graph).prepare()  # raises CycleError with the rooms in it


def test_only_the_heavy_rooms_import_the_host() -> None:
    offences = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name}"
        for path in modules()
        if room_of(path) not in HEAVY_ROOMS
        for name, line in imports(path)
        if name.split(".")[0] in HOST
    ]
    assert offences == []


def test_on_the_light_side_only_rewards_imports_torch() -> None:
    offences = [
        f"{path.relative_to(PACKAGE.parent)}:{line}"
        for path in modules()
        if room_of(path) not in HEAVY_ROOMS | TORCH_ROOMS
        for name, line in imports(path, top_level_only=room_of(path) in LAZY_TORCH)
        if name.split(".")[0] == "torch"
    ]
    assert offences == []


def test_only_the_top_layer_imports_the_scripts() -> None:
    assert [path for path in modules() for name, _ in imports(path) if name.split(".")[0] == "scripts"] == []


IMPORT_ALL = """
import importlib, importlib.abc, json, sys, time

allowed = set(sys.stdlib_module_names) | {"nemo_prm"} | set(json.loads(sys.argv[2]))

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{name} does not belong to the light install", name=name)

start = time.process_time()
for name in list(sys.modules):  # what site's .pth files of the environment brought in
    if name.partition(".")[0] not in allowed:
        del sys.modules[name]
sys.meta_path.insert(0, Refuse())
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps({
    "cpu_seconds": time.process_time() - start,
    "modules": sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)),
}))
"""


def import_in_fresh_interpreter(names: list[str], allowed: set[str]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(names), json.dumps(sorted(allowed))],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_the_light_side_imports_with_the_light_install_alone_in_under_a_second() -> None:
    names = [
        "nemo_prm." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        if room_of(path) not in HEAVY_ROOMS | TORCH_ROOMS | {"__main__"}
    ]
    result = import_in_fresh_interpreter(names, LIGHT_REQUIREMENTS | {"numpy"})
    assert not {"torch", "nemo", "megatron"} & set(result["modules"])  # type: ignore[call-overload]
    assert result["cpu_seconds"] < 1.0  # type: ignore[operator]


def test_the_clients_of_the_servers_need_numpy_and_no_more() -> None:
    """So that labeling and evaluation against a remote policy work on the light install."""
    clients = ["client", "verifier_client", "generators", "openai", "recorded"]
    names = [f"nemo_prm.serving.{client}" for client in clients]
    import_in_fresh_interpreter(names, LIGHT_REQUIREMENTS | {"numpy"})


def test_the_probe_refuses_what_is_not_allowed() -> None:
    with pytest.raises(AssertionError, match="does not belong to the light install"):
        import_in_fresh_interpreter(["pytest"], set())
