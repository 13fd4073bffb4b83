/* Loaded into the programs of one host of the campaign (LD_PRELOAD): its clock can be put elsewhere, its disk be full.

   What holds is read at each call from a file "host.state" in the folder that the program was started in; without
   one, nothing is other than it was. Steps are of the wall clock alone: no clock steps that only goes forward.
   A full disk still takes what is written over what was there, and refuses what would make a file longer. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct state {
    volatile int64_t ahead; /* seconds */
    volatile int64_t full;
};

static const struct state nothing;
static const struct state *state = &nothing;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void find(void) {
    int file = open("host.state", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *there = mmap(NULL, sizeof(struct state), PROT_READ, MAP_SHARED, file, 0);
    if (there != MAP_FAILED) state = there;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(clock_gettime);
    int done = real(which, now);
    if (!done && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += state->ahead;
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(gettimeofday);
    int done = real(now, zone);
    if (!done) now->tv_sec += state->ahead;
    return done;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

/* Whether bytes that end at a place would make a file longer while nothing is left; a place below 0 is the present. */
static int refused(int file, off_t place, size_t bytes) {
    struct stat status;
    if (!state->full || fstat(file, &status) || !S_ISREG(status.st_mode)) return 0;
    if (place < 0) {
        int flags = fcntl(file, F_GETFL);
        place = flags >= 0 && (flags & O_APPEND) ? status.st_size : lseek(file, 0, SEEK_CUR);
    }
    if (place + (off_t)bytes <= status.st_size) return 0;
    errno = ENOSPC;
    return 1;
}

static size_t sum(const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    return bytes;
}

ssize_t write(int file, const void *data, size_t bytes) {
    REAL(write);
    return refused(file, -1, bytes) ? -1 : real(file, data, bytes);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    return refused(file, -1, sum(parts, count)) ? -1 : real(file, parts, count);
}

#define AT_A_PLACE(name) \
    ssize_t name(int file, const void *data, size_t bytes, off_t place) { \
        REAL(name); \
        return refused(file, place, bytes) ? -1 : real(file, data, bytes, place); \
    }
#define PARTS_AT_A_PLACE(name) \
    ssize_t name(int file, const struct iovec *parts, int count, off_t place) { \
        REAL(name); \
        return refused(file, place, sum(parts, count)) ? -1 : real(file, parts, count, place); \
    }
#define ROOM(name) \
    int name(int file, off_t place, off_t bytes) { \
        REAL(name); \
        return refused(file, place, (size_t)bytes) ? ENOSPC : real(file, place, bytes); \
    }

AT_A_PLACE(pwrite)
AT_A_PLACE(pwrite64)
PARTS_AT_A_PLACE(pwritev)
PARTS_AT_A_PLACE(pwritev64)
ROOM(posix_fallocate)
ROOM(posix_fallocate64)
