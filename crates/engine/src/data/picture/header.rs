use image::metadata::Orientation;

/// What a file says of its picture before its pixels are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outline {
    pub width: u32,
    pub height: u32,
    /// How it is to be turned, by its Exif.
    pub orientation: Orientation,
    /// How often the decoder goes over the pixels.
    pub passes: u32,
    /// Bytes held at most while it is decoded and turned, the file itself not counted.
    pub peak_bytes: u64,
    /// Bytes that the grey levels hold afterwards.
    pub kept_bytes: u64,
}

impl Outline {
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Whether width and height are exchanged, which takes a copy.
pub fn turned(orientation: Orientation) -> bool {
    match orientation {
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => false,
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => true,
    }
}
