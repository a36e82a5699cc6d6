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
"""The steps of docker/Dockerfile.cpu, run in a root file system with nothing but Debian's base and its Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The base image without Docker: a mount namespace whose root is a folder, and /proc of its own processes.
ENTER = """
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
for path in $2; do mkdir -p ".$path" && mount --rbind -o ro "$path" ".$path"; done
mkdir -p old && pivot_root . old && umount -l /old
cd "$3"
exec sh -c "$4"
"""
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone can make a root file system"),
    pytest.mark.skipif(shutil.which("debootstrap") is None, reason="apt-get install debootstrap"),
]


def pip_settings() -> tuple[list[Path], list[str]]:
    """This machine's way to packages: the files with pip's settings, and the folders of packages that they name."""
    files, folders = set(), set()
    said = subprocess.run([sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=True)
    for path in re.findall(r"^\s+(/\S+), exists: True", said.stdout, re.MULTILINE):
        files |= {Path(path), *map(Path, re.findall(r"constraint: (/\S+)", said.stdout))}
    for path in re.findall(r"file://(/[^\s']+)", said.stdout):
        folders.add(str(Path(path).parent))  # an index refers to the files beside it
    folders |= set(re.findall(r"(?:FIND_LINKS='|find-links: )(/[^\s']+)", said.stdout))
    return sorted(files), sorted(folders)


def debian_mirror(suite: str) -> str:
    """Where this machine has the suite's packages from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.split()[1:] == [suite]:
            return line.split()[0]
    pytest.skip(f"this machine has no packages of {suite}")


def test_the_steps_of_the_cpu_image(tmp_path: Path) -> None:
    from dockerfile_parse import DockerfileParser  # `make test-deploy` installs it

    with (ROOT / "docker/Dockerfile.cpu").open("rb") as file:
        steps = DockerfileParser(fileobj=file).structure
    root, folder = tmp_path / "root", "/"
    (image,) = [step["value"] for step in steps if step["instruction"] == "FROM"]
    python, suite = re.fullmatch(r"python:(\d\.\d+)-slim-(\w+)", image).groups()
    packages = f"ca-certificates,python3-venv,libpython{python}"  # the image's Python is built with its library
    base = ["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(root)]
    made = subprocess.run([*base, debian_mirror(suite)], capture_output=True, text=True, timeout=900)
    assert made.returncode == 0, made.stdout[-3000:]
    files, folders = pip_settings()
    for path in [*files, Path("/etc/resolv.conf"), Path("/etc/ssl/certs/ca-certificates.crt")]:
        (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.relative_to("/"))
    passed_on = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "http", "HTTP"))
    }
    environment = passed_on | {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root"}

    def run(command: str) -> str:
        inside = ["sh", "-ec", ENTER, "sh", str(root), " ".join(folders), folder, command]
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        done = subprocess.run([*spaces, *inside], env=environment, capture_output=True, text=True, timeout=2400)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    assert run("python3 --version").split()[1].startswith(f"{python}.")
    for step in steps:
        name, value = step["instruction"], step["value"]
        if name == "WORKDIR":
            folder = value
            (root / folder.lstrip("/")).mkdir(parents=True)
        elif name == "RUN":
            run(value)
        elif name == "COPY":
            assert value == ". ."
            ignored = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().splitlines()]
            ignore = shutil.ignore_patterns(*ignored)
            shutil.copytree(ROOT, root / folder.lstrip("/"), ignore=ignore, dirs_exist_ok=True)
        elif name == "CMD":
            run(" ".join(json.loads(value)))
        else:
            assert name in ("FROM", "COMMENT"), f"a step that this test does not know: {name}"
    assert (root / folder.lstrip("/") / "runs/quickstart/report.html").stat().st_size > 100_000
    shutil.rmtree(root)  # gigabytes
