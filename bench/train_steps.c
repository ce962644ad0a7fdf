// gorgon_train with its steps counted out, for bench/train_peer.py: writes what the first STEPS
// steps train on, then trains, as many steps at a time as each line of standard input says, and
// answers with the seconds they took. Loss of every step: DIR/curve.csv.
//   train_steps MODEL CACHE DIR ARCHITECTURE DEPTHS BLOCKS EPOCHS STEPS THREADS [LEVEL]
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/system.h"
#include "gorgon/trainers.h"
#include "train_batch.h"

// The first evaluation falls at a tenth of the run: STEPS has to stay below.
enum { FIRST_POINT = 10, PATH = 4096 };

typedef struct bench {
    const char *directory;
    size_t steps;
    gorgon_train_options options;
    gg_cache *cache;
    gg_train_data *data;
    gg_batch_maker maker;
    gg_batch batch;
    size_t left, taken; // steps of the slice still to do; of the whole run done
    double begin;
} bench;

static bool put(const void *data, size_t size, size_t n, FILE *file)
{
    return fwrite(data, size, n, file) == n;
}

static FILE *create(const bench *b, const char *name)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", b->directory, name);
    FILE *file = fopen(path, "wb");
    if (!file)
        perror(path);
    return file;
}

// Per step: input [batch][width] f32, then per pair ids [8] u32, p [8] f32, weight f32; unused
// targets and the weights of skipped pairs are zero.
static bool write_step(bench *b, size_t step, FILE *file)
{
    gg_batch *batch = &b->batch;
    gorgon_error err = {0};
    if (gg_batch_take(&b->maker, b->data, step, batch, &err) != GORGON_OK)
        return fprintf(stderr, "train_steps: %s\n", err.message) < 0;
    bool good =
        put(batch->input, gg_head_input(&b->maker.shape) * sizeof *batch->input, batch->rows, file);
    for (size_t i = 0; i < batch->rows * b->options.n_heads && good; i++) {
        const gg_head_target *t = &batch->targets[i];
        uint32_t ids[GG_HEAD_TARGETS] = {0};
        float p[GG_HEAD_TARGETS] = {0}, weight = t->n > 0 ? t->weight : 0.0f;
        memcpy(ids, t->ids, t->n * sizeof *ids);
        memcpy(p, t->p, t->n * sizeof *p);
        good = put(ids, sizeof ids, 1, file) && put(p, sizeof p, 1, file) &&
               put(&weight, sizeof weight, 1, file);
    }
    return good;
}

static bool open_data(bench *b, gorgon_engine *engine, gorgon_error *err)
{
    const gorgon_train_options *o = &b->options;
    const gorgon_model *model = gg_engine_model(engine);
    gg_batch_maker wanted = {.engine = engine,
                             .shape = {.n_heads = o->n_heads,
                                       .n_blocks = o->n_blocks,
                                       .d_model = gg_model_geometry(model)->d_model,
                                       .n_draft = o->draft_vocab,
                                       .root_embedding = true},
                             .head_decay = o->head_decay};
    if (!gg_head_kind_find(o->architecture, &wanted.shape.kind))
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "no architecture '%s'", o->architecture) ==
               GORGON_OK;
    gg_head_shape_complete(&wanted.shape);
    if (gg_cache_open_existing(o->cache, gorgon_model_fingerprint(model), &b->cache, err) !=
        GORGON_OK)
        return false;
    gg_train_source source = {.engine = engine,
                              .cache = b->cache,
                              .n_heads = o->n_heads,
                              .held_out = o->held_out,
                              .seed = o->seed,
                              .budget_bytes = UINT64_C(3) << 30,
                              .piece = gg_head_piece(&wanted.shape)};
    return gg_train_data_open(&source, &b->data, err) == GORGON_OK &&
           gg_batch_maker_create(&wanted, gg_train_data_counts(b->data), &b->maker, err) ==
               GORGON_OK;
}

static bool write_data(bench *b)
{
    const gg_head_shape *s = &b->maker.shape;
    FILE *output = create(b, "output.f32"), *steps = create(b, "steps.bin");
    bool good = output && steps && gg_batch_create(s, b->options.batch, &b->batch) &&
                put(b->maker.output, sizeof(float), b->maker.n_out * s->d_model, output);
    for (size_t i = 0; i < b->steps && good; i++)
        good = write_step(b, i, steps);
    good = output && fclose(output) == 0 && good;
    good = steps && fclose(steps) == 0 && good;
    if (!good)
        fprintf(stderr, "train_steps: cannot write the batches to %s\n", b->directory);
    return good;
}

