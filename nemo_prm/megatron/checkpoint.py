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
"""What a `.nemo` file is, found out with the standard library alone, before anything heavy is imported."""

from __future__ import annotations

import re
import tarfile
import zlib
from pathlib import Path

from nemo_prm.data.embedded import resolve_policy
from nemo_prm.errors import CheckpointError

CONFIG_NAME = "model_config.yaml"


def resolve_nemo(checkpoint: str) -> Path:
    """The path of `checkpoint`, where "embedded" names the policy shipped with this package; it must be a `.nemo`.

    Raises:
        CheckpointError: it is missing, or something else.
    """
    path = resolve_policy(checkpoint)
    check_nemo(path)
    return path


def check_nemo(path: Path) -> None:
    """Make sure that `path` is a `.nemo` checkpoint: a tar file, or the folder it unpacks to, with a model config.

    Raises:
        CheckpointError: it is missing, or something else.
    """
    read_config(path)


def read_config(path: Path) -> str:
    """Return the text of the model config inside the checkpoint at `path`.

    Raises:
        CheckpointError: the path is missing or no `.nemo` checkpoint.
    """
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, a folder that is closed to us
        raise CheckpointError(f"checkpoint {path}: {error.strerror}") from error
    if not there:
        raise CheckpointError(f"checkpoint {path} does not exist")
    if path.is_dir():
        config = path / CONFIG_NAME
        if not config.is_file():
            raise CheckpointError(f"{path} is no .nemo checkpoint: the folder holds no {CONFIG_NAME}")
        return config.read_text()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if Path(member.name).name == CONFIG_NAME and member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    return content.read().decode()
    except (tarfile.TarError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        # The error's own text may run over five lines, one for every compression that tarfile knows.
        raise CheckpointError(f"{path} is no .nemo checkpoint: not a tar archive, or a damaged one") from error
    raise CheckpointError(f"{path} is no .nemo checkpoint: the archive holds no {CONFIG_NAME}")


def has_reward_head(path: Path) -> bool:
    """Whether the checkpoint was saved from a model with a scalar head (a reward model, critic or PRM)."""
    target = re.search(r"^target:\s*(\S+)", read_config(path), flags=re.MULTILINE)
    return target is not None and any(kind in target.group(1) for kind in ("Reward", "Critic", "PRM"))


def check_policy(path: Path) -> None:
    """Make sure that `path` is a `.nemo` checkpoint of a policy.

    Raises:
        CheckpointError: no `.nemo`, or one of a model with a scalar head in place of a vocabulary.
    """
    if has_reward_head(path):
        raise CheckpointError(f"{path} holds a model with a scalar head (reward model or critic), not a policy")
