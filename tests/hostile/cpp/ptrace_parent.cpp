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
// tries: to trace and to read its parent, the judge and a bystander
// minimum: namespaces
// verdict: wrong_answer, runtime_error

#include <cstdio>
#include <initializer_list>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>
int main() {
    for (pid_t pid : {getppid(), @JUDGE_PID@, @BYSTANDER_PID@}) {
        if (pid <= 0) continue;
        if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0) std::puts("LEAK traced");
        char text[64];
        iovec local{text, sizeof text}, remote{reinterpret_cast<void *>(0x400000), sizeof text};
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) > 0) std::puts("LEAK memory");
    }
    std::puts("nothing");
}
