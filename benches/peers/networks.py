"""The networks that chainrule and its rivals train, as requests for jobs, and the cost of a step of each."""

import dataclasses

TRAIN_IMAGES, SIDE_PIXELS, CLASSES = 60_000, 28, 10
FLOAT_BYTES = 4
# Numbers that a step reads and writes for each weight: the weight itself, and the optimizer's moments.
NUMBERS_PER_WEIGHT = {"sgd": 2, "adam": 6}


@dataclasses.dataclass(frozen=True)
class Need:
    """The required lead over the best rival, as a ratio, by the machine's instruction set."""

    avx2: float
    avx512: float

    def but(self, share):
        """The same, lowered by a fraction."""
        return Need(self.avx2 * (1 - share), self.avx512 * (1 - share))


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, the amount of training, and the lead required of chainrule.

    chainrule trains whole epochs. A rival makes a warm-up pass and `passes` timed ones. Each has `steps` full
    batches in a new order, so that a slow rival takes seconds and not minutes.
    """

    name: str
    request: dict
    epochs: int
    steps: int
    passes: int
    pytorch: Need
    jax: Need | None = None

    @property
    def layers(self):
        return self.request["network"]["layers"]

    @property
    def batch_size(self):
        return self.request["batch_size"]

    @property
    def optimizer(self):
        return self.request["optimizer"]

    @property
    def augment(self):
        """The ranges of the random changes to an image, or None."""
        return self.request.get("augment")

    @property
    def has_convolutions(self):
        return any(layer["type"] == "conv2d" for layer in self.layers)

    @property
    def is_plain(self):
        """Whether the network has neither batch-norm nor augmentation."""
        return self.augment is None and NORM not in self.layers

    @property
    def rival_images(self):
        """The number of images that a rival trains while its clock runs."""
        return self.steps * self.passes * self.batch_size

    def weights_and_places(self):
        """For each dense layer and convolution: weights without biases, and how often each is used."""
        channels, side = 1, SIDE_PIXELS
        for layer in self.layers:
            match layer["type"]:
                case "conv2d":
                    side -= layer["kernel"] - 1
                    yield channels * layer["filters"] * layer["kernel"] ** 2, side**2
                    channels = layer["filters"]
                case "max_pool2d":
                    side //= layer["size"]
                case "dense":
                    yield channels * side**2 * layer["units"], 1
                    channels, side = layer["units"], 1

    def flop_per_image(self):
        """Operations of a training step's dense mathematics. For each use of a weight these are a multiplication and
        an addition in the forward pass, as many for the weight's gradient, and as many for the input's, which the
        first layer does not need."""
        first, *others = (2 * weights * places for weights, places in self.weights_and_places())
        return 2 * first + 3 * sum(others)

    def bytes_per_image(self):
        """The least traffic of a training step in bytes per image: the image as float32, and its share of the
        weights and moments, which are read and written once per step."""
        weights = sum(weights for weights, _ in self.weights_and_places())
        numbers = weights * NUMBERS_PER_WEIGHT[self.optimizer["type"]]
        return FLOAT_BYTES * (SIDE_PIXELS**2 + numbers / self.batch_size)


SGD, ADAM = {"type": "sgd", "learning_rate": 0.1}, {"type": "adam", "learning_rate": 0.001}
RELU, NORM, FLATTEN = {"type": "relu"}, {"type": "batch_norm"}, {"type": "flatten"}
POOL = {"type": "max_pool2d", "size": 2}
AUGMENT = {"shift_pixels": 2, "rotate_degrees": 10, "scale": 0.1, "shear": 0.1}


def dense(*units):
    """Hidden dense layers, each with relu, and the output layer."""
    hidden = [part for count in units for part in ({"type": "dense", "units": count}, RELU)]
    return [*hidden, {"type": "dense", "units": CLASSES}]


def conv(filters, *norm):
    """A convolution and everything up to the next one."""
    return [{"type": "conv2d", "filters": filters, "kernel": 5}, *norm, RELU, POOL]


def request(layers, batch_size, optimizer, **more):
    return {
        "network": {"layers": layers},
        "optimizer": optimizer,
        "schedule": {"type": "constant"},
        "batch_size": batch_size,
        "validation_fraction": 0,
    } | more


MLP = Network(
    name="784-128-10",
    request=request(dense(128), 100, SGD),
    epochs=20, steps=600, passes=5,
    pytorch=Need(avx2=6, avx512=6), jax=Need(avx2=2.5, avx512=4),
)
CNN = Network(
    name="conv16-conv32-10",
    request=request([*conv(16), *conv(32), FLATTEN, *dense()], 128, ADAM),
    epochs=2, steps=50, passes=4,
    pytorch=Need(avx2=5, avx512=5.5),
)
# The fraction of the lead that a variant of a network may lose.
VARIANT = 0.2

NETWORKS = [
    MLP,
    Network(
        name="784-512-10",
        request=request(dense(512), 128, SGD),
        epochs=5, steps=468, passes=2,
        pytorch=Need(avx2=3.5, avx512=3.5), jax=Need(avx2=2, avx512=2.8),
    ),
    Network(
        name="784-512-512-10",
        request=request(dense(512, 512), 128, SGD),
        epochs=3, steps=200, passes=3,
        pytorch=Need(avx2=2.2, avx512=1.8),
    ),
    CNN,
    Network(
        name="conv8-conv16-64-10",
        request=request([*conv(8), *conv(16), FLATTEN, *dense(64)], 128, ADAM),
        epochs=2, steps=60, passes=4,
        pytorch=Need(avx2=4, avx512=4.5),
    ),
    Network(
        name="784-128-10 adam",
        request=request(dense(128), 100, ADAM),
        epochs=10, steps=600, passes=3,
        pytorch=MLP.pytorch.but(VARIANT), jax=MLP.jax.but(VARIANT),
    ),
    Network(
        name="784-128-10 augment",
        request=request(dense(128), 100, SGD, augment=AUGMENT),
        epochs=3, steps=300, passes=4,
        pytorch=MLP.pytorch.but(VARIANT),
    ),
    Network(
        name="conv16-conv32-10 batch-norm",
        request=request([*conv(16, NORM), *conv(32, NORM), FLATTEN, *dense()], 128, ADAM),
        epochs=1, steps=40, passes=4,
        pytorch=CNN.pytorch.but(VARIANT),
    ),
]


def by_name(name):
    return next(network for network in NETWORKS if network.name == name)
