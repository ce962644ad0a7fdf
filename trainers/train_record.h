// What a heads file tells about its training. Nothing in it depends on when, where or in how many
// runs the heads were trained.
#ifndef GG_TRAINERS_TRAIN_RECORD_H
#define GG_TRAINERS_TRAIN_RECORD_H

#include "gorgon/trainers.h"
#include "train_eval.h"
#include "train_state.h"

typedef struct gg_train_facts {
    const gorgon_train_options *options;
    const gorgon_model *model;
    const gg_cache *cache;
    const gg_train_state *state;
    const gg_batch_maker *maker;
    uint64_t records, positions;
    uint64_t chosen_step; // that the written heads are of
    double coverage;      // share of trained tokens inside the draft vocabulary
} gg_train_facts;

// JSON texts, free() them; NULL when out of memory.
char *gg_train_record_json(const gg_train_facts *facts);
char *gg_train_accuracy_json(const gg_train_scores *scores, size_t n_heads);

#endif
