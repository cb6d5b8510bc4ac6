"""The results as the generated part of BENCHMARKS.md."""

import datetime
import statistics

import machine
import serving
import standing
from figures import NONE, count, microseconds, milliseconds, ratio, spread, table
from networks import TRAIN_IMAGES
from process import BenchError
from results import median

PREDICTION_NEED = 2
SHAPES = {
    "conv2d": "conv {filters}@{kernel}",
    "max_pool2d": "max-pool {size}",
    "dense": "{units}",
    "batch_norm": "batch-norm",
    "relu": "relu",
    "flatten": "flatten",
}


def opening(results, rounds, load, missing):
    versions = ", ".join(f"{name} {version}" for name, version in results.about["versions"].items())
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    yield (
        f"Measured {today} by `benches/peers/run.py`: {versions}; {results.about['machine']}, load {load:.1f} "
        f"at the start. Figures are medians of {rounds} interleaved rounds, with the smallest and the largest in "
        "brackets."
    )
    if missing:
        yield "\n".join(f"- not measured: {line}" for line in missing)


def summary(standings, peak):
    def cells(lead):
        return [
            count(lead.best) if lead.best else NONE,
            f"{lead.ratio:.2f}" if lead.ratio else NONE,
            f"{lead.needed:.1f}" if lead.needed else NONE,
        ]

    rows = [
        [
            one.network.name,
            count(one.rate),
            *cells(one.pytorch),
            *cells(one.jax),
            one.verdict,
            f"{one.flops / peak.flops:.0%}" if peak else NONE,
        ]
        for one in standings
    ]
    rivals = ["best PyTorch", "× PyTorch", "needed", "best JAX", "× JAX", "needed"]
    yield table(["network", "chainrule, images/s", *rivals, "met", "of peak"], rows)
    yield (
        "Training on MNIST with cross-entropy. The time of chainrule is the sum of its epochs; a rival runs with its "
        f"best number of threads. `needed` is the lead that we require on a machine with {machine.instructions()}."
    )
    if peak:
        yield (
            f"Peak: {peak.flops / 1e9:,.0f} GFLOP/s, the measured rate of multiply-adds on {machine.CORES} cores. "
            "`of peak` counts the operations of the dense mathematics, forward and backward, without the "
            "gradient of the first layer's input. Code that skips products with zero can exceed the peak."
        )
        yield "![roofline](docs/roofline.svg)"
        yield (
            "Bytes are the least that a step must move: its images as float32, and the weights and the optimizer's "
            "moments read and written once. Networks with equal intensity are drawn side by side."
        )


def training(results, network):
    layers = ", ".join(SHAPES[layer["type"]].format(**layer) for layer in network.layers)
    rule = network.optimizer
    changes = ", ".join(f"{name} {limit}" for name, limit in (network.augment or {}).items())
    yield (
        f"**{network.name}**: {layers}; {rule['type']} {rule['learning_rate']}, batch {network.batch_size}"
        f"{'; augmentation: ' * bool(changes)}{changes}. Trained: {network.epochs * TRAIN_IMAGES:,} images by "
        f"chainrule, {network.rival_images:,} by a rival."
    )
    runs_of = results.of(network.name)
    own, best = runs_of["chainrule"], results.best(network.name, "PyTorch")
    lines = [("chainrule, sum of the epochs", "images_per_second", own)]
    lines += [("chainrule, `result.train_seconds`", "by_result", own)]
    for contender, runs in runs_of.items():
        if contender != "chainrule":
            variants = " / ".join(sorted({run["variant"] for run in runs if "variant" in run}))
            lines.append((contender + f" ({variants})" * bool(variants), "images_per_second", runs))
    rows = [
        [
            name,
            spread([run[rate] for run in runs], count),
            ratio(median(runs, rate), best),
            f"{median(runs, 'test_accuracy'):.2%}",
        ]
        for name, rate, runs in lines
    ]
    yield table(["training", "images/s", "of the best PyTorch", "test accuracy"], rows)


def prediction(results):
    yield (
        "Predictions of 784-128-10 as a library call, from floats in memory to probabilities."
    )
    rows, own, rivals = [], [], []
    for contender, runs in results.of("prediction").items():
        rates = [[run["images_per_second"][batch] for run in runs] for batch in ("1", "256")]
        rows.append([contender, *(spread(values, count) for values in rates)])
        side = own if contender.startswith("chainrule") else rivals
        side.append([statistics.median(values) for values in rates])
    yield table(["prediction", "one at a time, images/s", "256 at a time, images/s"], rows)
    if own and rivals:
        one, many = (ratio(max(ours), max(theirs)) for ours, theirs in zip(zip(*own), zip(*rivals)))
        yield f"{one} times the best rival one at a time, {many} times 256 at a time; needed: {PREDICTION_NEED:.1f}."


def start_up(results):
    yield f"From exec to the first 200 of `/readyz`, {serving.STARTS} starts each."
    rows = [[name, spread(runs, milliseconds)] for name, runs in results.of("start-up").items()]
    yield table(["start-up", "time"], rows)


def server(results):
    runs_of = results.of("serving")
    yield (
        f"`wrk` with {serving.WRK_THREADS} threads and {serving.WRK_CONNECTIONS} connections for "
        f"{serving.WRK_SECONDS} s on the same machine; a prediction is one image of 784 bytes. `GET /healthz` "
        "with the same settings is the reference."
    )
    rows = []
    for contender, runs in runs_of.items():
        yardstick = runs_of[contender.replace("predict", "healthz")]
        rows.append([
            contender,
            spread([run["requests_per_second"] for run in runs], count),
            spread([run["median"] for run in runs], microseconds),
            spread([run["percentile_99"] for run in runs], microseconds),
            ratio(median(runs, "requests_per_second"), median(yardstick, "requests_per_second")),
        ])
    yield table(["serving", "requests/s", "median", "99th percentile", "of healthz"], rows)


def make(results, networks, rounds, load, missing):
    """All sections. Those without measurements are left out."""
    standings = [standing.of(results, network) for network in networks]
    parts = [*opening(results, rounds, load, missing), *summary(standings, standing.peak(results))]
    for network in networks:
        parts += training(results, network)
    for subject, section in (("prediction", prediction), ("start-up", start_up), ("serving", server)):
        if results.of(subject):
            parts += section(results)
    return "\n\n".join(parts)


def marks(name):
    """The marks around a generated part of BENCHMARKS.md."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def check_place(path, name="measured"):
    """Fails if `write` would fail, before anything is measured."""
    begin, end = marks(name)
    try:
        text = path.read_text()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from error
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise BenchError(f"{path} needs one {begin} and, after it, one {end}")
    return text


def write(path, report, name="measured"):
    """Puts the report between its two marks."""
    begin, end = marks(name)
    text = check_place(path, name)
    before, after = text.partition(begin)[0], text.partition(end)[2]
    path.write_text(f"{before}{begin}\n{report}\n{end}{after}")
