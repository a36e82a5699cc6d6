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
"""The whole table of stages, with dummy scripts of the real ones' interface: order, reuse, fallback, summary."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from nemo_prm.config import QuickstartConfig
from nemo_prm.data.jsonl import read_jsonl
from nemo_prm.errors import CheckpointError, ConfigError, StageError
from nemo_prm.pipeline.console import Console
from nemo_prm.quickstart.run import choose_rows, quickstart

PREAMBLE = """
import json, os, pathlib, sys, urllib.request
from hydra.core.override_parser.overrides_parser import OverridesParser
def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    return getattr(value, "text", value)
given = {o.key_or_group: plain(o.value()) for o in OverridesParser.create().parse_overrides(sys.argv[1:])}
stem = pathlib.Path(sys.argv[0]).stem
pathlib.Path(__file__).with_name("calls.jsonl").open("a").write(json.dumps([stem, given]) + "\\n")
def get(port, path): return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").status
def need(path): assert pathlib.Path(path).exists(), path
def write(path, text):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)
"""
SERVER = """
import http.server
need(given["checkpoint"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", given["server.port"]), Handler).serve_forever()
"""
ROW = {
    "schema": 1,
    "problem_id": "p1",
    "response_id": "r1",
    "checkpoint": "policy",
    "prompt": "Task",
    "response": "# a\nx\ny\n",
    "steps": [[0, 4, "comment"], [4, 6, "code"], [6, 8, "code"]],
    "labels": [0, 1, -1],
    "response_class": "revised",
    "probes": [],
    "cost": {"completions": 0, "tokens": 0, "executions": 1, "seconds": 0.1},
    "seed": 1,
    "generator": "g",
    "sandbox": "s",
}
SCRIPTS = {
    "serve_generation": SERVER,
    "serve_reward": SERVER,
    "serve_critic": SERVER,
    "label": "get(given['generator.url'].rpartition(':')[2], '/')\nwrite(given['output'], os.environ['ROWS'])",
    "select_data": "need(given['labels'][0])\n"
    "for name in ('train', 'validation'): write(given['output'] + f'/{name}.jsonl', '')",
    "train_prm": "need(given['data'] + '/train.jsonl'); write(given['output'] + '/prm.nemo', 'prm')",
    "train_ppo": "get(given['critic.port'], '/')\nif given['dense_reward']: get(given['reward.port'], '/')\n"
    "write(given['output'] + '/policy.nemo', 'policy')",
    "evaluate": "value = {'policy': 0.25, 'rl': 0.375, 'rl_prm': 0.5}[given['checkpoint']]\n"
    "write(given['output'] + '/results.json', json.dumps({'results': {'nemo_prm': {'pass@1': value}}}))",
    "evaluate_prm": "need(given['labels'][0]); get(given['reward.url'].rpartition(':')[2], '/')\n"
    "write(given['output'] + '/results.json', '{}')",
    "search": "for name in ('reward', 'generator'): get(given[name + '.url'].rpartition(':')[2], '/')\n"
    "write(given['output'] + '/results.json', '{}')",
    "report": "need(given['summary']); need(given['prm']); need(given['search'][0]); write(given['output'], 'report')",
}
ORDER = [
    "label",
    "evaluate_policy",
    "select_data",
    "train_prm",
    "rl",
    "evaluate_rl",
    "rl_prm",
    "evaluate_prm",
    "search",
    "evaluate_rl_prm",
    "report",
]


class Dummy:
    """A checkout of dummy scripts; the configs are the real ones' names only."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "checkout"
        for name, code in SCRIPTS.items():
            path = self.root / "scripts" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PREAMBLE + code)
        (self.root / "conf").mkdir()
        (folder / "policy.nemo").write_text("policy")
        self.config = QuickstartConfig(output=str(folder / "a run"), policy=str(folder / "policy.nemo"))
        self.monkeypatch = monkeypatch
        self.rows([ROW])
        self.said = io.StringIO()

    def rows(self, rows: list[dict[str, Any]]) -> None:
        self.monkeypatch.setenv("ROWS", "".join(json.dumps(row) + "\n" for row in rows))

    def run(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(quickstart(self.config, self.root, Console(self.said)).read_text())
        return summary

    def calls(self, script: str) -> list[dict[str, Any]]:
        log = self.root / "scripts" / "calls.jsonl"
        return [given for stem, given in map(json.loads, log.read_text().splitlines()) if stem == script]


@pytest.fixture
def dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dummy:
    return Dummy(tmp_path, monkeypatch)


def test_every_stage_runs_and_the_summary_says_what_came_out(dummy: Dummy) -> None:
    summary = dummy.run()
    assert [stage["name"] for stage in summary["stages"]] == ORDER
    assert all(stage["seconds"] >= 0 and not stage["reused"] for stage in summary["stages"])
    assert summary["labels"] == {"correct": 0, "revised": 1, "wrong": 0, "neutral_lines": 1}
    assert summary["pass_at_1"] == {"policy": 0.25, "rl": 0.375, "rl_prm": 0.5}
    assert set(summary["versions"]) >= {"nemo_prm", "python"}
    said = dummy.said.getvalue()
    assert "RL with PRM" in said and "50.0 %" in said and "report.html" in said


def test_the_two_trainings_differ_in_what_the_prm_gives_and_in_nothing_else(dummy: Dummy) -> None:
    dummy.run()
    without, with_prm = dummy.calls("train_ppo")
    assert (without["dense_reward"], with_prm["dense_reward"]) == (False, True)
    own = {"dense_reward", "output", "critic.port", "reward.port"}
    assert {k: v for k, v in without.items() if k not in own} == {k: v for k, v in with_prm.items() if k not in own}
    from_policy, from_prm = dummy.calls("serve_critic")
    assert (from_policy["value_init"], from_policy["checkpoint"]) == ("none", dummy.config.policy)
    assert from_prm["value_init"] == "full"
    assert from_prm["checkpoint"] == dummy.calls("serve_reward")[0]["checkpoint"]
    assert from_prm["checkpoint"].endswith("train_prm/prm.nemo")


def test_a_prm_is_measured_on_rows_that_it_was_not_trained_on(dummy: Dummy) -> None:
    dummy.run()  # the dummy selection leaves none for validation: then on all
    assert dummy.calls("evaluate_prm")[0]["labels"][0].endswith("/label/labels.jsonl")
    (Path(dummy.config.output) / "select_data/validation.jsonl").write_text("a row\n")
    assert choose_rows(Path(dummy.config.output))["labels"][0].endswith("/select_data/validation.jsonl")
    # one PRM serves the training, the measurement and the search
    assert len(dummy.calls("serve_reward")) == 1


def test_labeling_and_the_first_evaluation_share_one_server(dummy: Dummy) -> None:
    dummy.run()
    assert len(dummy.calls("serve_generation")) == 3
    assert dummy.calls("label")[0]["generator.url"] == dummy.calls("evaluate")[0]["generator.url"]


def test_a_second_run_calls_no_script(dummy: Dummy) -> None:
    dummy.run()
    before = (dummy.root / "scripts" / "calls.jsonl").read_text()
    summary = dummy.run()
    assert all(stage["reused"] for stage in summary["stages"])
    assert (dummy.root / "scripts" / "calls.jsonl").read_text() == before


def test_a_changed_setting_reruns_only_what_depends_on_it(dummy: Dummy) -> None:
    dummy.run()
    dummy.config.overrides = {"train_prm": ["trainer.rm.max_epochs=1"]}
    again = [stage["name"] for stage in dummy.run()["stages"] if not stage["reused"]]
    assert again == ["train_prm", "rl_prm", "evaluate_prm", "search", "evaluate_rl_prm", "report"]


def test_overrides_of_a_server_reach_it(dummy: Dummy) -> None:
    dummy.config.overrides = {"serve_critic": ["model.seed=1"], "rl.critic": ["model.seed=2"]}
    dummy.run()
    assert [given["model.seed"] for given in dummy.calls("serve_critic")] == [2, 1]


def test_without_revised_responses_all_are_taken_and_that_is_said(dummy: Dummy) -> None:
    dummy.config.strategy = "revised_only"
    dummy.run()
    assert dummy.calls("select_data")[0]["strategy"] == "revised_only"
    dummy.rows([{**ROW, "response_class": "wrong", "labels": [0, -1, -1]}])
    dummy.config.completions += 1
    dummy.run()
    assert dummy.calls("select_data")[1]["strategy"] == "full"
    assert "No response is Revised" in dummy.said.getvalue()


def test_a_users_file_is_split_and_used(dummy: Dummy, tmp_path: Path) -> None:
    lines = [
        {"problem_id": f"p{n}", "prompt": f"Q{n}", "tests": [{"kind": "stdio", "stdout": ""}], "owner": "me"}
        for n in range(4)
    ]
    path = tmp_path / "my problems.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dummy.config.problems = str(path)
    dummy.run()
    train, held_out = dummy.calls("label")[0]["problems"], dummy.calls("evaluate")[0]["problems"]
    assert {given["problems"] for given in dummy.calls("train_ppo")} == {train}
    assert dummy.calls("select_data")[0]["exclude_problems"] == [held_out]
    ids = [[line.value["problem_id"] for line in read_jsonl(part)] for part in (train, held_out)]
    assert (len(ids[0]), len(ids[1]), sorted(ids[0] + ids[1])) == (3, 1, ["p0", "p1", "p2", "p3"])
    assert all(line.value["owner"] == "me" for line in read_jsonl(train))
    path.write_text(path.read_text().replace("Q0", "Q0 changed"))
    assert not any(stage["reused"] for stage in dummy.run()["stages"] if stage["name"] != "select_data")


def test_a_failed_stage_stops_the_run_and_keeps_what_stood(dummy: Dummy) -> None:
    script = dummy.root / "scripts" / "train_prm.py"
    good = script.read_text()
    script.write_text("import sys; print('error: no label row'); sys.exit(2)")
    with pytest.raises(StageError, match=r"(?s)train_prm ended with exit code 2; its log is .*error: no label row"):
        dummy.run()
    script.write_text(good)
    reused = {stage["name"]: stage["reused"] for stage in dummy.run()["stages"]}
    assert [name for name in ORDER if reused[name]] == ["label", "evaluate_policy", "select_data"]


def test_bad_settings_are_refused_before_anything_runs(dummy: Dummy) -> None:
    dummy.config.overrides = {"train_prn": ["x=1"]}
    with pytest.raises(ConfigError, match="train_prn is no stage, server or script"):
        dummy.run()
    dummy.config.overrides = {}
    dummy.config.policy = "/no/policy.nemo"
    with pytest.raises(CheckpointError, match="/no/policy.nemo does not exist"):
        dummy.run()
    assert not (dummy.root / "scripts" / "calls.jsonl").exists()
