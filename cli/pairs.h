// Plain and speculative decoding of the same prompts: rates, acceptance and whether the outputs
// are the same, over all prompts, per task and per category.
#ifndef CLI_PAIRS_H
#define CLI_PAIRS_H

#include "decode_common.h"
#include "prompts.h"

enum { PAIRS_MAX_GROUPS = 64, PAIRS_MAX_PROPOSERS = 16 };

typedef struct pairs_rate {
    double tokens, passes; // of decoding: the token that the prompt gives is not counted
    double seconds, draft_s;
} pairs_rate;

// Prompts that are reported together.
typedef struct pairs_group {
    const char *name;
    size_t runs;
    pairs_rate plain, speculative;
    json_t *speedups; // of single runs; NULL before the first
    bool same_output;
} pairs_group;

typedef struct pairs_table {
    pairs_group rows[PAIRS_MAX_GROUPS];
    size_t n;
} pairs_table;

typedef struct pairs_result {
    pairs_group all;
    pairs_group without_loops; // of answers that do not repeat themselves (gorgon_loop_cut)
    pairs_table tasks, categories;
    gorgon_telemetry telemetry[PAIRS_MAX_PROPOSERS];
    size_t n_proposers;
    json_t *differing; // ids of the prompts whose outputs differ
} pairs_result;

bool pairs_result_init(pairs_result *result); // false after a message
void pairs_result_clear(pairs_result *result);

// Which prompts are run: the first `limit` of each task, 0 = all. *chosen ([prompts], malloc).
bool pairs_choose(const cli_prompts *prompts, size_t limit, bool **chosen, size_t *n_chosen);
// Two decoders on one engine, which keep what they learn from prompt to prompt.
typedef struct pairs_decoders {
    gorgon_decoder *plain, *speculative;
} pairs_decoders;
bool pairs_open(cli_session *session, const gorgon_decoder_options *options,
                pairs_decoders *decoders);
void pairs_close(pairs_decoders *decoders);
// A few tokens that are not counted: they touch memory and wake the processor.
bool pairs_warm_up(const pairs_decoders *decoders, const cli_prompt *prompt);
bool pairs_warm(gorgon_decoder *decoder, const cli_prompt *prompt); // one of them

// Runs one request to its end; NULL after a message or when interrupted.
gorgon_stream *pairs_decode(gorgon_decoder *decoder, const gorgon_request *request);
gorgon_request pairs_request(const cli_prompts *prompts, size_t index);
// One prompt both ways into the result; `swap` says that speculative decoding goes first.
bool pairs_run(const pairs_decoders *decoders, const cli_prompts *prompts, size_t index, bool swap,
               pairs_result *result);
// The same of two streams that have been decoded.
bool pairs_add(const cli_prompts *prompts, size_t index, const gorgon_stream *plain,
               const gorgon_stream *speculative, pairs_result *result);
void pairs_take_telemetry(const pairs_decoders *decoders, pairs_result *result);

double pairs_tokens_per_s(const pairs_rate *rate);
double pairs_tokens_per_pass(const pairs_rate *rate);
double pairs_speedup(const pairs_group *group);
// Over runs: unlike the ratio of sums it stands a burst of stolen processor time.
double pairs_median_speedup(const pairs_group *group);
double pairs_median(double *x, size_t n); // sorts x; n > 0

void pairs_put_group(json_t *out, const pairs_group *group);
json_t *pairs_table_json(const pairs_table *table);
json_t *pairs_acceptance_json(const pairs_result *result);
json_t *pairs_machine_json(const cli_session *session);

#endif
