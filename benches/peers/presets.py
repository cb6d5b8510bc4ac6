"""What the presets reach: jobs through the server, each with several seeds.

    cargo build --release
    python3 benches/peers/presets.py [--only NAME[,NAME]] [--seeds 5] [--python PYTHON] [--write]

Needs Python 3.11; PYTHON, which can import torch, adds what PyTorch takes for the same recipe: that of one step, measured
on one and two threads, times its steps. Prints a table of the mean accuracy on the test split, which no recipe was chosen on, with its
deviation, and of the time of a whole job; `--write` puts it into BENCHMARKS.md. Nothing else should run meanwhile.
"""

import argparse
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the ones below would leave a __pycache__ in the checkout

import machine
import report
from figures import NONE, table
from process import BenchError, environment
from results import say
from server import Server

PEERS = pathlib.Path(__file__).resolve().parent
ROOT = PEERS.parents[1]
BENCHMARKS = ROOT / "BENCHMARKS.md"
JOB_SECONDS = 3_600
PYTORCH_STEPS = 100


def train(server, request):
    """A job at its end, as the API has it."""
    job_id = server.submit(request)
    return server.wait_until(job_id, ("succeeded",), JOB_SECONDS)


def pytorch_seconds(python, spec):
    """Seconds of PyTorch for the steps of a recipe, at the better number of threads."""
    seconds = []
    for threads in (1, 2):
        command = [python, PEERS / "recipe_peer.py", "--data", ROOT / "data/mnist"]
        command += ["--steps", str(PYTORCH_STEPS), "--threads", str(threads)]
        done = subprocess.run(
            command,
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            check=False,
            timeout=JOB_SECONDS,
            env=environment(),
        )
        if done.returncode != 0:
            raise BenchError(f"recipe_peer.py failed: {done.stderr[-2_000:]}")
        found = json.loads(done.stdout)
        seconds.append(found["step_seconds"] * found["steps"])
    return min(seconds)


def measure(server, name, seeds, python):
    results = []
    for seed in range(1, seeds + 1):
        job = train(server, {"network": name, "seed": seed, "model": "measured"})
        results.append(job["result"])
        say(f"{name}, seed {seed}: {results[-1]['test_accuracy']:.2%}")
    accuracies = [result["test_accuracy"] for result in results]
    seconds = [result["train_seconds"] for result in results]
    deviation = statistics.stdev(accuracies) if seeds > 1 else 0
    theirs = pytorch_seconds(python, job["spec"]) if python else None
    return [
        f"`{name}`",
        str(seeds),
        f"{statistics.mean(accuracies):.2%} ± {deviation:.2%}",
        f"{min(accuracies):.2%} – {max(accuracies):.2%}",
        f"{statistics.median(seconds):.1f} s",
        f"{theirs:.0f} s" if theirs else NONE,
    ]


def main():
    parser = argparse.ArgumentParser(description="What the presets reach.")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/chainrule")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these presets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--python", help="one that can import torch")
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
            rows = [measure(server, name, args.seeds, args.python) for name in wanted]
        header = ["preset", "seeds", "test accuracy, mean ± deviation", "range", "whole job, median", "PyTorch, its steps alone"]
        text = f"{machine.description()}.\n\n{table(header, rows)}"
        print(text)
        if args.write:
            report.write(BENCHMARKS, text, "presets")
    except (BenchError, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
