use crate::data::picture::{ColorMap, Tile, sheet};

/// An example to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<'a> {
    /// Its pixels, row by row.
    pub pixels: &'a [u8],
    /// The text below it: digits, `>` and `/`.
    pub caption: String,
}

/// Width and height of a character in squares, and the gap between two.
const CHARACTER: (usize, usize) = (3, 5);
const GAP: usize = 1;

/// The digits. A row of a character is three bits, the left one first.
const DIGITS: [[u8; CHARACTER.1]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 3, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];
const ARROW: [u8; CHARACTER.1] = [4, 2, 1, 2, 4];
const SLASH: [u8; CHARACTER.1] = [1, 1, 2, 4, 4];

/// Side of a square of a sheet in pixels, and examples per row.
pub(super) const SHEET_ZOOM: usize = 3;
pub(super) const SHEET_COLUMNS: usize = 10;

/// Rows below an example, for its caption.
pub(super) const CAPTION_ROWS: usize = CHARACTER.1 + 2 * GAP;

/// Draws examples of this width as PNG, ten a row, each with its caption. Without examples, draws an empty one.
pub fn example_sheet(examples: &[Shown], width: usize) -> Vec<u8> {
    let captions = examples.iter().map(|example| text_width(&example.caption));
    let tile_width = captions.max().unwrap_or(0).max(width);
    let tile = |example: &Shown| {
        let rows = example.pixels.len() / width;
        let mut canvas = Canvas::new(tile_width, rows + CAPTION_ROWS, 0.0);
        let left = (tile_width - width) / 2;
        for (place, &pixel) in example.pixels.iter().enumerate() {
            canvas.set(left + place % width, place / width, f32::from(pixel) / 255.0);
        }
        let left = (tile_width - text_width(&example.caption)) / 2;
        canvas.write(&example.caption, (left, rows + GAP), 1.0);
        canvas.tile()
    };
    let mut tiles: Vec<Tile> = examples.iter().map(tile).collect();
    if tiles.is_empty() {
        tiles.push(Canvas::new(width, width + CAPTION_ROWS, 0.0).tile());
    }
    sheet(&tiles, SHEET_COLUMNS, SHEET_ZOOM)
}

/// Most classes of a matrix whose cells show their counts.
const NUMBERED_MAX: usize = 20;

/// Side of a square of a matrix with counts, in pixels, and side of a matrix without, unless it has more classes.
const NUMBERED_ZOOM: usize = 2;
const PLAIN_SIDE: usize = 800;

/// The least darkness of a cell that is not 0.
const DARKNESS_MIN: f32 = 0.06;
const GRID_BRIGHTNESS: f32 = 0.85;

/// Draws a confusion matrix as PNG: a row for each true class, a column for each class that is read. The darkness of a
/// cell is the square root of its share of the row, so that rare errors are visible. Up to 20 classes, the numbers of
/// the classes stand at the sides, and the counts in the cells.
pub fn confusion_picture(confusion: &[Vec<u32>]) -> Vec<u8> {
    let layout = Layout::of(confusion.len(), largest(confusion));
    let mut canvas = Canvas::new(layout.side(), layout.side(), 1.0);
    for (class, row) in confusion.iter().enumerate() {
        let support: u64 = row.iter().copied().map(u64::from).sum();
        let middle = layout.begin(class) + layout.cell / 2;
        if layout.is_numbered {
            canvas.write_around(&class.to_string(), (middle, layout.margin / 2), 0.0);
            canvas.write_around(&class.to_string(), (layout.margin / 2, middle), 0.0);
        }
        for (column, &count) in row.iter().enumerate() {
            let darkness = match count {
                0 => 0.0,
                _ => (f64::from(count) / support as f64).sqrt() as f32,
            };
            let brightness = 1.0 - if count > 0 { darkness.max(DARKNESS_MIN) } else { 0.0 };
            canvas.fill((layout.begin(column), layout.begin(class)), layout.cell, brightness);
            if layout.is_numbered {
                canvas.frame((layout.begin(column), layout.begin(class)), layout.cell, GRID_BRIGHTNESS);
                let ink = if brightness < 0.5 { 1.0 } else { 0.0 };
                let text = if count > 0 { count.to_string() } else { String::new() };
                canvas.write_around(&text, (layout.begin(column) + layout.cell / 2, middle), ink);
            }
        }
    }
    sheet(&[canvas.tile()], 1, layout.zoom)
}

