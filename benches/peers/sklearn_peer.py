"""How fast scikit-learn trains 784-128-10 on the CPU.

    python3 benches/peers/sklearn_peer.py --threads 2 --data data/mnist

Needs scikit-learn. Prints one JSON line. Uses `MLPClassifier` with float32 images and plain gradient descent.
Times `fit`, after a `fit` of a single epoch.
"""

import argparse
import json
import pathlib
import sys
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

sys.dont_write_bytecode = True  # the two below would leave a __pycache__ in the checkout

import mnist
from networks import MLP


def read_split(folder, split):
    images, labels = (np.frombuffer(part, dtype=np.uint8) for part in mnist.read(folder, split))
    return images.reshape(-1, mnist.IMAGE_BYTES).astype(np.float32) / 255, labels


def classifier(epochs):
    return MLPClassifier(
        hidden_layer_sizes=(128,),
        solver="sgd",
        alpha=0,
        batch_size=MLP.batch_size,
        learning_rate_init=MLP.optimizer["learning_rate"],
        momentum=0,
        max_iter=epochs,
        n_iter_no_change=epochs + 1,
        random_state=42,
    )


def measure(train, test):
    """Images per second over the epochs, and the accuracy that shows the network has learned."""
    classifier(epochs=1).fit(*train)
    begin = time.perf_counter()
    fitted = classifier(MLP.passes).fit(*train)
    seconds = time.perf_counter() - begin
    return {"images_per_second": len(train[0]) * MLP.passes / seconds, "test_accuracy": fitted.score(*test)}


def main():
    parser = argparse.ArgumentParser(description="How fast scikit-learn trains 784-128-10 on the CPU.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to stop after a few epochs
    with threadpool_limits(args.threads):
        print(json.dumps(measure(read_split(args.data, "train"), read_split(args.data, "t10k"))))


if __name__ == "__main__":
    main()
