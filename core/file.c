// Files: read-only mapping, bounded cursor, line reader, content hash. Output is in output.c.
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"

gorgon_status gg_fail_errno(gorgon_error *err, const char *what, const char *path, int number)
{
    char reason[128];
    if (strerror_r(number, reason, sizeof reason) != 0)
        reason[0] = '\0';
    return gg_fail(err, GORGON_ERROR_IO, "cannot %s '%s': %s", what, path, reason);
}

static gorgon_status map_descriptor(int fd, const char *path, gg_mapping *out, gorgon_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return gg_fail_errno(err, "examine", path, errno);
    if (!S_ISREG(info.st_mode))
        return gg_fail(err, GORGON_ERROR_IO, "cannot read '%s': expected a regular file, got %s",
                       path, S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket");
    if (info.st_size <= 0)
        return gg_fail(err, GORGON_ERROR_FORMAT, "cannot read '%s': the file is empty", path);
    if ((uintmax_t)info.st_size > SIZE_MAX)
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "cannot map '%s': %ju bytes exceed the address space", path,
                       (uintmax_t)info.st_size);
    size_t size = (size_t)info.st_size;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return gg_fail_errno(err, "map", path, errno);
    *out = (gg_mapping){.data = data, .size = size};
    return GORGON_OK;
}

gorgon_status gg_map_file(const char *path, gg_mapping *out, gorgon_error *err)
{
    *out = (gg_mapping){0};
    int fd;
    do {
        // O_NONBLOCK: a named pipe must be refused below, not waited for.
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return gg_fail_errno(err, "open", path, errno);
    gorgon_status status = map_descriptor(fd, path, out, err);
    close(fd);
    return status;
}

void gg_unmap(gg_mapping *mapping)
{
    if (mapping->data) {
        // munmap wants a non-const pointer; the union avoids casting const away.
        union {
            const uint8_t *from;
            void *to;
        } data = {.from = mapping->data};
        munmap(data.to, mapping->size);
    }
    *mapping = (gg_mapping){0};
}

const char *gg_path_end(const char *path)
{
    enum { SHOWN = 160 };
    const size_t n = strlen(path);
    return n > SHOWN ? path + n - SHOWN : path;
}

bool gg_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool gg_path_join(const char *directory, const char *name, char path[GG_MAX_PATH])
{
    const int n = snprintf(path, GG_MAX_PATH, "%s/%s", directory, name);
    return n > 0 && n < GG_MAX_PATH;
}

bool gg_path_find(const char *directory, const char *const *names, char path[GG_MAX_PATH])
{
    struct stat info;
    for (; *names; names++) {
        if (gg_path_join(directory, *names, path) && stat(path, &info) == 0)
            return true;
    }
    return false;
}

size_t gg_cursor_left(const gg_cursor *c)
{
    return c->status == GORGON_OK ? c->size - c->position : 0;
}

const uint8_t *gg_read_bytes(gg_cursor *c, size_t n, const char *what)
{
    if (c->status != GORGON_OK)
        return NULL;
    if (n > c->size - c->position) {
        c->status =
            gg_fail(c->err, GORGON_ERROR_FORMAT,
                    "%s: %s at byte %zu: expected %zu bytes, got %zu before the end of file",
                    c->label, what, c->position, n, c->size - c->position);
        return NULL;
    }
    const uint8_t *bytes = c->base + c->position;
    c->position += n;
    return bytes;
}

static uint64_t read_little_endian(gg_cursor *c, size_t n, const char *what)
{
    const uint8_t *bytes = gg_read_bytes(c, n, what);
    uint64_t value = 0;
    for (size_t i = 0; bytes && i < n; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

uint8_t gg_read_u8(gg_cursor *c, const char *what)
{
    return (uint8_t)read_little_endian(c, 1, what);
}

uint16_t gg_read_u16(gg_cursor *c, const char *what)
{
    return (uint16_t)read_little_endian(c, 2, what);
}

uint32_t gg_read_u32(gg_cursor *c, const char *what)
{
    return (uint32_t)read_little_endian(c, 4, what);
}

uint64_t gg_read_u64(gg_cursor *c, const char *what)
{
    return read_little_endian(c, 8, what);
}

static bool grow_line(char **line, size_t *capacity)
{
    size_t wanted = *capacity < 128 ? 256 : *capacity * 2;
    char *grown = gg_realloc(*line, *capacity, wanted, 1);
    if (!grown)
        return false;
    *line = grown;
    *capacity = wanted;
    return true;
}

gorgon_status gg_read_line(FILE *stream, const char *label, char **line, size_t *capacity,
                           size_t *length, bool *got, gorgon_error *err)
{
    size_t n = 0;
    int c;
    *got = false;
    *length = 0;
    do {
        c = getc(stream);
        if (c == EOF && ferror(stream))
            return gg_fail_errno(err, "read", label, errno);
        if (c != EOF && c != '\n' && n >= GG_MAX_LINE)
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "%s: expected lines of at most %u bytes, got more", label, GG_MAX_LINE);
        if (n + 1 >= *capacity && !grow_line(line, capacity))
            return gg_fail(err, GORGON_ERROR_MEMORY, "%s: no memory for a line of over %zu bytes",
                           label, n);
        if (c != EOF && c != '\n')
            (*line)[n++] = (char)c;
        *got = *got || c != EOF;
    } while (c != EOF && c != '\n');
    (*line)[n] = '\0';
    *length = n;
    return GORGON_OK;
}

static uint64_t hash_word(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x100000001b3);
    // Multiplication carries upwards only: without this fold two flipped top bits (the signs of two
    // floats) would cancel.
    return h ^ (h >> 32);
}

uint64_t gg_hash(const void *data, size_t n, uint64_t seed)
{
    const uint8_t *bytes = data;
    uint64_t h = hash_word(UINT64_C(0xcbf29ce484222325) ^ seed, n);
    for (size_t at = 0; at < n; at += 8) {
        uint64_t word = 0;
        size_t left = n - at < 8 ? n - at : 8;
        for (size_t i = 0; i < left; i++)
            word |= (uint64_t)bytes[at + i] << (8 * i);
        h = hash_word(h, word);
    }
    h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ (h >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ (h >> 33);
}
