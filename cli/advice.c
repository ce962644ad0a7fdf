// See advice.h.
#include "advice.h"

#include <string.h>

#include "pairs.h"

enum { LEAST_QUESTIONS = 3, ANSWER_TOKENS = 96 };
static const double enough_s = 120;    // no further question is begun after that
static const double worth_it = 1.02;   // a speed-up that is no accident of the measurement
static const double same_speed = 0.98; // of the best list: the default is as good

// The first is the default with heads.
static const char *const lists[] = {CLI_PROPOSE_WITH_HEADS, "heads,lookup", "heads",
                                    CLI_PROPOSE_WITHOUT_HEADS};
enum { LISTS = sizeof lists / sizeof lists[0] };

typedef struct trial {
    cli_session session; // its model is borrowed
    cli_common common;
    cli_prompts questions;
    gorgon_decoder *decoders[1 + LISTS]; // plain, then lists
    pairs_result results[LISTS];
    size_t done; // questions
} trial;

static bool ask(trial *t, uint64_t seed, size_t n)
{
    const gorgon_model *model = t->session.model;
    const bool chat = gorgon_tokenizer_has_chat(gorgon_model_tokenizer(model));
    for (size_t i = 0; i < n; i++) {
        char text[GORGON_OPENING_BYTES];
        gorgon_synth_opening(seed, GORGON_OPENING_UNSEEN + i, text);
        if (!cli_prompts_add(NULL, model, &t->common, chat, json_pack("{s:[s]}", "turns", text),
                             &t->questions))
            return false;
    }
    return true;
}

static bool open_decoders(trial *t)
{
    gorgon_error err = {0};
    for (size_t i = 0; i <= LISTS; i++) {
        cli_common common = t->common;
        common.propose = i > 0 ? lists[i - 1] : "none";
        common.tree = i > 0 ? "auto" : "off";
        gorgon_decoder_options options = cli_decoder_options(&t->session, &common);
        options.record_logits = true;
        if (gorgon_decoder_create(t->session.engine, &options, &t->decoders[i], &err) != GORGON_OK)
            return cli_fail(&err);
        if (!pairs_warm(t->decoders[i], &t->questions.items[0]))
            return false;
    }
    return true;
}

// One question by all decoders; each question begins with another one.
static bool answer(trial *t, size_t index)
{
    const gorgon_request request = pairs_request(&t->questions, index);
    gorgon_stream *streams[1 + LISTS] = {NULL};
    bool good = true;
    for (size_t i = 0; i <= LISTS && good; i++) {
        const size_t which = (index + i) % (1 + LISTS);
        streams[which] = pairs_decode(t->decoders[which], &request);
        good = streams[which] != NULL;
    }
    for (size_t i = 0; i < LISTS && good; i++)
        good = pairs_add(&t->questions, index, streams[0], streams[1 + i], &t->results[i]);
    for (size_t i = 0; i <= LISTS; i++)
        gorgon_stream_free(streams[i]);
    return good;
}

static bool run(trial *t)
{
    const double began = cli_seconds();
    const size_t n = t->questions.n;
    for (; t->done < n; t->done++) {
        const double elapsed = cli_seconds() - began, rate = (double)t->done / (elapsed + 1e-9);
        if (t->done >= LEAST_QUESTIONS && elapsed > enough_s)
            break;
        gorgon_progress p = {"trial", "questions", t->done, n, rate, -1, "choosing proposers"};
        p.eta_s = t->done > 0 ? (double)(n - t->done) / rate : -1;
        if (!cli_progress(NULL, &p) || !answer(t, t->done))
            return false;
    }
    cli_progress_end();
    return true;
}

static double speed_up(const trial *t, size_t list)
{
    return pairs_median_speedup(&t->results[list].all);
}

// Index of the list to use, LISTS for none.
static size_t choose(const trial *t)
{
    size_t best = 0;
    for (size_t i = 1; i < LISTS; i++) {
        if (speed_up(t, i) > speed_up(t, best))
            best = i;
    }
    if (speed_up(t, best) < worth_it)
        return LISTS;
    return speed_up(t, 0) >= same_speed * speed_up(t, best) ? 0 : best;
}

static json_t *trial_json(const trial *t, size_t list)
{
    const pairs_group *g = &t->results[list].all;
    const pairs_rate *r = &g->speculative;
    return json_pack("{s:s,s:f,s:f,s:f,s:f,s:b}", "propose", lists[list], "tokens_per_s",
                     pairs_tokens_per_s(r), "speedup", speed_up(t, list), "tokens_per_pass",
                     pairs_tokens_per_pass(r), "draft_share",
                     r->seconds > 0 ? r->draft_s / r->seconds : 0.0, "same_output", g->same_output);
}

