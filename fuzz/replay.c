// Runs a fuzz target over every file of the directories given as arguments: the committed corpus is
// replayed by ctest with any compiler.
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "cannot %s '%s': %s\n", what, path, strerror(errno));
    return -1;
}

static int replay_file(const char *path, size_t size)
{
    FILE *stream = fopen(path, "rb");
    if (!stream)
        return fail("open", path);
    // Exactly `size` bytes on the heap, so that a sanitizer sees any read beyond them.
    uint8_t *data = malloc(size ? size : 1);
    size_t n = data ? fread(data, 1, size, stream) : 0;
    fclose(stream);
    if (!data || n != size) {
        free(data);
        return fail("read", path);
    }
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

// Adds the number of inputs run to *count.
static int replay_directory(const char *directory, size_t *count)
{
    DIR *stream = opendir(directory);
    if (!stream)
        return fail("list", directory);
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(stream)) != NULL;) {
        size_t length = strlen(directory) + strlen(entry->d_name) + 2;
        char *path = malloc(length);
        if (!path) {
            result = fail("list", directory);
            break;
        }
        snprintf(path, length, "%s/%s", directory, entry->d_name);
        struct stat info;
        if (stat(path, &info) != 0)
            result = fail("examine", path);
        else if (S_ISREG(info.st_mode)) {
            result = replay_file(path, (size_t)info.st_size);
            *count += result == 0;
        }
        free(path);
    }
    closedir(stream);
    return result;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        if (replay_directory(argv[i], &count) != 0)
            return 1;
    }
    printf("%zu inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
