//! Which parts of the ink are the digit.

use super::frame;
use super::ink::Ink;

/// A part smaller than this share of the largest one is a speck.
const SPECK: f32 = 0.03;

/// A part without a place of at least this much ink is noise.
const SOLID: f32 = 0.5;

/// Ink of this amount and more decides how far the digit reaches; what is fainter is blur. It is the
/// middle of a blurred edge, and with it 98 % of MNIST's digits span 20 pixels.
const REACH: f32 = 0.5;

/// A rectangle of places: first and last column and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub left: usize,
    pub right: usize,
    pub top: usize,
    pub bottom: usize,
}

/// Ink that hangs together.
pub struct Part {
    /// Where its places stand in the picture.
    pub places: Vec<usize>,
    pub bounds: Bounds,
}

impl Bounds {
    pub fn width(&self) -> usize {
        self.right - self.left + 1
    }

    pub fn height(&self) -> usize {
        self.bottom - self.top + 1
    }

    fn with(self, x: usize, y: usize) -> Self {
        Self {
            left: self.left.min(x),
            right: self.right.max(x),
            top: self.top.min(y),
            bottom: self.bottom.max(y),
        }
    }
}

/// Finds the digit, takes away all other ink, and gives the digit's bounds.
pub fn digit(ink: &mut Ink) -> Option<Bounds> {
    let mut parts = split(ink, &vec![true; ink.values.len()]);
    if let Some(inside) = without_frame(ink, &parts) {
        parts = inside;
    }
    let largest = parts.iter().map(|part| part.places.len()).max()?;
    parts.retain(|part| part.places.len() as f32 >= SPECK * largest as f32);
    keep_only(ink, &parts);
    bounds(ink)
}

/// The parts once frames are taken away; none, if there is no frame or nothing is left without it:
/// then it is the digit.
fn without_frame(ink: &Ink, parts: &[Part]) -> Option<Vec<Part>> {
    let mut kept = vec![true; ink.values.len()];
    let mut framed = false;
    for part in parts {
        for place in frame::places(ink, part) {
            kept[place] = false;
            framed = true;
        }
    }
    if !framed {
        return None;
    }
    let inside = split(ink, &kept);
    let largest = inside.iter().map(|part| part.places.len()).max()?;
    let frame = kept.iter().filter(|&&kept| !kept).count();
    (largest as f32 >= SPECK * frame as f32).then_some(inside)
}

/// The parts, of the places `kept`, that have solid ink. Neighbours are all eight.
fn split(ink: &Ink, kept: &[bool]) -> Vec<Part> {
    let (width, height) = (ink.width, ink.height);
    let mut open: Vec<bool> =
        ink.values.iter().zip(kept).map(|(&value, &kept)| kept && value >= ink.edge).collect();
    let mut parts = Vec::new();
    for start in 0..open.len() {
        if !std::mem::take(&mut open[start]) {
            continue;
        }
        let (x, y) = (start % width, start / width);
        let mut part = Part { places: vec![start], bounds: Bounds { left: x, right: x, top: y, bottom: y } };
        let mut next = 0;
        while let Some(&place) = part.places.get(next) {
            next += 1;
            part.bounds = part.bounds.with(place % width, place / width);
            for neighbour in neighbours(place, width, height) {
                if std::mem::take(&mut open[neighbour]) {
                    part.places.push(neighbour);
                }
            }
        }
        if part.places.iter().any(|&place| ink.values[place] >= SOLID) {
            parts.push(part);
        }
    }
    parts
}

/// Takes away all ink that is not of `parts`, or next to them: there their edges fade out.
fn keep_only(ink: &mut Ink, parts: &[Part]) {
    let mut values = vec![0.0; ink.values.len()];
    for &place in parts.iter().flat_map(|part| &part.places) {
        for neighbour in neighbours(place, ink.width, ink.height) {
            values[neighbour] = ink.values[neighbour];
        }
    }
    ink.values = values;
}

/// A place and the eight around it.
fn neighbours(place: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (place % width, place / width);
    let columns = x.saturating_sub(1)..=(x + 1).min(width - 1);
    let rows = y.saturating_sub(1)..=(y + 1).min(height - 1);
    rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
}

/// How far the ink reaches.
fn bounds(ink: &Ink) -> Option<Bounds> {
    let places = ink.values.iter().enumerate().filter(|&(_, &value)| value >= REACH);
    places.map(|(place, _)| (place % ink.width, place / ink.width)).fold(
        None,
        |bounds: Option<Bounds>, (x, y)| {
            Some(bounds.unwrap_or(Bounds { left: x, right: x, top: y, bottom: y }).with(x, y))
        },
    )
}
