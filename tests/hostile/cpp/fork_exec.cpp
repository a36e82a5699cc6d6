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
// tries: processes and other programs
// needs: filter
// verdict: wrong_answer, runtime_error

#include <cstdio>
#include <cstdlib>
#include <spawn.h>
#include <unistd.h>
int main() {
    if (fork() >= 0 || vfork() >= 0) std::puts("LEAK forked");
    if (std::system("echo LEAK system; touch '@DROP_FOLDER@/nemo_hostile_cpp'") == 0) std::puts("LEAK system");
    if (FILE *pipe = popen("echo LEAK popen", "r")) {
        char line[64] = "";
        if (std::fgets(line, sizeof line, pipe)) std::puts(line);
    }
    char *arguments[] = {const_cast<char *>("sh"), nullptr};
    pid_t pid;
    if (posix_spawn(&pid, "/bin/sh", nullptr, nullptr, arguments, nullptr) == 0) std::puts("LEAK spawned");
    std::puts("nothing");
}
