//! Decoding of valid, truncated and corrupt files.

use std::io::{Cursor, Write};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};

use super::*;

pub const LIMITS: PictureLimits =
    PictureLimits { width_max: 1000, height_max: 800, alloc_bytes_max: 1 << 26 };

pub fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub fn jpeg(picture: &GrayImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(picture).unwrap();
    bytes
}

pub fn gradient(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([(x * 3 + y * 5) as u8]))
}

pub fn message(bytes: &[u8]) -> String {
    decode(bytes, &LIMITS).unwrap_err().to_string()
}

/// A truncated PNG whose header claims these sides.
fn header_of_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(gradient(1, 1));
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The checksum of PNG's chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// A JPEG whose header claims `width` and `height`.
fn header_of_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg(&gradient(16, 16));
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn every_kind_of_colour_becomes_grey() {
    let grey = gradient(40, 30);
    let picture = DynamicImage::ImageLuma8(grey.clone());
    let kinds = [
        picture.clone(),
        picture.to_luma_alpha8().into(),
        picture.to_rgb8().into(),
        picture.to_rgba8().into(),
        picture.to_luma16().into(),
        picture.to_luma_alpha16().into(),
        picture.to_rgb16().into(),
        picture.to_rgba16().into(),
    ];
    for kind in kinds {
        let color = kind.color();
        let found = decode(&png(kind), &LIMITS).unwrap();
        let apart = found.as_raw().iter().zip(grey.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(1), "{color:?}: {apart:?}");
    }
}

/// The same picture decoded by `image`, for pictures without transparency.
fn by_image(bytes: &[u8]) -> GrayImage {
    image::load_from_memory(bytes).unwrap().into_luma8()
}

fn colours(width: u32, height: u32) -> DynamicImage {
    let pixel = |x, y| Rgb([(x * 7 + y) as u8, (x + y * 5) as u8, (x * y) as u8]);
    ImageBuffer::from_fn(width, height, pixel).into()
}

#[test]
fn colours_become_the_same_grey_as_with_image() {
    let picture = colours(67, 45);
    let mut colourful = Vec::new();
    JpegEncoder::new_with_quality(&mut colourful, 80).encode_image(&picture).unwrap();
    for bytes in [png(picture), colourful, jpeg(&gradient(67, 45))] {
        let (found, expected) = (decode(&bytes, &LIMITS).unwrap(), by_image(&bytes));
        let apart = found.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        // Both round, one of them in single precision.
        assert!(found.dimensions() == expected.dimensions() && apart <= Some(1), "{apart:?}");
    }
}

/// A chunk of a PNG.
pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

/// Inserts chunks before the pixels, which start after the header.
pub fn with_chunks(png: &[u8], chunks: &[u8]) -> Vec<u8> {
    [&png[..33], chunks, &png[33..]].concat()
}

pub fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Exif for a rotation by 90° clockwise: one entry, orientation (0x0112), a short, 6.
pub const TURNED: &[u8] = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

/// A palette of white and black, with 8x1 pixels of one bit each.
#[test]
fn a_palette_is_expanded() {
    let header = [0, 0, 0, 8, 0, 0, 0, 1, 1, 3, 0, 0, 0];
    let palette = chunk(b"PLTE", &[255, 255, 255, 0, 0, 0]);
    // No filter, then eight pixels.
    let pixels = [chunk(b"IDAT", &deflated(&[0, 0x0f])), chunk(b"IEND", &[])].concat();
    let bytes = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &palette, &pixels].concat();
    assert_eq!(decode(&bytes, &LIMITS).unwrap().as_raw()[..], [255, 255, 255, 255, 0, 0, 0, 0]);
    let see_through = with_chunks(&bytes, &[palette, chunk(b"tRNS", &[255, 0])].concat());
    // This adds a second palette.
    assert_eq!(decode(&see_through, &LIMITS), Err(PictureError::Damaged { format: "png" }));
    let see_through = [&bytes[..51], &chunk(b"tRNS", &[255, 0]), &bytes[51..]].concat();
    assert_eq!(decode(&see_through, &LIMITS).unwrap().as_raw()[..], [255, 255, 255, 255, 0, 0, 0, 0]);
}

