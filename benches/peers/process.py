"""Other programs, run to their end."""

import os
import subprocess

# Beginnings of variables that change what the programs do; what is measured is what they do by themselves.
SETTINGS = ("CHAINRULE_", "OMP_", "OPENBLAS_", "MKL_", "RAYON_", "XLA_", "JAX_", "TORCH", "BENCH_")


class BenchError(Exception):
    """What stops the benchmark, in a line for the user."""


def environment(**more):
    """The user's environment without settings of what is measured, and a few more variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)} | more


def output_of(command, seconds, **variables):
    """Standard output of a command that has to succeed."""
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
