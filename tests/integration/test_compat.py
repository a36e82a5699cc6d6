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
"""Each patch is still needed, works, and stays out of the way where it is not needed.

`make test` runs this file twice: with the megatron-core of the environment, and with the other supported one in front
of it on PYTHONPATH.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_prm.errors import ConfigError
from nemo_prm.megatron import compat

torch = pytest.importorskip("torch", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

HERE = Path(__file__).parent
NAMES = [patch.name for patch in compat.PATCHES]
ON_CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU patches' symptoms do not show on a GPU machine")


@pytest.fixture(scope="module")
def symptoms() -> dict[str, str | None]:
    """What fails in a process without patches, by patch name."""
    command = [sys.executable, str(HERE / "compat_symptoms.py"), *NAMES]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@ON_CPU
@pytest.mark.parametrize("name", NAMES)
def test_without_the_patch_its_symptom_is_there(symptoms: dict[str, str | None], name: str) -> None:
    assert symptoms[name] is not None, f"nothing fails without {name} any more: delete the patch"


@pytest.fixture(scope="module")
def patched() -> dict[str, str | None]:
    """The same symptoms in a process with all patches applied."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from nemo_prm.megatron import compat; applied = compat.apply();"
        "import compat_symptoms as s; sys.argv[1:] = applied; s.main()"
    )
    command, offline = [sys.executable, "-c", program, str(HERE)], os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, env=offline, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


# What the symptom scripts of these patches reach for is the unpatched class or the library's own state; the patched
# behaviour is asserted by the tests of training, saving and serving.
CHECKED_ELSEWHERE = {
    "adam_step_in_group",
    "adapter_attention_forward",
    "cache_rotated_keys",
    "checkpoint_write_item",
    "dense_ppo_rewards",
    "sdpa_core_attention",
    "vectorised_gae",
}


@ON_CPU
def test_one_call_applies_every_patch_this_machine_needs(patched: dict[str, str | None]) -> None:
    assert set(patched) == {patch.name for patch in compat.PATCHES if patch.needed()}


@ON_CPU
@pytest.mark.parametrize("name", sorted(set(NAMES) - CHECKED_ELSEWHERE))
def test_with_the_patch_its_symptom_is_gone(patched: dict[str, str | None], name: str) -> None:
    if name in patched:  # pytorch_container_version: not needed where the variable is set
        assert patched[name] is None


def test_no_cpu_patch_is_active_on_a_gpu_machine_with_the_full_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # apex, transformer_engine, tensorrt_llm
    monkeypatch.setenv("NVIDIA_PYTORCH_VERSION", "25.02")
    assert [patch.name for patch in compat.PATCHES if patch.kind == "cpu" and patch.needed()] == []


def test_every_patch_says_why_and_for_which_versions() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert all(patch.reason and patch.versions and patch.function.__name__ == patch.name for patch in compat.PATCHES)


def test_a_megatron_core_that_does_not_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_applied", [])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.13.1")
    with pytest.raises(ConfigError, match=r"megatron-core 0\.13\.1 does not run.*0\.11\.0 or 0\.12\.3"):
        compat.apply()
