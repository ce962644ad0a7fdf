// The promise, checked: text, ids and the bits of the logits behind every token are those of plain
// decoding for every proposer, tree, thread count, CPU level and temperature.
//
//   same_bytes MODEL HEADS|- PROMPTS.jsonl full|pairs|brief [N_PROMPTS] [N_TOKENS] [K/N] [LEVELS]
//
// The datastore is made of the prompts and of what plain decoding answers to them.
// full: the whole product, prompts of at most 300 tokens; pairs: every pair of settings at least
// once, all prompts; brief: pairs on few short prompts, for every ctest. K/N: every Nth setting
// from the Kth on, to share the work out. LEVELS: a list such as avx2,amx (default: all that this
// CPU has). Prompts are {"turns":[..]} lines, through the chat template. Exit 1 on a difference.
#define _XOPEN_SOURCE 700 // mkstemp
#include <assert.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/kernels.h"
#include "gorgon/decode.h"

enum { FACTORS = 5, MAX_VALUES = 8, MAX_PROMPTS = 256, MAX_TOKENS = 512 };

static_assert((int)GG_LEVEL_COUNT <= (int)MAX_VALUES, "more levels than values");

typedef enum factor { PROPOSE, TREE, THREADS, LEVEL, TEMPERATURE } factor;

static const char *const proposers[] = {
    "",      "lookup,recycling", "lookup,datastore",
    "heads", "heads,lookup",     "heads,lookup,recycling,datastore"};
enum { N_PROPOSERS = sizeof proposers / sizeof proposers[0], N_WITHOUT_HEADS = 3 };
static const char *const trees[] = {"4", "16", "64", "auto"};

typedef struct setting {
    size_t value[FACTORS];
} setting;

typedef struct output {
    gorgon_token ids[MAX_TOKENS];
    size_t n_ids;
    char *text;
    uint64_t logits_hash;
} output;

typedef struct check {
    gorgon_model *model;
    gorgon_heads *heads;
    gorgon_datastore *datastore;
    gorgon_token *prompt[MAX_PROMPTS];
    size_t prompt_length[MAX_PROMPTS];
    size_t n_prompts, n_tokens;
    output expected[2][MAX_PROMPTS]; // per temperature
    size_t compared, differing, passes, tokens;
    const char *levels[GG_LEVEL_COUNT + 1]; // those that are compared, then scalar
    size_t n_levels;
    size_t part, n_parts, n_settings;
} check;

static void die(const gorgon_error *err)
{
    fprintf(stderr, "same_bytes: %s\n", err->message);
    exit(2);
}

static gorgon_engine *open_engine(const check *c, size_t threads, const char *level)
{
    gorgon_error err = {0};
    gorgon_engine *engine = NULL;
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.cpu_level = level;
    gorgon_model_info info;
    gorgon_model_describe(c->model, &info);
    options.context = info.context_length < 2048 ? info.context_length : 2048;
    options.max_sequences = 2;
    options.kv_positions = options.context + 1024;
    if (gorgon_engine_create(c->model, &options, &engine, &err) != GORGON_OK)
        die(&err);
    return engine;
}

static gorgon_decoder *open_decoder(const check *c, gorgon_engine *engine, const char *propose,
                                    const char *tree)
{
    gorgon_error err = {0};
    gorgon_decoder *decoder = NULL;
    gorgon_decoder_options options;
    gorgon_decoder_options_init(&options);
    options.heads = c->heads;
    options.datastore = c->datastore;
    options.propose = propose;
    options.tree = tree;
    options.record_logits = true;
    if (gorgon_decoder_create(engine, &options, &decoder, &err) != GORGON_OK)
        die(&err);
    return decoder;
}

static output decode(check *c, gorgon_decoder *decoder, size_t prompt, bool sampled)
{
    gorgon_error err = {0};
    gorgon_stream *stream = NULL;
    gorgon_request request;
    gorgon_request_init(&request);
    request.prompt = c->prompt[prompt];
    request.n_prompt = c->prompt_length[prompt];
    request.max_tokens = c->n_tokens;
    request.sampling.temperature = sampled ? 0.8f : 0.0f;
    request.sampling.seed = 42;
    request.sampling.completion = prompt;
    size_t active = 1;
    if (gorgon_decoder_submit(decoder, &request, &stream, &err) != GORGON_OK)
        die(&err);
    while (active) {
        if (gorgon_decoder_step(decoder, &active, &err) != GORGON_OK)
            die(&err);
    }
    gorgon_stream_result r;
    gorgon_stream_describe(stream, &r);
    output out = {.n_ids = r.n_ids, .logits_hash = r.logits_hash};
    memcpy(out.ids, r.ids, r.n_ids * sizeof *r.ids);
    out.text = malloc(r.text_length + 1);
    memcpy(out.text, r.text, r.text_length + 1);
    c->passes += r.passes;
    c->tokens += r.n_ids;
    gorgon_stream_free(stream);
    return out;
}

