//! What [`decode`] makes of bytes.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgba};

use super::*;

const LIMITS: PictureLimits = PictureLimits { width_max: 1000, height_max: 800, alloc_bytes_max: 1 << 22 };

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg(picture: &GrayImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(picture).unwrap();
    bytes
}

fn gradient(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([(x * 3 + y * 5) as u8]))
}

fn message(bytes: &[u8]) -> String {
    decode(bytes, &LIMITS).unwrap_err().to_string()
}

/// A PNG that ends behind a header with these sides.
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

/// A JPEG whose header says `width` and `height`.
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

/// A palette of white and black, 8x1 pixels of one bit each, with zlib's stored block.
#[test]
fn a_palette_is_looked_up() {
    let mut bytes = png(gradient(1, 1))[..8].to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 8, 0, 0, 0, 1, 1, 3, 0, 0, 0]);
    chunk(b"PLTE", &[255, 255, 255, 0, 0, 0]);
    // Adler-32 of the two bytes 0 (no filter) and 0x0f.
    chunk(b"IDAT", &[0x78, 0x01, 1, 2, 0, 0xfd, 0xff, 0, 0x0f, 0, 0x11, 0, 0x10]);
    chunk(b"IEND", &[]);
    assert_eq!(decode(&bytes, &LIMITS).unwrap().as_raw()[..], [255, 255, 255, 255, 0, 0, 0, 0]);
}

#[test]
fn what_is_transparent_is_white_or_black_where_white_would_hide_it() {
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
fn a_jpeg_is_told_by_its_content_and_turned_as_its_exif_says() {
    let picture = GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 0 } else { 255 }]));
    let upright = jpeg(&picture);
    let decoded = decode(&upright, &LIMITS).unwrap();
    assert_eq!(decoded.dimensions(), (32, 16));
    assert!(decoded.get_pixel(2, 8)[0] < 10 && decoded.get_pixel(30, 8)[0] > 245);

    // One entry: orientation (0x0112), a short, 6: turned by 90 degrees to the right.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let segment = [&[0xff, 0xe1][..], &(exif.len() as u16 + 2).to_be_bytes(), exif].concat();
    let turned = decode(&[&upright[..2], &segment, &upright[2..]].concat(), &LIMITS).unwrap();
    assert_eq!(turned.dimensions(), (16, 32));
    assert!(turned.get_pixel(8, 2)[0] < 10 && turned.get_pixel(8, 30)[0] > 245);
}

#[test]
fn other_bytes_are_no_picture() {
    for bytes in [&b""[..], b"x", b"GIF89a\x01\0\x01\0\0\0\0", b"{\"image\": []}", &[0x1f, 0x8b, 8, 0]] {
        assert_eq!(decode(bytes, &LIMITS), Err(PictureError::NotAPicture));
    }
}

#[test]
fn a_header_beyond_the_limits_is_refused_by_its_size() {
    let told = "a picture of 60000x60000 pixels is too large: at most 1000x800 are taken";
    assert_eq!(message(&header_of_png(60_000, 60_000)), told);
    assert_eq!(message(&header_of_jpeg(60_000, 60_000)), told);
    assert!(decode(&png(gradient(1000, 800)), &LIMITS).is_ok());
    assert!(message(&png(gradient(1001, 800))).contains("1001x800"));
    assert!(message(&jpeg(&gradient(1000, 801))).contains("1000x801"));
}

/// Only the allocation limit stands between the header and 3.6 GB here.
#[test]
fn a_header_beyond_the_allocation_limit_is_refused() {
    let limits = PictureLimits { width_max: 65_535, height_max: 65_535, alloc_bytes_max: 1 << 26 };
    let needed = 2_u64 * 60_000 * 60_000;
    for bytes in [header_of_png(60_000, 60_000), header_of_jpeg(60_000, 60_000)] {
        let limit = SizeLimit::Bytes { needed, max: 1 << 26 };
        let error = PictureError::TooLarge { width: 60_000, height: 60_000, limit };
        assert_eq!(decode(&bytes, &limits), Err(error));
    }
}

#[test]
fn a_jpeg_of_several_scans_is_given_less() {
    let mut bytes = jpeg(&gradient(900, 700));
    let limits = PictureLimits { alloc_bytes_max: 2 * 900 * 700, ..LIMITS };
    assert!(decode(&bytes, &limits).is_ok());
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 1] = 0xc2;
    let limit = SizeLimit::Bytes { needed: 4 * 900 * 700, max: limits.alloc_bytes_max };
    assert_eq!(decode(&bytes, &limits), Err(PictureError::TooLarge { width: 900, height: 700, limit }));
}

#[test]
fn a_picture_cut_off_anywhere_is_damaged() {
    // Noise, so that the pixels are most of the file.
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
