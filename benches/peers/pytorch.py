"""How fast PyTorch trains a network on the CPU, as a user who cares would write it.

    python3 benches/peers/pytorch.py --network 784-128-10 --threads 2 --data data/mnist

Needs torch. Prints one JSON line. MNIST lies in memory as float32 tensors before the clock starts, each
batch is one `index_select`, nothing is logged inside an epoch. Three ways of writing the step are
timed, each after one epoch of warm-up, and the fastest is the answer:

- `eager`: the step of the tutorials;
- `eager, fused optimizer`: the same with the fused kernel of the optimizer;
- `compiled, fused optimizer`: network and loss through `torch.compile` as well (needs a C++ compiler).
"""

import argparse
import gzip
import json
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

sys.dont_write_bytecode = True  # the one below would leave a __pycache__ in the checkout

from networks import NETWORKS

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
IMAGE_HEADER_BYTES, LABEL_HEADER_BYTES = 16, 8


def read_idx(path, header_bytes):
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())[header_bytes:]), dtype=torch.uint8)


def read_split(folder, split):
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz", IMAGE_HEADER_BYTES)
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz", LABEL_HEADER_BYTES)
    return images.view(-1, 784).float().div_(255), labels.long()


def build(layers):
    """The network of a request for 28 x 28 images."""
    is_image = any(layer["type"] == "conv2d" for layer in layers)
    modules, channels, side = [nn.Unflatten(1, (1, 28, 28))] if is_image else [], 1, 28
    for layer in layers:
        match layer["type"]:
            case "conv2d":
                modules.append(nn.Conv2d(channels, layer["filters"], layer["kernel"]))
                channels, side = layer["filters"], side - layer["kernel"] + 1
            case "max_pool2d":
                modules.append(nn.MaxPool2d(layer["size"]))
                side //= layer["size"]
            case "dense":
                modules.append(nn.Linear(channels * side * side, layer["units"]))
                channels, side = layer["units"], 1
            case "relu":
                modules.append(nn.ReLU())
            case "flatten":
                modules.append(nn.Flatten())
    return nn.Sequential(*modules)


def train_epoch(images, labels, batch_size, loss_of, optimizer):
    for indices in torch.randperm(len(images)).split(batch_size):
        x = torch.index_select(images, 0, indices)
        y = torch.index_select(labels, 0, indices)
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimizer.step()


def measure(train, test, job, fused, compiled):
    """Images per second over `epochs`, and the accuracy that shows the network has learned."""
    torch.manual_seed(42)
    request, epochs = job["request"], job["epochs"]
    network = build(request["network"]["layers"])
    rule = request["optimizer"]
    optimizer = OPTIMIZERS[rule["type"]](network.parameters(), lr=rule["learning_rate"], fused=fused)

    def loss_of(x, y):
        return F.cross_entropy(network(x), y)

    if compiled:
        loss_of = torch.compile(loss_of, fullgraph=True, dynamic=False)
    train_epoch(*train, request["batch_size"], loss_of, optimizer)
    begin = time.perf_counter()
    for _ in range(epochs):
        train_epoch(*train, request["batch_size"], loss_of, optimizer)
    seconds = time.perf_counter() - begin
    images, labels = test
    with torch.inference_mode():
        accuracy = (network(images).argmax(dim=1) == labels).float().mean().item()
    return {"images_per_second": len(train[0]) * epochs / seconds, "test_accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser(description="How fast PyTorch trains a network on the CPU.")
    parser.add_argument("--network", required=True, choices=[job["name"] for job in NETWORKS])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    job = next(job for job in NETWORKS if job["name"] == args.network)
    train, test = read_split(args.data, "train"), read_split(args.data, "t10k")
    variants = {
        "eager": {"fused": False, "compiled": False},
        "eager, fused optimizer": {"fused": True, "compiled": False},
        "compiled, fused optimizer": {"fused": True, "compiled": True},
    }
    results = {}
    for name, options in variants.items():
        try:
            results[name] = measure(train, test, job, **options)
        except Exception as error:  # torch.compile fails in many ways where there is no compiler
            if not options["compiled"]:
                raise
            print(f"torch.compile does not work here: {error}", file=sys.stderr)
    best = max(results, key=lambda name: results[name]["images_per_second"])
    answer = {"torch": torch.__version__, "threads": args.threads, "variant": best}
    print(json.dumps(answer | results[best] | {"variants": results}))


if __name__ == "__main__":
    main()