static bool equal(const output *a, const output *b)
{
    return a->n_ids == b->n_ids && memcmp(a->ids, b->ids, a->n_ids * sizeof a->ids[0]) == 0 &&
           strcmp(a->text, b->text) == 0 && a->logits_hash == b->logits_hash;
}

static void free_expected(check *c)
{
    for (size_t t = 0; t < 2; t++) {
        for (size_t p = 0; p < MAX_PROMPTS; p++) {
            free(c->expected[t][p].text);
            c->expected[t][p].text = NULL;
        }
    }
}

static void make_expected(check *c)
{
    free_expected(c);
    gorgon_engine *engine = open_engine(c, 1, NULL);
    gorgon_decoder *decoder = open_decoder(c, engine, "", "off");
    for (size_t t = 0; t < 2; t++) {
        for (size_t p = 0; p < c->n_prompts; p++)
            c->expected[t][p] = decode(c, decoder, p, t == 1);
    }
    gorgon_decoder_free(decoder);
    gorgon_engine_free(engine);
}

static gorgon_status add_prompt(const check *c, gorgon_datastore_builder *builder, size_t prompt,
                                gorgon_error *err)
{
    char *text = NULL;
    size_t length = 0;
    const output *answer = &c->expected[0][prompt];
    gorgon_status status =
        gorgon_tokenizer_decode(gorgon_model_tokenizer(c->model), c->prompt[prompt],
                                c->prompt_length[prompt], &text, &length, err);
    if (status == GORGON_OK)
        status = gorgon_datastore_builder_add(builder, text, length, true, err);
    if (status == GORGON_OK)
        status =
            gorgon_datastore_builder_add(builder, answer->text, strlen(answer->text), true, err);
    gorgon_free(text);
    return status;
}

static void open_datastore(check *c)
{
    char path[] = "/tmp/gorgon-store-XXXXXX";
    gorgon_error err = {0};
    gorgon_datastore_options options;
    gorgon_datastore_builder *builder = NULL;
    gorgon_datastore_options_init(&options);
    const int fd = mkstemp(path);
    if (fd < 0) {
        perror(path);
        exit(2);
    }
    close(fd);
    gorgon_status status = gorgon_datastore_builder_create(c->model, &options, &builder, &err);
    for (size_t p = 0; p < c->n_prompts && status == GORGON_OK; p++)
        status = add_prompt(c, builder, p, &err);
    if (status == GORGON_OK)
        status = gorgon_datastore_builder_write(builder, path, &err);
    if (status == GORGON_OK)
        status = gorgon_datastore_open(path, &c->datastore, &err);
    gorgon_datastore_builder_free(builder);
    unlink(path); // the mapping stays
    if (status != GORGON_OK)
        die(&err);
}

static void run_setting(check *c, const setting *s, size_t n_prompts)
{
    if (c->n_settings++ % c->n_parts != c->part)
        return;
    const char *level = c->levels[s->value[LEVEL]];
    gorgon_engine *engine = open_engine(c, s->value[THREADS] + 1, level);
    gorgon_decoder *decoder =
        open_decoder(c, engine, proposers[s->value[PROPOSE]], trees[s->value[TREE]]);
    size_t differing = 0, t = s->value[TEMPERATURE];
    c->passes = c->tokens = 0;
    for (size_t p = 0; p < n_prompts; p++) {
        output got = decode(c, decoder, p, t == 1);
        if (!equal(&got, &c->expected[t][p])) {
            differing++;
            fprintf(stderr, "prompt %zu differs (ids, text or logits)\n", p);
        }
        free(got.text);
    }
    printf("%-4s propose %-32s tree %-4s threads %zu %-7s T %.1f: %zu prompts, %.2f tokens per "
           "pass\n",
           differing ? "FAIL" : "ok",
           proposers[s->value[PROPOSE]][0] ? proposers[s->value[PROPOSE]] : "(none)",
           trees[s->value[TREE]], s->value[THREADS] + 1, level, t ? 0.8 : 0.0, n_prompts,
           (double)c->tokens / (double)(c->passes ? c->passes : 1));
    fflush(stdout);
    c->compared += n_prompts;
    c->differing += differing;
    gorgon_decoder_free(decoder);
    gorgon_engine_free(engine);
}

