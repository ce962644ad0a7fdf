// JSON lines, whole files, progress, interrupts and the environment.
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { MAX_LINE_BYTES = 8 << 20, MAX_FILE_BYTES = 64 << 20 };

bool cli_lines_open(cli_lines *lines, const char *path)
{
    *lines = (cli_lines){.label = path ? path : "standard input"};
    lines->stream = path && strcmp(path, "-") != 0 ? fopen(path, "r") : stdin;
    if (!lines->stream)
        return cli_complain("%s: %s", path, strerror(errno));
    return true;
}

bool cli_line_error(const cli_lines *lines, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (lines)
        fprintf(stderr, "gorgon: %s:%zu: ", lines->label, lines->line);
    else
        fputs("gorgon: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

// Reads a line into the buffer; false at the end, or with *bad after a message.
static bool read_line(cli_lines *lines, size_t *length, bool *bad)
{
    size_t n = 0;
    int c;
    while ((c = getc(lines->stream)) != EOF && c != '\n') {
        if (n + 1 >= lines->capacity) {
            size_t wanted = lines->capacity ? lines->capacity * 2 : 4096;
            char *grown = wanted > MAX_LINE_BYTES ? NULL : realloc(lines->buffer, wanted);
            if (!grown) {
                *bad = !cli_line_error(lines, "line is longer than %d bytes", MAX_LINE_BYTES / 2);
                return false;
            }
            lines->buffer = grown;
            lines->capacity = wanted;
        }
        lines->buffer[n++] = (char)c;
    }
    if (ferror(lines->stream)) {
        *bad = !cli_line_error(lines, "%s", strerror(errno));
        return false;
    }
    *length = n;
    return c != EOF || n > 0;
}

json_t *cli_lines_next(cli_lines *lines, bool *bad)
{
    size_t length = 0;
    *bad = false;
    do {
        lines->line++;
        if (!read_line(lines, &length, bad))
            return NULL;
    } while (length == 0 || strspn(lines->buffer, " \t\r") >= length);
    json_error_t problem;
    json_t *object =
        json_loadb(lines->buffer, length, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &problem);
    if (object && json_is_object(object))
        return object;
    *bad = true;
    if (object)
        cli_line_error(lines, "expected a JSON object");
    else
        cli_line_error(lines, "not JSON at byte %d: %s", problem.position, problem.text);
    json_decref(object);
    return NULL;
}

void cli_lines_close(cli_lines *lines)
{
    if (lines->stream && lines->stream != stdin)
        fclose(lines->stream);
    free(lines->buffer);
}

char *cli_read_file(const char *path, size_t *length)
{
    FILE *stream = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = malloc(MAX_FILE_BYTES + 1);
    size_t n = 0;
    bool whole = false;
    if (!stream || !text) {
        cli_complain("%s: %s", path, strerror(errno));
    } else {
        n = fread(text, 1, MAX_FILE_BYTES + 1, stream);
        if (ferror(stream))
            cli_complain("%s: %s", path, strerror(errno));
        else if (n > MAX_FILE_BYTES)
            cli_complain("%s: longer than %d bytes", path, MAX_FILE_BYTES);
        else
            whole = true;
    }
    if (stream && stream != stdin)
        fclose(stream);
    if (!whole) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    *length = n;
    return text;
}

bool cli_ids_from_json(const cli_lines *lines, const json_t *array, size_t n_vocab,
                       gorgon_token **ids, size_t *n)
{
    if (!json_is_array(array))
        return cli_line_error(lines, "expected an array of token ids");
    *n = json_array_size(array);
    *ids = malloc((*n + 1) * sizeof **ids);
    if (!*ids)
        return cli_line_error(lines, "out of memory");
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(array, i);
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || (size_t)id >= n_vocab) {
            char *got = json_dumps(item, JSON_ENCODE_ANY | JSON_COMPACT);
            cli_line_error(lines, "item %zu is %.40s, expected a token id from 0 to %zu", i,
                           got ? got : "?", n_vocab - 1);
            free(got);
            free(*ids);
            *ids = NULL;
            return false;
        }
        (*ids)[i] = (gorgon_token)id;
    }
    return true;
}

json_t *cli_ids_to_json(const gorgon_token *ids, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, json_integer(ids[i]));
    return array;
}

gorgon_message *cli_messages_from_json(const cli_lines *lines, const json_t *line, size_t *n)
{
    const json_t *array = json_object_get(line, "messages");
    *n = json_array_size(array);
    gorgon_message *messages = calloc(*n + 1, sizeof *messages);
    if (!json_is_array(array) || !messages) {
        cli_line_error(lines, "expected \"messages\": an array of {role, content}");
        free(messages);
        return NULL;
    }
    for (size_t i = 0; i < *n; i++) {
        const json_t *m = json_array_get(array, i);
        messages[i].role = json_string_value(json_object_get(m, "role"));
        messages[i].content = json_string_value(json_object_get(m, "content"));
        if (!messages[i].role || !messages[i].content) {
            cli_line_error(lines, "message %zu: expected strings \"role\" and \"content\"", i);
            free(messages);
            return NULL;
        }
    }
    return messages;
}

