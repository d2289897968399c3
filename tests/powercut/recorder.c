/* LD_PRELOAD: appends every change below $POWERCUT_DIR, and what goes over connections to 127.0.0.1:$POWERCUT_PORT, to
 * $POWERCUT_LOG, in the order in which it happens in all threads and processes.
 *
 * An event is written in one append, so that events do not mix. A change is logged after its call has returned, what is
 * sent before its call: so an acknowledgement is never later in the log than in the world, and a change never earlier.
 * An fsync has two events: it makes durable what was logged before the first one, once the second is logged.
 *
 * Files are named by inode. Shared, writable mappings other than SQLite's -shm, and a few others, are logged as unknown,
 * and tests/powercut/recording.py refuses such a recording. What is not here at all (links, copies within the kernel)
 * tests/powercut/cutting.py notices: the files are not what the log says.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, SEND, SENT, RECEIVE, UNKNOWN };

struct event {
    uint32_t size; /* of what follows the header */
    uint32_t kind;
    uint64_t inode;
    uint64_t number; /* an offset, a size, which call of fsync it is, or how much was sent */
};

/* On the 64-bit systems that this is for, both names of a call are one. */
#define SAME(name, other) extern __typeof(other) name __attribute__((alias(#other)));

static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_size;
static int port;
static uint64_t calls;

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("POWERCUT_DIR"), *file = getenv("POWERCUT_LOG"), *number = getenv("POWERCUT_PORT");
    if (!directory || !file || !realpath(directory, root))
        return;
    root_size = strlen(root);
    port = number ? atoi(number) : 0;
    int opened = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_fd = syscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, 512); /* out of the way of what the program closes */
    syscall(SYS_close, opened);
    if (log_fd < 0)
        abort();
}

static void append(enum kind kind, uint64_t inode, uint64_t number, const struct iovec *parts, int count) {
    struct event head = {0, kind, inode, number};
    struct iovec all[17] = {{&head, sizeof head}};
    for (int i = 0; i < count; i++) {
        all[i + 1] = parts[i];
        head.size += parts[i].iov_len;
    }
    int saved = errno;
    if (syscall(SYS_writev, log_fd, all, count + 1) != (long)(sizeof head + head.size))
        abort(); /* a recording with a gap proves nothing */
    errno = saved;
}

static void append_bytes(enum kind kind, uint64_t inode, uint64_t number, const void *data, size_t size) {
    struct iovec part = {(void *)data, size};
    append(kind, inode, number, &part, 1);
}

static void unknown(const char *what) { append_bytes(UNKNOWN, 0, 0, what, strlen(what)); }

static int is_below(const char *path) {
    return strncmp(path, root, root_size) == 0 && (path[root_size] == '/' || path[root_size] == 0);
}

