// What the parts of `gorgon compare` share: what is compared, and where its results lie.
//
// Every stage of every contestant leaves a record in the output directory: a JSON object whose
// "made_from" says all that the result depends on. A record with the wanted "made_from" is not
// made again, so an interrupted comparison continues, and a further architecture costs only itself.
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "pairs.h"
#include "text.h"

enum {
    COMPARE_NAME = 64,
    COMPARE_PATH = 4096,
    COMPARE_ARCHITECTURES = 32,
    COMPARE_LISTS = 1 + CLI_MAX_LIST + PAIRS_MAX_PROPOSERS,
    COMPARE_SIZES = 5,
};
extern const size_t compare_sizes[COMPARE_SIZES]; // draft nodes of the trees that are measured
#define COMPARE_NODES 15 // of the tree that figures are given for where only one is shown

// One architecture with its shape, as the command line names it: "recurrent:blocks=2".
typedef struct compare_architecture {
    char name[COMPARE_NAME], slug[COMPARE_NAME]; // the slug begins its directory's name
    gorgon_train_options train;
} compare_architecture;

typedef struct compare {
    // Flags.
    cli_common common;
    const char *model_path, *out, *cache, *architectures, *prompts_path;
    uint64_t tokens, parameters, seed;
    double epochs, minutes;
    size_t seeds, limit, positions;
    cli_list untrained;
    bool no_untrained, raw;
    gorgon_train_options train; // what all architectures share
    // What they come to.
    cli_session session;
    char own_cache[COMPARE_PATH];
    compare_architecture architecture[COMPARE_ARCHITECTURES];
    size_t n_architectures;
    char *lists[COMPARE_LISTS]; // of untrained proposers, drafting alone and beside heads; owned
    size_t n_lists;
    gorgon_cache_info cache_info;
    cli_prompts prompts;
    bool *chosen; // [prompts]
    size_t n_chosen;
    gorgon_decoder *plain;
    gorgon_stream **reference; // [prompts] plain decoding of the chosen ones
    char *command;             // as it was given
} compare;

// snprintf into a path; false after a message when it is too long.
bool compare_path(char path[COMPARE_PATH], const char *format, ...) CLI_PRINTF(2, 3);

// --- compare_plan.c: what is to be compared ---
// Reads --archs, each with the shape that flags and budget give it.
bool compare_read_architectures(compare *c);
// Refuses shapes that training would refuse, and fits them to --params; needs the model.
bool compare_fit_shapes(compare *c);
// The lists of untrained proposers: those asked for, or each that can run here and all together.
bool compare_read_lists(compare *c);

// --- compare_stages.c ---
// A contestant's directory below the output directory, made if need be.
bool compare_directory(const compare *c, const compare_architecture *a, uint64_t seed,
                       char path[COMPARE_PATH]);
// The record at `path` if it was made from just that, else NULL.
json_t *compare_load(const char *path, const json_t *made_from);
bool compare_save(const char *path, json_t *record);
bool compare_make_cache(compare *c);
json_t *compare_model_json(const compare *c); // what tells it from others
json_t *compare_cache_json(const compare *c);
// Train and calibrate heads into "<directory>/heads.gguf". The record (owned), NULL after a message
// or when interrupted.
json_t *compare_train(compare *c, const compare_architecture *a, uint64_t seed,
                      const char *directory);
json_t *compare_calibrate(compare *c, const compare_architecture *a, uint64_t seed,
                          const char *directory, const json_t *trained);

// --- compare_evaluate.c ---
// Decodes the prompts with heads (NULL: none) and every list beside them. `made_from` is taken
// over; it says where the heads come from. The record (owned) or NULL.
json_t *compare_evaluate(compare *c, const char *label, const char *directory, const char *heads,
                         json_t *made_from);

// --- compare_json.c ---
// A contestant of one seed: what its heads file tells, with the three records, which are taken
// over. NULL after a message.
json_t *compare_describe_heads(uint64_t seed, const char *directory, json_t *trained,
                               json_t *calibrated, json_t *evaluated);
// The whole comparison; `contestants` is taken over.
json_t *compare_json(compare *c, json_t *contestants);

// --- compare_html.c, compare_plots.c ---
// The page of a comparison's JSON, and nothing but that.
void compare_page(const json_t *comparison, cli_text *page);
void compare_put_plots(const json_t *comparison, cli_text *page);
// A contestant's colour, COMPARE_COLOURS for those without heads; a row's list of untrained
// proposers: 0 none, 1 the first and so on. They are the classes and shapes of its marks.
enum { COMPARE_COLOURS = 8 };
size_t compare_colour(const json_t *comparison, const char *name);
size_t compare_list(const json_t *comparison, const json_t *row);
// Of a row of the summary: "medusa with lookup".
void compare_row_name(const json_t *row, char *name, size_t size);

#endif