json_t *cli_json_at(const json_t *root, const char *keys)
{
    json_t *at = NULL;
    while (*keys) {
        char key[CLI_JSON_KEY];
        size_t n = strcspn(keys, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, keys, n);
        key[n] = '\0';
        at = json_is_array(root) ? json_array_get(root, strtoul(key, NULL, 10))
                                 : json_object_get(root, key);
        root = at;
        keys += n + (keys[n] == '.');
    }
    return at;
}

double cli_json_number(const json_t *root, const char *keys)
{
    return json_number_value(cli_json_at(root, keys));
}

const char *cli_json_text(const json_t *root, const char *keys)
{
    const char *text = json_string_value(cli_json_at(root, keys));
    return text ? text : "";
}

bool cli_print_json(json_t *object)
{
    bool good = json_dumpf(object, stdout, CLI_JSON_FORMAT) == 0 && putchar('\n') != EOF;
    json_decref(object);
    return good || cli_complain("standard output: %s", strerror(errno));
}

bool cli_check_output(const char *path)
{
    gorgon_error err = {0};
    gorgon_output *out = NULL;
    if (gorgon_output_create(path, &out, &err) != GORGON_OK)
        return cli_fail(&err);
    gorgon_output_discard(out);
    return true;
}

bool cli_write_file(const char *path, const char *line)
{
    gorgon_error err = {0};
    gorgon_output *out = NULL;
    gorgon_status status = gorgon_output_create(path, &out, &err);
    if (status != GORGON_OK)
        return cli_fail(&err);
    status = gorgon_output_write(out, line, strlen(line), &err);
    if (status == GORGON_OK)
        status = gorgon_output_write(out, "\n", 1, &err);
    if (status == GORGON_OK)
        return gorgon_output_commit(out, &err) == GORGON_OK || cli_fail(&err);
    gorgon_output_discard(out);
    return cli_fail(&err);
}

bool cli_flush(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_complain("standard output: %s", strerror(errno));
    return true;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void cli_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    action.sa_flags = (int)SA_RESETHAND; // the second Ctrl-C ends the process
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void format_eta(double eta, char *text, size_t size)
{
    if (!(eta >= 0) || eta > 1e7)
        snprintf(text, size, "--:--");
    else
        snprintf(text, size, "%d:%02d:%02d", (int)eta / 3600, (int)eta / 60 % 60, (int)eta % 60);
}

bool cli_progress(void *context, const gorgon_progress *p)
{
    (void)context;
    static double last, began; // of the current display only
    static uint64_t last_done;
    static char shown[128];
    bool terminal = isatty(STDERR_FILENO) != 0;
    double now = cli_seconds();
    if (strcmp(shown, p->stage) != 0) {
        if (shown[0])
            cli_progress_end();
        snprintf(shown, sizeof shown, "%s", p->stage);
        began = now;
        last = terminal ? 0 : began - 25; // a log has its first line after 5 s
        last_done = 0;
    }
    bool due = now - last > (terminal ? 0.2 : 30.0) ||
               (p->total && p->done >= p->total && p->done != last_done);
    if (due && now - began > 0.5) {
        char eta[32];
        format_eta(p->eta_s, eta, sizeof eta);
        fprintf(stderr, "%s%s %llu/%llu %s, %.*f/s, %s left%s%s%s", terminal ? "\r" : "", p->stage,
                (unsigned long long)p->done, (unsigned long long)p->total, p->unit,
                p->rate < 10 ? 1 : 0, p->rate, eta, p->line[0] ? " | " : "", p->line,
                terminal ? "\033[K" : "\n");
        fflush(stderr);
        last = now;
        last_done = p->done;
    }
    return !cli_interrupted();
}

void cli_progress_end(void)
{
    if (isatty(STDERR_FILENO))
        fputc('\n', stderr);
}

const char *cli_environment_cpu(void)
{
    return getenv("GORGON_CPU");
}

const char *cli_default_cost_cache(void)
{
    static char path[4096];
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (base && *base)
        n = snprintf(path, sizeof path, "%s/gorgon", base);
    else if (home && *home)
        n = snprintf(path, sizeof path, "%s/.cache/gorgon", home);
    if (n <= 0 || (size_t)n + 32 > sizeof path)
        return NULL;
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = '\0';
        mkdir(path, 0777); // an existing directory is fine; a missing one shows on writing
        if (!slash)
            break;
        *slash = '/';
    }
    strncat(path, "/pass-cost.json", sizeof path - (size_t)n - 1);
    return path;
}
