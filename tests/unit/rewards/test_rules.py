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

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_prm.errors import ConfigError
from nemo_prm.rewards.rules import Rule, Watch, read_rules


def fired(watch: Watch, *values: float) -> list[int]:
    """At which of these steps something fires."""
    return [step for step, value in enumerate(values) if watch.look({"x": value})]


def test_a_rule_fires_after_enough_steps_on_end_and_counts_anew() -> None:
    watch = Watch([Rule("x", above=0.5, steps=2)])
    assert fired(watch, 0.6, 0.5, 0.6, 0.7, 0.8, 0.9) == [3, 5]
    assert fired(Watch([Rule("x", below=0.5)]), 0.5, 0.4) == [1]


def test_an_unknown_metric_changes_nothing() -> None:
    assert fired(Watch([Rule("x", above=0.5, steps=2)]), 0.6, float("nan"), 0.7) == [2]


def test_lambda_is_lowered_each_time() -> None:
    watch = Watch([Rule("x", above=0.5, action="lower_lambda", factor=0.1)])
    fired(watch, 0.6, 0.4, 0.6)
    assert watch.lambda_scale == pytest.approx(0.01)


def test_a_resumed_watch_goes_on(tmp_path: Path) -> None:
    rules = [Rule("x", above=0.5, steps=3), Rule("x", above=0.5, action="lower_lambda")]
    watch, resumed = Watch(rules), Watch(rules)
    fired(watch, 0.6, 0.6)
    resumed.load_state_dict(json.loads(json.dumps(watch.state_dict())))
    assert resumed.lambda_scale == 0.25
    assert [str(rule) for rule, _ in resumed.look({"x": 0.6})] == [str(rule) for rule in rules]
    changed = Watch([Rule("x", above=0.4, steps=3)])
    changed.load_state_dict(watch.state_dict())
    assert changed.look({"x": 0.6}) == []


def test_a_rule_of_no_metric_is_noticed_at_the_first_step() -> None:
    with pytest.raises(ConfigError, match="no metric 'y'; there are x"):
        Watch([Rule("y", above=1)]).look({"x": 0.0})


def test_rule_files(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "- {metric: x, above: 0.3, steps: 3, action: lower_lambda, factor: 0.1}\n- {metric: y, below: 1}\n"
    )
    assert read_rules(path) == [Rule("x", 0.3, None, 3, "lower_lambda", 0.1), Rule("y", below=1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{metric: x}", "must hold a list"),
        ("- {above: 1}", "rule 1 must be a mapping with the key metric"),
        ("- {metric: x, above: 1}\n- {metric: x}", "rule 2 needs one of above and below"),
        ("- {metric: x, above: 1, below: 0}", "needs one of"),
        ("- {metric: x, above: high}", "above must be a number"),
        ("- {metric: x, above: 1, steps: 0}", "steps must be a whole number"),
        ("- {metric: x, above: 1, action: cry}", "action must be one of warn, lower_lambda, stop"),
        ("- {metric: x, above: 1, factor: 1}", "factor must lie in"),
        ("- {metric: x, over: 1}", "unknown key 'over'"),
        ("- {metric: [x", "is no YAML"),
    ],
)
def test_a_bad_rule_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_rules(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rules(tmp_path / "missing.yaml")
