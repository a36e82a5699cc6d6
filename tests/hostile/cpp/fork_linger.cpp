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
// tries: children that outlive it, in sessions of their own (at a level where it may fork at all)
// verdict: wrong_answer, runtime_error, time_limit

#include <csignal>
#include <cstdio>
#include <unistd.h>
int main() {
    for (int i = 0; i < 8; ++i)
        if (fork() == 0) {
            for (int number = 1; number < 32; ++number) std::signal(number, SIG_IGN);
            setsid();
            if (fork() > 0) _exit(0);
            sleep(3600);
            _exit(0);
        }
    std::puts("wrong");
}
