#!/usr/bin/env python3
"""Opens reports in a headless Chromium, as a person would: that they render without a complaint, that filter, order, slider, deep links and
keys work, that nothing in a run's names runs, that axe-core finds no barrier, and that a thousand units open quickly.

    python3 tests/report_page.py [PROGRAM]     PROGRAM: build/release/evoke if not given. Exit code 77: skipped, no Chromium is installed
    python3 tests/report_page.py --install     installs Debian's chromium and the package that holds axe-core first
    python3 tests/report_page.py --keep DIR    leaves the runs and pictures of their pages there
"""
import argparse
import glob
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from browser import Browser, chromium

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FAILURES = []


def check(held, said):
    if not held:
        FAILURES.append(said)
        print(f"failed: {said}", flush=True)


def equal(found, expected, said):
    check(found == expected, f"{said}: found {found!r}, expected {expected!r}")


def axe_file():
    return next(iter(glob.glob(f"{ROOT}/.venv/lib/python3*/site-packages/axe_*/axe.min.js")), None)


def barriers(browser):
    """The rules of axe-core that the page breaks, each with the first element that does."""
    with open(axe_file()) as script:
        browser.run(script.read() + "; 0")
    found = json.loads(browser.run("axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify("
                                   "r.violations.map((v) => [v.id, v.nodes[0].target.join(' '), v.nodes[0].failureSummary])))"))
    return [": ".join(one).replace("\n", " ") for one in found]


def set_value(browser, element, value):
    browser.run(f"(() => {{ const e = document.querySelector({json.dumps(element)}); e.value = {json.dumps(value)}; "
                "e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})); })()")


CARDS = "[...document.querySelectorAll('.card h4 .name')].map((e) => e.textContent)"
SEEN = "[...document.querySelectorAll('.card')].length"


