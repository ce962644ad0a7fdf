// Mapping, cursor, line reader, atomic output, hash.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/file.h"
#include "core/limits.h"

typedef struct scratch {
    char directory[64];
    char path[96]; // of a file in it
} scratch;

static scratch scratch_create(void)
{
    scratch s = {.directory = "/tmp/gorgon-test-XXXXXX"};
    cr_assert_not_null(mkdtemp(s.directory));
    snprintf(s.path, sizeof s.path, "%s/file", s.directory);
    return s;
}

static size_t count_files(const char *directory)
{
    DIR *stream = opendir(directory);
    cr_assert_not_null(stream);
    size_t n = 0;
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(stream);
    return n;
}

static void scratch_remove(const scratch *s)
{
    unlink(s->path);
    cr_assert_eq(rmdir(s->directory), 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *stream = fopen(path, "wb");
    cr_assert_not_null(stream);
    fputs(text, stream);
    cr_assert_eq(fclose(stream), 0);
}

static void expect_content(const char *path, const char *text)
{
    gg_mapping mapping;
    gorgon_error err = {0};
    cr_assert_eq(gg_map_file(path, &mapping, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(mapping.size, strlen(text));
    cr_assert_arr_eq(mapping.data, text, mapping.size);
    gg_unmap(&mapping);
    cr_assert_null(mapping.data);
}

static void expect_unmappable(const char *path, gorgon_status status, const char *fragment)
{
    gg_mapping mapping = {.size = 1};
    gorgon_error err = {0};
    cr_assert_eq(gg_map_file(path, &mapping, &err), status);
    cr_assert(strstr(err.message, path) && strstr(err.message, fragment), "%s", err.message);
    cr_assert_null(mapping.data);
    cr_assert_eq(mapping.size, 0);
}

Test(file, only_regular_files_with_content_are_mapped)
{
    scratch s = scratch_create();
    expect_unmappable(s.path, GORGON_ERROR_IO, "No such file or directory");
    expect_unmappable(s.directory, GORGON_ERROR_IO, "expected a regular file, got a directory");
    expect_unmappable("/dev/null", GORGON_ERROR_IO, "got a device, pipe or socket");
    cr_assert_eq(mkfifo(s.path, 0600), 0);
    expect_unmappable(s.path, GORGON_ERROR_IO, "got a device, pipe or socket");
    unlink(s.path);
    write_file(s.path, "");
    expect_unmappable(s.path, GORGON_ERROR_FORMAT, "the file is empty");
    write_file(s.path, "content");
    expect_content(s.path, "content");
    scratch_remove(&s);
}

Test(file, cursor_reads_little_endian)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff};
    gg_cursor c = {.base = bytes, .size = sizeof bytes, .label = "bytes"};
    cr_assert_eq(gg_read_u8(&c, "a"), 1);
    cr_assert_eq(gg_read_u16(&c, "b"), 0x0302);
    cr_assert_eq(gg_read_u32(&c, "c"), 0x07060504);
    cr_assert_eq(gg_read_u64(&c, "d"), UINT64_C(0x0f0e0d0c0b0a0908));
    cr_assert_eq(gg_cursor_left(&c), 1);
    cr_assert_eq(gg_read_bytes(&c, 1, "e"), bytes + 15);
    cr_assert_not_null(gg_read_bytes(&c, 0, "f"));
    cr_assert_eq(c.status, GORGON_OK);
}

Test(file, the_first_cursor_error_sticks)
{
    static const uint8_t bytes[] = {1, 2, 3};
    gorgon_error err = {0};
    gg_cursor c = {.base = bytes, .size = sizeof bytes, .label = "bytes", .err = &err};
    cr_assert_eq(gg_read_u8(&c, "first"), 1);
    cr_assert_eq(gg_read_u32(&c, "second"), 0);
    cr_assert_str_eq(err.message,
                     "bytes: second at byte 1: expected 4 bytes, got 2 before the end of file");
    cr_assert_eq(gg_read_u8(&c, "third"), 0);
    cr_assert_null(gg_read_bytes(&c, 0, "fourth"));
    cr_assert_eq(gg_cursor_left(&c), 0);
    cr_assert_eq(c.position, 1);
    cr_assert_eq(c.status, GORGON_ERROR_FORMAT);
    cr_assert(strstr(err.message, "second"));

    gg_cursor huge = {.base = bytes, .size = sizeof bytes, .position = 2, .label = "bytes"};
    cr_assert_null(gg_read_bytes(&huge, SIZE_MAX, "sum that would overflow"));
    cr_assert_eq(huge.status, GORGON_ERROR_FORMAT);
}

Test(file, lines)
{
    static const char content[] = "first\n\nwith\0zero\r\nlast";
    FILE *stream = tmpfile();
    cr_assert_not_null(stream);
    fwrite(content, 1, sizeof content - 1, stream);
    rewind(stream);
    static const struct {
        const char *text;
        size_t length;
    } expected[] = {{"first", 5}, {"", 0}, {"with\0zero\r", 10}, {"last", 4}};
    char *line = NULL;
    size_t capacity = 0, length;
    bool got;
    gorgon_error err = {0};
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(gg_read_line(stream, "in", &line, &capacity, &length, &got, &err), GORGON_OK);
        cr_assert(got);
        cr_assert_eq(length, expected[i].length);
        cr_assert_eq(memcmp(line, expected[i].text, length + 1), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(gg_read_line(stream, "in", &line, &capacity, &length, &got, &err), GORGON_OK);
        cr_assert_not(got);
    }
    gg_free(line);
    fclose(stream);
}

static FILE *long_line(size_t n)
{
    FILE *stream = tmpfile();
    cr_assert_not_null(stream);
    for (size_t i = 0; i < n; i++)
        putc('x', stream);
    putc('\n', stream);
    rewind(stream);
    return stream;
}

Test(file, a_line_may_have_exactly_the_limit)
{
    char *line = NULL;
    size_t capacity = 0, length;
    bool got;
    gorgon_error err = {0};
    FILE *stream = long_line(GG_MAX_LINE);
    cr_assert_eq(gg_read_line(stream, "in", &line, &capacity, &length, &got, &err), GORGON_OK);
    cr_assert_eq(length, GG_MAX_LINE);
    fclose(stream);
    stream = long_line(GG_MAX_LINE + 1);
    cr_assert_eq(gg_read_line(stream, "in", &line, &capacity, &length, &got, &err),
                 GORGON_ERROR_FORMAT);
    cr_assert_not(got && length);
    cr_assert_str_eq(err.message, "in: expected lines of at most 8388608 bytes, got more");
    cr_assert_leq(capacity, 2 * (size_t)GG_MAX_LINE);
    fclose(stream);
    gg_free(line);
}

Test(file, a_line_survives_failed_allocations)
{
    for (size_t n = 1; n <= 3; n++) {
        char *line = NULL;
        size_t capacity = 0, length;
        bool got;
        gorgon_error err = {0};
        FILE *stream = long_line(600);
        gg_alloc_fail_at(n);
        cr_assert_eq(gg_read_line(stream, "in", &line, &capacity, &length, &got, &err),
                     GORGON_ERROR_MEMORY);
        gg_alloc_fail_at(0);
        cr_assert(strstr(err.message, "in: no memory for a line"), "%s", err.message);
        gg_free(line);
        fclose(stream);
    }
}

Test(file, a_stream_that_cannot_be_read_is_an_error)
{
    FILE *stream = fopen("/tmp", "rb");
    cr_assert_not_null(stream);
    char *line = NULL;
    size_t capacity = 0, length;
    bool got;
    gorgon_error err = {0};
    cr_assert_eq(gg_read_line(stream, "in", &line, &capacity, &length, &got, &err),
                 GORGON_ERROR_IO);
    cr_assert(strstr(err.message, "cannot read 'in': Is a directory"), "%s", err.message);
    gg_free(line);
    fclose(stream);
}

static gorgon_output *create(const char *path)
{
    gorgon_output *out;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_output_create(path, &out, &err), GORGON_OK, "%s", err.message);
    return out;
}

