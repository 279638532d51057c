// Stands before fsync and fdatasync of the C library (LD_PRELOAD): counts the calls and, if told to, sleeps before each, or makes none
// while a store is filled that nobody measures.
//
// The counter and the delay are in a file that KNOWHOW_LOAD_SYNCS names, mapped into memory, so that the program that is
// looked at can read and set them with plain file access. Without that file the calls pass through.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct shared {
    _Atomic uint64_t syncs;
    _Atomic uint64_t delay_nanoseconds;
};

// Instead of a delay: no sync is made.
#define NONE UINT64_MAX

static struct shared *shared;

__attribute__((constructor)) static void map_shared(void) {
    const char *path = getenv("KNOWHOW_LOAD_SYNCS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        shared = mapped;
}

// Whether the call is to be made.
static int count_and_wait(void) {
    if (!shared)
        return 1;
    atomic_fetch_add(&shared->syncs, 1);
    uint64_t delay = atomic_load(&shared->delay_nanoseconds);
    if (delay == NONE)
        return 0;
    struct timespec left = {.tv_sec = delay / 1000000000, .tv_nsec = delay % 1000000000};
    while (delay && nanosleep(&left, &left) && errno == EINTR)
        ;
    return 1;
}

typedef int sync_function(int);

int fsync(int file) {
    static _Atomic(sync_function *) real;
    if (!real)
        real = (sync_function *)dlsym(RTLD_NEXT, "fsync");
    return count_and_wait() ? real(file) : 0;
}

int fdatasync(int file) {
    static _Atomic(sync_function *) real;
    if (!real)
        real = (sync_function *)dlsym(RTLD_NEXT, "fdatasync");
    return count_and_wait() ? real(file) : 0;
}
