// Patterns of the original tokenizers (gpt-2's encoder.py, the tokenizer.json of the others), made
// so that a match backtracks over one run of a class at most: a text costs linear time.
#include "pretokenize_table.h"

// Unicode's White_Space, as members of a class, with and without line ends. PCRE2's own \s has
// U+180E besides.
#define INLINE_SPACES                                                                              \
    "\\x{9}\\x{b}\\x{c} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"                                \
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACES INLINE_SPACES "\\x{a}\\x{d}"

// \s*[\r\n]+ : white space up to the last line end of its run.
#define LINE_ENDS "(?:[" INLINE_SPACES "]*+[\\r\\n]++)++"
// \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows.
#define OTHER_SPACES "[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+"

#define GPT2                                                                                       \
    "'(?:[stmd]|re|ve|ll)| ?\\p{L}++| ?\\p{N}++| ?[^" SPACES "\\p{L}\\p{N}]++|" OTHER_SPACES
// The pattern that began with GPT-4, of which many differ in how they take digits.
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT4(digits)                                                                               \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}++|" digits "| ?[^" SPACES                          \
                 "\\p{L}\\p{N}]++[\\r\\n]*+|" LINE_ENDS "|" OTHER_SPACES
// Words by case: upper letters, then lower ones; marks and letters without case are both.
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(suffix, digits)                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" suffix "|" digits "| ?[^" SPACES "\\p{L}\\p{N}]++[\\r\\n/]*+|" LINE_ENDS "|" OTHER_SPACES

#define CJK_OR_HANGUL "[一-龥ࠀ-一가-\xed\x9f\xbf]+"
#define KANA_OR_HAN   "[一-龥\u3040-ゟ゠-ヿ]+"
#define ASCII_MARKS   "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
// Letters of the scripts that have case.
#define CASED_LETTERS                                                                              \
    "["                                                                                            \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"         \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"                  \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                       \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"        \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}"         \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"                 \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                  \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"        \
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"         \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"                                                   \
    "]+"
#define WIDE_MARKS "[!-/:-~！-／：-～‘-‟\u3000-。]+"

const gg_known_split gg_known_splits[] = {
    {"none", {0}, false, false},
    // A space begins a piece.
    {"metaspace", {" ?[^ ]++| "}, false, false},
    {"gpt-2", {GPT2}, false, false},
    // Every \p{N} stands alone; GPT-2's pattern on the text between, where a run of white space
    // leaves its last character to what follows unless a digit or the end follows.
    {"smollm",
     {" ?\\p{L}++|\\p{N}|'(?:[stmd]|re|ve|ll)| ?[^" SPACES "\\p{L}\\p{N}]++"
      "|[" SPACES "]+(?![^" SPACES "\\p{N}])|[" SPACES "]+"},
     false,
     false},
    {"default", {"[\\p{P}$+<=>^~|]++", GPT2, "\\p{N}++", "[0-9][0-9][0-9]"}, false, false},
    {"llama-bpe", {GPT4("\\p{N}{1,3}+")}, true, true},
    {"dbrx", {GPT4("\\p{N}{1,3}+")}, false, false},
    {"qwen2", {GPT4("\\p{N}")}, false, false},
    {"tekken", {CASED("", "\\p{N}")}, true, true},
    {"gpt-4o", {CASED(CONTRACTIONS "?", "\\p{N}{1,3}+")}, false, false},
    {"deepseek-llm",
     {"[\\r\\n]", "[" SPACES "]?" CASED_LETTERS, "[" SPACES "]?" WIDE_MARKS,
      "(?<![" SPACES "])[" SPACES "]++\\z", CJK_OR_HANGUL, "\\p{N}"},
     false,
     false},
    {"deepseek-coder",
     {"[\\r\\n]", "[" SPACES "]?\\p{L}++", "[" SPACES "]?\\p{P}++", CJK_OR_HANGUL, "\\p{N}"},
     false,
     false},
    {"deepseek-v3",
     {"\\p{N}{1,3}+", KANA_OR_HAN,
      ASCII_MARKS "[A-Za-z]++|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]++"
                  "| ?[\\p{P}\\p{S}]++[\\r\\n]*+|" LINE_ENDS "|" OTHER_SPACES},
     false,
     false},
};
const size_t gg_known_splits_n = sizeof gg_known_splits / sizeof gg_known_splits[0];

const gg_split_alias gg_split_aliases[] = {
    {"gpt2", "gpt-2"},
    {"phi-2", "gpt-2"},
    {"olmo", "gpt-2"},
    {"mpt", "gpt-2"},
    {"jais", "gpt-2"},
    {"starcoder", "smollm"},
    {"refact", "smollm"},
    {"command-r", "smollm"},
    {"codeshell", "smollm"},
    {"exaone", "smollm"},
    {"minerva-7b", "smollm"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"},
    {"pixtral", "llama-bpe"},
    {"smaug-bpe", "dbrx"},
    {"chatglm-bpe", "dbrx"},
    {"stablelm2", "qwen2"},
    {"megrez", "qwen2"},
    {"hunyuan", "qwen2"},
    {"deepseek-r1-qwen", "qwen2"},
    {"deepseek3", "deepseek-v3"},
    {"llama4", "gpt-4o"},
};
const size_t gg_split_aliases_n = sizeof gg_split_aliases / sizeof gg_split_aliases[0];

// How tokenizer.json says the same, in canonical composition: of some files it was applied to the
// patterns, whose ranges it broke.
#define LISTED_LETTERS                                                                                                                   \
    "\\s?["                                                                                                                              \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ"                                        \
    "-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-"                                              \
    "ὗὙὛὝὟ-"                                                                                                                   \
    "ώᾀ-"                                                                                                                             \
    "ᾴᾶ-"                                                                                                                            \
    "ᾼιῂ-"                                                                                                                          \
    "ῄῆ"                                                                                                                             \
    "-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲ" \
    "ⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-"                                            \
    "𐓓𐓘-"                                                                                                                          \
    "𐓻𐲀-"                                                                                                                          \
    "𐲲𐳀-"                                                                                                                          \
    "𐳲𑢠-"                                                                                                                          \
    "𑣟𞤀-𞥃"                                                                                                                      \
    "]+"
#define LISTED_GPT2                                                                                \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LISTED_GPT4(digits)                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LISTED_CASED(suffix, digits)                                                               \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" suffix "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LISTED_DEEPSEEK3                                                                           \
    ASCII_MARKS "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                            \
                "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const char gg_listed_gpt2[] = LISTED_GPT2;
const gg_listed_split gg_listed_splits[] = {
    {"none", {0}},
    {"gpt-2", {LISTED_GPT2}},
    {"smollm", {"\\p{N}", LISTED_GPT2}},
    {"dbrx", {LISTED_GPT4("\\p{N}{1,3}")}},
    {"qwen2", {LISTED_GPT4("\\p{N}")}},
    {"tekken", {LISTED_CASED("", "\\p{N}")}},
    {"gpt-4o", {LISTED_CASED("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\p{N}{1,3}")}},
    {"deepseek-llm",
     {"[\\r\\n]", LISTED_LETTERS, "\\s?" WIDE_MARKS, "\\s+$", CJK_OR_HANGUL, "\\p{N}"}},
    {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_OR_HANGUL, "\\p{N}"}},
    {"deepseek-v3", {"\\p{N}{1,3}", KANA_OR_HAN, LISTED_DEEPSEEK3}},
};
const size_t gg_listed_splits_n = sizeof gg_listed_splits / sizeof gg_listed_splits[0];
