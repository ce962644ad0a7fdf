// Decoding: the step loop that grows a tree, runs one pass, verifies it and commits the accepted
// path, for any number of streams at once (continuous batching). With rule "exact" the tokens are
// those of plain decoding, for every tree, proposer, batch, thread count and CPU level.
#ifndef GORGON_DECODE_H
#define GORGON_DECODE_H

#include "gorgon/datastore.h"
#include "gorgon/engine.h"
#include "gorgon/heads.h"
#include "gorgon/sampling.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gorgon_decoder gorgon_decoder;
typedef struct gorgon_stream gorgon_stream;

typedef enum gorgon_stop {
    GORGON_STOP_NONE = 0,    // still running
    GORGON_STOP_END = 1,     // end-of-sequence or end-of-turn token
    GORGON_STOP_STRING = 2,  // a stop string
    GORGON_STOP_LENGTH = 3,  // max_tokens
    GORGON_STOP_CONTEXT = 4, // the context is full
    GORGON_STOP_FAILED = 5   // the engine ran out of KV pages; the step reported it
} gorgon_stop;
// "end", "string", "length", "context", "failed", "none"
const char *gorgon_stop_name(gorgon_stop stop);

// One committed row, in order of position. logits (raw, [n_vocab]) are NULL for prompt rows but the
// last. Borrowed for the duration of the call.
typedef struct gorgon_committed_row {
    size_t position;
    gorgon_token token;
    const float *hidden; // [d_model]
    const float *logits; // [n_vocab] or NULL
} gorgon_committed_row;

typedef struct gorgon_decoder_options {
    const gorgon_heads *heads;         // NULL = none; must outlive the decoder
    size_t head_set;                   // which set of the heads file
    const gorgon_datastore *datastore; // of proposer "datastore"; NULL = none; outlives the decoder
    const char *propose;               // "heads,lookup", "all", or "" / NULL = plain
    const char *tree;   // "auto", "off", draft nodes per tree (root not counted), static-tree file
    const char *rule;   // "exact"
    size_t max_streams; // decoded at once, default 1
    const char *cost_cache; // file of measured pass costs, NULL = measure at creation
    bool record_logits;     // keep a hash of the logits behind every token (self-checks)
} gorgon_decoder_options;
void gorgon_decoder_options_init(gorgon_decoder_options *options);

// Errors: ARGUMENT (unknown proposer, rule or tree; the message lists what exists), MISMATCH.
gorgon_status gorgon_decoder_create(gorgon_engine *engine, const gorgon_decoder_options *options,
                                    gorgon_decoder **out, gorgon_error *err);
void gorgon_decoder_free(gorgon_decoder *decoder); // NULL is legal; frees its streams
// Changes the tree between requests ("auto", "off", number, file).
gorgon_status gorgon_decoder_set_tree(gorgon_decoder *decoder, const char *tree, gorgon_error *err);

typedef struct gorgon_request {
    const gorgon_token *prompt; // [n_prompt], copied
    size_t n_prompt;            // at least 1
    size_t max_tokens;
    gorgon_sampling sampling;
    const char *const *stop; // [n_stop] stop strings, copied; not part of the text
    size_t n_stop;
    bool ignore_end; // go on after an end token
    // Called with the newly decided tokens of a step, before stop handling cut the text further:
    // ids[n] and the new complete UTF-8 text. May be NULL.
    void (*on_tokens)(void *context, const gorgon_token *ids, size_t n, const char *text,
                      size_t text_length);
    // Called for every committed row (feature extraction). May be NULL.
    void (*on_row)(void *context, const gorgon_committed_row *row);
    void *context;
} gorgon_request;
void gorgon_request_init(gorgon_request *request); // max_tokens 256, greedy

// Queues a request; *out stays valid until gorgon_stream_free. Errors: ARGUMENT, LIMIT (prompt
// longer than the context; more than max_streams streams unfinished).
gorgon_status gorgon_decoder_submit(gorgon_decoder *decoder, const gorgon_request *request,
                                    gorgon_stream **out, gorgon_error *err);
