// One step of decoding, in this order: schedule, propose, lay rows, pass, verify, teach, conclude
// (commit, observe, stream), learn. Plain decoding is the same step with trees of the root alone.
#include "core/error.h"
#include "core/file.h"
#include "core/system.h"
#include "decoder.h"

// The account of one step.
typedef struct step_account {
    double begin_s, draft_s, pass_s;
    size_t n_decode;    // streams that decode; the others read their prompts
    size_t n_finishing; // prompts that end in this pass
    size_t n_prompt_rows;
    double decode_attended, prompt_attended; // positions
    uint32_t active;                         // proposers, bit set
    gg_objective objective;
    gg_growth growth;
    gorgon_status status; // first failure of a stream
} step_account;

static bool reading_prompt(const gorgon_stream *s)
{
    return gorgon_sequence_length(s->sequence) < s->n_prompt;
}

// Gives this pass's prompt rows to the streams that read their prompts, first come first served.
// Beside decoding streams they get at most half of the rows, so that those keep their trees.
static void schedule(gorgon_decoder *d, step_account *step)
{
    const gorgon_model *model = gg_engine_model(d->engine);
    d->n_running = 0;
    for (size_t i = 0; i < d->max_streams; i++) {
        gg_slot *slot = &d->slots[i];
        if (!slot->stream)
            continue;
        d->running[d->n_running++] = slot;
        slot->prompt = reading_prompt(slot->stream);
        slot->verify_s = 0.0;
        slot->drafting = false;
        step->n_decode += !slot->prompt;
        if (!slot->prompt)
            step->decode_attended += gg_model_attended(model, (double)slot->stream->n_tokens);
    }
    size_t left = d->max_rows - step->n_decode;
    if (step->n_decode > 0 && left > d->max_rows / 2)
        left = d->max_rows / 2;
    for (size_t i = 0; i < d->n_running; i++) {
        gg_slot *slot = d->running[i];
        if (!slot->prompt)
            continue;
        size_t done = gorgon_sequence_length(slot->stream->sequence);
        size_t todo = slot->stream->n_prompt - done;
        slot->n_rows = todo < left ? todo : left;
        left -= slot->n_rows;
        step->n_prompt_rows += slot->n_rows;
        step->n_finishing += slot->n_rows == todo;
        step->prompt_attended +=
            (double)slot->n_rows *
            gg_model_attended(model, (double)done + 0.5 * (double)slot->n_rows);
    }
}

// Draft nodes that fit into this pass.
static size_t room_for_nodes(const gorgon_decoder *d, const step_account *step)
{
    size_t rows = d->max_rows - step->n_decode - step->n_prompt_rows;
    size_t logits = d->max_logit_rows - step->n_decode - step->n_finishing;
    return rows < logits ? rows : logits;
}

static size_t nodes_per_tree(const gorgon_decoder *d, const step_account *step, size_t room)
{
    if (d->plan.mode == GG_TREE_FIXED)
        return d->plan.fixed_nodes;
    if (d->plan.mode == GG_TREE_STATIC)
        return room / step->n_decode; // equal shares: shapes are filled one after another
    return GG_MAX_TREE_NODES - 1;
}

static void sprout(gorgon_decoder *d, gg_slot *slot, size_t max_nodes)
{
    const gorgon_stream *s = slot->stream;
    size_t at = d->n_sprouts++;
    gg_sprout *new = &d->sprouts[at];
    *new = (gg_sprout){
        .tree = &slot->tree, .max_depth = gg_stream_max_depth(s), .max_nodes = max_nodes};
    for (size_t i = 0; i < d->n_proposers; i++) {
        gg_draft *draft = &d->drafts[i * d->max_streams + at];
        *draft = (gg_draft){.state = slot->state[i],
                            .root = s->tokens[s->n_tokens - 1],
                            .root_position = s->n_tokens - 1,
                            .sampling = &s->request.sampling};
        new->draft[i] = draft;
    }
    d->sprout_slot[at] = slot;
    slot->drafting = true;
}

static void begin_proposers(gorgon_decoder *d, const step_account *step)
{
    for (size_t i = 0; i < d->n_proposers; i++) {
        if (!(step->active & UINT32_C(1) << i))
            continue;
        double begin = gg_now();
        d->proposer[i]->ops->begin(d->proposer[i], d->drafts + i * d->max_streams, d->n_sprouts);
        gg_plan_begin_time(&d->plan, i, gg_now() - begin);
    }
}

