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
// tries: code before and after main, in place of library functions, and a handler for every signal
// verdict: wrong_answer, runtime_error, time_limit

#include <csignal>
#include <cstdio>
#include <unistd.h>
extern "C" void __cxa_finalize(void *) { _exit(0); }
extern "C" int puts(const char *) { _exit(0); }
static void leave(int) { _exit(0); }
__attribute__((constructor)) static void before() {
    for (int number = 1; number < 65; ++number) std::signal(number, leave);
    write(1, "passed\n", 7);
}
__attribute__((destructor)) static void after() { write(1, "passed\n", 7); }
int main() {
    std::puts("passed");
    __builtin_trap();
}
