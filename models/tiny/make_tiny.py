"""Trains the tiny llama-family model on the text of grammar.py and writes it as GGUF.

    python make_tiny.py [--steps N] [--out tiny.gguf] [--golden ../../tests/data/tiny/golden.json]

One thread, fixed seeds. The last part of the training sees its own weights as they will be stored
(quantised by gguf.quants, straight-through gradients). RoPE turns neighbouring pairs, as GGUF's
llama does, so no row is permuted on the way out.
"""
import argparse
import math
import os
import random
import time

import gguf
import numpy as np
import torch
import torch.nn.functional as F

import bpe
import check_tiny
import grammar

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20240611
HELD_OUT_SEED = 7
D, LAYERS, HEADS, KV_HEADS, HEAD, FF, VOCAB = 128, 3, 4, 2, 32, 352, 645
CONTEXT, ROPE_BASE, EPS = 1024, 10000.0, 1e-5
TOKENS_PER_STEP, SHORT, LONG = 4096, 256, 1024
LR_MATRIX, LR_VECTOR = 0.02, 0.004
STEPS, QUANT_FROM, DECAY_FROM, LONG_EVERY = 1500, 0.75, 0.45, 4

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + grammar.SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

T = gguf.GGMLQuantizationType
# Mixed on purpose: the file exercises every kernel. What is not named here is Q4_1 (norms: F32).
TYPES = {
    "token_embd.weight": T.Q8_0,
    "blk.1.attn_q.weight": T.Q4_0, "blk.1.attn_k.weight": T.Q4_0, "blk.1.attn_v.weight": T.Q4_0,
    "blk.1.ffn_down.weight": T.Q4_0,
    "blk.2.attn_k.weight": T.BF16, "blk.2.attn_v.weight": T.Q8_0,
    "blk.2.attn_output.weight": T.F16, "blk.2.ffn_down.weight": T.Q8_0,
}


def shapes():
    out = {"token_embd.weight": (VOCAB, D)}
    for i in range(LAYERS):
        p = f"blk.{i}."
        out |= {p + "attn_norm.weight": (D,), p + "attn_q.weight": (HEADS * HEAD, D),
                p + "attn_k.weight": (KV_HEADS * HEAD, D), p + "attn_v.weight": (KV_HEADS * HEAD, D),
                p + "attn_output.weight": (D, HEADS * HEAD), p + "ffn_norm.weight": (D,),
                p + "ffn_gate.weight": (FF, D), p + "ffn_up.weight": (FF, D),
                p + "ffn_down.weight": (D, FF)}
    return out | {"output_norm.weight": (D,)}


def tensor_type(name):
    return T.F32 if name.endswith("norm.weight") else TYPES.get(name, T.Q4_1)


def stored(name, w):
    """The values that the file will hold for w, as float32."""
    kind = tensor_type(name)
    x = w.detach().numpy()
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind))


def initial_weights():
    out = {}
    for name, shape in shapes().items():
        if len(shape) == 1:
            out[name] = torch.ones(shape)
        else:
            deep = name.endswith(("attn_output.weight", "ffn_down.weight"))
            std = 0.02 if name.startswith("token") else 1 / math.sqrt(shape[1])
            out[name] = torch.randn(shape) * std / (math.sqrt(2 * LAYERS) if deep else 1)
        out[name].requires_grad_()
    return out


