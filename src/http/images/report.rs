//! Reports everything that is wrong with images that could not be parsed. Their numbers are not kept.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde_json::Value;

use super::any::{Any, Convert};
use super::shape::{Image, ImageConverter, Place};
use super::stray::Strays;
use super::{ImageSize, Name, Scale};
use crate::fields::{Fault, JsonError, is_out_of_range, shown, token};

/// The most faults that are reported.
pub const FAULTS_MAX: usize = 20;

/// Returns the faults of a body that could not be parsed.
///
/// # Errors
/// Returns an error for a syntax error.
pub fn faults(body: &[u8], size: ImageSize, images_max: usize) -> Result<Vec<Fault>, serde_json::Error> {
    let mut report = Report::new(size, images_max);
    let mut text = serde_json::Deserializer::from_slice(body);
    match Any(RequestConverter(&mut report)).deserialize(&mut text).and_then(|()| text.end()) {
        Ok(()) => Ok(report.finish()),
        Err(error) if is_out_of_range(&error) => Ok(report.stop(&error)),
        Err(error) => Err(error),
    }
}

/// Returns the faults of an image that could not be converted, or of its scale.
pub fn faults_of_value(image: &Value, scale: Option<&Value>, size: ImageSize) -> Vec<Fault> {
    let mut report = Report::new(size, 1);
    report.has_image = true;
    if let Some(Ok(given)) = scale.map(|scale| Any(ScaleConverter).deserialize(scale)) {
        report.scale = given;
    }
    match report.image("/image", |shape| shape.deserialize(image)) {
        Ok(()) => report.finish(),
        Err(error) => report.stop(&error),
    }
}

/// The faults found so far.
struct Report {
    size: ImageSize,
    images_max: usize,
    /// Faults of field names, and of values that are not lists.
    names: Vec<Fault>,
    scale: GivenScale,
    /// How many images the list has.
    count: usize,
    has_image: bool,
    has_images: bool,
    /// Faults of the shapes of images.
    shapes: Vec<Fault>,
    /// Numbers outside of the range of each scale.
    strays: [Strays; 2],
    place: Place,
}

/// The scale given in a request.
enum GivenScale {
    Nothing,
    Known(Scale),
    /// An unknown scale, as the fault shows it.
    Unknown(String),
}

impl Report {
    fn new(size: ImageSize, images_max: usize) -> Self {
        Self {
            size,
            images_max,
            names: Vec::new(),
            scale: GivenScale::Nothing,
            count: 0,
            has_image: false,
            has_images: false,
            shapes: Vec::new(),
            strays: [Scale::Byte, Scale::Unit].map(Strays::of),
            place: Place::default(),
        }
    }

    fn name(&mut self, pointer: String, detail: String) {
        if self.names.len() < FAULTS_MAX {
            self.names.push(Fault { pointer, detail });
        }
    }

    /// Reads an image and adds its faults.
    fn image<E>(
        &mut self,
        pointer: &str,
        read: impl FnOnce(Any<ImageConverter<'_, '_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.place.enter(pointer);
        let mut image = Image::new(pointer, self.size, &mut self.place);
        read(Any(ImageConverter(&mut image)))?;
        let Image { faults, strays, .. } = image;
        if faults.is_empty() {
            self.strays.iter_mut().zip(strays).for_each(|(all, one)| all.add(one));
        }
        self.shapes.extend(faults);
        Ok(())
    }

    /// Returns the faults of a request that was read to its end.
    fn finish(self) -> Vec<Fault> {
        let mut faults = self.names;
        let fault = |pointer: &str, detail: String| Fault { pointer: pointer.to_owned(), detail };
        if let GivenScale::Unknown(found) = &self.scale {
            faults.push(fault("/scale", format!("must be \"byte\" or \"unit\", not {found}")));
        }
        let field = match (self.has_image, self.has_images) {
            (true, true) => {
                faults.push(fault("", "send image or images, not both".to_owned()));
                return cut(faults);
            }
            (false, false) => {
                if faults.is_empty() {
                    faults.push(fault("/image", "is missing; send image or images".to_owned()));
                }
                return cut(faults);
            }
            (true, false) => "/image",
            (false, true) => "/images",
        };
        if self.has_images && !(1..=self.images_max).contains(&self.count) {
            let (most, count) = (self.images_max, self.count);
            faults.push(fault(field, format!("must hold 1 to {most} images, not {count}")));
        }
        faults.extend(self.shapes);
        let [byte, unit] = &self.strays;
        let strays = if matches!(self.scale, GivenScale::Known(Scale::Unit)) { unit } else { byte };
        faults.extend(strays.faults(field));
        cut(faults)
    }

    /// Returns the faults if reading stops at a number that is out of range.
    fn stop(self, error: &serde_json::Error) -> Vec<Fault> {
        let (line, column) = (error.line(), error.column());
        let number = JsonError::OutOfRange { pointer: self.place.pointer(), line, column };
        let mut faults = self.names;
        faults.extend(self.shapes);
        faults.extend(number.into_fault());
        cut(faults)
    }
}

/// Limits the number of faults.
fn cut(mut faults: Vec<Fault>) -> Vec<Fault> {
    if faults.len() > FAULTS_MAX {
        faults.truncate(FAULTS_MAX);
        let detail = format!("there are more faults; these are the first {FAULTS_MAX}");
        faults.push(Fault { pointer: String::new(), detail });
    }
    faults
}

struct RequestConverter<'a>(&'a mut Report);

