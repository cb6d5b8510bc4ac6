// Preloaded between the server and its folder, to inject the faults that a control file asks for.
//
// Loaded by LD_PRELOAD. For files below SHIM_FOLDER it counts the durable operations and appends them in order to
// SHIM_LOG. It can kill the process before one of them, or fail them with an errno. It can shift the clock. It logs
// requests and acknowledgements, so that the log shows what clients had been promised before a power cut. Calls that
// could change a file without being logged fail as on a kernel that lacks them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The control file: 64-bit numbers in this order, which shim.rs repeats.
struct control {
    int64_t operations;   // durable operations so far
    int64_t die_at;       // SIGKILL before this one; 0: never
    int64_t clock;        // seconds added to the wall clock
    int64_t error;        // errno of failing operations; 0: none
    int64_t classes;      // which operations fail: a sum of classes
    int64_t shots;        // how many more fail; negative: all
    int64_t from;         // the first operation that may fail
    int64_t where;        // 0: anywhere, 1: the database, 2: blobs
    int64_t quota;        // bytes by which files may still grow; negative: no limit
    int64_t refused;      // operations that failed so far
    int64_t log;          // 1: operations are logged
};

// Classes of operations that can fail.
enum { WRITES = 1, CREATES = 2, REMOVES = 4, SYNCS = 8 };

// Kinds of records in the log.
enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, ACK, REQUEST };

struct record {
    uint32_t magic, kind;
    uint64_t inode, offset;
    uint32_t path, other;
    uint64_t data;
};

static struct control *control;
static const char *folder;
static size_t folder_length;
static int log_file = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("SHIM_CONTROL");
    folder = getenv("SHIM_FOLDER");
    if (!path || !folder) return;
    folder_length = strlen(folder);
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) abort();
    const char *log = getenv("SHIM_LOG");
    if (log) log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    control = map;
}

// ---- where ----

// Returns the path relative to the folder, and "" for the folder itself. Returns NULL outside of it, and for the -shm
// file, which is shared memory and needs no storage.
static const char *beneath(const char *path) {
    if (!control || strncmp(path, folder, folder_length) != 0) return NULL;
    const char *rest = path + folder_length;
    if (*rest == '\0') return rest;
    if (*rest != '/') return NULL;
    size_t length = strlen(rest);
    if (length >= 4 && strcmp(rest + length - 4, "-shm") == 0) return NULL;
    return rest + 1;
}

static const char *of_file(int file, char *buffer) {
    if (!control || file < 0) return NULL;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = '\0';
    return beneath(buffer);
}

static const char *of_path(int at, const char *path, char *buffer) {
    if (!control || !path) return NULL;
    if (path[0] == '/') {
        snprintf(buffer, PATH_MAX, "%s", path);
    } else {
        char link[32], start[PATH_MAX];
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, start, sizeof start - 1);
        if (length < 0) return NULL;
        snprintf(buffer, PATH_MAX, "%.*s/%s", (int)length, start, path);
    }
    size_t length = strlen(buffer);
    while (length > 1 && buffer[length - 1] == '/') buffer[--length] = '\0';
    return beneath(buffer);
}

static uint64_t inode_of(int file) {
    struct stat found;
    return fstat(file, &found) == 0 ? found.st_ino : 0;
}

// ---- faults and the log ----

static int is_meant(const char *path) {
    int blob = path && strstr(path, "blobs") != NULL;
    return control->where == 0 || (control->where == 2) == blob;
}

// Returns the errno to fail an operation with, or 0.
static int refused(int class, const char *path) {
    if (!control->error || !(control->classes & class) || control->shots == 0 || !is_meant(path)) return 0;
    if (control->shots > 0) __atomic_sub_fetch(&control->shots, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&control->refused, 1, __ATOMIC_SEQ_CST);
    return (int)control->error;
}

// Takes the lock, counts the operation, and kills the process here if asked to. Returns the errno to fail with, or 0.
static int begin(int class, const char *path) {
    pthread_mutex_lock(&lock);
    int64_t number = __atomic_add_fetch(&control->operations, 1, __ATOMIC_SEQ_CST);
    if (number == control->die_at) {
        syscall(SYS_kill, getpid(), SIGKILL);
        for (;;) pause();
    }
    return number < control->from ? 0 : refused(class, path);
}

