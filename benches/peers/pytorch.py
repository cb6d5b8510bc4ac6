"""How fast PyTorch trains a network on the CPU, in code by a user who cares about speed.

    python3 benches/peers/pytorch.py --network 784-128-10 --threads 2 --data data/mnist

Needs torch. Prints one JSON line. MNIST is in memory as float32 tensors before the clock starts. Each batch is one
`index_select`, and one affine map of the whole batch if the network uses augmentation. Nothing is logged within a
pass. The step is written in three ways. Each is timed after a warm-up pass, and the fastest is the result:

- `eager`: the step of the tutorials;
- `fused`: the same with the fused kernel of the optimizer;
- `compiled`: network and loss through `torch.compile` as well (needs a C++ compiler).
"""

import argparse
import json
import math
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

sys.dont_write_bytecode = True  # the two below would leave a __pycache__ in the checkout

import mnist
from networks import NETWORKS, SIDE_PIXELS, by_name

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
VARIANTS = ("eager", "fused", "compiled")


def read_split(folder, split):
    parts = mnist.read(folder, split)
    images, labels = (torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in parts)
    return images.view(-1, mnist.IMAGE_BYTES).float().div_(255), labels.long()


def build(layers):
    """The network of a request for images of 784 pixels in a row."""
    has_convolutions = any(layer["type"] == "conv2d" for layer in layers)
    modules = [nn.Unflatten(1, (1, SIDE_PIXELS, SIDE_PIXELS))] if has_convolutions else []
    channels, side = 1, SIDE_PIXELS
    for layer in layers:
        match layer["type"]:
            case "conv2d":
                padding = layer.get("padding", "valid")
                modules.append(nn.Conv2d(channels, layer["filters"], layer["kernel"], padding=padding))
                channels, side = layer["filters"], side - (layer["kernel"] - 1 if padding == "valid" else 0)
            case "max_pool2d":
                modules.append(nn.MaxPool2d(layer["size"]))
                side //= layer["size"]
            case "dense":
                modules.append(nn.Linear(channels * side * side, layer["units"]))
                channels, side = layer["units"], 1
            case "batch_norm":
                modules.append(nn.BatchNorm2d(channels) if side > 1 else nn.BatchNorm1d(channels))
            case "dropout":
                modules.append(nn.Dropout(layer["rate"]))
            case "flatten":
                modules.append(nn.Flatten())
            case activation:
                modules.append(ACTIVATIONS[activation]())
    return nn.Sequential(*modules)


def augmented(images, ranges):
    """The images, each rotated, sheared, scaled and shifted by random amounts within the ranges of a request."""

    def within(limit):
        return torch.empty(len(images)).uniform_(-limit, limit)

    angle, slant = within(math.radians(ranges["rotate_degrees"])), within(ranges["shear"])
    zoom = 1 + within(ranges["scale"])
    sin, cos = angle.sin() / zoom, angle.cos() / zoom
    # `affine_grid` uses coordinates from -1 to 1.
    shift = ranges["shift_pixels"] * 2 / SIDE_PIXELS
    across, down = within(shift), within(shift)
    rows = [cos + sin * slant, sin - cos * slant, across, -sin, cos, down]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    pictures = images.view(-1, 1, SIDE_PIXELS, SIDE_PIXELS)
    grid = F.affine_grid(theta, pictures.shape, align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False).flatten(1)


def train_pass(images, labels, network, loss_of, optimizer):
    """`steps` full batches in a new order."""
    wanted = torch.randperm(len(images))[: network.steps * network.batch_size]
    for indices in wanted.split(network.batch_size):
        x = torch.index_select(images, 0, indices)
        y = torch.index_select(labels, 0, indices)
        if network.augment:
            x = augmented(x, network.augment)
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimizer.step()


def measure(train, test, network, variant):
    """Images per second over the timed passes, and the accuracy that shows the network has learned."""
    torch.manual_seed(42)
    model = build(network.layers)
    rule = network.optimizer
    fused = variant != "eager"
    optimizer = OPTIMIZERS[rule["type"]](model.parameters(), lr=rule["learning_rate"], fused=fused)

    def loss_of(x, y):
        return F.cross_entropy(model(x), y)

    if variant == "compiled":
        loss_of = torch.compile(loss_of, fullgraph=True, dynamic=False)
    train_pass(*train, network, loss_of, optimizer)
    begin = time.perf_counter()
    for _ in range(network.passes):
        train_pass(*train, network, loss_of, optimizer)
    seconds = time.perf_counter() - begin
    images, labels = test
    model.eval()
    with torch.inference_mode():
        accuracy = (model(images).argmax(dim=1) == labels).float().mean().item()
    return {"images_per_second": network.rival_images / seconds, "test_accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser(description="How fast PyTorch trains a network on the CPU.")
    parser.add_argument("--network", required=True, choices=[network.name for network in NETWORKS])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    train, test = read_split(args.data, "train"), read_split(args.data, "t10k")
    results = {}
    for variant in args.variants:
        try:
            results[variant] = measure(train, test, by_name(args.network), variant)
        except Exception as error:  # torch.compile fails in many ways without a compiler
            if variant != "compiled":
                raise
            print(f"torch.compile does not work here: {error}", file=sys.stderr)
    best = max(results, key=lambda variant: results[variant]["images_per_second"])
    print(json.dumps({"variant": best} | results[best] | {"variants": results}))


if __name__ == "__main__":
    main()