/* Return the length of the path of a descriptor that is below the root, or is the root; else 0. */
static size_t path_of(int fd, char path[PATH_MAX]) {
    char link[40];
    if (log_fd < 0 || fd < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    errno = saved;
    if (size <= 0)
        return 0;
    path[size] = 0;
    return is_below(path) ? size : 0;
}

static uint64_t inode_of(int fd) {
    struct stat found;
    int saved = errno;
    uint64_t inode = fstat(fd, &found) ? 0 : found.st_ino;
    errno = saved;
    return inode;
}

/* Return the inode of a file below the root, else 0. */
static uint64_t watched(int fd) {
    char path[PATH_MAX];
    return path_of(fd, path) ? inode_of(fd) : 0;
}

/* Write the real path of a name that need not exist; return its length if it is below the root, else 0. */
static size_t resolved(int at, const char *name, char path[PATH_MAX]) {
    char parent[PATH_MAX];
    if (log_fd < 0 || strlen(name) >= PATH_MAX)
        return 0;
    strcpy(parent, name);
    size_t size = strlen(parent);
    while (size > 1 && parent[size - 1] == '/')
        parent[--size] = 0;
    char *slash = strrchr(parent, '/'), *base = slash ? slash + 1 : parent, kept[NAME_MAX + 1];
    snprintf(kept, sizeof kept, "%s", base);
    if (slash)
        slash[slash == parent] = 0;
    int saved = errno;
    int fd = syscall(SYS_openat, at, slash ? parent : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    size_t length = fd < 0 ? 0 : path_of(fd, path);
    if (fd >= 0)
        syscall(SYS_close, fd);
    errno = saved;
    if (!length || length + strlen(kept) + 2 > PATH_MAX)
        return 0;
    path[length++] = '/';
    strcpy(path + length, kept);
    return length + strlen(kept);
}

/* ---------------------------------------------------------------- names */

static int opened(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int fd = syscall(SYS_openat, at, name, flags, mode);
    size_t size = fd >= 0 && flags & (O_CREAT | O_TRUNC) ? path_of(fd, path) : 0;
    if (size) {
        append_bytes(OPEN, inode_of(fd), 0, path, size);
        if (flags & O_TRUNC)
            append(TRUNCATE, inode_of(fd), 0, NULL, 0);
    }
    return fd;
}

#define OPENS(name, at, ...)                                                                                           \
    int name(__VA_ARGS__, int flags, ...) {                                                                            \
        mode_t mode = 0;                                                                                               \
        if (__OPEN_NEEDS_MODE(flags)) {                                                                                \
            va_list more;                                                                                              \
            va_start(more, flags);                                                                                     \
            mode = va_arg(more, mode_t);                                                                               \
            va_end(more);                                                                                              \
        }                                                                                                              \
        return opened(at, path, flags, mode);                                                                          \
    }
OPENS(open, AT_FDCWD, const char *path)
OPENS(open64, AT_FDCWD, const char *path)
OPENS(openat, at, int at, const char *path)
OPENS(openat64, at, int at, const char *path)

int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    size_t old_size = resolved(at, from, old), new_size = resolved(to_at, to, new);
    int result = syscall(SYS_renameat2, at, from, to_at, to, flags);
    if (result || !(old_size || new_size))
        return result;
    if (flags || !old_size || !new_size)
        unknown("a rename with flags, or into or out of the directory");
    struct iovec parts[2] = {{old, old_size + 1}, {new, new_size}};
    append(RENAME, 0, 0, parts, 2);
    return result;
}
int renameat(int at, const char *from, int to_at, const char *to) { return renameat2(at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int removed(int at, const char *name, int flags) {
    char path[PATH_MAX];
    size_t size = resolved(at, name, path);
    int result = syscall(SYS_unlinkat, at, name, flags);
    if (result == 0 && size)
        append_bytes(UNLINK, 0, 0, path, size);
    return result;
}

int unlink(const char *name) { return removed(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return removed(AT_FDCWD, name, AT_REMOVEDIR); }
int unlinkat(int at, const char *name, int flags) { return removed(at, name, flags); }

int mkdirat(int at, const char *name, mode_t mode) {
    char path[PATH_MAX];
    size_t size = resolved(at, name, path);
    int result = syscall(SYS_mkdirat, at, name, mode);
    struct stat found;
    if (result == 0 && size)
        append_bytes(MKDIR, lstat(path, &found) ? 0 : found.st_ino, 0, path, size);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* ---------------------------------------------------------------- contents */

static ssize_t written(int fd, const struct iovec *parts, int count, off_t offset, ssize_t result) {
    uint64_t inode = result > 0 ? watched(fd) : 0;
    if (!inode)
        return result;
    if (count > 16) {
        unknown("a write of more than 16 parts");
        return result;
    }
    if (offset < 0)
        offset = lseek(fd, 0, SEEK_CUR) - result;
    struct iovec some[16];
    size_t left = result;
    for (int i = 0; i < count; i++) {
        some[i] = parts[i];
        if (some[i].iov_len > left)
            some[i].iov_len = left;
        left -= some[i].iov_len;
    }
    append(WRITE, inode, offset, some, count);
    return result;
}

static int is_broker(int fd) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    if (log_fd < 0 || !port)
        return 0;
    int saved = errno, failed = getpeername(fd, (struct sockaddr *)&peer, &size);
    errno = saved;
    return !failed && peer.sin_family == AF_INET && ntohs(peer.sin_port) == port;
}

static ssize_t received(int fd, const void *data, ssize_t result, int flags) {
    if (result > 0 && !(flags & MSG_PEEK) && is_broker(fd))
        append_bytes(RECEIVE, inode_of(fd), 0, data, result);
    return result;
}

/* Log what is about to be sent; `sent` says how much of it was. */
static int sending(int fd, const struct iovec *parts, int count) {
    if (!is_broker(fd))
        return 0;
    if (count > 16)
        unknown("a message of more than 16 parts");
    else
        append(SEND, inode_of(fd), 0, parts, count);
    return 1;
}

static ssize_t sent(int fd, int logged, ssize_t result) {
    if (logged)
        append(SENT, inode_of(fd), result < 0 ? 0 : result, NULL, 0);
    return result;
}

ssize_t write(int fd, const void *data, size_t size) {
    struct iovec part = {(void *)data, size};
    int logged = sending(fd, &part, 1);
    return sent(fd, logged, written(fd, &part, 1, -1, syscall(SYS_write, fd, data, size)));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    int logged = sending(fd, parts, count);
    return sent(fd, logged, written(fd, parts, count, -1, syscall(SYS_writev, fd, parts, count)));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    struct iovec part = {(void *)data, size};
    return written(fd, &part, 1, offset, syscall(SYS_pwrite64, fd, data, size, offset));
}
SAME(pwrite64, pwrite)

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return written(fd, parts, count, offset, syscall(SYS_pwritev, fd, parts, count, offset, 0));
}
SAME(pwritev64, pwritev)

int ftruncate(int fd, off_t size) {
    int result = syscall(SYS_ftruncate, fd, size);
    uint64_t inode = result ? 0 : watched(fd);
    if (inode)
        append(TRUNCATE, inode, size, NULL, 0);
    return result;
}
SAME(ftruncate64, ftruncate)

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    char path[PATH_MAX];
    size_t length = flags & MAP_SHARED && protection & PROT_WRITE && fd >= 0 ? path_of(fd, path) : 0;
    if (length && (length < 4 || strcmp(path + length - 4, "-shm")))
        unknown("a shared, writable mapping");
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}
SAME(mmap64, mmap)

/* ---------------------------------------------------------------- durability */

static int synced(int fd, long number) {
    uint64_t inode = watched(fd);
    uint64_t call = (uint64_t)getpid() << 32 | __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (inode)
        append(SYNC_BEGIN, inode, call, NULL, 0);
    int result = syscall(number, fd);
    if (inode && result == 0)
        append(SYNC_END, inode, call, NULL, 0);
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* ---------------------------------------------------------------- connections */

ssize_t send(int fd, const void *data, size_t size, int flags) {
    struct iovec part = {(void *)data, size};
    int logged = sending(fd, &part, 1);
    return sent(fd, logged, syscall(SYS_sendto, fd, data, size, flags, NULL, 0));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    int logged = sending(fd, message->msg_iov, message->msg_iovlen);
    return sent(fd, logged, syscall(SYS_sendmsg, fd, message, flags));
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
    return received(fd, data, syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL), flags);
}

ssize_t read(int fd, void *data, size_t size) { return received(fd, data, syscall(SYS_read, fd, data, size), 0); }
