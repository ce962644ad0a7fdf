// Statements of templates: what is printed, in which scope names live.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "jinja_impl.h"

static void run_body(gg_jrun *run, const gg_jnode *node);

static void print(gg_jrun *run, gg_jstring s)
{
    if (run->status != GORGON_OK || s.length == 0)
        return;
    if (s.length > run->out_most - run->out_n) {
        gg_jrun_fail(run, GORGON_ERROR_LIMIT, "the text grows above %zu bytes", run->out_most);
        return;
    }
    if (s.length > run->out_capacity - run->out_n) {
        size_t capacity = 2 * run->out_capacity + s.length + 256;
        char *grown = gg_realloc(run->out, run->out_n, capacity, 1);
        if (!grown) {
            gg_jrun_fail(run, GORGON_ERROR_MEMORY, "no memory for a text of %zu bytes", capacity);
            return;
        }
        run->out = grown;
        run->out_capacity = capacity;
    }
    memcpy(run->out + run->out_n, s.text, s.length);
    run->out_n += s.length;
}

// What has been printed since `start`, taken back and made a string.
static gg_jvalue take_output(gg_jrun *run, size_t start)
{
    const size_t n = run->out_n - start;
    char *copy = gg_jrun_bytes(run, n);
    if (!copy)
        return (gg_jvalue){0};
    if (n > 0)
        memcpy(copy, run->out + start, n);
    run->out_n = start;
    return gg_jv_string(copy, n);
}

void gg_jrun_set(gg_jrun *run, gg_jstring name, gg_jvalue value)
{
    for (size_t i = run->scope; i < run->n_names; i++) {
        if (gg_jstring_same(run->names[i].name, name)) {
            run->names[i].value = value;
            return;
        }
    }
    if (run->n_names == GG_JINJA_NAMES)
        gg_jrun_fail(run, GORGON_ERROR_LIMIT, "expected at most %d names", GG_JINJA_NAMES);
    else
        run->names[run->n_names++] = (gg_jvariable){name, value};
}

// Gives the names of a loop or a set their values.
static void assign(gg_jrun *run, const gg_jnode *node, gg_jvalue value)
{
    if (node->n_names == 1) {
        gg_jrun_set(run, node->names[0], value);
        return;
    }
    if (value.kind != GG_JV_LIST || value.of.list->n != node->n_names) {
        gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a list of %zu values, got %s",
                     node->n_names, gg_jv_kind(value));
        return;
    }
    for (size_t i = 0; i < node->n_names; i++)
        gg_jrun_set(run, node->names[i], value.of.list->items[i]);
}

// What a loop goes over, as a list: a mapping's keys, a string's characters.
static gg_jvalue items_of(gg_jrun *run, gg_jvalue v)
{
    if (v.kind == GG_JV_LIST)
        return v;
    gg_jvalue out = gg_jv_list(run);
    if (v.kind == GG_JV_DICT) {
        for (size_t i = 0; run->status == GORGON_OK && i < v.of.dict->n; i++) {
            gg_jstring key = v.of.dict->keys[i];
            gg_jlist_add(run, out.of.list, gg_jv_string(key.text, key.length));
        }
    } else if (v.kind == GG_JV_STRING) {
        gg_jstring rest = v.string;
        while (run->status == GORGON_OK && rest.length > 0) {
            gg_jstring c = gg_jstring_cut(rest, 0, 1);
            gg_jlist_add(run, out.of.list, gg_jv_string(c.text, c.length));
            rest = (gg_jstring){rest.text + c.length, rest.length - c.length};
        }
    } else if (v.kind != GG_JV_UNDEFINED) {
        gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a list to loop over, got %s",
                     gg_jv_kind(v));
    }
    return out;
}

// The items that a loop's condition lets through.
static gg_jvalue filtered(gg_jrun *run, const gg_jnode *node, gg_jvalue items)
{
    if (!node->b || run->status != GORGON_OK)
        return items;
    gg_jvalue out = gg_jv_list(run);
    const size_t n_names = run->n_names, scope = run->scope;
    for (size_t i = 0; run->status == GORGON_OK && i < items.of.list->n; i++) {
        run->scope = n_names;
        assign(run, node, items.of.list->items[i]);
        if (gg_jv_true(gg_jrun_eval(run, node->b)))
            gg_jlist_add(run, out.of.list, items.of.list->items[i]);
        run->n_names = n_names;
        run->scope = scope;
    }
    return out;
}

