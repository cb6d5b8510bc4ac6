"""How fast JAX trains a network on the CPU, in code by a user who cares about speed.

    taskset -c 0,1 python3 benches/peers/jax_peer.py --network 784-128-10 --data data/mnist

Needs jax. Prints one JSON line. A pass is one `lax.scan` over its batches under `jit`. With convolutions it is
a loop over a step under `jit`, since a scan of these is many times slower on the CPU. MNIST is on the device as
float32 before the clock starts. The first pass, which compiles, is not timed. XLA uses as many threads as there
are processors. The optimizers are written out.
"""

import argparse
import functools
import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.dont_write_bytecode = True  # the two below would leave a __pycache__ in the checkout

import mnist
from networks import NETWORKS, SIDE_PIXELS, by_name

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def read_split(folder, split):
    images, labels = (np.frombuffer(part, dtype=np.uint8) for part in mnist.read(folder, split))
    pixels = jnp.asarray(images.reshape(-1, mnist.IMAGE_BYTES), jnp.float32) / 255
    return pixels, jnp.asarray(labels, jnp.int32)


def build(network):
    """Random weights with zero biases, layer by layer; channels come last."""
    draw = jax.nn.initializers.he_normal()
    keys = iter(jax.random.split(jax.random.key(42), len(network.layers)))
    parameters, channels, side = [], 1, SIDE_PIXELS
    for layer in network.layers:
        match layer["type"]:
            case "conv2d":
                kernel, filters = layer["kernel"], layer["filters"]
                shape = (kernel, kernel, channels, filters)
                channels, side = filters, side - kernel + 1
            case "max_pool2d":
                side //= layer["size"]
                continue
            case "dense":
                shape = (channels * side * side, layer["units"])
                channels, side = layer["units"], 1
            case _:
                continue
        parameters.append((draw(next(keys), shape), jnp.zeros(shape[-1])))
    return parameters


def scores(network, parameters, x):
    """The scores of the classes for images of 784 pixels in a row."""
    if network.has_convolutions:
        x = x.reshape(-1, SIDE_PIXELS, SIDE_PIXELS, 1)
    rest = iter(parameters)
    for layer in network.layers:
        match layer["type"]:
            case "conv2d":
                weight, bias = next(rest)
                dimensions = ("NHWC", "HWIO", "NHWC")
                x = lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=dimensions) + bias
            case "max_pool2d":
                # The windows don't overlap; `reduce_window` takes three times as long to go backward.
                rows, columns, size = x.shape[1], x.shape[2], layer["size"]
                windows = (-1, rows // size, size, columns // size, size, x.shape[3])
                x = x.reshape(windows).max(axis=(2, 4))
            case "dense":
                weight, bias = next(rest)
                x = x @ weight + bias
            case "relu":
                x = jax.nn.relu(x)
            case "flatten":
                x = x.reshape(len(x), -1)
    return x


def sgd(rate, parameters, gradients, state):
    return jax.tree.map(lambda w, g: w - rate * g, parameters, gradients), state


def adam(rate, parameters, gradients, state):
    """Kingma and Ba, *Adam*, 2015, algorithm 1."""
    step, first, second = state
    step += 1
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, second, gradients)
    first_scale, second_scale = 1 / (1 - BETA_1**step), 1 / (1 - BETA_2**step)

    def moved(w, m, v):
        return w - rate * (m * first_scale) / (jnp.sqrt(v * second_scale) + EPSILON)

    return jax.tree.map(moved, parameters, first, second), (step, first, second)


OPTIMIZERS = {"sgd": sgd, "adam": adam}


def pass_of(network):
    """A pass over the rows of `order`, a batch of indices each: new parameters and optimizer's state."""
    update = functools.partial(OPTIMIZERS[network.optimizer["type"]], network.optimizer["learning_rate"])

    def loss_of(parameters, x, y):
        chances = jax.nn.log_softmax(scores(network, parameters, x))
        return -jnp.take_along_axis(chances, y[:, None], axis=1).mean()

    def step(trained, images, labels, indices):
        parameters, state = trained
        gradients = jax.grad(loss_of)(parameters, images[indices], labels[indices])
        return update(parameters, gradients, state)

    def scanned(trained, images, labels, order):
        def scan_step(trained, indices):
            return step(trained, images, labels, indices), None

        return lax.scan(scan_step, trained, order)[0]

    def looped(trained, images, labels, order):
        for indices in order:
            trained = step(trained, images, labels, indices)
        return trained

    if network.has_convolutions:
        step = jax.jit(step, donate_argnames="trained")
        return looped
    return jax.jit(scanned, donate_argnames="trained")


def measure(train, test, network):
    """Images per second over the timed passes, and the accuracy that shows the network has learned."""
    rng = np.random.default_rng(42)
    train_pass = pass_of(network)
    parameters = build(network)
    first, second = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
    trained = (parameters, (jnp.zeros(()), first, second))

    def new_order():
        wanted = rng.permutation(len(train[0]))[: network.steps * network.batch_size]
        return wanted.reshape(-1, network.batch_size).astype(np.int32)

    trained = jax.block_until_ready(train_pass(trained, *train, new_order()))
    begin = time.perf_counter()
    for _ in range(network.passes):
        trained = train_pass(trained, *train, new_order())
    parameters, _ = jax.block_until_ready(trained)
    seconds = time.perf_counter() - begin
    images, labels = test
    accuracy = (scores(network, parameters, images).argmax(axis=1) == labels).mean().item()
    return {"images_per_second": network.rival_images / seconds, "test_accuracy": accuracy}


def main():
    plain = [network.name for network in NETWORKS if network.is_plain]
    parser = argparse.ArgumentParser(description="How fast JAX trains a network on the CPU.")
    parser.add_argument("--network", required=True, choices=plain)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    args = parser.parse_args()
    train, test = read_split(args.data, "train"), read_split(args.data, "t10k")
    print(json.dumps(measure(train, test, by_name(args.network))))


if __name__ == "__main__":
    main()
