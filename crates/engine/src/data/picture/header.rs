use image::metadata::Orientation;

/// The properties of a picture that its headers give, before its pixels are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureHeader {
    pub width: u32,
    pub height: u32,
    /// Exif orientation: how to turn the picture after decoding.
    pub orientation: Orientation,
    /// Number of times the decoder passes over the pixels.
    pub passes: u32,
    /// Upper bound of the bytes allocated while it is decoded and turned. The file itself is not counted.
    pub peak_bytes: u64,
    /// Bytes of the grey levels that remain allocated.
    pub kept_bytes: u64,
}

impl PictureHeader {
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Whether the orientation swaps width and height, which needs a copy.
pub fn swaps_sides(orientation: Orientation) -> bool {
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
