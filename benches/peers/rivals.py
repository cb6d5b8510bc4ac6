"""The rivals that this machine has. Each of them runs in its own process."""

import functools
import json
import os
import pathlib
import tomllib

from networks import MLP
from process import BenchError, output_of

HERE = pathlib.Path(__file__).resolve().parent
MNIST = HERE.parents[1] / "data/mnist"
THREADS = (1, 2)
RUN_SECONDS = 1_800
IMPORT_SECONDS = 300
# How many of PyTorch's variants are timed in the later rounds: the fastest of the first.
VARIANTS_KEPT = 2
MODULES = {
    "PyTorch": "torch",
    "JAX": "jax",
    "scikit-learn": "sklearn",
    "ONNX Runtime": "onnxruntime",
    "onnx": "onnx",
}
CRATES = {"candle": "candle-core", "burn": "burn", "tract": "tract-onnx"}


def on(library, threads):
    """The library of a contender: the part of its name before the comma."""
    return f"{library}, {threads} thread{'s' * (threads > 1)}"


class Rivals:
    """The libraries that can be measured, with their versions, and lines about those that can't."""

    def __init__(self, python, rust):
        self.python, self.rust = python, rust
        self.versions, self.missing = {}, []
        for library, module in MODULES.items():
            code = f"import {module}; print({module}.__version__)"
            try:
                self.versions[library] = output_of([python, "-c", code], IMPORT_SECONDS).strip()
            except BenchError:
                if library == "PyTorch":
                    raise
                self.missing.append(f"{library}: the given Python can't import `{module}`")
        if rust.is_file():
            lock = tomllib.loads((HERE / "rust/Cargo.lock").read_text())
            locked = {package["name"]: package["version"] for package in lock["package"]}
            self.versions |= {library: locked[crate] for library, crate in CRATES.items()}
        else:
            self.missing.append(f"{', '.join(CRATES)}: the package in `benches/peers/rust` is not built")
        if "onnx" not in self.versions:
            self.missing.append("predictions of ONNX Runtime and tract: no `onnx` to write their file")

    def training(self, network):
        """The contenders, and for each a function that runs it once, given its earlier runs."""
        trainers = {"PyTorch": self._pytorch}
        if network.is_plain:
            trainers["JAX"] = self._jax
        if network is MLP:
            trainers["scikit-learn"] = self._sklearn
            trainers |= {library: functools.partial(self._crate, library) for library in ("candle", "burn")}
        for library, trainer in trainers.items():
            for threads in THREADS if library in self.versions else ():
                yield on(library, threads), functools.partial(trainer, network, threads)

    def _pytorch(self, network, threads, earlier):
        command = ["pytorch.py", "--network", network.name, "--threads", threads]
        if earlier:
            rates = {name: run["images_per_second"] for name, run in earlier[0]["variants"].items()}
            command += ["--variants", *sorted(rates, key=rates.get, reverse=True)[:VARIANTS_KEPT]]
        return self._peer(*command)

    def _jax(self, network, threads, _):
        processors = sorted(os.sched_getaffinity(0))[:threads]
        pinned = ["taskset", "-c", ",".join(map(str, processors))]
        return self._peer("jax_peer.py", "--network", network.name, before=pinned)

    def _sklearn(self, _, threads, __):
        return self._peer("sklearn_peer.py", "--threads", threads)

    def _crate(self, library, network, threads, _):
        command = [self.rust, "train", library, "--data", MNIST]
        command += ["--steps", network.steps, "--passes", network.passes]
        return json.loads(output_of(command, RUN_SECONDS, RAYON_NUM_THREADS=str(threads)))

    def prediction(self, model):
        """The same for predictions of 784-128-10. Its ONNX file is written to `model`."""
        libraries = ["PyTorch"]
        if "onnx" in self.versions:
            output_of([self.python, HERE / "onnx_file.py", model], IMPORT_SECONDS)
            libraries += ["ONNX Runtime"] * ("ONNX Runtime" in self.versions)
        for library in libraries:
            for threads in THREADS:
                yield on(library, threads), functools.partial(self._predict, library, model, threads)
        if "onnx" in self.versions and "tract" in self.versions:
            yield on("tract", 1), functools.partial(self._tract, model)

    def _predict(self, library, model, threads, _):
        return self._peer("predict_peer.py", library, "--threads", threads, "--model", model)

    def _tract(self, model, _):
        return json.loads(output_of([self.rust, "predict", "--model", model, "--data", MNIST], RUN_SECONDS))

    def _peer(self, script, *options, before=()):
        command = [*before, self.python, HERE / script, *options, "--data", MNIST]
        return json.loads(output_of(command, RUN_SECONDS))
