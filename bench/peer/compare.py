"""gorgon and llama.cpp side by side: the same file, threads, prompts and token ids, in turns.

Called by bench/peer/run, which builds llama.cpp. Rates count decoding only; both sides are given the same
ids. Everything of one round follows within seconds, so that a busy machine hits both alike; figures
are medians over rounds (passes, prefill) or prompts (decoding; the JSON has the sums too); ratios within this run.
"""

import argparse
import collections
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import llama_cpp as llama
import numpy as np
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

ROWS = (1, 2, 4, 8, 16, 32)
CONTEXT, PREFILL = 128, 512
CONVERSATION = "writing roleplay reasoning math coding extraction stem humanities".split()


def task_of(prompt):
    return "conversation" if prompt["category"] in CONVERSATION else prompt["category"]


def filler(begin, n, n_vocab):
    """Any ordinary ids do: the time does not depend on them."""
    return [(i * 97 + 3) % n_vocab for i in range(begin, begin + n)]


class Peer:
    """llama.cpp through its C interface, so that no Python loop over logits counts against it."""

    def __init__(self, path, threads, context):
        params = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            sys.exit(f"{path}: llama.cpp does not load it")
        params = llama.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = params.n_ubatch = PREFILL
        params.n_threads = params.n_threads_batch = threads
        self.ctx = llama.llama_init_from_model(self.model, params)
        self.memory = llama.llama_get_memory(self.ctx)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)
        self.greedy = llama.llama_sampler_init_greedy()
        self.batch = llama.llama_batch_init(PREFILL, 0, 1)

    def forward(self, ids, position, all_logits):
        b = self.batch
        b.n_tokens = len(ids)
        for i, token in enumerate(ids):
            b.token[i], b.pos[i] = int(token), position + i
            b.n_seq_id[i], b.seq_id[i][0] = 1, 0
            b.logits[i] = int(all_logits or i == len(ids) - 1)
        if llama.llama_decode(self.ctx, b) != 0:
            sys.exit("llama_decode failed")

    def forget(self, position):
        llama.llama_memory_seq_rm(self.memory, 0, position, -1)

    def read(self, ids):
        for i in range(0, len(ids), PREFILL):
            self.forward(ids[i : i + PREFILL], i, False)

    def winner(self, row):
        return llama.llama_sampler_sample(self.greedy, self.ctx, row)

    def timed_pass(self, n):
        self.forget(CONTEXT)
        begin = time.perf_counter()
        self.forward(filler(CONTEXT, n, self.n_vocab), CONTEXT, True)
        llama.llama_synchronize(self.ctx)
        return time.perf_counter() - begin

    def timed_prefill(self):
        self.forget(0)
        begin = time.perf_counter()
        self.read(filler(0, PREFILL, self.n_vocab))
        llama.llama_synchronize(self.ctx)
        return time.perf_counter() - begin

    def decode(self, prompt, n, draft):
        """Greedy. Returns ids, seconds and passes after the prompt."""
        self.forget(0)
        self.read(prompt)
        ids, passes = [self.winner(-1)], 0
        begin = time.perf_counter()
        while len(ids) < n and not llama.llama_vocab_is_eog(self.vocab, ids[-1]):
            known = len(prompt) + len(ids) - 1
            guess = []
            if draft:
                guess = draft(np.array(prompt + ids, dtype=np.intc))[: n - len(ids) - 1]
            self.forward([ids[-1], *guess], known, True)
            passes += 1
            for i in range(len(guess) + 1):
                ids.append(self.winner(i))
                if llama.llama_vocab_is_eog(self.vocab, ids[-1]):
                    break
                if i < len(guess) and guess[i] != ids[-1]:
                    break
            if draft:
                self.forget(len(prompt) + len(ids) - 1)
        return ids, time.perf_counter() - begin, passes


