// The figures of `gorgon bench` as JSON and as a table.
#include <string.h>

#include "bench.h"

#ifndef GORGON_COMMIT
#error "the build defines GORGON_COMMIT"
#endif

double bench_tokens_per_s(const bench_rate *rate)
{
    return rate->seconds > 0 ? rate->tokens / rate->seconds : 0;
}

double bench_tokens_per_pass(const bench_rate *rate)
{
    return rate->passes > 0 ? rate->tokens / rate->passes : 0;
}

double bench_speedup(const bench_group *group)
{
    double plain = bench_tokens_per_s(&group->plain);
    return plain > 0 ? bench_tokens_per_s(&group->speculative) / plain : 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

double bench_median_speedup(const bench_group *group)
{
    size_t n = json_array_size(group->speedups);
    double *x = n > 0 ? malloc(n * sizeof *x) : NULL;
    for (size_t i = 0; x && i < n; i++)
        x[i] = json_real_value(json_array_get(group->speedups, i));
    double median = x ? bench_median(x, n) : 0;
    free(x);
    return median;
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

static json_t *rate_json(const bench_rate *rate)
{
    return json_pack("{s:f,s:f,s:f,s:I,s:I}", "tokens_per_s", bench_tokens_per_s(rate),
                     "tokens_per_pass", bench_tokens_per_pass(rate), "seconds", rate->seconds,
                     "tokens", (json_int_t)rate->tokens, "passes", (json_int_t)rate->passes);
}

static void put_group(json_t *out, const bench_group *group)
{
    json_t *speculative = rate_json(&group->speculative);
    json_object_set_new(speculative, "speedup", json_real(bench_speedup(group)));
    json_object_set_new(speculative, "median_speedup", json_real(bench_median_speedup(group)));
    json_object_set_new(out, "plain", rate_json(&group->plain));
    json_object_set_new(out, "speculative", speculative);
    json_object_set_new(out, "runs", json_integer((json_int_t)group->runs));
    json_object_set_new(out, "same_output", json_boolean(group->same_output));
}

static json_t *table_json(const bench_table *table)
{
    json_t *out = json_object();
    for (size_t i = 0; i < table->n; i++) {
        json_t *group = json_object();
        put_group(group, &table->rows[i]);
        json_object_set_new(out, table->rows[i].name, group);
    }
    return out;
}

static json_t *costs_json(const bench_result *r)
{
    json_t *out = json_array();
    for (size_t i = 0; i < r->n_costs; i++) {
        const bench_cost *c = &r->costs[i];
        json_array_append_new(
            out, json_pack("{s:I,s:f,s:f,s:f,s:f}", "rows", (json_int_t)c->rows, "ms", c->ms,
                           "ratio", r->costs[0].ms > 0 ? c->ms / r->costs[0].ms : 0, "limit_ms",
                           c->limit_ms, "attention_limit_ms", c->attention_limit_ms));
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

static json_t *acceptance_json(const bench_result *r)
{
    json_t *out = json_array();
    for (size_t i = 0; i < r->n_proposers; i++) {
        uint64_t offered = 0, accepted = 0;
        json_t *depths = depths_json(&r->telemetry[i], &offered, &accepted);
        json_array_append_new(
            out, json_pack("{s:s,s:I,s:I,s:f,s:o}", "proposer", r->telemetry[i].proposer, "offered",
                           (json_int_t)offered, "accepted", (json_int_t)accepted, "expected",
                           r->telemetry[i].expected, "depths", depths));
    }
    return out;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

json_t *bench_json(const cli_session *session, const cli_common *common, const bench_result *r)
{
    char cpu[256];
    gorgon_model_info info;
    cpu_name(cpu, sizeof cpu);
    gorgon_model_describe(session->model, &info);
    const char *level = gorgon_engine_cpu_level(session->engine);
    json_int_t threads = (json_int_t)gorgon_engine_threads(session->engine);
    gorgon_decoder_options options = cli_decoder_options(session, common);
    json_t *out = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:f,s:I}", "model", info.path, "name",
                            info.name, "heads", or_empty(common->heads), "propose", options.propose,
                            "tree", common->tree, "rule", common->rule, "temp", common->temperature,
                            "max_tokens", (json_int_t)common->tokens);
    json_object_set_new(out, "limits",
                        json_pack("{s:f,s:f,s:f}", "bandwidth_gb_s", r->bandwidth_gb_s,
                                  "peak_gmac_s", r->peak_gmac_s, "float_peak_gmac_s",
                                  r->float_peak_gmac_s));
    json_object_set_new(out, "weights",
                        json_pack("{s:I,s:I}", "bytes", (json_int_t)r->weight_bytes,
                                  "multiply_adds", (json_int_t)r->weight_macs));
    json_object_set_new(out, "pass_cost", costs_json(r));
    json_object_set_new(out, "pass_context", json_integer((json_int_t)r->context));
    put_group(out, &r->all);
    json_object_set_new(out, "tasks", table_json(&r->tasks));
    json_object_set_new(out, "categories", table_json(&r->categories));
    json_object_set_new(out, "acceptance", acceptance_json(r));
    json_object_set(out, "differing", r->differing);
    json_object_set_new(out, "machine",
                        json_pack("{s:s,s:s,s:I}", "cpu", cpu, "level", level, "threads", threads));
    json_object_set_new(out, "threads", json_integer(threads));
    json_object_set_new(out, "cpu_level", json_string(level));
    json_object_set_new(out, "commit", json_string(GORGON_COMMIT));
    json_object_set_new(out, "version", json_string(GORGON_VERSION));
    return out;
}

static void print_group(const bench_group *g)
{
    printf("  %-18s %5zu %9.1f %12.1f %12.2f %9.2f %7.2f   %s\n", g->name, g->runs,
           bench_tokens_per_s(&g->plain), bench_tokens_per_s(&g->speculative),
           bench_tokens_per_pass(&g->speculative), bench_speedup(g), bench_median_speedup(g),
           g->same_output ? "yes" : "NO");
}

static void print_table(const char *title, const bench_table *table)
{
    printf("%-20s %5s %9s %12s %12s %9s %7s   %s\n", title, "runs", "plain/s", "speculative/s",
           "tokens/pass", "speed-up", "median", "same output");
    for (size_t i = 0; i < table->n; i++)
        print_group(&table->rows[i]);
}

static void print_acceptance(const gorgon_telemetry *t)
{
    uint64_t accepted = 0;
    for (size_t d = 0; d < GORGON_TELEMETRY_DEPTH; d++) {
        for (size_t k = 0; k < GORGON_TELEMETRY_RANK; k++)
            accepted += t->accepted[d][k];
    }
    printf("acceptance of %s: %llu accepted, %.0f expected\n", t->proposer,
           (unsigned long long)accepted, t->expected);
    for (size_t d = 0; d < GORGON_TELEMETRY_DEPTH; d++) {
        bool any = false;
        for (size_t k = 0; k < GORGON_TELEMETRY_RANK; k++) {
            if (t->offered[d][k] == 0)
                continue;
            if (!any)
                printf("  depth %-2zu", d + 1);
            any = true;
            printf("  #%zu %.0f %% of %llu", k + 1,
                   100.0 * (double)t->accepted[d][k] / (double)t->offered[d][k],
                   (unsigned long long)t->offered[d][k]);
        }
        if (any)
            putchar('\n');
    }
}

void bench_print(const cli_session *session, const cli_common *common, const bench_result *r)
{
    char cpu[256];
    cpu_name(cpu, sizeof cpu);
    gorgon_decoder_options options = cli_decoder_options(session, common);
    printf("%s, %zu threads, level %s; gorgon %s, commit %s\n", cpu,
           gorgon_engine_threads(session->engine), gorgon_engine_cpu_level(session->engine),
           GORGON_VERSION, GORGON_COMMIT);
    printf("limits: memory %.1f GB/s, %.0f G multiply-adds/s (int8), %.0f (f32); weights %.1f MB, "
           "%.1f M multiply-adds per row\n",
           r->bandwidth_gb_s, r->peak_gmac_s, r->float_peak_gmac_s, (double)r->weight_bytes / 1e6,
           (double)r->weight_macs / 1e6);
    printf("pass after %zu positions\n  %5s %9s %7s %9s %8s %13s\n", r->context, "rows", "ms",
           "ratio", "limit ms", "x limit", "of attention");
    for (size_t i = 0; i < r->n_costs; i++) {
        const bench_cost *c = &r->costs[i];
        printf("  %5zu %9.2f %7.2f %9.2f %8.2f %13.2f\n", c->rows, c->ms, c->ms / r->costs[0].ms,
               c->limit_ms, c->ms / c->limit_ms, c->attention_limit_ms);
    }
    printf("proposers: %s; tree: %s; rule: %s; temperature %g\n",
           options.propose[0] ? options.propose : "none", common->tree, common->rule,
           common->temperature);
    print_table("category", &r->categories);
    print_table("task", &r->tasks);
    print_group(&r->all);
    for (size_t i = 0; i < r->n_proposers; i++)
        print_acceptance(&r->telemetry[i]);
    printf("same output: %s\n", r->all.same_output ? "yes" : "no");
}
