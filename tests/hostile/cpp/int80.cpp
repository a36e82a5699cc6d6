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
// tries: the system calls of the 32-bit ABI, which a filter for 64 bit does not know
// needs: filter
// verdict: wrong_answer, runtime_error

#include <cstdio>
static int call32(int number, int a = 0, int b = 0, int c = 0) {
    int result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
int main() {
    if (call32(359, 2, 1, 0) >= 0) std::puts("LEAK socket");
    if (call32(2) >= 0) std::puts("LEAK fork");
    if (call32(310, 0x10000000) >= 0) std::puts("LEAK unshare");
    if (call32(26, 16, 1, 0) >= 0) std::puts("LEAK ptrace");
    std::puts("nothing");
}
