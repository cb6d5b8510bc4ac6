"""chainrule beside its peers, on this machine.

    cargo build --release
    python3 benches/peers/run.py --python PATH_TO_A_PYTHON_WITH_TORCH [--write]

Needs Python 3.11 and `wrk` (Debian package `wrk`). Builds nothing: measures `target/release/chainrule`.
What is compared takes turns within each round, so that a drift of the machine meets both. Prints the
report; `--write` puts it into BENCHMARKS.md as well. Nothing else should run meanwhile.
"""

import argparse
import gzip
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # the two below would leave a __pycache__ in the checkout

import report
from networks import NETWORKS
from server import BenchError, Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "benches/peers"
MNIST = ROOT / "data/mnist"
BENCHMARKS = ROOT / "BENCHMARKS.md"

ROUNDS = 5
STARTS = 10
TRAIN_IMAGES = 60_000
TORCH_THREADS = (1, 2)
WRK_THREADS, WRK_CONNECTIONS, WRK_SECONDS = 2, 16, 5
JOB_SECONDS = 600
TORCH_SECONDS = 1_800
# Longer than any measurement beside it; it is cancelled then.
LONG_EPOCHS = 10_000
PREDICT, HEALTH = "/v1/models/digits/predict", "/healthz"
IMAGE_BYTES = 784
IDX_HEADER_BYTES = 16


def job_request(network, epochs):
    """The job that PyTorch is given too; its one checkpoint is the last. `digits`, which is predicted
    with, is the first network."""
    model = "digits" if network is NETWORKS[0] else "other"
    kept = {"every_epochs": epochs, "keep": 1}
    return network["request"] | {"model": model, "epochs": epochs, "checkpoint": kept}


