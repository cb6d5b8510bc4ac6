//! Detects lines and boxes around a digit, as on forms.

use super::components::BoundingBox;
use super::ink::Ink;

/// Smallest extent of a box in both directions, as a fraction of the picture.
const BOX_SPAN: f32 = 0.5;

/// Smallest inked fraction of each side of a box. The outline of a round digit is near its bounding box for
/// two thirds of a side.
const BOX_COVER: f32 = 0.9;

/// Smallest length of a line at the edge of the picture, as a fraction of the picture.
const LINE_SPAN: f32 = 0.95;

/// Largest deviation of a tilted line from the edge, as a fraction of the picture or box.
const LINE_DEPTH: f32 = 0.12;

/// One side of a frame, seen from outside. It determines the directions along the side and inwards.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

const SIDES: [Side; 4] = [Side::Left, Side::Right, Side::Top, Side::Bottom];

/// Calls `framed` with each pixel of a component that belongs to a frame. A digit that touches the frame is
/// kept. `inked` has an element for each pixel of the picture, all false before and after the call.
pub fn pixels(
    ink: &Ink,
    pixels: &[u32],
    bounds: BoundingBox,
    inked: &mut [bool],
    mut framed: impl FnMut(usize),
) {
    if is_edge_line(ink, bounds) {
        pixels.iter().for_each(|&pixel| framed(pixel as usize));
        return;
    }
    let spans = bounds.width() as f32 >= BOX_SPAN * ink.width as f32
        && bounds.height() as f32 >= BOX_SPAN * ink.height as f32;
    if !spans {
        return;
    }
    pixels.iter().for_each(|&pixel| inked[pixel as usize] = true);
    let sides = SIDES.map(|side| FrameLine::find(ink.width, bounds, inked, side));
    for line in sides.iter().filter(|_| sides.iter().all(Option::is_some)).flatten() {
        line.pixels().for_each(&mut framed);
    }
    pixels.iter().for_each(|&pixel| inked[pixel as usize] = false);
}

/// Whether the component is a straight line along an edge of the picture.
fn is_edge_line(ink: &Ink, bounds: BoundingBox) -> bool {
    let along = |span: usize, length: usize, first: usize, last: usize, depth: usize| {
        let band = LINE_DEPTH * depth as f32;
        let at_edge = ((last + 1) as f32) <= band || (depth - first) as f32 <= band;
        span as f32 >= LINE_SPAN * length as f32 && at_edge
    };
    let [left, right, top, bottom] = bounds.edges();
    along(bounds.width(), ink.width, top, bottom, ink.height)
        || along(bounds.height(), ink.height, left, right, ink.width)
}

/// One side of a box.
struct FrameLine {
    walk: Walk,
    /// For each step along the side, the start and the thickness of the line. `None` if it has a gap there.
    runs: Vec<Option<(usize, usize)>>,
    thickness: usize,
}

/// Coordinates along and inwards from one side of a rectangle.
struct Walk {
    width: usize,
    bounds: BoundingBox,
    side: Side,
}

impl Walk {
    fn pixel(&self, along: usize, inwards: usize) -> usize {
        let [left, right, top, bottom] = self.bounds.edges();
        let (x, y) = match self.side {
            Side::Left => (left + inwards, top + along),
            Side::Right => (right - inwards, top + along),
            Side::Top => (left + along, top + inwards),
            Side::Bottom => (left + along, bottom - inwards),
        };
        y * self.width + x
    }
}

impl FrameLine {
    /// `None` if the side has a gap, because then there is no box.
    fn find(width: usize, bounds: BoundingBox, inked: &[bool], side: Side) -> Option<Self> {
        let (length, depth) = match side {
            Side::Left | Side::Right => (bounds.height(), bounds.width()),
            Side::Top | Side::Bottom => (bounds.width(), bounds.height()),
        };
        let walk = Walk { width, bounds, side };
        let band = ((LINE_DEPTH * depth as f32).ceil() as usize).clamp(1, depth);
        let runs: Vec<Option<(usize, usize)>> = (0..length)
            .map(|along| {
                let start = (0..band).find(|&inwards| inked[walk.pixel(along, inwards)])?;
                let thickness =
                    (start..depth).take_while(|&inwards| inked[walk.pixel(along, inwards)]).count();
                Some((start, thickness))
            })
            .collect();
        let mut thicknesses: Vec<usize> = runs.iter().flatten().map(|&(_, thickness)| thickness).collect();
        if (thicknesses.len() as f32) < BOX_COVER * length as f32 {
            return None;
        }
        let middle = thicknesses.len() / 2;
        let thickness = *thicknesses.select_nth_unstable(middle).1;
        (thickness <= band).then_some(Self { walk, runs, thickness })
    }

    fn pixels(&self) -> impl Iterator<Item = usize> {
        let runs = self.runs.iter().enumerate().filter_map(|(along, run)| Some((along, (*run)?)));
        // One pixel more than the median thickness, for the blurred inner edge. Not more, since a digit may
        // touch it here.
        runs.flat_map(move |(along, (start, found))| {
            (start..start + found.min(self.thickness + 1)).map(move |inwards| self.walk.pixel(along, inwards))
        })
    }
}