class Gorgon:
    def __init__(self, command, model, heads, threads):
        self.command, self.model, self.threads = command, model, str(threads)
        self.heads = ["--heads", heads] if heads else []
        self.n_vocab = None

    def call(self, *arguments, stdin=None):
        done = subprocess.run(
            [self.command, *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"gorgon {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def tokenize(self, prompts):
        lines = [
            {"id": i, "messages": [{"role": "user", "content": p["turns"][0]}],
             "add_generation_prompt": True}
            for i, p in enumerate(prompts)
        ]
        out = self.call("tokenize", self.model, "--chat",
                        stdin="".join(json.dumps(line) + "\n" for line in lines))
        return [json.loads(line)["ids"] for line in out.splitlines()]

    def batch(self, lines, tokens, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            prompts, out = os.path.join(folder, "in"), os.path.join(folder, "out")
            with open(prompts, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            self.call("batch", self.model, "--prompts", prompts, "--out", out, "--batch", "1",
                      "-n", str(tokens), "-t", self.threads, *arguments)
            with open(out, encoding="utf-8") as file:
                return [json.loads(line) for line in file]

    def passes(self, prompts):
        out = self.call("bench", self.model, "--tree", "off", "--limit", "1", "-n", "1", "--context",
                        str(CONTEXT), "-t", self.threads, "--prompts", prompts, "--json")
        return json.loads(out)

    def prefill(self, n_vocab):
        line = {"id": 0, "ids": filler(0, PREFILL, n_vocab)}
        return self.batch([line], 1, "--tree", "off")[0]["prefill_s"]


def requantize(source, target):
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama.LLAMA_FTYPE_MOSTLY_Q4_0, True
    if llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"{source}: cannot be requantised")


def compare_passes(ours, peer, rounds, prompts):
    mine = {n: [] for n in ROWS}
    theirs = {n: [] for n in ROWS}
    prefill = ([], [])
    machine = None
    for _ in range(rounds):
        machine = ours.passes(prompts)
        for cost in machine["pass_cost"]:
            if cost["rows"] in mine:
                mine[cost["rows"]].append(cost["ms"])
        peer.forget(0)
        peer.read(filler(0, CONTEXT, peer.n_vocab))
        for _ in range(5):
            for n in ROWS:
                theirs[n].append(1e3 * peer.timed_pass(n))
        prefill[0].append(ours.prefill(peer.n_vocab))
        prefill[1].append(peer.timed_prefill())
    costs = []
    for n in ROWS:
        a, b = statistics.median(mine[n]), statistics.median(theirs[n])
        costs.append({"rows": n, "ours_ms": a, "peer_ms": b, "ratio": b / a})
    a, b = (PREFILL / statistics.median(p) for p in prefill)
    return {
        "machine": {k: machine[k] for k in ("machine", "limits", "commit") if k in machine},
        "pass": costs,
        "prefill": {"ours_tokens_per_s": a, "peer_tokens_per_s": b, "ratio": a / b},
    }


class Tally:
    def __init__(self):
        self.tokens, self.seconds, self.passes, self.differ, self.runs = 0, 0.0, 0, 0, 0
        self.rates = []

    def add(self, ids, seconds, passes, plain):
        self.tokens += len(ids) - 1  # the first comes from the prompt's pass
        self.seconds += seconds
        self.passes += passes
        self.differ += ids != plain
        self.runs += 1
        if seconds > 0:
            self.rates.append((len(ids) - 1) / seconds)

    def rate(self):
        return self.tokens / self.seconds if self.seconds else 0.0

    def json(self):
        return {
            "tokens_per_s": self.rate(),
            "median_tokens_per_s": statistics.median(self.rates) if self.rates else 0.0,
            "tokens_per_pass": self.tokens / self.passes if self.passes else 0.0,
            "same_output": self.differ == 0,
            "differing_prompts": self.differ,
            "prompts": self.runs,
        }


# Rates of one way over the best of others. Their medians over prompts stand a burst of stolen
# processor time, which sums do not.
RATIOS = {
    "plain over its plain": ("ours_plain", ("peer_plain",)),
    "drafting over own plain": ("ours_speculative", ("ours_plain",)),
    "drafting over its plain": ("ours_speculative", ("peer_plain",)),
    "drafting over its best": ("ours_speculative",
                               ("peer_plain", "peer_lookup_2", "peer_lookup_10")),
}
WAYS = ("ours_plain", "ours_speculative", "peer_plain", "peer_lookup_2", "peer_lookup_10")


def decode(way, ours, peer, ids, tokens):
    if way.startswith("ours"):
        extra = ours.heads if way == "ours_speculative" else ["--tree", "off"]
        r = ours.batch([{"id": 0, "ids": ids}], tokens, *extra)[0]
        return r["ids"], r["decode_s"], r["passes"]
    draft = None
    if way != "peer_plain":
        draft = LlamaPromptLookupDecoding(num_pred_tokens=int(way.rsplit("_", 1)[1]))
    return peer.decode(ids, tokens, draft)


def compare_decoding(ours, peer, prompts, ids, tokens):
    """Prompt by prompt, every way in turn. gorgon starts anew each time, as `gorgon run` does."""
    tasks = sorted({task_of(p) for p in prompts})
    tallies = {task: {way: Tally() for way in WAYS} for task in [*tasks, "all"]}
    ratios = {task: {name: [] for name in RATIOS} for task in tallies}  # of single prompts
    for number, prompt in enumerate(prompts):
        got = {}
        turn = number % len(WAYS)
        for way in WAYS[turn:] + WAYS[:turn]:
            got[way] = decode(way, ours, peer, ids[number], tokens)
        rates = {way: (len(got[way][0]) - 1) / got[way][1] for way in WAYS if got[way][1] > 0}
        for task in (task_of(prompt), "all"):
            for way, (out, seconds, passes) in got.items():
                plain = got[way.split("_")[0] + "_plain"][0]
                tallies[task][way].add(out, seconds, passes, plain)
            for name, (over, under) in RATIOS.items():
                if len(rates) == len(WAYS):
                    best = max(rates[way] for way in under)
                    ratios[task][name].append(rates[over] / best)
        shown = ", ".join(f"{way} {rate:.0f}" for way, rate in rates.items())
        print(f"prompt {number + 1} of {len(prompts)}, tokens/s: {shown}", file=sys.stderr)
    result = {task: {way: tally.json() for way, tally in ways.items()}
              for task, ways in tallies.items()}
    for task, named in ratios.items():
        result[task]["median_ratios"] = {name: statistics.median(values) if values else 0.0
                                         for name, values in named.items()}
    return result


def table(name, result):
    print(f"\n{name}\n\n| rows of a pass | gorgon ms | llama.cpp ms | ratio |\n|---|---|---|---|")
    for cost in result["pass"]:
        print(f"| {cost['rows']} | {cost['ours_ms']:.1f} | {cost['peer_ms']:.1f} "
              f"| {cost['ratio']:.2f} |")
    p = result["prefill"]
    print(f"\nPrefill of {PREFILL} tokens: {p['ours_tokens_per_s']:.0f} against "
          f"{p['peer_tokens_per_s']:.0f} tokens/s, {p['ratio']:.2f} x\n")
    print(f"| task | gorgon plain | {result['drafting']} | llama.cpp plain | lookup 2 | lookup 10 "
          f"| {' | '.join(RATIOS)} |\n{'|---' * (6 + len(RATIOS))}|")
    for task, way in result["decoding"].items():
        a, b, c, d, e = (way[w]["median_tokens_per_s"] for w in WAYS)
        medians = " | ".join(f"{x:.2f}" for x in way["median_ratios"].values())
        print(f"| {task} | {a:.0f} | {b:.0f} | {c:.0f} | {d:.0f} | {e:.0f} | {medians} |")
    print()
    for way in WAYS:
        w = result["decoding"]["all"][way]
        same = "yes" if w["same_output"] else f"NO, {w['differing_prompts']} of {w['prompts']} differ"
        print(f"{way}: {w['tokens_per_pass']:.2f} tokens per pass, same output as its plain: {same}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--gorgon", required=True, help="the gorgon binary")
    parser.add_argument("--heads", help="heads for it")
    parser.add_argument("--prompts", default="bench/prompts.jsonl")
    parser.add_argument("--limit", type=int, default=0, help="first N prompts of each task")
    parser.add_argument("-n", "--tokens", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5, help="of passes and prefill")
    parser.add_argument("--q4-0", metavar="FILE", help="also on FILE, requantised to Q4_0 if absent")
    parser.add_argument("--json", metavar="FILE", help="all figures")
    args = parser.parse_args()
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    with open(args.prompts, encoding="utf-8") as file:
        prompts = [json.loads(line) for line in file]
    seen = collections.Counter()
    chosen = []
    for prompt in prompts:
        seen[task_of(prompt)] += 1
        if not args.limit or seen[task_of(prompt)] <= args.limit:
            chosen.append(prompt)
    prompts = chosen
    files = {os.path.basename(args.model): args.model}
    if args.q4_0:
        if not os.path.exists(args.q4_0):
            requantize(args.model, args.q4_0)
        files["the same requantised to Q4_0"] = args.q4_0
    result = {
        "peer": {"package": f"llama-cpp-python {llama.__version__}",
                 "build": llama.llama_print_system_info().decode()},
        "threads": args.threads, "tokens": args.tokens, "prompts": len(prompts), "files": {},
    }
    print(f"{result['peer']['package']}, {result['peer']['build']}; {args.threads} threads")
    for name, path in files.items():
        ours = Gorgon(args.gorgon, path, args.heads if path == args.model else None, args.threads)
        ids = ours.tokenize(prompts)
        longest = max(len(i) for i in ids) + args.tokens
        peer = Peer(path, args.threads, max(longest, PREFILL + 64))
        one = compare_passes(ours, peer, args.rounds, args.prompts)
        one["drafting"] = "with heads and lookup" if ours.heads else "lookup and recycling"
        one["decoding"] = compare_decoding(ours, peer, prompts, ids, args.tokens)
        result["files"][name] = one
        table(name, one)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
