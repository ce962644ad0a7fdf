// Files: whole-file mapping, bounded reading cursor, lines, hashes. Writing: gorgon/output.h.
#ifndef GG_CORE_FILE_H
#define GG_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gorgon/output.h"

// "cannot <what> '<path>': <reason of errno value `number`>" as GORGON_ERROR_IO.
gorgon_status gg_fail_errno(gorgon_error *err, const char *what, const char *path, int number);

typedef struct gg_mapping {
    const uint8_t *data;
    size_t size;
} gg_mapping;
// Maps a regular file read-only. An empty file, a directory or a missing one is an error. The file
// must not be truncated while it is mapped.
gorgon_status gg_map_file(const char *path, gg_mapping *out, gorgon_error *err);
void gg_unmap(gg_mapping *mapping);
// The end of a path: the part that an error line of 500 bytes has room for.
const char *gg_path_end(const char *path);
enum { GG_MAX_PATH = 4096 };
bool gg_is_directory(const char *path);
// "<directory>/<name>"; false: longer than that.
bool gg_path_join(const char *directory, const char *name, char path[GG_MAX_PATH]);
// The same for the first of `names`, NULL after the last, that is there; false: none is.
bool gg_path_find(const char *directory, const char *const *names, char path[GG_MAX_PATH]);

// Bounded little-endian cursor: the first error sticks with its offset; reads after it give zeros.
typedef struct gg_cursor {
    const uint8_t *base;
    size_t size, position;
    const char *label; // file name for messages
    gorgon_status status;
    gorgon_error *err;
} gg_cursor;
size_t gg_cursor_left(const gg_cursor *c);
uint8_t gg_read_u8(gg_cursor *c, const char *what);
uint16_t gg_read_u16(gg_cursor *c, const char *what);
uint32_t gg_read_u32(gg_cursor *c, const char *what);
uint64_t gg_read_u64(gg_cursor *c, const char *what);
const uint8_t *gg_read_bytes(gg_cursor *c, size_t n, const char *what); // NULL on error

// Reads one line (without its newline, NUL-terminated) of at most GG_MAX_LINE bytes into *line
// (grown as needed, gg_free it at the end). *got is false at the end of the file.
gorgon_status gg_read_line(FILE *stream, const char *label, char **line, size_t *capacity,
                           size_t *length, bool *got, gorgon_error *err);

// 64-bit content hash (FNV-1a over 8-byte words, finalised); for fingerprints and trace lines.
uint64_t gg_hash(const void *data, size_t n, uint64_t seed);

#endif
