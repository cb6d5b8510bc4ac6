//! The price of a picture or of JSON is known before it is parsed, and never below the memory that it takes.

use chainrule::data::picture::{self, PictureLimits};
use chainrule::fields::{json, json_price};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma};

use crate::counting::most_held;

const LIMITS: PictureLimits = PictureLimits { width_max: 4_096, height_max: 4_096, alloc_bytes_max: 1 << 30 };

/// Returns the largest fraction of its price that a picture uses while it is decoded and prepared.
fn share(name: &str, bytes: &[u8]) -> f64 {
    let price = picture::price(bytes, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (held, _) = most_held(|| picture::decode(bytes, &LIMITS).map(|grey| picture::prepare(&grey)));
    let share = held as f64 / price.memory_bytes as f64;
    assert!(share <= 1.0, "{name}: {held} bytes, told to be {}", price.memory_bytes);
    let (told, _) = most_held(|| picture::price(bytes, &LIMITS));
    assert!(told < 64 << 10, "{name}: {told} bytes to tell a price");
    share
}

fn png(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

fn jpeg(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 80);
    match picture {
        DynamicImage::ImageLuma8(grey) => encoder.encode_image(grey),
        colour => encoder.encode_image(colour),
    }
    .expect("a JPEG");
    bytes
}

/// Returns the JPEG with another kind of frame and other sampling factors of its first component.
fn frame(jpeg: &[u8], marker: u8, sampling: u8) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    bytes[at + 1] = marker;
    bytes[at + 11] = sampling;
    bytes
}

fn scrawl(width: u32, height: u32) -> DynamicImage {
    GrayImage::from_fn(width, height, |x, y| Luma([if (x / 9 + y / 7) % 5 == 0 { 20 } else { 240 }])).into()
}

#[test]
fn a_picture_of_any_kind_takes_no_more_memory_than_its_price() {
    for (width, height) in [(1, 1), (28, 28), (640, 480), (3_000, 2), (2, 3_000), (1_025, 1_100)] {
        let grey = scrawl(width, height);
        let colour: DynamicImage = grey.to_rgb8().into();
        let kinds = [
            grey.clone(),
            grey.to_luma_alpha8().into(),
            colour.clone(),
            grey.to_rgba8().into(),
            grey.to_luma16().into(),
            grey.to_luma_alpha16().into(),
            grey.to_rgb16().into(),
            grey.to_rgba16().into(),
        ];
        for kind in &kinds {
            share(&format!("png {width}x{height} {:?}", kind.color()), &png(kind));
        }
        for (name, picture) in [("grey", &grey), ("colour", &colour)] {
            let baseline = jpeg(picture);
            for marker in [0xc0, 0xc2] {
                for sampling in [0x11, 0x21, 0x12, 0x22, 0x41, 0x14, 0x24, 0x44] {
                    let name = format!("jpeg {width}x{height} {name} {marker:x} {sampling:x}");
                    share(&name, &frame(&baseline, marker, sampling));
                }
            }
        }
    }
}

/// Every fourth pixel inside a box is a separate connected component. There are slightly more of them than
/// fit in a list that has grown to 2^17.
#[test]
fn the_price_of_a_picture_is_not_much_more_than_the_worst_case() {
    let dots = GrayImage::from_fn(780, 780, |x, y| {
        let edge = x.min(y).min(779 - x).min(779 - y);
        let is_ink = (10..16).contains(&edge) || edge > 18 && x % 2 == 0 && y % 2 == 0;
        Luma([if is_ink { 0 } else { 255 }])
    });
    let dots = share("dots", &png(&dots.into()));
    assert!(dots > 0.6, "{dots:.2}");
    let colours = DynamicImage::from(scrawl(4_000, 3_000).to_rgb8());
    for (name, bytes) in [("jpeg", jpeg(&colours)), ("progressive", frame(&jpeg(&colours), 0xc2, 0x11))] {
        let share = share(name, &bytes);
        assert!(share > 0.6, "{name}: {share:.2}");
    }
}

/// A file of 100 kB that decodes to 100 MB.
#[test]
fn a_decompression_bomb_in_a_picture_takes_no_memory() {
    let plain = png(&scrawl(640, 480));
    let mut encoder = flate2::write::ZlibEncoder::new(b"bomb\0\0".to_vec(), flate2::Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 100 << 20), &mut encoder).expect("written");
    let bomb = encoder.finish().expect("written");
    for kind in [b"iCCP", b"zTXt", b"iTXt", b"eXIf"] {
        let body = [&kind[..], &bomb].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        let length = (bomb.len() as u32).to_be_bytes();
        let chunk = [&length[..], &body, &crc.sum().to_be_bytes()].concat();
        let bytes = [&plain[..33], &chunk, &plain[33..]].concat();
        let held = |bytes: &[u8]| most_held(|| picture::decode(bytes, &LIMITS).expect("a picture")).0;
        assert_eq!(held(&bytes), held(&plain), "{}", kind.escape_ascii());
    }
}

#[test]
fn json_takes_no_more_memory_than_its_price() {
    let deep = |open: &str, close: &str| format!("{}0{}", open.repeat(120), close.repeat(120));
    let escaped = format!("\"{}\"", "\\u0041".repeat(60_000));
    let fields: Vec<String> = (0..30_000).map(|index| format!("\"{index:x}\":0")).collect();
    let shapes = [
        ("numbers", "0".to_owned(), 400_000),
        ("one more than a list has room for", "0".to_owned(), (1 << 18) + 1),
        ("empty lists", "[]".to_owned(), 140_000),
        ("lists of one", "[0]".to_owned(), (1 << 16) + 1),
        ("lists of five", "[0,0,0,0,0]".to_owned(), 40_000),
        ("empty objects", "{}".to_owned(), 140_000),
        ("objects of one", "{\"\":0}".to_owned(), 65_537),
        ("objects in objects", deep("{\"\":", "}"), 700),
        ("lists in lists", deep("[", "]"), 1_500),
        ("objects in lists", deep("{\"\":[", "]}"), 0),
        ("objects in lists, half as deep", format!("{}{}", "{\"\":[".repeat(60), "]}".repeat(60)), 1_000),
        ("strings", "\"\"".to_owned(), 200_000),
        ("a string", format!("\"{}\"", "x".repeat(400_000)), 1),
        ("an escaped string", escaped, 2),
        ("fields", format!("{{{}}}", fields.join(",")), 1),
    ];
    let mut worst: f64 = 0.0;
    for (name, item, count) in shapes {
        let text = format!("[{}]", vec![item; count].join(","));
        let (held, value) = most_held(|| json(text.as_bytes()));
        assert_eq!(
            value.expect("JSON"),
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON"),
            "{name}"
        );
        let price = json_price(text.as_bytes());
        assert!(held <= price, "{name}: {held}, priced at {price}");
        worst = worst.max(held as f64 / price as f64);
    }
    assert!(worst > 0.8, "{worst:.2}");
}
