//! Lines and boxes around a digit, as forms have them.

use super::ink::Ink;
use super::parts::Part;

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

/// The places of `part` that belong to a frame; a digit that touches it is left.
pub fn places(ink: &Ink, part: &Part) -> Vec<usize> {
    if is_edge_line(ink, part) {
        return part.places.clone();
    }
    let bounds = part.bounds;
    let spans = bounds.width() as f32 >= BOX_SPAN * ink.width as f32
        && bounds.height() as f32 >= BOX_SPAN * ink.height as f32;
    if !spans {
        return Vec::new();
    }
    let mut inked = vec![false; ink.values.len()];
    for &place in &part.places {
        inked[place] = true;
    }
    let sides = SIDES.map(|side| side_places(ink.width, part, &inked, side));
    if sides.iter().any(Option::is_none) {
        return Vec::new();
    }
    sides.into_iter().flatten().flatten().collect()
}

/// Whether it is a straight line along an edge of the picture.
fn is_edge_line(ink: &Ink, part: &Part) -> bool {
    let along = |span: usize, length: usize, first: usize, last: usize, depth: usize| {
        let band = LINE_DEPTH * depth as f32;
        let at_edge = ((last + 1) as f32) <= band || (depth - first) as f32 <= band;
        span as f32 >= LINE_SPAN * length as f32 && at_edge
    };
    let bounds = part.bounds;
    along(bounds.width(), ink.width, bounds.top, bounds.bottom, ink.height)
        || along(bounds.height(), ink.height, bounds.left, bounds.right, ink.width)
}

/// The places of one side of a box; none, if there is a gap: then it is no box.
fn side_places(width: usize, part: &Part, inked: &[bool], side: Side) -> Option<Vec<usize>> {
    let bounds = part.bounds;
    let (length, depth) = match side {
        Side::Left | Side::Right => (bounds.height(), bounds.width()),
        Side::Top | Side::Bottom => (bounds.width(), bounds.height()),
    };
    let place = |along: usize, inwards: usize| {
        let (x, y) = match side {
            Side::Left => (bounds.left + inwards, bounds.top + along),
            Side::Right => (bounds.right - inwards, bounds.top + along),
            Side::Top => (bounds.left + along, bounds.top + inwards),
            Side::Bottom => (bounds.left + along, bounds.bottom - inwards),
        };
        y * width + x
    };
    let band = ((LINE_DEPTH * depth as f32).ceil() as usize).clamp(1, depth);
    // Where the line begins at each step along the side, and how thick it is there.
    let runs: Vec<Option<(usize, usize)>> = (0..length)
        .map(|along| {
            let start = (0..band).find(|&inwards| inked[place(along, inwards)])?;
            let thickness = (start..depth).take_while(|&inwards| inked[place(along, inwards)]).count();
            Some((start, thickness))
        })
        .collect();
    let mut thicknesses: Vec<usize> = runs.iter().flatten().map(|&(_, thickness)| thickness).collect();
    if (thicknesses.len() as f32) < BOX_COVER * length as f32 {
        return None;
    }
    let middle = thicknesses.len() / 2;
    let thickness = *thicknesses.select_nth_unstable(middle).1;
    if thickness > band {
        return None;
    }
    // One more than usual, for its blurred inner edge; no more, since a digit may touch it here.
    let line = |(along, run): (usize, Option<(usize, usize)>)| {
        let (start, found) = run?;
        Some((start..start + found.min(thickness + 1)).map(move |inwards| (along, inwards)))
    };
    let places = runs.into_iter().enumerate().filter_map(line).flatten();
    Some(places.map(|(along, inwards)| place(along, inwards)).collect())
}