static long refuse(int error) {
    pthread_mutex_unlock(&lock);
    errno = error;
    return -1;
}

static void note(int kind, uint64_t inode, uint64_t offset, const char *path, const char *other,
                 const void *data, size_t size) {
    if (log_file < 0 || !control->log) return;
    struct record head = {0x43525348, kind, inode, offset, path ? strlen(path) : 0,
                          other ? strlen(other) : 0, size};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path},
                            {(void *)other, head.other}, {(void *)data, size}};
    size_t whole = sizeof head + head.path + head.other + size;
        // A log with a gap would prove nothing.
    if (syscall(SYS_writev, log_file, parts, 4) != (ssize_t)whole) abort();
}

static long done(long result) {
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

// ---- open ----

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = of_path(at, path, buffer);
    if (!name || !(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)))
        return syscall(SYS_openat, at, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE) return errno = EOPNOTSUPP, -1;
    struct stat found;
    int is_new = fstatat(at, path, &found, 0) != 0;
    if (is_new ? !(flags & O_CREAT) : !(flags & O_TRUNC)) {
        // On a file system that became read-only, nothing can be opened for writing.
        pthread_mutex_lock(&lock);
        int error = control->error == EROFS ? refused(CREATES, name) : 0;
        if (error) return refuse(error);
        pthread_mutex_unlock(&lock);
        return syscall(SYS_openat, at, path, flags, mode);
    }
    int error = begin(CREATES, name);
    if (error) return refuse(error);
    is_new = fstatat(at, path, &found, 0) != 0;
    int file = syscall(SYS_openat, at, path, flags, mode);
    if (file >= 0 && is_new) note(CREATE, inode_of(file), 0, name, NULL, NULL, 0);
    if (file >= 0 && !is_new && found.st_size > 0) note(TRUNCATE, inode_of(file), 0, name, NULL, NULL, 0);
    return done(file);
}

#define MODE_OF(flags)                         \
    mode_t mode = 0;                           \
    if ((flags) & (O_CREAT | O_TMPFILE)) {     \
        va_list rest;                          \
        va_start(rest, flags);                 \
        mode = va_arg(rest, mode_t);           \
        va_end(rest);                          \
    }
int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

// ---- write ----

// Returns how many of `size` bytes fit into the quota. Overwriting bytes of the file takes no quota.
static size_t that_fit(int file, off_t offset, size_t size) {
    struct stat found;
    if (control->quota < 0 || fstat(file, &found) != 0) return size;
    int64_t growth = (int64_t)offset + (int64_t)size - found.st_size;
    if (growth <= 0) return size;
    int64_t lacking = growth - control->quota;
    if (lacking <= 0) {
        control->quota -= growth;
        return size;
    }
    control->quota = 0;
    return lacking >= (int64_t)size ? 0 : size - lacking;
}

// Writes at an offset, or at the file's position if it is negative.
static ssize_t write_at(int file, const char *path, const void *data, size_t size, off_t offset) {
    int error = begin(WRITES, path);
    if (error) return refuse(error);
    off_t start = offset;
    if (start < 0) {
        int flags = syscall(SYS_fcntl, file, F_GETFL);
        start = syscall(SYS_lseek, file, 0, SEEK_CUR);
        struct stat found;
        if ((flags & O_APPEND) && fstat(file, &found) == 0) start = found.st_size;
    }
    size_t fits = that_fit(file, start, size);
    if (fits == 0 && size > 0) {
        __atomic_add_fetch(&control->refused, 1, __ATOMIC_SEQ_CST);
        return refuse(ENOSPC);
    }
    ssize_t written = offset < 0 ? syscall(SYS_write, file, data, fits)
                                 : syscall(SYS_pwrite64, file, data, fits, offset);
    if (written > 0) note(WRITE, inode_of(file), start, path, NULL, data, written);
    return done(written);
}

// Logs the beginning of a successful response before the client can receive it.
static void note_answer(int file, const void *data, size_t size) {
    if (!control || size < 10 || memcmp(data, "HTTP/1.1 2", 10) != 0) return;
    // Only a kill can happen here.
    begin(0, NULL);
    note(ACK, file, 0, NULL, NULL, data, size);
    done(0);
}

