// The figures of `gorgon bench` as JSON and as a table.
#include <string.h>

#include "bench.h"

#ifndef GORGON_COMMIT
#error "the build defines GORGON_COMMIT"
#endif

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

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

json_t *bench_json(const cli_session *session, const cli_common *common, const bench_result *r)
{
    gorgon_model_info info;
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
    pairs_put_group(out, &r->pairs.all);
    json_t *without_loops = json_object();
    pairs_put_group(without_loops, &r->pairs.without_loops);
    json_object_set_new(out, "without_loops", without_loops);
    json_object_set_new(out, "tasks", pairs_table_json(&r->pairs.tasks));
    json_object_set_new(out, "categories", pairs_table_json(&r->pairs.categories));
    json_object_set_new(out, "acceptance", pairs_acceptance_json(&r->pairs));
    json_object_set(out, "differing", r->pairs.differing);
    json_object_set_new(out, "machine", pairs_machine_json(session));
    json_object_set_new(out, "threads", json_integer(threads));
    json_object_set_new(out, "cpu_level", json_string(level));
    json_object_set_new(out, "commit", json_string(GORGON_COMMIT));
    json_object_set_new(out, "version", json_string(GORGON_VERSION));
    return out;
}

static void print_group(const pairs_group *g)
{
    printf("  %-18s %5zu %9.1f %12.1f %12.2f %9.2f %7.2f   %s\n", g->name, g->runs,
           pairs_tokens_per_s(&g->plain), pairs_tokens_per_s(&g->speculative),
           pairs_tokens_per_pass(&g->speculative), pairs_speedup(g), pairs_median_speedup(g),
           g->same_output ? "yes" : "NO");
}

static void print_table(const char *title, const pairs_table *table)
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
    json_t *machine = pairs_machine_json(session);
    gorgon_decoder_options options = cli_decoder_options(session, common);
    printf("%s, %zu threads, level %s; gorgon %s, commit %s\n",
           json_string_value(json_object_get(machine, "cpu")),
           gorgon_engine_threads(session->engine), gorgon_engine_cpu_level(session->engine),
           GORGON_VERSION, GORGON_COMMIT);
    json_decref(machine);
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
    print_table("category", &r->pairs.categories);
    print_table("task", &r->pairs.tasks);
    print_group(&r->pairs.all);
    if (r->pairs.without_loops.runs < r->pairs.all.runs)
        print_group(&r->pairs.without_loops);
    for (size_t i = 0; i < r->pairs.n_proposers; i++)
        print_acceptance(&r->pairs.telemetry[i]);
    printf("same output: %s\n", r->pairs.all.same_output ? "yes" : "no");
}
