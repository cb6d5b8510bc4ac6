//! Digits drawn on sheets, as clients send them.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{GrayImage, Luma};

/// The way a digit is drawn on a sheet.
#[derive(Clone, Copy)]
pub struct Sheet {
    /// Width and height of the digit's 28x28 in pixels of the sheet.
    pub side: u32,
    /// Whether the digit is scaled with smooth or with sharp pixels.
    pub smooth: bool,
    /// Width and height of the sheet, and position of the digit's 28x28. If absent, the sheet has the size of
    /// the digit.
    pub place: Option<(u32, u32, u32, u32)>,
    /// Grey level of the strokes.
    pub ink: u8,
    /// Grey level of the sheet.
    pub paper: u8,
    /// Distance of a box from the edges, and its thickness, in pixels.
    pub frame: Option<(u32, u32)>,
    /// Rotation of the box in degrees, as in a photo or scan.
    pub tilt: f32,
    /// Standard deviation of the noise in grey levels.
    pub noise: f32,
    /// How much darker the right edge is than the left one, in grey levels.
    pub shade: f32,
    /// JPEG quality, if it is compressed.
    pub jpeg: Option<u8>,
}

pub const PLAIN: Sheet = Sheet {
    side: 28,
    smooth: false,
    place: None,
    ink: 255,
    paper: 0,
    frame: None,
    tilt: 0.0,
    noise: 0.0,
    shade: 0.0,
    jpeg: None,
};

impl Sheet {
    /// The same with inverted brightness.
    pub fn inverted(self) -> Self {
        Self { ink: self.paper, paper: self.ink, ..self }
    }

    /// Draws the 784 pixels of a digit.
    pub fn draw(&self, pixels: &[u8]) -> GrayImage {
        let digit = GrayImage::from_raw(28, 28, pixels.to_vec()).unwrap();
        let filter = if self.smooth { FilterType::CatmullRom } else { FilterType::Nearest };
        let digit = imageops::resize(&digit, self.side, self.side, filter);
        let (width, height, left, top) = self.place.unwrap_or((self.side, self.side, 0, 0));
        let mut random = 1_u32;
        let mut sheet = GrayImage::from_fn(width, height, |x, y| {
            let inside = x >= left && y >= top && x < left + self.side && y < top + self.side;
            let mut ink = if inside { f32::from(digit.get_pixel(x - left, y - top)[0]) / 255.0 } else { 0.0 };
            if self.is_frame(x as f32, y as f32, width as f32, height as f32) {
                ink = 1.0;
            }
            let level = f32::from(self.paper) + ink * (f32::from(self.ink) - f32::from(self.paper));
            let shade = self.shade * x as f32 / width as f32;
            Luma([(level - shade + self.noise * normal(&mut random)).round().clamp(0.0, 255.0) as u8])
        });
        if let Some(quality) = self.jpeg {
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&sheet).unwrap();
            sheet = image::load_from_memory(&bytes).unwrap().into_luma8();
        }
        sheet
    }

    fn is_frame(&self, x: f32, y: f32, width: f32, height: f32) -> bool {
        let Some((inset, thickness)) = self.frame else { return false };
        let (sin, cos) = self.tilt.to_radians().sin_cos();
        let (dx, dy) = (x + 0.5 - width / 2.0, y + 0.5 - height / 2.0);
        let (u, v) = ((dx * cos - dy * sin).abs(), (dx * sin + dy * cos).abs());
        let depth = (width / 2.0 - u).min(height / 2.0 - v) - inset as f32;
        depth >= 0.0 && depth < thickness as f32
    }
}

/// Approximately normal with mean 0 and deviation 1: the sum of twelve uniform numbers (xorshift32).
fn normal(random: &mut u32) -> f32 {
    let uniform = |_| {
        *random ^= *random << 13;
        *random ^= *random >> 17;
        *random ^= *random << 5;
        *random as f32 / u32::MAX as f32
    };
    (0..12).map(uniform).sum::<f32>() - 6.0
}

/// Pearson's correlation of two images.
pub fn correlation(a: &[u8], b: &[u8]) -> f64 {
    let mean = |x: &[u8]| x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

/// Every kind of sheet, with a name.
pub fn kinds() -> Vec<(&'static str, Sheet)> {
    let scan = Sheet { ink: 230, paper: 40, smooth: true, ..PLAIN };
    let form = Sheet { side: 224, place: Some((400, 500, 30, 180)), ..scan };
    vec![
        ("28x28 as it is", PLAIN),
        ("8x, squares", Sheet { side: 224, ..PLAIN }),
        ("8x, smooth", Sheet { side: 224, smooth: true, ..PLAIN }),
        ("40x, squares", Sheet { side: 1120, ..PLAIN }),
        ("1500 px, smooth", Sheet { side: 1500, smooth: true, ..PLAIN }),
        ("8x, levels 40 and 230", Sheet { side: 224, ..scan }),
        ("on a larger sheet, off-centre", form),
        ("with a box", Sheet { frame: Some((10, 4)), ..form }),
        ("with a border at the edge", Sheet { frame: Some((0, 6)), ..form }),
        ("with a box tilted by 2 degrees", Sheet { frame: Some((14, 5)), tilt: 2.0, ..form }),
        ("with a box close to it", Sheet { frame: Some((12, 3)), ..Sheet { side: 224, ..scan } }),
        ("with noise of 10 levels", Sheet { noise: 10.0, ..form }),
        ("with a shade of 60 levels", Sheet { shade: 60.0, paper: 60, ..form }),
        ("as JPEG of quality 60", Sheet { jpeg: Some(60), ..form }),
        ("box, noise and JPEG", Sheet { frame: Some((10, 4)), noise: 6.0, jpeg: Some(70), ..form }),
    ]
}
