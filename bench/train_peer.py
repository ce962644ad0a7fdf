"""Training heads: gorgon and PyTorch side by side, on the same batches in the same order.

Called by bench/peer/train, which installs PyTorch. build/release/train_steps writes what gorgon's first
steps train on; PyTorch starts from the same weights (zero) and takes the same steps with the same optimiser and
schedule, float32 both. Slices of a few steps alternate, so that a busy machine hits both alike. Each
architecture is run by the fastest of the PyTorch variants below, chosen in a trial before. gorgon's
time includes making the batches; PyTorch's find theirs ready in memory.
"""

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F

TARGETS = 8
ARCHITECTURES = {"medusa": {"depths": 4, "blocks": 1}, "recurrent": {"depths": 5, "blocks": 2}}


class Gorgon:
    """train_steps: trains as many steps as it is told."""

    def __init__(self, args, architecture, folder):
        self.folder, shape = folder, ARCHITECTURES[architecture]
        command = [args.train_steps, args.model, args.cache, folder, architecture,
                   *map(str, (shape["depths"], shape["blocks"], args.epochs, args.steps,
                              args.threads))]
        self.process = subprocess.Popen(command + ([args.level] if args.level else []), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = json.loads(self.read())
        self.facts.update(shape)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("train_steps gave up")
        return line

    def run(self, first, n):
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return float(self.read())

    def losses(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("train_steps failed")
        with open(os.path.join(self.folder, "curve.csv"), encoding="utf-8") as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]


class Batches:
    """What train_steps wrote, as tensors."""

    def __init__(self, facts, folder):
        self.output = torch.from_numpy(np.fromfile(os.path.join(folder, "output.f32"), np.float32)
                                       .reshape(facts["n_out"], facts["d"]))
        pairs = facts["batch"] * facts["depths"]
        kind = np.dtype([("input", np.float32, (facts["batch"], facts["width"])),
                         ("targets", [("ids", np.uint32, TARGETS), ("p", np.float32, TARGETS),
                                      ("weight", np.float32)], pairs)])
        self.steps = np.memmap(os.path.join(folder, "steps.bin"), kind, "r")

    def get(self, first, n):
        return [(torch.from_numpy(step["input"].copy()),
                 torch.from_numpy(step["targets"]["ids"].astype(np.int64)),
                 torch.from_numpy(step["targets"]["p"].copy()),
                 torch.from_numpy(step["targets"]["weight"].copy()))
                for step in self.steps[first : first + n]]


class Medusa(torch.nn.Module):
    """All heads' first blocks are one product."""

    def __init__(self, facts):
        super().__init__()
        d, heads, blocks = facts["d"], facts["depths"], facts["blocks"]
        self.d, self.heads = d, heads
        self.first = torch.nn.Parameter(torch.zeros(heads * d, facts["width"]))
        self.later = torch.nn.ParameterList(torch.zeros(heads, d, d) for _ in range(blocks - 1))
        self.bias = torch.nn.Parameter(torch.zeros(blocks, heads, d))

    def forward(self, x):
        a = F.linear(x, self.first, self.bias[0].reshape(-1))
        z = x[:, None, : self.d] + F.silu(a).view(-1, self.heads, self.d)
        for weight, bias in zip(self.later, self.bias[1:]):
            z = z + F.silu(torch.einsum("bhi,hoi->bho", z, weight) + bias)
        return z.reshape(-1, self.d)


class Recurrent(torch.nn.Module):
    """One head for all depths; what does not wait for the depth before is one product."""

    def __init__(self, facts):
        super().__init__()
        d, blocks = facts["d"], facts["blocks"]
        self.d, self.depths = d, facts["depths"]
        self.first = torch.nn.Parameter(torch.zeros(d, 2 * d))
        self.later = torch.nn.ParameterList(torch.zeros(d, d) for _ in range(blocks - 1))
        self.bias = torch.nn.Parameter(torch.zeros(blocks, d))

    def forward(self, x):
        x = x.view(-1, 1 + self.depths, self.d)
        state, states = x[:, 0], []
        tokens = F.linear(x[:, 1:], self.first[:, self.d :], self.bias[0])
        for k in range(self.depths):
            state = state + F.silu(F.linear(state, self.first[:, : self.d]) + tokens[:, k])
            states.append(state)
        z = torch.stack(states, 1)
        for weight, bias in zip(self.later, self.bias[1:]):
            z = z + F.silu(F.linear(z, weight, bias))
        return z.reshape(-1, self.d)


def plain_loss(z, output, ids, p, weight):
    logits = F.linear(z, output)
    picked = F.log_softmax(logits, -1).gather(1, ids)
    return -(weight * (p * picked).sum(-1)).sum()


class ChunkedLoss(torch.autograd.Function):
    """Logits in blocks of rows, their gradient made in place: as fused kernels for GPUs do it."""

    ROWS = 512

    @staticmethod
    def forward(ctx, z, output, ids, p, weight):
        gradient, loss = torch.empty_like(z), z.new_zeros(())
        for part in torch.arange(len(z)).split(ChunkedLoss.ROWS):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            w, share = weight[rows, None], p[rows]
            logits = z[rows] @ output.T
            wanted = (share * logits.gather(1, ids[rows])).sum(-1)
            sums = logits.logsumexp(-1)
            loss += (weight[rows] * (sums - wanted)).sum()
            logits.sub_(sums[:, None]).exp_().mul_(w).scatter_add_(1, ids[rows], -w * share)
            torch.mm(logits, output, out=gradient[rows])
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx, scale):
        return ctx.saved_tensors[0] * scale, None, None, None, None


