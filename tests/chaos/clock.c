/* The clock of one server process, shifted by as many seconds as the file MG_CLOCK says (as text); read at each call.
   Preloaded by the tests of clock steps (A17); nothing of MemGang uses it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char text[32];
    const char *path = getenv("MG_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    return atol(text);
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int done = real(tv, tz);
    if (tv) tv->tv_sec += shift();
    return done;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, ts);
    if (id == CLOCK_REALTIME && ts) ts->tv_sec += shift();
    return done;
}

time_t time(time_t *out) {
    struct timeval tv;
    gettimeofday(&tv, 0);
    if (out) *out = tv.tv_sec;
    return tv.tv_sec;
}
