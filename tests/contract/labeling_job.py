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
"""A small job for `scripts/label.py`: problems, a policy behind an endpoint, and a ledger of what it served."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Sequence

from endpoint import Answer, Endpoint, answer
from run_scripts import write
from simulated_policy import SimulatedPolicy, Task
from warm_script import Run

from nemo_prm.config import SamplingConfig
from nemo_prm.data.problems import problem_to_json
from nemo_prm.labeling.cache import digest
from nemo_prm.labeling.labeler import derive_seed
from nemo_prm.serving.openai_messages import request_seed
from nemo_prm.types import SamplingParams

PARAMS = SamplingParams()
Request = dict[str, Any]


def policy_of(tasks: Sequence[Task], slowest_s: float = 0.0) -> Callable[[Request], Answer]:
    """A simulated policy for an `Endpoint`; each answer takes a random time up to `slowest_s`."""
    policy = SimulatedPolicy(tasks)

    def complete(request: Request) -> Answer:
        time.sleep(random.uniform(0, slowest_s))
        seeds = range(request["seed"], request["seed"] + request["n"])
        drawn = [policy.generate([request["prompt"]], 1, PARAMS, seed)[0][0] for seed in seeds]
        choices = [{"index": i, "text": c.text, "finish_reason": "stop"} for i, c in enumerate(drawn)]
        # A token is a byte: shared out by bytes, tokens do not depend on what shares a request.
        tokens = sum(max(len(c.text.encode()), 1) for c in drawn)
        return answer({"choices": choices, "usage": {"completion_tokens": tokens}})

    return complete


def problems(folder: Path, tasks: Sequence[Task]) -> str:
    """The override that names the problems of these tasks."""
    return f"problems={write(folder / 'problems.jsonl', [problem_to_json(task.problem) for task in tasks])}"


def at(endpoint: Endpoint) -> list[str]:
    """The overrides that name the policy."""
    return [f"generator.url={endpoint.url}", "generator.kind=openai", "generator.model=policy"]


def wait_for_requests(endpoint: Endpoint, count: int, run: Run) -> None:
    """Return when the endpoint has been asked so often, or the run has ended."""
    while len(endpoint.requests) < count and run.running():
        pass


def keys_of(request: Request, seed: int, checkpoint: str = "policy") -> list[str]:
    """The keys under which the cache of a job with this seed has the completions that a request asks for."""
    for purpose in ("responses", "completions"):
        number = request["seed"] - request_seed(derive_seed(seed, purpose), 0)
        if 0 <= number < 1000:
            params = dataclasses.asdict(SamplingConfig().as_params())
            base = digest(checkpoint, params, request["prompt"], derive_seed(seed, purpose))
            return [(base + k.to_bytes(4, "big")).hex() for k in range(number, number + request["n"])]
    raise AssertionError(f"not a request of the job: {request}")


def served(requests: Sequence[Request], seed: int) -> Counter[str]:
    """How often each completion was asked for."""
    return Counter(key for request in requests for key in keys_of(request, seed))


def cached(store: Path) -> set[str]:
    """Keys of the completions in the whole lines of a job's cache, which may be missing."""
    path = Path(f"{store}.cache")
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {entry["key"] for entry in map(json.loads, lines) if "completion" in entry}


def rows(store: Path) -> list[dict[str, Any]]:
    """The rows of a store in the order of their names, without what was measured."""
    found = [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]
    for row in found:
        del row["cost"]["seconds"]
        del row["verdict"]["seconds"], row["verdict"]["peak_mib"]
    return sorted(found, key=lambda row: (row["problem_id"], row["response_id"]))


def summary(store: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(f"{store}.summary.json").read_text(encoding="utf-8"))
    return content
