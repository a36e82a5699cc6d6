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
"""Judges programs for a long while, a third of them hostile, and looks for anything that grows.

    python scripts/bench/sandbox_soak.py --programs 100000

Memory and descriptors of the judge and of its warm processes, their number, mounts and temporary files must be at the
end what they were after the warm-up; every innocent program must pass, and no hostile one of tests/hostile may. Each
of those is judged at the start; the slow ones are then drawn more rarely. Exits with 1 if something is amiss.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Sequence

if TYPE_CHECKING:
    from hostile_watch import Program, Watch

    from nemo_prm.sandbox.verifier import SandboxVerifier

ROOT = Path(__file__).resolve().parents[2]
HOSTILE_SHARE = 1 / 3
TOO_SLOW_S = 2.0  # such a program is judged at the start alone
SETTLE_S = 0.5  # the kernel reaps and unmounts after the fact
# Test code that is more than assertions, on a slow candidate: some of these make every worker start all of its boxes.
SLOW_RIGHT = "import time\ndef f(x):\n    time.sleep(0.05)\n    return x\n"
LOOPING_CHECK = "def check(candidate):\n    for x in range(3):\n        assert candidate(x) == x\n"


class Sample(NamedTuple):
    """What must not grow; MiB and counts. `tmp` counts the sandbox's own temporary files."""

    judge_mib: float
    warm_mib: float
    descriptors: float
    processes: float
    mounts: float
    tmp: float


SLACK = Sample(8.0, 8.0, 0, 0, 0, 0)  # how much more there may be at the end ...
SHARE = Sample(0.05, 0.05, 0, 0, 0, 0)  # ... or this share more