static void run_for(gg_jrun *run, const gg_jnode *node)
{
    const size_t n_names = run->n_names, scope = run->scope;
    gg_jvalue items = items_of(run, gg_jrun_eval(run, node->a));
    items = filtered(run, node, items);
    if (run->status != GORGON_OK)
        return;
    void *block = gg_jrun_bytes(run, sizeof(gg_jloop)); // a template may keep it
    gg_jloop *loop = block;
    const gg_jlist *list = items.of.list;
    for (size_t i = 0; run->status == GORGON_OK && i < list->n; i++) {
        gg_jrun_work(run, 0);
        *loop = (gg_jloop){.list = list, .index = i};
        run->scope = n_names;
        gg_jrun_set(run, (gg_jstring){"loop", 4}, (gg_jvalue){.kind = GG_JV_LOOP, .of.loop = loop});
        assign(run, node, list->items[i]);
        run_body(run, node->body);
        run->n_names = n_names;
        run->scope = scope;
        const int leave = run->leave;
        run->leave = 0;
        if (leave == GG_J_BREAK)
            break;
    }
    if (run->status == GORGON_OK && list->n == 0)
        run_body(run, node->otherwise);
}

static void run_set(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue value, space = {0};
    if (node->number == 0) {
        value = gg_jrun_eval(run, node->b);
    } else {
        const size_t start = run->out_n, n_names = run->n_names, scope = run->scope;
        run->scope = n_names;
        run_body(run, node->body);
        value = take_output(run, start);
        gg_jrun_set(run, (gg_jstring){"", 0}, value);
        value = gg_jrun_eval(run, node->b);
        run->n_names = n_names;
        run->scope = scope;
    }
    if (run->status != GORGON_OK)
        return;
    if (!node->a) {
        assign(run, node, value);
        return;
    }
    const gg_jnode name = {.kind = GG_J_NAME, .string = node->names[0], .line = node->line};
    space = gg_jrun_eval(run, &name);
    if (run->status != GORGON_OK)
        return;
    if (space.kind != GG_JV_DICT)
        gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected a namespace to set, got %s",
                     gg_jv_kind(space));
    else
        gg_jdict_set(run, space.of.dict, node->a->string, value);
}

static void run_if(gg_jrun *run, const gg_jnode *node)
{
    gg_jvalue condition = gg_jrun_eval(run, node->a);
    if (run->status == GORGON_OK)
        run_body(run, gg_jv_true(condition) ? node->body : node->otherwise);
}

static void run_statement(gg_jrun *run, const gg_jnode *node)
{
    switch (node->kind) {
    case GG_J_TEXT:
        print(run, node->string);
        break;
    case GG_J_PRINT:
        print(run, gg_jv_text(run, gg_jrun_eval(run, node->a)));
        break;
    case GG_J_IF:
        run_if(run, node);
        break;
    case GG_J_FOR:
        run_for(run, node);
        break;
    case GG_J_SET:
        run_set(run, node);
        break;
    case GG_J_MACRO:
        gg_jrun_set(run, node->string, (gg_jvalue){.kind = GG_JV_MACRO, .of.macro = node});
        break;
    case GG_J_BLOCK:
        run_body(run, node->body);
        break;
    default:
        run->leave = (int)node->kind;
    }
}

static void run_body(gg_jrun *run, const gg_jnode *node)
{
    if (++run->depth > GG_JINJA_FRAMES)
        gg_jrun_fail(run, GORGON_ERROR_LIMIT, "expected less nesting");
    for (; node && run->status == GORGON_OK && run->leave == 0; node = node->next) {
        run->line = node->line;
        gg_jrun_work(run, 0);
        run_statement(run, node);
    }
    run->depth--;
}

