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
// tries: the judge's expected values and earlier programs' words, in its memory and behind its descriptors
// before: plant
// verdict: wrong_answer, runtime_error

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <unistd.h>
extern char **environ;
static void look(const char *text, long size) {
    for (long i = 0; i + 28 <= size; ++i)
        if (!std::memcmp(text + i, "nemo-canary", 11) && text[i + 11] == '-' && text[i + 28 - 1] != 0)
            std::printf("LEAK %.28s\n", text + i);
}
int main(int count, char **arguments) {
    if (environ && *environ) std::printf("LEAK environment %s\n", *environ);
    if (count > 1) std::printf("LEAK argument %s\n", arguments[1]);
    static char buffer[1 << 20];
    for (int fd = 0; fd < 256; ++fd)
        for (long offset : {0L, 2L, 4096L}) {
            long got = pread(fd, buffer, sizeof buffer, offset);
            if (got > 0) look(buffer, got);
        }
    char *heap = static_cast<char *>(std::malloc(1 << 22));
    look(heap, 1 << 22);
    char *top = reinterpret_cast<char *>(&count);
    look(top, 600);
    std::puts("nothing");
}
