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
from typing import Any, Callable, NoReturn, TypeVar

from nemo_prm.errors import ConfigError, NemoPrmError

Schema = TypeVar("Schema")

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
                    fail(_one_line(error))
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
                fail(f"{error.override}: {_one_line(error)}; where a value holds = , ( or quotes: 'key=\"value\"'")
            except HydraException as error:
                fail(_one_line(error))
            except KeyboardInterrupt:
                print("\ninterrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)

        return run

    return decorate


def typed(schema: type[Schema], cfg: Any, name: str) -> Schema:
    """The part `name` of a config tree that is otherwise the host's, checked against a dataclass of ours.

    Raises:
        ConfigError: it has a key that there is not, or a value of another type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found: Schema = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), cfg[name]))  # type: ignore
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {_one_line(error)}") from None
    return found


def _one_line(error: BaseException) -> str:
    """Hydra and OmegaConf spread a message over lines ("Could not override 'x'." / "Key 'x' is not in struct ...")."""
    parts = [str(error), str(error.__cause__ or "")]
    lines = [line.strip() for part in parts for line in part.splitlines()]
    noise = ("full_key:", "object_type=", "reference_type=", "To append to your config use")
    keep = [line for line in lines if line and not line.startswith(noise)]
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    if key and any("is not a ListConfig" in line for line in keep):
        return f"{key} takes a list: '{key}=[...]'"
    return " ".join(dict.fromkeys(keep))


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