// What a macro's name finds at its place in the template is what it finds when called: templates
// define macros at the top, where only their own names differ.
gg_jvalue gg_jrun_macro(gg_jrun *run, const gg_jnode *macro, gg_jarguments *args)
{
    const size_t n_names = run->n_names, scope = run->scope, start = run->out_n;
    gg_jvalue values[GG_JINJA_ARGS];
    if (run->calls >= GG_JINJA_CALLS)
        return gg_jrun_fail(run, GORGON_ERROR_LIMIT, "expected calls nested at most %d deep",
                            GG_JINJA_CALLS);
    if (args->n - args->n_named > macro->n_names)
        return gg_jrun_fail(run, GORGON_ERROR_ARGUMENT, "expected at most %zu arguments, got %zu",
                            macro->n_names, args->n);
    run->calls++;
    run->scope = n_names;
    for (size_t i = 0; i < macro->n_names; i++) {
        const gg_jstring name = macro->names[i];
        values[i] = gg_jv_undefined(name);
        bool given = i < args->n - args->n_named;
        if (given)
            values[i] = args->items[i];
        for (size_t k = 0; k < args->n_named; k++) {
            if (gg_jstring_same(args->names[k], name)) {
                values[i] = args->items[args->n - args->n_named + k];
                given = args->used[k] = true;
            }
        }
        if (!given && macro->items[i])
            values[i] = gg_jrun_eval(run, macro->items[i]);
        gg_jrun_set(run, name, values[i]);
    }
    run_body(run, macro->body);
    gg_jvalue text = take_output(run, start);
    run->leave = 0;
    run->calls--;
    run->n_names = n_names;
    run->scope = scope;
    return text;
}

static gg_jvalue message_value(gg_jrun *run, const gorgon_message *message)
{
    gg_jvalue dict = gg_jv_dict(run);
    if (run->status != GORGON_OK)
        return dict;
    gg_jdict_set(run, dict.of.dict, (gg_jstring){"role", 4},
                 gg_jv_string(message->role, strlen(message->role)));
    gg_jdict_set(run, dict.of.dict, (gg_jstring){"content", 7},
                 gg_jv_string(message->content, strlen(message->content)));
    return dict;
}

static void set_inputs(gg_jrun *run, const gg_jinja_input *input)
{
    gg_jvalue messages = gg_jv_list(run);
    for (size_t i = 0; run->status == GORGON_OK && i < input->n_messages; i++)
        gg_jlist_add(run, messages.of.list, message_value(run, &input->messages[i]));
    gg_jrun_set(run, (gg_jstring){"messages", 8}, messages);
    gg_jrun_set(run, (gg_jstring){"add_generation_prompt", 21},
                gg_jv_bool(input->add_generation_prompt));
    gg_jrun_set(run, (gg_jstring){"tools", 5}, gg_jv_none());
    gg_jrun_set(run, (gg_jstring){"documents", 9}, gg_jv_none());
    if (input->bos)
        gg_jrun_set(run, (gg_jstring){"bos_token", 9}, gg_jv_string(input->bos, input->bos_length));
    if (input->eos)
        gg_jrun_set(run, (gg_jstring){"eos_token", 9}, gg_jv_string(input->eos, input->eos_length));
    run->scope = 0;
}

// What a rendering may use: templates copy each message a few times.
static void set_limits(gg_jrun *run, const gg_jinja_input *input)
{
    run->arena.most = (size_t)32 << 20;
    run->most_steps = GG_JINJA_STEPS;
    for (size_t i = 0; i < input->n_messages; i++) {
        size_t n = strlen(input->messages[i].content);
        run->arena.most += 1024 + (n < SIZE_MAX / 512 / (input->n_messages + 1) ? 128 * n : 0);
        run->most_steps += n;
    }
    run->out_most = run->arena.most;
}

gorgon_status gg_jinja_render(const gg_jinja *jinja, const gg_jinja_input *input, char **text,
                              gorgon_error *err)
{
    gg_jrun *run = gg_alloc(1, sizeof *run);
    if (!run)
        return gg_fail(err, GORGON_ERROR_MEMORY, "no memory for a chat");
    run->err = err;
    set_limits(run, input);
    set_inputs(run, input);
    run_body(run, jinja->body);
    print(run, (gg_jstring){"", 1}); // the NUL
    gorgon_status status = run->status;
    if (status == GORGON_OK)
        *text = run->out;
    else
        gg_free(run->out);
    gg_arena_clear(&run->arena);
    gg_free(run);
    return status;
}
