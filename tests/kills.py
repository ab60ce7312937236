#!/usr/bin/env python3
"""Kills evoke with SIGKILL at random moments of every verb that writes, runs the same command again until it ends, and compares every byte
that it leaves with those of a run that was never killed (all but times).

    python3 tests/kills.py                       25 kills, as the test suite does
    python3 tests/kills.py --kills 250 --seed 2  more of them, at other moments
    python3 tests/kills.py --only sample         only commands whose name holds this word

Needs the built program and Python 3, nothing else. A new verb or sampler gets a line in commands().
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIMES = {"begun", "ended", "seconds", "sampling_seconds", "peak_memory_mib"}


class Command:
    """A command that writes to {out}. before: files that must lie there when it begins, as (from, to). finished: a sentence that says that the
    work was finished by the time of the kill, where that is a refusal."""

    def __init__(self, name, words, before=(), finished=None):
        self.name, self.words, self.before, self.finished = name, words, before, finished


def exemplars_words(data):
    return [f"{ROOT}/experiments/weights/classifier.safetensors", data, "--layers", "conv3", "--keep", "3", "--threads", "1", "-q"]


STUDY = """title = "All that a study has"
source = "nobody"
summary = "{bare/oracle}"
units = ["logits:3", "logits:54"]
trainings = ["small"]
exemplars = ["nearest"]
runs = ["bare", "facets", "smaller"]
measures = ["slope"]
chains = 2
[training.small]
recipe = "train_classifier"
set = ["network.filters=2", "training.epochs=2", "training.batch=64"]
[exemplar.nearest]
network = "{share}/weights/classifier.safetensors"
set = ["layers=['logits']", "units=['logits:3', 'logits:54']", "keep=8", "facets=2"]
[run.bare]
recipe = "pixel"
set = ["run.steps=8", "run.checkpoint=1"]
[run.facets]
recipe = "facets"
set = ["run.steps=4", "run.starts='{nearest}/facets.safetensors'"]
[run.smaller]
recipe = "pixel"
set = ["run.steps=8", "run.checkpoint=1", "classifier.weights='{small}'"]
[measure.slope]
kind = "slopes"
run = "bare"
"""


def commands(inputs):
    """The table: what is killed. inputs: a folder, made once, with shapes.h5, study.toml, photographs, a finished run and the shards of
    another."""
    data = f"{inputs}/shapes.h5"
    out = []

    def data_command(name, *words):
        out.append(Command(f"data {name}", ["data", name, *words, "--out", "{out}/made.h5", "-q"], finished="exists already"))

    def settings(values):
        return [word for value in values for word in ("--set", value)]

    def train(kind, recipe, *values):
        out.append(Command(f"train {kind}", ["train", recipe, "--data", data, "--out", "{out}/made", "--threads", "1", "-q",
                                             *settings(["training.epochs=3", "training.batch=64", *values])]))

    def sample(kind, recipe, *values):
        few = ['objective.units=["logits:3", "logits:54"]', "run.chains=2", "run.steps=12", "run.checkpoint=1", "run.search_draws=64"]
        out.append(Command(f"sample {kind}", ["sample", recipe, "--out", "{out}/made", "--threads", "1", "-q", *settings([*few, *values])]))

    data_command("shapes", "--images", "600")
    data_command("folder", f"{inputs}/photographs", "--size", "16")
    small = ["network.filters=2", "network.encoder_filters=2"]
    train("classifier", "train_classifier", "network.filters=2")
    train("autoencoder", "train_autoencoder", *small)
    train("vae", "train_vae", *small)
    train("inverter", "train_inverter", *small[:1], "training.batch=240")
    train("gan", "train_gan", *small, "training.epochs=2", "training.batch=240")
    train("denoiser", "train_denoiser", "network.hidden=16")
    out.append(Command("train codes", ["train", "train_codes", "--data", data, "--out", "{out}/made", "--threads", "1", "-q"]))
    sample("ascent", "vae_ascent", "run.snapshots=5")
    sample("from a search", "vae_ascent", 'run.start="search"', "run.search_draws=20000")
    sample("langevin", "langevin_gaussian")
    sample("langevin on a denoiser", "langevin_denoiser")
    sample("dgn_am", "dgn_am")
    sample("ppgn", "ppgn", "run.snapshots=3")
    sample("fallback", "vae_ascent", 'sampler.kind="fallback"', "sampler.candidates=64", "sampler.patience=3", 'climb.kind="ascent"')
    sample("random_search", "autoencoder_search", "sampler.draws=1500", "sampler.keep=2")
    sample("dataset_examples", "dataset_examples", f'data.file="{data}"')
    for name, shard in (("exemplars", "0/1"), ("exemplars of a shard", "1/2")):
        out.append(Command(name, ["exemplars", *exemplars_words(data), "--out", "{out}/made", "--shard", shard]))
    out.append(Command("compare", ["compare", "autoencoder_search", "vae_ascent", "--units", "logits:3", "--chains", "2", "--budget", "60",
                                   "--data", data, "--out", "{out}/made", "--threads", "1", "-q"]))
    out.append(Command("merge exemplars", ["merge", f"{inputs}/seen0", f"{inputs}/seen1", "--out", "{out}/made", "-q"]))
    out.append(Command("merge", ["merge", f"{inputs}/shard1", f"{inputs}/shard0", "--out", "{out}/made", "-q"]))
    out.append(Command("study", ["study", f"{inputs}/study.toml", "--data", data, "--out", "{out}/made", "--threads", "1", "-q"]))
    out.append(Command("judge", ["judge", "{out}/made", "--data", data, "--threads", "1", "-q"], before=[(f"{inputs}/run", "made")]))
    return out


def without_times(name, content):
    """The content of a file as it is compared."""
    def cleaned(value, dropped):
        if isinstance(value, dict):
            return {key: cleaned(one, dropped) for key, one in value.items() if key not in dropped}
        return [cleaned(one, dropped) for one in value] if isinstance(value, list) else value

    base = os.path.basename(name)
    if base == "manifest.json":  # its own checksum, and those of files that hold times
        return json.dumps(cleaned(json.loads(content), TIMES | {"sha256", "files"})) + json.dumps(json.loads(content)["inputs"])
    if base in ("table.json", "study.json"):
        return json.dumps(cleaned(json.loads(content), TIMES))
    if base == "metrics.jsonl":
        return [json.dumps(cleaned(json.loads(line), TIMES)) for line in content.splitlines()]
    if base in ("table.md", "study.md"):  # the last column of the judges' table holds seconds
        return [[cell.strip() for cell in line.split(b"|")[:-2]] for line in content.splitlines() if not line.startswith(b"|--")]
    return content


def tree(folder):
    found = {}
    for place, _, files in os.walk(folder):
        for file in files:
            path = os.path.join(place, file)
            with open(path, "rb") as stream:
                name = os.path.relpath(path, folder)
                # A study's runs name files of the study by their whole paths.
                found[name] = without_times(name, stream.read().replace(folder.encode(), b"{out}"))
    return found


class Harness:
    def __init__(self, program, folder, seed):
        self.program, self.folder, self.random = program, folder, random.Random(seed)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("EVOKE_")}
        self.environment["OMP_NUM_THREADS"] = "1"
        self.kills = self.failures = 0

    def start(self, words, out):
        return subprocess.Popen([self.program, *(word.replace("{out}", out) for word in words)], env=self.environment, cwd=self.folder,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def must(self, words, out=""):
        process = self.start(words, out)
        said = process.communicate()[1]
        if process.returncode != 0:
            sys.exit(f"kills: evoke {' '.join(words)} ended with {process.returncode}: {said}")

    def fresh(self, command, name):
        # The last part is the same everywhere: a contact sheet's title holds it.
        out = os.path.join(self.folder, name)
        os.makedirs(out)
        for source, target in command.before:
            shutil.copytree(source, os.path.join(out, target))
        return out

    def reference(self, command):
        out = self.fresh(command, f"untouched {command.name}")
        begun = time.monotonic()
        self.must(command.words, out)
        command.seconds, command.expected = time.monotonic() - begun, tree(out)

    def trial(self, command, number):
        """Kills once or a few times in a row, then lets the command end."""
        out = self.fresh(command, f"killed {number}")
        struck = 0
        wanted = self.random.choice([1, 1, 2])
        said, code = "", None
        for attempt in range(50):
            process = self.start(command.words, out)
            begun = time.monotonic()
            if struck < wanted:
                # Later moments are the interesting ones: the first third is the loading of libraries.
                try:
                    said = process.communicate(timeout=self.random.uniform(0.2, 1.0) * command.seconds)[1]
                except subprocess.TimeoutExpired:
                    process.kill()
                    said = process.communicate()[1]
            else:
                said = process.communicate()[1]
            code = process.returncode
            if code == -9:
                struck += 1
                continue
            if code != 0 and not (command.finished and command.finished in said):
                break
            if struck >= 1:
                code = 0
                break
            # It ended before the kill: begin anew, and strike earlier.
            command.seconds = min(command.seconds, time.monotonic() - begun)
            code = f"{code} before it could be killed, {attempt + 1} times"
            shutil.rmtree(out)
            out = self.fresh(command, f"killed {number}")
        self.kills += struck
        if code != 0:
            return self.failed(command, out, f"ended with {code}: {said.strip()}")
        found = tree(out)
        for name in sorted(set(found) | set(command.expected)):
            if name not in found or name not in command.expected:
                return self.failed(command, out, f"{name} is {'missing' if name not in found else 'left over'}")
            if found[name] != command.expected[name]:
                return self.failed(command, out, f"{name} holds other bytes")
        shutil.rmtree(out)
        return struck

    def failed(self, command, out, what):
        self.failures += 1
        print(f"kills: FAILED: evoke {command.name}, killed, {what} (left in {out})", flush=True)
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evoke", default=f"{ROOT}/build/release/evoke", help="the program")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a word of the commands' names")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="evoke-kills-")
    harness = Harness(os.path.abspath(options.evoke), folder, options.seed)

    # What the commands read.
    inputs = f"{folder}/inputs"
    os.makedirs(inputs)
    harness.must(["data", "shapes", "--images", "1200", "--out", f"{inputs}/shapes.h5", "-q"])
    with open(f"{inputs}/study.toml", "w") as file:
        file.write(STUDY)
    few = ["-q", "--threads", "1", "--set", 'objective.units=["logits:3"]', "--set", "run.steps=5", "--set"]
    harness.must(["sample", "vae_ascent", "--out", f"{inputs}/run", *few, "run.chains=3"])
    for index in range(2):
        harness.must(["sample", "vae_ascent", "--out", f"{inputs}/shard{index}", "--shard", f"{index}/2", *few, "run.chains=100"])
        harness.must(["exemplars", *exemplars_words(f"{inputs}/shapes.h5"), "--out", f"{inputs}/seen{index}", "--shard", f"{index}/2"])
    for label in ("cats", "dogs"):
        os.makedirs(f"{inputs}/photographs/{label}")
        for number, picture in enumerate(sorted(os.listdir(f"{inputs}/run/images"))):
            shutil.copy(f"{inputs}/run/images/{picture}", f"{inputs}/photographs/{label}/{number}.png")

    # Every command in turn, in an order that the seed gives.
    table = [command for command in commands(inputs) if options.only in command.name]
    if not table:
        sys.exit(f"kills: no command is called '{options.only}'")
    harness.random.shuffle(table)
    by_command, number = {}, 0
    while harness.kills < options.kills and harness.failures < 10:
        command = table[number % len(table)]
        if number < len(table):
            harness.reference(command)
        by_command[command.name] = by_command.get(command.name, 0) + harness.trial(command, number)
        number += 1
    for name, kills in sorted(by_command.items()):
        print(f"{kills:5d}  evoke {name}")
    print(f"kills: {harness.kills} kills over {len(by_command)} commands, {number - harness.failures} of {number} went on and ended in the same "
          f"bytes (seed {options.seed})")
    if harness.failures == 0:
        shutil.rmtree(folder)
    sys.exit(1 if harness.failures else 0)


if __name__ == "__main__":
    main()