static void make_objective(gorgon_decoder *d, step_account *step)
{
    const gg_cost *cost = &d->plan.cost;
    double attended = step->decode_attended + step->prompt_attended;
    size_t rows = step->n_decode + step->n_prompt_rows;
    step->objective = (gg_objective){
        .cost = cost,
        .tokens = (double)step->n_decode,
        .rows = rows,
        .attended = attended,
        .node_attended = step->decode_attended / (double)step->n_decode,
        .sunk_s = gg_cost_seconds(cost, rows, attended) -
                  gg_cost_seconds(cost, step->n_decode, step->decode_attended),
    };
    gg_plan_draft_cost(&d->plan, step->active, &step->objective.draft_s,
                       &step->objective.node_draft_s);
}

static void grow(gorgon_decoder *d, step_account *step, size_t room)
{
    bool automatic = d->plan.mode == GG_TREE_AUTO;
    if (automatic)
        make_objective(d, step);
    if (d->plan.mode == GG_TREE_STATIC)
        step->growth =
            gg_grow_static(&d->grower, step->active, d->sprouts, d->n_sprouts, &d->plan.shape);
    else
        step->growth = gg_grow_best_first(&d->grower, step->active, d->sprouts, d->n_sprouts, room,
                                          automatic ? &step->objective : NULL);
}

// Draws up the trees of all decoding streams.
static void propose(gorgon_decoder *d, step_account *step)
{
    double begin = gg_now();
    size_t room = room_for_nodes(d, step);
    d->n_sprouts = 0;
    gg_grower_reset(&d->grower);
    if (step->n_decode > 0)
        step->active = gg_plan_active(&d->plan);
    for (size_t i = 0; i < d->n_running; i++) {
        gg_slot *slot = d->running[i];
        if (slot->prompt)
            continue;
        gg_tree_init(&slot->tree, slot->stream->tokens[slot->stream->n_tokens - 1]);
        if (step->active && room > 0 && gg_stream_max_depth(slot->stream) > 0)
            sprout(d, slot, nodes_per_tree(d, step, room));
    }
    if (d->n_sprouts == 0)
        return;
    begin_proposers(d, step);
    grow(d, step, room);
    step->draft_s = gg_now() - begin;
}

static void lay_prompt(gorgon_decoder *d, gg_slot *slot)
{
    const gorgon_stream *s = slot->stream;
    size_t done = gorgon_sequence_length(s->sequence);
    for (size_t i = 0; i < slot->n_rows; i++) {
        bool last = done + i + 1 == s->n_prompt;
        int32_t parent = i == 0 ? GORGON_ROW_ROOT : (int32_t)(d->n_rows - 1);
        d->rows[d->n_rows++] =
            (gorgon_row){s->sequence, s->tokens[done + i], parent, last ? GORGON_WANT_LOGITS : 0};
    }
}

// True when the likely walk spares enough rows the product with the output matrix.
static bool spares_logits(const gg_draft_tree *tree)
{
    enum { WORTHWHILE = 4 }; // fewer rows than these cost as little together as one
    uint16_t deepest = 0;
    for (size_t i = 0; i < tree->n; i++)
        deepest = tree->depth[i] > deepest ? tree->depth[i] : deepest;
    return tree->n >= (size_t)deepest + 1 + WORTHWHILE;
}

static void lay_tree(gorgon_decoder *d, gg_slot *slot)
{
    const gg_draft_tree *tree = &slot->tree;
    uint32_t outputs = spares_logits(tree) ? 0 : GORGON_WANT_LOGITS;
    slot->n_rows = tree->n;
    for (size_t i = 0; i < tree->n; i++) {
        int32_t parent = i == 0 ? GORGON_ROW_ROOT : (int32_t)slot->first_row + tree->parent[i];
        d->rows[d->n_rows++] =
            (gorgon_row){slot->stream->sequence, tree->token[i], parent, outputs};
    }
}

static void lay_rows(gorgon_decoder *d)
{
    d->n_rows = 0;
    for (size_t i = 0; i < d->n_running; i++) {
        gg_slot *slot = d->running[i];
        slot->first_row = d->n_rows;
        if (slot->prompt)
            lay_prompt(d, slot);
        else
            lay_tree(d, slot);
    }
}

static gorgon_status run_pass(gorgon_decoder *d, step_account *step, gorgon_error *err)
{
    double begin = gg_now();
    gorgon_status status = gorgon_engine_pass(d->engine, d->rows, d->n_rows, err);
    step->pass_s = gg_now() - begin;
    return status;
}

