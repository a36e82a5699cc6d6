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
"""Runs stages one after the other, each as a process of its own, and reuses those that stand.

A stage's folder holds `stage.json`: the fingerprint of everything that went into it, and whether it is done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from nemo_prm import __version__
from nemo_prm.data.embedded import resolve_policy
from nemo_prm.errors import CheckpointError, ConfigError, StageError
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.stage import Server, Stage
from nemo_prm.processes import Child, Children, free_ports

MARKER = "stage.json"


class StageResult(NamedTuple):
    """What a stage took when it ran; `reused` means that was in an earlier run."""

    name: str
    seconds: float
    reused: bool


class Runner:
    """Runs the stages of one run folder.

    Args:
        run: the run's folder.
        root: the checkout: `scripts/` and `conf/` are in it.
        children: starts the processes.
        console: where progress is shown.
        extra: further Hydra overrides, by the stem of the script or the name of the stage or server.
        startup_timeout_s: how long a server may take to be ready.
    """

    def __init__(
        self,
        run: Path,
        root: Path,
        children: Children,
        console: Console,
        extra: Mapping[str, Sequence[str]] | None = None,
        startup_timeout_s: float = 180.0,
    ) -> None:
        self.run_folder = run
        self.root = root
        self.children = children
        self.console = console
        self.extra = dict(extra or {})
        self.startup_timeout_s = startup_timeout_s
        self.results: list[StageResult] = []
        self._fingerprints: dict[str, str] = {}
        self._serving: list[tuple[Server, Child, int]] = []

    def run(self, stage: Stage, position: str = "") -> StageResult:
        """Run a stage, or reuse it where nothing that went into it has changed.

        Raises:
            StageError: its script or one of its servers failed, or did not write what it should.
        """
        overrides = {**stage.overrides, **(stage.decide() if stage.decide else {})}
        fingerprint = self._fingerprint(stage, overrides)
        self._fingerprints[stage.name] = fingerprint
        folder = self.run_folder / stage.name
        outputs = [Path(self._fill(path)) for path in stage.outputs]
        marker = _read_marker(folder)
        if marker.get("fingerprint") == fingerprint and marker.get("done") and all(path.exists() for path in outputs):
            self.console.say(f"{position}{stage.name}: reused")
            result = StageResult(stage.name, float(marker["seconds"]), reused=True)
        else:
            self.console.say(f"{position}{stage.name}: {stage.title}")
            goes_on = stage.resumable and marker.get("fingerprint") == fingerprint
            before = float(marker.get("seconds", 0.0)) if goes_on else 0.0
            if not goes_on:
                _empty(folder)
            started = time.monotonic()
            _write_marker(folder, fingerprint, before, done=False)
            try:
                self._execute(stage, overrides)
            finally:
                seconds = before + time.monotonic() - started
                _write_marker(folder, fingerprint, seconds, done=False)
            for path in outputs:
                if not path.exists():
                    log = self.children.logs / f"{stage.name}.log"
                    raise StageError(f"{stage.name} ended without writing {path}; its log is {log}")
            _write_marker(folder, fingerprint, seconds, done=True)
            self.console.say(f"{position}{stage.name}: done in {seconds:.0f} s")
            result = StageResult(stage.name, seconds, reused=False)
        self.results.append(result)
        return result

    def _execute(self, stage: Stage, overrides: Mapping[str, Any]) -> None:
        self._serve(stage.servers)
        ports = {server.role: port for server, _, port in self._serving}
        command = self._command(stage.script, stage.name, overrides, ports)
        self.children.run(stage.name, command)

    def _serve(self, wanted: Sequence[Server]) -> None:
        """End the servers that are not wanted, start the missing ones together, and wait until all are ready."""
        self.children.retire(*(child for server, child, _ in self._serving if server not in wanted))
        self._serving = [entry for entry in self._serving if entry[0] in wanted]
        missing = [server for server in wanted if server not in [entry[0] for entry in self._serving]]
        for server, port in zip(missing, free_ports(len(missing)) if missing else []):
            command = self._command(server.script, server.name, {**server.overrides, "server.port": port}, {})
            self._serving.append((server, self.children.start(server.name, command), port))
        for server, child, port in self._serving:
            paths = [f"/v2/models/{model}/ready" for model in server.models]
            self.children.wait_ready(child, port, paths, self.startup_timeout_s)

    def _command(self, script: str, name: str, overrides: Mapping[str, Any], ports: Mapping[str, int]) -> list[str]:
        settings = [hydra_override(key, self._fill(value, ports)) for key, value in overrides.items()]
        return [sys.executable, str(self.root / "scripts" / f"{script}.py"), *settings, *self._extra(script, name)]

    def _extra(self, script: str, name: str) -> list[str]:
        return [*self.extra.get(script, ()), *(self.extra.get(name, ()) if name != script else ())]

    def _fill(self, value: Any, ports: Mapping[str, int] | None = None) -> Any:
        """Fill in `{run}` and the ports."""
        if isinstance(value, list):
            return [self._fill(item, ports) for item in value]
        if not isinstance(value, str):
            return value
        for name, text in {"run": str(self.run_folder), **(ports or {})}.items():
            value = value.replace(f"{{{name}}}", str(text))
        return value

    def _fingerprint(self, stage: Stage, overrides: Mapping[str, Any]) -> str:
        scripts = [(stage.script, stage.name), *((server.script, server.name) for server in stage.servers)]
        content = {
            "version": __version__,
            "script": stage.script,
            "overrides": dict(overrides),
            "servers": [asdict(server) for server in stage.servers],
            "extra": [self._extra(script, name) for script, name in scripts],
            "configs": [_hash_file(self.root / "conf" / f"{script}.yaml") for script, _ in scripts],
            "after": [self._fingerprints[name] for name in stage.after],
            "files": [_hash_file(Path(self._fill(path))) for path in stage.files],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hydra_override(key: str, value: Any) -> str:
    """One Hydra override; strings are quoted, so that a path may hold blanks, commas and the like."""
    return f"{key}={_literal(value)}"


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_literal, value)) + "]"
    # In Hydra's grammar a backslash is special only before a quote.
    text = re.sub(r"(\\*)'", r"\1\1\\'", str(value))
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"


def find_policy(policy: str) -> Path:
    """The path of a policy (.nemo), or of the embedded one.

    Raises:
        CheckpointError: it does not exist.
    """
    path = resolve_policy(policy).expanduser().resolve()
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    return path


def environment(one_thread: bool) -> dict[str, str]:
    """Environment variables of a run's processes.

    Args:
        one_thread: whether a second thread would only wait, unless OMP_NUM_THREADS says otherwise.
    """
    variables = {
        "NEMO_PRM_TOKEN": secrets.token_hex(16),  # this run's servers answer this run's clients alone
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # servers and actors share the cores: a waiting thread must not spin
        "WANDB_MODE": "disabled",
    }
    if one_thread:
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    return variables


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process.

    Raises:
        ConfigError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another run is at work in {folder}; wait for it, or pass another output") from None
        yield


def _read_marker(folder: Path) -> dict[str, Any]:
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _write_marker(folder: Path, fingerprint: str, seconds: float, done: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    marker = {"fingerprint": fingerprint, "seconds": round(seconds, 2), "done": done}
    partial = folder / f"{MARKER}.partial"
    partial.write_text(json.dumps(marker))
    partial.replace(folder / MARKER)


def _empty(folder: Path) -> None:
    """Delete a stage's folder, if it is one."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / MARKER).is_file():
        raise ConfigError(f"{folder} holds files that no run wrote; move it away, or pass another output")
    shutil.rmtree(folder)


def _hash_file(path: Path) -> str:
    """Of a file's content; of a folder's, file by file (a checkpoint may be one)."""
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for found in sorted(each for each in path.rglob("*") if each.is_file()):
                digest.update(f"{found.relative_to(path)}/{_hash_file(found)}/".encode())
            return digest.hexdigest()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return "absent"  # the stage itself will say so
    return digest.hexdigest()