class Soak:
    """Judges in chunks, takes a sample after each, and remembers what was amiss."""

    def __init__(self, verifier: SandboxVerifier, watch: Watch, hostile: Sequence[Program], seed: int) -> None:
        from hostile_watch import innocents

        self.verifier, self.watch = verifier, watch
        self.hostile, self.innocent = list(hostile), innocents()
        self.random = random.Random(seed)
        self.weights: list[float] = []
        self.judged = 0
        self.statuses: collections.Counter[str] = collections.Counter()  # of hostile programs
        self.amiss: list[str] = []
        self.samples: list[Sample] = []

    def warm_up(self) -> None:
        """Judge every hostile program by itself, and note how long it takes; every innocent on every worker."""
        kept = []
        for program in self.hostile:
            started = time.monotonic()
            self._judge([program])
            seconds = time.monotonic() - started
            if seconds < TOO_SLOW_S:
                kept.append(program)
                self.weights.append(1 / (0.02 + seconds))
            else:
                print(f"judged at the start alone: {program.name}, {seconds:.1f} s", flush=True)
        self.hostile = kept
        self._judge(self.innocent * 4)
        self.samples.append(self._sample())

    def chunk(self, count: int) -> None:
        num_hostile = round(count * HOSTILE_SHARE)
        programs = self.random.choices(self.hostile, self.weights, k=num_hostile)
        programs += self.random.choices(self.innocent, k=count - num_hostile)
        self.random.shuffle(programs)
        self._judge(programs)
        self.samples.append(self._sample())

    def growth(self) -> list[str]:
        """What is more in the last third of the samples than in the first, the warm-up left out."""
        third = (len(self.samples) - 1) // 3
        if third < 1:
            return ["too few samples to say whether anything grew"]
        found = []
        for i, name in enumerate(Sample._fields):
            before = statistics.median(sample[i] for sample in self.samples[1 : 1 + third])
            after = statistics.median(sample[i] for sample in self.samples[-third:])
            if after - before > max(SLACK[i], SHARE[i] * before):
                found.append(f"{name} grew from {before:.1f} to {after:.1f}")
        return found

    def _judge(self, programs: Sequence[Program]) -> None:
        from hostile_watch import leaks

        jobs = []
        for i, program in enumerate(programs):
            problem, text = self.watch.job(program)
            if program.language == "python":  # each a program of its own; C++ is compiled once
                text += f"\n# {self.judged + i}\n"
            jobs.append((problem, text))
        for program, verdict in zip(programs, self.verifier.verify_many(jobs)):
            self.judged += 1
            innocent = "passed" in program.verdicts
            if not innocent:
                self.statuses[verdict.status] += 1
            if verdict.passed != innocent or leaks(verdict):
                self.amiss.append(f"program {self.judged}, {program.name}: {verdict}")
                print(self.amiss[-1], flush=True)

    def _sample(self) -> Sample:
        import psutil

        from nemo_prm.types import Problem, TestCase

        problem = Problem("settle", "", (TestCase("code", code=LOOPING_CHECK),), entry_point="f", time_limit_s=10.0)
        for verdict in self.verifier.verify_many([(problem, SLOW_RIGHT)] * 4 * self.verifier.workers):
            if not verdict.passed:
                self.amiss.append(f"after program {self.judged}: {verdict}")
        time.sleep(SETTLE_S)
        ours = psutil.Process()
        below = [process for process in ours.children(recursive=True) if process.pid != self.watch.bystander.pid]
        return Sample(
            judge_mib=ours.memory_info().rss / 2**20,
            warm_mib=sum(process.memory_info().rss for process in below) / 2**20,
            descriptors=ours.num_fds() + sum(process.num_fds() for process in below),
            processes=len(below),
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            tmp=len(list(self.watch.temporary.rglob("*"))),
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100_000, help="beyond the warm-up (%(default)s)")
    parser.add_argument("--every", type=int, default=1000, help="programs between two samples (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="programs run at once (one per core)")
    parser.add_argument("--minimum-level", default="full", help="refuse to start below this isolation (%(default)s)")
    parser.add_argument("--level", help="take exactly this isolation")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "integration")]
    from hostile_watch import Watch, load_corpus

    from nemo_prm.sandbox.verifier import SandboxVerifier

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    watch = Watch()
    code = 0
    try:
        with SandboxVerifier(
            args.workers, stop_at_first_failure=True, minimum_level=args.minimum_level, level=args.level
        ) as verifier:
            hostile = [program for program in load_corpus() if program.holds_at(verifier.level)]
            soak = Soak(verifier, watch, hostile, args.seed)
            print(
                f"isolation {verifier.level}, {verifier.workers} worker(s), {len(hostile)} hostile programs",
                flush=True,
            )
            try:
                run(soak, args.programs, args.every)
            except KeyboardInterrupt:
                code = 128 + signal.SIGINT
            processes = round(soak.samples[-1].processes) + 1 if soak.samples else watch.processes()  # + the bystander
            soak.amiss += [*soak.growth(), *watch.trouble(processes)]
    finally:
        watch.close()
    print(f"\n{soak.judged} programs; hostile ones: {dict(soak.statuses)}")
    print("\n".join(soak.amiss[-20:]) or "nothing grew, nothing was left, no verdict was wrong")
    return code or int(bool(soak.amiss))


def run(soak: Soak, programs: int, every: int) -> None:
    started = time.monotonic()
    soak.warm_up()
    warm_up_s, left = time.monotonic() - started, programs
    print(f"warm-up: {soak.judged} programs in {warm_up_s:.0f} s; {len(soak.hostile)} hostile ones go on")
    print(f"\n{'programs':>9}{'seconds':>9}" + "".join(f"{name:>13}" for name in Sample._fields) + f"{'load':>7}")
    while True:
        seconds = time.monotonic() - started - warm_up_s
        row = "".join(f"{value:>13.0f}" for value in soak.samples[-1])
        print(f"{programs - left:>9}{seconds:>9.0f}{row}{os.getloadavg()[0]:>7.1f}", flush=True)
        if left == 0:
            return
        soak.chunk(min(every, left))
        left -= min(every, left)


if __name__ == "__main__":
    sys.exit(main())
