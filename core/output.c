// Atomic output: a temporary beside the target, then fsync and rename. An interrupted or failed
// write leaves the old file whole and removes the temporary.
#define _XOPEN_SOURCE 700 // realpath

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"

enum {
    BUFFER_BYTES = 1 << 16,
    MAX_ATTEMPTS = 100,  // names tried beside leftovers of a killed process with our pid
    SUFFIX_BYTES = 48,   // ".tmp.<pid>.<attempt>"
    MAX_WRITE = 1 << 30, // one write(2)
};

struct gorgon_output {
    int fd; // -1 when closed
    gorgon_status status;
    mode_t mode;     // permissions of the file being replaced, or 0
    char *path;      // the target, symbolic links followed
    char *temporary; // exists on disk while not NULL
    size_t used;     // bytes waiting in the buffer
    uint8_t buffer[BUFFER_BYTES];
};

// Sets out->path and out->mode. A device or a directory must not be replaced by a file.
static gorgon_status resolve_target(gorgon_output *out, const char *path, gorgon_error *err)
{
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode)) {
        char *target = realpath(path, NULL);
        if (!target)
            return gg_fail_errno(err, "follow the link", path, errno);
        out->path = gg_strdup(target);
        free(target);
    } else {
        out->path = gg_strdup(path);
    }
    if (!out->path)
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot write '%s': out of memory", path);
    if (stat(out->path, &info) != 0)
        return errno == ENOENT ? GORGON_OK : gg_fail_errno(err, "write", path, errno);
    if (!S_ISREG(info.st_mode))
        return gg_fail(err, GORGON_ERROR_IO, "cannot write '%s': expected a regular file, got %s",
                       path, S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket");
    out->mode = info.st_mode & 0777;
    return GORGON_OK;
}

static gorgon_status open_temporary(gorgon_output *out, gorgon_error *err)
{
    size_t length = strlen(out->path);
    char *name = gg_alloc(length + SUFFIX_BYTES, 1);
    if (!name)
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot write '%s': out of memory", out->path);
    memcpy(name, out->path, length);
    for (int attempt = 0; attempt < MAX_ATTEMPTS && out->fd < 0;) {
        if (attempt == 0)
            snprintf(name + length, SUFFIX_BYTES, ".tmp.%ld", (long)getpid());
        else
            snprintf(name + length, SUFFIX_BYTES, ".tmp.%ld.%d", (long)getpid(), attempt);
        out->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (out->fd < 0 && errno == EEXIST)
            attempt++;
        else if (out->fd < 0 && errno != EINTR)
            break;
    }
    if (out->fd < 0) {
        gorgon_status status = gg_fail_errno(err, "create", name, errno);
        gg_free(name);
        return status;
    }
    out->temporary = name;
    if (out->mode != 0 && fchmod(out->fd, out->mode) != 0)
        return gg_fail_errno(err, "set the permissions of", name, errno);
    return GORGON_OK;
}

gorgon_status gorgon_output_create(const char *path, gorgon_output **out, gorgon_error *err)
{
    *out = NULL;
    gorgon_output *o = gg_alloc(1, sizeof *o);
    if (!o)
        return gg_fail(err, GORGON_ERROR_MEMORY, "cannot write '%s': out of memory", path);
    o->fd = -1;
    gorgon_status status = resolve_target(o, path, err);
    if (status == GORGON_OK)
        status = open_temporary(o, err);
    if (status != GORGON_OK) {
        gorgon_output_discard(o);
        return status;
    }
    *out = o;
    return GORGON_OK;
}

static gorgon_status write_all(gorgon_output *out, const uint8_t *data, size_t n, gorgon_error *err)
{
    while (n > 0) {
        ssize_t written = write(out->fd, data, n < MAX_WRITE ? n : MAX_WRITE);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return gg_fail_errno(err, "write", out->temporary, written < 0 ? errno : ENOSPC);
        data += written;
        n -= (size_t)written;
    }
    return GORGON_OK;
}

static gorgon_status flush_buffer(gorgon_output *out, gorgon_error *err)
{
    size_t n = out->used;
    out->used = 0;
    return write_all(out, out->buffer, n, err);
}

gorgon_status gorgon_output_write(gorgon_output *out, const void *data, size_t n, gorgon_error *err)
{
    if (out->status != GORGON_OK)
        return gg_fail(err, out->status, "cannot write '%s': an earlier write failed", out->path);
    if (n > BUFFER_BYTES - out->used)
        out->status = flush_buffer(out, err);
    if (out->status == GORGON_OK && n > BUFFER_BYTES)
        out->status = write_all(out, data, n, err);
    else if (out->status == GORGON_OK && n > 0) {
        memcpy(out->buffer + out->used, data, n);
        out->used += n;
    }
    return out->status;
}

// Makes the new directory entry durable. Some file systems cannot fsync a directory, and one may be
// writable without being readable: neither is a failure.
static gorgon_status sync_directory(gorgon_output *out, gorgon_error *err)
{
    char *slash = strrchr(out->path, '/');
    if (slash)
        slash[slash == out->path] = '\0';
    const char *directory = slash ? out->path : ".";
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return GORGON_OK;
    int failure = fsync(fd) != 0 && errno == EIO ? errno : 0;
    close(fd);
    return failure ? gg_fail_errno(err, "flush the directory", directory, failure) : GORGON_OK;
}

static gorgon_status publish(gorgon_output *out, gorgon_error *err)
{
    int result;
    do {
        result = fsync(out->fd);
    } while (result != 0 && errno == EINTR);
    if (result != 0)
        return gg_fail_errno(err, "flush", out->temporary, errno);
    // After EINTR the descriptor is closed all the same.
    result = close(out->fd);
    out->fd = -1;
    if (result != 0 && errno != EINTR)
        return gg_fail_errno(err, "close", out->temporary, errno);
    if (rename(out->temporary, out->path) != 0)
        return gg_fail_errno(err, "rename a temporary to", out->path, errno);
    gg_free(out->temporary);
    out->temporary = NULL;
    return sync_directory(out, err);
}

gorgon_status gorgon_output_commit(gorgon_output *out, gorgon_error *err)
{
    gorgon_status status = out->status;
    if (status != GORGON_OK)
        gg_fail(err, status, "cannot write '%s': an earlier write failed", out->path);
    else
        status = flush_buffer(out, err);
    if (status == GORGON_OK)
        status = publish(out, err);
    gorgon_output_discard(out);
    return status;
}

void gorgon_output_discard(gorgon_output *out)
{
    if (!out)
        return;
    if (out->fd >= 0)
        close(out->fd);
    if (out->temporary)
        unlink(out->temporary);
    gg_free(out->temporary);
    gg_free(out->path);
    gg_free(out);
}
