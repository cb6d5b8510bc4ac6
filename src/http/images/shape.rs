//! The faults in the shape of an image.

use serde::de::{IgnoredAny, SeqAccess};

use super::any::{Any, Convert};
use super::report::FAULTS_MAX;
use super::stray::Strays;
use super::{ImageSize, Scale};
use crate::fields::Fault;

/// The current position in a request.
#[derive(Default)]
pub struct Place {
    /// Pointer to a field or to an image in it.
    field: String,
    /// Index in the image; `cell` is the index in its row.
    element: Option<usize>,
    cell: Option<usize>,
}

impl Place {
    pub fn enter(&mut self, field: &str) {
        field.clone_into(&mut self.field);
        (self.element, self.cell) = (None, None);
    }

    pub fn pointer(&self) -> String {
        let indices = self.element.into_iter().chain(self.cell).map(|index| format!("/{index}"));
        std::iter::once(self.field.clone()).chain(indices).collect()
    }
}

/// What was found in an image.
pub struct Image<'a> {
    pointer: &'a str,
    size: ImageSize,
    /// How many elements are not rows; `rows` counts the rows.
    numbers: usize,
    rows: usize,
    pub faults: Vec<Fault>,
    /// Numbers outside of the range of each scale.
    pub strays: [Strays; 2],
    place: &'a mut Place,
}

impl<'a> Image<'a> {
    pub fn new(pointer: &'a str, size: ImageSize, place: &'a mut Place) -> Self {
        let strays = [Scale::Byte, Scale::Unit].map(Strays::of);
        Self { pointer, size, numbers: 0, rows: 0, faults: Vec::new(), strays, place }
    }

    fn fault(&mut self, place: std::fmt::Arguments, detail: std::fmt::Arguments) {
        // Keeps one fault more than is reported, so that the report can say that there are more.
        if self.faults.len() <= FAULTS_MAX {
            let pointer = format!("{}{place}", self.pointer);
            self.faults.push(Fault { pointer, detail: detail.to_string() });
        }
    }

    fn number(&mut self, value: f64) {
        let place = &*self.place;
        self.strays.iter_mut().for_each(|strays| strays.number(value, || place.pointer()));
    }

    /// Adds a fault if the image has the wrong number of rows or numbers.
    fn check_size(&mut self) {
        let ImageSize { rows, columns } = self.size;
        let numbers = self.size.numbers();
        if [(0, rows), (numbers, 0)].contains(&(self.numbers, self.rows)) {
            return;
        }
        let found = match (self.numbers, self.rows) {
            (0, rows) if rows > 0 => format!("{rows} rows"),
            (numbers, 0) => format!("{numbers} numbers"),
            (numbers, rows) => format!("{rows} rows and {numbers} numbers"),
        };
        self.fault(
            format_args!(""),
            format_args!("must be {rows} rows of {columns} numbers or {numbers} numbers, not {found}"),
        );
    }
}

pub struct ImageConverter<'a, 'b>(pub &'a mut Image<'b>);

impl Convert for ImageConverter<'_, '_> {
    type Value = ();

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let image = self.0;
        loop {
            let index = image.numbers + image.rows;
            (image.place.element, image.place.cell) = (Some(index), None);
            match seq.next_element_seed(Any(ElementConverter(&mut *image)))? {
                None => break,
                Some(Element::Row) => image.rows += 1,
                Some(Element::Number) => image.numbers += 1,
                Some(Element::Other(kind)) => {
                    image.fault(format_args!("/{index}"), format_args!("must be a number, not {kind}"));
                    image.numbers += 1;
                }
            }
        }
        if image.faults.is_empty() {
            image.check_size();
        }
        Ok(())
    }
    fn other(self, kind: &'static str) {
        self.0.fault(format_args!(""), format_args!("must be an array, not {kind}"));
    }
}

/// The kind of an element of an image.
enum Element {
    Number,
    Row,
    Other(&'static str),
}

struct ElementConverter<'a, 'b>(&'a mut Image<'b>);

impl Convert for ElementConverter<'_, '_> {
    type Value = Element;

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let image = self.0;
        if image.numbers > 0 {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Element::Other("an array"));
        }
        let (row, columns) = (image.rows, image.size.columns);
        let (mut length, mut others) = (0, Vec::new());
        loop {
            image.place.cell = Some(length);
            let Some(cell) = seq.next_element_seed(Any(CellConverter))? else { break };
            match cell {
                Ok(value) => image.number(value),
                Err(kind) => others.push((length, kind)),
            }
            length += 1;
            if length > columns {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        if length != columns {
            let found = if length > columns { "more".to_owned() } else { length.to_string() };
            image.fault(format_args!("/{row}"), format_args!("must be {columns} numbers, not {found}"));
        } else {
            for (column, kind) in others {
                image.fault(format_args!("/{row}/{column}"), format_args!("must be a number, not {kind}"));
            }
        }
        Ok(Element::Row)
    }
    fn number(self, value: f64) -> Element {
        self.0.number(value);
        Element::Number
    }
    fn other(self, kind: &'static str) -> Element {
        Element::Other(kind)
    }
}

struct CellConverter;

impl Convert for CellConverter {
    /// A number, or the kind of another value.
    type Value = Result<f64, &'static str>;

    fn number(self, value: f64) -> Self::Value {
        Ok(value)
    }
    fn other(self, kind: &'static str) -> Self::Value {
        Err(kind)
    }
}
