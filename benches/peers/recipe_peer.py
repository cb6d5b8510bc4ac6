"""How long PyTorch takes for a whole recipe, given as the spec of a job.

    python3 benches/peers/recipe_peer.py --threads 2 --steps 200 --data data/mnist < spec.json

Needs torch. Prints one JSON line: the median time of a step in seconds over `steps` after a warm-up, for the faster
of the plain step and the one with the optimizer's fused kernel. Augmentation, dropout, label smoothing, schedule and
weight averaging are part of the step, as in the recipe.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.dont_write_bytecode = True  # the ones below would leave a __pycache__ in the checkout

from pytorch import augmented, build, read_split

WARM_UP = 20


def make_optimizer(rule, parameters, fused):
    common = {"lr": rule["learning_rate"], "weight_decay": rule["weight_decay"], "fused": fused}
    match rule["type"]:
        case "sgd":
            return torch.optim.SGD(parameters, **common)
        case "adam":
            return torch.optim.Adam(parameters, betas=rule["betas"], eps=rule["eps"], **common)
        case "adamw":
            return torch.optim.AdamW(parameters, betas=rule["betas"], eps=rule["eps"], **common)
        case other:
            raise ValueError(f"no preset has {other}")


def step_seconds(spec, train, steps, fused):
    torch.manual_seed(spec["seed"])
    images, labels = train
    model = build(spec["network"]["layers"])
    optimizer = make_optimizer(spec["optimizer"], model.parameters(), fused)
    total = math.ceil(len(images) * (1 - spec["validation_fraction"]) / spec["batch_size"]) * spec["epochs"]
    schedule = None
    if spec["schedule"]["type"] == "one_cycle":
        rate = spec["optimizer"]["learning_rate"]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=total)
    average = None
    if spec["ema_decay"] is not None:
        rule = torch.optim.swa_utils.get_ema_multi_avg_fn(spec["ema_decay"])
        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=rule)
    seconds = []
    for indices in torch.randperm(len(images)).split(spec["batch_size"])[: WARM_UP + steps]:
        begin = time.perf_counter()
        x = torch.index_select(images, 0, indices)
        y = torch.index_select(labels, 0, indices)
        if spec["augment"]:
            x = augmented(x, spec["augment"])
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y, label_smoothing=spec["label_smoothing"]).backward()
        optimizer.step()
        if schedule:
            schedule.step()
        if average:
            average.update_parameters(model)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM_UP:]), total


def main():
    parser = argparse.ArgumentParser(description="How long PyTorch takes for a recipe.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spec, train = json.load(sys.stdin), read_split(args.data, "train")
    if spec["loss"] != "cross_entropy" or spec["gradient_clip_norm"] is not None:
        raise ValueError("no preset has another loss, or clips gradients")
    seconds, total = min(step_seconds(spec, train, args.steps, fused) for fused in (False, True))
    print(json.dumps({"step_seconds": seconds, "steps": total}))


if __name__ == "__main__":
    main()
