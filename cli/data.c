// See data.h.
#include "data.h"

#include <stdlib.h>
#include <string.h>

enum { PASSAGE = 2000, LEAST_PASSAGE = 40 }; // bytes

bool cli_is_jsonl(const char *path)
{
    static const char *const ends[] = {".jsonl", ".ndjson"};
    const size_t n = strlen(path);
    for (size_t i = 0; i < 2; i++) {
        const size_t m = strlen(ends[i]);
        if (n >= m && strcmp(path + n - m, ends[i]) == 0)
            return true;
    }
    return false;
}

size_t cli_text_cut(const char *text, size_t n)
{
    static const char ends[] = "\n ";
    for (const char *end = ends; *end; end++) {
        for (size_t i = n; i > n / 2; i--) {
            if (text[i - 1] == *end)
                return i;
        }
    }
    return gorgon_utf8_complete(text, n);
}

// The array of n elements with room for one more: doubled where n is a power of two or 0.
static void *grow(void *array, size_t n, size_t size)
{
    void *grown = (n & (n - 1)) == 0 ? realloc(array, (n ? 2 * n : 1) * size) : array;
    if (!grown)
        cli_complain("out of memory");
    return grown;
}

// Zeroed memory that lives as long as the data; NULL after a message.
static void *take(cli_data *data, size_t size)
{
    void **blocks = grow(data->blocks, data->n_blocks, sizeof *blocks);
    if (!blocks)
        return NULL;
    data->blocks = blocks;
    void *block = calloc(1, size);
    if (!block)
        cli_complain("out of memory");
    else
        blocks[data->n_blocks++] = block;
    return block;
}

// A new item for n_turns turns, all NULL yet; NULL after a message.
static const char **add_item(cli_data *data, bool chat, size_t n_turns)
{
    gorgon_synth_text *items = grow(data->items, data->n, sizeof *items);
    if (!items)
        return NULL;
    data->items = items;
    const char **turns = take(data, n_turns * sizeof *turns);
    if (turns)
        items[data->n++] = (gorgon_synth_text){chat, turns, n_turns};
    return turns;
}

static bool set_turn(cli_data *data, const char **turn, const char *text, size_t n)
{
    char *copy = take(data, n + 1);
    if (!copy)
        return false;
    memcpy(copy, text, n);
    *turn = copy;
    return true;
}

static bool add_one(cli_data *data, bool chat, const char *text, size_t n)
{
    const char **turns = add_item(data, chat, 1);
    return turns && set_turn(data, turns, text, n);
}

static bool add_passages(cli_data *data, const char *text, size_t n)
{
    while (n > 0) {
        size_t taken = n > PASSAGE ? cli_text_cut(text, PASSAGE) : n;
        taken = taken ? taken : n < PASSAGE ? n : PASSAGE;
        if (taken >= LEAST_PASSAGE && !add_one(data, false, text, taken))
            return false;
        text += taken;
        n -= taken;
    }
    return true;
}

static bool is_text(const cli_lines *lines, const char *key, const json_t *value)
{
    if (!json_is_string(value))
        return cli_line_error(lines, "\"%s\": expected a text%s", key,
                              strcmp(key, "turns") == 0 ? " per turn" : "");
    if (strlen(json_string_value(value)) != json_string_length(value))
        return cli_line_error(lines, "\"%s\": holds a NUL character", key);
    return true;
}

static bool add_turns(cli_data *data, const cli_lines *lines, const json_t *list)
{
    const size_t n = json_array_size(list);
    if (n == 0)
        return cli_line_error(lines, "\"turns\": expected an array of texts");
    const char **turns = add_item(data, true, n);
    for (size_t i = 0; turns && i < n; i++) {
        const json_t *turn = json_array_get(list, i);
        if (!is_text(lines, "turns", turn) ||
            !set_turn(data, &turns[i], json_string_value(turn), json_string_length(turn)))
            return false;
    }
    return turns != NULL;
}

// The model gives its own answers, so only the user's messages are taken.
static bool add_messages(cli_data *data, const cli_lines *lines, const json_t *line)
{
    size_t n = 0, users = 0;
    gorgon_message *messages = cli_messages_from_json(lines, line, &n);
    if (!messages)
        return false;
    for (size_t i = 0; i < n; i++)
        users += strcmp(messages[i].role, "user") == 0;
    const char **turns = users > 0 ? add_item(data, true, users) : NULL;
    bool good = users == 0 || turns;
    for (size_t i = 0; i < n && good && turns; i++) {
        if (strcmp(messages[i].role, "user") == 0)
            good = set_turn(data, turns++, messages[i].content, strlen(messages[i].content));
    }
    free(messages);
    return good;
}

static bool add_line(cli_data *data, const cli_lines *lines, const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *prompt = json_object_get(line, "prompt");
    if (text)
        return is_text(lines, "text", text) &&
               add_passages(data, json_string_value(text), json_string_length(text));
    if (prompt)
        return is_text(lines, "prompt", prompt) &&
               add_one(data, true, json_string_value(prompt), json_string_length(prompt));
    if (json_object_get(line, "messages"))
        return add_messages(data, lines, line);
    if (json_object_get(line, "turns"))
        return add_turns(data, lines, json_object_get(line, "turns"));
    return cli_line_error(lines,
                          "expected one of \"text\", \"prompt\", \"messages\" and \"turns\"");
}

static bool read_jsonl(cli_data *data, const char *path)
{
    cli_lines lines;
    bool bad = false;
    json_t *line = NULL;
    if (!cli_lines_open(&lines, path))
        return false;
    while (!bad && (line = cli_lines_next(&lines, &bad)) != NULL) {
        bad = !add_line(data, &lines, line);
        json_decref(line);
    }
    cli_lines_close(&lines);
    return !bad;
}

// Found here, not when the passage's turn comes in the middle of long work.
static bool is_plain(const char *path, const char *text, size_t n)
{
    size_t bad = strlen(text);
    if (bad < n)
        return cli_complain("%s: byte %zu is NUL, expected text", path, bad);
    if (!gorgon_utf8_valid(text, n, &bad))
        return cli_complain("%s: byte %zu is not UTF-8", path, bad);
    return true;
}

static bool read_plain(cli_data *data, const char *path)
{
    size_t n;
    char *text = cli_read_file(path, &n);
    if (!text)
        return false;
    const bool good = is_plain(path, text, n) && add_passages(data, text, n);
    free(text);
    return good;
}

bool cli_data_read(const cli_list *paths, cli_data *out)
{
    *out = (cli_data){0};
    for (size_t i = 0; i < paths->n; i++) {
        const size_t before = out->n;
        const char *path = paths->values[i];
        if (!(cli_is_jsonl(path) ? read_jsonl(out, path) : read_plain(out, path)))
            return false;
        if (out->n == before)
            return cli_complain("%s: holds no text of %d bytes or more", path, LEAST_PASSAGE);
    }
    return true;
}

void cli_data_clear(cli_data *data)
{
    for (size_t i = 0; i < data->n_blocks; i++)
        free(data->blocks[i]);
    free(data->blocks);
    free(data->items);
    *data = (cli_data){0};
}