static size_t total_steps(const bench *b)
{
    const gorgon_train_options *o = &b->options;
    return (size_t)ceil(o->epochs * (double)gg_train_data_positions(b->data) / (double)o->batch);
}

static void describe(const bench *b, const gorgon_engine *engine)
{
    const gorgon_train_options *o = &b->options;
    printf("{\"batch\": %zu, \"d\": %zu, \"width\": %zu, \"n_out\": %zu, \"positions\": %" PRIu64
           ", \"total_steps\": %zu, \"learning_rate\": %.17g, \"warmup_share\": %.17g, "
           "\"weight_decay\": %.17g, \"clip\": %.17g, \"cpu_level\": \"%s\"}\n",
           o->batch, b->maker.shape.d_model, gg_head_input(&b->maker.shape), b->maker.n_out,
           gg_train_data_positions(b->data), total_steps(b), o->learning_rate, o->warmup_share,
           o->weight_decay, o->clip, gorgon_engine_cpu_level(engine));
    fflush(stdout);
}

static void clear(bench *b)
{
    gg_batch_clear(&b->batch);
    gg_batch_maker_clear(&b->maker);
    gg_train_data_free(b->data);
    gg_cache_free(b->cache);
    b->data = NULL;
    b->cache = NULL;
}

// Waits for the next slice; false at the end.
static bool next_slice(bench *b)
{
    char line[32];
    b->left = b->taken < b->steps && fgets(line, sizeof line, stdin) ? strtoul(line, NULL, 10) : 0;
    if (b->left > b->steps - b->taken)
        b->left = b->steps - b->taken;
    b->begin = gg_now();
    return b->left > 0;
}

// Called after every step.
static bool on_step(void *context, const gorgon_progress *progress)
{
    (void)progress;
    bench *b = context;
    b->taken++;
    if (--b->left > 0)
        return true;
    printf("%.9f\n", gg_now() - b->begin);
    fflush(stdout);
    return next_slice(b);
}

static int run(bench *b, gorgon_engine *engine)
{
    char curve[PATH], state[PATH], heads[PATH];
    gorgon_error err = {0};
    if (!open_data(b, engine, &err)) {
        fprintf(stderr, "train_steps: %s\n", err.message);
        return 2;
    }
    if (b->steps >= total_steps(b) / FIRST_POINT) {
        fprintf(stderr, "train_steps: expected fewer than %zu steps, a tenth of %g epochs\n",
                total_steps(b) / FIRST_POINT, b->options.epochs);
        return 2;
    }
    bool written = write_data(b);
    describe(b, engine);
    clear(b);
    snprintf(curve, sizeof curve, "%s/curve.csv", b->directory);
    snprintf(state, sizeof state, "%s/train.state", b->directory);
    snprintf(heads, sizeof heads, "%s/heads.gguf", b->directory);
    b->options.curve = curve;
    b->options.state = state;
    b->options.out = heads;
    b->options.checkpoint_steps = 0;
    b->options.progress = on_step;
    b->options.context = b;
    if (!written || !next_slice(b))
        return 2;
    if (gorgon_train(engine, &b->options, &err) == GORGON_ERROR_CANCELLED)
        return 0;
    fprintf(stderr, "train_steps: %s\n", err.message);
    return 2;
}

int main(int argc, char **argv)
{
    bench b = {0};
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    gorgon_engine *engine = NULL;
    gorgon_engine_options options;
    if (argc < 10) {
        fprintf(stderr, "usage: train_steps MODEL CACHE DIR ARCHITECTURE DEPTHS BLOCKS EPOCHS "
                        "STEPS THREADS [LEVEL]\n");
        return 2;
    }
    gorgon_engine_options_init(&options);
    gorgon_train_options_init(&b.options);
    b.options.cache = argv[2];
    b.directory = argv[3];
    b.options.architecture = argv[4];
    b.options.n_heads = strtoul(argv[5], NULL, 10);
    b.options.n_blocks = strtoul(argv[6], NULL, 10);
    b.options.epochs = strtod(argv[7], NULL);
    b.steps = strtoul(argv[8], NULL, 10);
    options.threads = strtoul(argv[9], NULL, 10);
    options.cpu_level = argc > 10 ? argv[10] : NULL;
    int code = 2;
    if (gorgon_model_open(argv[1], options.threads, &model, &err) != GORGON_OK ||
        gorgon_engine_create(model, &options, &engine, &err) != GORGON_OK)
        fprintf(stderr, "train_steps: %s\n", err.message);
    else
        code = run(&b, engine);
    clear(&b);
    gorgon_engine_free(engine);
    gorgon_model_free(model);
    return code;
}
