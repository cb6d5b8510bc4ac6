"""How fast PyTorch trains 784-128-10 on the CPU, as a user who cares would write it.

    python3 benches/peers/pytorch.py --threads 2 --epochs 10 --data data/mnist

Needs torch. Prints one JSON line. MNIST lies in memory as float32 tensors before the clock starts, each
batch is one `index_select`, nothing is logged inside an epoch. Three ways of writing the step are
timed, each after one epoch of warm-up, and the fastest is the answer:

- `eager`: the step of the tutorials;
- `eager, fused optimizer`: the same with the fused kernel of `torch.optim.SGD`;
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

BATCH_SIZE = 100
LEARNING_RATE = 0.1
IMAGE_HEADER_BYTES, LABEL_HEADER_BYTES = 16, 8


def read_idx(path, header_bytes):
    return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())[header_bytes:]), dtype=torch.uint8)


def read_split(folder, split):
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz", IMAGE_HEADER_BYTES)
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz", LABEL_HEADER_BYTES)
    return images.view(-1, 784).float().div_(255), labels.long()


def train_epoch(images, labels, loss_of, optimizer):
    for indices in torch.randperm(len(images)).split(BATCH_SIZE):
        x = torch.index_select(images, 0, indices)
        y = torch.index_select(labels, 0, indices)
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimizer.step()


def measure(train, test, epochs, fused, compiled):
    """Images per second over `epochs`, and the accuracy that shows the network has learned."""
    torch.manual_seed(42)
    network = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, fused=fused)

    def loss_of(x, y):
        return F.cross_entropy(network(x), y)

    if compiled:
        loss_of = torch.compile(loss_of, fullgraph=True, dynamic=False)
    train_epoch(*train, loss_of, optimizer)
    begin = time.perf_counter()
    for _ in range(epochs):
        train_epoch(*train, loss_of, optimizer)
    seconds = time.perf_counter() - begin
    images, labels = test
    with torch.inference_mode():
        accuracy = (network(images).argmax(dim=1) == labels).float().mean().item()
    return {"images_per_second": len(train[0]) * epochs / seconds, "test_accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser(description="How fast PyTorch trains 784-128-10 on the CPU.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    train, test = read_split(args.data, "train"), read_split(args.data, "t10k")
    variants = {
        "eager": {"fused": False, "compiled": False},
        "eager, fused optimizer": {"fused": True, "compiled": False},
        "compiled, fused optimizer": {"fused": True, "compiled": True},
    }
    results = {}
    for name, options in variants.items():
        try:
            results[name] = measure(train, test, args.epochs, **options)
        except Exception as error:  # torch.compile fails in many ways where there is no compiler
            if not options["compiled"]:
                raise
            print(f"torch.compile does not work here: {error}", file=sys.stderr)
    best = max(results, key=lambda name: results[name]["images_per_second"])
    answer = {"torch": torch.__version__, "threads": args.threads, "epochs": args.epochs, "variant": best}
    print(json.dumps(answer | results[best] | {"variants": results}))


if __name__ == "__main__":
    main()
