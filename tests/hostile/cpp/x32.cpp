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
// tries: the system calls of the x32 ABI, whose numbers have a bit more
// needs: filter
// verdict: wrong_answer, runtime_error

#include <cstdio>
#include <unistd.h>
int main() {
    const long bit = 0x40000000;
    if (syscall(bit | 41, 2, 1, 0) >= 0) std::puts("LEAK socket");
    if (syscall(bit | 57) >= 0) std::puts("LEAK fork");
    if (syscall(bit | 521, 16, 1, 0, 0) >= 0) std::puts("LEAK ptrace");
    std::puts("nothing");
}
