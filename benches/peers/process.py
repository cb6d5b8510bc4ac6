"""Runs other programs."""

import os
import subprocess

# Prefixes of variables that change the behaviour of the programs. They are measured with their defaults.
SETTINGS = ("CHAINRULE_", "OMP_", "OPENBLAS_", "MKL_", "RAYON_", "XLA_", "JAX_", "TORCH", "BENCH_")


class BenchError(Exception):
    """An error that stops the benchmark, as one line for the user."""


def environment(**more):
    """The user's environment without the variables that affect the programs, and some more variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)} | more


def output_of(command, seconds, **variables):
    """Standard output of a command that must succeed."""
    command = list(map(str, command))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=environment(**variables)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