impl Convert for RequestConverter<'_> {
    type Value = ();

    fn object<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let report = self.0;
        while let Some(name) = map.next_key_seed(Any(NameConverter))? {
            let pointer = match &name {
                Ok(Name::Image) => "/image".to_owned(),
                Ok(Name::Images) => "/images".to_owned(),
                Ok(Name::Scale) => "/scale".to_owned(),
                Err(other) => format!("/{other}"),
            };
            report.place.enter(&pointer);
            let is_second = match name {
                Ok(Name::Image) => std::mem::replace(&mut report.has_image, true),
                Ok(Name::Images) => std::mem::replace(&mut report.has_images, true),
                Ok(Name::Scale) => !matches!(report.scale, GivenScale::Nothing),
                Err(_) => false,
            };
            match name {
                _ if is_second => {
                    map.next_value::<IgnoredAny>()?;
                    report.name(pointer, "is given twice".to_owned());
                }
                Ok(Name::Image) => report.image(&pointer, |image| map.next_value_seed(image))?,
                Ok(Name::Images) => map.next_value_seed(Any(ListConverter(&mut *report)))?,
                Ok(Name::Scale) => report.scale = map.next_value_seed(Any(ScaleConverter))?,
                Err(_) => {
                    map.next_value::<IgnoredAny>()?;
                    report.name(pointer, "unknown field, there are: image, images, scale".to_owned());
                }
            }
        }
        Ok(())
    }
    fn other(self, kind: &'static str) {
        self.0.name(String::new(), format!("must be an object with image or images, not {kind}"));
    }
}

struct NameConverter;

impl Convert for NameConverter {
    /// A known name, or an unknown one as a token of a JSON pointer.
    type Value = Result<Name, String>;

    fn string(self, name: &str) -> Self::Value {
        super::name(name).ok_or_else(|| token(name))
    }
    fn other(self, _: &'static str) -> Self::Value {
        Err(String::new())
    }
}

struct ScaleConverter;

impl Convert for ScaleConverter {
    type Value = GivenScale;

    fn number(self, value: f64) -> GivenScale {
        GivenScale::Unknown(value.to_string())
    }
    fn string(self, name: &str) -> GivenScale {
        let unknown = || GivenScale::Unknown(Value::String(shown(name)).to_string());
        Scale::named(name).map_or_else(unknown, GivenScale::Known)
    }
    fn other(self, kind: &'static str) -> GivenScale {
        GivenScale::Unknown(kind.to_owned())
    }
}

struct ListConverter<'a>(&'a mut Report);

impl Convert for ListConverter<'_> {
    type Value = ();

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let report = self.0;
        while report.shapes.len() <= FAULTS_MAX && report.count < report.images_max {
            let pointer = format!("/images/{}", report.count);
            let mut is_there = false;
            report.image(&pointer, |image| {
                seq.next_element_seed(image).map(|image| is_there = image.is_some())
            })?;
            if !is_there {
                return Ok(());
            }
            report.count += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            report.count += 1;
        }
        Ok(())
    }
    fn other(self, kind: &'static str) {
        // `images` counts as absent, so the number of images is not reported as a second fault.
        self.0.has_images = false;
        self.0.name("/images".to_owned(), format!("must be an array of images, not {kind}"));
    }
}
