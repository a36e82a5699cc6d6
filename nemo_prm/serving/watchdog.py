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
"""Cleans up after a server that was killed: `python watchdog.py <pid> <directory>`.

Triton runs as a child of the Python server, its model stubs as children of Triton. When the server dies by SIGKILL
nothing in it can end them; PyTriton asks the kernel to send Triton a SIGTERM, on which it keeps its port for seconds
while it waits for stubs whose other end is gone. This process waits for the server's end, then kills what runs from
the server's workspace (Triton and the stubs are started from copies in there) and deletes what they leave behind.

Standard library only: it is started as a script, in a session of its own, and must stay small.
"""

from __future__ import annotations

import contextlib
import glob
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Iterable


def wait_for_end(pid: int) -> None:
    """Return when the parent process `pid` has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # an old kernel or a seccomp filter; or it has ended already
        while os.getppid() == pid:
            time.sleep(0.2)
        return
    if os.getppid() == pid:
        select.select([pidfd], [], [])
    os.close(pidfd)


def processes_from(directory: str) -> dict[int, list[str]]:
    """Process ids and arguments of the processes whose executable was started from `directory`."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            arguments = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # ended in the meantime, or another user's
            continue
        if arguments[0].startswith(directory + "/"):
            found[int(entry)] = arguments
    return found


def runs(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # empty once it has ended
    except OSError:
        return False


def model_folders(processes: dict[int, list[str]]) -> dict[int, Path]:
    """The stubs among `processes_from`, and where each has its model: folderXXXXXX/1/model.py, its first argument."""
    models = {process: Path(arguments[1]) for process, arguments in processes.items() if len(arguments) > 1}
    return {
        process: model.parent.parent
        for process, model in models.items()
        if model.name == "model.py" and model.parent.parent.name.startswith("folder")
    }


def clean(pid: int, directory: str, known: Iterable[Path] = (), patience_s: float = 10.0) -> None:
    """Kill what runs from `directory`; delete it, the stubs' model folders and the shared memory of server `pid`.

    Args:
        pid: of the server.
        directory: of its Triton.
        known: model folders of stubs that may have ended.
        patience_s: for processes to die.
    """
    folders = set(known)
    deadline = time.monotonic() + patience_s
    while (running := processes_from(directory)) and time.monotonic() < deadline:
        folders |= set(model_folders(running).values())
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    for path in [Path(directory), *folders]:
        shutil.rmtree(path, ignore_errors=True)
    for region in glob.glob(f"/dev/shm/pytrtion{pid}-*"):  # PyTriton's spelling
        Path(region).unlink(missing_ok=True)


if __name__ == "__main__":
    server, workspace = int(sys.argv[1]), sys.argv[2]
    wait_for_end(server)
    clean(server, workspace)