static gg_verify_input verify_input(const gorgon_decoder *d, const gg_slot *slot, void *scratch)
{
    const gorgon_stream *s = slot->stream;
    return (gg_verify_input){
        .engine = d->engine,
        .tree = &slot->tree,
        .first_row = slot->prompt ? slot->first_row + slot->n_rows - 1 : slot->first_row,
        .root_position = slot->prompt ? s->n_prompt - 1 : s->n_tokens - 1,
        .sampling = &s->request.sampling,
        .scratch = scratch,
    };
}

// Walks of this pass: along the trees, and from the last rows of prompts. The others have none.
static void begin_verify(gorgon_decoder *d)
{
    for (size_t i = 0; i < d->n_running; i++) {
        gg_slot *slot = d->running[i];
        const gorgon_stream *s = slot->stream;
        bool last = gorgon_sequence_length(s->sequence) + slot->n_rows == s->n_prompt;
        if (slot->prompt)
            gg_tree_init(&slot->tree, s->tokens[s->n_prompt - 1]);
        slot->verdict.n = 0;
        slot->verdict.missing = !slot->prompt || (slot->n_rows > 0 && last) ? 0 : GG_NO_NODE;
    }
}

// The target's own tokens for the streams whose walks are not complete.
static void verify_on_thread(void *context, size_t thread, size_t n_threads)
{
    const gorgon_decoder *d = context;
    void *scratch = d->sample_scratch + thread * d->sample_scratch_bytes;
    for (size_t i = thread; i < d->n_running; i += n_threads) {
        gg_slot *slot = d->running[i];
        if (slot->verdict.missing == GG_NO_NODE)
            continue;
        double begin = gg_now();
        gg_verify_input input = verify_input(d, slot, scratch);
        d->rule->verify(&input, &slot->verdict);
        slot->verify_s += gg_now() - begin;
    }
}

// Rows that the unfinished walks will probably need, to d->chain; returns how many.
static size_t list_missing(gorgon_decoder *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_running; i++) {
        gg_slot *slot = d->running[i];
        if (slot->verdict.missing == GG_NO_NODE)
            continue;
        gg_verify_input input = verify_input(d, slot, NULL);
        n += gg_likely_walk(&input, (uint32_t)slot->verdict.missing, d->chain + n);
    }
    return n;
}

// Streams are verified side by side; one alone is not worth waking the team. Trees whose rows came
// without logits get those of a likely walk; a walk that leaves it asks again.
static gorgon_status verify_all(gorgon_decoder *d, step_account *step, gorgon_error *err)
{
    begin_verify(d);
    for (;;) {
        if (d->n_running == 1)
            verify_on_thread(d, 0, 1);
        else
            gg_team_run(gg_engine_team(d->engine), verify_on_thread, d);
        double begin = gg_now();
        size_t n = list_missing(d);
        if (n == 0)
            return GORGON_OK;
        gorgon_status status = gg_engine_add_logits(d->engine, d->chain, n, err);
        step->pass_s += gg_now() - begin;
        if (status != GORGON_OK)
            return status;
    }
}

// The rows of one stream that have logits: in a decoding stream any node of its tree.
static size_t list_verified(const gorgon_decoder *d, const gg_slot *slot, gg_verified_row *out)
{
    const gg_draft_tree *tree = &slot->tree;
    gg_verify_input input = verify_input(d, slot, NULL);
    size_t n = 0;
    for (size_t i = 0; slot->verdict.n > 0 && i < tree->n; i++) {
        gorgon_token before = -1;
        if (i > 0)
            before = tree->token[tree->parent[i]];
        else if (input.root_position > 0)
            before = slot->stream->tokens[input.root_position - 1];
        const float *logits = gorgon_engine_logits(d->engine, input.first_row + i);
        if (logits)
            out[n++] = (gg_verified_row){before, tree->token[i], logits};
    }
    return n;
}

static size_t list_all_verified(gorgon_decoder *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_running; i++)
        n += list_verified(d, d->running[i], d->verified + n);
    return n;
}

// Shows what the model says at all verified rows to the proposers that want to know. Those that
// sleep do not: what does not pay costs nothing.
static void teach(gorgon_decoder *d, const step_account *step)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_proposers; i++) {
        if (!d->proposer[i]->ops->learn || !(step->active & UINT32_C(1) << i))
            continue;
        double begin = gg_now();
        if (n == 0)
            n = list_all_verified(d);
        d->proposer[i]->ops->learn(d->proposer[i], d->verified, n);
        gg_plan_learn_time(&d->plan, i, gg_now() - begin);
    }
}

