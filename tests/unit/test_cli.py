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
"""`nemo-prm`: instant help, and the scripts by name."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_prm import __version__, cli

ROOT = Path(cli.__file__).resolve().parents[1]
PRINT_MODULES = """
import runpy, sys
sys.argv = ["nemo-prm", *sys.argv[1:]]
try:
    runpy.run_module("nemo_prm", run_name="__main__")
except SystemExit as exit:
    print("exit", exit.code)
print("modules", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_next_to_nothing(flag: str) -> None:
    done = run(sys.executable, "-S", "-c", PRINT_MODULES, flag)  # -S: the environment's .pth files import things too
    assert "exit 0" in done.stdout, done.stderr
    modules = done.stdout.rpartition("modules ")[2].split()
    assert set(modules) - set(sys.stdlib_module_names) <= {"nemo_prm", "__main__", "_distutils_hack"}
    assert len(modules) < 150


def test_help_takes_under_half_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(sys.executable, "-m", "nemo_prm", "--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time, so that other load on the machine does not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_version() -> None:
    assert run(sys.executable, "-m", "nemo_prm", "--version").stdout == f"nemo-prm {__version__}\n"


def test_every_script_with_a_config_is_a_command() -> None:
    configs = {path.stem for path in (ROOT / "conf").glob("*.yaml")}
    assert set(cli.SCRIPTS) == configs
    assert configs <= {path.stem for path in (ROOT / "scripts").glob("*.py")}


def test_a_script_gets_its_arguments_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "nemo_prm", checkout / "nemo_prm", ignore=shutil.ignore_patterns("__pycache__", "embedded"))
    for folder in ("scripts", "conf"):
        (checkout / folder).mkdir()
    (checkout / "conf" / "label.yaml").touch()
    (checkout / "scripts" / "label.py").write_text("import sys; print(sys.argv[1:]); sys.exit(7)")
    done = run(sys.executable, "-m", "nemo_prm", "label", "limit=3", "--help", cwd=checkout)
    assert (done.stdout, done.returncode) == ("['limit=3', '--help']\n", 7)


def test_outside_a_checkout_a_script_is_a_clear_error(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    shutil.copytree(ROOT / "nemo_prm", site / "nemo_prm", ignore=shutil.ignore_patterns("__pycache__", "embedded"))
    done = subprocess.run(
        [sys.executable, "-c", "from nemo_prm.cli import main; main(['label'])"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the scripts are not installed with the package; run this command from a")


def test_an_unknown_command_is_refused() -> None:
    done = run(sys.executable, "-m", "nemo_prm", "lable")
    assert done.returncode == 2
    assert "invalid choice: 'lable'" in done.stderr