fn largest(confusion: &[Vec<u32>]) -> u32 {
    confusion.iter().flatten().copied().max().unwrap_or(0)
}

/// The squares of a drawn matrix.
pub(super) struct Layout {
    is_numbered: bool,
    classes: usize,
    /// Side of a cell in squares.
    cell: usize,
    /// Squares above and to the left of the cells.
    margin: usize,
    /// Side of a square in pixels.
    pub(super) zoom: usize,
}

impl Layout {
    /// The layout for this number of classes and largest count.
    pub(super) fn of(classes: usize, count: u32) -> Self {
        let side_of = |number: usize| text_width(&number.to_string()).max(CHARACTER.1) + 4 * GAP;
        if classes <= NUMBERED_MAX {
            let (cell, margin) = (side_of(count as usize), side_of(classes));
            Self { is_numbered: true, classes, cell, margin, zoom: NUMBERED_ZOOM }
        } else {
            let zoom = (PLAIN_SIDE / classes).max(1);
            Self { is_numbered: false, classes, cell: 1, margin: 0, zoom }
        }
    }

    /// Side of the matrix in squares.
    pub(super) fn side(&self) -> usize {
        self.margin + self.classes * self.cell
    }

    /// The first square of the cells of a class.
    fn begin(&self, class: usize) -> usize {
        self.margin + class * self.cell
    }
}

/// A rectangle of squares with a brightness from 0 to 1.
struct Canvas {
    values: Vec<f32>,
    width: usize,
}

impl Canvas {
    fn new(width: usize, height: usize, brightness: f32) -> Self {
        Self { values: vec![brightness; width * height], width }
    }

    fn set(&mut self, x: usize, y: usize, brightness: f32) {
        self.values[y * self.width + x] = brightness;
    }

    fn fill(&mut self, (left, top): (usize, usize), side: usize, brightness: f32) {
        for y in top..top + side {
            self.values[y * self.width + left..][..side].fill(brightness);
        }
    }

    /// Draws the right and the lower side of a square.
    fn frame(&mut self, (left, top): (usize, usize), side: usize, brightness: f32) {
        for place in 0..side {
            self.set(left + side - 1, top + place, brightness);
            self.set(left + place, top + side - 1, brightness);
        }
    }

    /// Writes characters from their upper left corner on.
    fn write(&mut self, text: &str, (left, top): (usize, usize), brightness: f32) {
        for (place, character) in text.chars().enumerate() {
            let left = left + place * (CHARACTER.0 + GAP);
            for (row, bits) in rows_of(character).into_iter().enumerate() {
                let inked = (0..CHARACTER.0).filter(|column| bits >> (CHARACTER.0 - 1 - column) & 1 == 1);
                inked.for_each(|column| self.set(left + column, top + row, brightness));
            }
        }
    }

    /// Writes characters around a middle.
    fn write_around(&mut self, text: &str, (x, y): (usize, usize), brightness: f32) {
        self.write(text, (x - text_width(text) / 2, y - CHARACTER.1 / 2), brightness);
    }

    fn tile(self) -> Tile {
        Tile { values: self.values, width: self.width, colors: ColorMap::Greyscale }
    }
}

/// Width of a text in squares.
pub(super) fn text_width(text: &str) -> usize {
    (text.chars().count() * (CHARACTER.0 + GAP)).saturating_sub(GAP)
}

fn rows_of(character: char) -> [u8; CHARACTER.1] {
    match character {
        '>' => ARROW,
        '/' => SLASH,
        digit => DIGITS[digit.to_digit(10).unwrap_or(0) as usize],
    }
}