// Takes the decided tokens into the stream; returns how many rows of the pass become its history.
static size_t take(gorgon_decoder *d, gg_slot *slot)
{
    gorgon_stream *s = slot->stream;
    const gg_verdict *v = &slot->verdict;
    size_t taken = 0;
    if (v->n > 0 && s->limit == 0)
        gg_stream_end(s, GORGON_STOP_LENGTH);
    else if (v->n > 0)
        taken = gg_stream_take(s, d->tokenizer, v->decided, v->n);
    size_t first = slot->prompt ? slot->first_row + slot->n_rows - 1 : slot->first_row;
    for (size_t i = 0; d->record_logits && i < taken; i++)
        s->logits_hash = gg_hash(gorgon_engine_logits(d->engine, first + v->path[i]),
                                 d->n_vocab * sizeof(float), s->logits_hash);
    size_t n = slot->prompt ? slot->n_rows : taken;
    for (size_t i = 0; i < n; i++)
        d->chain[i] = (uint32_t)(slot->first_row + (slot->prompt ? i : v->path[i]));
    return n;
}

// Shows the committed rows d->chain[0 .. n) to the request and to the proposers.
static void observe(gorgon_decoder *d, gg_slot *slot, size_t position, size_t n)
{
    const gorgon_stream *s = slot->stream;
    for (size_t i = 0; i < n; i++) {
        d->hidden[i] = gorgon_engine_hidden(d->engine, d->chain[i]);
        gorgon_committed_row row = {position + i, s->tokens[position + i], d->hidden[i],
                                    gorgon_engine_logits(d->engine, d->chain[i])};
        if (s->request.on_row)
            s->request.on_row(s->request.context, &row);
    }
    // Heads learned from the model's own text: of a prompt they see the last row alone.
    for (size_t i = 0; i < n && position + i + 1 < s->n_prompt; i++)
        d->hidden[i] = NULL;
    gg_observation seen = {position, n, s->tokens + position, d->hidden};
    for (size_t i = 0; i < d->n_proposers; i++)
        d->proposer[i]->ops->observe(d->proposer[i], slot->state[i], &seen);
}

// One stream's share of the pass. A stream whose rows cannot be kept fails alone.
static void conclude(gorgon_decoder *d, gg_slot *slot, step_account *step, gorgon_error *err)
{
    gorgon_stream *s = slot->stream;
    if (slot->n_rows == 0)
        return;
    size_t position = gorgon_sequence_length(s->sequence);
    size_t n = take(d, slot);
    gorgon_error why = {0};
    gorgon_status status = GORGON_OK;
    if (s->stop == GORGON_STOP_NONE)
        status = gorgon_engine_commit(d->engine, s->sequence, d->chain, n, &why);
    if (status == GORGON_OK) {
        observe(d, slot, position, n);
        return;
    }
    gg_stream_end(s, GORGON_STOP_FAILED);
    if (step->status == GORGON_OK)
        step->status = gg_fail(err, status, "stream %zu of %zu tokens had to stop: %s", s->slot,
                               s->n_tokens, why.message);
}

static void count_prediction(gorgon_telemetry *t, float p, bool accepted)
{
    float tenths = p * (float)GORGON_TELEMETRY_BUCKETS;
    size_t bucket =
        tenths < (float)GORGON_TELEMETRY_BUCKETS ? (size_t)tenths : GORGON_TELEMETRY_BUCKETS - 1;
    t->suggested[bucket]++;
    t->came_true[bucket] += accepted;
    t->predicted[bucket] += (double)p;
}

static void count_node(gorgon_telemetry *t, size_t depth, size_t rank, float p, bool accepted)
{
    size_t row = depth <= GORGON_TELEMETRY_DEPTH ? depth - 1 : GORGON_TELEMETRY_DEPTH - 1;
    size_t column = rank < GORGON_TELEMETRY_RANK ? rank : GORGON_TELEMETRY_RANK - 1;
    t->offered[row][column]++;
    t->accepted[row][column] += accepted;
    t->expected += (double)p;
}

// What the target's own token says about an edge: to the telemetry of those who named it, and to
// the tap.
static void judge(gorgon_decoder *d, const gg_slot *slot, const gg_candidate *c, bool accepted)
{
    size_t depth = (size_t)slot->tree.depth[c->parent] + 1;
    for (size_t p = 0; p < d->n_proposers; p++) {
        if (!(c->namers.set & UINT32_C(1) << p))
            continue;
        count_prediction(&d->telemetry[p], c->edge, accepted);
        if (c->node != GG_NO_NODE)
            count_node(&d->telemetry[p], depth, c->namers.rank[p], c->edge, accepted);
    }
    if (d->tap) {
        gg_edge_outcome outcome = {.proposers = c->namers.set,
                                   .sampled = slot->stream->request.sampling.temperature > 0.0f,
                                   .depth = depth,
                                   .calibrated = c->calibrated,
                                   .corrected = c->edge,
                                   .accepted = accepted};
        d->tap(d->tap_context, &outcome);
    }
}

