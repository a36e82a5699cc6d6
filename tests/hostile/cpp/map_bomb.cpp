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
// tries: all memory, mapped and touched, shared and private, without a failure being fatal
// verdict: wrong_answer, memory_limit, time_limit
// memory: 64

#include <cstdio>
#include <sys/mman.h>
int main() {
    long total = 0;
    for (int i = 0; i < 400; ++i) {
        int how = (i % 2 ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS;
        void *got = mmap(nullptr, 1 << 22, PROT_READ | PROT_WRITE, how, -1, 0);
        if (got == MAP_FAILED) continue;
        for (long j = 0; j < 1 << 22; j += 4096) static_cast<char *>(got)[j] = 1;
        total += 4;
    }
    std::printf(total > 256 ? "LEAK %ld MiB\n" : "nothing\n", total);
}
