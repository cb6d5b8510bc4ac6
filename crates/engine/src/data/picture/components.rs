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
    pub left: u16,
    pub right: u16,
    pub top: u16,
    pub bottom: u16,
}

/// Parts of the ink, each of what hangs together.
struct Parts {
    /// Where their places stand in the picture, part after part.
    places: Vec<u32>,
    parts: Vec<Part>,
}

#[derive(Clone, Copy)]
struct Part {
    /// Its first place in [`Parts::places`], and the first one that is not its own.
    start: u32,
    end: u32,
    bounds: Bounds,
}

impl Bounds {
    fn of(place: usize, width: usize) -> Self {
        // A picture is reduced to fewer columns and rows than u16 holds.
        let (x, y) = ((place % width) as u16, (place / width) as u16);
        Self { left: x, right: x, top: y, bottom: y }
    }

    pub fn width(&self) -> usize {
        usize::from(self.right - self.left) + 1
    }

    pub fn height(&self) -> usize {
        usize::from(self.bottom - self.top) + 1
    }

    /// Left, right, top and bottom.
    pub fn edges(&self) -> [usize; 4] {
        [self.left, self.right, self.top, self.bottom].map(usize::from)
    }

    fn with(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            right: self.right.max(other.right),
            top: self.top.min(other.top),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Parts {
    fn places(&self, part: &Part) -> &[u32] {
        &self.places[part.start as usize..part.end as usize]
    }

    fn largest(&self) -> Option<usize> {
        self.parts.iter().map(Part::len).max()
    }
}

/// Finds the digit, takes away all other ink, and gives the digit's bounds.
pub fn digit(ink: &mut Ink) -> Option<Bounds> {
    let mut parts = split(ink, |_| true);
    if let Some(inside) = without_frame(ink, &parts) {
        parts = inside;
    }
    let largest = parts.largest()?;
    parts.parts.retain(|part| part.len() as f32 >= SPECK * largest as f32);
    keep_only(ink, &parts);
    bounds(ink)
}

/// The parts once frames are taken away; none, if there is no frame or nothing is left without it:
/// then it is the digit.
fn without_frame(ink: &Ink, parts: &Parts) -> Option<Parts> {
    let mut kept = vec![true; ink.values.len()];
    let mut inked = vec![false; ink.values.len()];
    for part in &parts.parts {
        frame::places(ink, parts.places(part), part.bounds, &mut inked, |place| kept[place] = false);
    }
    drop(inked);
    let frame = kept.iter().filter(|&&kept| !kept).count();
    if frame == 0 {
        return None;
    }
    let inside = split(ink, |place| kept[place]);
    (inside.largest()? as f32 >= SPECK * frame as f32).then_some(inside)
}

/// The parts, of the places `kept`, that have solid ink. Neighbours are all eight.
fn split(ink: &Ink, kept: impl Fn(usize) -> bool) -> Parts {
    let mut open: Vec<bool> =
        ink.values.iter().enumerate().map(|(place, &value)| value >= ink.edge && kept(place)).collect();
    let count = open.iter().filter(|&&open| open).count();
    let mut found = Parts { places: Vec::with_capacity(count), parts: Vec::new() };
    for first in 0..open.len() {
        if std::mem::take(&mut open[first]) {
            found.grow(ink, &mut open, first);
        }
    }
    found
}

impl Parts {
    /// Adds the part that the place `first` is of, if it has solid ink; its places are taken from those that are open.
    fn grow(&mut self, ink: &Ink, open: &mut [bool], first: usize) {
        let start = self.places.len();
        self.places.push(first as u32);
        let mut bounds = Bounds::of(first, ink.width);
        let mut is_solid = false;
        let mut next = start;
        while let Some(&place) = self.places.get(next) {
            next += 1;
            let place = place as usize;
            bounds = bounds.with(Bounds::of(place, ink.width));
            is_solid |= ink.values[place] >= SOLID;
            for neighbour in neighbours(place, ink.width, ink.height) {
                if std::mem::take(&mut open[neighbour]) {
                    self.places.push(neighbour as u32);
                }
            }
        }
        if is_solid {
            self.parts.push(Part { start: start as u32, end: next as u32, bounds });
        } else {
            self.places.truncate(start);
        }
    }
}

/// Takes away all ink that is not of `parts`, or next to them: there their edges fade out.
fn keep_only(ink: &mut Ink, parts: &Parts) {
    let mut values = vec![0.0; ink.values.len()];
    for &place in parts.parts.iter().flat_map(|part| parts.places(part)) {
        for neighbour in neighbours(place as usize, ink.width, ink.height) {
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
    places.map(|(place, _)| Bounds::of(place, ink.width)).reduce(Bounds::with)
}
