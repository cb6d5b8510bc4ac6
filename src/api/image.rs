//! Images in requests.

use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Side of an image in pixels.
const SIDE: usize = 28;

/// An image of a request.
pub struct Image;

/// The value of the brightest pixel: 255 (`byte`) or 1 (`unit`).
#[derive(Clone, Copy, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Scale {
    /// From 0 to 255.
    Byte,
    /// From 0 to 1.
    Unit,
}

/// Images with a byte per pixel from 0 to 255, bright on dark, row by row: 784 bytes per image.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Pixels(());

/// A PNG or JPEG file within the server's limits of size, dark on light or light on dark.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Picture(());

/// A form of PNG and JPEG files.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PicturesRequest {
    /// The files, each in a part called `image`; at most 64 by default.
    #[schema(min_items = 1)]
    pub image: Vec<Picture>,
}

impl PartialSchema for Image {
    fn schema() -> RefOr<Schema> {
        let row = list(pixel(), SIDE);
        let text = "A grey image of 28 × 28 pixels, bright on dark, from 0 to 255, or from 0 to 1 with the scale `unit`: 28 rows of 28 \
                    numbers, or all 784 row by row.";
        let forms = OneOfBuilder::new().item(list(row, SIDE)).item(list(pixel(), SIDE * SIDE));
        forms.description(Some(text)).into()
    }
}

impl ToSchema for Image {}

fn pixel() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.0)).maximum(Some(255.0))
}

fn list(items: impl Into<RefOr<Schema>>, length: usize) -> Array {
    ArrayBuilder::new().items(items.into()).min_items(Some(length)).max_items(Some(length)).build()
}

/// An image for examples: a bar that models classify as a 1.
pub fn example() -> Vec<Vec<u8>> {
    let is_ink = |row: usize, column: usize| (4..24).contains(&row) && (13..15).contains(&column);
    (0..SIDE).map(|row| (0..SIDE).map(|column| if is_ink(row, column) { 255 } else { 0 }).collect()).collect()
}

/// The same with a byte per pixel, each of which is a printable character.
pub fn example_bytes() -> String {
    let byte = |pixel: u8| if pixel > 0 { '~' } else { ' ' };
    example().concat().into_iter().map(byte).collect()
}
