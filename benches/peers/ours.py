"""chainrule's own runs: jobs through the server, predictions and the machine's peak through an example."""

import json

from networks import TRAIN_IMAGES
from process import BenchError, output_of

JOB_SECONDS = 600
EXAMPLE_SECONDS = 300


def job_request(network, epochs, model):
    """A job whose one checkpoint is its last."""
    kept = {"every_epochs": epochs, "keep": 1}
    return network.request | {"model": model, "epochs": epochs, "checkpoint": kept}


def train(server, network):
    """Images per second of one whole job, by its epochs and by its result."""
    job_id = server.submit(job_request(network, network.epochs, "other"))
    job = server.wait_until(job_id, ("succeeded",), JOB_SECONDS)
    epochs = server.json("GET", f"/v1/jobs/{job_id}/metrics")["epochs"]
    steps = job["progress"]["steps"]
    if len(epochs) != network.epochs or steps != network.epochs * -(-TRAIN_IMAGES // network.batch_size):
        raise BenchError(f"job {job_id} took {len(epochs)} epochs and {steps} steps: not the job asked for")
    images = TRAIN_IMAGES * network.epochs
    return {
        "images_per_second": images / sum(epoch["duration_seconds"] for epoch in epochs),
        "by_result": images / job["result"]["train_seconds"],
        "test_accuracy": job["result"]["test_accuracy"],
    }


def predictions(example, threads):
    """What measures predictions on so many threads."""
    return lambda _: throughput(example, "predict", threads)


def throughput(example, *what):
    """What `examples/throughput.rs` says: of `predict` images per second by batch, of `peak` the most that a
    core computes and the machine's memory gives."""
    return json.loads(output_of([example, *what], EXAMPLE_SECONDS))