// Pairs of values not yet seen together that the setting would add.
static size_t new_pairs(const setting *s, bool seen[FACTORS][FACTORS][MAX_VALUES][MAX_VALUES],
                        bool mark)
{
    size_t n = 0;
    for (size_t a = 0; a < FACTORS; a++) {
        for (size_t b = a + 1; b < FACTORS; b++) {
            bool *pair = &seen[a][b][s->value[a]][s->value[b]];
            n += !*pair;
            *pair = *pair || mark;
        }
    }
    return n;
}

static setting setting_at(size_t index, const size_t counts[FACTORS])
{
    setting s;
    for (size_t f = 0; f < FACTORS; f++) {
        s.value[f] = index % counts[f];
        index /= counts[f];
    }
    return s;
}

static void run_all(check *c, const char *mode)
{
    size_t counts[FACTORS] = {c->heads ? N_PROPOSERS : N_WITHOUT_HEADS, 4, 2, c->n_levels, 2};
    size_t total = counts[0] * counts[1] * counts[2] * counts[3] * counts[4];
    bool seen[FACTORS][FACTORS][MAX_VALUES][MAX_VALUES] = {{{{false}}}};
    for (size_t i = 0; strcmp(mode, "full") == 0 && i < total; i++) {
        setting s = setting_at(i, counts);
        if (s.value[PROPOSE] > 0 || s.value[TREE] == 0) // plain decoding has no tree
            run_setting(c, &s, c->n_prompts);
    }
    while (strcmp(mode, "full") != 0) { // greedy covering array
        size_t best = 0, best_gain = 0;
        for (size_t i = 0; i < total; i++) {
            setting s = setting_at(i, counts);
            size_t gain = new_pairs(&s, seen, false);
            if (gain > best_gain) {
                best_gain = gain;
                best = i;
            }
        }
        if (best_gain == 0)
            break;
        setting s = setting_at(best, counts);
        new_pairs(&s, seen, true);
        run_setting(c, &s, c->n_prompts);
    }
}

// The specification itself, slow on a real model: the shortest prompt, few tokens.
static void run_scalar(check *c)
{
    enum { FEW_TOKENS = 12 };
    for (size_t p = 1; p < c->n_prompts; p++) {
        if (c->prompt_length[p] < c->prompt_length[0]) {
            gorgon_token *ids = c->prompt[0];
            size_t length = c->prompt_length[0];
            c->prompt[0] = c->prompt[p];
            c->prompt_length[0] = c->prompt_length[p];
            c->prompt[p] = ids;
            c->prompt_length[p] = length;
        }
    }
    size_t n_prompts = c->n_prompts;
    c->n_tokens = c->n_tokens < FEW_TOKENS ? c->n_tokens : FEW_TOKENS;
    c->n_prompts = 1;
    make_expected(c);
    c->n_prompts = n_prompts;
    setting scalar = {{(c->heads ? N_PROPOSERS : N_WITHOUT_HEADS) - 1, 1, 1, c->n_levels, 0}};
    run_setting(c, &scalar, 1);
    scalar.value[TEMPERATURE] = 1;
    run_setting(c, &scalar, 1);
}

// The levels of the comma-separated list, by default all above scalar that this CPU has.
static void choose_levels(check *c, const char *list)
{
    gorgon_error err = {0};
    for (size_t l = GG_LEVEL_SCALAR + 1; !list && l < GG_LEVEL_COUNT; l++) {
        if (gg_kernels_get((gg_level)l))
            c->levels[c->n_levels++] = gg_kernels_get((gg_level)l)->name;
    }
    while (list && *list && c->n_levels < GG_LEVEL_COUNT) {
        char word[16] = "";
        size_t n = strcspn(list, ",");
        gg_level level;
        memcpy(word, list, n < sizeof word ? n : sizeof word - 1);
        if (gg_level_parse(word, &level, &err) != GORGON_OK)
            die(&err);
        if (!gg_kernels_get(level)) {
            fprintf(stderr, "same_bytes: this CPU has no level %s\n", word);
            exit(2);
        }
        c->levels[c->n_levels++] = gg_kernels_get(level)->name;
        list += n + (list[n] == ',');
    }
    if (c->n_levels == 0)
        c->levels[c->n_levels++] = "scalar";
    c->levels[c->n_levels] = "scalar";
}

