// See pairs.h: figures and their JSON.
#include <stdlib.h>
#include <string.h>

#include "pairs.h"

double pairs_tokens_per_s(const pairs_rate *rate)
{
    return rate->seconds > 0 ? rate->tokens / rate->seconds : 0;
}

double pairs_tokens_per_pass(const pairs_rate *rate)
{
    return rate->passes > 0 ? rate->tokens / rate->passes : 0;
}

double pairs_speedup(const pairs_group *group)
{
    double plain = pairs_tokens_per_s(&group->plain);
    return plain > 0 ? pairs_tokens_per_s(&group->speculative) / plain : 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double pairs_median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

double pairs_median_speedup(const pairs_group *group)
{
    size_t n = json_array_size(group->speedups);
    double *x = n > 0 ? malloc(n * sizeof *x) : NULL;
    for (size_t i = 0; x && i < n; i++)
        x[i] = json_real_value(json_array_get(group->speedups, i));
    double median = x ? pairs_median(x, n) : 0;
    free(x);
    return median;
}

static json_t *rate_json(const pairs_rate *rate)
{
    return json_pack("{s:f,s:f,s:f,s:I,s:I}", "tokens_per_s", pairs_tokens_per_s(rate),
                     "tokens_per_pass", pairs_tokens_per_pass(rate), "seconds", rate->seconds,
                     "tokens", (json_int_t)rate->tokens, "passes", (json_int_t)rate->passes);
}

void pairs_put_group(json_t *out, const pairs_group *group)
{
    json_t *speculative = rate_json(&group->speculative);
    json_object_set_new(speculative, "speedup", json_real(pairs_speedup(group)));
    json_object_set_new(speculative, "median_speedup", json_real(pairs_median_speedup(group)));
    json_object_set_new(out, "plain", rate_json(&group->plain));
    json_object_set_new(out, "speculative", speculative);
    json_object_set_new(out, "runs", json_integer((json_int_t)group->runs));
    json_object_set_new(out, "same_output", json_boolean(group->same_output));
}

json_t *pairs_table_json(const pairs_table *table)
{
    json_t *out = json_object();
    for (size_t i = 0; i < table->n; i++) {
        json_t *group = json_object();
        pairs_put_group(group, &table->rows[i]);
        json_object_set_new(out, table->rows[i].name, group);
    }
    return out;
}

static json_t *depths_json(const gorgon_telemetry *t, uint64_t *offered, uint64_t *accepted)
{
    json_t *depths = json_array();
    for (size_t d = 0; d < GORGON_TELEMETRY_DEPTH; d++) {
        uint64_t all_offered = 0, all_accepted = 0;
        json_t *ranks = json_array();
        for (size_t k = 0; k < GORGON_TELEMETRY_RANK; k++) {
            all_offered += t->offered[d][k];
            all_accepted += t->accepted[d][k];
            if (t->offered[d][k] > 0)
                json_array_append_new(ranks, json_pack("{s:I,s:I,s:I}", "rank", (json_int_t)(k + 1),
                                                       "offered", (json_int_t)t->offered[d][k],
                                                       "accepted", (json_int_t)t->accepted[d][k]));
        }
        *offered += all_offered;
        *accepted += all_accepted;
        if (all_offered > 0)
            json_array_append_new(depths,
                                  json_pack("{s:I,s:I,s:I,s:O}", "depth", (json_int_t)(d + 1),
                                            "offered", (json_int_t)all_offered, "accepted",
                                            (json_int_t)all_accepted, "ranks", ranks));
        json_decref(ranks);
    }
    return depths;
}

static json_t *reliability_json(const gorgon_telemetry *t)
{
    json_t *out = json_array();
    for (size_t i = 0; i < GORGON_TELEMETRY_BUCKETS; i++) {
        if (t->suggested[i] > 0)
            json_array_append_new(out, json_pack("{s:f,s:I,s:I}", "predicted", t->predicted[i],
                                                 "suggested", (json_int_t)t->suggested[i],
                                                 "came_true", (json_int_t)t->came_true[i]));
    }
    return out;
}

json_t *pairs_acceptance_json(const pairs_result *r)
{
    json_t *out = json_array();
    for (size_t i = 0; i < r->n_proposers; i++) {
        const gorgon_telemetry *t = &r->telemetry[i];
        uint64_t offered = 0, accepted = 0;
        json_t *depths = depths_json(t, &offered, &accepted);
        json_array_append_new(out, json_pack("{s:s,s:I,s:I,s:I,s:f,s:o,s:o}", "proposer",
                                             t->proposer, "offered", (json_int_t)offered,
                                             "accepted", (json_int_t)accepted, "won",
                                             (json_int_t)t->won, "expected", t->expected, "depths",
                                             depths, "reliability", reliability_json(t)));
    }
    return out;
}

// The processor's name, "unknown" where the system does not tell.
static void cpu_name(char *name, size_t size)
{
    char line[512];
    FILE *stream = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (stream && fgets(line, sizeof line, stream)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(name, size, "%s", value);
        break;
    }
    if (stream)
        fclose(stream);
}

json_t *pairs_machine_json(const cli_session *session)
{
    char cpu[256];
    cpu_name(cpu, sizeof cpu);
    return json_pack("{s:s,s:s,s:I}", "cpu", cpu, "level", gorgon_engine_cpu_level(session->engine),
                     "threads", (json_int_t)gorgon_engine_threads(session->engine));
}
