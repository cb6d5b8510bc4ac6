"""How fast the server starts, and how fast it responds to `wrk`."""

import json
import os
import pathlib
import shutil
import subprocess

import ours
from networks import MLP
from process import BenchError, output_of
from server import Server

LUA = pathlib.Path(__file__).resolve().parent / "wrk.lua"
STARTS = 10
WRK_THREADS, WRK_CONNECTIONS, WRK_SECONDS = 2, 16, 5
# A job that runs longer than any measurement, and is then cancelled.
LONG_EPOCHS = 10_000
PREDICT, HEALTH = "/v1/models/digits/predict", "/healthz"


def wrk_version():
    """The version of `wrk`, or None if it is not installed."""
    if shutil.which("wrk") is None:
        return None
    # wrk prints its version and exits with 1.
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=10)
    return (done.stdout + done.stderr).split()[1]


def measure_starts(results, binary, folder):
    """Seconds from exec to ready, on new folders and on one that was used before."""

    def start_on(name):
        with Server(binary, os.path.join(folder, name)) as server:
            return server.start_seconds

    start_on("served")
    for turn in range(STARTS):
        results.measure("start-up", "new data folder", turn, lambda _, turn=turn: start_on(f"start-{turn}"))
        results.measure("start-up", "existing data folder", turn, lambda _: start_on("served"))


def wrk_once(server, path, body=None):
    """One run of wrk. A failed request makes the figures worthless."""
    command = ["wrk", f"-t{WRK_THREADS}", f"-c{WRK_CONNECTIONS}", f"-d{WRK_SECONDS}s"]
    command += ["--timeout", "10s", "-s", LUA, f"http://{server.address}{path}"]
    variables = {"BENCH_BODY": body} if body else {}
    result = json.loads(output_of(command, WRK_SECONDS + 60, **variables).splitlines()[-1])
    if result["failures"]:
        raise BenchError(f"{result['failures']} requests to {path} failed")
    return result


def measure_serving(results, server, rounds, image, folder):
    """Predictions and, as a reference, `/healthz`, in turns: first idle, then during a training job."""
    body = os.path.join(folder, "image")
    pathlib.Path(body).write_bytes(image)
    job_id = server.submit(ours.job_request(MLP, 1, "digits"))
    server.wait_until(job_id, ("succeeded",), ours.JOB_SECONDS)
    answer = server.json("POST", PREDICT, image, "application/octet-stream")
    if len(answer["predictions"]) != 1:
        raise BenchError(f"one image gave {len(answer['predictions'])} predictions")

    for load in ("idle", "training"):
        if load == "training":
            job_id = server.submit(ours.job_request(MLP, LONG_EPOCHS, "other"))
            server.wait_until(job_id, ("running",), ours.JOB_SECONDS)
        for turn in range(rounds):
            results.measure("serving", f"predict, {load}", turn, lambda _: wrk_once(server, PREDICT, body))
            results.measure("serving", f"healthz, {load}", turn, lambda _: wrk_once(server, HEALTH))
    # Fails if the job has ended, because then part of the measurement ran without it.
    server.cancel(job_id, ours.JOB_SECONDS)
