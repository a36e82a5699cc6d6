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
"""What this machine has, and what that means for the user: the checks behind `nemo-prm doctor`.

Every check is a function that returns lines; none raises because something is absent. Packages are looked up by their
metadata, not imported, except torch (to ask it about CUDA) and `nemo_prm.megatron.compat` (to ask its patches).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
import sysconfig
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nemo_prm import __version__
from nemo_prm.sandbox.level import LEVELS, offered_levels, why_not

State = Literal["ok", "degraded", "missing"]

PORTS = {"reward": 5555, "critic": 5556, "verifier": 5557, "generation": 5560}
DISTRIBUTIONS = ("nemo-toolkit", "nemo-aligner", "megatron-core", "nvidia-pytriton", "torch")
MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it stands, what was found, and what that means for the user."""

    group: str
    name: str
    state: State
    found: str
    meaning: str


def examine() -> list[Check]:
    """Run every check, in the order they are printed."""
    checks: list[Check] = []
    for look in (python, stack, accelerator, container_packages, triton, ports, sandbox, machine, patches):
        checks += look()
    return checks


def as_table(checks: list[Check]) -> str:
    """A table for people: one block per group, the meaning under each line, 100 columns wide."""
    width = max(len(check.name) for check in checks)
    lines = [f"nemo-prm {__version__} on {platform.platform()}"]
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            lines += ["", group]
        lines.append(f"  {check.name:<{width}}  {check.state:<8}  {check.found}")
        lines += textwrap.wrap(check.meaning, 98, initial_indent=" " * 6, subsequent_indent=" " * 6)
    count = {state: sum(check.state == state for check in checks) for state in ("ok", "degraded", "missing")}
    return "\n".join([*lines, "", ", ".join(f"{number} {state}" for state, number in count.items())])


def as_json(checks: list[Check]) -> str:
    """The same for programs: `{"version", "platform", "checks": [{group, name, state, found, meaning}]}`."""
    return json.dumps(
        {"version": __version__, "platform": platform.platform(), "checks": [asdict(check) for check in checks]},
        indent=2,
    )


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def importable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a half-installed parent package
        return False


def python() -> list[Check]:
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        return [Check("Python", "version", "ok", version, "Supported (3.10 to 3.12; 3.11 is the one tested most).")]
    return [Check("Python", "version", "degraded", version, "Not supported: NeMo-Aligner 0.7 runs on 3.10 to 3.12.")]


def stack() -> list[Check]:
    """The host: NeMo, NeMo-Aligner, Megatron, PyTriton."""
    versions = {name: version_of(name) for name in DISTRIBUTIONS}
    checks = []
    for name, version in versions.items():
        state: State = "ok" if version else "missing"
        meaning = "Installed." if version else "Labeling against a remote policy works; training and serving do not."
        if name == "megatron-core" and version and not version.startswith(("0.11.", "0.12.")):
            state, meaning = "degraded", "NeMo-Aligner 0.7 does not run on this version; install 0.11.0 or 0.12.3."
        if name == "nemo-aligner" and version and not version.startswith("0.7."):
            state, meaning = "degraded", "Written for 0.7; another version may lack or change what is overridden."
        checks.append(Check("Stack", name, state, version or "not installed", meaning))
    if None in versions.values():
        hint = "pip install -c constraints.txt '.[nemo]', or use NVIDIA's NeMo container (docker/Dockerfile)"
        checks.append(Check("Stack", "how to install", "missing", hint, "Installs what is missing above."))
    return checks


def accelerator() -> list[Check]:
    if not importable("torch"):
        return [Check("Accelerator", "CUDA", "missing", "no torch", "Nothing that needs tensors runs here.")]
    import torch

    if torch.cuda.is_available():
        names = ", ".join(sorted({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}))
        found = f"{torch.cuda.device_count()} device(s): {names}; torch CUDA {torch.version.cuda}"
        return [Check("Accelerator", "CUDA", "ok", found, "Training and serving use the GPU over NCCL.")]
    build = f"torch built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch built without CUDA"
    meaning = "Everything runs on the CPU over gloo: right for the quickstart and for tests, too slow for real models."
    return [Check("Accelerator", "CUDA", "missing", f"no device; {build}", meaning)]


def container_packages() -> list[Check]:
    """What NVIDIA's container brings and PyPI does not."""
    # Another project owns the name "apex" on PyPI, so look for the extension that only NVIDIA's Apex builds.
    wanted = (
        ("Transformer Engine", "transformer_engine", "Attention and layers fall back to Megatron's local ones."),
        ("Apex", "amp_C", "Fused Adam, fused norms and megatron_amp_O2 are off; torch's own are used."),
        ("TensorRT-LLM", "tensorrt_llm", "Rollouts are generated by Megatron itself, several times slower."),
    )
    return [
        Check("Accelerator", name, "ok", "installed", "Available.")
        if importable(package)
        else Check("Accelerator", name, "missing", "not installed", meaning)
        for name, package, meaning in wanted
    ]


