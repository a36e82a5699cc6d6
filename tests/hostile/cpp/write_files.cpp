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
// tries: files outside its folder, and more of them inside than there is room
// minimum: namespaces
// verdict: wrong_answer, runtime_error, output_limit

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
static char block[1 << 20];
int main() {
    std::signal(SIGXFSZ, SIG_IGN);
    const char *paths[] = {"@DROP_FOLDER@/nemo_hostile_dropped", "@REPOSITORY@/nemo_hostile_dropped",
                           "/dev/shm/nemo_hostile_dropped",      "/var/tmp/nemo_hostile_dropped",
                           "/usr/lib/nemo_hostile_dropped",      "/nemo_hostile_dropped"};
    for (const char *path : paths)
        if (open(path, O_CREAT | O_WRONLY, 0666) >= 0) std::printf("LEAK %s\n", path);
    long total = 0;
    for (int i = 0; i < 50; ++i) {
        char name[64];
        std::snprintf(name, sizeof name, "nemo_hostile_%d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0666);
        unlink(name);
        for (long n; (n = write(fd, block, sizeof block)) > 0 && total < 250 << 20;) total += n;
    }
    std::puts(total >= 200 << 20 ? "LEAK 200 MB of disk" : "nothing");
}
