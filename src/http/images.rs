//! Images as JSON: 28 rows of 28 numbers or 784 numbers, read with bounds and all faults noted.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};
use crate::fields::Fault;

/// Faults that are told at most.
const FAULTS_MAX: usize = 20;

/// Images of one request that are kept at all, whatever the server's limit.
const IMAGES_KEPT: usize = 65_536;

/// The images of a request, each of 784 values from 0 to 1.
#[derive(Debug, PartialEq)]
pub struct Images {
    /// Value after value, image after image.
    pub values: Vec<f32>,
    /// Number of images.
    pub count: usize,
}

/// Reads `{"image": …}` or `{"images": […]}`, with `"scale": "byte"` (0–255, the default) or
/// `"unit"` (0–1).
///
/// # Errors
/// `Ok(Err(faults))` for JSON of the wrong shape, `Err` for what is no JSON.
pub fn parse(body: &[u8], images_max: usize) -> Result<Result<Images, Vec<Fault>>, serde_json::Error> {
    let request: Request = serde_json::from_slice(body)?;
    Ok(request.check(images_max))
}

/// The request as it came.
#[derive(Default)]
struct Request {
    image: Option<Image>,
    images: Option<ImageList>,
    scale: Option<Value>,
    faults: Vec<Fault>,
}

/// One image as it came: its numbers, and what else it held.
#[derive(Default)]
struct Image {
    values: Vec<f64>,
    is_rows: bool,
    faults: Vec<Fault>,
}

impl Request {
    fn check(mut self, images_max: usize) -> Result<Images, Vec<Fault>> {
        let mut faults = std::mem::take(&mut self.faults);
        let most = match self.scale.take() {
            None => 255.0,
            Some(Value::String(scale)) if scale == "byte" => 255.0,
            Some(Value::String(scale)) if scale == "unit" => 1.0,
            Some(other) => {
                let other: String = other.to_string().chars().take(64).collect();
                faults.push(fault("/scale", format!("must be \"byte\" or \"unit\", not {other}")));
                255.0
            }
        };
        let mut values = Vec::new();
        let mut count = 0;
        let mut read = |pointer: String, image: Image, faults: &mut Vec<Fault>| {
            count += 1;
            image.check(&pointer, most, &mut values, faults);
        };
        match (self.image, self.images) {
            (Some(image), None) => read("/image".to_owned(), image, &mut faults),
            (None, Some(images)) => {
                if images.count == 0 || images.count > images_max {
                    faults.push(fault(
                        "/images",
                        format!("must hold 1 to {images_max} images, not {}", images.count),
                    ));
                }
                for (index, image) in images.kept.into_iter().enumerate().take(images_max) {
                    read(format!("/images/{index}"), image, &mut faults);
                }
            }
            (Some(_), Some(_)) => faults.push(fault("", "send image or images, not both".to_owned())),
            (None, None) if faults.is_empty() => {
                faults.push(fault("/image", "is missing; send image or images".to_owned()));
            }
            (None, None) => {}
        }
        if faults.is_empty() {
            Ok(Images { values, count })
        } else {
            if faults.len() > FAULTS_MAX {
                faults.truncate(FAULTS_MAX);
                faults.push(fault("", format!("there are more faults; these are the first {FAULTS_MAX}")));
            }
            Err(faults)
        }
    }
}

impl Image {
    fn check(self, pointer: &str, most: f64, values: &mut Vec<f32>, faults: &mut Vec<Fault>) {
        if !self.faults.is_empty() {
            let at = |found: Fault| fault(&format!("{pointer}{}", found.pointer), found.detail);
            faults.extend(self.faults.into_iter().map(at));
            return;
        }
        for (index, &value) in self.values.iter().enumerate() {
            if !(0.0..=most).contains(&value) {
                let place = if self.is_rows {
                    format!("{pointer}/{}/{}", index / IMAGE_SIDE, index % IMAGE_SIDE)
                } else {
                    format!("{pointer}/{index}")
                };
                faults.push(fault(&place, format!("must be a number from 0 to {most}, not {value}")));
                if faults.len() > FAULTS_MAX {
                    return;
                }
            }
        }
        values.extend(self.values.iter().map(|&value| (value / most) as f32));
    }
}

