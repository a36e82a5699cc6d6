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
"""Rules on the numbers of a PPO step: warn, lower the weight of the line rewards, or stop.

    - {metric: comment_share, above: 0.3, steps: 3, action: lower_lambda, factor: 0.5}
    - {metric: praised_failures, above: 0.6, steps: 5, action: stop}

A rule fires when its metric has been beyond the bound for `steps` steps on end, and counts anew from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Mapping, Sequence, get_args

from nemo_prm.errors import ConfigError

Action = Literal["warn", "lower_lambda", "stop"]


@dataclass(frozen=True)
class Rule:
    """What to do when `metric` is `above` or `below` a bound.

    Attributes:
        metric: a name that the step logs under `train_rollouts/`.
        above: the bound from below; None where `below` is set.
        below: the bound from above.
        steps: on end, before the rule fires.
        action: warn logs a warning; lower_lambda multiplies both lambdas by `factor`, from the next step on; stop
            saves a checkpoint and ends the run.
        factor: of lower_lambda, in [0, 1).
    """

    metric: str
    above: float | None = None
    below: float | None = None
    steps: int = 1
    action: Action = "warn"
    factor: float = 0.5

    def holds(self, value: float) -> bool:
        """Whether the value is beyond the bound."""
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    def __str__(self) -> str:
        bound = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        return f"{self.metric} {bound} for {self.steps} step{'s' if self.steps > 1 else ''}: {self.action}"


def read_rules(path: str | Path) -> list[Rule]:
    """Read a rule file (YAML, a list of mappings).

    Raises:
        ConfigError: it is missing, or a rule cannot be one; names the rule by its number.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"rules: {path} cannot be read ({error}).") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"rules: {path} is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, list):
        raise ConfigError(f"rules: {path} must hold a list of rules, found {type(content).__name__}.")
    rules: list[Rule] = []
    for number, item in enumerate(content, start=1):
        rule = _rule(item, f"rules: {path}, rule {number}")
        if str(rule) in map(str, rules):
            raise ConfigError(f"rules: {path}, rule {number} says again what a rule before it says ({rule}).")
        rules.append(rule)
    return rules


def _rule(item: Any, where: str) -> Rule:
    if not isinstance(item, dict) or not isinstance(item.get("metric"), str):
        raise ConfigError(f"{where} must be a mapping with the key metric, found {item!r}.")
    if strange := sorted(map(str, set(item) - set(Rule.__dataclass_fields__))):
        raise ConfigError(f"{where} has the unknown key {strange[0]!r}.")
    for key in [key for key in ("above", "below", "factor") if key in item]:
        if item[key] is None and key != "factor":
            continue
        if isinstance(item[key], bool) or not isinstance(item[key], (int, float)) or not math.isfinite(item[key]):
            hint = " (YAML reads 1e9 as text: write 1.0e+9)" if isinstance(item[key], str) else ""
            raise ConfigError(f"{where}: {key} must be a number, found {item[key]!r}{hint}.")
    rule = Rule(**item)
    if (rule.above is None) == (rule.below is None):
        raise ConfigError(f"{where} needs one of above and below.")
    if type(rule.steps) is not int or rule.steps < 1:
        raise ConfigError(f"{where}: steps must be a whole number of at least 1, found {rule.steps!r}.")
    if rule.action not in get_args(Action):
        raise ConfigError(f"{where}: action must be one of {', '.join(get_args(Action))}, found {rule.action!r}.")
    if not 0 <= rule.factor < 1:
        raise ConfigError(f"{where}: factor must lie in [0, 1), found {rule.factor!r}.")
    return rule


class Watch:
    """Looks at the metrics of every step."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        self.lambda_scale = 1.0  # of both lambdas
        self._streaks = dict.fromkeys(self.rules, 0)

    def look(self, metrics: Mapping[str, Any]) -> list[tuple[Rule, float]]:
        """Take in a step's metrics; returns the rules that fire, with the values that made them.

        A metric that is NaN is unknown, and changes nothing.

        Raises:
            ConfigError: a rule's metric is not among them.
        """
        fired = []
        for rule in self.rules:
            if rule.metric not in metrics:
                raise ConfigError(f"rules: no metric {rule.metric!r}; there are {', '.join(sorted(metrics))}.")
            value = float(metrics[rule.metric])
            if math.isnan(value):
                continue
            self._streaks[rule] = self._streaks[rule] + 1 if rule.holds(value) else 0
            if self._streaks[rule] == rule.steps:
                self._streaks[rule] = 0
                fired.append((rule, value))
                if rule.action == "lower_lambda":
                    self.lambda_scale *= rule.factor
        return fired

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, for JSON; a rule is known by its words, so that a changed one starts anew."""
        return {"lambda_scale": self.lambda_scale, "streaks": {str(rule): n for rule, n in self._streaks.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.lambda_scale = float(state["lambda_scale"])
        self._streaks = {rule: int(state["streaks"].get(str(rule), 0)) for rule in self.rules}
