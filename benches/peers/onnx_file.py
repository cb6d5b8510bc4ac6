"""Writes 784-128-10 with random weights as ONNX, for the rivals that read such a file.

    python3 benches/peers/onnx_file.py 784-128-10.onnx

Needs onnx.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PIXELS, HIDDEN, CLASSES = 784, 128, 10
# Old enough for every current reader.
OPSET_VERSION, IR_VERSION = 17, 8


def weights():
    rng = np.random.default_rng(42)
    for number, (inputs, units) in enumerate([(PIXELS, HIDDEN), (HIDDEN, CLASSES)], start=1):
        bound = inputs**-0.5
        weight = rng.uniform(-bound, bound, (inputs, units)).astype(np.float32)
        yield numpy_helper.from_array(weight, f"weight_{number}")
        yield numpy_helper.from_array(np.zeros(units, np.float32), f"bias_{number}")


def model():
    nodes = [
        helper.make_node("Gemm", ["image", "weight_1", "bias_1"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "weight_2", "bias_2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    images = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", PIXELS])
    answers = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(nodes, "784-128-10", [images], [answers], list(weights()))
    opset = helper.make_opsetid("", OPSET_VERSION)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def main():
    [path] = map(pathlib.Path, sys.argv[1:])
    onnx.save(model(), path)


if __name__ == "__main__":
    main()
