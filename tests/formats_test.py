"""Files that `gorgon convert` wrote, read by others: in plain Python after the format's description,
and by PyTorch modules with the names and shapes of FasterDecoding's. PyTorch is used where it is
there: in this Python, in $PEER_TORCH or in .peer-torch (made by bench/peer/train).

    formats_test.py GORGON SOURCE_DIR [unittest arguments]
"""
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

GORGON, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
DATA = os.path.join(SOURCE, "tests", "data", "heads")
BASE = os.path.join(SOURCE, "tests", "data", "types", "llama.f16.gguf")
ELEMENTS = {"F32": ("f", 4), "F16": ("e", 2), "I32": ("i", 4), "I64": ("q", 8)}


def read_safetensors(path):
    """Tensors by name: (shape, flat list of numbers)."""
    with open(path, "rb") as f:
        data = f.read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin:8 + length + end]
        if entry["dtype"] == "BF16":  # the upper half of an F32
            raw = b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))
        letter, size = ELEMENTS["F32" if entry["dtype"] == "BF16" else entry["dtype"]]
        tensors[name] = entry["shape"], struct.unpack("<%d%s" % (len(raw) // size, letter), raw)
    return tensors


def product(tensor, x):
    shape, values = tensor
    return [sum(map(float.__mul__, values[o * len(x):(o + 1) * len(x)], x))
            for o in range(shape[0])]


def residual_block(x, weight, bias):
    y = product(weight, x)
    return [a + (b + c) / (1 + math.exp(-b - c)) for a, b, c in zip(x, y, bias)]


class Converted(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="gorgon-formats-")
        self.addCleanup(shutil.rmtree, self.dir)

    def convert(self, name, to, *options):
        out = os.path.join(self.dir, to)
        subprocess.run([GORGON, "convert", os.path.join(DATA, name), out, "--to", to, *options],
                       check=True, capture_output=True)
        with open(os.path.join(out, "config.json"), encoding="utf-8") as f:
            return out, json.load(f)

    def golden(self, name):
        tensors = read_safetensors(os.path.join(DATA, name, "golden.safetensors"))
        (rows, width), hidden = tensors["hidden"]
        (_, _, n), logits = tensors["logits"]
        return ([hidden[r * width:(r + 1) * width] for r in range(rows)],
                lambda head, row: logits[(head * rows + row) * n:(head * rows + row + 1) * n])

    def compare(self, expected, got):
        self.assertEqual(len(expected), len(got))
        self.assertLess(max(abs(a - b) for a, b in zip(expected, got)), 1e-3)

    def test_fasterdecoding(self):
        out, config = self.convert("medusa_3x1", "fasterdecoding")
        self.assertEqual((config["medusa_num_heads"], config["medusa_num_layers"]), (3, 1))
        t = read_safetensors(os.path.join(out, "medusa_lm_head.safetensors"))
        hidden, logits = self.golden("medusa_3x1")
        for head in range(3):
            for row, x in enumerate(hidden):
                z = residual_block(x, t[f"{head}.0.linear.weight"], t[f"{head}.0.linear.bias"][1])
                self.compare(logits(head, row), product(t[f"{head}.1.weight"], z))

    def test_vllm(self):
        out, config = self.convert("vllm_truncated", "vllm")
        self.assertEqual((config["num_heads"], config["num_hidden_layers"], config["vocab_size"],
                          config["truncated_vocab_size"], config["medusa_fc_bias"],
                          config["architectures"], config["model_type"]),
                         (3, 1, 384, 128, True, ["MedusaModel"], "medusa"))
        t = read_safetensors(os.path.join(out, "model.safetensors"))
        self.assertEqual(t["token_map"], read_safetensors(
            os.path.join(DATA, "vllm_truncated", "model.safetensors"))["token_map"])
        hidden, logits = self.golden("vllm_truncated")
        for head in range(3):
            z = residual_block(hidden[0], t[f"blocks.{head}.layers.0.weight"],
                               t[f"blocks.{head}.layers.0.bias"][1])
            self.compare(logits(head, 0), product(t[f"lm_heads.{head}.weight"], z))

    def test_vllm_original_lm_head(self):
        out, config = self.convert("medusa_v2_4x1", "vllm", "--model", BASE)
        self.assertTrue(config["original_lm_head"])
        t = read_safetensors(os.path.join(out, "model.safetensors"))
        hidden, logits = self.golden("medusa_v2_4x1")
        for head in range(4):
            z = residual_block(hidden[2], t[f"blocks.{head}.layers.0.weight"],
                               t[f"blocks.{head}.layers.0.bias"][1])
            self.compare(logits(head, 2), product(t["lm_heads.0.weight"], z))

    def test_pytorch(self):
        python = find_torch()
        if not python:
            self.skipTest("no PyTorch here; bench/peer/train installs it into .peer-torch")
        for name in ("medusa_3x1", "medusa_f16_2x1", "medusa_5x2_shared_storage"):
            out, _ = self.convert(name, "fasterdecoding")
            done = subprocess.run([python, "-c", TORCH, out, os.path.join(DATA, name)],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            shutil.rmtree(out)


# Modules with the parameters of FasterDecoding's MedusaModel, loaded strictly.
TORCH = r"""
import json, os, struct, sys, torch
from torch import nn

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

def load(path):
    data = bytearray(open(path, "rb").read())
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + n])
    return {k: torch.frombuffer(data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]],
                                dtype=TYPES[v["dtype"]]).reshape(v["shape"]).float()
            for k, v in header.items() if k != "__metadata__" and v["dtype"] in TYPES}

class ResBlock(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.linear = nn.Linear(hidden_size, hidden_size)
        self.act = nn.SiLU()
    def forward(self, x):
        return x + self.act(self.linear(x))

config = json.load(open(os.path.join(sys.argv[1], "config.json")))
weights = load(os.path.join(sys.argv[1], "medusa_lm_head.safetensors"))
golden = load(os.path.join(sys.argv[2], "golden.safetensors"))
heads, layers = config["medusa_num_heads"], config["medusa_num_layers"]
vocabulary, width = weights[f"0.{layers}.weight"].shape
medusa_head = nn.ModuleList([
    nn.Sequential(*[ResBlock(width) for _ in range(layers)],
                  nn.Linear(width, vocabulary, bias=False)) for _ in range(heads)])
medusa_head.load_state_dict(weights, strict=True)
with torch.no_grad():
    logits = torch.stack([head(golden["hidden"]) for head in medusa_head])
assert logits.shape == golden["logits"].shape, logits.shape
assert (logits - golden["logits"]).abs().max() < 1e-3
"""


def find_torch():
    """A Python that has PyTorch, or None."""
    for python in (sys.executable,
                   os.path.join(os.environ.get("PEER_TORCH", ""), "bin", "python"),
                   os.path.join(SOURCE, ".peer-torch", "bin", "python")):
        if os.path.exists(python) and subprocess.run(
                [python, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
            return python
    return None


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