static void *joined(const struct iovec *parts, int count, size_t *size) {
    *size = 0;
    for (int i = 0; i < count; i++) *size += parts[i].iov_len;
    char *whole = malloc(*size + 1), *end = whole;
    if (!whole) abort();
    for (int i = 0; i < count; i++) end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
    return whole;
}

ssize_t write(int file, const void *data, size_t size) {
    char buffer[PATH_MAX];
    const char *path = of_file(file, buffer);
    if (path) return write_at(file, path, data, size, -1);
    note_answer(file, data, size);
    return syscall(SYS_write, file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) {
    char buffer[PATH_MAX];
    const char *path = of_file(file, buffer);
    return path ? write_at(file, path, data, size, offset) : syscall(SYS_pwrite64, file, data, size, offset);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return pwrite64(file, data, size, offset); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    char buffer[PATH_MAX];
    const char *path = of_file(file, buffer);
    int answers = !path && count > 0 && parts[0].iov_len >= 10 && !memcmp(parts[0].iov_base, "HTTP/1.1 2", 10);
    if (!path && !answers) return syscall(SYS_writev, file, parts, count);
    size_t size;
    void *whole = joined(parts, count, &size);
    if (answers) note_answer(file, whole, size);
    ssize_t written = path ? write_at(file, path, whole, size, -1) : syscall(SYS_writev, file, parts, count);
    free(whole);
    return written;
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
    size_t size;
    void *whole = joined(parts, count, &size);
    ssize_t written = pwrite64(file, whole, size, offset);
    free(whole);
    return written;
}
ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t offset) {
    return pwritev(file, parts, count, offset);
}

int ftruncate64(int file, off_t size) {
    char buffer[PATH_MAX];
    const char *path = of_file(file, buffer);
    if (!path) return syscall(SYS_ftruncate, file, size);
    int error = begin(REMOVES, path);
    if (error) return refuse(error);
    int result = syscall(SYS_ftruncate, file, size);
    if (result == 0) note(TRUNCATE, inode_of(file), size, path, NULL, NULL, 0);
    return done(result);
}
int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

static int sync_file(int file, long call) {
    char buffer[PATH_MAX];
    const char *path = of_file(file, buffer);
    if (!path) return syscall(call, file);
    int error = begin(SYNCS, path);
    if (error) return refuse(error);
    // The log acts as the disk, so waiting for the real one would gain nothing.
    int result = log_file >= 0 ? 0 : syscall(call, file);
    if (result == 0) note(SYNC, inode_of(file), 0, path, NULL, NULL, 0);
    return done(result);
}
int fsync(int file) { return sync_file(file, SYS_fsync); }
int fdatasync(int file) { return sync_file(file, SYS_fdatasync); }

// ---- names ----

int renameat2(int at, const char *path, int to, const char *other, unsigned flags) {
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *name = of_path(at, path, from_buffer), *target = of_path(to, other, to_buffer);
    if (!name || !target) return syscall(SYS_renameat2, at, path, to, other, flags);
    int error = begin(REMOVES, target);
    if (error) return refuse(error);
    int result = syscall(SYS_renameat2, at, path, to, other, flags);
    if (result == 0) note(RENAME, 0, 0, name, target, NULL, 0);
    return done(result);
}
int renameat(int at, const char *path, int to, const char *other) { return renameat2(at, path, to, other, 0); }
int rename(const char *path, const char *other) { return renameat2(AT_FDCWD, path, AT_FDCWD, other, 0); }

int linkat(int at, const char *path, int to, const char *other, int flags) {
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *name = of_path(at, path, from_buffer), *target = of_path(to, other, to_buffer);
    if (!name || !target) return syscall(SYS_linkat, at, path, to, other, flags);
    int error = begin(CREATES, target);
    if (error) return refuse(error);
    int result = syscall(SYS_linkat, at, path, to, other, flags);
    if (result == 0) note(LINK, 0, 0, name, target, NULL, 0);
    return done(result);
}
int link(const char *path, const char *other) { return linkat(AT_FDCWD, path, AT_FDCWD, other, 0); }

