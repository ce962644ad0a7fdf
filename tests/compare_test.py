"""gorgon compare on the embedded model: refusals, the page and its JSON, killed and resumed, a
further architecture, the budgets. Arguments as of cli_test.py.
"""
import html.parser
import json
import os
import signal
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree

from cli_test import GORGON, MODEL, Case, trains

PROMPTS = [{"id": 0, "category": "writing", "turns": ["Tell me a short story about a fox."]},
           {"id": 1, "category": "facts & <figures>", "turns": ["List three facts about tin."]},
           {"id": 2, "category": "writing", "turns": ["Tell me a story about a bee."]}]
SIZES = [1, 3, 7, 15, 31]
LISTS = ["lookup", "recycling", "lookup,recycling"]
SVG = "{http://www.w3.org/2000/svg}"


class References(html.parser.HTMLParser):
    """Everything that a page asks for from elsewhere."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "link", "iframe", "img", "object", "embed", "base", "form"):
            self.found.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset") or \
                    ("url(" in (value or "") and "url(#" not in value):
                self.found.append((tag, name, value))


def figures(comparison):
    """What may not depend on time or place."""
    out = []
    for contestant in comparison["contestants"]:
        for seed in contestant["seeds"]:
            trees = [{k: v for k, v in tree.items() if k != "draft_ms"}
                     for mix in seed["mixes"] for tree in mix["trees"]]
            out.append((contestant["name"], [seed.get(k) for k in
                                             ("seed", "parameters", "training", "accuracy")],
                        [mix["propose"] for mix in seed["mixes"]], trees))
    return out


class Compare(Case):
    options = ["--tokens", "2000", "--epochs", "1", "--step-batch", "64", "--n-heads", "2",
               "--limit", "1", "-n", "16", "-t", "1"]

    def setUp(self):
        super().setUp()
        self.prompts = ["--prompts", self.lines("prompts", PROMPTS)]

    def compare(self, out, *more, **how):
        self.call("compare", MODEL, "-o", self.path(out), *self.options, *self.prompts, *more,
                  **how)
        with open(self.path(out, "compare.json"), encoding="utf-8") as f:
            return json.load(f)

    def page(self, out):
        """The page as a tree, after making sure that it stands alone."""
        with open(self.path(out, "compare.html"), encoding="utf-8") as f:
            text = f.read()
        references = References()
        references.feed(text)
        self.assertEqual(references.found, [])
        self.assertNotIn("@import", text)
        first, rest = text.split("\n", 1)
        self.assertEqual(first, "<!DOCTYPE html>")
        return xml.etree.ElementTree.fromstring(rest)

    def test_bad_options_are_refused(self):
        out = ["-o", self.path("out")]
        refused = [([], "-o"), ([*out, "--archs", "oracle"], "oracle"),
                   ([*out, "--archs", "medusa,"], "--archs"),
                   ([*out, "--archs", "medusa,medusa"], "twice"),
                   ([*out, "--archs", "medusa:blocks=0"], "blocks=0"),
                   ([*out, "--archs", "medusa:blocks=9"], "from 1 to 8"),
                   ([*out, "--archs", "medusa:blocks=2x"], "blocks=2x"),
                   ([*out, "--archs", "medusa:heads=-1"], "heads=-1"),
                   ([*out, "--archs", "medusa:depth=3"], "depth=3"),
                   ([*out, "--archs", "markov:rank=0"], "rank=0"),
                   ([*out, "--datastore", self.path("absent")], "absent"),
                   ([*out, "--archs", "medusa:blocks=2", "--params", "100k"], "--params"),
                   ([*out, "--epochs", "1", "--minutes", "1"], "--minutes"),
                   ([*out, "--minutes", "0"], "--minutes"),
                   ([*out, "--params", "10"], "at least"),
                   ([*out, "--untrained", "crystal"], "crystal"),
                   ([*out, "--untrained", "heads"], "heads"),
                   ([*out, "--untrained", "lookup", "--no-untrained"], "--no-untrained"),
                   ([*out, "--prompts", self.path("absent")], "absent"),
                   (["-o", self.path("absent", "out")], "absent"),
                   (["-o", self.file("file", "")], "file"),
                   ([*out, "--cache", self.file("other", "x")], "other")]
        for args, about in refused:
            self.refused("compare", MODEL, *self.prompts, *args, about=about)
        self.refused("compare", MODEL, *out, about="bench/prompts.jsonl")

    def check_summary(self, comparison, names):
        rows = [(r["name"], r["propose"]) for r in comparison["summary"]]
        wanted = [(n, p) for n in names for p in ["heads", *("heads," + x for x in LISTS)]]
        self.assertEqual(rows, wanted + [("untrained", x) for x in LISTS])
        for row in comparison["summary"]:
            self.assertIs(row["same_output"], True)
            self.assertEqual([t["nodes"] for t in row["trees"]], SIZES)
            for tree in row["trees"]:
                self.assertGreaterEqual(tree["tokens_per_pass"]["min"], 1)
            for key in ("speedup", "median_speedup", "tokens_per_s", "plain_tokens_per_s"):
                self.assertLessEqual(row[key]["min"], row[key]["mean"])
                self.assertGreater(row[key]["min"], 0)

    def check_acceptance(self, comparison):
        for contestant in comparison["contestants"]:
            for mix in contestant["seeds"][0]["mixes"]:
                tree = mix["trees"][-1]
                self.assertEqual(sum(a["won"] for a in tree["acceptance"]),
                                 tree["tokens"] - tree["passes"])
                self.assertEqual(set(tree["tasks"]), {"conversation", "facts & <figures>"})
                self.assertEqual(sum(t["tokens"] for t in tree["tasks"].values()), tree["tokens"])
                for a in tree["acceptance"]:
                    self.assertLessEqual(a["won"], a["accepted"])
                    self.assertGreaterEqual(sum(b["suggested"] for b in a["reliability"]),
                                            a["offered"])

    def kill_when(self, out, name, number):
        """Starts the comparison and ends it when that file of it appears."""
        process = subprocess.Popen([GORGON, "compare", MODEL, "-o", self.path(out), *self.options,
                                    *self.prompts], env=self.env, cwd=self.path("work"),
                                   stderr=subprocess.PIPE)
        deadline = time.time() + 200
        while not os.path.exists(self.path(out, name)) and process.poll() is None and \
                time.time() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        text = process.communicate(timeout=120)[1]
        if number == signal.SIGINT and process.returncode != 0:
            self.assertEqual(process.returncode, 130, text)
            self.assertIn(b"the same command continues", text)
        return process.returncode

    @trains
    def test_killed_and_resumed(self):
        whole = self.compare("whole")
        names = ["medusa", "linear", "markov", "hydra", "hydra++", "recurrent", "eagle"]
        self.assertEqual([c["name"] for c in whole["contestants"]], [*names, "untrained"])
        self.check_summary(whole, names)
        self.check_acceptance(whole)
        self.assertEqual(whole["prompts"]["count"], 2)
        for name, number in [("cache/cache.json", signal.SIGKILL),
                             ("medusa-seed1/train.json", signal.SIGINT),
                             ("medusa-seed1/calibrate.json", signal.SIGKILL),
                             ("medusa-seed1/evaluate.json", signal.SIGKILL),
                             ("recurrent-seed1/heads.gguf", signal.SIGKILL),
                             ("recurrent-seed1/evaluate.json", signal.SIGINT),
                             ("untrained/evaluate.json", signal.SIGKILL)]:
            self.assertNotEqual(self.kill_when("parts", name, number), 2)
        parts = self.compare("parts")
        self.assertEqual(figures(parts), figures(whole))
        for name in names:
            heads = os.path.join(name + "-seed1", "heads.gguf")
            with open(self.path("whole", heads), "rb") as a, \
                    open(self.path("parts", heads), "rb") as b:
                self.assertEqual(a.read(), b.read())
        root = self.page("parts")
        drawings = list(root.iter(SVG + "svg"))
        self.assertGreaterEqual(len(drawings), 10)
        self.assertIn("facts & <figures>", "".join(root.itertext()))
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        self.assertEqual(len(ids), len(set(ids)))

    @trains
    def test_a_further_architecture_costs_only_itself(self):
        out = "it's <a> & \"b\""
        first = self.compare(out, "--archs", "medusa", "--untrained", "lookup")
        made = {name: os.stat(self.path(out, name)).st_mtime_ns for name in
                ("medusa-seed1/heads.gguf", "medusa-seed1/evaluate.json", "cache/cache.json")}
        second = self.compare(out, "--archs", "recurrent:blocks=2:heads=3,medusa", "--untrained",
                              "lookup", "--json")
        for name, when in made.items():
            self.assertEqual(os.stat(self.path(out, name)).st_mtime_ns, when, name)
        self.assertEqual([c["name"] for c in second["contestants"]],
                         ["recurrent:blocks=2:heads=3", "medusa", "untrained"])
        self.assertEqual(second["contestants"][1:], first["contestants"])
        heads = second["contestants"][0]["seeds"][0]
        self.assertEqual((heads["n_blocks"], heads["n_heads"]), (2, 3))
        self.assertIn("'" + self.path(out).replace("'", "'\\''") + "'",
                      next(self.page(out).iter("pre")).text)
        # Other prompts are measured anew, with the heads that are there.
        self.lines("prompts", PROMPTS[:1])
        third = self.compare(out, "--archs", "medusa", "--no-untrained")
        self.assertEqual(third["prompts"]["count"], 1)
        self.assertEqual([r["propose"] for r in third["summary"]], ["heads"])
        self.assertEqual(os.stat(self.path(out, "medusa-seed1/heads.gguf")).st_mtime_ns,
                         made["medusa-seed1/heads.gguf"])
        # Damaged records and lost heads are made again, to the same end.
        self.file(os.path.join(out, "medusa-seed1", "evaluate.json"), '{"made_from":')
        os.remove(self.path(out, "medusa-seed1", "heads.gguf"))
        fourth = self.compare(out, "--archs", "medusa", "--no-untrained")
        self.assertEqual(figures(fourth), figures(third))
        store = self.path("store")
        self.call("index", MODEL, "-o", store, self.file("text", "bees hum and bees fly. " * 9))
        fifth = self.compare(out, "--archs", "medusa", "--datastore", store, "--untrained",
                             "datastore")
        self.assertEqual([r["propose"] for r in fifth["summary"]],
                         ["heads", "heads,datastore", "datastore"])
        self.assertIs(fifth["same_output"], True)

    @trains
    def test_budgets(self):
        self.options = [*self.options[:2], *self.options[4:]] # without --epochs
        timed = self.compare("timed", "--archs", "medusa", "--minutes", "0.02", "--no-untrained",
                             "--seeds", "2", "--seed", "7")
        self.assertEqual(timed["budget"], {"minutes": 0.02})
        self.assertEqual([s["seed"] for s in timed["contestants"][0]["seeds"]], [7, 8])
        for seed in timed["contestants"][0]["seeds"]:
            self.assertGreater(seed["train"]["epochs"], 0)
        self.assertNotEqual(*(s["training"]["loss_curve"] for s in
                              timed["contestants"][0]["seeds"]))
        self.assertNotIn("probe.gguf", os.listdir(self.path("timed", "medusa-seed7")))
        small = self.compare("timed", "--archs", "medusa,recurrent", "--epochs", "0.2", "--params",
                             "80k", "--no-untrained")
        for contestant in small["contestants"]:
            heads = contestant["seeds"][0]
            self.assertLessEqual(heads["parameters"], 80000)
            more = {"medusa": 2 * 128 * 129, "recurrent": 128 * 129}[contestant["name"]]
            self.assertGreater(heads["parameters"] + more, 80000)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
