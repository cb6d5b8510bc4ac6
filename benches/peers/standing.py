"""chainrule compared with the best of its rivals."""

import dataclasses

import machine
from networks import Network
from results import median


@dataclasses.dataclass(frozen=True)
class Peak:
    """The peak of the machine: FLOP/s on all cores, bytes/s of its memory."""

    flops: float
    bandwidth: float


@dataclasses.dataclass(frozen=True)
class Lead:
    """Over one rival: its images/s, or None if it was not measured; the required ratio, or None."""

    best: float | None
    ratio: float | None
    needed: float | None

    @property
    def verdict(self):
        """Whether the lead is as large as required; None if none is."""
        if self.needed is None:
            return None
        if self.ratio is None:
            return "not measured"
        return "yes" if self.ratio >= self.needed else "no"


@dataclasses.dataclass(frozen=True)
class Standing:
    """On one network: chainrule's images/s, and its lead over each rival."""

    network: Network
    rate: float
    pytorch: Lead
    jax: Lead

    @property
    def verdict(self):
        """Whether every required lead is met."""
        verdicts = {self.pytorch.verdict, self.jax.verdict} - {None}
        return next(verdict for verdict in ("no", "not measured", "yes") if verdict in verdicts)

    @property
    def flops(self):
        """Operations per second of the dense mathematics."""
        return self.rate * self.network.flop_per_image()

    @property
    def pytorch_flops(self):
        return self.pytorch.best * self.network.flop_per_image()

    @property
    def intensity(self):
        """Operations per byte of traffic."""
        return self.network.flop_per_image() / self.network.bytes_per_image()


def of(results, network):
    rate = median(results.of(network.name)["chainrule"], "images_per_second")

    def lead(library, need):
        best = results.best(network.name, library)
        return Lead(best, best and rate / best, need and machine.need_here(need))

    return Standing(network, rate, lead("PyTorch", network.pytorch), lead("JAX", network.jax))


def peak(results):
    """The best of the rounds, since every disturbance makes them slower; or None."""
    if not (runs := results.of("peak").get("chainrule")):
        return None
    core = max(run["gflops_per_core"] for run in runs)
    return Peak(core * 1e9 * machine.CORES, max(run["gbytes_per_second"] for run in runs) * 1e9)