/// Every kind of sample that PNG supports, interlaced and not, with rows that don't end at a byte.
#[test]
fn samples_of_any_depth_are_read_interlaced_or_not() {
    for (width, height) in [(1, 1), (3, 2), (9, 5), (33, 17)] {
        for (color, depths) in [(0_u8, &[1_u8, 2, 4, 8, 16][..]), (2, &[8, 16]), (4, &[8, 16]), (6, &[8, 16])]
        {
            for &depth in depths {
                let written = |interlaced: bool| {
                    let bytes = interlaced_png(width, height, color, depth, interlaced);
                    decode(&bytes, &LIMITS).unwrap_or_else(|error| panic!("{color} {depth}: {error}"))
                };
                assert_eq!(written(true), written(false), "{width}x{height}, colour {color}, depth {depth}");
            }
        }
    }
}

/// A PNG whose samples are a function of their position, so that it decodes to the same picture with and
/// without Adam7.
fn interlaced_png(width: u32, height: u32, color: u8, depth: u8, interlaced: bool) -> Vec<u8> {
    let samples = [1, 0, 3, 0, 2, 0, 4][usize::from(color)];
    let row = |y: u32, columns: &[u32]| {
        let bits = columns.iter().flat_map(|&x| (0..samples).map(move |sample| (x, sample))).flat_map(
            |(x, sample)| {
                // Alpha is never 0.
                let is_alpha = matches!(color, 4 | 6) && sample + 1 == samples;
                let value = if is_alpha { 0xffff - x * 99 } else { x * 7919 + y * 104_729 + sample * 31_337 };
                (0..u32::from(depth)).rev().map(move |bit| (value >> bit & 1) as u8)
            },
        );
        let bits: Vec<u8> = bits.collect();
        let bytes = bits.chunks(8).map(|bits| bits.iter().enumerate().map(|(at, bit)| bit << (7 - at)).sum());
        std::iter::once(0).chain(bytes).collect::<Vec<u8>>()
    };
    // First column, first row and steps of each pass (section 8.2).
    let adam7 =
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
    let passes = if interlaced { &adam7[..] } else { &[(0, 0, 1, 1)] };
    let mut pixels = Vec::new();
    for &(x, y, dx, dy) in passes {
        let columns: Vec<u32> = (x..width).step_by(dx).collect();
        if !columns.is_empty() {
            (y..height).step_by(dy).for_each(|y| pixels.extend(row(y, &columns)));
        }
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([depth, color, 0, 0, u8::from(interlaced)]);
    let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", &deflated(&pixels)), chunk(b"IEND", &[])];
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
}

#[test]
fn a_price_needs_only_headers_and_is_refused_as_decode_refuses() {
    let picture = price(&png(gradient(100, 50)), &LIMITS).unwrap();
    assert_eq!((picture.width, picture.height, picture.pixel_passes), (100, 50, 5_000));
    for bytes in [
        &b""[..],
        b"seven",
        &png(gradient(1, 1))[..20],
        &header_of_png(60_000, 2),
        &jpeg(&gradient(9, 9))[..90],
    ] {
        assert_eq!(price(bytes, &LIMITS).err(), decode(bytes, &LIMITS).err());
        assert!(price(bytes, &LIMITS).is_err());
    }
    // The price doesn't depend on the pixels.
    let header = &header_of_png(900, 700)[..33];
    assert_eq!(price(header, &LIMITS), price(&png(gradient(900, 700)), &LIMITS));
}

#[test]
fn bytes_that_start_like_a_picture_look_like_one() {
    assert_eq!(looks_like(&png(gradient(1, 1))[..8]), Some("png"));
    assert_eq!(looks_like(&jpeg(&gradient(1, 1))), Some("jpeg"));
    for bytes in [&b""[..], b"\x89PNG", &[0; 784], &[0xff; 784]] {
        assert_eq!(looks_like(bytes), None);
    }
}

#[test]
fn transparent_pixels_are_white_or_black_if_white_would_hide_the_picture() {
    let drawn = |level: u8| {
        let pixel = |x, _| if x < 3 { Rgba([level, level, level, 255]) } else { Rgba([77, 77, 77, 0]) };
        decode(&png(ImageBuffer::from_fn(10, 10, pixel)), &LIMITS).unwrap()
    };
    assert_eq!(drawn(0).as_raw()[..5], [0, 0, 0, 255, 255]);
    assert_eq!(drawn(255).as_raw()[..5], [255, 255, 255, 0, 0]);
    let half = ImageBuffer::from_fn(2, 1, |x, _| Rgba([0, 0, 0, if x == 0 { 255 } else { 128_u8 }]));
    assert_eq!(decode(&png(half), &LIMITS).unwrap().as_raw()[..], [0, 127]);
}

#[test]
fn a_jpeg_is_detected_by_its_content_and_turned_according_to_its_exif() {
    let picture = GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 0 } else { 255 }]));
    let upright = jpeg(&picture);
    let decoded = decode(&upright, &LIMITS).unwrap();
    assert_eq!(decoded.dimensions(), (32, 16));
    assert!(decoded.get_pixel(2, 8)[0] < 10 && decoded.get_pixel(30, 8)[0] > 245);

    let exif = [b"Exif\0\0", TURNED].concat();
    let segment = [&[0xff, 0xe1][..], &(exif.len() as u16 + 2).to_be_bytes(), &exif].concat();
    let turned = decode(&[&upright[..2], &segment, &upright[2..]].concat(), &LIMITS).unwrap();
    assert_eq!(turned.dimensions(), (16, 32));
    assert!(turned.get_pixel(8, 2)[0] < 10 && turned.get_pixel(8, 30)[0] > 245);
}

