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
"""Stages run in order, are reused when nothing changed, and rerun with all that depends on them when something did."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nemo_prm.errors import ConfigError, StageError
from nemo_prm.pipeline.console import Console
from nemo_prm.pipeline.runner import Runner, StageResult, _hash_file, exclusive, hydra_override
from nemo_prm.pipeline.stage import Server, Stage
from nemo_prm.processes import Children

# A stage that writes what it was told, and appends to a list of the runs.
WRITE = """
import os, sys
arguments = dict(item.split("=", 1) for item in sys.argv[1:])
output = arguments["output"].strip("'")
os.makedirs(os.path.dirname(output), exist_ok=True)
print("writing", output)
open(output, "a").write(repr(sorted(arguments.items())) + "\\n")
sys.exit(int(arguments.get("code", 0)))
"""
SERVE = """
import http.server, sys
arguments = dict(item.split("=", 1) for item in sys.argv[1:])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v2/models/echo/ready" else 404); self.end_headers()
    def log_message(self, *arguments): pass
print("serving", arguments["checkpoint"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(arguments["server.port"])), Handler).serve_forever()
"""


def stage(name: str, after: tuple[str, ...] = (), **changes: Any) -> Stage:
    output = f"{{run}}/{name}/result"
    made = Stage(name, f"make {name}", "write", {"output": output, "size": 1}, (output,), after)
    return replace(made, **changes)


SERVER = Server("echo.one", "echo", "serve", {"checkpoint": "one.nemo"}, ("echo",))


class Checkout:
    """A checkout with dummy scripts, and a run in it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.run_folder = folder / "checkout", folder / "run"
        for name, code in (("write", WRITE), ("serve", SERVE)):
            for part, suffix, text in (("scripts", "py", code), ("conf", "yaml", "size: 1\n")):
                path = self.root / part / f"{name}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.said = io.StringIO()

    def run(self, *stages: Stage, extra: dict[str, list[str]] | None = None) -> list[StageResult]:
        with Children(self.run_folder / "logs") as children:
            runner = Runner(self.run_folder, self.root, children, Console(self.said), extra)
            return [runner.run(stage) for stage in stages]

    def reused(self, *stages: Stage, extra: dict[str, list[str]] | None = None) -> list[bool]:
        return [result.reused for result in self.run(*stages, extra=extra)]

    def written(self, name: str) -> list[str]:
        return (self.run_folder / name / "result").read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


A, B, C = stage("a"), stage("b", after=("a",)), stage("c")


def test_a_second_run_reuses_everything_and_keeps_the_seconds(checkout: Checkout) -> None:
    first = checkout.run(A, B, C)
    assert [(r.name, r.reused) for r in first] == [("a", False), ("b", False), ("c", False)]
    second = checkout.run(A, B, C)
    assert [r.reused for r in second] == [True, True, True]
    assert [r.seconds for r in second] == pytest.approx([r.seconds for r in first], abs=0.01)
    assert "a: make a" in checkout.said.getvalue() and "a: reused" in checkout.said.getvalue()


def test_changed_settings_rerun_the_stage_and_what_depends_on_it(checkout: Checkout) -> None:
    checkout.run(A, B, C)
    changed = replace(A, overrides={**A.overrides, "size": 2})
    assert checkout.reused(changed, B, C) == [False, False, True]
    assert len(checkout.written("a")) == 1  # it started from an empty folder


@pytest.mark.parametrize("what", ["extra", "config", "server", "file", "decided"])
def test_whatever_goes_into_a_stage_counts(checkout: Checkout, tmp_path: Path, what: str) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text("one\n")
    first = replace(A, files=(str(problems),), servers=(SERVER,), decide=lambda: {"strategy": "revised_only"})
    assert checkout.reused(first, B) == [False, False]
    assert checkout.reused(first, B) == [True, True]
    extra = None
    if what == "extra":
        extra = {"write": ["seed=2"]}
    elif what == "config":
        (checkout.root / "conf" / "serve.yaml").write_text("size: 2\n")
    elif what == "server":
        first = replace(first, servers=(replace(SERVER, overrides={"checkpoint": "two.nemo"}),))
    elif what == "file":
        problems.write_text("one\ntwo\n")
    elif what == "decided":
        first = replace(first, decide=lambda: {"strategy": "full"})
    assert checkout.reused(first, B, extra=extra) == [False, False]


def test_a_lost_output_is_made_again(checkout: Checkout) -> None:
    checkout.run(A, C)
    (checkout.run_folder / "a" / "result").unlink()
    assert checkout.reused(A, C) == [False, True]


