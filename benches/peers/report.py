"""The figures as markdown, and their place in BENCHMARKS.md."""

import datetime
import os
import pathlib
import platform
import statistics
import subprocess

from server import BenchError

BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"


def table(header, rows):
    """A markdown table: the first column to the left, figures to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values, form):
    """Median, and the range it was taken from."""
    return f"{form(statistics.median(values))} ({form(min(values))} – {form(max(values))})"


def count(value):
    return f"{value:,.0f}"


def milliseconds(seconds):
    return f"{seconds * 1e3:.1f} ms"


def microseconds(value):
    return f"{value:,.0f} µs"


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}"


def machine():
    """The processor, in a line."""
    fields = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name", platform.machine())
    try:
        lscpu = subprocess.run(["lscpu"], capture_output=True, text=True, timeout=10, check=True).stdout
        rows = (line.partition(":") for line in lscpu.splitlines())
        model = next((value.strip() for name, _, value in rows if name.strip() == "Model name"), model)
    except (OSError, subprocess.SubprocessError):
        pass  # the kernel's own name will do
    avx512 = "with" if "avx512f" in fields.get("flags", "").split() else "without"
    return f"{model}, {os.cpu_count()} cores, {avx512} AVX-512, {platform.system()} {platform.release()}"


def today():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")


def check_place(path):
    """Fails where `write` would, before anything is measured."""
    try:
        text = path.read_text()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BenchError(f"{path} needs one {BEGIN} and, behind it, one {END}")
    return text


def write(path, report):
    """Puts the report between the two marks."""
    text = check_place(path)
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}")
