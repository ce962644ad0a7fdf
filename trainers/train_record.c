// Training record and accuracy table as JSON.
#include "train_record.h"

#include <inttypes.h>
#include <jansson.h>

#ifndef GORGON_VERSION
#error "the build defines GORGON_VERSION"
#endif

enum { FORMAT = JSON_COMPACT | JSON_REAL_PRECISION(7) };

static void put_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, json_string(value));
}

static void put_count(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void put_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, json_real(value));
}

static void put_hex(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_sprintf("%016" PRIx64, value));
}

static void put_count_if(json_t *object, const char *key, uint64_t value)
{
    if (value > 0)
        put_count(object, key, value);
}

static json_t *options_json(const gorgon_train_options *o, const gg_head_shape *shape)
{
    json_t *root = json_object();
    put_hex(root, "seed", o->seed);
    put_count(root, "n_heads", o->n_heads);
    put_count(root, "n_blocks", o->n_blocks);
    put_count_if(root, "rank", shape->rank);
    put_count_if(root, "n_attention", shape->n_attention);
    put_count_if(root, "n_ffn", shape->n_ffn);
    put_count_if(root, "window", shape->window);
    json_object_set_new(root, "root_embedding", json_boolean(o->root_embedding));
    json_object_set_new(root, "own_output", json_boolean(o->own_output));
    put_count(root, "draft_vocab", shape->n_draft);
    put_real(root, "epochs", o->epochs);
    put_count(root, "batch", o->batch);
    put_real(root, "learning_rate", o->learning_rate);
    put_real(root, "warmup_share", o->warmup_share);
    put_real(root, "weight_decay", o->weight_decay);
    put_real(root, "clip", o->clip);
    put_real(root, "head_decay", o->head_decay);
    put_text(root, "targets", o->hard_targets ? "hard" : "soft");
    put_real(root, "held_out", o->held_out);
    put_text(root, "weight_type", o->weight_type);
    return root;
}

static json_t *data_json(const gg_train_facts *f)
{
    gg_cache_identity id = gg_cache_identity_of(f->cache);
    json_t *root = json_object();
    put_hex(root, "seed", id.seed);
    put_hex(root, "options_hash", id.options_hash);
    put_count(root, "sequences", gg_cache_sequences(f->cache));
    put_count(root, "records", gg_cache_records(f->cache));
    put_count(root, "trained_records", f->records);
    put_count(root, "trained_positions", f->positions);
    put_real(root, "draft_vocab_coverage", f->coverage);
    return root;
}

static json_t *curve_json(const gg_train_state *state)
{
    json_t *curve = json_array();
    for (uint64_t i = 0; i < state->n_history; i++) {
        json_t *point = json_object();
        put_count(point, "step", state->history[i].step);
        put_real(point, "loss", state->history[i].trained);
        put_real(point, "held_out_loss", state->history[i].held_out);
        put_real(point, "accepted_length", state->history[i].accepted);
        json_array_append_new(curve, point);
    }
    return curve;
}

char *gg_train_record_json(const gg_train_facts *f)
{
    gorgon_model_info info;
    gorgon_model_describe(f->model, &info);
    json_t *root = json_object();
    put_text(root, "recipe", gg_head_traits_of(f->maker->shape.kind)->name);
    put_text(root, "gorgon", GORGON_VERSION);
    put_text(root, "base", info.name);
    json_object_set_new(root, "options", options_json(f->options, &f->maker->shape));
    json_object_set_new(root, "data", data_json(f));
    put_count(root, "n_parameters", f->state->n);
    put_count(root, "steps", f->state->step);
    put_count(root, "chosen_step", f->chosen_step);
    json_object_set_new(root, "loss_curve", curve_json(f->state));
    char *text = json_dumps(root, FORMAT);
    json_decref(root);
    return text;
}

char *gg_train_accuracy_json(const gg_train_scores *scores, size_t n_heads)
{
    json_t *root = json_object(), *heads = json_array();
    put_count(root, "positions", scores->positions);
    put_real(root, "loss", scores->loss);
    put_real(root, "accepted_length", gg_train_accepted(scores, n_heads));
    for (size_t k = 0; k < n_heads; k++) {
        json_t *head = json_object(), *top = json_array();
        for (size_t n = 1; n <= GG_TRAIN_TOP; n++)
            json_array_append_new(top, json_real(gg_train_accuracy(scores, k, n)));
        put_count(head, "pairs", scores->pairs[k]);
        json_object_set_new(head, "top", top);
        json_array_append_new(heads, head);
    }
    json_object_set_new(root, "heads", heads);
    char *text = json_dumps(root, FORMAT);
    json_decref(root);
    return text;
}
