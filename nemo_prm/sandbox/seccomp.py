# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The system calls that a candidate program may make: an allow-list, compiled by libseccomp into a BPF program.

Whatever is not named here fails with EPERM: sockets, processes, SysV and POSIX shared memory, mounts, namespaces,
ptrace, keyrings, bpf, io_uring, memfd and so on. A program may have threads. The zygote loads the program into each
child as the last thing before the candidate's code runs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import tempfile

from nemo_prm.sandbox.confinement import OWN_PID

ALLOWED = """
access arch_prctl brk chdir clock_getres clock_gettime clock_nanosleep close close_range copy_file_range dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd eventfd2 exit exit_group faccessat
faccessat2 fchdir fdatasync fstat fstatfs fsync ftruncate futex getcwd getdents getdents64 getegid geteuid getgid
getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
get_robust_list getrusage getsid getsockname gettid gettimeofday getuid getcpu link linkat lseek lstat madvise
membarrier mincore mkdir mkdirat mmap mprotect mremap msync munmap nanosleep newfstatat pause pipe pipe2
poll ppoll pread64 preadv pselect6 pwrite64 pwritev read readlink readlinkat readv recvfrom recvmsg rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend
rt_sigtimedwait sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
sched_yield select sendfile sendmsg sendto set_robust_list set_tid_address setitimer shutdown sigaltstack stat
statfs statx symlink symlinkat sysinfo time times umask uname unlink unlinkat wait4 waitid write writev alarm
"""

# Of files by name, which Landlock does not cover: for programs that see no files but their own.
ALLOWED_IN_A_ROOT_OF_ITS_OWN = "chmod fchmod fchmodat truncate"
# Truncating needs no right to write where a file is opened to be read, and Landlock learned of it in Linux 6.2.
OPENING = {"open": 1, "openat": 2}  # with the place of their flags
# Said to be done, and not done: the times and locks of /dev/null and of the standard library are the machine's. A
# program that locks a file of its own is alone with it.
IDLE = "flock futimesat utime utimensat utimes"

# Programs ask, and go on when a file system has none.
XATTRS = "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr"

CLONE_THREAD = 0x00010000
AF_UNIX, SOCK_STREAM, SOCK_TYPE_MASK = 1, 1, 0xF
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
FCNTLS = (0, 1, 2, 3, 4, 1030, 1031, 1032)  # no F_SETOWN or F_SETSIG: they send signals to others
LOCKS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW, and those of open files
SOCKOPTS = (3, 4, 38, 39)  # SO_TYPE, SO_ERROR, SO_PROTOCOL, SO_DOMAIN; to be read
SOL_SOCKET = 1
PRCTLS = (15, 16)  # PR_SET_NAME, PR_GET_NAME


@functools.lru_cache
def program(may_exec: bool, own_root: bool) -> bytes:
    """Compile the filter.

    Args:
        may_exec: allow execve, for the one exec that starts a compiled program.
        own_root: the program has a mount namespace, in which there is nothing to harm.

    Returns:
        An array of `struct sock_filter`, in which `OWN_PID` stands for the pid of the process to be confined.

    Raises:
        ImportError: libseccomp or its binding is not installed.
        OSError: libseccomp could not compile it.
    """
    try:
        import pyseccomp as seccomp
    except RuntimeError as error:  # the binding's way of saying that there is no libseccomp
        raise ImportError(str(error)) from None

    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    with contextlib.suppress(OSError):  # libseccomp before 2.5
        rules.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree: loading a linear filter takes the kernel 0.2 ms
    names = ALLOWED.split()
    names += ALLOWED_IN_A_ROOT_OF_ITS_OWN.split() if own_root else []
    names += ["execve", "execveat"] if may_exec else []
    for name in names:
        try:
            number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
        except (OSError, ValueError):
            continue  # newer than the library
        rules.add_rule(seccomp.ALLOW, number)

    def allow_if(name: str, *args: seccomp.Arg) -> None:
        rules.add_rule(seccomp.ALLOW, name, *args)

    for name, place in OPENING.items():
        if own_root:
            rules.add_rule(seccomp.ALLOW, name)
            continue
        mask = os.O_ACCMODE | os.O_TRUNC
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_TRUNC):
            allow_if(name, seccomp.Arg(place, seccomp.MASKED_EQ, mask, flags))
    allow_if("clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD))
    for name in ("kill", "tgkill"):
        allow_if(name, seccomp.Arg(0, seccomp.EQ, OWN_PID))
    allow_if("prlimit64", seccomp.Arg(0, seccomp.EQ, 0))
    allow_if(
        "socketpair",  # asyncio wakes itself up with one; a datagram socket could send to a name
        seccomp.Arg(0, seccomp.EQ, AF_UNIX),
        seccomp.Arg(1, seccomp.MASKED_EQ, SOCK_TYPE_MASK, SOCK_STREAM),
    )
    for request in IOCTLS:
        allow_if("ioctl", seccomp.Arg(1, seccomp.EQ, request))
    for command in FCNTLS:
        allow_if("fcntl", seccomp.Arg(1, seccomp.EQ, command))
    for option in SOCKOPTS:
        allow_if("getsockopt", seccomp.Arg(1, seccomp.EQ, SOL_SOCKET), seccomp.Arg(2, seccomp.EQ, option))
    for name in IDLE.split():
        rules.add_rule(seccomp.ERRNO(0), name)
    for command in LOCKS:
        rules.add_rule(seccomp.ERRNO(0), "fcntl", seccomp.Arg(1, seccomp.EQ, command))
    for option in PRCTLS:
        allow_if("prctl", seccomp.Arg(0, seccomp.EQ, option))
    # glibc takes the older call when the newer one is not there; its flags lie in memory, where no filter can look.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), seccomp.resolve_syscall(seccomp.Arch.NATIVE, "clone3"))
    for name in XATTRS.split():
        rules.add_rule(seccomp.ERRNO(errno.EOPNOTSUPP), name)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