def test_a_run_folder_may_be_moved(checkout: Checkout) -> None:
    checkout.run(A, B)
    moved = checkout.run_folder.with_name("moved")
    shutil.move(checkout.run_folder, moved)
    checkout.run_folder = moved
    assert checkout.reused(A, B) == [True, True]


def test_a_failed_stage_is_named_with_its_log_and_runs_again(checkout: Checkout) -> None:
    failing = replace(A, overrides={**A.overrides, "code": 3})
    with pytest.raises(StageError, match=r"(?s)a ended with exit code 3; its log is .*logs/a\.log.*writing"):
        checkout.run(failing, B)
    assert not (checkout.run_folder / "b").exists()
    with pytest.raises(StageError):
        checkout.run(failing)
    assert len(checkout.written("a")) == 1


def test_a_resumable_stage_goes_on_from_what_it_left(checkout: Checkout) -> None:
    failing = replace(A, overrides={**A.overrides, "code": 3}, resumable=True)
    for attempt in (1, 2):
        with pytest.raises(StageError):
            checkout.run(failing)
        assert len(checkout.written("a")) == attempt
    with pytest.raises(StageError):
        checkout.run(replace(failing, overrides={**failing.overrides, "size": 2}))
    assert len(checkout.written("a")) == 1


def test_a_stage_that_writes_nothing_is_a_failure(checkout: Checkout) -> None:
    with pytest.raises(StageError, match="a ended without writing .*other"):
        checkout.run(replace(A, outputs=("{run}/a/other",)))


def test_a_folder_of_somebody_else_is_left_alone(checkout: Checkout) -> None:
    theirs = checkout.run_folder / "a" / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years of work")
    with pytest.raises(ConfigError, match="holds files that no run wrote"):
        checkout.run(A)
    assert theirs.read_text() == "years of work"


def test_servers_are_up_while_a_stage_runs_and_shared_by_the_next(checkout: Checkout) -> None:
    served = {"url": "http://127.0.0.1:{echo}"}
    first = replace(A, servers=(SERVER,), overrides={**A.overrides, **served})
    second = replace(C, servers=(SERVER,), overrides={**C.overrides, **served})
    checkout.run(first, second)
    urls = [line.partition("'url', \"'")[2][:26] for name in "ac" for line in checkout.written(name)]
    assert urls[0] == urls[1] and urls[0].startswith("http://127.0.0.1:2")
    assert (checkout.run_folder / "logs" / "echo.one.log").read_text() == "serving 'one.nemo'\n"


def test_another_server_of_the_same_role_replaces_the_first(checkout: Checkout) -> None:
    other = replace(SERVER, name="echo.two", overrides={"checkpoint": "two.nemo"})
    checkout.run(replace(A, servers=(SERVER,)), replace(C, servers=(other,)))
    assert (checkout.run_folder / "logs" / "echo.two.log").read_text() == "serving 'two.nemo'\n"


def test_a_server_that_cannot_start_fails_its_stage(checkout: Checkout) -> None:
    (checkout.root / "scripts" / "serve.py").write_text("import sys; sys.exit('error: no such checkpoint')")
    with pytest.raises(StageError, match=r"(?s)echo\.one ended with exit code 1.*no such checkpoint"):
        checkout.run(replace(A, servers=(SERVER,)))


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom nemo_prm.pipeline.runner import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another run is at work"), exclusive(tmp_path):
            pass
        other.communicate()
    with exclusive(tmp_path):
        pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        3,
        -1,
        0.25,
        1e-05,
        "plain",
        "a b,c=d",
        "it's",
        'say "x"',
        "back\\slash",
        "100%",
        "",
        "{a: 1}",
        "~",
    ],
)
def test_overrides_reach_hydra_as_they_are(value: object) -> None:
    for written, expected in ((value, value), ([value, "x"], [value, "x"])):
        parsed = OverridesParser.create().parse_override(hydra_override("a.b", written)).value()
        parsed = [_text(item) for item in parsed] if isinstance(parsed, list) else _text(parsed)
        assert parsed == expected


def _text(value: Any) -> Any:
    return value.text if hasattr(value, "text") else value


def test_markers_are_json(checkout: Checkout) -> None:
    checkout.run(A)
    marker = json.loads((checkout.run_folder / "a" / "stage.json").read_text())
    assert set(marker) == {"fingerprint", "seconds", "done"} and marker["done"] is True


def test_a_checkpoint_that_is_a_folder_is_known_by_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "policy.nemo"
    folder.mkdir()
    hashes = {_hash_file(folder)}
    for content in ("a", "b"):
        (folder / "weights").write_text(content)
        hashes.add(_hash_file(folder))
    (folder / "weights").rename(folder / "other")
    hashes.add(_hash_file(folder))
    assert len(hashes) == 4 and "absent" not in hashes
