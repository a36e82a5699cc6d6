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
"""How a script starts: Hydra at the edge, a typed config inside, one clear message and exit code 2 when it cannot run.

    @script(LabelConfig)
    def main(config: LabelConfig) -> None: ...

The config name is the stem of the script: `scripts/label.py` reads `conf/label.yaml`, whose first default is the
schema `label_schema` that this module registers from the dataclass.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Callable, NoReturn

from nemo_prm.config import one_line
from nemo_prm.errors import NemoPrmError

# What the light installation lacks: packages by import name and, where metadata is asked for, as they are distributed.
HEAVY = {
    *("torch", "nemo", "nemo_aligner", "megatron", "pytriton", "tritonclient", "lightning", "transformers"),
    *("nemo-toolkit", "nemo-aligner", "megatron-core", "nvidia-pytriton"),
}


def fail(message: str) -> NoReturn:
    """Print one message to stderr and exit with code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def script(schema: type | None = None) -> Callable[[Callable[[Any], None]], Callable[[], None]]:
    """Turn `main(config)` into a script entry point.

    Args:
        schema: dataclass of `nemo_prm.config` to validate against and to hand over as an instance; None hands over
            the composed `DictConfig` (scripts that drive the host's trainers, whose config tree is the host's).

    Returns:
        A decorator; the decorated function takes its arguments from `sys.argv`.
    """

    def decorate(main: Callable[[Any], None]) -> Callable[[], None]:
        path = Path(main.__globals__["__file__"]).resolve()
        stem = path.stem
        conf_dir = path.parent.parent / "conf"  # beside the script, not the package, which may be in site-packages

        def run() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors reach us instead of Hydra's printer
            import hydra
            from hydra.core.config_store import ConfigStore
            from hydra.errors import HydraException, OverrideParseException
            from omegaconf import OmegaConf
            from omegaconf.errors import OmegaConfBaseException

            if schema is not None:
                ConfigStore.instance().store(name=f"{stem}_schema", node=schema)
            OmegaConf.register_new_resolver("multiply", lambda x, y: x * y, replace=True)

            @hydra.main(version_base="1.3", config_path=str(conf_dir), config_name=stem)
            def compose_and_run(cfg: Any) -> None:
                missing = [key for key in cfg if OmegaConf.is_missing(cfg, key)]
                if missing:
                    fail(f"{' and '.join(missing)} must be set: add {missing[0]}=... to the command")
                # Caught in here: an exception that reaches Hydra makes it print a message of its own first.
                if schema is not None and (unknown := _unknown_keys(cfg, OmegaConf.structured(schema))):
                    fail(f"there is no option {' or '.join(unknown)}; {stem}.py --help shows those there are")
                try:
                    config = OmegaConf.to_object(cfg) if schema is not None else cfg
                except OmegaConfBaseException as error:
                    fail(one_line(error))
                try:
                    main(config)
                except NemoPrmError as error:
                    fail(str(error))
                except OSError as error:  # no such folder, no space left; a fault of ours has no file name
                    if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                        raise
                    fail(f"{error.filename or 'a file'}: {error.strerror}")
                except ModuleNotFoundError as error:  # PackageNotFoundError is one
                    package = (error.name or "").split(".")[0]
                    if package not in HEAVY:
                        raise
                    fail(
                        f"{stem}.py needs {package}, which is not installed: run it in NVIDIA's NeMo container, or "
                        "pip install -c constraints.txt '.[nemo]'"
                    )

            try:
                compose_and_run()
            except OverrideParseException as error:
                fail(f"{error.override}: {one_line(error)}; where a value holds = , ( or quotes: 'key=\"value\"'")
            except HydraException as error:
                fail(one_line(error))
            except KeyboardInterrupt:
                print("\ninterrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)

        return run

    return decorate


def _unknown_keys(cfg: Any, schema: Any, path: str = "") -> list[str]:
    """Keys of a config that its schema does not have: added with a +, which Hydra allows."""
    from omegaconf import DictConfig, OmegaConf

    found, known = [], list(schema.keys())  # `in schema` leaves out what must be set
    for key in cfg:
        if key not in known:
            found.append(f"{path}{key}")
        elif is_dataclass(OmegaConf.get_type(schema, key)) and isinstance(cfg[key], DictConfig):
            found += _unknown_keys(cfg[key], schema[key], f"{path}{key}.")
    return found