int unlinkat(int at, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *name = of_path(at, path, buffer);
    if (!name) return syscall(SYS_unlinkat, at, path, flags);
    int error = begin(REMOVES, name);
    if (error) return refuse(error);
    int result = syscall(SYS_unlinkat, at, path, flags);
    if (result == 0) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, name, NULL, NULL, 0);
    return done(result);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int result = unlink(path);
    return result != 0 && (errno == EISDIR || errno == EPERM) ? rmdir(path) : result;
}

int mkdirat(int at, const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = of_path(at, path, buffer);
    if (!name) return syscall(SYS_mkdirat, at, path, mode);
    int error = begin(CREATES, name);
    if (error) return refuse(error);
    int result = syscall(SYS_mkdirat, at, path, mode);
    if (result == 0) note(MKDIR, 0, 0, name, NULL, NULL, 0);
    return done(result);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

// ---- calls that could change a file without being logged ----

static int is_beneath(int file) {
    char buffer[PATH_MAX];
    return of_file(file, buffer) != NULL;
}
#define REFUSED(error) (errno = (error), -1)

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *end, size_t size, unsigned flags) {
    return is_beneath(to) ? REFUSED(ENOSYS) : syscall(SYS_copy_file_range, from, start, to, end, size, flags);
}
ssize_t sendfile64(int to, int from, off64_t *start, size_t size) {
    return is_beneath(to) ? REFUSED(EINVAL) : syscall(SYS_sendfile, to, from, start, size);
}
ssize_t sendfile(int to, int from, off_t *start, size_t size) { return sendfile64(to, from, start, size); }
ssize_t splice(int from, off64_t *start, int to, off64_t *end, size_t size, unsigned flags) {
    return is_beneath(to) ? REFUSED(EINVAL) : syscall(SYS_splice, from, start, to, end, size, flags);
}
int fallocate64(int file, int mode, off64_t offset, off64_t size) {
    return is_beneath(file) ? REFUSED(EOPNOTSUPP) : syscall(SYS_fallocate, file, mode, offset, size);
}
int fallocate(int file, int mode, off_t offset, off_t size) { return fallocate64(file, mode, offset, size); }
int posix_fallocate64(int file, off64_t offset, off64_t size) {
    return fallocate64(file, 0, offset, size) == 0 ? 0 : errno;
}
int posix_fallocate(int file, off_t offset, off_t size) { return posix_fallocate64(file, offset, size); }
void *mmap64(void *start, size_t size, int protection, int flags, int file, off64_t offset) {
    int writes = file >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE);
    if (writes && is_beneath(file)) return errno = ENODEV, MAP_FAILED;
    return (void *)syscall(SYS_mmap, start, size, protection, flags, file, offset);
}
void *mmap(void *start, size_t size, int protection, int flags, int file, off_t offset) {
    return mmap64(start, size, protection, flags, file, offset);
}

// ---- sockets ----

ssize_t sendto(int file, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    note_answer(file, data, size);
    return syscall(SYS_sendto, file, data, size, flags, to, length);
}
ssize_t send(int file, const void *data, size_t size, int flags) { return sendto(file, data, size, flags, NULL, 0); }

static ssize_t note_request(int file, const char *data, ssize_t size) {
    if (!control || size < 16 || data[0] < 'A' || data[0] > 'Z' || !memmem(data, size, " HTTP/1.1\r\n", 11)) return size;
    pthread_mutex_lock(&lock);
    note(REQUEST, file, 0, NULL, NULL, data, size);
    return done(size);
}
ssize_t recvfrom(int file, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length) {
    ssize_t got = syscall(SYS_recvfrom, file, data, size, flags, from, length);
    return flags & MSG_PEEK ? got : note_request(file, data, got);
}
ssize_t recv(int file, void *data, size_t size, int flags) { return recvfrom(file, data, size, flags, NULL, NULL); }

// ---- the wall clock ----

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (control && result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += control->clock;
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    int result = syscall(SYS_gettimeofday, now, zone);
    if (control && result == 0) now->tv_sec += control->clock;
    return result;
}
time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
