// Making heads: text synthesis, feature cache, training, calibration, and `attach`, which runs
// them all. Every stage is resumable: killed at any moment and started again with the same options
// it continues, and its result is bit-equal to an uninterrupted run.
#ifndef GORGON_TRAINERS_H
#define GORGON_TRAINERS_H

#include "gorgon/engine.h"
#include "gorgon/heads.h"
#include "gorgon/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

// A text of the user's to make training text from.
typedef struct gorgon_synth_text {
    // chat: the user's turns, which the model answers one after the other (at most 3 of them);
    // else one passage, which the model goes on from or is given a task on. UTF-8; turns of more
    // than 8,000 bytes are passed over.
    bool chat;
    const char *const *turns; // [n_turns]
    size_t n_turns;
} gorgon_synth_text;

typedef struct gorgon_synth_options {
    const char *cache;    // directory of the feature cache, created if absent
    uint64_t tokens;      // assistant tokens wanted, default 200000
    uint64_t seed;        // default 1
    uint64_t cache_limit; // bytes of hidden states kept, the rest is recomputed; 0 = no limit
    size_t max_sequence;  // positions per sequence, default 1024
    double greedy_share;  // of answers, default 0.5; the rest sampled
    float temperature;    // of sampled answers, default 0.7
    const gorgon_synth_text *data; // [n_data] borrowed, each is used once; default none
    size_t n_data;
    double data_share;     // of the conversations, while there is data; default 0.5
    const char *text_path; // also write the conversations as JSONL here, NULL = no
    size_t threads;        // 0 = all processors
    const char *cpu_level; // NULL = best
    gorgon_progress_fn progress;
    void *context;
} gorgon_synth_options;
void gorgon_synth_options_init(gorgon_synth_options *options);
// Runs one engine per thread wanted, up to 16; the text does not depend on how many.
gorgon_status gorgon_synth(const gorgon_model *model, const gorgon_synth_options *options,
                           gorgon_error *err);

// The user's message that opens conversation `index` of a synthesis with this seed, for trials of
// heads: no synthesis gets as far as index GORGON_OPENING_UNSEEN, though the same message may have
// opened an earlier conversation.
enum { GORGON_OPENING_BYTES = 8192 };
#define GORGON_OPENING_UNSEEN (UINT64_C(1) << 62)
void gorgon_synth_opening(uint64_t seed, uint64_t index, char text[GORGON_OPENING_BYTES]);

// What a feature cache holds.
typedef struct gorgon_cache_info {
    uint64_t tokens; // written by the model, each with its hidden state
    uint64_t sequences, bytes;
    uint64_t seed, options_hash; // that its text came from
    gorgon_fingerprint base;     // of the model that wrote it
    bool complete;
} gorgon_cache_info;
// A directory that is absent or holds no cache yet is described by zeros. Errors: MISMATCH (made
// with another model than this one, unless that is NULL), FORMAT, IO, MEMORY.
gorgon_status gorgon_cache_describe(const gorgon_model *model, const char *directory,
                                    gorgon_cache_info *info, gorgon_error *err);

typedef struct gorgon_train_options {
    const char *cache;        // feature cache made by gorgon_synth
    const char *out;          // heads file to write
    const char *state;        // checkpoint file of the training run, NULL = "<cache>/train.state"
    const char *curve;        // CSV file of the loss and accuracy of every step, NULL = none
    uint64_t seed;            // default 1
    const char *architecture; // one of gorgon_train_architectures, default "medusa"
    size_t n_heads;           // depths that are trained, 0 (default): the architecture's number
    size_t n_blocks;          // residual blocks per head, 0 (default): likewise
    size_t rank;              // of markov's part for the token before, 0 (default): likewise
    bool root_embedding;      // default true
    bool own_output;         // medusa, linear: every head trains its own output rows; default false
    size_t draft_vocab;      // most frequent ids of the training text, default 4096; 0 = all
    double epochs;           // default 2
    size_t batch;            // positions per step, default 512
    double learning_rate;    // default 1.5e-3, cosine to 0 after warm-up
    double warmup_share;     // of all steps, default 0.03
    double weight_decay;     // default 0.01
    double clip;             // global gradient norm, default 1
    double head_decay;       // loss weight of head k is head_decay^k, default 0.8
    bool hard_targets;       // cross-entropy on the token instead of the base's top tokens
    double held_out;         // share of sequences kept for evaluation, default 0.05
    const char *weight_type; // "F16" (default), "F32", "Q8_0"
    // The run is evaluated ten times; when so many points in a row have not raised the expected
    // accepted length on held-out text, it ends. 0 (default): it runs to its end. Either way
    // the last point's heads are written, unless an earlier point's are better.
    size_t patience;
    uint64_t checkpoint_steps; // default 100
    gorgon_progress_fn progress;
    void *context;
} gorgon_train_options;
void gorgon_train_options_init(gorgon_train_options *options);
// Names of the architectures that can be trained, NULL at the end; static.
const char *const *gorgon_train_architectures(void);
// Error ARGUMENT names the option, what it is and what was expected.
gorgon_status gorgon_train(gorgon_engine *engine, const gorgon_train_options *options,
                           gorgon_error *err);

