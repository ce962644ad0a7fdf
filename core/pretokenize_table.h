// The pre-tokenizers that gorgon knows, and how tokenizer.json writes them.
#ifndef GG_PRETOKENIZE_TABLE_H
#define GG_PRETOKENIZE_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum { GG_SPLIT_STAGES = 6 };

// Text is cut into matches of the first stage and what lies between; each part is then cut by the
// next stage, and so on. Without stages a text is one piece.
typedef struct gg_known_split {
    const char *name;
    const char *stages[GG_SPLIT_STAGES]; // PCRE2 patterns, NULL after the last
    bool ignore_merges;                  // defaults of the GGUF files that use it
    bool adds_bos;
} gg_known_split;

// Other names in GGUF files for one of the above.
typedef struct gg_split_alias {
    const char *alias, *name;
} gg_split_alias;

// The patterns that a tokenizer.json lists, in its own regular expressions.
typedef struct gg_listed_split {
    const char *name;
    const char *patterns[GG_SPLIT_STAGES];
} gg_listed_split;

extern const gg_known_split gg_known_splits[];
extern const size_t gg_known_splits_n;
extern const gg_split_alias gg_split_aliases[];
extern const size_t gg_split_aliases_n;
extern const char gg_listed_gpt2[]; // what ByteLevel splits by
extern const gg_listed_split gg_listed_splits[];
extern const size_t gg_listed_splits_n;

#endif