Test(file, output_appears_whole_or_not_at_all)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    gorgon_output *out = create(s.path);
    cr_assert_eq(gorgon_output_write(out, "new", 3, &err), GORGON_OK);
    cr_assert_neq(access(s.path, F_OK), 0);
    cr_assert_eq(gorgon_output_commit(out, &err), GORGON_OK, "%s", err.message);
    expect_content(s.path, "new");

    out = create(s.path);
    cr_assert_eq(gorgon_output_write(out, "newer", 5, &err), GORGON_OK);
    expect_content(s.path, "new");
    gorgon_output_discard(out);
    gorgon_output_discard(NULL);
    expect_content(s.path, "new");
    cr_assert_eq(count_files(s.directory), 1);
    scratch_remove(&s);
}

// Around the internal buffer's size, in one piece and in many.
Test(file, output_keeps_every_byte)
{
    static const size_t sizes[] = {1, 65535, 65536, 65537, 200000};
    scratch s = scratch_create();
    gorgon_error err = {0};
    uint8_t *data = gg_alloc(200000, 1);
    cr_assert_not_null(data);
    for (size_t i = 0; i < 200000; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t piece = 1; piece <= 200000; piece = piece * 11 + 6) {
            gorgon_output *out = create(s.path);
            for (size_t at = 0; at < sizes[i]; at += piece) {
                size_t n = sizes[i] - at < piece ? sizes[i] - at : piece;
                cr_assert_eq(gorgon_output_write(out, data + at, n, &err), GORGON_OK);
            }
            cr_assert_eq(gorgon_output_commit(out, &err), GORGON_OK);
            gg_mapping mapping;
            cr_assert_eq(gg_map_file(s.path, &mapping, &err), GORGON_OK);
            cr_assert_eq(mapping.size, sizes[i]);
            cr_assert_eq(memcmp(mapping.data, data, sizes[i]), 0);
            gg_unmap(&mapping);
        }
    }
    gg_free(data);
    scratch_remove(&s);
}