// At most `limit` prompts (0 = all) of at most `longest` tokens.
static void read_prompts(check *c, const char *path, size_t limit, size_t longest)
{
    FILE *f = fopen(path, "r");
    size_t capacity = 0, lines = 0;
    char *line = NULL;
    gorgon_token *all[MAX_PROMPTS];
    size_t length[MAX_PROMPTS];
    const gorgon_tokenizer *tokenizer = gorgon_model_tokenizer(c->model);
    while (f && lines < MAX_PROMPTS && getline(&line, &capacity, f) > 0) {
        json_t *in = json_loads(line, 0, NULL);
        gorgon_message message = {
            "user", json_string_value(json_array_get(json_object_get(in, "turns"), 0))};
        char *text = NULL;
        gorgon_error err = {0};
        if (!message.content ||
            gorgon_tokenizer_chat(tokenizer, &message, 1, true, &text, &err) != GORGON_OK ||
            gorgon_tokenizer_encode(tokenizer, text, strlen(text), true, &all[lines],
                                    &length[lines], &err) != GORGON_OK)
            die(&err);
        gorgon_free(text);
        json_decref(in);
        if (length[lines] <= longest)
            lines++;
        else
            gorgon_free(all[lines]);
    }
    if (lines == 0) {
        fprintf(stderr, "same_bytes: %s: no prompts\n", path);
        exit(2);
    }
    // Spread over the file, so that every task is among few prompts.
    c->n_prompts = limit && limit < lines ? limit : lines;
    for (size_t i = 0; i < c->n_prompts; i++) {
        size_t from = i * lines / c->n_prompts;
        c->prompt[i] = all[from];
        c->prompt_length[i] = length[from];
        all[from] = NULL;
    }
    for (size_t i = 0; i < lines; i++)
        gorgon_free(all[i]);
    free(line);
    fclose(f);
}

int main(int argc, char **argv)
{
    static check c;
    gorgon_error err = {0};
    if (argc < 5) {
        fputs("usage: same_bytes MODEL HEADS|- PROMPTS full|pairs|brief [PROMPTS] [TOKENS] "
              "[K/N] [LEVELS]\n",
              stderr);
        return 2;
    }
    bool brief = strcmp(argv[4], "brief") == 0;
    c.n_tokens = argc > 6 ? strtoul(argv[6], NULL, 10) : brief ? 24 : 64;
    if (c.n_tokens > MAX_TOKENS)
        c.n_tokens = MAX_TOKENS;
    if (gorgon_model_open(argv[1], 0, &c.model, &err) != GORGON_OK)
        die(&err);
    if (strcmp(argv[2], "-") != 0 &&
        (gorgon_heads_open(argv[2], &c.heads, &err) != GORGON_OK ||
         gorgon_heads_check(c.heads, c.model, NULL, &err) != GORGON_OK))
        die(&err);
    choose_levels(&c, argc > 8 ? argv[8] : NULL);
    c.n_parts = 1;
    if (argc > 7 && (sscanf(argv[7], "%zu/%zu", &c.part, &c.n_parts) != 2 || c.part-- == 0 ||
                     c.part >= c.n_parts)) {
        fprintf(stderr, "same_bytes: part '%s', expected K/N, K from 1\n", argv[7]);
        return 2;
    }
    size_t longest = brief ? 200 : strcmp(argv[4], "full") == 0 ? 300 : SIZE_MAX;
    size_t limit = argc > 5 ? strtoul(argv[5], NULL, 10) : brief ? 3 : 0;
    read_prompts(&c, argv[3], limit, longest);
    make_expected(&c);
    open_datastore(&c);
    run_all(&c, argv[4]);
    run_scalar(&c);
    printf("%zu texts compared, %zu differ\n", c.compared, c.differing);
    free_expected(&c);
    for (size_t p = 0; p < c.n_prompts; p++)
        gorgon_free(c.prompt[p]);
    gorgon_heads_free(c.heads);
    gorgon_datastore_free(c.datastore);
    gorgon_model_free(c.model);
    return c.differing ? 1 : 0;
}
