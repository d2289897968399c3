/* Preloaded into the gateway: faults of a disk and of a clock, switched on and off from outside while it runs.
 *
 * CRASH_FAULTS is a file that both map (struct control, below); tests/crash/preload.py writes it. CRASH_UNDER is the
 * directory whose files the disk's faults concern. Real system calls are made, or not, below SQLite: what SQLite makes
 * of a failed write or fsync is its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t write_errno;   /* each write fails with it; 0: none does */
    int64_t read_errno;
    int64_t sync_errno;
    int64_t sync_delay_us; /* each fsync takes longer by this */
    int64_t clock_s;       /* the clock of the day is ahead by this */
    int64_t kill_write;    /* countdown: the write that makes it 0 is cut in half, and the process is killed */
    int64_t kill_sync;     /* countdown: the process is killed before the fsync that makes it 0 */
};

static struct control none, *control = &none;
static const char *under = "";

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CRASH_FAULTS");
    if (getenv("CRASH_UNDER")) under = getenv("CRASH_UNDER");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(fd);
}

static int concerns(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return *under && strncmp(path, under, strlen(under)) == 0;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int is_last(int64_t *countdown) {
    return *countdown > 0 && __sync_sub_and_fetch(countdown, 1) == 0;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define WRITES(name, parameters, arguments, half) \
    ssize_t name parameters { \
        REAL(name); \
        if ((control->write_errno || control->kill_write) && concerns(fd)) { \
            if (control->write_errno) { errno = (int)control->write_errno; return -1; } \
            if (is_last(&control->kill_write)) { real half; die(); } \
        } \
        return real arguments; \
    }
WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), (fd, data, size / 2, at))
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), (fd, data, size / 2, at))

#define READS(name, parameters, arguments) \
    ssize_t name parameters { \
        REAL(name); \
        if (control->read_errno && concerns(fd)) { errno = (int)control->read_errno; return -1; } \
        return real arguments; \
    }
READS(read, (int fd, void *data, size_t size), (fd, data, size))
READS(pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
READS(pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))

#define SYNCS(name) \
    int name(int fd) { \
        REAL(name); \
        if ((control->sync_errno || control->sync_delay_us || control->kill_sync) && concerns(fd)) { \
            if (control->sync_delay_us) usleep((useconds_t)control->sync_delay_us); \
            if (control->sync_errno) { errno = (int)control->sync_errno; return -1; } \
            if (is_last(&control->kill_sync)) die(); \
        } \
        return real(fd); \
    }
SYNCS(fsync)
SYNCS(fdatasync)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += control->clock_s;
    return status;
}
