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
"""What a pipeline is made of: stages, which run to their end, and the servers that run meanwhile.

Values may hold `{run}` (the run's folder) and the port of a server by its role, `{generation}`, `{reward}` or
`{critic}`; both are filled in when the stage starts and stay out of its fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Callable, Mapping

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """A server script that runs while a stage runs; stages that name an equal server share the process.

    Attributes:
        name: of its log file.
        role: by which stages ask for its port.
        script: stem of the script; `server.port` is set for it.
        overrides: of its Hydra config.
        models: PyTriton models that must be ready before the stage starts.
    """

    name: str
    role: str
    script: str
    overrides: Overrides
    models: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: a script, run to its end.

    Attributes:
        name: of its folder `{run}/<name>`, which belongs to it alone, and of its log file.
        title: what it does, for the terminal.
        script: stem of the script.
        overrides: of its Hydra config.
        outputs: files that stand when it is done.
        after: stages whose results it uses.
        files: inputs from outside the run; their content is part of the fingerprint.
        servers: what must be running meanwhile.
        decide: further overrides that depend on earlier results; called when the stage is reached.
        resumable: an interrupted run goes on from what it left; otherwise it starts over.
    """

    name: str
    title: str
    script: str
    overrides: Overrides
    outputs: tuple[str, ...]
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    decide: Callable[[], Overrides] | None = None
    resumable: bool = False


def generation(name: str, checkpoint: str) -> Server:
    return Server(f"generation.{name}", "generation", "serve_generation", {"checkpoint": checkpoint}, ("generation",))


def reward(stage: str, checkpoint: str, overrides: Overrides = MappingProxyType({})) -> Server:
    return Server(f"{stage}.reward", "reward", "serve_reward", {"checkpoint": checkpoint, **overrides}, ("prm",))


def critic(stage: str, checkpoint: str, value_init: str, overrides: Overrides = MappingProxyType({})) -> Server:
    settings = {"checkpoint": checkpoint, "value_init": value_init, "output": f"{{run}}/{stage}/critic", **overrides}
    models = ("critic_infer", "critic_train", "critic_save", "critic_load")
    return Server(f"{stage}.critic", "critic", "serve_critic", settings, models)


def evaluation(
    policy: str,
    title: str,
    overrides: Overrides,
    server: Server,
    files: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
) -> Stage:
    """Pass@1 of a policy.

    Args:
        policy: its name in the results; the stage is called `evaluate_<policy>`.
        title: of the policy.
        overrides: problems and sizes.
        server: of the policy.
        files: inputs from outside the run.
        after: stages whose results it uses.
    """
    name = f"evaluate_{policy}"
    return Stage(
        name,
        f"Pass@1 on held-out problems: {title}",
        "evaluate",
        {
            **overrides,
            "output": f"{{run}}/{name}",
            "checkpoint": policy,
            "generator.url": "http://127.0.0.1:{generation}",
        },
        outputs=(f"{{run}}/{name}/results.json",),
        after=after,
        files=files,
        servers=(server,),
    )