class Trial:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.labels = [f"class {i}" for i in range(60)]
        self.labels[9] = "<img src=x onerror=\"window.broken=1\">"
        self.labels[24] = "</script><script>window.broken=1</script>"

    def evoke(self, *words):
        done = subprocess.run([self.program, *words], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"report_page: evoke {' '.join(words)} ended with {done.returncode}: {done.stderr}")

    def sample(self, name, recipe, *values):
        settings = [word for value in values for word in ("--set", value)]
        self.evoke("sample", recipe, "--out", f"{self.folder}/{name}", "--threads", "1", "-q", *settings)

    def classifier_of(self):
        """The shipped classifier with these labels: a header of JSON with its length before it, and the checksum that evoke asks for."""
        with open(f"{ROOT}/experiments/weights/classifier.safetensors", "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header, rest = json.loads(file.read(length)), file.read()
        facts = header["__metadata__"]
        facts["evoke.labels"] = json.dumps(self.labels)
        parts = [word for key in sorted(facts) if key != "evoke.sha256" for word in (key, facts[key])]
        for name in sorted(set(header) - {"__metadata__"}):
            entry, (begin, end) = header[name], header[name]["data_offsets"]
            kind = {"F32": "Float", "F64": "Double", "I64": "Long"}[entry["dtype"]]
            parts += [name, f"{kind}[{','.join(map(str, entry['shape']))}]", hashlib.sha256(rest[begin:end]).hexdigest()]
        facts["evoke.sha256"] = hashlib.sha256(b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in parts)).hexdigest()
        words = json.dumps(header).encode()
        words += b" " * (-len(words) % 8)
        name = f"{self.folder}/classifier.safetensors"
        with open(name, "wb") as file:
            file.write(len(words).to_bytes(8, "little") + words + rest)
        return name

    def make(self):
        weights = self.classifier_of()
        common = ['run.chains=3', 'run.steps=12', 'run.snapshots=4', 'run.search_draws=64', f"classifier.weights={json.dumps(weights)}"]
        self.sample("run", "langevin_denoiser", 'objective.units=["logits:9", "logits:24", "logits:33", "logits:54"]', *common)
        self.sample("other", "vae_ascent", 'objective.units=["logits:9", "logits:24"]', *common)
        self.sample("places", "langevin_gaussian", 'objective.kind="unit"', 'objective.units=["conv3:0-2@5,5", "conv2:0-1@5,5"]', *common)
        self.evoke("data", "shapes", "--images", "1200", "--out", f"{self.folder}/shapes.h5", "-q")
        self.evoke("judge", f"{self.folder}/run", "--data", f"{self.folder}/shapes.h5", "--threads", "1", "-q")
        self.evoke("exemplars", weights, f"{self.folder}/shapes.h5", "--keep", "4", "--out",
                   f"{self.folder}/run/exemplars", "--threads", "1", "-q")
        self.evoke("report", f"{self.folder}/run", "-q")
        self.evoke("report", f"{self.folder}/run", f"{self.folder}/other", "--out", f"{self.folder}/both.html", "-q")
        places = [f"conv3:{channel}@{y},{x}" for channel in range(8) for y in range(12) for x in range(12)]
        self.sample("many", "langevin_gaussian", 'objective.kind="unit"', f"objective.units={json.dumps(places)}", "run.chains=1", "run.steps=1")

    def address(self, name, unit=""):
        return "file://" + os.path.join(self.folder, name) + unit

    def quiet(self, browser, where):
        equal(browser.complaints(), [], f"complaints of {where}")
        equal(browser.run("window.broken"), None, f"what a label ran in {where}")
        check(browser.until("[...document.images].filter((i) => i.checkVisibility() && i.getBoundingClientRect().top < innerHeight)"
                            ".every((i) => i.complete && i.naturalWidth > 0)"), f"the pictures of {where} are not all there")
        check(browser.run("document.documentElement.scrollWidth <= innerWidth"), f"{where} is wider than the window")

    # ---- What is tried ----

    def gallery(self, browser):
        browser.open(self.address("run/report.html"))
        self.quiet(browser, "the gallery")
        units = ["logits:9", "logits:24", "logits:33", "logits:54"]
        equal(browser.run(CARDS), units, "cards")
        equal(browser.run("document.querySelector('.card .label').textContent"), self.labels[9], "a label")
        check(browser.run("getComputedStyle(document.querySelector('.large')).imageRendering") == "pixelated", "small pictures are smoothed")
        equal(browser.run("document.querySelectorAll('.card:first-child .real img').length"), 4, "real images of a card")

        for word, expected in (("33", ["logits:33"]), ("CLASS 5", ["logits:54"]), ("onerror", ["logits:9"]), ("logits 4", ["logits:24", "logits:54"]),
                               ("nothing like it", []), ("", units)):
            set_value(browser, "#filter", word)
            equal(browser.run(CARDS), expected, f"cards for {word!r}")
        set_value(browser, "#filter", "54")
        equal(browser.run("document.querySelector('#count').textContent"), "1 unit of 4", "the count")
        set_value(browser, "#filter", "")
        set_value(browser, "#order", "by name")
        equal(browser.run(CARDS), units, "cards by name, numbers as numbers")
        set_value(browser, "#order", "highest activation first")
        highest = browser.run("JSON.parse(document.querySelector('#summary').textContent).units"
                              ".map((u) => [Math.max(...u.runs[0].activation), u.name])")
        equal(browser.run(CARDS), [name for _, name in sorted(highest, key=lambda pair: -pair[0])], "cards by activation")
        set_value(browser, "#order", "as in the run")
        set_value(browser, "#judged", "-oracle")
        none = browser.run("JSON.parse(document.querySelector('#summary').textContent).units"
                           ".filter((u) => u.runs[0].shares.oracle[0] === 0).map((u) => u.name)")
        equal(browser.run(CARDS), none, "cards that the oracle reads none of")
        set_value(browser, "#judged", "")

        # Figures: as many lines as the judgement's table has, with intervals.
        with open(f"{self.folder}/run/judgement.json") as file:
            table = json.load(file)["table"]
        equal(browser.run("[...document.querySelectorAll('#figures tbody')][0].rows.length"), len(table), "lines of figures")
        oracle = table[0]["agreement_oracle"]
        said = f"{oracle['value']:.3f} [{oracle['low']:.3f}, {oracle['high']:.3f}]"
        check(said in browser.run("document.querySelector('#figures tbody tr').textContent"), f"the figures do not say {said}")
        check("seed = " in browser.run("document.querySelector('#settings').textContent"), "the settings are not there")
        check("evoke sample run/config.toml --out run-again" in browser.run("document.querySelector('#settings').textContent"),
              "the command is not there")

        # Nothing that is not in the file is asked for.
        equal(browser.run("performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).map((e) => e.name)"), [],
              "what the page fetched")

    def unit(self, browser):
        browser.open(self.address("run/report.html", "#logits:24"))
        self.quiet(browser, "a unit")
        equal(browser.run("document.querySelector('#unit h2').textContent"), "logits:24 " + self.labels[24], "the unit of a deep link")
        check(browser.run("document.activeElement.id === 'unit-head' && document.querySelector('#pictures').hidden"), "the unit is not in focus")
        equal(browser.run("document.querySelectorAll('#unit .pictures > li').length"), 3, "chains")
        equal(browser.run("document.querySelectorAll('#unit .exemplars img').length"), 8, "real images of a unit")

        # The slider goes through the snapshots and ends with the picture.
        equal(browser.run("document.querySelector('#unit output').textContent"), "at the end", "where the slider begins")
        equal(browser.run("document.querySelectorAll('#unit .frame.moving').length"), 0, "pictures under way at the end")
        set_value(browser, "#unit input[type=range]", "1")
        equal(browser.run("document.querySelector('#unit output').textContent"), "after step 4", "the slider's second place")
        equal(browser.run("document.querySelectorAll('#unit .frame.moving').length"), 3, "pictures under way")
        check(browser.until("document.querySelector('#unit .strip').naturalWidth === 4 * 48"), "four frames of 48 pixels")
        equal(browser.run("(() => { const f = document.querySelector('#unit .frame'), s = f.querySelector('.strip'); "
                          "return Math.round((f.getBoundingClientRect().left - s.getBoundingClientRect().left) / f.clientWidth * 100); })()"),
              100, "how far the frames are moved, in hundredths of one")
        equal(browser.run("document.querySelector('#unit .cursor').getAttribute('visibility')"), "visible", "the cursor of the traces")
        check(browser.run("document.querySelectorAll('#unit .chart path').length") >= 6, "lines of the traces")
        browser.run("[...document.querySelectorAll('#unit button')].find((b) => b.textContent === 'Play').click()")
        check(browser.until("document.querySelector('#unit output').textContent === 'at the end'"), "playing does not come to the end")

        # By keys, from unit to unit and back.
        browser.run("document.querySelector('#unit-head').focus()")
        browser.key("ArrowRight")
        equal(browser.until("location.hash === '#logits:33' && document.querySelector('#unit h2 .name').textContent"), "logits:33", "the next unit")
        browser.key("ArrowLeft"), browser.key("ArrowLeft")
        equal(browser.until("location.hash === '#logits:9' && document.querySelector('#unit h2 .name').textContent"), "logits:9", "two units before")
        browser.key("Escape")
        check(browser.until("!document.querySelector('#pictures').hidden && document.querySelector('#unit').hidden"), "Esc does not go back")
        browser.run("document.activeElement.blur()")
        browser.key("/")
        equal(browser.run("document.activeElement.id + document.activeElement.value"), "filter", "what / goes to")
        browser.run("document.querySelector('.card a').click()")
        check(browser.until("!document.querySelector('#unit').hidden"), "a click on a card opens nothing")
        browser.run("location.hash = '#no:such'")
        check(browser.until("document.querySelector('#missing').textContent.includes('no:such') && !document.querySelector('#pictures').hidden"),
              "a unit that is not there is not said")
        self.quiet(browser, "units")

    def several(self, browser):
        browser.open(self.address("both.html"))
        self.quiet(browser, "two runs")
        equal(browser.run("document.querySelectorAll('.row').length"), 4, "rows")
        equal(browser.run("document.querySelectorAll('.row:nth-of-type(2) [role=group]').length"), 2, "runs in a row")
        browser.run("document.querySelector('#runs-tool input').click()")
        equal(browser.run("document.querySelectorAll('.row').length"), 2, "rows of the second run alone")
        browser.run("document.querySelector('#runs-tool input').click()")
        check("sampler.kind" in browser.run("document.querySelector('#settings table').textContent"), "what differs is not said")
        check("run.chains" not in browser.run("document.querySelector('#settings table').textContent"), "what is the same is said to differ")
        browser.open(self.address("places/report.html"))
        equal(browser.run("[...document.querySelectorAll('#gallery h3')].map((e) => e.textContent)"), ["conv3", "conv2"], "headings of layers")
        set_value(browser, "#layer", "=conv2")
        equal(browser.run(CARDS), ["conv2:0@5,5", "conv2:1@5,5"], "cards of a layer")
        browser.open(self.address("places/report.html", "#conv3:1@5,5"))
        equal(browser.run("document.querySelector('#unit h2').textContent"), "conv3:1@5,5", "a deep link to a place")

    def for_everybody(self, browser):
        if not axe_file():
            print("left out: axe-core is not there (tests/report_page.py --install)")
            return
        for name, unit, light in (("run/report.html", "", "light"), ("run/report.html", "#logits:24", "dark"), ("both.html", "", "dark"),
                                  ("both.html", "#logits:9", "light")):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": light}])
            browser.open(self.address(name, unit))
            browser.run("document.querySelectorAll('details').forEach((d) => (d.open = true))")
            equal(barriers(browser), [], f"barriers of {name}{unit} ({light})")
        # The check itself: it sees a picture without a word and a field without a label.
        browser.run("document.querySelectorAll('img').forEach((i) => i.removeAttribute('alt')); document.querySelector('#unit input').removeAttribute('aria-label')")
        found = " ".join(barriers(browser))
        check("image-alt" in found and "label" in found, f"barriers that were put up are not seen: {found}")

    def sizes(self, browser):
        for name, unit in (("run/report.html", ""), ("run/report.html", "#logits:54"), ("both.html", ""), ("both.html", "#logits:9")):
            browser.size(390, 844, mobile=True)
            browser.open(self.address(name, unit))
            self.quiet(browser, f"{name}{unit} on a phone")
            if self.keep:
                browser.picture(f"{self.folder}/{name.replace('/', '_')}{unit.replace(':', '_')}_phone.png")
        browser.size(1280, 900)

    def print_out(self, browser):
        browser.open(self.address("many/report.html"))
        before = browser.run(SEEN)
        browser.call("Emulation.setEmulatedMedia", media="print")
        browser.run("dispatchEvent(new Event('beforeprint'))")
        equal(browser.run(SEEN), 1152, "cards on paper")
        check(before < 300, f"{before} cards are made before anybody asks for them")
        check(browser.run("getComputedStyle(document.querySelector('#tools')).display === 'none'"), "fields are printed")
        browser.call("Emulation.setEmulatedMedia", media="")

    def quickly(self, browser):
        times = []
        for _ in range(5):
            times.append(browser.open(self.address("many/report.html")))
            check(browser.until(f"{SEEN} > 20 && document.querySelector('.large').complete"), "the first cards are not there")
        equal(browser.run("document.querySelector('#count').textContent"), "1,152 units", "the count of many")
        size = os.path.getsize(f"{self.folder}/many/report.html") / 1e6
        print(f"1,152 units, {size:.1f} MB: open in {statistics.median(times):.2f} s (median of five)")
        check(min(times) < 3, f"1,152 units opened in {min(times):.2f} s at best, expected less than 3 on a busy machine")
        # To the last unit, as one scrolls.
        browser.run("(async () => { for (let i = 0; i < 200 && document.querySelectorAll('.card').length < 1152; ++i) { "
                    "scrollTo(0, document.body.scrollHeight); await new Promise((r) => setTimeout(r, 30)); } })()")
        equal(browser.run(SEEN), 1152, "cards at the end")
        browser.open(self.address("many/report.html", "#conv3:7@11,11"))
        equal(browser.run("document.querySelector('#unit h2').textContent"), "conv3:7@11,11", "the last unit's deep link")
        self.quiet(browser, "many units")

    def control(self, browser):
        browser.open(self.address("run/report.html"))
        browser.run("console.error('a complaint'); setTimeout(() => { throw new Error('thrown') }); new Promise((r) => setTimeout(r, 100))")
        said = " ".join(browser.complaints())
        check("a complaint" in said and "thrown" in said, f"complaints are not seen: {said!r}")
        # A script that did not come with the page does not run in it.
        browser.run("(() => { const s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s); })()")
        equal(browser.run("window.broken"), None, "what a script that was put in did")


def install():
    as_root = [] if os.getuid() == 0 else ["sudo"]
    subprocess.run([*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run([f"{ROOT}/.venv/bin/pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "axe-playwright-python"], check=True)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("program", nargs="?", default=f"{ROOT}/build/release/evoke")
    words.add_argument("--install", action="store_true")
    words.add_argument("--keep", metavar="DIR")
    given = words.parse_args()
    if given.install:
        install()
    if not chromium():
        print("skipped: found no Chromium; tests/report_page.py --install installs it")
        return 77
    folder = given.keep or tempfile.mkdtemp(prefix="report_page_")
    os.makedirs(folder, exist_ok=True)
    try:
        trial = Trial(os.path.abspath(given.program), os.path.abspath(folder))
        trial.keep = given.keep
        trial.make()
        with Browser() as browser:
            for part in (trial.gallery, trial.unit, trial.several, trial.for_everybody, trial.sizes, trial.print_out, trial.quickly, trial.control):
                part(browser)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(FAILURES)} failed" if FAILURES else "all held")
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
