"""Byte-level BPE with the `smollm` pre-tokenizer: learns merges, turns text into ids."""
import collections
import re

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONTROL_RE = re.compile("(" + "|".join(map(re.escape, CONTROL)) + ")")
DIGIT_RE = re.compile(r"(\d)")
# GPT-2's pattern; [^\W\d_] stands for \p{L}, which is exact for the text of the grammar.
WORD_RE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_alphabet():
    """GPT-2's printable stand-in for each byte value."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in keep else chr(next(spare)) for b in range(256)]


ALPHABET = byte_alphabet()


def words(text):
    """Pre-tokenizer: every digit alone, then the GPT-2 pattern on what lies between."""
    for piece in DIGIT_RE.split(text):
        yield from WORD_RE.findall(piece)


def spell(word):
    return tuple(ALPHABET[b] for b in word.encode("utf-8"))


def merge(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if symbols[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def learn(text, n_merges):
    """The most frequent pair first; ties go to the pair that sorts first."""
    counts = collections.Counter()
    for part in CONTROL_RE.split(text):
        if part not in CONTROL:
            counts.update(words(part))
    table = {spell(w): n for w, n in counts.items()}
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for symbols, n in table.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        joined = collections.Counter()
        for symbols, n in table.items():
            joined[merge(symbols, best)] += n
        table = joined
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = merges
        self.rank = {pair: i for i, pair in enumerate(merges)}
        self.tokens = CONTROL + ALPHABET + [a + b for a, b in merges]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.values = {c: b for b, c in enumerate(ALPHABET)}
        self.cache = {}

    def word(self, word):
        if word not in self.cache:
            symbols = spell(word)
            while len(symbols) > 1:
                best = min(zip(symbols, symbols[1:]), key=lambda p: self.rank.get(p, 1 << 30))
                if best not in self.rank:
                    break
                symbols = merge(symbols, best)
            self.cache[word] = [self.ids[s] for s in symbols]
        return self.cache[word]

    def encode(self, text):
        """Control tokens in the text are matched."""
        out = []
        for part in CONTROL_RE.split(text):
            if part in CONTROL:
                out.append(self.ids[part])
            else:
                for word in words(part):
                    out += self.word(word)
        return out

    def decode(self, ids):
        raw = b""
        for i in ids:
            token = self.tokens[i]
            raw += token.encode() if i < len(CONTROL) else bytes(self.values[c] for c in token)
        return raw.decode("utf-8", "replace")