fn fault(pointer: &str, detail: String) -> Fault {
    Fault { pointer: pointer.to_owned(), detail }
}

impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RequestVisitor;

        impl<'de> Visitor<'de> for RequestVisitor {
            type Value = Request;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with image or images")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
                let mut request = Request::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "image" => request.image = Some(map.next_value()?),
                        "images" => match map.next_value_seed(ImageListSeed)? {
                            Ok(images) => request.images = Some(images),
                            Err(NotAnArray(kind)) => {
                                request.faults.push(fault(
                                    "/images",
                                    format!("must be an array of images, not {kind}"),
                                ));
                            }
                        },
                        "scale" => request.scale = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            let name: String = key.chars().take(64).collect();
                            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                            let detail = "unknown field, there are: image, images, scale".to_owned();
                            request.faults.push(fault(&pointer, detail));
                        }
                    }
                }
                request.faults.truncate(FAULTS_MAX);
                Ok(request)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Request, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(not_an_object("an array"))
            }
            fn visit_unit<E>(self) -> Result<Request, E> {
                Ok(not_an_object("null"))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Request, E> {
                Ok(not_an_object("a boolean"))
            }
            fn visit_str<E>(self, _: &str) -> Result<Request, E> {
                Ok(not_an_object("a string"))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Request, E> {
                Ok(not_an_object("a number"))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Request, E> {
                Ok(not_an_object("a number"))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Request, E> {
                Ok(not_an_object("a number"))
            }
        }

        fn not_an_object(kind: &str) -> Request {
            let detail = format!("must be an object with image or images, not {kind}");
            Request { faults: vec![fault("", detail)], ..Request::default() }
        }

        deserializer.deserialize_any(RequestVisitor)
    }
}

/// The value of `images`: how many there are, and those that are looked at.
struct ImageList {
    count: usize,
    kept: Vec<Image>,
}

/// The kind of a value that should be an array.
struct NotAnArray(&'static str);

/// Something in an image: a number, a row, or what doesn't belong there.
enum Element {
    Number(f64),
    Row(Vec<Cell>),
    Other(&'static str),
}

/// Something in a row: a number, or what doesn't belong there.
enum Cell {
    Number(f64),
    Other(&'static str),
}

/// Reads any JSON; arrays are cut behind as many elements as fit an image or a row and one more.
struct AnyVisitor<S>(S);

/// What [`AnyVisitor`] makes of an array and of the rest.
trait Shape: Sized {
    type Value;
    fn array<'de, A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error>;
    fn number(self, value: f64) -> Self::Value;
    fn other(self, kind: &'static str) -> Self::Value;
}

impl<'de, S: Shape> Visitor<'de> for AnyVisitor<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<S::Value, A::Error> {
        self.0.array(seq)
    }
    fn visit_f64<E>(self, value: f64) -> Result<S::Value, E> {
        Ok(self.0.number(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<S::Value, E> {
        Ok(self.0.number(value as f64))
    }
    fn visit_i64<E>(self, value: i64) -> Result<S::Value, E> {
        Ok(self.0.number(value as f64))
    }
    fn visit_str<E>(self, _: &str) -> Result<S::Value, E> {
        Ok(self.0.other("a string"))
    }
    fn visit_bool<E>(self, _: bool) -> Result<S::Value, E> {
        Ok(self.0.other("a boolean"))
    }
    fn visit_unit<E>(self) -> Result<S::Value, E> {
        Ok(self.0.other("null"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<S::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.0.other("an object"))
    }
}

struct ElementShape;

impl Shape for ElementShape {
    type Value = Element;

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let mut row = Vec::new();
        while let Some(element) = seq.next_element()? {
            if row.len() > IMAGE_SIDE {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            row.push(element);
        }
        Ok(Element::Row(row))
    }
    fn number(self, value: f64) -> Element {
        Element::Number(value)
    }
    fn other(self, kind: &'static str) -> Element {
        Element::Other(kind)
    }
}

struct CellShape;

impl Shape for CellShape {
    type Value = Cell;

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Other("an array"))
    }
    fn number(self, value: f64) -> Cell {
        Cell::Number(value)
    }
    fn other(self, kind: &'static str) -> Cell {
        Cell::Other(kind)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor(CellShape))
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor(ElementShape))
    }
}

struct ImageShape;

impl Shape for ImageShape {
    type Value = Image;

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Image, A::Error> {
        let mut image = Image::default();
        let (mut numbers, mut rows) = (0, 0);
        while let Some(element) = seq.next_element()? {
            match element {
                Element::Number(value) => {
                    numbers += 1;
                    if image.values.is_empty() {
                        image.values.reserve_exact(IMAGE_PIXELS);
                    }
                    if numbers <= IMAGE_PIXELS {
                        image.values.push(value);
                    }
                }
                Element::Row(_) if numbers > 0 => {
                    image.fault(&format!("/{}", numbers + rows), "must be a number, not an array".to_owned());
                    numbers += 1;
                }
                Element::Row(row) => {
                    image.row(rows, &row);
                    rows += 1;
                }
                Element::Other(kind) => {
                    image.fault(&format!("/{}", numbers + rows), format!("must be a number, not {kind}"));
                    numbers += 1;
                }
            }
        }
        image.is_rows = rows > 0;
        if image.faults.is_empty()
            && !(numbers == 0 && rows == IMAGE_SIDE || rows == 0 && numbers == IMAGE_PIXELS)
        {
            let found = match (numbers, rows) {
                (0, rows) if rows > 0 => format!("{rows} rows"),
                (numbers, 0) => format!("{numbers} numbers"),
                (numbers, rows) => format!("{rows} rows and {numbers} numbers"),
            };
            let detail = format!(
                "must be {IMAGE_SIDE} rows of {IMAGE_SIDE} numbers or {IMAGE_PIXELS} numbers, not {found}"
            );
            image.fault("", detail);
        }
        Ok(image)
    }
    fn number(self, _: f64) -> Image {
        self.other("a number")
    }
    fn other(self, kind: &'static str) -> Image {
        let mut image = Image::default();
        image.fault("", format!("must be an array, not {kind}"));
        image
    }
}

impl Image {
    fn fault(&mut self, pointer: &str, detail: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault(pointer, detail));
        }
    }

    fn row(&mut self, index: usize, row: &[Cell]) {
        if row.len() != IMAGE_SIDE {
            let found = if row.len() > IMAGE_SIDE { "more".to_owned() } else { row.len().to_string() };
            self.fault(&format!("/{index}"), format!("must be {IMAGE_SIDE} numbers, not {found}"));
            return;
        }
        for (column, element) in row.iter().enumerate() {
            match element {
                Cell::Number(value) if self.values.len() < IMAGE_PIXELS => self.values.push(*value),
                Cell::Number(_) => {}
                Cell::Other(kind) => {
                    self.fault(&format!("/{index}/{column}"), format!("must be a number, not {kind}"));
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor(ImageShape))
    }
}

struct ImageListShape;

impl Shape for ImageListShape {
    type Value = Result<ImageList, NotAnArray>;

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut images = ImageList { count: 0, kept: Vec::new() };
        let mut faulty = 0;
        while faulty <= FAULTS_MAX && images.count <= IMAGES_KEPT {
            let Some(image) = seq.next_element::<Image>()? else { return Ok(Ok(images)) };
            images.count += 1;
            faulty += usize::from(!image.faults.is_empty());
            images.kept.push(image);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            images.count += 1;
        }
        Ok(Ok(images))
    }
    fn number(self, _: f64) -> Self::Value {
        self.other("a number")
    }
    fn other(self, kind: &'static str) -> Self::Value {
        Err(NotAnArray(kind))
    }
}

/// Reads the value of `images`.
struct ImageListSeed;

impl<'de> DeserializeSeed<'de> for ImageListSeed {
    type Value = Result<ImageList, NotAnArray>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(AnyVisitor(ImageListShape))
    }
}