def rotate(x, cos, sin):
    """x [batch, heads, n, HEAD], neighbouring pairs."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight


def forward(w, ids):
    """ids [batch, n] -> logits [batch, n, VOCAB]."""
    batch, n = ids.shape
    angle = torch.arange(n)[:, None] * ROPE_BASE ** (-torch.arange(0, HEAD, 2) / HEAD)
    cos, sin = angle.cos(), angle.sin()
    x = F.embedding(ids, w["token_embd.weight"])
    for i in range(LAYERS):
        p = f"blk.{i}."
        h = norm(x, w[p + "attn_norm.weight"])
        q, k, v = ((h @ w[p + f"attn_{c}.weight"].T).view(batch, n, -1, HEAD).transpose(1, 2)
                   for c in "qkv")
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + a.transpose(1, 2).reshape(batch, n, -1) @ w[p + "attn_output.weight"].T
        h = norm(x, w[p + "ffn_norm.weight"])
        h = F.silu(h @ w[p + "ffn_gate.weight"].T) * (h @ w[p + "ffn_up.weight"].T)
        x = x + h @ w[p + "ffn_down.weight"].T
    return norm(x, w["output_norm.weight"]) @ w["token_embd.weight"].T


def batch_of(r, tokenizer, length):
    """Rows of conversations, <|endoftext|> between them, each row starting with one."""
    rows = []
    for _ in range(TOKENS_PER_STEP // length):
        ids = []
        while len(ids) <= length:
            ids += tokenizer.encode(grammar.document(r)) + [0]
        rows.append(ids[:length + 1])
    return torch.tensor(rows)


def loss_of(w, rows):
    logits = forward(w, rows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def orthogonal(g):
    """Newton-Schulz iteration towards the nearest orthogonal matrix (Muon)."""
    x = g / (g.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


class Optimizer:
    """Muon for the matrices of the layers, Adam for the embedding and the norms."""

    def __init__(self, weights):
        self.matrices = [v for k, v in weights.items() if v.dim() == 2 and k.startswith("blk")]
        self.momenta = [torch.zeros_like(v) for v in self.matrices]
        rest = [v for k, v in weights.items() if v.dim() == 1 or not k.startswith("blk")]
        self.adam = torch.optim.Adam(rest, betas=(0.9, 0.95), eps=1e-10, foreach=False)

    @torch.no_grad()
    def step(self, factor):
        for v, m in zip(self.matrices, self.momenta):
            m.lerp_(v.grad, 0.05)
            update = orthogonal(v.grad.lerp(m, 0.95)) * math.sqrt(max(1, v.shape[0] / v.shape[1]))
            v.mul_(1 - 0.02 * LR_MATRIX * factor).sub_(update, alpha=LR_MATRIX * factor)
            v.grad = None
        self.adam.param_groups[0]["lr"] = LR_VECTOR * factor
        self.adam.step()
        self.adam.zero_grad()


def as_stored(weights):
    """Weights as the file will hold them, gradients going straight through."""
    return {k: v + (stored(k, v) - v).detach() for k, v in weights.items()}


def train(weights, tokenizer, steps):
    r = random.Random(SEED)
    optimizer = Optimizer(weights)
    started = time.time()
    mean = None
    for step in range(steps):
        done = step / steps
        rows = batch_of(r, tokenizer, SHORT if (step + 1) % LONG_EVERY else LONG)
        loss = loss_of(as_stored(weights) if done >= QUANT_FROM else weights, rows)
        loss.backward()
        factor = min(1.0, (step + 1) / 20, (1 - done) / (1 - DECAY_FROM))
        optimizer.step(factor)
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        if step % 25 == 24 or step + 1 == steps:
            print(f"step {step + 1}/{steps} loss {mean:.4f} {time.time() - started:.0f} s",
                  flush=True)


def write(path, weights, tokenizer):
    temporary = path + ".tmp"
    w = gguf.GGUFWriter(temporary, "llama")
    w.add_type("model")
    w.add_name("gorgon tiny")
    w.add_license("apache-2.0")
    w.add_languages(["en"])
    w.add_block_count(LAYERS)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(D)
    w.add_feed_forward_length(FF)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_rope_freq_base(ROPE_BASE)
    w.add_rope_dimension_count(HEAD)
    w.add_layer_norm_rms_eps(EPS)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    w.add_vocab_size(VOCAB)
    w.add_add_space_prefix(False)
    w.add_add_bos_token(False)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokenizer.tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in bpe.CONTROL else gguf.TokenType.NORMAL
                       for t in tokenizer.tokens])
    w.add_token_merges([f"{a} {b}" for a, b in tokenizer.merges])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_pad_token_id(2)
    w.add_chat_template(CHAT_TEMPLATE)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, v in weights.items():
        kind = tensor_type(name)
        data = gguf.quants.quantize(v.detach().numpy(), kind)
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(temporary, path)


@torch.no_grad()
def held_out(weights, tokenizer):
    r = random.Random(HELD_OUT_SEED)
    return sum(loss_of(weights, batch_of(r, tokenizer, SHORT)).item() for _ in range(8)) / 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", default=os.path.join(HERE, "tiny.gguf"))
    parser.add_argument("--golden", default=os.path.join(HERE, "../../tests/data/tiny/golden.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    r = random.Random(SEED + 1)
    sample = "".join(grammar.document(r) for _ in range(3000))
    tokenizer = bpe.Tokenizer(bpe.learn(sample, VOCAB - 256 - len(bpe.CONTROL)))
    assert len(set(tokenizer.tokens)) == VOCAB
    weights = initial_weights()
    train(weights, tokenizer, args.steps)
    write(args.out, weights, tokenizer)

    after = {k: stored(k, v) for k, v in weights.items()}
    print(f"held-out loss: weights as trained {held_out(weights, tokenizer):.4f}, "
          f"as stored {held_out(after, tokenizer):.4f}")
    model = check_tiny.Model(args.out)
    ids = tokenizer.encode(grammar.document(random.Random(HELD_OUT_SEED)))[:200]
    with torch.no_grad():
        mine = forward(after, torch.tensor([ids]))[0].numpy()
    theirs, _ = model.forward(ids)
    print(f"largest difference of two forward passes: {np.abs(mine - theirs).max():.2e}")
    check_tiny.write_golden(model, args.golden)
    check_tiny.report(model)


if __name__ == "__main__":
    main()
