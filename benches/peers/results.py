"""What has been measured, in memory and in a file."""

import json
import statistics
import sys
import time

from process import BenchError


def say(what):
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


class Results:
    """Runs by subject and contender, one a round; a subject is a network, or what else is compared.

    With a path each run is in the file once it has ended; with `resume` what the file holds is not run again.
    """

    def __init__(self, about, path=None, resume=False):
        self.about, self.path, self.runs = about, path, {}
        if resume and path.exists():
            kept = json.loads(path.read_text())
            if kept["about"] != about:
                raise BenchError(f"{path} holds results of something else: {kept['about']}, not {about}")
            self.runs = kept["runs"]

    def measure(self, subject, contender, turn, run):
        """Adds what `run` gives for the earlier runs, unless that of this round is there."""
        runs = self.runs.setdefault(subject, {}).setdefault(contender, [])
        if turn < len(runs):
            return
        say(f"{subject}: {contender}, round {turn + 1}")
        runs.append(run(runs))
        if self.path:
            self.path.write_text(json.dumps({"about": self.about, "runs": self.runs}, indent=1))

    def of(self, subject):
        """Runs by contender, those that were measured."""
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
