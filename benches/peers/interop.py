"""Checks the ONNX files of a server: `onnx.checker` accepts them, and ONNX Runtime and tract read all 10,000 test digits
like the server.

    python3 benches/peers/interop.py --binary target/release/chainrule [--tract benches/peers/rust/target/release/peers]

Trains every preset and some random networks for a short time, and exports each of them. Needs onnx, onnxruntime and numpy.
"""

import argparse
import pathlib
import random
import sys
import tempfile

import mnist
import numpy as np
import onnx
import onnxruntime
from process import BenchError, output_of
from server import Server

HERE = pathlib.Path(__file__).resolve().parent
MNIST = HERE.parents[1] / "data/mnist"
PRESETS = ("lesson", "mlp", "cnn-fast", "cnn", "cnn-best")
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "sigmoid", "tanh")
ALLOWED = 1e-5
JOB_SECONDS, TRACT_SECONDS = 600, 600
SHORT = {"epochs": 1, "train_samples": 2_000, "validation_fraction": 0, "seed": 1}


def random_network(numbers):
    """Layers that fit each other. Over a few networks, every kind of layer and of padding occurs."""
    layers, side = [], 28
    for _ in range(numbers.randint(1, 3)):
        kernel, stride = numbers.randint(1, 5), numbers.choice((1, 1, 2, 3))
        padding = numbers.choice(("valid", "same"))
        if side < 8:
            break
        side = -(-side // stride) if padding == "same" else (side - kernel) // stride + 1
        filters = numbers.randint(2, 12)
        layers.append({"type": "conv2d", "filters": filters, "kernel": kernel, "padding": padding, "stride": stride})
        if numbers.random() < 0.5:
            layers.append({"type": "batch_norm"})
        layers.append({"type": numbers.choice(ACTIVATIONS)})
        if side >= 4 and numbers.random() < 0.7:
            size = numbers.randint(2, 3)
            layers.append({"type": numbers.choice(("max_pool2d", "avg_pool2d")), "size": size})
            side //= size
    if numbers.random() < 0.6:
        layers.append({"type": "flatten"})
    if numbers.random() < 0.7:
        layers += [{"type": "dense", "units": numbers.randint(4, 40)}, {"type": numbers.choice(ACTIVATIONS)}]
        layers += [{"type": "dropout", "rate": 0.3}] * (numbers.random() < 0.5)
    return {"layers": [*layers, {"type": "dense", "units": 10}]}


def of_server(server, name, images):
    answer = server.json("POST", f"/v1/models/{name}/predict", images, "application/octet-stream")
    return np.array([row["probabilities"] for row in answer["predictions"]])


def of_onnx_runtime(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
    probabilities, labels = session.run(["probabilities", "label"], {"image": pixels})
    if not (labels == probabilities.argmax(axis=1)).all():
        raise BenchError(f"{path}: labels are not those of the largest probabilities")
    return probabilities


def of_tract(tract, path, out):
    output_of([tract, "probabilities", "--model", path, "--data", MNIST, "--out", out], TRACT_SECONDS)
    return np.fromfile(out, np.float32).reshape(-1, 10)


def check(server, name, request, images, tract, folder):
    """The largest difference of a probability for each program, and how many labels differ."""
    job = server.submit({**SHORT, **request, "model": name})
    server.wait_until(job, ("succeeded",), JOB_SECONDS)
    status, file = server.ask("GET", f"/v1/models/{name}/export?format=onnx")
    if status != 200:
        raise BenchError(f"export of {name} answered {status}: {file.decode(errors='replace')}")
    path = folder / f"{name}.onnx"
    path.write_bytes(file)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    ours = of_server(server, name, images)
    answers = {"ONNX Runtime": of_onnx_runtime(path, images)}
    if tract:
        answers["tract"] = of_tract(tract, path, folder / "probabilities")
    figures = {}
    for program, theirs in answers.items():
        apart = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
        figures[program] = float(np.abs(ours - theirs).max()), apart
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the program `chainrule`")
    parser.add_argument("--tract", type=pathlib.Path, help="the program of benches/peers/rust")
    parser.add_argument("--networks", type=int, default=30, help="random networks to check")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed)
    requests = {f"preset-{preset}": {"network": preset} for preset in PRESETS}
    requests |= {f"random-{index}": {"network": random_network(numbers)} for index in range(arguments.networks)}
    images, _ = mnist.read(MNIST, "t10k")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Server(arguments.binary, folder / "data") as server:
            for name, request in requests.items():
                figures = check(server, name, request, images, arguments.tract, folder)
                is_good = all(most <= ALLOWED and apart == 0 for most, apart in figures.values())
                failed += not is_good
                shown = "; ".join(
                    f"{program} {most:.1e}, {apart} labels differ" for program, (most, apart) in figures.items()
                )
                layers = request["network"]
                if not isinstance(layers, str):
                    layers = " ".join(layer["type"] for layer in layers["layers"])
                print(f"{'ok  ' if is_good else 'FAIL'} {name}: {shown} ({layers})", flush=True)
    print(f"{len(requests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"interop.py: {error}")
