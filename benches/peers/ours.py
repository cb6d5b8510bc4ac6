"""chainrule's own measurements: jobs through the server, predictions and the machine's peak through an example."""

import json

from networks import TRAIN_IMAGES
from process import BenchError, output_of

JOB_SECONDS = 600
EXAMPLE_SECONDS = 300


def job_request(network, epochs, model):
    """A job whose only checkpoint is its last."""
    kept = {"every_epochs": epochs, "keep": 1}
    return network.request | {"model": model, "epochs": epochs, "checkpoint": kept}


def train(server, network):
    """Images per second of one whole job, from its epochs and from its result."""
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
    """The command that measures predictions on this number of threads."""
    return lambda _: throughput(example, "predict", threads)


def throughput(example, *what):
    """The output of `examples/throughput.rs`: `predict` gives images per second by batch size, `peak` the highest
    rate of a core and of the machine's memory."""
    return json.loads(output_of([example, *what], EXAMPLE_SECONDS))