def triton() -> list[Check]:
    """What the servers need beside PyTriton itself."""
    folder, library = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and (Path(folder) / library).is_file():
        meaning = "The servers put its folder on LD_LIBRARY_PATH, so that Triton's Python back end runs this Python."
        checks = [Check("Servers", "Python library", "ok", str(Path(folder) / library), meaning)]
    else:
        meaning = (
            "Triton's Python back end falls back to the system's libpython; servers fail where the versions differ. "
            "Use a Python built with --enable-shared (Debian's and conda's are)."
        )
        checks = [Check("Servers", "Python library", "missing", "this Python has no shared library", meaning)]
    shm = Path("/dev/shm")
    free = shutil.disk_usage(shm).free / MIB if shm.is_dir() else 0
    if free >= 256:
        checks.append(Check("Servers", "/dev/shm", "ok", f"{free:.0f} MiB free", "Enough for Triton's back ends."))
    else:
        meaning = "Triton passes tensors through it; start the container with --shm-size=1g or --ipc=host."
        checks.append(Check("Servers", "/dev/shm", "degraded", f"{free:.0f} MiB free", meaning))
    return checks


def ports() -> list[Check]:
    """Whether the default ports of the servers can be bound on the loopback interface."""
    checks = []
    for server, port in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                check = Check("Servers", f"port {port}", "ok", "free", f"Default of serve_{server}.")
            except OSError as error:
                meaning = f"serve_{server} cannot use its default; pass another port. The quickstart picks free ones."
                check = Check("Servers", f"port {port}", "degraded", error.strerror or "in use", meaning)
        checks.append(check)
    return checks


def sandbox() -> list[Check]:
    """The isolation that candidate programs get here: boxes are started, and a program tries to get out of them."""
    meanings = {
        "full": "A program sees neither files, network nor processes of yours, and may make few system calls.",
        "namespaces": "As full without the system call filter: the kernel is open to attack.",
        "rlimits": "Limits alone, with a filter and file rules where the kernel has them: docs/sandbox.md.",
    }
    offered, checks = offered_levels(), []
    for level in LEVELS:
        reason = why_not(level)
        state: State = "ok" if reason is None else "missing"
        found = ("the default" if level == offered[0] else "works") if reason is None else reason
        checks.append(Check("Sandbox", f"level {level}", state, found, meanings[level]))
    compiler = shutil.which("g++")
    state = "ok" if compiler else "missing"
    return [*checks, Check("Sandbox", "g++", state, compiler or "not on PATH", "Needed only for problems in C++.")]


def machine() -> list[Check]:
    cores = len(os.sched_getaffinity(0))
    memory = _available_memory() / GIB
    disk = shutil.disk_usage(Path.cwd()).free / GIB
    rows: tuple[tuple[str, bool, str, str], ...] = (
        ("cores", cores >= 2, str(cores), "The quickstart is made for 2 cores."),
        ("memory", memory >= 8, f"{memory:.1f} GiB available", "The quickstart needs about 8 GiB."),
        ("disk", disk >= 5, f"{disk:.1f} GiB free here", "The stack takes 3 GiB, a quickstart under 1 GiB."),
    )
    return [Check("Machine", name, "ok" if fine else "degraded", found, text) for name, fine, found, text in rows]


def patches() -> list[Check]:
    """Which remedies of `nemo_prm.megatron.compat` would be active in a process that imports NeMo here."""
    if not importable("megatron.core"):
        text = "Patches adapt NeMo and Megatron, which are not installed."
        return [Check("Patches", "compat", "missing", "no stack to patch", text)]
    try:
        compat = importlib.import_module("nemo_prm.megatron.compat")
        found = [(patch, bool(patch.needed())) for patch in compat.PATCHES]
    except Exception as error:  # a broken heavy package must not hide the other lines
        text = "Training and serving will probably fail the same way."
        return [Check("Patches", "compat", "degraded", f"{type(error).__name__}: {error}", text)]
    return [
        Check(
            "Patches",
            patch.name,
            "ok",
            f"{'active' if needed else 'not needed'} ({patch.versions})",
            f"Without: {patch.reason}",
        )
        for patch, needed in found
    ]


def _available_memory() -> float:
    """Bytes a new process may use: what the kernel calls available, or a container's own limit if lower."""
    fields = dict(line.split(":") for line in _read("/proc/meminfo").splitlines() if ":" in line)
    available = float(fields.get("MemAvailable", "0 kB").split()[0]) * 1024
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(limit).strip()
        if text.isdigit():
            available = min(available, float(text))
    return available


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
