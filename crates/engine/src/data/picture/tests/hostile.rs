//! Files in which few bytes expand to many, or few pixels cause much work.

use super::bytes::{LIMITS, TURNED, chunk, deflated, gradient, jpeg, message, png, with_chunks};
use super::*;

#[test]
fn chunks_that_are_not_pixels_are_skipped_whatever_they_contain() {
    let plain = png(gradient(40, 30));
    let upright = decode(&plain, &LIMITS).unwrap();
    let bomb = deflated(&vec![0; 20 << 20]);
    let profile = [&b"profile\0\0"[..], &bomb].concat();
    let text = [&b"Comment\0\0"[..], &bomb].concat();
    let international = [&b"Comment\0\x01\0\0\0"[..], &bomb].concat();
    let control = [0, 0, 0, 2, 0, 0, 0, 0];
    // Frame 0 of 1x1 pixels at 0, 0.
    let frame = [&[0; 7][..], &[1, 0, 0, 0, 1], &[0; 8], &[0, 1, 0, 1, 0, 0]].concat();
    let kinds: [(&[u8; 4], &[u8]); 8] = [
        (b"iCCP", &profile),
        (b"zTXt", &text),
        (b"iTXt", &international),
        (b"tEXt", &vec![b'x'; 1 << 20]),
        (b"xxxx", &bomb),
        (b"eXIf", &vec![0; 1 << 20]),
        (b"acTL", &control),
        (b"fcTL", &frame),
    ];
    for (kind, data) in kinds {
        let bytes = with_chunks(&plain, &chunk(kind, data).repeat(3));
        assert_eq!(price(&bytes, &LIMITS), price(&plain, &LIMITS), "{}", kind.escape_ascii());
        assert_eq!(decode(&bytes, &LIMITS).as_ref(), Ok(&upright), "{}", kind.escape_ascii());
    }
    let frames = [chunk(b"acTL", &control), chunk(b"fcTL", &frame)].concat();
    let end = plain.len() - 12;
    let film = [&with_chunks(&plain[..end], &frames)[..], &chunk(b"fdAT", &bomb), &plain[end..]].concat();
    assert_eq!(decode(&film, &LIMITS).as_ref(), Ok(&upright));

    let turned = with_chunks(&plain, &chunk(b"eXIf", TURNED));
    assert_eq!(decode(&turned, &LIMITS).unwrap().dimensions(), (30, 40));
    assert!(bomb.len() < 30_000, "what is not inflated is much larger inflated");
}

/// The pixels of 40x30 are 1,230 bytes. The 20 MB after them are not inflated.
#[test]
fn pixels_beyond_the_last_row_are_not_inflated() {
    let header = [0, 0, 0, 40, 0, 0, 0, 30, 8, 0, 0, 0, 0];
    let rows = [0_u8; 41 * 30];
    let chunks = |pixels: &[u8]| {
        let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", &deflated(pixels)), chunk(b"IEND", &[])];
        [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
    };
    let bytes = chunks(&[&rows[..], &vec![0xff; 20 << 20]].concat());
    assert_eq!(decode(&bytes, &LIMITS), decode(&chunks(&rows), &LIMITS));
    assert_eq!(decode(&chunks(&rows[1..]), &LIMITS), Err(PictureError::Damaged { format: "png" }));
}

/// Appends copies of the last scan of a JPEG, `scans - 1` of them.
fn with_scans(bytes: &[u8], scans: usize) -> Vec<u8> {
    let start = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let end = bytes.len() - 2;
    [&bytes[..end], &bytes[start..end].repeat(scans - 1), &bytes[end..]].concat()
}

#[test]
fn a_jpeg_of_very_many_scans_is_refused_by_their_number() {
    let plain = jpeg(&gradient(8, 8));
    let priced = price(&with_scans(&plain, 100), &LIMITS).unwrap();
    assert_eq!((priced.pixel_passes, price(&plain, &LIMITS).unwrap().pixel_passes), (6_400, 64));
    // Progressive, with scans of a single coefficient that are empty.
    let mut tiny = plain.clone();
    let frame = tiny.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    tiny[frame + 1] = 0xc2;
    for bytes in [with_scans(&plain, 160_000), with_scans(&tiny, 160_000)] {
        let limit = SizeLimit::Scans { scans: 160_000, max: 100 };
        let error = PictureError::TooLarge { width: 8, height: 8, limit };
        assert_eq!(decode(&bytes, &LIMITS).as_ref(), Err(&error));
        assert_eq!(price(&bytes, &LIMITS).as_ref(), Err(&error));
    }
    assert!(
        message(&with_scans(&plain, 101))
            .ends_with("it has 101 scans, each over all pixels, at most 100 are taken")
    );
}

/// The decoder would collect, sort and copy these segments, so it doesn't get them.
#[test]
fn segments_that_are_not_pixels_are_skipped() {
    let plain = jpeg(&gradient(40, 30));
    let segment = |marker: u8, data: &[u8]| {
        [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
    };
    let extended =
        [&b"http://ns.adobe.com/xmp/extension/\0"[..], &[b'0'; 32], &[0xff; 4], &[0; 4], b"x"].concat();
    let many: Vec<u8> = (0..20_000)
        .flat_map(|_| segment(0xe1, &extended))
        .chain((0..20_000).flat_map(|_| segment(0xe2, b"ICC_PROFILE\0\x01\x01x")))
        .chain(segment(0xfe, b"a comment"))
        .collect();
    let bytes = [&plain[..2], &many, &plain[2..]].concat();
    assert_eq!(decode(&bytes, &LIMITS), decode(&plain, &LIMITS));
    // The decoder builds its tables from these segments, so they are limited.
    let table = plain.windows(2).position(|pair| pair == [0xff, 0xdb]).unwrap();
    let tables = |count: usize| {
        let length = 2 + usize::from(u16::from_be_bytes([plain[table + 2], plain[table + 3]]));
        [&plain[..2], &plain[table..table + length].repeat(count), &plain[2..]].concat()
    };
    assert_eq!(decode(&tables(100), &LIMITS), decode(&plain, &LIMITS));
    assert_eq!(decode(&tables(10_000), &LIMITS), Err(PictureError::Damaged { format: "jpeg" }));
}
