// What one synthesis job writes: a pure function of (seed, index), so that a killed run continues
// with the same jobs. Message texts come from instruction templates crossed with topics.
#ifndef GG_TRAINERS_SYNTH_PLAN_H
#define GG_TRAINERS_SYNTH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GG_PLAN_MAX_TURNS = 3, GG_PLAN_MAX_MESSAGE = 8192 };

typedef enum gg_plan_kind {
    GG_PLAN_INSTRUCTION, // one question or task from a template
    GG_PLAN_OWN_TURN,    // the model writes the user's turn itself
    GG_PLAN_PASSAGE,     // the model writes a passage, then works on it
    GG_PLAN_TURNS,       // a conversation of two or three turns
} gg_plan_kind;

typedef struct gg_plan {
    uint64_t seed, index;
    gg_plan_kind kind;
    size_t n_turns;        // answers in the conversation (GG_PLAN_TURNS: 2 or 3)
    bool greedy;           // answers greedily, otherwise sampled
    size_t answer_tokens;  // limit of an answer
    size_t passage_tokens; // limit of the passage (GG_PLAN_PASSAGE)
} gg_plan;

// greedy_share of the jobs answer greedily. Half of all jobs are of the long or varied kinds.
gg_plan gg_plan_make(uint64_t seed, uint64_t index, double greedy_share);
// The user's message that opens the job: an instruction, or the request for a passage (kind
// PASSAGE). out holds GG_PLAN_MAX_MESSAGE bytes.
void gg_plan_opening(const gg_plan *plan, char *out);
// The user's message around a passage the model wrote; false if it would not fit.
bool gg_plan_task_on(const gg_plan *plan, const char *passage, char *out);
// The user's message of turn `turn` >= 1.
void gg_plan_follow_up(const gg_plan *plan, size_t turn, char *out);

#endif