#[test]
fn other_bytes_are_not_a_picture() {
    for bytes in [&b""[..], b"x", b"GIF89a\x01\0\x01\0\0\0\0", b"{\"image\": []}", &[0x1f, 0x8b, 8, 0]] {
        assert_eq!(decode(bytes, &LIMITS), Err(PictureError::NotAPicture));
    }
}

#[test]
fn a_header_beyond_the_limits_is_refused_by_its_size() {
    let expected = "a picture of 60000x60000 pixels is too large: at most 1000x800 are taken";
    assert_eq!(message(&header_of_png(60_000, 60_000)), expected);
    assert_eq!(message(&header_of_jpeg(60_000, 60_000)), expected);
    assert!(decode(&png(gradient(1000, 800)), &LIMITS).is_ok());
    assert!(message(&png(gradient(1001, 800))).contains("1001x800"));
    assert!(message(&jpeg(&gradient(1000, 801))).contains("1000x801"));
}

/// The byte limit is all that keeps these headers from allocating 3.6 GB.
#[test]
fn a_header_beyond_the_limit_of_bytes_is_refused() {
    let limits = PictureLimits { width_max: 65_535, height_max: 65_535, alloc_bytes_max: 1 << 26 };
    for bytes in [header_of_png(60_000, 60_000), header_of_jpeg(60_000, 60_000)] {
        let Err(PictureError::TooLarge { width: 60_000, height: 60_000, limit }) = decode(&bytes, &limits)
        else {
            panic!("not refused");
        };
        let SizeLimit::Bytes { needed, max: 0x400_0000 } = limit else { panic!("{limit:?}") };
        assert!((3_600_000_000..3_700_000_000).contains(&needed), "{needed}");
    }
}

#[test]
fn a_jpeg_of_several_scans_takes_more() {
    let limits = PictureLimits { width_max: 8_000, height_max: 8_000, alloc_bytes_max: 1 << 30 };
    let mut bytes = header_of_jpeg(8_000, 8_000);
    let pixels = 8_000 * 8_000;
    assert!((pixels..2 * pixels).contains(&price(&bytes, &limits).unwrap().memory_bytes));
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 1] = 0xc2;
    // Two bytes per coefficient are held until the last scan.
    assert!((3 * pixels..4 * pixels).contains(&price(&bytes, &limits).unwrap().memory_bytes));
    let limits = PictureLimits { alloc_bytes_max: 3 * pixels, ..limits };
    assert!(matches!(
        decode(&bytes, &limits),
        Err(PictureError::TooLarge { limit: SizeLimit::Bytes { .. }, .. })
    ));
}

#[test]
fn a_picture_truncated_anywhere_is_damaged() {
    // Noise, so that most of the file is pixels.
    let picture = GrayImage::from_fn(64, 64, |x, y| Luma([(x * x * 31 + y * 57 * x) as u8]));
    for (name, bytes, tail) in [("png", png(picture.clone()), 40), ("jpeg", jpeg(&picture), 1)] {
        for length in (12..bytes.len() - tail).step_by(11).chain([bytes.len() - tail]) {
            match decode(&bytes[..length], &LIMITS) {
                Err(PictureError::Damaged { format, .. }) => assert_eq!(format, name),
                other => panic!("{name} cut to {length} of {}: {other:?}", bytes.len()),
            }
        }
    }
}

#[test]
fn a_flipped_byte_does_no_harm() {
    for bytes in [png(gradient(30, 20)), jpeg(&gradient(30, 20))] {
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 0x55;
            let _ = decode(&flipped, &LIMITS);
        }
    }
}