// One pass over all unfinished streams; *active is how many remain afterwards. Callbacks run inside
// and must not call this decoder. Error: LIMIT when a stream found no KV page: it alone ended, with
// GORGON_STOP_FAILED, and the others may go on; any other error leaves all streams as they were.
gorgon_status gorgon_decoder_step(gorgon_decoder *decoder, size_t *active, gorgon_error *err);

typedef struct gorgon_stream_result {
    const gorgon_token *ids; // generated, an end token included
    size_t n_ids;
    const char *text; // UTF-8, without control tokens and stop strings, NUL-terminated
    size_t text_length;
    size_t prompt_tokens;
    size_t passes; // that verified this stream (prefill excluded)
    // Wall time of the steps this stream took part in, whoever else did; draft_s and verify_s are
    // parts of decode_s.
    double prefill_s, decode_s, draft_s, verify_s;
    gorgon_stop stop;
    uint64_t logits_hash; // over the logits rows behind the tokens, if record_logits
} gorgon_stream_result;
void gorgon_stream_describe(const gorgon_stream *stream, gorgon_stream_result *result);
void *gorgon_stream_context(const gorgon_stream *stream); // of its request
void gorgon_stream_free(gorgon_stream *stream);           // NULL is legal; cancels if unfinished

// Number of tokens kept of ids[n] when the text falls into a loop: up to the end of its second
// repetition; n if it does not loop. A loop is a period of at most 64 tokens repeated so that the
// repetitions cover at least 48 tokens and at least 3 periods.
size_t gorgon_loop_cut(const gorgon_token *ids, size_t n);

// Acceptance telemetry since creation or reset: per proposer, by depth and rank.
enum { GORGON_TELEMETRY_DEPTH = 16, GORGON_TELEMETRY_RANK = 10, GORGON_TELEMETRY_BUCKETS = 10 };
typedef struct gorgon_telemetry {
    const char *proposer;
    uint64_t offered[GORGON_TELEMETRY_DEPTH]
                    [GORGON_TELEMETRY_RANK]; // nodes whose parent was accepted
    uint64_t accepted[GORGON_TELEMETRY_DEPTH]
                     [GORGON_TELEMETRY_RANK]; // of those, the target's token
    double expected; // sum of their probabilities, to which all who named them contribute
    // Accepted nodes for which it spoke most strongly of all proposers that named them (ties: the
    // one listed first): over the proposers they add up to the accepted nodes.
    uint64_t won;
    // How far its probabilities come true: every edge that it suggested below an accepted parent,
    // in the tree or not, by tenths of the probability that growth gave the edge.
    uint64_t suggested[GORGON_TELEMETRY_BUCKETS];
    uint64_t came_true[GORGON_TELEMETRY_BUCKETS];
    double predicted[GORGON_TELEMETRY_BUCKETS]; // sums of these probabilities
} gorgon_telemetry;
size_t gorgon_decoder_telemetry(const gorgon_decoder *decoder, gorgon_telemetry *out,
                                size_t capacity); // returns how many proposers there are
void gorgon_decoder_reset_telemetry(gorgon_decoder *decoder);

// A static tree (JSON, as the option `tree` reads it from a file) of the n_nodes likeliest paths by
// this acceptance. *json is the caller's (gorgon_free). Error: ARGUMENT (size; nothing accepted).
gorgon_status gorgon_tree_calibrate(const gorgon_telemetry *telemetry, size_t n_nodes, char **json,
                                    gorgon_error *err);

// Measured cost of a pass of `rows` rows in milliseconds, as the planner sees it now; 0 before the
// first use of tree "auto" with a proposer.
double gorgon_decoder_pass_ms(const gorgon_decoder *decoder, size_t rows);

#ifdef __cplusplus
}
#endif

#endif
