// A tiny byte-level tokenizer as GGUF bytes, built in memory: all bytes but one, a few merges, a
// few special tokens. Fields of tiny_spec bend it into other, also malformed, checkpoints.
#ifndef TOKENIZER_FIXTURE_H
#define TOKENIZER_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/gguf.h"

#define TINY_MISSING_BYTE 0x06 // the vocabulary has no token for it

typedef struct tiny_gguf {
    uint8_t bytes[1 << 16];
    size_t n;
    uint64_t n_keys;
} tiny_gguf;

typedef struct tiny_spec {
    const char *model, *pre;   // NULL: "gpt2", "smollm"
    const char *chat_template; // NULL: no such key
    const char *extra_token;   // one more token after the others, of kind extra_kind
    int32_t extra_kind;
    const char *extra_merge; // one more line after the merges
    size_t types_cut;        // elements missing from token_type
    int64_t eos;             // < 0: no such key
    bool adds_bos, no_bos;
} tiny_spec;

static const char *const tiny_specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im|>",
                                            "<|im|>!"};
static const int32_t tiny_special_kinds[] = {3, 3, 3, 4, 4};
enum { TINY_SPECIALS = 5, TINY_EOS = 2, TINY_BYTES = 255, TINY_MERGES = 18 };

// Lines of the merge table, best first. The first two need parts that later lines make, which no
// trained vocabulary has: the order of merging is tested harder that way.
static const char *const tiny_merges[TINY_MERGES] = {
    "aba b",
    "aaaa aa",
    "a a",
    "aa aa",
    "a b",
    "b a",
    "ab a",
    "ab ab",
    "aa b",
    "h e",
    "l l",
    "he ll",
    "hell o",
    "\304\240 hello",
    "! !",
    "\304\240 \304\240",
    "\303\203 \302\251",
    "aaaa aaaa",
};

static inline void tiny_put(tiny_gguf *g, const void *data, size_t n)
{
    if (n <= sizeof g->bytes - g->n) {
        memcpy(g->bytes + g->n, data, n);
        g->n += n;
    }
}

static inline void tiny_number(tiny_gguf *g, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i);
        tiny_put(g, &byte, 1);
    }
}

static inline void tiny_text(tiny_gguf *g, const char *text)
{
    tiny_number(g, strlen(text), 8);
    tiny_put(g, text, strlen(text));
}

static inline void tiny_key(tiny_gguf *g, const char *key, gg_gguf_kind kind)
{
    tiny_text(g, key);
    tiny_number(g, (uint64_t)kind, 4);
    g->n_keys++;
}

static inline void tiny_array(tiny_gguf *g, const char *key, gg_gguf_kind kind, size_t n)
{
    tiny_key(g, key, GG_GGUF_ARRAY);
    tiny_number(g, (uint64_t)kind, 4);
    tiny_number(g, n, 8);
}

static inline void tiny_string(tiny_gguf *g, const char *key, const char *value)
{
    tiny_key(g, key, GG_GGUF_STRING);
    tiny_text(g, value);
}

// GPT-2's spelling of a byte, NUL-terminated.
static inline void tiny_spell(int byte, char spelled[3])
{
    int c = byte;
    if (byte <= 32)
        c = 256 + byte;
    else if (byte >= 127 && byte <= 160)
        c = 256 + 33 + byte - 127;
    else if (byte == 173)
        c = 256 + 67;
    memset(spelled, 0, 3);
    if (c < 0x80) {
        spelled[0] = (char)c;
    } else {
        spelled[0] = (char)(0xc0 | c >> 6);
        spelled[1] = (char)(0x80 | (c & 0x3f));
    }
}

// The token that a line of the merge table makes: the line without its space.
static inline void tiny_merged(const char *merge, char token[64])
{
    const char *space = strchr(merge, ' ');
    memset(token, 0, 64);
    memcpy(token, merge, (size_t)(space - merge));
    strncat(token, space + 1, 40);
}

// Several lines may make the same token; only the first adds it to the vocabulary.
static inline bool tiny_is_new(size_t line)
{
    char token[64], earlier[64];
    tiny_merged(tiny_merges[line], token);
    for (size_t i = 0; i < line; i++) {
        tiny_merged(tiny_merges[i], earlier);
        if (strcmp(token, earlier) == 0)
            return false;
    }
    return true;
}

static inline size_t tiny_vocab_size(const tiny_spec *spec)
{
    size_t n = TINY_SPECIALS + TINY_BYTES + (spec->extra_token != NULL);
    for (size_t i = 0; i < TINY_MERGES; i++)
        n += tiny_is_new(i);
    return n;
}

static inline void tiny_tokens(tiny_gguf *g, const tiny_spec *spec)
{
    tiny_array(g, "tokenizer.ggml.tokens", GG_GGUF_STRING, tiny_vocab_size(spec));
    for (size_t i = 0; i < TINY_SPECIALS; i++)
        tiny_text(g, tiny_specials[i]);
    char token[64];
    for (int byte = 0; byte < 256; byte++) {
        tiny_spell(byte, token);
        if (byte != TINY_MISSING_BYTE)
            tiny_text(g, token);
    }
    for (size_t i = 0; i < TINY_MERGES; i++) {
        tiny_merged(tiny_merges[i], token);
        if (tiny_is_new(i))
            tiny_text(g, token);
    }
    if (spec->extra_token)
        tiny_text(g, spec->extra_token);
    size_t n = tiny_vocab_size(spec), plain = n - (spec->extra_token != NULL);
    tiny_array(g, "tokenizer.ggml.token_type", GG_GGUF_I32, n - spec->types_cut);
    for (size_t i = 0; i < n - spec->types_cut; i++) {
        int32_t kind = i < TINY_SPECIALS ? tiny_special_kinds[i] : 1;
        tiny_number(g, (uint64_t)(i < plain ? kind : spec->extra_kind), 4);
    }
}

static inline void tiny_build(tiny_gguf *g, const tiny_spec *spec)
{
    memset(g, 0, sizeof *g);
    tiny_put(g, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    tiny_string(g, "general.architecture", "llama");
    tiny_string(g, "tokenizer.ggml.model", spec->model ? spec->model : "gpt2");
    tiny_string(g, "tokenizer.ggml.pre", spec->pre ? spec->pre : "smollm");
    tiny_tokens(g, spec);
    tiny_array(g, "tokenizer.ggml.merges", GG_GGUF_STRING,
               TINY_MERGES + (spec->extra_merge != NULL));
    for (size_t i = 0; i < TINY_MERGES; i++)
        tiny_text(g, tiny_merges[i]);
    if (spec->extra_merge)
        tiny_text(g, spec->extra_merge);
    if (spec->eos >= 0) {
        tiny_key(g, "tokenizer.ggml.eos_token_id", GG_GGUF_U32);
        tiny_number(g, (uint64_t)spec->eos, 4);
    }
    if (!spec->no_bos) {
        tiny_key(g, "tokenizer.ggml.bos_token_id", GG_GGUF_U32);
        tiny_number(g, 1, 4);
    }
    tiny_key(g, "tokenizer.ggml.add_bos_token", GG_GGUF_BOOL);
    tiny_number(g, spec->adds_bos, 1);
    if (spec->chat_template)
        tiny_string(g, "tokenizer.chat_template", spec->chat_template);
    memcpy(g->bytes + 16, &g->n_keys, 8);
}

#endif