def output_of(command, seconds, environment=None):
    """Standard output of a command that has to succeed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def train_once(server, network):
    """Images per second of one whole job, by its epochs and by its result."""
    wanted = network["epochs"]
    job_id = server.submit(job_request(network, wanted))
    job = server.wait_until(job_id, ("succeeded",), JOB_SECONDS)
    epochs = server.json("GET", f"/v1/jobs/{job_id}/metrics")["epochs"]
    steps = job["progress"]["steps"]
    if len(epochs) != wanted or steps != wanted * -(-TRAIN_IMAGES // network["request"]["batch_size"]):
        raise BenchError(f"job {job_id} took {len(epochs)} epochs and {steps} steps: not the job asked for")
    images = TRAIN_IMAGES * wanted
    return {
        "by_epochs": images / sum(epoch["duration_seconds"] for epoch in epochs),
        "by_result": images / job["result"]["train_seconds"],
        "test_accuracy": job["result"]["test_accuracy"],
    }


def train_torch_once(python, network, threads):
    command = [python, str(HERE / "pytorch.py"), "--network", network["name"]]
    command += ["--threads", str(threads), "--data", str(MNIST)]
    return json.loads(output_of(command, TORCH_SECONDS))


def measure_training(server, network, python):
    ours, torch = [], {threads: [] for threads in TORCH_THREADS}
    for turn in range(ROUNDS):
        say(f"{network['name']}, round {turn + 1} of {ROUNDS}")
        ours.append(train_once(server, network))
        for threads in TORCH_THREADS:
            torch[threads].append(train_torch_once(python, network, threads))
    return ours, torch


def measure_starts(binary, folder):
    """Seconds from exec to ready, on new folders and on one that was served before."""
    say("start-up")
    new, existing = [], []
    served = os.path.join(folder, "start-0")
    for turn in range(STARTS):
        with Server(binary, os.path.join(folder, f"start-{turn}")) as server:
            new.append(server.start_seconds)
        with Server(binary, served) as server:
            existing.append(server.start_seconds)
    return new, existing


def wrk_once(server, path, body=None):
    """One run of wrk; a failed request makes the figures worthless."""
    environment = {k: v for k, v in os.environ.items() if k != "BENCH_BODY"}
    if body:
        environment["BENCH_BODY"] = body
    command = ["wrk", f"-t{WRK_THREADS}", f"-c{WRK_CONNECTIONS}", f"-d{WRK_SECONDS}s"]
    command += ["--timeout", "10s", "-s", str(HERE / "wrk.lua"), f"http://{server.address}{path}"]
    result = json.loads(output_of(command, WRK_SECONDS + 60, environment).splitlines()[-1])
    if result["failures"]:
        raise BenchError(f"{result['failures']} requests to {path} failed")
    return result


def measure_serving(server, body):
    """Predictions and the yardstick `/healthz`, in turns: idle, then beside a training job."""
    image = pathlib.Path(body).read_bytes()
    answer = server.json("POST", PREDICT, image, "application/octet-stream")
    if len(answer["predictions"]) != 1:
        raise BenchError(f"one image gave {len(answer['predictions'])} predictions")
    results = {}
    for load in ("idle", "training"):
        results[load] = {"predict": [], "healthz": []}
        job_id = None
        if load == "training":
            job_id = server.submit(job_request(NETWORKS[0], LONG_EPOCHS))
            server.wait_until(job_id, ("running",), JOB_SECONDS)
        for turn in range(ROUNDS):
            say(f"serving while {load}, round {turn + 1} of {ROUNDS}")
            results[load]["predict"].append(wrk_once(server, PREDICT, body))
            results[load]["healthz"].append(wrk_once(server, HEALTH))
        if job_id:
            # Fails where the job has ended early: then it was no load to the end.
            server.cancel(job_id, JOB_SECONDS)
    return results


def training_section(ours, torch):
    rows = [
        ("chainrule, sum of the epochs", "by_epochs", ours),
        ("chainrule, `result.train_seconds`", "by_result", ours),
    ]
    for threads, runs in torch.items():
        variants = " / ".join(sorted({run["variant"] for run in runs}))
        rows.append((f"PyTorch, threads: {threads} ({variants})", "images_per_second", runs))
    best = max(median(runs, "images_per_second") for runs in torch.values())
    cells = [
        [
            name,
            report.spread([run[rate] for run in runs], report.count),
            report.ratio(median(runs, rate), best),
            f"{median(runs, 'test_accuracy'):.2%}",
        ]
        for name, rate, runs in rows
    ]
    return report.table(["training", "images/s", "of the best PyTorch", "test accuracy"], cells)


def serving_section(results):
    cells = []
    for load, runs_of in results.items():
        yardstick = median(runs_of["healthz"], "requests_per_second")
        for path, runs in runs_of.items():
            cells.append([
                f"{path}, {load}",
                report.spread([run["requests_per_second"] for run in runs], report.count),
                report.spread([run["median"] for run in runs], report.microseconds),
                report.spread([run["percentile_99"] for run in runs], report.microseconds),
                report.ratio(median(runs, "requests_per_second"), yardstick),
            ])
    return report.table(["serving", "requests/s", "median", "99th percentile", "of healthz"], cells)


def median(runs, name):
    return statistics.median(run[name] for run in runs)


def training_sections(trained):
    for network, ours, torch in trained:
        request = network["request"]
        rule = request["optimizer"]
        yield (
            f"{network['name']}; {rule['type']} {rule['learning_rate']}, batch {request['batch_size']}, "
            f"epochs: {network['epochs']}."
        )
        yield training_section(ours, torch)


def make_report(binary, load, starts, trained, serving):
    new, existing = starts
    start_cells = [
        ["new data folder", report.spread(new, report.milliseconds)],
        ["existing data folder", report.spread(existing, report.milliseconds)],
    ]
    version = output_of([binary, "--version"], 10).strip()
    torch_version = trained[0][2][TORCH_THREADS[0]][0]["torch"]
    return "\n\n".join([
        f"Measured {report.today()} by `benches/peers/run.py`: {version}, PyTorch {torch_version}, "
        f"{wrk_version()}, Python {sys.version.split()[0]}; {report.machine()}, load {load:.1f} at the start. "
        "Figures are medians, with the smallest and the largest in brackets.",
        f"Training on MNIST ({TRAIN_IMAGES:,} images), relu and cross-entropy; {ROUNDS} rounds in turns. "
        "chainrule: a whole job through the server, on all cores. PyTorch: after an epoch of warm-up, the "
        "fastest of eager, fused optimizer and `torch.compile` in each run.",
        *training_sections(trained),
        f"From exec to the first 200 of `/readyz`, {STARTS} starts each.",
        report.table(["start-up", "time"], start_cells),
        f"`wrk` with {WRK_THREADS} threads and {WRK_CONNECTIONS} connections for {WRK_SECONDS} s on the "
        f"same machine, {ROUNDS} rounds in turns; a prediction is one image of {IMAGE_BYTES} bytes. "
        "`GET /healthz` with the same settings is the yardstick.",
        serving_section(serving),
    ])


def wrk_version():
    # wrk ends with 1 after telling its version.
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=10)
    return " ".join((done.stdout + done.stderr).split()[:2])


def say(what):
    print(f"[{time.strftime('%H:%M:%S')}] {what}", file=sys.stderr, flush=True)


def measure(args):
    if not args.binary.is_file():
        raise BenchError(f"{args.binary} is missing: run `cargo build --release` first")
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing: install the Debian package `wrk`")
    if args.write:
        report.check_place(BENCHMARKS)
    output_of([args.python, "-c", "import torch"], 300)
    if (load := os.getloadavg()[0]) > 0.5:
        say(f"warning: the machine is busy (load {load:.1f}), PyTorch's threads above all suffer from that")

    binary = str(args.binary.resolve())
    with tempfile.TemporaryDirectory(prefix="chainrule-bench-") as folder:
        image = gzip.decompress((MNIST / "t10k-images-idx3-ubyte.gz").read_bytes())
        body = os.path.join(folder, "image")
        pathlib.Path(body).write_bytes(image[IDX_HEADER_BYTES : IDX_HEADER_BYTES + IMAGE_BYTES])
        starts = measure_starts(binary, folder)
        with Server(binary, os.path.join(folder, "data")) as server:
            trained = [(network, *measure_training(server, network, args.python)) for network in NETWORKS]
            serving = measure_serving(server, body)
    return make_report(binary, load, starts, trained, serving)


def main():
    parser = argparse.ArgumentParser(description="chainrule beside its peers, on this machine.")
    parser.add_argument("--python", required=True, help="a Python that can import torch")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/chainrule")
    parser.add_argument("--write", action="store_true", help="put the report into BENCHMARKS.md")
    args = parser.parse_args()
    try:
        text = measure(args)
        print(text)
        if args.write:
            report.write(BENCHMARKS, text)
    except (BenchError, OSError, http.client.HTTPException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
