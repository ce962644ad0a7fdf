#!/usr/bin/env python3
"""gorgon eval against logits and hidden states of independent software.

Usage: golden_test.py GORGON GOLDEN.safetensors MODEL.gguf...

The golden file holds ids_N, logits_N [N, vocabulary] and hidden_N [N, width] of the final norm, from
exact activations. With f32 activations every logit must agree within 1e-3; with int8 activations the
rms error stays below 0.15 of the logits' deviation and the mean divergence below 0.03 nats.
"""
import json
import math
import struct
import subprocess
import sys


def read_safetensors(path):
    with open(path, "rb") as stream:
        (n,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(n))
        data = stream.read()
    codes = {"F32": "f", "I32": "i"}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = struct.unpack("<%d%s" % ((end - begin) // 4, codes[entry["dtype"]]), data[begin:end])
            tensors[name] = (entry["shape"], values)
    return tensors


def rows(tensor):
    (n, width), values = tensor
    return [values[i * width : (i + 1) * width] for i in range(n)]


def evaluate(gorgon, model, activations, sequences, n_vocab):
    lines = [json.dumps({"id": i, "ids": ids, "logit_ids": list(range(n_vocab))}) for i, ids in enumerate(sequences)]
    done = subprocess.run(
        [gorgon, "eval", model, "--ids", "-", "--activations", activations],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit("%s: %s" % (model, done.stderr.strip()))
    return [json.loads(line)["positions"] for line in done.stdout.splitlines()]


def log_softmax(x):
    top = max(x)
    total = top + math.log(sum(math.exp(v - top) for v in x))
    return [v - total for v in x]


class Tally:
    """Errors over all positions of all sequences."""

    def __init__(self):
        self.worst = self.worst_hidden = self.square = self.divergence = 0.0
        self.n = self.n_rows = self.same_top = 0
        self.all_logits = []

    def add(self, got, logits, hidden):
        mine = got["logits"]
        errors = [a - b for a, b in zip(mine, logits)]
        self.worst = max(self.worst, max(map(abs, errors)))
        self.worst_hidden = max(
            self.worst_hidden, max(abs(a - b) for a, b in zip(got["hidden"], hidden)),
            abs(got["hidden_norm"] - math.sqrt(sum(h * h for h in hidden))))
        self.square += sum(e * e for e in errors)
        p, q = log_softmax(logits), log_softmax(mine)
        self.divergence += sum(math.exp(a) * (a - b) for a, b in zip(p, q))
        self.same_top += max(range(len(mine)), key=mine.__getitem__) == max(range(len(mine)), key=logits.__getitem__)
        self.all_logits += logits
        self.n += len(errors)
        self.n_rows += 1

    def figures(self):
        mean = sum(self.all_logits) / self.n
        deviation = math.sqrt(sum((v - mean) ** 2 for v in self.all_logits) / self.n)
        return {"max": self.worst, "hidden": self.worst_hidden, "rms": math.sqrt(self.square / self.n) / deviation,
                "kl": self.divergence / self.n_rows, "top": self.same_top / self.n_rows}


def check(gorgon, golden, model):
    tensors = read_safetensors(golden)
    lengths = sorted(int(name[4:]) for name in tensors if name.startswith("ids_"))
    sequences = [list(tensors["ids_%d" % n][1]) for n in lengths]
    n_vocab = tensors["logits_%d" % lengths[0]][0][1]
    good = True
    for activations in ("f32", "int8"):
        tally = Tally()
        for n, positions in zip(lengths, evaluate(gorgon, model, activations, sequences, n_vocab)):
            logits, hidden = rows(tensors["logits_%d" % n]), rows(tensors["hidden_%d" % n])
            for got in positions:
                tally.add(got, logits[got["position"]], hidden[got["position"]])
        f = tally.figures()
        if activations == "f32":
            passed = f["max"] <= 1e-3 and f["hidden"] <= 1e-3 and f["top"] == 1
        else:
            passed = f["rms"] <= 0.15 and f["kl"] <= 0.03 and f["top"] >= 0.8
        print("%s %s, %d positions: logits within %.2g, hidden %.2g, rms %.2g of the deviation, "
              "divergence %.2g nats, same first %.3f: %s" % (
                  model.rsplit("/", 1)[-1], activations, tally.n_rows, f["max"], f["hidden"], f["rms"],
                  f["kl"], f["top"], "good" if passed else "BAD"))
        good = good and passed and tally.n_rows == sum(lengths)
    return good


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    results = [check(sys.argv[1], sys.argv[2], model) for model in sys.argv[3:]]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
