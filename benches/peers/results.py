"""The measured results, in memory and in a file."""

import json
import statistics
import sys
import time

from process import BenchError


def say(what):
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


class Results:
    """Runs by subject and contender, one per round. A subject is a network, or another thing that is compared.

    With a path, each run is saved to the file when it ends. With `resume`, runs in the file are not repeated.
    """

    def __init__(self, about, path=None, resume=False):
        self.about, self.path, self.runs = about, path, {}
        if resume and path.exists():
            kept = json.loads(path.read_text())
            if kept["about"] != about:
                raise BenchError(f"{path} holds results of something else: {kept['about']}, not {about}")
            self.runs = kept["runs"]

    def measure(self, subject, contender, turn, run):
        """Adds the result of `run`, unless this round has a result already. `run` gets the earlier runs."""
        runs = self.runs.setdefault(subject, {}).setdefault(contender, [])
        if turn < len(runs):
            return
        say(f"{subject}: {contender}, round {turn + 1}")
        runs.append(run(runs))
        if self.path:
            self.path.write_text(json.dumps({"about": self.about, "runs": self.runs}, indent=1))

    def of(self, subject):
        """The measured runs by contender."""
        return self.runs.get(subject, {})

    def best(self, subject, family):
        """The highest median of images per second among a library's contenders, or None."""
        rates = [
            median(runs, "images_per_second")
            for contender, runs in self.of(subject).items()
            if contender.partition(",")[0] == family
        ]
        return max(rates, default=None)


def median(runs, name):
    return statistics.median(run[name] for run in runs)
