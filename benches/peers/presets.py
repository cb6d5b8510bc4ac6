"""The accuracy and time of the presets: jobs through the server, each with several seeds.

    cargo build --release
    python3 benches/peers/presets.py [--only NAME[,NAME]] [--seeds 5] [--python PYTHON] [--write]
    cargo build --release --examples
    python3 benches/peers/presets.py --data FOLDER [--only NAME[,NAME]] [--seeds 5] [--write]

Needs Python 3.11. With a PYTHON that can import torch it adds the time of PyTorch for the same recipe: the time of
a step, measured on one and two threads, times the number of steps. Prints a table of the mean accuracy and its
deviation on the test split, which no recipe was chosen on, and of the time of a whole job; `--write` puts it into
BENCHMARKS.md. With a FOLDER of Fashion-MNIST (pictures of clothes in the file format of MNIST, Debian package
`dataset-fashion-mnist`), it trains on those through the library. The machine should be otherwise idle.
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
from process import BenchError, environment, output_of
from results import say
from server import Server

PEERS = pathlib.Path(__file__).resolve().parent
ROOT = PEERS.parents[1]
BENCHMARKS = ROOT / "BENCHMARKS.md"
HEADER = ["preset", "seeds", "test accuracy, mean ± deviation", "range", "whole job, median"]
WITH_RELU = ["mlp", "cnn-fast", "cnn", "cnn-best"]
THEIRS = "PyTorch, its steps alone"
JOB_SECONDS = 3_600
PYTORCH_STEPS = 100


def pytorch_seconds(python, spec):
    """PyTorch's time for the steps of a recipe in seconds, at the faster number of threads."""
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


def measure(train, name, seeds):
    """A row of the table. `train` runs the job of a request and returns its result."""
    results = []
    for seed in range(1, seeds + 1):
        results.append(train({"network": name, "seed": seed, "model": "measured"}))
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


def check_names(wanted, known):
    if unknown := set(wanted or ()) - set(known):
        raise BenchError(f"no preset {', '.join(unknown)}: {', '.join(known)}")


def on_mnist(args):
    """The table of whole jobs through the server, with PyTorch for comparison."""
    with (
        tempfile.TemporaryDirectory(prefix="chainrule-bench-") as folder,
        Server(args.binary, os.path.join(folder, "data")) as server,
    ):
        specs = {}
        known = [network["name"] for network in server.json("GET", "/v1/networks")["networks"]]
        check_names(args.only, known)

        def train(request):
            job = server.wait_until(server.submit(request), ("succeeded",), JOB_SECONDS)
            specs[request["network"]] = job["spec"]
            return job["result"]

        rows = []
        for name in args.only or known:
            row = measure(train, name, args.seeds)
            theirs = f"{pytorch_seconds(args.python, specs[name]):.0f} s" if args.python else NONE
            rows.append([*row, theirs])
    return table([*HEADER, THEIRS], rows)


def on_clothes(args):
    """The table of presets trained on other images through the library."""
    example = args.binary.parent / "examples/own_data"
    check_names(args.only, WITH_RELU)

    def train(request):
        return json.loads(output_of([example, args.data, json.dumps(request)], JOB_SECONDS))

    return table(HEADER, [measure(train, name, args.seeds) for name in args.only or WITH_RELU])


def main():
    parser = argparse.ArgumentParser(description="What the presets reach.")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/chainrule")
    parser.add_argument("--only", metavar="NAME[,NAME]", type=lambda names: names.split(","), help="these presets")
    parser.add_argument("--data", metavar="FOLDER", type=pathlib.Path, help="the files of Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--python", help="one that can import torch")
    parser.add_argument("--write", action="store_true", help="put the table into BENCHMARKS.md")
    args = parser.parse_args()
    if args.data and args.python:
        parser.error("--data measures no PyTorch")
    place = "clothes" if args.data else "presets"
    try:
        if args.write:
            report.check_place(BENCHMARKS, place)
        rows = on_clothes(args) if args.data else on_mnist(args)
        text = f"{machine.description()}.\n\n{rows}"
        print(text)
        if args.write:
            report.write(BENCHMARKS, text, place)
    except (BenchError, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
