// A directory, in memory where the system has that, for fuzz targets whose readers take paths.
// Define _GNU_SOURCE before including anything.
#ifndef SCRATCH_H
#define SCRATCH_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SCRATCH_PATH = 320 };
static char scratch[64];

// Until the next call.
static inline const char *scratch_path(const char *name)
{
    static char path[SCRATCH_PATH];
    snprintf(path, sizeof path, "%s/%.250s", scratch, name);
    return path;
}

static inline void scratch_clear(void)
{
    DIR *stream = opendir(scratch);
    for (struct dirent *entry; stream && (entry = readdir(stream)) != NULL;) {
        if (entry->d_name[0] != '.')
            unlink(scratch_path(entry->d_name));
    }
    if (stream)
        closedir(stream);
}

static inline void scratch_remove(void)
{
    scratch_clear();
    rmdir(scratch);
}

// Empty; removed when the process ends.
static inline void scratch_begin(void)
{
    static const char *const templates[] = {"/dev/shm/gorgon-fuzz-XXXXXX",
                                            "/tmp/gorgon-fuzz-XXXXXX"};
    for (size_t i = 0; i < 2 && !scratch[0]; i++) {
        snprintf(scratch, sizeof scratch, "%s", templates[i]);
        if (!mkdtemp(scratch))
            scratch[0] = '\0';
        else
            atexit(scratch_remove);
    }
    if (!scratch[0])
        abort();
    scratch_clear();
}

static inline void scratch_write(const char *name, const uint8_t *data, size_t n)
{
    FILE *stream = fopen(scratch_path(name), "wb");
    if (!stream || fwrite(data, 1, n, stream) != n || fclose(stream) != 0)
        abort();
}

#endif
