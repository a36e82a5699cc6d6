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
// tries: flags, sizes and offsets of its standard streams, which the next program may inherit
// verdict: wrong_answer, runtime_error, output_limit

#include <cstdio>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
int main() {
    std::puts("wrong");
    std::fflush(stdout);
    for (int fd = 0; fd < 256; ++fd) {
        fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_DIRECT | O_ASYNC);
        fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK);
        fcntl(fd, 1033, 15);
        flock(fd, LOCK_EX | LOCK_NB);
        fchmod(fd, 0);
        lseek(fd, 1L << 40, SEEK_SET);
        fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100 << 20);
        if (ftruncate(fd, 1 << 20)) continue;
    }
}
