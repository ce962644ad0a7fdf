// One synthesis job: the conversations it leads with the model, stage by stage, and the sequences
// with features that it yields. Knows nothing of batching or files.
#ifndef GG_TRAINERS_SYNTH_JOB_H
#define GG_TRAINERS_SYNTH_JOB_H

#include "gorgon/decode.h"
#include "gorgon/trainers.h"
#include "synth_plan.h"
#include "trainers/cache.h"

enum { GG_JOB_MAX_SEQUENCES = 2 };

typedef struct gg_job_settings {
    gorgon_engine *engine;
    uint64_t seed;
    double greedy_share;
    float temperature;             // of sampled answers
    size_t max_sequence;           // positions
    const gorgon_synth_text *data; // [n_data] the user's texts
    size_t n_data;
    double data_share;
} gg_job_settings;

typedef struct gg_synth_job gg_synth_job;

gorgon_status gg_job_create(const gg_job_settings *settings, uint64_t index, gg_synth_job **out,
                            gorgon_error *err);
void gg_job_free(gg_synth_job *job); // NULL is legal

// The request of the job's current stage; false when the job is over (its sequences are final).
// The prompt is borrowed from the job.
gorgon_status gg_job_request(gg_synth_job *job, gorgon_request *request, bool *more,
                             gorgon_error *err);
// Ends the stage with what its stream generated.
gorgon_status gg_job_finish_stage(gg_synth_job *job, const gorgon_stream_result *result,
                                  gorgon_error *err);

// Sequences of a finished job, in order; borrowed.
const gg_cache_sequence *gg_job_sequences(const gg_synth_job *job, size_t *n);
uint64_t gg_job_index(const gg_synth_job *job);
uint64_t gg_job_records(const gg_synth_job *job); // so far, all sequences

#endif