def chunked_loss(*arguments):
    return ChunkedLoss.apply(*arguments)


class Torch:
    """The same training in PyTorch."""

    VARIANTS = ("plain", "chunked", "compiled")

    def __init__(self, architecture, facts, batches, variant):
        self.facts, self.batches, self.losses = facts, batches, []
        self.model = {"medusa": Medusa, "recurrent": Recurrent}[architecture](facts)
        loss = chunked_loss if variant == "chunked" else plain_loss
        self.forward = lambda x, *target: loss(self.model(x), batches.output, *target)
        if variant == "compiled":
            self.forward = torch.compile(self.forward)
        parameters = dict(self.model.named_parameters())
        bias = parameters.pop("bias")
        groups = [{"params": list(parameters.values()), "weight_decay": facts["weight_decay"]},
                  {"params": [bias], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)

    def learning_rate(self, step):
        """Of update `step`, the first being 1: linear warm-up, then half a cosine."""
        peak, total = self.facts["learning_rate"], self.facts["total_steps"]
        warmup = math.ceil(self.facts["warmup_share"] * total)
        if step <= warmup:
            return peak * step / warmup
        return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    def step(self, number, x, ids, p, weight):
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(number)
        loss = self.forward(x, ids, p, weight)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.facts["clip"], foreach=True)
        self.optimizer.step()
        return loss.item()

    def run(self, first, n):
        data = self.batches.get(first, n)
        begin = time.perf_counter()
        for i, batch in enumerate(data):
            self.losses.append(self.step(first + i + 1, *batch))
        return time.perf_counter() - begin


def choose(architecture, facts, batches, steps):
    """Every variant on the first steps, in turns; the fastest median."""
    sides = {v: Torch(architecture, facts, batches, v) for v in Torch.VARIANTS}
    seconds = {v: [] for v in sides}
    for step in range(steps + 1):
        for variant, side in sides.items():
            spent = side.run(step, 1)
            if step > 0:  # the first one compiles
                seconds[variant].append(spent)
    rates = {v: facts["batch"] / statistics.median(s) for v, s in seconds.items()}
    return max(rates, key=rates.get), rates


def compare(architecture, args, folder):
    ours = Gorgon(args, architecture, folder)
    facts = ours.facts
    batches = Batches(facts, folder)
    variant, trial = choose(architecture, facts, batches, args.trial)
    theirs = Torch(architecture, facts, batches, variant)
    sides = {"gorgon": ours, "torch": theirs}
    for side in sides.values():  # opens the cache, compiles, warms up
        side.run(0, args.slice)
    seconds = {name: [] for name in sides}
    for number, first in enumerate(range(args.slice, args.steps, args.slice)):
        n = min(args.slice, args.steps - first)
        for name in sorted(sides, reverse=number % 2 == 1):
            seconds[name].append(sides[name].run(first, n) / n)
        print(f"{architecture} {first + n}/{args.steps} steps, s/step: " +
              ", ".join(f"{name} {s[-1]:.3f}" for name, s in seconds.items()), file=sys.stderr)
    losses = {"gorgon": ours.losses(), "torch": theirs.losses}
    differences = [abs(a - b) / abs(b) for a, b in zip(losses["gorgon"], losses["torch"])]
    pairs = list(zip(seconds["gorgon"], seconds["torch"]))
    return {
        "architecture": architecture, **ARCHITECTURES[architecture],
        "batch": facts["batch"], "draft_vocab": facts["n_out"], "d_model": facts["d"],
        "cpu_level": facts["cpu_level"], "threads": args.threads,
        "torch": {"version": torch.__version__, "variant": variant, "trial_positions_per_s": trial},
        "positions_per_s": {name: facts["batch"] / statistics.median(s)
                            for name, s in seconds.items()},
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratio_quartiles": statistics.quantiles([b / a for a, b in pairs], n=4)[::2],
        "steps_compared": len(differences),
        "loss_difference_max": max(differences),
        "steps_within_1e-4": next((i for i, x in enumerate(differences) if x > 1e-4),
                                  len(differences)),
        "losses": losses,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--cache", required=True, help="feature cache of `gorgon synth`")
    parser.add_argument("--train-steps", default="build/release/train_steps", help="its binary")
    parser.add_argument("--archs", default=",".join(ARCHITECTURES))
    parser.add_argument("--steps", type=int, default=100, help="compared, the first slice untimed")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the schedule that they begin")
    parser.add_argument("--slice", type=int, default=5, help="steps of one side before the other's")
    parser.add_argument("--trial", type=int, default=5, help="steps to choose the PyTorch variant")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--level", help="gorgon's CPU level (default: the best)")
    parser.add_argument("--json", metavar="FILE", help="all figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("highest")
    results = []
    for architecture in args.archs.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results.append(compare(architecture, args, folder))
    print("| heads | gorgon positions/s | PyTorch positions/s | ratio | quartiles | largest difference of "
          "a step's loss | steps before it passes 1e-4 |\n|---|---|---|---|---|---|---|")
    for r in results:
        rates, (low, high) = r["positions_per_s"], r["ratio_quartiles"]
        print(f"| {r['architecture']} | {rates['gorgon']:.0f} | {rates['torch']:.0f} "
              f"({r['torch']['variant']}) | {r['ratio']:.2f} | {low:.2f} to {high:.2f} "
              f"| {r['loss_difference_max']:.1e} "
              f"| {r['steps_within_1e-4']} of {r['steps_compared']} |")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
