// Synthesis by one lane and by several, a plain program so that it also runs under the thread
// sanitizer: the caches are equal byte for byte, and many lanes come to an end.
//   synth_lanes (no arguments; works in a scratch directory)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "gorgon/trainers.h"
#include "trainers/cache.h"

enum { CACHES = 3, TOKENS = 3000 };

static const size_t threads[CACHES] = {1, 2, 24};

static void make(const gorgon_model *model, size_t n_threads, const char *cache)
{
    gorgon_error err = {0};
    gorgon_synth_options options;
    gorgon_synth_options_init(&options);
    options.tokens = TOKENS;
    options.max_sequence = 256;
    options.cache = cache;
    options.threads = n_threads;
    if (gorgon_synth(model, &options, &err) != GORGON_OK) {
        fprintf(stderr, "synth_lanes: %zu threads: %s\n", n_threads, err.message);
        exit(EXIT_FAILURE);
    }
}

static int same_file(const char *a, const char *b)
{
    gg_mapping x, y;
    if (gg_map_file(a, &x, NULL) != GORGON_OK || gg_map_file(b, &y, NULL) != GORGON_OK)
        return 0;
    int same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    gg_unmap(&x);
    gg_unmap(&y);
    return same;
}

int main(void)
{
    static const char *const files[] = {"chunk-000000.ggc", "cache.json"};
    char directory[] = "synth-lanes-XXXXXX", cache[CACHES][64];
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    int good = 1;
    if (!mkdtemp(directory) ||
        gorgon_model_open(GG_SOURCE_DIR "/models/tiny/tiny.gguf", 1, &model, &err) != GORGON_OK) {
        fprintf(stderr, "synth_lanes: %s\n", err.message);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < CACHES; i++) {
        snprintf(cache[i], sizeof cache[i], "%s/%zu", directory, threads[i]);
        make(model, threads[i], cache[i]);
        for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
            char a[320], b[320];
            snprintf(a, sizeof a, "%s/%s", cache[0], files[f]);
            snprintf(b, sizeof b, "%s/%s", cache[i], files[f]);
            if (!same_file(a, b)) {
                fprintf(stderr, "synth_lanes: %s of %zu threads differs\n", files[f], threads[i]);
                good = 0;
            }
        }
    }
    for (size_t i = 0; i < CACHES; i++)
        gg_cache_remove(cache[i], NULL);
    rmdir(directory);
    gorgon_model_free(model);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
