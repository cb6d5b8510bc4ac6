"""Figures as Markdown."""

import statistics

NONE = "–"


def table(header, rows):
    """A Markdown table: the first column is left-aligned, the figures are right-aligned."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values, form):
    """Median and range."""
    return f"{form(statistics.median(values))} ({form(min(values))} – {form(max(values))})"


def count(value):
    return f"{value:,.0f}"


def milliseconds(seconds):
    return f"{seconds * 1e3:.1f} ms"


def microseconds(value):
    return f"{value:,.0f} µs"


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}"
