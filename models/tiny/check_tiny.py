"""Reads tiny.gguf back and runs it in plain numpy, float32, independent of the training code.

    python check_tiny.py [FILE] [--golden OUT.json]

Prints sample generations, entropy, loss, how often greedy answers loop, and what 8-bit activations
change. With --golden it writes the reference values that the unit tests compare with.
"""
import argparse
import hashlib
import json
import os
import random

import gguf
import numpy as np

import bpe
import grammar

HERE = os.path.dirname(os.path.abspath(__file__))
END = 2
GOLDEN_PROMPTS = ["Tell me a short story about a fox and a river.", "List three facts about copper.",
                  "Write a poem about the sea."]
TEXTS = ["", " ", "Hello, world!", "The fox and the river", "x\n\n1. y  2", "3 plus 14 is 17.",
         "it's we'll I'd", "naïve café Zürich", "日本語 🦊", "tabs\tand  two  spaces \n \n",
         "<|im_start|>user\nhi<|im_end|>\n", "a<|endoftext|>b", "\u00a0\u2009x\u0301 ½"]


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        get = {k: f.contents() for k, f in reader.fields.items()}
        self.path = path
        self.layers = get["llama.block_count"]
        self.heads = get["llama.attention.head_count"]
        self.kv_heads = get["llama.attention.head_count_kv"]
        self.head = get["llama.embedding_length"] // self.heads
        self.eps = np.float32(get["llama.attention.layer_norm_rms_epsilon"])
        self.base = get["llama.rope.freq_base"]
        self.tokenizer = bpe.Tokenizer([tuple(m.split(" "))
                                        for m in get["tokenizer.ggml.merges"]])
        assert self.tokenizer.tokens == get["tokenizer.ggml.tokens"]
        self.w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
                  .reshape(tuple(reversed([int(n) for n in t.shape]))) for t in reader.tensors}
        self.int8 = False  # quantise activations as the served kernels do

    def product(self, x, name):
        if self.int8:
            blocks = x.reshape(len(x), -1, 32)
            d = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
            q = np.rint(blocks / np.where(d == 0, np.float32(1), d))
            x = (q * d).reshape(x.shape).astype(np.float32)
        return x @ self.w[name].T

    def norm(self, x, name):
        mean = np.mean(x * x, -1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean + self.eps) * self.w[name]

    def rotate(self, x, start):
        """x [n, heads, head]: neighbouring pairs, position start + row."""
        j = np.arange(0, self.head, 2)
        angle = (start + np.arange(len(x)))[:, None] * self.base ** (-j / self.head)
        cos, sin = (f(angle).astype(np.float32)[:, None, :] for f in (np.cos, np.sin))
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def attend(self, q, k, v, start):
        """q [n, heads, head] against k, v [start + n, kv_heads, head]."""
        group = self.heads // self.kv_heads
        hidden = np.arange(len(k))[None, :] > start + np.arange(len(q))[:, None]
        out = np.empty_like(q)
        for h in range(self.heads):
            s = q[:, h] @ k[:, h // group].T / np.float32(np.sqrt(self.head))
            s[hidden] = -np.inf
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, h] = (p / p.sum(-1, keepdims=True)) @ v[:, h // group]
        return out.reshape(len(q), -1)

    def forward(self, ids, cache=None):
        """Logits [n, vocab] and final-norm hidden states [n, d]; cache: list, grown in place."""
        n, start = len(ids), 0 if not cache else len(cache[0][0])
        x = self.w["token_embd.weight"][ids]
        for i in range(self.layers):
            p = f"blk.{i}."
            h = self.norm(x, p + "attn_norm.weight")
            q, k, v = (self.product(h, p + f"attn_{c}.weight").reshape(n, -1, self.head)
                       for c in "qkv")
            q, k = self.rotate(q, start), self.rotate(k, start)
            if cache is not None:
                if start:
                    k, v = np.concatenate((cache[i][0], k)), np.concatenate((cache[i][1], v))
                cache[i:i + 1] = [(k, v)]
            x = x + self.product(self.attend(q, k, v, start), p + "attn_output.weight")
            h = self.norm(x, p + "ffn_norm.weight")
            gate, up = self.product(h, p + "ffn_gate.weight"), self.product(h, p + "ffn_up.weight")
            x = x + self.product(gate / (1 + np.exp(-gate)) * up, p + "ffn_down.weight")
        h = self.norm(x, "output_norm.weight")
        return self.product(h, "token_embd.weight"), h


def log_sum_exp(x):
    x = x.astype(np.float64)
    top = x.max(-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(x - top).sum(-1))


def order(logits, k):
    """Ids by descending logit, ties by ascending id."""
    return np.lexsort((np.arange(len(logits)), -logits))[:k]


def generate(model, ids, n, temperature=0.0, rng=None):
    """Ids and margins (top1 - top2 logit); stops after <|im_end|>."""
    cache, out, margins = [], [], []
    logits = model.forward(ids, cache)[0][-1]
    for _ in range(n):
        first, second = order(logits, 2)
        if temperature > 0:
            p = np.exp((logits - logits.max()).astype(np.float64) / temperature)
            out.append(int(rng.choice(len(p), p=p / p.sum())))
        else:
            out.append(int(first))
        margins.append(float(logits[first] - logits[second]))
        if out[-1] == END:
            break
        logits = model.forward(out[-1:], cache)[0][-1]
    return out, margins


def prompt_ids(model, messages):
    return model.tokenizer.encode(grammar.chat_text(messages, True))


def number(x):
    return float(f"{float(x):.7g}")


def golden_position(position, logits, hidden):
    return {"position": position, "argmax": int(order(logits, 1)[0]),
            "logsumexp": number(log_sum_exp(logits)),
            "top": [[int(i), number(logits[i])] for i in order(logits, 5)],
            "hidden": [number(h) for h in hidden[:8]]}


def golden_sequences(model):
    r = random.Random(11)
    out = []
    for length in (5, 17, 40, 100):
        ids = []
        while len(ids) < length:
            ids = model.tokenizer.encode(grammar.chat_text(grammar.messages(r)))
        ids = ids[:length]
        logits, hidden = model.forward(ids)
        step = 1 if length < 40 else 8
        out.append({"ids": ids, "positions": [golden_position(i, logits[i], hidden[i])
                                              for i in range(0, length, step)]})
    return out


def golden_greedy(model):
    out = []
    for text in GOLDEN_PROMPTS:
        messages = [("system", grammar.SYSTEM), ("user", text)]
        prompt = prompt_ids(model, messages)
        ids, margins = generate(model, prompt, 32)
        out.append({"user": text, "prompt_ids": prompt, "ids": ids,
                    "margins": [number(m) for m in margins], "ended": ids[-1] == END,
                    "text": model.tokenizer.decode(ids)})
    return out


def write_golden(model, path):
    with open(model.path, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    golden = {"about": "written by models/tiny/check_tiny.py: float32 on the dequantised weights",
              "sha256": digest, "sequences": golden_sequences(model),
              "greedy": golden_greedy(model),
              "tokenize": [{"text": t, "ids": model.tokenizer.encode(t)} for t in TEXTS]}
    text = json.dumps(golden)
    for mark in (', "sequences"', ', "greedy"', ', "tokenize"', ', {"position"', ', {"text"',
                 ', {"user"', ', {"ids"'):
        text = text.replace(mark, ",\n" + mark[2:])
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".tmp", "w") as f:
        f.write(text + "\n")
    os.replace(path + ".tmp", path)


def loops(ids):
    """True when the last tokens repeat with some period at least three times."""
    return any(len(ids) >= 3 * p and ids[-p:] == ids[-2 * p:-p] == ids[-3 * p:-2 * p]
               for p in range(1, 41))


def text_statistics(model, n_documents=60):
    """Entropy and loss over held-out text, and what int8 activations change."""
    r = random.Random(13)
    entropy, loss, sure, spread, kl, flips = [], [], [], [], [], []
    for _ in range(n_documents):
        ids = model.tokenizer.encode(grammar.chat_text(grammar.messages(r)))
        logits = model.forward(ids)[0].astype(np.float64)
        logp = logits - log_sum_exp(logits)[:, None]
        p = np.exp(logp)
        entropy.append(-(p * logp).sum(-1)[:-1])
        loss.append(-logp[np.arange(len(ids) - 1), ids[1:]])
        sure.append(p.max(-1)[:-1] > 0.95)
        spread.append(np.exp(entropy[-1]) > 2)
        model.int8 = True
        other = model.forward(ids)[0].astype(np.float64)
        model.int8 = False
        kl.append((p * (logp - other + log_sum_exp(other)[:, None])).sum(-1))
        flips.append(logits.argmax(-1) != other.argmax(-1))
    entropy, loss, sure, spread, kl, flips = map(
        np.concatenate, (entropy, loss, sure, spread, kl, flips))
    print(f"held-out text: {len(loss)} tokens, loss {loss.mean():.4f}, mean entropy "
          f"{entropy.mean():.3f} nats; {sure.mean():.0%} of positions above 0.95, "
          f"{spread.mean():.0%} with perplexity above 2")
    print(f"int8 activations: mean KL {kl.mean():.5f}, largest {kl.max():.4f}, "
          f"arg-max differs at {flips.mean():.2%}")


def answer_statistics(model, n=60):
    r = random.Random(17)
    ended = looping = tokens = 0
    exact = {}
    for _ in range(n):
        ask, answer = grammar.task(r)
        ids, _ = generate(model, prompt_ids(model, [("system", grammar.SYSTEM), ("user", ask)]), 200)
        ended += ids[-1] == END
        looping += ids[-1] != END and loops(ids)
        tokens += len(ids)
        kind = ask.split()[0]
        if kind in ("Repeat", "Say", "Copy", "What", "Count", "Translate"):
            exact.setdefault(kind, []).append(model.tokenizer.decode(ids[:-1]) == answer)
    print(f"{n} greedy answers: {tokens / n:.0f} tokens on average, {ended / n:.0%} end by "
          f"themselves, {looping / n:.0%} loop; answer as the grammar's: "
          + ", ".join(f"{k} {sum(v)}/{len(v)}" for k, v in sorted(exact.items())))


def show(model, n=8):
    rng, r = np.random.default_rng(19), random.Random(23)
    asks = GOLDEN_PROMPTS + ["Repeat after me: the quick brown fox", "What is 3 plus 4?",
                             "Explain how to build a bridge."] + [grammar.task(r)[0] for _ in range(n)]
    for ask in asks:
        prompt = prompt_ids(model, [("system", grammar.SYSTEM), ("user", ask)])
        greedy = model.tokenizer.decode(generate(model, prompt, 160)[0])
        drawn = model.tokenizer.decode(generate(model, prompt, 160, 1.0, rng)[0])
        print(f"> {ask}\n  greedy:  {greedy!r}\n  sampled: {drawn!r}")


def report(model):
    show(model)
    text_statistics(model)
    answer_statistics(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", default=os.path.join(HERE, "tiny.gguf"))
    parser.add_argument("--golden")
    args = parser.parse_args()
    model = Model(args.file)
    if args.golden:
        write_golden(model, args.golden)
    report(model)


if __name__ == "__main__":
    main()
