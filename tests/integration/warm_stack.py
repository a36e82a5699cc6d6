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
"""The heavy stack, imported once per process of pytest for all scripts of its tests: 10 s that each would take."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from warm import ROOT, Warm

IMPORTS = [
    "hydra.main",
    "patched_stack",
    "nemo_prm.megatron.train_prm",
    "nemo_prm.ppo.train_ppo",
    "nemo_prm.serving.critic",
    "nemo_prm.serving.generation",
    "nemo_prm.serving.reward",
]


@functools.cache
def stack() -> Warm:
    """Where scripts of the heavy side are started; it ends with the process of pytest."""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return Warm(*IMPORTS, PYTHONPATH=paths, OMP_NUM_THREADS="1")


def run_script(*arguments: str, timeout_s: float = 300.0, **environment: str) -> str:
    """Run a script to its end and return what it has printed to stdout; its failure is this test's."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = stack().run(*arguments, timeout=timeout_s, env=variables)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout
