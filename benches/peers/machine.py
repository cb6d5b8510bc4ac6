"""The machine that runs the benchmarks."""

import functools
import os
import pathlib
import platform
import subprocess

CORES = os.cpu_count()


@functools.cache
def _processor():
    """The fields of the first processor, as reported by the kernel."""
    fields = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def has_avx512():
    return "avx512f" in _processor().get("flags", "").split()


def instructions():
    return "AVX-512" if has_avx512() else "AVX2"


def need_here(need):
    """The network's required lead on this kind of machine."""
    return need.avx512 if has_avx512() else need.avx2


def description():
    """The processor and its operating system, in one line."""
    model = _processor().get("model name", platform.machine())
    try:
        lscpu = subprocess.run(["lscpu"], capture_output=True, text=True, timeout=10, check=True).stdout
        rows = (line.partition(":") for line in lscpu.splitlines())
        model = next((value.strip() for name, _, value in rows if name.strip() == "Model name"), model)
    except (OSError, subprocess.SubprocessError):
        pass  # the kernel's own name will do
    avx512 = "with" if has_avx512() else "without"
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{model}, {CORES} cores, {avx512} AVX-512, {kernel}"
