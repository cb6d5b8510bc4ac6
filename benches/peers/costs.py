"""What jobs cost: several in parallel, a busy neighbour, more samples, more parameters, memory.

    cargo build --release --bins --examples
    python3 benches/peers/costs.py [--write]

Needs Python 3.11, Linux and 8 GB of memory. Prints the tables; `--write` puts them into BENCHMARKS.md. The machine
should be otherwise idle.
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
import time

sys.dont_write_bytecode = True  # the ones below would leave a __pycache__ in the checkout

import machine
import report
from figures import count, table
from process import BenchError, environment
from server import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "BENCHMARKS.md"
JOB_SECONDS, MEMORY_SECONDS = 600, 600
ROUNDS = 5
TRAIN_IMAGES, PIXELS, CLASSES = 60_000, 784, 10
JOBS_AT_ONCE = 4
SAMPLES = (3_750, 7_500, 15_000, 30_000, 60_000)
UNITS = (64, 128, 256, 512, 1_024)
IMAGES_OF_A_SIZE = 240_000


def job(units=128, samples=TRAIN_IMAGES, epochs=6):
    """A job in which only the training counts."""
    layers = [{"type": "dense", "units": units}, {"type": "relu"}, {"type": "dense", "units": CLASSES}]
    return {
        "network": {"layers": layers},
        "optimizer": {"type": "sgd", "learning_rate": 0.1},
        "schedule": {"type": "constant"},
        "batch_size": 100,
        "epochs": epochs,
        "validation_fraction": 0,
        "train_samples": samples,
    }


def rate(server, requests, images):
    """Images per second of all jobs together, from the first request to the last result."""
    begin = time.monotonic()
    ids = [server.submit(request) for request in requests]
    for job_id in ids:
        server.wait_until(job_id, ("succeeded",), JOB_SECONDS)
    return images * len(ids) / (time.monotonic() - begin)


def epochs_seconds(server, request):
    """Total time of the epochs of a job, in seconds."""
    job_id = server.submit(request)
    server.wait_until(job_id, ("succeeded",), JOB_SECONDS)
    epochs = server.json("GET", f"/v1/jobs/{job_id}/metrics")["epochs"]
    return sum(epoch["duration_seconds"] for epoch in epochs)


def several(server, server_of_many):
    """`server` gives a job all cores, `server_of_many` divides them by the number of parallel jobs."""
    alone, together = [], []
    images = 6 * TRAIN_IMAGES
    for _ in range(ROUNDS):
        alone.append(rate(server, [job()], images))
        together.append(rate(server_of_many, [job()] * JOBS_AT_ONCE, images))
    pairs = [both / one for one, both in zip(alone, together, strict=True)]
    return (
        f"One job at a time trains {count(statistics.median(alone))} images/s. {JOBS_AT_ONCE} jobs in parallel "
        f"train {count(statistics.median(together))} images/s together: {statistics.median(pairs):.0%} of that, the "
        f"median of {ROUNDS} pairs ({min(pairs):.0%} – {max(pairs):.0%}). Times are from request to result."
    )


def beside_a_neighbour(server, server_of_one):
    """`server` trains on two threads while another process uses a core, `server_of_one` on one thread without it."""
    pairs = []
    images = 6 * TRAIN_IMAGES
    for _ in range(ROUNDS):
        alone = rate(server_of_one, [job()], images)
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
            try:
                pairs.append(rate(server, [job()], images) / alone)
            finally:
                neighbour.kill()
    return (
        f"Next to a process that uses up one of two cores, two threads train {statistics.median(pairs):.2f} times as fast "
        f"as one thread alone on the machine, the median of {ROUNDS} pairs ({min(pairs):.2f} – {max(pairs):.2f})."
    )


def sizes(server):
    by_samples = {size: [] for size in SAMPLES}
    by_units = {units: [] for units in UNITS}
    for _ in range(ROUNDS):
        for samples, seconds in by_samples.items():
            epochs = IMAGES_OF_A_SIZE // samples
            seconds.append(epochs_seconds(server, job(samples=samples, epochs=epochs)) / epochs)
        for units, seconds in by_units.items():
            seconds.append(epochs_seconds(server, job(units=units, epochs=2)) / 2)
    rows = []
    for samples, seconds in by_samples.items():
        second = statistics.median(seconds)
        rows.append([count(samples), f"{second * 1e3:.1f} ms", f"{second / samples * 1e6:.2f} µs"])
    yield table(["samples, 784-128-10", "an epoch", "a sample"], rows)
    rows = []
    for units, seconds in by_units.items():
        second = statistics.median(seconds)
        parameters = (PIXELS + 1) * units + (units + 1) * CLASSES
        each = second / TRAIN_IMAGES / parameters
        rows.append([f"784-{units}-10", count(parameters), f"{second * 1e3:.0f} ms", f"{each * 1e12:.1f} ps"])
    yield table(["network", "parameters", "an epoch", "a parameter and sample"], rows)


def default_job(binary, folder):
    with Server(binary, folder) as server:
        server.wait_until(server.submit({}), ("succeeded",), JOB_SECONDS)
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return f"Peak memory of the server, including the default job: {int(line.split()[1]) * 1024 / 1e6:.0f} MB."


def many_images():
    command = [ROOT / "target/release/examples/throughput", "memory"]
    done = subprocess.run(command, capture_output=True, timeout=MEMORY_SECONDS, env=environment(), check=False)
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
    found = json.loads(done.stdout)
    grown = found["bytes_most"] - found["bytes_before"]
    return (
        f"MNIST repeated a hundred times, through the library ({count(found['images'])} images, "
        f"{found['data_bytes'] / 1e9:.2f} GB): an epoch of `mlp` takes {grown / 1e6:.0f} MB at its peak in addition to "
        f"the data, {grown / found['data_bytes']:.1%} of its size, at {count(found['images_per_second'])} images/s."
    )


def main():
    parser = argparse.ArgumentParser(description="What jobs cost.")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/chainrule")
    parser.add_argument("--write", action="store_true", help="put the tables into BENCHMARKS.md")
    args = parser.parse_args()
    try:
        if args.write:
            report.check_place(BENCHMARKS, "costs")
        with tempfile.TemporaryDirectory(prefix="chainrule-bench-") as folder:
            workers, one_thread = ("--workers", str(JOBS_AT_ONCE)), ("--threads", "1")
            with (
                Server(args.binary, os.path.join(folder, "one")) as server,
                Server(args.binary, os.path.join(folder, "many"), *workers) as server_of_many,
                Server(args.binary, os.path.join(folder, "slow"), *one_thread) as server_of_one,
            ):
                parts = [several(server, server_of_many), beside_a_neighbour(server, server_of_one), *sizes(server)]
            parts += [default_job(args.binary, os.path.join(folder, "default")), many_images()]
        text = "\n\n".join([f"{machine.description()}.", *parts])
        print(text)
        if args.write:
            report.write(BENCHMARKS, text, "costs")
    except (BenchError, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
