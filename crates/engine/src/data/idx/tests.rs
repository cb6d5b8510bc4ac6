use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const LIMITS: IdxLimits = IdxLimits { examples_max: 10 };

/// An image file whose header claims `claimed` images, with `length` bytes of values.
fn images(claimed: u32, rows: u32, columns: u32, length: usize) -> Vec<u8> {
    let words = [IMAGES_MAGIC, claimed, rows, columns];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend((0..length).map(|index| index as u8));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn message<T: std::fmt::Debug>(result: Result<T, IdxError>) -> String {
    result.unwrap_err().to_string()
}

/// The error message for `bytes`, which must be the same for their gzip.
fn image_fault(bytes: &[u8]) -> String {
    let plain = message(parse_images(bytes, LIMITS));
    assert_eq!(plain, message(parse_images(&gzip(bytes), LIMITS)));
    plain
}

#[test]
fn images_and_labels_are_read_plain_and_gzip() {
    let file = images(2, 28, 28, 2 * 784);
    let plain = parse_images(&file, LIMITS).unwrap();
    assert_eq!(plain.dim(), (2, 784));
    assert_eq!(plain[[1, 3]], (784 + 3) as u8);
    assert_eq!(parse_images(&gzip(&file), LIMITS).unwrap(), plain);

    let labels = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];
    assert_eq!(parse_labels(&labels, LIMITS).unwrap(), [7, 8, 9]);
    assert_eq!(parse_labels(&gzip(&labels), LIMITS).unwrap(), [7, 8, 9]);
}

#[test]
fn a_gzip_file_of_several_members_is_read_to_its_end() {
    let file = images(2, 28, 28, 2 * 784);
    let (first, second) = file.split_at(900);
    let members = [gzip(first), gzip(second)].concat();
    assert_eq!(parse_images(&members, LIMITS).unwrap(), parse_images(&file, LIMITS).unwrap());
}

#[test]
fn a_header_claiming_four_billion_images_is_refused() {
    let fault = image_fault(&images(u32::MAX, 28, 28, 4096));
    assert_eq!(fault, "the header claims 4294967295 examples, at most 10 are taken");
    let unlimited = IdxLimits { examples_max: usize::MAX >> 16 };
    let file = images(u32::MAX, 28, 28, 4096);
    assert_eq!(message(parse_images(&file, unlimited)), "4112 bytes, the header needs 3367254359296");
    assert!(matches!(parse_images(&gzip(&file), unlimited), Err(IdxError::Truncated { .. })));
}

#[test]
fn another_magic_number_is_refused() {
    let labels = [0, 0, 8, 1, 0, 0, 0, 1, 7];
    assert_eq!(image_fault(&labels), "magic number 0x00000801, expected 0x00000803");
    let fault = message(parse_labels(&images(1, 28, 28, 784), LIMITS));
    assert_eq!(fault, "magic number 0x00000803, expected 0x00000801");
}

#[test]
fn another_size_is_refused() {
    assert_eq!(image_fault(&images(1, 28, 29, 812)), "images of 28x29 pixels, expected 28x28");
    assert_eq!(image_fault(&images(784, 1, 1, 784)), "images of 1x1 pixels, expected 28x28");
}

#[test]
fn too_few_and_too_many_bytes_are_refused() {
    assert_eq!(image_fault(&[]), "0 bytes, the header needs 16");
    assert_eq!(image_fault(&images(1, 28, 28, 0)[..15]), "15 bytes, the header needs 16");
    assert_eq!(message(parse_images(&images(1, 28, 28, 783), LIMITS)), "799 bytes, the header needs 800");
    assert_eq!(
        message(parse_images(&gzip(&images(1, 28, 28, 783)), LIMITS)),
        "799 bytes, the header needs 800"
    );
    assert_eq!(image_fault(&images(1, 28, 28, 785)), "more than the 800 bytes the header needs");
    assert_eq!(message(parse_labels(&[0, 0, 8, 1, 0, 0, 0, 2, 7], LIMITS)), "9 bytes, the header needs 10");
}

#[test]
fn a_gzip_bomb_is_inflated_only_as_far_as_its_header_says() {
    let mut bomb = images(10, 28, 28, 10 * 784);
    bomb.resize(64 << 20, 0);
    assert_eq!(message(parse_images(&gzip(&bomb), LIMITS)), "more than the 7856 bytes the header needs");
}

#[test]
fn a_damaged_gzip_stream_is_refused() {
    let mut file = gzip(&images(2, 28, 28, 2 * 784));
    let end = file.len() - 20;
    assert!(message(parse_images(&file[..end], LIMITS)).starts_with("damaged gzip stream: "));
    file[end] ^= 0xff;
    assert!(matches!(parse_images(&file, LIMITS), Err(IdxError::Gzip(_))));
}
