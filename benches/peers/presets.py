"""What the presets reach: jobs through the server, each with several seeds.

    cargo build --release
    python3 benches/peers/presets.py [--only NAME[,NAME]] [--seeds 5] [--write]

Needs Python 3.11. Prints a table of the mean accuracy on the test split, which no recipe was chosen on, with its
deviation, and of the time of a whole job; `--write` puts it into BENCHMARKS.md. Nothing else should run meanwhile.
"""

import argparse
import http.client
import os
import pathlib
import statistics
import sys
import tempfile

sys.dont_write_bytecode = True  # the ones below would leave a __pycache__ in the checkout

import machine
import report
from figures import table
from process import BenchError
from results import say
from server import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "BENCHMARKS.md"
JOB_SECONDS = 3_600


def train(server, request):
    """The result of a job, as the API has it."""
    job_id = server.submit(request)
    return server.wait_until(job_id, ("succeeded",), JOB_SECONDS)["result"]


def measure(server, name, seeds):
    results = []
    for seed in range(1, seeds + 1):
        results.append(train(server, {"network": name, "seed": seed, "model": "measured"}))
        say(f"{name}, seed {seed}: {results[-1]['test_accuracy']:.2%}")
    accuracies = [result["test_accuracy"] for result in results]
    seconds = [result["train_seconds"] for result in results]
    deviation = statistics.stdev(accuracies) if seeds > 1 else 0
    return [
        f"`{name}`",
        str(seeds),
        f"{statistics.mean(accuracies):.2%} ± {deviation:.2%}",
        f"{min(accuracies):.2%} – {max(accuracies):.2%}",
        f"{statistics.median(seconds):.1f} s",
    ]


def main():
    parser = argparse.ArgumentParser(description="What the presets reach.")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/chainrule")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these presets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into BENCHMARKS.md")
    args = parser.parse_args()
    try:
        if args.write:
            report.check_place(BENCHMARKS, "presets")
        with (
            tempfile.TemporaryDirectory(prefix="chainrule-bench-") as folder,
            Server(args.binary, os.path.join(folder, "data")) as server,
        ):
            known = [network["name"] for network in server.json("GET", "/v1/networks")["networks"]]
            wanted = args.only.split(",") if args.only else known
            if unknown := set(wanted) - set(known):
                raise BenchError(f"no preset {', '.join(unknown)}: {', '.join(known)}")
            rows = [measure(server, name, args.seeds) for name in wanted]
        header = ["preset", "seeds", "test accuracy, mean ± deviation", "range", "whole job, median"]
        text = f"{machine.description()}.\n\n{table(header, rows)}"
        print(text)
        if args.write:
            report.write(BENCHMARKS, text, "presets")
    except (BenchError, OSError, http.client.HTTPException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