// An accepted node counts for the proposer that spoke most strongly for it.
static void name_winner(gorgon_decoder *d, const gg_candidate *c)
{
    size_t winner = d->n_proposers;
    for (size_t p = 0; p < d->n_proposers; p++) {
        bool named = c->namers.set & UINT32_C(1) << p;
        if (named && (winner == d->n_proposers || c->said[p] > c->said[winner]))
            winner = p;
    }
    d->telemetry[winner].won++;
}

// Compares every suggested edge whose parent was accepted with the target's token, whether or not
// it was in the tree: the correction also hears of what it talked the planner out of.
static void learn_edges(gorgon_decoder *d)
{
    for (size_t k = 0; k < d->grower.n_pool; k++) {
        const gg_candidate *c = &d->grower.pool[k];
        const gg_slot *slot = d->sprout_slot[c->sprout];
        const gg_verdict *v = &slot->verdict;
        if (c->parent >= slot->tree.n)
            continue;
        size_t i = slot->tree.depth[c->parent];
        if (i >= v->n || v->path[i] != c->parent)
            continue;
        bool accepted = v->decided[i] == c->token;
        gg_online_observe(&d->grower.online, i + 1, c->calibrated, accepted);
        judge(d, slot, c, accepted);
        if (accepted && c->node != GG_NO_NODE)
            name_winner(d, c);
    }
}

// Nodes that only one proposer named count for it.
static void give_credit(const gorgon_decoder *d, gg_credit *credit)
{
    for (size_t i = 0; i < d->n_sprouts; i++) {
        const gg_draft_tree *tree = d->sprouts[i].tree;
        for (size_t node = 1; node < tree->n; node++) {
            for (size_t p = 0; p < d->n_proposers; p++) {
                if (tree->proposers[node] == UINT32_C(1) << p) {
                    credit[p].nodes++;
                    credit[p].path_sum += (double)tree->path[node];
                }
            }
        }
    }
}

static void learn(gorgon_decoder *d, step_account *step)
{
    bool automatic = d->plan.mode == GG_TREE_AUTO && d->n_sprouts > 0;
    learn_edges(d);
    if (automatic) {
        gg_credit credit[GG_MAX_PROPOSERS] = {{0}};
        give_credit(d, credit);
        gg_plan_settle(&d->plan, &step->objective, step->active, step->growth.nodes,
                       step->growth.path_sum, credit);
    }
    if (d->plan.has_cost && step->n_prompt_rows == 0) {
        double nodes = (double)(d->n_rows - step->n_decode);
        double attended = step->decode_attended * (1.0 + nodes / (double)step->n_decode);
        gg_cost_observe(&d->plan.cost, d->n_rows, attended, step->pass_s);
    }
}

// Books the time, lets go of finished streams and counts the others. A stream's times are wall
// time of the passes it took part in, whoever else was in them.
static size_t settle(gorgon_decoder *d, const step_account *step)
{
    double total = gg_now() - step->begin_s;
    size_t active = 0;
    for (size_t i = 0; i < d->n_running; i++) {
        gg_slot *slot = d->running[i];
        gorgon_stream *s = slot->stream;
        if (slot->prompt) {
            s->prefill_s += total;
        } else {
            s->decode_s += total;
            s->draft_s += step->draft_s;
            s->verify_s += slot->verify_s;
            s->passes++;
        }
        if (s->stop == GORGON_STOP_NONE) {
            active++;
            continue;
        }
        gorgon_sequence_free(s->sequence);
        s->sequence = NULL;
        slot->stream = NULL;
    }
    return active;
}

gorgon_status gorgon_decoder_step(gorgon_decoder *decoder, size_t *active, gorgon_error *err)
{
    step_account step = {.begin_s = gg_now()};
    *active = 0;
    schedule(decoder, &step);
    if (decoder->n_running == 0)
        return GORGON_OK;
    propose(decoder, &step);
    lay_rows(decoder);
    gorgon_status status = run_pass(decoder, &step, err);
    if (status == GORGON_OK)
        status = verify_all(decoder, &step, err);
    if (status != GORGON_OK) {
        *active = decoder->n_running;
        return status;
    }
    teach(decoder, &step);
    for (size_t i = 0; i < decoder->n_running; i++)
        conclude(decoder, decoder->running[i], &step, err);
    learn(decoder, &step);
    *active = settle(decoder, &step);
    return step.status;
}
