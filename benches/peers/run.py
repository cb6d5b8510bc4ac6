"""Compares chainrule with its rivals on this machine.

    cargo build --release --bins --examples
    cargo build --release --manifest-path benches/peers/rust/Cargo.toml
    python3 benches/peers/run.py --python PYTHON [--write]

Needs Python 3.11, and a PYTHON with torch. It measures more if that PYTHON also has jax, scikit-learn, onnxruntime
and onnx, and if the package in `rust` is built and `wrk` is installed (Debian package `wrk`). The report lists what
was left out. Builds nothing. The contenders take turns within each round, so that a drift of the machine affects all
of them. Prints the report; `--write` puts it into BENCHMARKS.md and the roofline into docs. The machine should be
otherwise idle.
"""

import argparse
import http.client
import os
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True  # the ones below would leave a __pycache__ in the checkout

import machine
import mnist
import ours
import report
import roofline
import serving
import standing
from networks import NETWORKS
from process import BenchError, output_of
from results import Results, say
from rivals import MNIST, THREADS, Rivals, on
from server import Server

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BENCHMARKS, ROOFLINE = ROOT / "BENCHMARKS.md", ROOT / "docs/roofline.svg"
BUSY_LOAD = 0.5


def measure_training(results, server, rivals, network, rounds):
    contenders = [("chainrule", lambda _: ours.train(server, network)), *rivals.training(network)]
    for turn in range(rounds):
        for contender, run in contenders:
            results.measure(network.name, contender, turn, run)


def measure_prediction(results, rivals, example, folder, rounds):
    """Measures chainrule and the others as libraries."""
    contenders = list(rivals.prediction(pathlib.Path(folder, "784-128-10.onnx")))
    if example.is_file():
        contenders[:0] = [(on("chainrule", threads), ours.predictions(example, threads)) for threads in THREADS]
    for turn in range(rounds):
        for contender, run in contenders:
            results.measure("prediction", contender, turn, run)


def measure(args, networks):
    """The results, and lines about what this machine lacks to measure more."""
    example = args.binary.parent / "examples/throughput"
    rivals = Rivals(args.python, args.rust)
    versions = {"chainrule": output_of([args.binary, "--version"], 10).split()[-1], **rivals.versions}
    missing = list(rivals.missing)
    if not example.is_file():
        missing.append("the peak, and predictions of chainrule: `examples/throughput.rs` is not built")
    if wrk := serving.wrk_version():
        versions["wrk"] = wrk
    else:
        missing.append("serving: there is no `wrk`")
    versions["Python"] = sys.version.split()[0]

    results = Results({"machine": machine.description(), "versions": versions}, args.results, args.resume)
    with tempfile.TemporaryDirectory(prefix="chainrule-bench-") as folder:
        with Server(args.binary, os.path.join(folder, "data")) as server:
            for turn in range(args.rounds if example.is_file() else 0):
                results.measure("peak", "chainrule", turn, lambda _: ours.throughput(example, "peak"))
            for network in networks:
                measure_training(results, server, rivals, network, args.rounds)
            if not args.only:
                measure_prediction(results, rivals, example, folder, args.rounds)
                serving.measure_starts(results, args.binary, folder)
            if not args.only and wrk:
                image = mnist.read(MNIST, "t10k")[0][: mnist.IMAGE_BYTES]
                serving.measure_serving(results, server, args.rounds, image, folder)
    return results, missing


def arguments():
    parser = argparse.ArgumentParser(description="Compares chainrule with its rivals on this machine.")
    parser.add_argument("--python", required=True, help="a Python that can import torch")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/chainrule")
    parser.add_argument("--rust", type=pathlib.Path, default=HERE / "rust/target/release/peers")
    parser.add_argument("--write", action="store_true", help="put the report into BENCHMARKS.md and docs")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="train these networks and measure nothing else")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=pathlib.Path, help="a file that takes each result as it comes")
    parser.add_argument("--resume", action="store_true", help="measure only what that file does not hold yet")
    args = parser.parse_args()
    args.only = args.only.split(",") if args.only else []
    if unknown := set(args.only) - {network.name for network in NETWORKS}:
        parser.error(f"no network {', '.join(unknown)}: {', '.join(network.name for network in NETWORKS)}")
    if args.only and args.write:
        parser.error("--write needs all networks")
    if args.resume and not args.results:
        parser.error("--resume needs --results")
    if args.rounds < 1:
        parser.error("--rounds needs at least 1")
    return args


def main():
    args = arguments()
    networks = [network for network in NETWORKS if not args.only or network.name in args.only]
    try:
        if not args.binary.is_file():
            raise BenchError(f"{args.binary} is missing: run `cargo build --release --bins --examples` first")
        if args.write:
            report.check_place(BENCHMARKS)
        if (load := os.getloadavg()[0]) > BUSY_LOAD:
            say(f"warning: the machine is busy (load {load:.1f}), which slows down the rivals' threads most")
        results, missing = measure(args, networks)
        text = report.make(results, networks, args.rounds, load, missing)
        print(text)
        if args.write:
            report.write(BENCHMARKS, text)
            if peak := standing.peak(results):
                standings = [standing.of(results, network) for network in networks]
                ROOFLINE.write_text(roofline.draw(standings, peak))
    except (BenchError, OSError, http.client.HTTPException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
