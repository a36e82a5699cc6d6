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
// tries: to signal everyone
// verdict: wrong_answer, runtime_error

#include <csignal>
#include <cstdio>
#include <initializer_list>
#include <unistd.h>
int main() {
    // SIGURG is ignored by all but the bystander that waits for it.
    for (pid_t pid : {-1, getppid(), @JUDGE_PID@, @BYSTANDER_PID@})
        if (pid != 0 && kill(pid, SIGURG) == 0) std::puts("LEAK signalled");
    if (kill(@BYSTANDER_PID@, SIGKILL) == 0) std::puts("LEAK killed");
    if (getppid() > 0 && kill(getppid(), SIGKILL) == 0) std::puts("LEAK killed");
    kill(getpid(), SIGSTOP - SIGSTOP);
    std::puts("nothing");
}