static json_t *advice_json(const trial *t)
{
    const size_t best = choose(t);
    bool same = true;
    json_t *trials = json_array();
    for (size_t i = 0; i < LISTS; i++) {
        same = same && t->results[i].all.same_output;
        json_array_append_new(trials, trial_json(t, i));
    }
    return json_pack("{s:s,s:f,s:I,s:I,s:b,s:f,s:I,s:s,s:o}", "propose",
                     best < LISTS ? lists[best] : "", "speedup",
                     best < LISTS ? speed_up(t, best) : 1.0, "questions", (json_int_t)t->done,
                     "max_tokens", (json_int_t)ANSWER_TOKENS, "same_output", same,
                     "plain_tokens_per_s", pairs_tokens_per_s(&t->results[0].all.plain), "threads",
                     (json_int_t)gorgon_engine_threads(t->session.engine), "cpu_level",
                     gorgon_engine_cpu_level(t->session.engine), "trials", trials);
}

static bool measure(trial *t, uint64_t seed, size_t n_questions)
{
    for (size_t i = 0; i < LISTS; i++) {
        if (!pairs_result_init(&t->results[i]))
            return false;
    }
    return cli_open_heads(&t->session, &t->common) && ask(t, seed, n_questions) &&
           cli_open_engine(&t->session, &t->common, 1, cli_prompts_positions(&t->questions)) &&
           open_decoders(t) && run(t);
}

json_t *cli_advise(const cli_session *session, const cli_common *common, const char *heads,
                   uint64_t seed, size_t n_questions)
{
    trial t = {.session = {.model = session->model}, .common = *common};
    t.common.heads = heads;
    t.common.tokens = ANSWER_TOKENS;
    json_t *advice = measure(&t, seed, n_questions) ? advice_json(&t) : NULL;
    for (size_t i = 0; i <= LISTS; i++)
        gorgon_decoder_free(t.decoders[i]);
    for (size_t i = 0; i < LISTS; i++)
        pairs_result_clear(&t.results[i]);
    cli_prompts_clear(&t.questions);
    t.session.model = NULL;
    cli_close(&t.session);
    return advice;
}

static const json_t *find_trial(const json_t *trials, const char *propose)
{
    size_t i;
    json_t *t;
    json_array_foreach(trials, i, t)
    {
        if (strcmp(cli_json_text(t, "propose"), propose) == 0)
            return t;
    }
    return NULL;
}

static void print_table(const json_t *advice)
{
    size_t i;
    json_t *t;
    printf("  %-24s %9s %9s %12s %9s\n", "proposers", "tokens/s", "speed-up", "tokens/pass",
           "drafting");
    printf("  %-24s %9.1f %9.2f %12.2f %9s\n", "none (plain decoding)",
           cli_json_number(advice, "plain_tokens_per_s"), 1.0, 1.0, "-");
    json_array_foreach(json_object_get(advice, "trials"), i, t)
        printf("  %-24s %9.1f %9.2f %12.2f %7.0f %%\n", cli_json_text(t, "propose"),
               cli_json_number(t, "tokens_per_s"), cli_json_number(t, "speedup"),
               cli_json_number(t, "tokens_per_pass"), 100 * cli_json_number(t, "draft_share"));
}

// What the heads and the others bring, each by themselves.
static void print_reasons(const json_t *trials, const json_t *best)
{
    const double heads = cli_json_number(find_trial(trials, "heads"), "speedup");
    const double others = cli_json_number(find_trial(trials, CLI_PROPOSE_WITHOUT_HEADS), "speedup");
    const double alone = heads > others ? heads : others;
    printf("Why: a pass over the model then yields %.2f tokens instead of 1, and drafting takes "
           "%.0f %% of the time.\n",
           cli_json_number(best, "tokens_per_pass"), 100 * cli_json_number(best, "draft_share"));
    printf("The heads alone reach %.2f times plain decoding, lookup and recycling alone %.2f",
           heads, others);
    if (cli_json_number(best, "speedup") > worth_it * alone)
        printf("; together they find more.\n");
    else
        printf(".\n");
}

void cli_print_advice(const json_t *advice, const char *model, const char *heads)
{
    const json_t *trials = json_object_get(advice, "trials");
    const char *propose = cli_json_text(advice, "propose");
    printf("On this model and machine (%.0f questions, up to %.0f tokens each, "
           "%.0f threads, level %s;\nmedians of speed-ups; %s):\n",
           cli_json_number(advice, "questions"), cli_json_number(advice, "max_tokens"),
           cli_json_number(advice, "threads"), cli_json_text(advice, "cpu_level"),
           json_is_true(json_object_get(advice, "same_output"))
               ? "every answer the same as plain decoding's"
               : "ANSWERS DIFFER from plain decoding's");
    print_table(advice);
    if (!propose[0]) {
        printf("Use none of them here (--propose none): no list of proposers is faster than plain "
               "decoding,\na pass over several tokens costs too much for the tokens it saves.\n");
        return;
    }
    const bool is_default = strcmp(propose, CLI_PROPOSE_WITH_HEADS) == 0;
    printf("Use %s%s: %.2f times as fast as plain decoding.\n", propose,
           is_default ? ", the default with heads" : "", cli_json_number(advice, "speedup"));
    print_reasons(trials, find_trial(trials, propose));
    if (strcmp(propose, CLI_PROPOSE_WITHOUT_HEADS) == 0)
        printf("  gorgon run %s --chat -p '...'\n", model);
    else
        printf("  gorgon run %s --heads %s%s%s --chat -p '...'\n", model, heads,
               is_default ? "" : " --propose ", is_default ? "" : propose);
}
