// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
//
// tries: other processes, the kernel and the host's files through /proc, /sys and /dev
// minimum: namespaces
// verdict: wrong_answer

#include <cstdio>
int main() {
    const char *paths[] = {"/proc/1/environ",          "/proc/self/environ",       "/proc/self/maps",
                           "/proc/@JUDGE_PID@/maps",   "/proc/@JUDGE_PID@/environ", "/proc/net/tcp",
                           "/proc/@BYSTANDER_PID@/mem", "/proc/kallsyms",          "/proc/1/root/etc/shadow",
                           "/sys/kernel/notes",        "/dev/mem",                 "/dev/sda",
                           "/dev/vda",                 "/etc/passwd",              "/etc/shadow",
                           "@SECRET_FILE@",            "@HOME_SECRET@",            "@PROBLEM_FILE@"};
    for (const char *path : paths)
        if (FILE *file = std::fopen(path, "r")) {
            char text[64] = "";
            if (std::fread(text, 1, 63, file) > 0) std::printf("LEAK %s: %s\n", path, text);
        }
    std::puts("nothing");
}
