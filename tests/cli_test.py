"""The gorgon command as its users meet it: flags, JSON, exit codes, one clear line for every bad
input, files written whole or not at all. Runs on the embedded model.

    cli_test.py GORGON SOURCE_DIR [unittest arguments]
"""
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree
import zlib

GORGON, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MODEL = os.path.join(SOURCE, "models", "tiny", "tiny.gguf")
HEADS = os.path.join(SOURCE, "models", "tiny", "heads.gguf")
COMMANDS = ["info", "run", "batch", "eval", "tokenize", "bench", "index", "convert", "attach",
            "synth", "train", "calibrate", "compare"]
RESULT_KEYS = {"text", "ids", "prompt_tokens", "tokens", "passes", "tokens_per_pass", "prefill_s",
               "decode_s", "tokens_per_s", "draft_s", "verify_s", "rule", "tree", "threads",
               "cpu_level", "stop"}
CONTEXT = 1024


def split_gguf(path, n):
    """The contents of n files that together hold the tensors of one, as gguf-split makes them."""
    with open(path, "rb") as f:
        data = f.read()
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
    at = 24
    widths = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def skip(kind, at):
        if kind == 8:
            return at + 8 + struct.unpack_from("<Q", data, at)[0]
        if kind != 9:
            return at + widths[kind]
        kind, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            at = skip(kind, at)
        return at

    for _ in range(n_keys):
        at = skip(8, at)
        at = skip(struct.unpack_from("<I", data, at)[0], at + 4)
    keys, tensors = data[24:at], []
    for _ in range(n_tensors):
        begin, at = at, skip(8, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 4
        tensors.append((data[begin:at], struct.unpack_from("<Q", data, at)[0]))
        at += 8
    start = (at + 31) // 32 * 32
    ends = sorted([t[1] for t in tensors] + [len(data) - start])
    files = []
    for i in range(n):
        mine = tensors[len(tensors) * i // n:len(tensors) * (i + 1) // n]
        own = {"split.no": i, "split.count": n, "split.tensors.count": len(tensors)}
        head = b"".join(struct.pack("<Q", len(k)) + k.encode() + struct.pack("<II", 4, v)
                        for k, v in own.items()) + (keys if i == 0 else b"")
        body = b""
        for description, offset in mine:
            head += description + struct.pack("<Q", len(body))
            body += data[start + offset:start + ends[ends.index(offset) + 1]]
            body += bytes(-len(body) % 32)
        head = b"GGUF" + struct.pack("<IQQ", 3, len(mine), 3 + (n_keys if i == 0 else 0)) + head
        files.append(head + bytes(-len(head) % 32) + body)
    return files


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="gorgon-cli-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.env = dict(os.environ, XDG_CACHE_HOME=os.path.join(self.dir, "cache"))
        os.mkdir(self.path("work"))

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def file(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def lines(self, name, objects):
        return self.file(name, "".join(json.dumps(o) + "\n" for o in objects))

    def call(self, *args, code=0, stdin=b"", **more):
        done = subprocess.run([GORGON, *args], input=stdin, capture_output=True, env=self.env,
                              cwd=self.path("work"), timeout=300, check=False, **more)
        self.assertEqual(done.returncode, code, (args, done.stderr.decode(errors="replace")))
        return done

    def json(self, *args, **more):
        return json.loads(self.call(*args, **more).stdout)

    @staticmethod
    def interrupted(process, delay):
        """Its outputs; Ctrl-C comes so many seconds after it began to listen for it."""
        listens = False
        while not listens and process.poll() is None:
            time.sleep(0.01)
            with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
                caught = next((line for line in status if line.startswith("SigCgt:")), "SigCgt: 0")
            listens = int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1 == 1
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=120)

    def refused(self, *args, about="", **more):
        """Exit code 2 and one clear line; nothing on standard output."""
        done = self.call(*args, code=2, **more)
        text = done.stderr.decode()
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith("gorgon"), text)
        self.assertIn(about, text)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(os.listdir(self.path("work")), [])
        return text


class Flags(Case):
    def test_help_of_every_command_has_an_example(self):
        for command in COMMANDS:
            text = self.call(command, "--help").stdout.decode()
            examples = text.split("Examples:\n")[1]
            self.assertIn("gorgon " + command, examples)
            self.assertIn("--json", text)
            for option in ("--help", "Options:", "Usage: gorgon " + command):
                self.assertIn(option, text)

    def test_the_usage_lists_every_command(self):
        text = self.call("--help").stdout.decode()
        for command in COMMANDS:
            self.assertIn("\n  " + command + " ", text)
        self.call(code=2)
        self.assertTrue(self.call("--version").stdout.startswith(b"gorgon "))

    def test_unknown_words_are_refused(self):
        self.refused("fly", about="fly")
        for command in COMMANDS:
            self.refused(command, MODEL, "--no-such-flag", about="--no-such-flag")
            self.refused(command, about="missing")

    def test_bad_values_are_refused(self):
        for args, about in [(["-n", "0"], "--tokens"), (["-n", "x"], "--tokens"),
                            (["-n", "-3"], "--tokens"), (["--temp", "hot"], "--temp"),
                            (["--temp", "nan"], "--temp"), (["--top-p", "1.5"], "--top-p"),
                            (["-t", "1000"], "--threads"), (["--seed"], "--seed"),
                            (["--chat=yes"], "--chat"), (["--activations", "int4"], "int4"),
                            (["--quant", "q9"], "q9"),
                            (["--tree", "oak"], "oak"), (["--rule", "none"], "none"),
                            (["--propose", "crystal"], "crystal"), (["--propose", "heads"], ""),
                            (["--ctx", "1048576"], "--ctx"), (["extra"], "extra")]:
            self.refused("run", MODEL, "-p", "a", *args, about=about)

    def test_an_unknown_cpu_level_is_refused(self):
        self.env["GORGON_CPU"] = "abacus"
        self.refused("run", MODEL, "-p", "a", about="abacus")


class Files(Case):
    def test_files_that_are_no_checkpoint(self):
        with open(MODEL, "rb") as f:
            data = f.read()
        self.refused("info", self.path("absent.gguf"), about="absent.gguf")
        self.refused("info", self.dir)
        self.refused("info", self.file("empty.gguf", b""))
        self.refused("info", self.file("text.gguf", b"hello, I am no checkpoint\n" * 9))
        for keep in (3, 24, 1000, len(data) // 2, len(data) - 1):
            self.refused("run", self.file("cut.gguf", data[:keep]), "-p", "a", about="cut.gguf")

    def test_a_split_checkpoint_is_the_whole_one(self):
        whole = self.json("run", MODEL, "-p", "One", "-n", "12", "--json")["ids"]
        parts = [self.file(f"m-{i + 1:05}-of-00003.gguf", data)
                 for i, data in enumerate(split_gguf(MODEL, 3))]
        for part in parts:
            self.assertEqual(self.json("run", part, "-p", "One", "-n", "12", "--json")["ids"],
                             whole)
        infos = [self.json("info", path, "--json") for path in (MODEL, parts[0])]
        self.assertEqual(infos[0]["tensor_types"], infos[1]["tensor_types"])
        os.remove(parts[1])
        self.refused("run", parts[0], "-p", "a", about=parts[1])

    def test_heads_that_are_none(self):
        for heads in (MODEL, self.path("absent"), self.file("junk", b"GGUF" + b"\xff" * 40)):
            self.refused("run", MODEL, "--heads", heads, "-p", "a", about=os.path.basename(heads))

    def test_info(self):
        info = self.json("info", MODEL, "--json")
        self.assertEqual(info["kind"], "checkpoint")
        self.assertEqual(info["context"], CONTEXT)
        self.assertGreater(info["parameters"], 1e5)
        self.assertIn(b"GGUF checkpoint", self.call("info", MODEL).stdout)

    def test_info_of_directories(self):
        families = os.path.join(SOURCE, "tests", "data", "families")
        folder = self.path("phi")
        os.mkdir(folder)
        for name in os.listdir(os.path.join(families, "phi3")):
            os.symlink(os.path.join(families, "phi3", name), os.path.join(folder, name))
        self.assertEqual(self.json("info", folder, "--json")["short_context"], 0)
        os.remove(os.path.join(folder, "config.json"))
        os.symlink(os.path.join(families, "phi3_longrope", "older.json"),
                   os.path.join(folder, "config.json"))
        self.assertEqual(self.json("info", folder, "--json")["short_context"], 8)
        text = self.call("info", folder).stdout.decode()
        for part in ("Hugging Face checkpoint", "short ones up to --ctx 8", "tensors: "):
            self.assertIn(part, text)

    def test_a_full_standard_output_is_an_error(self):
        for args in (["info", MODEL], ["run", MODEL, "-p", "a", "-n", "4", "--json"],
                     ["run", MODEL, "-p", "a", "-n", "4"], ["info", "--help"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([GORGON, *args], stdout=full, stderr=subprocess.PIPE,
                                      env=self.env, check=False)
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(b"standard output", done.stderr)


class Tokenize(Case):
    def tokenize(self, objects, *args):
        text = "".join(json.dumps(o) + "\n" for o in objects)
        out = self.call("tokenize", MODEL, *args, stdin=text.encode()).stdout
        return [json.loads(line) for line in out.splitlines()]

    def test_round_trip(self):
        texts = ["Hello world", "", "3 cats, 12 dogs", "h\u00e9llo \u4e16\u754c \U0001f600"]
        coded = self.tokenize([{"id": i, "text": t} for i, t in enumerate(texts)])
        self.assertEqual([c["id"] for c in coded], [0, 1, 2, 3])
        back = self.tokenize([{"id": c["id"], "ids": c["ids"]} for c in coded], "--decode")
        self.assertEqual([b["text"] for b in back], texts)

    def test_chat(self):
        message = {"id": "m", "messages": [{"role": "user", "content": "Hi"}],
                   "add_generation_prompt": True}
        out = self.tokenize([message], "--chat")[0]
        self.assertIn("Hi", out["text"])
        plain = self.tokenize([{"text": out["text"], "parse_special": True}])[0]
        self.assertEqual(plain["ids"], out["ids"])

    def test_chat_template(self):
        line = json.dumps({"messages": [{"role": "user", "content": "Hi"}],
                           "add_generation_prompt": True}).encode() + b"\n"
        path = self.file("own.jinja", b"{% for m in messages %}<{{ m.content }}>{% endfor %}")
        for template, text in [("zephyr", "<|user|>\nHi"), (path, "<Hi>")]:
            out = json.loads(self.call("tokenize", MODEL, "--chat", "--chat-template", template,
                                       stdin=line).stdout)
            self.assertTrue(out["text"].startswith(text), out["text"])
        bad = self.file("bad.jinja", b"\n{% include 'x' %}")
        for template, about in [("nonsense", "chatml, smollm2"), (bad, "line 2")]:
            self.refused("tokenize", MODEL, "--chat", "--chat-template", template, about=about,
                         stdin=line)
            self.refused("run", MODEL, "-p", "a", "--chat", "--chat-template", template,
                         about=about)
        answers = [self.call("run", MODEL, "-p", "a", "-n", "4", "--chat", "--chat-template", t)
                   .stdout for t in ("chatml", "vicuna")]
        self.assertTrue(all(answers))

    def test_tokenizer_of_a_directory(self):
        directory = os.path.join(SOURCE, "tests", "data", "families", "mistral")
        for path in (directory, os.path.join(directory, "tokenizer.json")):
            out = json.loads(self.call("tokenize", path, stdin=b'{"text":"these"}\n').stdout)
            text = json.loads(self.call("tokenize", path, "--decode",
                                        stdin=json.dumps(out).encode() + b"\n").stdout)["text"]
            self.assertEqual(text, "these")
        self.refused("tokenize", os.path.dirname(directory), about="tokenizer.json", stdin=b"")

    def test_bad_lines(self):
        for line, args, about in [(b"not json\n", [], ":1: "), (b"[1]\n", [], ":1: "),
                                  (b'{"text":"\xff\xfe"}\n', [], ":1: "),
                                  (b'\n{"id":1}\n', [], ":2: "),
                                  (b'{"ids":[99999]}\n', ["--decode"], "99999"),
                                  (b'{"ids":[-1]}\n', ["--decode"], "-1"),
                                  (b'{"ids":[1.5]}\n', ["--decode"], "1.5"),
                                  (b'{"messages":3}\n', ["--chat"], "messages")]:
            self.refused("tokenize", MODEL, *args, about=about, stdin=line)


class Eval(Case):
    def test_positions(self):
        ids = list(range(20, 40))
        path = self.lines("in", [{"id": "x", "ids": ids, "positions": [0, 19],
                                  "logit_ids": [1, 2]}])
        out = self.json("eval", MODEL, "--ids", path)
        self.assertEqual(out["id"], "x")
        self.assertEqual(out["tokens"], 20)
        self.assertGreater(out["nll"], 0)
        self.assertEqual([p["position"] for p in out["positions"]], [0, 19])
        for p in out["positions"]:
            self.assertEqual(len(p["top"]), 20)
            self.assertEqual(len(p["hidden"]), 32)
            self.assertEqual(len(p["logits"]), 2)
            self.assertLessEqual(p["top"][0][1], p["logsumexp"])

    def test_bad_lines(self):
        for line, about in [({"ids": []}, "empty"), ({"ids": [10 ** 6]}, "1000000"),
                            ({"ids": [1], "positions": [1]}, "position"), ({}, "ids"),
                            ({"ids": [1] * (CONTEXT + 1)}, str(CONTEXT))]:
            self.refused("eval", MODEL, "--ids", self.lines("in", [line]), about=about)


class Run(Case):
    prompt = ["-p", "Once upon a time", "--chat"]

    def test_json(self):
        out = self.json("run", MODEL, *self.prompt, "-n", "12", "--json")
        self.assertLessEqual(RESULT_KEYS, set(out))
        self.assertEqual(len(out["ids"]), out["tokens"])
        self.assertLessEqual(out["tokens"], 12)

    def test_report_beside_the_stream(self):
        done = self.call("run", MODEL, *self.prompt, "-n", "12", "--report", self.path("report"))
        with open(self.path("report"), encoding="utf-8") as f:
            out = json.load(f)
        self.assertEqual(done.stdout.decode(), out["text"])
        self.assertLessEqual(RESULT_KEYS, set(out))
        self.refused("run", MODEL, *self.prompt, "--report", self.path("absent", "report"),
                     about="absent")

    def test_same_bytes(self):
        heads = ["--heads", HEADS] if os.path.exists(HEADS) else []
        for sampling in ([], ["--temp", "0.8", "--seed", "11"]):
            base = ["run", MODEL, *self.prompt, "-n", "60", "--ignore-end", "--json", *sampling]
            plain = self.json(*base, "--tree", "off", "-t", "1")
            for more in (["--tree", "auto"], ["--tree", "4", "-t", "2"], ["--tree", "32"],
                         [*heads, "--tree", "16"], [*heads, "--propose", "all"]):
                other = self.json(*base, *more)
                self.assertEqual(other["ids"], plain["ids"], more)
                self.assertEqual(other["text"], plain["text"], more)

    def test_stop_strings(self):
        base = ["run", MODEL, *self.prompt, "-n", "40", "--ignore-end", "--json"]
        text = self.json(*base)["text"]
        stop = text[5:8]
        out = self.json(*base, "--stop", stop)
        self.assertEqual(out["text"], text[:text.index(stop)])
        self.assertEqual(out["stop"], "string")

    def test_the_context_ends_a_run(self):
        out = self.json("run", MODEL, "-p", "a b c d", "-n", "500", "--ctx", "64", "--ignore-end",
                        "--json")
        self.assertEqual(out["stop"], "context")
        self.assertLessEqual(out["prompt_tokens"] + out["tokens"], 65)

    def test_bad_prompts(self):
        self.refused("run", MODEL, about="-p")
        self.refused("run", MODEL, "-p", "a", "-f", "b", about="-p")
        self.refused("run", MODEL, "-p", "", about="empty")
        self.refused("run", MODEL, "-f", self.path("absent"), about="absent")
        self.refused("run", MODEL, "-p", b"\xff\xfe", about="UTF-8")
        self.refused("run", MODEL, "-f", self.file("bad", b"abc\xc3("), about="UTF-8")
        self.refused("run", MODEL, "--chat", "-f", self.file("nul", b"a\0b"), about="NUL")
        self.refused("run", MODEL, "-p", "one two three " * 40, "--ctx", "32", about="context")


class Batch(Case):
    prompts = [{"id": "a", "category": "writing", "turns": ["Tell me a story.", "Go on."]},
               {"id": 2, "prompt": "The cat", "tokens": 5, "temp": 0.9, "seed": 5},
               {"id": [3], "ids": [5, 6, 7], "ignore_end": True},
               {"prompt": "one two three", "temp": 0, "stop": ["e", "a"], "top_k": 5},
               {"id": 5, "prompt": "long", "tokens": 70, "min_p": 0.01, "top_p": 0.9}]

    def batch(self, *args, **more):
        return self.call("batch", MODEL, "--prompts", self.path("in"), "--out", self.path("out"),
                         *args, **more)

    def results(self):
        with open(self.path("out"), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def check_untouched(self):
        left = [n for n in os.listdir(self.dir) if n.startswith("out")]
        self.assertEqual(left, ["out"])
        with open(self.path("out"), encoding="utf-8") as f:
            self.assertEqual(f.read(), "old")

    def test_order_and_fields(self):
        self.lines("in", self.prompts)
        self.batch("-n", "20", "--chat", "--batch", "2")
        results = self.results()
        self.assertEqual([r["id"] for r in results], ["a", 2, [3], 3, 5])
        self.assertEqual(results[0]["category"], "writing")
        self.assertEqual(results[1]["tokens"], 5)
        for r in results:
            self.assertLessEqual(RESULT_KEYS, set(r))

    def test_neither_batch_nor_tree_nor_threads_change_the_text(self):
        self.lines("in", self.prompts * 2)
        seen = []
        for args in (["--batch", "1", "--tree", "off"], ["--batch", "3", "--tree", "8", "-t", "2"],
                     ["--batch", "64", "-t", "1"]):
            self.batch("-n", "24", "--temp", "0.7", "--seed", "3", "--chat", *args)
            seen.append([(r["ids"], r["text"], r["stop"]) for r in self.results()])
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[0], seen[2])
        # The same prompt on another line draws other noise.
        self.assertNotEqual(seen[0][0], seen[0][5])

    def test_one_line_is_as_run(self):
        self.lines("in", [{"prompt": "The cat"}])
        self.batch("-n", "16", "--temp", "0.8", "--seed", "4")
        run = self.json("run", MODEL, "-p", "The cat", "-n", "16", "--temp", "0.8", "--seed", "4",
                        "--json")
        self.assertEqual(self.results()[0]["ids"], run["ids"])

    def test_bad_lines_leave_the_old_file(self):
        good = json.dumps({"prompt": "fine"}) + "\n"
        for bad, about in [("nonsense", ":2: "), ("{}", ":2: "), ("[]", ":2: "),
                           ('{"prompt":"a","ids":[1]}', ":2: "), ('{"ids":[645]}', "645"),
                           ('{"ids":[]}', "empty"), ('{"prompt":""}', "empty"),
                           ('{"prompt":7}', "prompt"), ('{"turns":[]}', "turns"),
                           ('{"prompt":"a","tokens":0}', "tokens"),
                           ('{"prompt":"a","temp":-1}', "temp"),
                           ('{"prompt":"a","top_p":0}', "top_p"),
                           ('{"prompt":"a","seed":"x"}', "seed"),
                           ('{"prompt":"a","stop":[1]}', "stop"),
                           (json.dumps({"prompt": "one two " * CONTEXT}), str(CONTEXT))]:
            self.file("in", good + bad + "\n")
            self.file("out", "old")
            self.refused("batch", MODEL, "--prompts", self.path("in"), "--out", self.path("out"),
                         about=about)
            self.check_untouched()
        self.file("in", b'{"prompt":"\xff"}\n')
        self.refused("batch", MODEL, "--prompts", self.path("in"), "--out", self.path("out"),
                     about=":1: ")
        self.file("in", "\n")
        self.refused("batch", MODEL, "--prompts", self.path("in"), "--out", self.path("out"),
                     about="no prompts")
        self.check_untouched()

    def test_unwritable_outputs(self):
        self.lines("in", self.prompts)
        for out in (self.path("absent", "out"), self.dir, "/dev/full"):
            self.refused("batch", MODEL, "--prompts", self.path("in"), "--out", out, about=out)

    def test_a_full_disk_leaves_the_old_file(self):
        self.lines("in", self.prompts)
        self.file("out", "old")
        self.refused("batch", MODEL, "--prompts", self.path("in"), "--out", self.path("out"),
                     "-n", "8", about="out",
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)))
        self.check_untouched()

    def test_an_interrupt_leaves_the_old_file(self):
        self.lines("in", [{"prompt": "on and on", "ignore_end": True}] * 3000)
        self.file("out", "old")
        process = subprocess.Popen([GORGON, "batch", MODEL, "--prompts", self.path("in"), "--out",
                                    self.path("out"), "-n", "900"], env=self.env,
                                   stderr=subprocess.PIPE)
        text = self.interrupted(process, 0.3)[1]
        self.assertEqual(process.returncode, 130, text)
        self.assertIn(b"interrupted", text)
        self.check_untouched()


class Bench(Case):
    def test_an_interrupt(self):
        path = self.lines("in", [{"prompt": "on and on", "ignore_end": True}] * 3000)
        process = subprocess.Popen([GORGON, "bench", MODEL, "--prompts", path, "-n", "900",
                                    "--json"], env=self.env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        out = self.interrupted(process, 0.3)[0]
        self.assertEqual(process.returncode, 130)
        self.assertEqual(out, b"")

    def test_json(self):
        tasks = ["writing", "math", "qa"]
        path = self.lines("in", [{"id": i, "category": tasks[i % 3], "turns": ["Tell me of a bee."]}
                                 for i in range(6)])
        out = self.json("bench", MODEL, "--prompts", path, "--limit", "2", "-n", "24", "--json")
        self.assertIs(out["same_output"], True)
        self.assertEqual(out["differing"], [])
        self.assertEqual(set(out["tasks"]), {"conversation", "qa"})
        self.assertEqual(set(out["categories"]), {"writing", "math", "qa"})
        self.assertEqual(out["runs"], 4)
        self.assertEqual([c["rows"] for c in out["pass_cost"]], [1, 2, 4, 8, 16, 32, 64])
        for cost in out["pass_cost"]:
            self.assertGreater(cost["ms"], 0)
            self.assertGreater(cost["limit_ms"], 0)
        for group in [out, *out["tasks"].values(), *out["categories"].values()]:
            self.assertEqual(group["plain"]["tokens_per_pass"], 1)
            self.assertEqual(group["plain"]["tokens"], group["speculative"]["tokens"])
            self.assertGreater(group["speculative"]["speedup"], 0)
            self.assertGreater(group["speculative"]["median_speedup"], 0)
            if group["runs"] == 1:
                self.assertAlmostEqual(group["speculative"]["median_speedup"],
                                       group["speculative"]["speedup"], places=3)
        for key in ("bandwidth_gb_s", "peak_gmac_s"):
            self.assertGreater(out["limits"][key], 0)
        self.assertLessEqual({"cpu", "level", "threads"}, set(out["machine"]))
        self.assertTrue(out["commit"])
        for a in out["acceptance"]:
            self.assertLessEqual(a["accepted"], a["offered"])
            self.assertEqual(a["accepted"], sum(d["accepted"] for d in a["depths"]))

    def test_table(self):
        path = self.lines("in", [{"prompt": "Tell me of a bee.", "temp": 0.8}])
        plot = self.path("cost.svg")
        text = self.call("bench", MODEL, "--prompts", path, "-n", "8", "--raw", "--plot",
                         plot).stdout.decode()
        points = xml.etree.ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}circle")
        self.assertEqual(len(list(points)), 7)
        self.assertIn("same output: yes", text)

    def test_no_prompts(self):
        self.refused("bench", MODEL, about="bench/prompts.jsonl")
        path = self.lines("in", [{"prompt": "Tell me of a bee."}])
        self.refused("bench", MODEL, "--prompts", path, "--plot", self.path("no/cost.svg"),
                     about="no/cost.svg")


class Index(Case):
    def build(self, *texts, **more):
        return self.json("index", MODEL, "-o", self.path("store"), "--json", *texts, **more)

    def check_untouched(self):
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith("store")], ["store"])
        with open(self.path("store"), encoding="utf-8") as f:
            self.assertEqual(f.read(), "old")

    def test_formats(self):
        plain = self.file("a.txt", "The bee is in the garden.")
        table = self.lines("b.jsonl", [
            {"text": "The cat", "prompt": "not this"}, {"prompt": "one two three"},
            {"id": 3, "category": "qa", "turns": ["What is a bee?", "And a cat?"]},
            {"messages": [{"role": "user", "content": "Hi"},
                          {"role": "assistant", "content": "Hello there."}]}])
        self.assertEqual(self.build(plain)["texts"], 1)
        self.assertEqual(self.build(table)["texts"], 5)
        both = self.build(plain, table)
        self.assertEqual(both["kind"], "datastore")
        self.assertEqual(both["texts"], 6)
        self.assertEqual(both["places"], both["tokens"] - 6)
        self.assertEqual(both, self.json("info", "--json", self.path("store")))
        self.assertIn(b"datastore", self.call("info", self.path("store")).stdout)
        raw = self.build("--format", "text", table)
        self.assertEqual(raw["texts"], 1)
        with open(table, "rb") as f:
            piped = self.build("--format", "jsonl", "-", stdin=f.read())
        self.assertEqual(piped["texts"], 5)

    def test_long_plain_text_is_taken_in_pieces(self):
        store = self.build(self.file("long.md", "one two three four\n" * 300000))
        self.assertEqual(store["texts"], 2)
        self.assertEqual(self.build(self.file("dense", "\u4e16" * 1500000))["texts"], 2)
        done = self.call("index", MODEL, "-o", self.path("store"), "-n", "1000", "--json",
                         self.path("long.md"))
        self.assertEqual(json.loads(done.stdout)["tokens"], 1000)
        self.assertIn(b"--tokens", done.stderr)

    def test_bad_input_leaves_the_old_file(self):
        self.file("store", "old")
        absent = self.path("absent.txt")
        good = self.file("good.txt", "The cat")
        cases = [([absent], "absent.txt"), ([self.dir], "directory"),
                 ([self.file("bad.txt", b"abc \xff")], "UTF-8"), ([self.file("e.txt", "")], "no text"),
                 ([good, "--format", "pdf"], "pdf"), ([good, "-n", "1"], "--tokens"), ([], "missing")]
        for line, about in [("nonsense", ":2: "), ("[]", ":2: "), ("{}", ":2: "),
                            ('{"text":1}', "text"), ('{"turns":"a"}', "turns"),
                            ('{"turns":[1]}', "turns"), ('{"messages":[{}]}', "message 0")]:
            name = "bad%d.jsonl" % len(cases)
            cases.append(([self.file(name, '{"text":"fine"}\n' + line + "\n")], about))
        for args, about in cases:
            self.refused("index", MODEL, "-o", self.path("store"), *args, about=about)
            self.check_untouched()
        self.refused("index", MODEL, good, about="-o")
        self.refused("index", MODEL, good, "-o", self.path("no", "store"), about="no/store")

    def test_an_interrupt_leaves_the_old_file(self):
        self.file("store", "old")
        process = subprocess.Popen([GORGON, "index", MODEL, "-o", self.path("store"), "--format",
                                    "text", "-", "-"], env=self.env, stdin=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(b"on and on " * 1000)
        process.stdin.flush()
        text = self.interrupted(process, 0.3)[1]
        self.assertEqual(process.returncode, 130, text)
        self.assertIn(b"interrupted", text)
        self.check_untouched()

    def test_same_bytes(self):
        base = ["run", MODEL, "-p", "Once upon a time", "--chat", "-n", "60", "--ignore-end",
                "--json"]
        plain = self.json(*base, "--tree", "off")
        self.build(self.file("own.txt", plain["text"]))
        store = ["--datastore", self.path("store")]
        for more in ([], ["--propose", "datastore"], ["--propose", "all"], ["--heads", HEADS]):
            other = self.json(*base, *store, "--tree", "15", *more)
            self.assertEqual(other["ids"], plain["ids"], more)
            self.assertGreater(other["tokens_per_pass"], 3, more)
        path = self.lines("in", [{"prompt": "Once upon a time"}])
        bench = self.json("bench", MODEL, *store, "--prompts", path, "-n", "24", "--json")
        self.assertIs(bench["same_output"], True)
        self.assertLessEqual(bench["without_loops"]["runs"], bench["runs"])
        self.assertIn("datastore", [a["proposer"] for a in bench["acceptance"]])
        self.call("batch", MODEL, *store, "--prompts", path, "--out", self.path("out"))

    def test_stores_that_are_none(self):
        run = ["run", MODEL, "-p", "a", "--datastore"]
        self.build(self.file("a.txt", "The bee is in the garden."))
        with open(self.path("store"), "rb") as f:
            data = f.read()
        self.refused(*run, HEADS, about="heads.gguf")
        self.refused(*run, self.path("absent"), about="absent")
        self.refused(*run, self.file("cut", data[:-1]), about="cut")
        self.refused("info", self.file("flip", data[:-1] + b"\xee"), about="checksum")
        self.refused("run", MODEL, "-p", "a", "--propose", "datastore", about="datastore file")
        header = data[:16] + b"another!" + data[24:124]
        other = header + zlib.crc32(header).to_bytes(4, "little") + data[128:]
        self.refused(*run, self.file("other", other), about="another tokenizer")


# Training is the same work at every level; the scalar kernels would take minutes for it.
trains = unittest.skipIf(os.environ.get("GORGON_CPU") == "scalar", "no training on scalar kernels")


class Convert(Case):
    """Heads of other trainers, for the base in tests/data/types."""

    DATA = os.path.join(SOURCE, "tests", "data", "heads")
    BASE = os.path.join(SOURCE, "tests", "data", "types", "llama.f16.gguf")

    def test_info_counts_and_compares(self):
        info = self.json("info", os.path.join(self.DATA, "medusa_3x1"), "--json")
        self.assertEqual((info["kind"], info["format"], info["container"], info["tensors"]),
                         ("heads", "FasterDecoding Medusa", "safetensors", 9))
        self.assertEqual((info["sets"][0]["heads"], info["sets"][0]["blocks"]), (3, 1))
        self.assertEqual(info["config"]["medusa_num_heads"], 2)
        self.assertIn('"medusa_num_heads": 2, the tensors say 3', info["warnings"][0])
        text = self.call("info", os.path.join(self.DATA, "hydra_2x3")).stdout.decode()
        for part in ("Hydra", "torch archive of 21 tensors", "own matrices and biases",
                     "hydra_num_layers 3"):
            self.assertIn(part, text)

    def test_heads_of_others_draft_the_same_text(self):
        plain = self.json("run", self.BASE, "-p", "abc", "-n", "24", "--propose", "none", "--json")
        for name in ("medusa_3x1", "medusa_v2_4x1", "vllm_truncated", "hydra_2x3",
                     "vllm_original_lm_head_nobias"):
            done = self.call("run", self.BASE, "-p", "abc", "-n", "24", "--propose", "heads",
                             "--tree", "6", "--heads", os.path.join(self.DATA, name), "--json")
            self.assertEqual(json.loads(done.stdout)["ids"], plain["ids"])
            self.assertEqual(b"warning" in done.stderr, name.startswith("medusa"))

    def test_convert(self):
        out = self.path("heads.gguf")
        info = self.json("convert", os.path.join(self.DATA, "vllm_full"), out, "--to", "gguf",
                         "--model", self.BASE, "--json")
        self.assertEqual((info["container"], info["warnings"]), ("GGUF", []))
        self.assertEqual(info["sets"][0]["heads"], 4)
        back = self.json("convert", out, self.path("back"), "--to", "vllm", "--json")
        self.assertEqual(back["sets"][0]["heads"], 4)
        self.assertEqual(sorted(os.listdir(self.path("back"))),
                         ["config.json", "model.safetensors"])

    def test_what_convert_refuses(self):
        out = self.path("out")
        self.refused("convert", HEADS, out, about="--to")
        self.refused("convert", HEADS, out, "--to", "onnx", about="fasterdecoding-v2")
        self.refused("convert", HEADS, out, "--to", "vllm", about="cannot express")
        self.refused("convert", MODEL, out, "--to", "vllm", about="gorgon-heads")
        self.refused("convert", MODEL, out, "--to", "gguf", "--base", about="Hugging Face directory")
        self.refused("convert", os.path.join(self.DATA, "vllm_full"), out, "--to", "gguf",
                     "--model", MODEL, about="d_model")
        self.assertFalse(os.path.exists(out))

    def test_hostile_files(self):
        for kind in ("torch", "safetensors"):
            folder = os.path.join(SOURCE, "tests", "corpus", kind)
            for name in os.listdir(folder):
                if not name.endswith((".pt", ".safetensors")) or name.startswith("control"):
                    continue
                text = self.refused("info", os.path.join(folder, name), about=name)
                self.assertNotIn("GGUF", text)


class Attach(Case):
    options = ["--trial", "0", "--tokens", "2000", "--max-sequence", "256", "--n-heads", "2", "--step-batch",
               "64", "--checkpoint-steps", "5", "--epochs", "1", "-t", "2"]

    def attach(self, name, **more):
        return self.call("attach", MODEL, "-o", self.path(name), *self.options, **more)

    def test_missing_and_unwritable(self):
        self.refused("attach", MODEL, about="-o")
        self.refused("synth", MODEL, about="--cache")
        self.refused("train", MODEL, "--cache", "x", about="-o")
        self.refused("calibrate", MODEL, "--cache", "x", about="--heads")
        self.refused("attach", MODEL, "-o", self.path("absent", "heads.gguf"), about="absent")
        self.refused("synth", MODEL, "--cache", self.file("file", "x"), about="file")
        cache = ["--cache", self.path("refused")]
        for name, text, about in [("a.jsonl", '{"turns":["x"]}\n{"turn":"x"}\n', "a.jsonl:2"),
                                  ("b.jsonl", '{"turns":[7]}\n', "expected a text per turn"),
                                  ("c.jsonl", '{"turns":[]}\n', "expected an array of texts"),
                                  ("d.jsonl", '{"messages":[{"role":"user"}]}\n', "d.jsonl:1"),
                                  ("e.txt", "short", "holds no text"),
                                  ("f.txt", "a long text\0" * 9, "byte 11 is NUL")]:
            self.refused("synth", MODEL, *cache, "--data", self.file(name, text), about=about)
        with open(self.path("g.txt"), "wb") as f:
            f.write(b"a plain text " * 9 + b"\xe9 and on")
        self.refused("synth", MODEL, *cache, "--data", self.path("g.txt"),
                     about="byte 117 is not UTF-8")
        self.refused("synth", MODEL, *cache, "--data", self.path("absent"), about="absent")
        self.assertFalse(os.path.exists(self.path("refused")))
        self.refused("train", MODEL, "--cache", self.path("absent"), "-o", self.path("heads.gguf"),
                     about="absent")
        self.refused("calibrate", MODEL, "--cache", self.path("absent"), "--heads",
                     self.path("heads.gguf"))
        self.refused("attach", MODEL, "-o", self.path("heads.gguf"), "--arch", "oracle",
                     about="medusa, linear, markov, hydra, hydra++, recurrent, eagle")
        self.assertFalse(os.path.exists(self.path("heads.gguf.cache")))

    @trains
    def test_from_nothing_and_resumed(self):
        self.attach("whole.gguf")
        self.assertFalse(os.path.exists(self.path("whole.gguf.cache")))
        for delay in (0.3, 0.8):
            process = subprocess.Popen([GORGON, "attach", MODEL, "-o", self.path("parts.gguf"),
                                        *self.options], env=self.env, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE)
            text = self.interrupted(process, delay)[1]
            if process.returncode != 0:
                self.assertEqual(process.returncode, 130, text)
                self.assertIn(b"the same command continues", text)
                self.assertFalse(os.path.exists(self.path("parts.gguf")))
        self.attach("parts.gguf")
        with open(self.path("whole.gguf"), "rb") as a, open(self.path("parts.gguf"), "rb") as b:
            self.assertEqual(a.read(), b.read())
        info = self.json("info", self.path("whole.gguf"), "--json")
        self.assertEqual(info["kind"], "heads")
        self.assertEqual(info["sets"][0]["heads"], 2)
        base = ["run", MODEL, "-p", "Tell me of a bee.", "--chat", "-n", "40", "--json"]
        self.assertEqual(self.json(*base, "--heads", self.path("whole.gguf"), "--tree", "8")["ids"],
                         self.json(*base, "--tree", "off")["ids"])

    @trains
    def test_the_stages_give_what_attach_gives(self):
        cache, heads, text = self.path("cache"), self.path("heads.gguf"), self.path("text.jsonl")
        synth = self.json("synth", MODEL, "--cache", cache, "--tokens", "2000", "--max-sequence",
                          "256", "--text", text, "--threads", "3", "--json")
        self.assertEqual(synth["cache"], cache)
        made = self.json("info", cache, "--json")
        self.assertEqual((made["kind"], made["complete"]), ("cache", True))
        self.assertGreaterEqual(made["tokens"], 2000)
        with open(text, encoding="utf-8") as f:
            self.assertGreater(len([json.loads(line) for line in f]), 10)
        plot, again = self.path("loss.svg"), self.path("again.svg")
        train = self.json("train", MODEL, "--cache", cache, "-o", heads, *self.options[6:],
                          "--arch", "hydra++", "--weight-type", "Q8_0", "--plot", plot, "--json")
        self.call("info", heads, "--plot", again)
        with open(plot, encoding="utf-8") as a, open(again, encoding="utf-8") as b:
            drawing = a.read()
            self.assertEqual(drawing, b.read())
        self.assertEqual(drawing.count("<circle"), 2 * len(train["sets"][0]["training"]
                                                           ["loss_curve"]))
        self.refused("info", MODEL, "--plot", plot, about="--plot")
        self.assertFalse(train["sets"][0]["calibrated"])
        done = self.json("calibrate", MODEL, "--cache", cache, "--heads", heads, "--json")
        self.assertTrue(done["sets"][0]["calibrated"])
        self.assertEqual(len(done["sets"][0]["accuracy"]["heads"]), 2)
        attached = self.json("attach", MODEL, "-o", self.path("attached.gguf"), *self.options,
                             "--trial", "2", "--json")
        advice = attached["advice"]
        self.assertEqual(attached["sets"][0]["kind"], "hydra++")
        self.assertEqual(advice["questions"], 2)
        self.assertTrue(advice["same_output"])
        lists = [trial["propose"] for trial in advice["trials"]]
        self.assertEqual(lists, ["heads,lookup,recycling", "heads,lookup", "heads",
                                 "lookup,recycling"])
        self.assertIn(advice["propose"], ["", *lists])
        with open(heads, "rb") as a, open(self.path("attached.gguf"), "rb") as b:
            self.assertEqual(a.read(), b.read())
        over = self.json("attach", MODEL, "--heads", heads, "-o", self.path("over.gguf"),
                         *self.options[:6], "--trial", "0", "--json")
        self.assertEqual(over["sets"][0]["kind"], "hydra++")
        self.assertTrue(over["sets"][0]["calibrated"])
        self.assertEqual(len(over["self_check"]["heads"]), 2)
        self.assertIn(over["self_check"]["verdict"], over["self_check"]["shares"])


    @trains
    def test_texts_of_the_users_own(self):
        text, plain = self.path("text.jsonl"), "A kettle sings in the kitchen of the old house. "
        lines = [{"turns": ["How do kettles sing?", "And teapots?"]}, {"prompt": "Name a kettle."},
                 {"messages": [{"role": "user", "content": "Why do bees hum?"},
                               {"role": "assistant", "content": "Never said by the model."}]},
                 {"text": plain}]
        self.json("synth", MODEL, "--cache", self.path("cache"), "--tokens", "3000",
                  "--max-sequence", "512", "--text", text, "--json", "--data",
                  self.file("own.jsonl", "".join(json.dumps(x) + "\n" for x in lines)),
                  "--data", self.file("own.txt", (plain + "\n") * 60))
        with open(text, encoding="utf-8") as f:
            written = f.read()
        for part in ("How do kettles sing?", "And teapots?", "Name a kettle.", "Why do bees hum?",
                     plain):
            self.assertIn(part, written)
        self.assertNotIn("Never said", written)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