// How many numbers training would fit with these options; cache, out and state are not looked at.
// Error ARGUMENT: an unknown architecture, or a shape that it cannot have.
gorgon_status gorgon_train_parameters(const gorgon_model *model,
                                      const gorgon_train_options *options, uint64_t *count,
                                      gorgon_error *err);

typedef struct gorgon_calibrate_options {
    const char *cache; // its held-out sequences are used
    const char *heads; // heads file, rewritten with the calibration
    size_t set;
    size_t max_positions; // default 20000
    double held_out;      // as in training, default 0.05
    gorgon_progress_fn progress;
    void *context;
} gorgon_calibrate_options;
void gorgon_calibrate_options_init(gorgon_calibrate_options *options);
gorgon_status gorgon_calibrate(gorgon_engine *engine, const gorgon_calibrate_options *options,
                               gorgon_error *err);

// How heads seem to be wired to the base. All but the first and the last are common mistakes of
// files from elsewhere.
typedef enum gorgon_wiring {
    GORGON_WIRING_SOUND,
    GORGON_WIRING_EARLY,       // head k names the token that head k - 1 should
    GORGON_WIRING_LATE,        // head k names the token that head k + 1 should
    GORGON_WIRING_BEFORE_NORM, // they want the hidden state before the final norm
    GORGON_WIRING_TRANSPOSED,  // their square matrices are stored the other way round
    GORGON_WIRING_FOREIGN,     // nothing fits: of another base, damaged, or hardly trained
    GORGON_WIRINGS
} gorgon_wiring;

typedef struct gorgon_self_check {
    size_t positions, n_heads;
    gorgon_wiring verdict;
    // Share of the first choices of all heads that came true if they are wired so (EARLY: but head
    // 0, if there are more); of FOREIGN: of always naming the commonest token; below 0: not tried.
    double share[GORGON_WIRINGS];
    double head[16]; // of each head as it is
} gorgon_self_check;
// Runs a set of heads on text that the model wrote (a feature cache) and compares what they name
// with what came, also under each of the mistakes above.
gorgon_status gorgon_heads_self_check(gorgon_engine *engine, const char *heads, size_t set,
                                      const char *cache, gorgon_self_check *out, gorgon_error *err);
const char *gorgon_wiring_name(gorgon_wiring wiring); // "sound", "early", ..; static
const char *gorgon_wiring_text(gorgon_wiring wiring); // in words; static

// synth + train + calibrate with one set of defaults; `cache` defaults to "<out>.cache".
typedef struct gorgon_attach_options {
    const char *out;
    // Heads of any format to take over instead of training some, NULL = none. They become a
    // side-car of this model and are checked and calibrated on all of the text.
    const char *heads;
    gorgon_self_check *check; // filled if heads are taken over; may be NULL
    gorgon_synth_options synth;
    gorgon_train_options train; // here hydra++ in Q8_0 by default
    gorgon_calibrate_options calibrate;
    bool keep_cache;       // default false: the cache is removed when everything is done
    size_t threads;        // of all stages, 0 = all processors
    const char *cpu_level; // NULL = best
} gorgon_attach_options;
void gorgon_attach_options_init(gorgon_attach_options *options);
gorgon_status gorgon_attach(const gorgon_model *model, const gorgon_attach_options *options,
                            gorgon_error *err);

#ifdef __cplusplus
}
#endif

#endif
