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
"""Saves that fail."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("nemo_aligner", reason="the heavy stack is not installed: pip install -c constraints.txt .[nemo]")

from nemo_prm.megatron.host import keeping_the_previous, kept_checkpoints


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    saved, failed = (folder / f"critic-step={step}-last" for step in (1, 2))
    saved.mkdir(parents=True)
    callback = SimpleNamespace(dirpath=str(folder), last_model_path=f"{saved}.ckpt")
    with pytest.raises(OSError, match="No space left"), keeping_the_previous(callback):
        assert callback.last_model_path == ""
        failed.mkdir()
        (folder / f"{failed.name}-unfinished").touch()
        raise OSError("No space left on device")
    assert callback.last_model_path == f"{saved}.ckpt"
    assert list(folder.iterdir()) == kept_checkpoints(folder) == [saved]
