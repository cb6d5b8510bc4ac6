"""The roofline of the machine and the networks below it, as SVG.

Williams, Waterman, Patterson, *Roofline: An Insightful Visual Performance Model*, 2009.
"""

import collections
import math
from xml.sax.saxutils import escape

import machine

# Pixels of the picture.
WIDTH, HEIGHT = 960, 610
LEFT, TOP, RIGHT, BOTTOM = 80, 92, 830, 440
RADIUS, BETWEEN = 10, 24
LEGEND_TOP, LEGEND_LINE, LEGEND_COLUMNS, LEGEND_COLUMN = 516, 22, 2, 420
OURS, THEIRS, INK, GRID, CARD = "#1a5fb4", "#6b7280", "#1f2328", "#e5e7eb", "#ffffff"


def ticks(low, high):
    """1, 2, 5, 10, … from below `low` to above `high`."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    series = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    first = max(value for value in series if value <= low)
    last = min(value for value in series if value >= high)
    return [value for value in series if first <= value <= last]


class Scale:
    """Maps figures to pixels, logarithmically."""

    def __init__(self, low, high, begin, end):
        self.ticks = ticks(low, high)
        self.low, self.begin = math.log10(self.ticks[0]), begin
        self.per_decade = (end - begin) / (math.log10(self.ticks[-1]) - self.low)

    def __call__(self, value):
        return self.begin + (math.log10(value) - self.low) * self.per_decade


def line(x1, y1, x2, y2, colour, width=1, **more):
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{attributes}/>'


def text(x, y, words, anchor="start", size=13, colour=INK, turn=None):
    turned = f' transform="rotate({turn:.1f} {x:.1f} {y:.1f})"' if turn is not None else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}{turned}>{escape(words)}</text>"


def mark(x, y, number, filled):
    """A point: the number of a network in a circle."""
    fill, stroke, digit = (OURS, OURS, CARD) if filled else (CARD, THEIRS, INK)
    paint = f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"'
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" {paint}/>'
    return circle + text(x, y + 4, str(number), "middle", 12, digit)


def axes(x_scale, y_scale):
    for value in x_scale.ticks:
        x = x_scale(value)
        yield line(x, TOP, x, BOTTOM, GRID)
        yield text(x, BOTTOM + 20, f"{value:g}", "middle")
    for value in y_scale.ticks:
        y = y_scale(value)
        yield line(LEFT, y, RIGHT, y, GRID)
        yield text(LEFT - 10, y + 4, f"{value:g}", "end")
    words = "FLOP of a dense training step for each byte that it has to move"
    yield text((LEFT + RIGHT) / 2, BOTTOM + 44, words, "middle")
    yield text(28, (TOP + BOTTOM) / 2, "GFLOP/s of the dense mathematics", "middle", turn=-90)


def roof(x_scale, y_scale, gflops, gbytes_per_second):
    """The limit of the memory up to the ridge, and from there the limits of one core and of all cores."""
    first_x, last_x = x_scale.ticks[0], x_scale.ticks[-1]
    lowest = max(first_x, y_scale.ticks[0] / gbytes_per_second)
    ridge = gflops / gbytes_per_second
    yield line(x_scale(lowest), y_scale(lowest * gbytes_per_second), x_scale(ridge), y_scale(gflops), INK, 2)
    yield line(x_scale(ridge), y_scale(gflops), x_scale(last_x), y_scale(gflops), INK, 2)
    yield text(RIGHT + 8, y_scale(gflops) - 2, f"{machine.CORES} cores")
    yield text(RIGHT + 8, y_scale(gflops) + 14, f"{gflops:,.0f} GFLOP/s")
    core = gflops / machine.CORES
    core_ridge = max(first_x, core / gbytes_per_second)
    yield line(x_scale(core_ridge), y_scale(core), x_scale(last_x), y_scale(core), INK, stroke_dasharray="5 4")
    yield text(RIGHT + 8, y_scale(core) - 2, "1 core")
    yield text(RIGHT + 8, y_scale(core) + 14, f"{core:,.0f} GFLOP/s")
    middle = math.sqrt(lowest * ridge)
    angle = -math.degrees(math.atan2(-(y_scale(10) - y_scale(1)), x_scale(10) - x_scale(1)))
    x, y = x_scale(middle), y_scale(middle * gbytes_per_second)
    yield text(x - 8, y - 8, f"memory {gbytes_per_second:,.0f} GB/s", "middle", turn=angle)


def points(x_scale, y_scale, standings):
    """Our point and the rival's below it on the same line. Points of equal intensity are drawn side by side."""
    beside = collections.defaultdict(list)
    for number, standing in enumerate(standings, start=1):
        beside[standing.intensity].append((number, standing))
    for intensity, group in beside.items():
        for place, (number, standing) in enumerate(group):
            x = x_scale(intensity) + (place - (len(group) - 1) / 2) * BETWEEN
            ours, theirs = y_scale(standing.flops / 1e9), y_scale(standing.pytorch_flops / 1e9)
            yield line(x, ours, x, theirs, THEIRS)
            yield mark(x, theirs, number, filled=False) + mark(x, ours, number, filled=True)


def legend(standings):
    rows = -(-len(standings) // LEGEND_COLUMNS)
    for index, standing in enumerate(standings):
        x = LEFT + index // rows * LEGEND_COLUMN
        y = LEGEND_TOP + index % rows * LEGEND_LINE
        yield text(x, y, f"{index + 1}", "end") + text(x + 12, y, standing.network.name)
        yield text(x + 265, y, f"{standing.flops / 1e9:,.0f}", "end", colour=OURS)
        yield text(x + 305, y, f"{standing.pytorch_flops / 1e9:,.0f}", "end", colour=THEIRS)
        yield text(x + 313, y, "GFLOP/s")


def draw(standings, peak):
    """The picture of the networks below the machine's peak."""
    gflops, gbytes_per_second = peak.flops / 1e9, peak.bandwidth / 1e9
    values = [flops / 1e9 for standing in standings for flops in (standing.flops, standing.pytorch_flops)]
    intensities = [standing.intensity for standing in standings]
    ridge = gflops / gbytes_per_second
    x_scale = Scale(min(ridge / 3, *intensities) / 1.1, max(intensities) * 1.2, LEFT, RIGHT)
    y_scale = Scale(min(values) / 1.2, max(gflops, *values) * 1.2, BOTTOM, TOP)
    title = f"Training below the roofline of {machine.CORES} cores with {machine.instructions()}"
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{CARD}" stroke="{GRID}"/>',
        text(LEFT, 36, title, size=16),
        mark(LEFT + 10, 64, "", filled=True) + text(LEFT + 27, 68, "chainrule"),
        mark(LEFT + 120, 64, "", filled=False) + text(LEFT + 137, 68, "best PyTorch"),
        *axes(x_scale, y_scale),
        *roof(x_scale, y_scale, gflops, gbytes_per_second),
        *points(x_scale, y_scale, standings),
        *legend(standings),
    ]
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>"]) + "\n"
