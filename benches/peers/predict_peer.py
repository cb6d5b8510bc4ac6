"""How fast PyTorch and ONNX Runtime predict with 784-128-10 as libraries, on the CPU.

    python3 benches/peers/predict_peer.py PyTorch --threads 1 --data data/mnist
    python3 benches/peers/predict_peer.py "ONNX Runtime" --threads 1 --data data/mnist --model 784-128-10.onnx

Needs torch or onnxruntime. Prints one JSON line: images per second, one at a time and 256 at a time, from floats
in memory to probabilities. The weights are random, which does not affect the rate. The images are those of MNIST.
"""

import argparse
import functools
import json
import pathlib
import sys
import time

import numpy as np

sys.dont_write_bytecode = True  # the one below would leave a __pycache__ in the checkout

import mnist

HIDDEN, CLASSES = 128, 10
BATCHES = (1, 256)
WARM_UP_SECONDS, SECONDS = 0.2, 2

# Each library is imported only if it is asked for, since the other may be missing.


def with_pytorch(args):
    """A function from images to probabilities, and the images as PyTorch expects them."""
    import torch
    from torch import nn

    torch.set_num_threads(args.threads)
    modules = [nn.Linear(mnist.IMAGE_BYTES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES), nn.Softmax(dim=1)]
    network = nn.Sequential(*modules).eval()

    @torch.inference_mode()
    def predict(images):
        return network(images)

    return predict, torch.from_numpy


def with_onnxruntime(args):
    """The same for ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images}), lambda images: images


def calls_per_second(call, seconds):
    begin, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        call()
        calls += 1
    return calls / elapsed


def measure(predict, convert, folder):
    pixels = np.frombuffer(mnist.read(folder, "t10k")[0], dtype=np.uint8)
    images = pixels.reshape(-1, mnist.IMAGE_BYTES).astype(np.float32) / 255
    rates = {}
    for batch in BATCHES:
        call = functools.partial(predict, convert(images[:batch]))
        calls_per_second(call, WARM_UP_SECONDS)
        rates[str(batch)] = batch * calls_per_second(call, SECONDS)
    return {"images_per_second": rates}


LIBRARIES = {"PyTorch": with_pytorch, "ONNX Runtime": with_onnxruntime}


def main():
    parser = argparse.ArgumentParser(description="How fast libraries predict with 784-128-10 on the CPU.")
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    parser.add_argument("--model", type=pathlib.Path, help="the network as ONNX, for ONNX Runtime")
    args = parser.parse_args()
    predict, convert = LIBRARIES[args.library](args)
    print(json.dumps(measure(predict, convert, args.data)))


if __name__ == "__main__":
    main()
