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
"""A PRM that has learned nothing, for measurements: python scripts/bench/untrained_prm.py FOLDER

Writes FOLDER/prm.nemo: the embedded policy with a new scalar head.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def compose(name: str, *overrides: str) -> Any:
    """The config of a script, as Hydra would compose it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(name, list(overrides))


def save_prm(policy: Path, folder: Path) -> Any:
    """Save `policy` with a new scalar head as folder/prm.nemo, and return the PRM."""
    from nemo_prm.megatron import compat

    compat.apply()
    from omegaconf import open_dict

    from nemo_prm.megatron import host
    from nemo_prm.megatron.prm import MegatronGPTPRM

    cfg = compose("train_prm", f"policy={policy}", f"data={folder}", f"output={folder}")
    cfg.exp_manager = None
    prm = host.load(cfg, "rm", MegatronGPTPRM).model
    with open_dict(prm.cfg):
        prm.cfg.target = f"{MegatronGPTPRM.__module__}.{MegatronGPTPRM.__qualname__}"
    prm.save_to(str(folder / "prm.nemo"))
    return prm


def in_a_process(folder: Path) -> Path:
    """Make folder/prm.nemo of the embedded policy in another process, and return it."""
    with (folder / "untrained_prm.log").open("ab") as log:
        subprocess.run([sys.executable, __file__, str(folder)], stdout=log, stderr=log, check=True)
    return folder / "prm.nemo"


def main() -> None:
    from nemo_prm.data.embedded import policy_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    save_prm(policy_path(), folder)


if __name__ == "__main__":
    main()
