// Template text to tokens, white space control included.
#include <string.h>

#include "core/error.h"
#include "jinja_impl.h"
#include "utf8.h"

static char peek(const gg_jlexer *l, size_t ahead)
{
    return l->length - l->at > ahead ? l->source[l->at + ahead] : '\0';
}

static gg_jtoken make(const gg_jlexer *l, gg_jtoken_kind kind)
{
    return (gg_jtoken){.kind = kind, .line = l->line};
}

static gg_jtoken fail(gg_jlexer *l, const char *what)
{
    l->status = gg_fail(l->err, GORGON_ERROR_UNSUPPORTED, "line %u: %s", l->line, what);
    l->at = l->length;
    return make(l, GG_JT_END);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool at_tag(const gg_jlexer *l)
{
    char second = peek(l, 1);
    return peek(l, 0) == '{' && (second == '{' || second == '%' || second == '#');
}

static void count_lines(gg_jlexer *l, size_t from)
{
    for (size_t i = from; i < l->at; i++)
        l->line += l->source[i] == '\n';
}

// The end of a tag has been read: what of the white space behind it goes.
static void end_tag(gg_jlexer *l, char sign, bool block)
{
    l->inside = false;
    l->trim = sign == '-';
    l->newline = block && sign != '+' && sign != '-';
}

// Text up to the next tag, without what the tags on both sides take away.
static gg_jstring read_text(gg_jlexer *l)
{
    if (l->trim) {
        l->at += gg_spaces_before(l->source + l->at, l->length - l->at);
    } else if (l->newline && peek(l, 0) == '\n') {
        l->at++;
    }
    l->trim = l->newline = false;
    const size_t start = l->at;
    while (l->at < l->length && !at_tag(l))
        l->at++;
    size_t n = l->at - start;
    const char *text = l->source + start;
    if (l->at == l->length)
        return (gg_jstring){text, n};
    if (peek(l, 2) == '-')
        return (gg_jstring){text, n - gg_spaces_after(text, n)};
    if (peek(l, 1) == '{' || peek(l, 2) == '+')
        return (gg_jstring){text, n};
    // The indentation of a block goes, if nothing else is on its line.
    size_t line = n;
    while (line > 0 && text[line - 1] != '\n')
        line--;
    bool begins = line > 0 || start == 0 || l->source[start - 1] == '\n';
    if (begins && gg_spaces_before(text + line, n - line) == n - line)
        n = line;
    return (gg_jstring){text, n};
}

static bool skip_comment(gg_jlexer *l)
{
    for (l->at += 2; l->at < l->length; l->at++) {
        if (peek(l, 0) == '#' && peek(l, 1) == '}') {
            end_tag(l, l->source[l->at - 1], true);
            l->at += 2;
            return true;
        }
    }
    return false;
}

static gg_jtoken open_tag(gg_jlexer *l)
{
    gg_jtoken token = make(l, GG_JT_OPEN);
    token.op = peek(l, 1);
    l->at += 2;
    if (peek(l, 0) == '-' || peek(l, 0) == '+')
        l->at++;
    l->inside = true;
    l->brackets = 0;
    return token;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

// Digits of an escape, at most `most`; false if there are none.
static bool read_digits(gg_jlexer *l, int base, size_t least, size_t most, uint32_t *value)
{
    size_t n = 0;
    *value = 0;
    for (; n < most && digit_of(peek(l, 0)) < base; n++)
        *value = *value * (uint32_t)base + (uint32_t)digit_of(l->source[l->at++]);
    return n >= least;
}

// Behind the backslash. Writes what it stands for; 0 if it is nothing that can be written.
static size_t read_escape(gg_jlexer *l, char out[4])
{
    static const char plain[] = "n\nt\tr\r\\\\''\"\"a\ab\bf\fv\v";
    char c = peek(l, 0);
    uint32_t code = 0;
    for (size_t i = 0; i + 1 < sizeof plain; i += 2) {
        if (c == plain[i]) {
            l->at++;
            out[0] = plain[i + 1];
            return 1;
        }
    }
    bool good = false;
    if (c >= '0' && c <= '7') {
        good = read_digits(l, 8, 1, 3, &code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        l->at++;
        good = read_digits(l, 16, n, n, &code);
    } else if (c == '\n') {
        l->at++;
        return 0;
    } else {
        out[0] = '\\'; // as Python does, which leaves the character behind it
        return 1;
    }
    if (!good || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        fail(l, "an escape in a string stands for no character");
        return 0;
    }
    return gg_utf8_write(code, out);
}

static gg_jtoken read_string(gg_jlexer *l)
{
    gg_jtoken token = make(l, GG_JT_STRING);
    const char quote = l->source[l->at++];
    const size_t start = l->at;
    char *out = NULL;
    size_t n = 0;
    while (l->at < l->length && peek(l, 0) != quote) {
        if (peek(l, 0) != '\\') {
            if (out)
                out[n] = peek(l, 0);
            n++;
            l->at++;
            continue;
        }
        if (!out) { // the text is no longer the source's
            out = gg_arena_alloc(l->arena, l->length - start);
            if (!out) {
                l->status = gg_fail(l->err, GORGON_ERROR_MEMORY, "no memory for a template");
                return make(l, GG_JT_END);
            }
            memcpy(out, l->source + start, n);
        }
        char bytes[4];
        l->at++;
        size_t more = read_escape(l, bytes);
        memcpy(out + n, bytes, more);
        n += more;
    }
    if (l->at >= l->length)
        return l->status == GORGON_OK ? fail(l, "a string does not end") : make(l, GG_JT_END);
    count_lines(l, start);
    l->at++;
    token.string = (gg_jstring){out ? out : l->source + start, n};
    return token;
}

static gg_jtoken read_number(gg_jlexer *l)
{
    gg_jtoken token = make(l, GG_JT_NUMBER);
    double scale = 1;
    while (digit_of(peek(l, 0)) < 10 || peek(l, 0) == '_') {
        int digit = digit_of(l->source[l->at++]);
        if (digit > 9)
            continue;
        if (token.number > INT64_MAX / 100)
            return fail(l, "a number is too large");
        token.number = token.number * 10 + digit;
    }
    if (peek(l, 0) != '.' || digit_of(peek(l, 1)) > 9)
        return token;
    token.kind = GG_JT_REAL;
    token.real = (double)token.number;
    for (l->at++; digit_of(peek(l, 0)) < 10; l->at++) {
        scale /= 10;
        token.real += scale * digit_of(peek(l, 0));
    }
    return token;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static gg_jtoken read_operator(gg_jlexer *l)
{
    static const struct {
        char text[3];
        int op;
    } pairs[] = {{"==", GG_JOP_EQ}, {"!=", GG_JOP_NE},    {"<=", GG_JOP_LE},
                 {">=", GG_JOP_GE}, {"//", GG_JOP_FLOOR}, {"**", GG_JOP_POWER}};
    gg_jtoken token = make(l, GG_JT_OPERATOR);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (peek(l, 0) == pairs[i].text[0] && peek(l, 1) == pairs[i].text[1]) {
            l->at += 2;
            token.op = pairs[i].op;
            return token;
        }
    }
    token.op = peek(l, 0);
    if (token.op == '\0' || !strchr("+-*/%~<>=.:|,()[]{}", token.op))
        return fail(l, "a character that the template language does not have");
    l->brackets += strchr("([{", token.op) != NULL;
    l->brackets -= l->brackets > 0 && strchr(")]}", token.op) != NULL;
    l->at++;
    return token;
}

// The end of a tag at this place, with its sign; its length or 0. Within brackets there is none:
// "}}" ends two dicts there.
static size_t close_length(const gg_jlexer *l, char *second)
{
    const size_t sign = peek(l, 0) == '-' || peek(l, 0) == '+';
    *second = peek(l, sign);
    bool ends = l->brackets == 0 && (*second == '}' || *second == '%') && peek(l, sign + 1) == '}';
    return ends ? sign + 2 : 0;
}

static gg_jtoken next_inside(gg_jlexer *l)
{
    while (l->at < l->length && is_blank(peek(l, 0)))
        l->line += l->source[l->at++] == '\n';
    if (l->at >= l->length)
        return fail(l, "a tag does not end");
    char second;
    size_t n = close_length(l, &second);
    if (n > 0) {
        gg_jtoken token = make(l, GG_JT_CLOSE);
        token.op = second;
        end_tag(l, n == 3 ? peek(l, 0) : '\0', second == '%');
        l->at += n;
        return token;
    }
    const char c = peek(l, 0);
    if (c == '"' || c == '\'')
        return read_string(l);
    if (digit_of(c) < 10)
        return read_number(l);
    if (!is_letter(c))
        return read_operator(l);
    gg_jtoken token = make(l, GG_JT_NAME);
    const size_t start = l->at;
    while (is_letter(peek(l, 0)) || (peek(l, 0) >= '0' && peek(l, 0) <= '9'))
        l->at++;
    token.string = (gg_jstring){l->source + start, l->at - start};
    return token;
}

gg_jtoken gg_jlexer_next(gg_jlexer *l)
{
    if (l->status != GORGON_OK)
        return make(l, GG_JT_END);
    if (l->inside)
        return next_inside(l);
    while (l->at < l->length) {
        const size_t start = l->at;
        gg_jtoken token = make(l, GG_JT_TEXT);
        token.string = read_text(l);
        count_lines(l, start);
        if (token.string.length > 0)
            return token;
        if (l->at == l->length)
            break;
        if (peek(l, 1) != '#')
            return open_tag(l);
        const size_t comment = l->at;
        if (!skip_comment(l))
            return fail(l, "a comment does not end");
        count_lines(l, comment);
    }
    return make(l, GG_JT_END);
}
