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
#
# tries: settings of the kernel and of its own process through /proc and /sys
# kind: call
# minimum: namespaces
# verdict: wrong_answer


def f(x):
    done = []
    for path, value in (
        ("/proc/sys/kernel/hostname", "nemo-hostile"),
        ("/proc/sys/kernel/core_pattern", None),
        ("/proc/sys/vm/overcommit_memory", None),
        ("/proc/sys/kernel/ns_last_pid", "1"),
        ("/proc/self/uid_map", "0 0 4294967295"),
        ("/proc/self/oom_score_adj", "-1000"),
        ("/proc/1/oom_score_adj", "1000"),
        ("/proc/sysrq-trigger", None),
        ("/sys/fs/cgroup/cgroup.procs", "0"),
        ("/sys/fs/cgroup/memory/cgroup.procs", "0"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", None),
        ("/dev/kmsg", None),
        ("/dev/mem", None),
    ):
        try:
            with open(path, "r+" if value is None else "w") as file:
                if value is not None:
                    file.write(value)
            done.append(path)
        except (OSError, ValueError):
            pass
    return f"LEAK wrote {done}" if done else "nothing"