Test(file, output_keeps_permissions_and_follows_links)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    write_file(s.path, "old");
    cr_assert_eq(chmod(s.path, 0640), 0);
    char link_path[96];
    snprintf(link_path, sizeof link_path, "%s/link", s.directory);
    cr_assert_eq(symlink("file", link_path), 0);
    gorgon_output *out = create(link_path);
    cr_assert_eq(gorgon_output_write(out, "new", 3, &err), GORGON_OK);
    cr_assert_eq(gorgon_output_commit(out, &err), GORGON_OK);
    struct stat info;
    cr_assert_eq(lstat(link_path, &info), 0);
    cr_assert(S_ISLNK(info.st_mode));
    cr_assert_eq(stat(s.path, &info), 0);
    cr_assert_eq(info.st_mode & 0777, 0640);
    expect_content(s.path, "new");
    unlink(link_path);
    scratch_remove(&s);
}

// A killed process may have left a temporary under our process id.
Test(file, a_leftover_temporary_is_not_in_the_way)
{
    scratch s = scratch_create();
    gorgon_error err = {0};
    char leftover[128];
    snprintf(leftover, sizeof leftover, "%s.tmp.%ld", s.path, (long)getpid());
    write_file(leftover, "leftover");
    gorgon_output *out = create(s.path);
    cr_assert_eq(gorgon_output_write(out, "new", 3, &err), GORGON_OK);
    cr_assert_eq(gorgon_output_commit(out, &err), GORGON_OK);
    expect_content(s.path, "new");
    expect_content(leftover, "leftover");
    unlink(leftover);
    scratch_remove(&s);
}

static void expect_no_output(const char *path, const char *fragment)
{
    gorgon_output *out;
    gorgon_error err = {0};
    cr_assert_eq(gorgon_output_create(path, &out, &err), GORGON_ERROR_IO);
    cr_assert_null(out);
    cr_assert(strstr(err.message, path) && strstr(err.message, fragment), "%s", err.message);
}

Test(file, output_to_a_wrong_place_is_refused_at_once)
{
    scratch s = scratch_create();
    expect_no_output(s.directory, "expected a regular file, got a directory");
    expect_no_output("/dev/null", "expected a regular file, got a device, pipe or socket");
    char path[128];
    snprintf(path, sizeof path, "%s/absent/file", s.directory);
    expect_no_output(path, "No such file or directory");
    cr_assert_eq(symlink("absent", s.path), 0);
    expect_no_output(s.path, "No such file or directory");
    scratch_remove(&s);
}

Test(file, a_full_disk_is_reported_and_leaves_nothing)
{
    scratch s = scratch_create();
    char block[50000] = {0};
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit full;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &full), 0);
    full.rlim_cur = 70000;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
    gorgon_error err = {0};
    gorgon_output *out = create(s.path);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < 4 && status == GORGON_OK; i++)
        status = gorgon_output_write(out, block, sizeof block, &err);
    cr_assert_eq(status, GORGON_ERROR_IO);
    cr_assert(strstr(err.message, s.path) && strstr(err.message, "File too large"), "%s",
              err.message);
    gorgon_error second = {0};
    cr_assert_eq(gorgon_output_write(out, block, 1, &second), GORGON_ERROR_IO);
    cr_assert_eq(gorgon_output_commit(out, &second), GORGON_ERROR_IO);
    cr_assert(strstr(second.message, "an earlier write failed"), "%s", second.message);
    cr_assert_eq(count_files(s.directory), 0);

    // Little enough to wait in the buffer: the commit is what fails.
    full.rlim_cur = 10;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
    out = create(s.path);
    err = (gorgon_error){0};
    cr_assert_eq(gorgon_output_write(out, block, 100, &err), GORGON_OK);
    cr_assert_eq(gorgon_output_commit(out, &err), GORGON_ERROR_IO);
    cr_assert_eq(count_files(s.directory), 0);
    scratch_remove(&s);
}

Test(file, hash_is_fixed_and_sees_every_bit)
{
    // Fingerprints are stored in files: these values may never change.
    cr_assert_eq(gg_hash("", 0, 0), UINT64_C(0xb8371b5e9326a9e3));
    cr_assert_eq(gg_hash("gorgon", 6, 0), UINT64_C(0xed4e74251efe5e3e));
    cr_assert_eq(gg_hash("gorgon", 6, 1), UINT64_C(0xe1f6e2c77fae8e81));
    cr_assert_eq(gg_hash("gorgon spec", 11, 0), UINT64_C(0x63a5ae1d956bcab9));

    uint8_t data[40] = {0};
    uint64_t plain = gg_hash(data, sizeof data, 0);
    cr_assert_neq(gg_hash(data, sizeof data - 1, 0), plain);
    for (size_t i = 0; i < 8 * sizeof data; i++) {
        data[i / 8] ^= (uint8_t)(1u << i % 8);
        uint64_t one = gg_hash(data, sizeof data, 0);
        cr_assert_neq(one, plain);
        for (size_t j = 0; j < i; j++) {
            data[j / 8] ^= (uint8_t)(1u << j % 8);
            cr_assert_neq(gg_hash(data, sizeof data, 0), plain, "bits %zu and %zu cancel", i, j);
            data[j / 8] ^= (uint8_t)(1u << j % 8);
        }
        data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
}
