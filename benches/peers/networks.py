"""The networks that are trained beside PyTorch, as requests for jobs."""

DENSE = [{"type": "relu"}, {"type": "dense", "units": 10}]
BLOCK = [{"type": "relu"}, {"type": "max_pool2d", "size": 2}]


def network(name, layers, batch_size, epochs, optimizer):
    return {
        "name": name,
        "epochs": epochs,
        "request": {
            "network": {"layers": layers},
            "optimizer": optimizer,
            "schedule": {"type": "constant"},
            "batch_size": batch_size,
            "validation_fraction": 0,
        },
    }


SGD, ADAM = {"type": "sgd", "learning_rate": 0.1}, {"type": "adam", "learning_rate": 0.001}

NETWORKS = [
    network("784-128-10", [{"type": "dense", "units": 128}, *DENSE], 100, 10, SGD),
    network("784-512-10", [{"type": "dense", "units": 512}, *DENSE], 128, 5, SGD),
    network(
        "conv 16@5, pool, conv 32@5, pool, 10",
        [
            {"type": "conv2d", "filters": 16, "kernel": 5},
            *BLOCK,
            {"type": "conv2d", "filters": 32, "kernel": 5},
            *BLOCK,
            {"type": "flatten"},
            {"type": "dense", "units": 10},
        ],
        128,
        1,
        ADAM,
    ),
]
