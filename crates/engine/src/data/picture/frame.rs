//! Lines and boxes around a digit, as forms have them.

use super::ink::Ink;
use super::parts::Bounds;

/// A box spans this share of the picture in both directions, at least.
const BOX_SPAN: f32 = 0.5;

/// Each side of a box is inked for this share of its length. The outline of a round digit comes
/// near its bounds for two thirds of a side.
const BOX_COVER: f32 = 0.9;

/// A line at the edge runs through this share of the picture, at least.
const LINE_SPAN: f32 = 0.95;

/// A line, tilted as it may be, stays within this share of the picture or box.
const LINE_DEPTH: f32 = 0.12;

/// One side of a frame, seen from outside: how to walk along it and into it.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

const SIDES: [Side; 4] = [Side::Left, Side::Right, Side::Top, Side::Bottom];

/// Hands out the places of a part that belong to a frame; a digit that touches it is left. `inked` has a place for each of
/// the picture and is all false, before and after.
pub fn places(ink: &Ink, places: &[u32], bounds: Bounds, inked: &mut [bool], mut framed: impl FnMut(usize)) {
    if is_edge_line(ink, bounds) {
        places.iter().for_each(|&place| framed(place as usize));
        return;
    }
    let spans = bounds.width() as f32 >= BOX_SPAN * ink.width as f32
        && bounds.height() as f32 >= BOX_SPAN * ink.height as f32;
    if !spans {
        return;
    }
    places.iter().for_each(|&place| inked[place as usize] = true);
    let sides = SIDES.map(|side| Line::find(ink.width, bounds, inked, side));
    for line in sides.iter().filter(|_| sides.iter().all(Option::is_some)).flatten() {
        line.places().for_each(&mut framed);
    }
    places.iter().for_each(|&place| inked[place as usize] = false);
}

/// Whether it is a straight line along an edge of the picture.
fn is_edge_line(ink: &Ink, bounds: Bounds) -> bool {
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
struct Line {
    walk: Walk,
    /// Where it begins at each step along the side, and how thick it is there.
    runs: Vec<Option<(usize, usize)>>,
    thickness: usize,
}

/// How to come to the places of a picture from one side of a rectangle.
struct Walk {
    width: usize,
    bounds: Bounds,
    side: Side,
}

impl Walk {
    fn place(&self, along: usize, inwards: usize) -> usize {
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

impl Line {
    /// None, if there is a gap: then it is no box.
    fn find(width: usize, bounds: Bounds, inked: &[bool], side: Side) -> Option<Self> {
        let (length, depth) = match side {
            Side::Left | Side::Right => (bounds.height(), bounds.width()),
            Side::Top | Side::Bottom => (bounds.width(), bounds.height()),
        };
        let walk = Walk { width, bounds, side };
        let band = ((LINE_DEPTH * depth as f32).ceil() as usize).clamp(1, depth);
        let runs: Vec<Option<(usize, usize)>> = (0..length)
            .map(|along| {
                let start = (0..band).find(|&inwards| inked[walk.place(along, inwards)])?;
                let thickness =
                    (start..depth).take_while(|&inwards| inked[walk.place(along, inwards)]).count();
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

    fn places(&self) -> impl Iterator<Item = usize> {
        let runs = self.runs.iter().enumerate().filter_map(|(along, run)| Some((along, (*run)?)));
        // One more than usual, for its blurred inner edge; no more, since a digit may touch it here.
        runs.flat_map(move |(along, (start, found))| {
            (start..start + found.min(self.thickness + 1)).map(move |inwards| self.walk.place(along, inwards))
        })
    }
}
