//! Small files that become large when they are decoded.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Returns a grey PNG of `side` × `side` pixels with a thick stroke, so that a prediction needs every step of
/// its preparation. `chunks` precede the pixels.
pub fn png(side: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let third = side as usize / 3;
    let mut blank = vec![255; side as usize + 1];
    // The row's filter type: none.
    blank[0] = 0;
    let mut inked = blank.clone();
    inked[1 + third..1 + third + third / 3].fill(0);
    let rows = (0..side as usize).flat_map(|row| {
        let is_inked = (third..2 * third).contains(&row);
        if is_inked { &inked } else { &blank }
    });
    let rows: Vec<u8> = rows.copied().collect();
    grey_png(side, chunks, &rows)
}

/// Returns a PNG of `side` × `side` grey pixels that can't be compressed.
pub fn noise(side: u32) -> Vec<u8> {
    let row = side as usize + 1;
    // A linear congruential generator (Knuth, volume 2, section 3.2.1).
    let mut state = 1_u64;
    let rows: Vec<u8> = (0..row * side as usize)
        .map(|place| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // The row's filter type: none.
            if place % row == 0 { 0 } else { (state >> 33) as u8 }
        })
        .collect();
    grey_png(side, &[], &rows)
}

/// Returns a grey PNG. Each row starts with its filter type.
fn grey_png(side: u32, chunks: &[Vec<u8>], rows: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend_from_slice(&side.to_be_bytes());
    header.extend_from_slice(&side.to_be_bytes());
    // 8-bit grey, deflate, standard filters, not interlaced.
    header.extend_from_slice(&[8, 0, 0, 0, 0]);
    file.extend(chunk(b"IHDR", &header));
    for chunk in chunks {
        file.extend_from_slice(chunk);
    }
    file.extend(chunk(b"IDAT", &deflated(&mut &rows[..])));
    file.extend(chunk(b"IEND", &[]));
    file
}

/// Returns a colour profile of `inflated_bytes` zeros. It takes about a thousandth of that in the file.
pub fn colour_profile(inflated_bytes: u64) -> Vec<u8> {
    let mut profile = b"profile\0\0".to_vec();
    profile.extend(deflated(&mut io::repeat(0).take(inflated_bytes)));
    chunk(b"iCCP", &profile)
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    let mut chunk = (data.len() as u32).to_be_bytes().to_vec();
    chunk.extend_from_slice(kind);
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(&crc.sum().to_be_bytes());
    chunk
}

fn deflated(from: &mut impl Read) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    io::copy(from, &mut encoder).and_then(|_| encoder.flush()).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// Returns a progressive JPEG (ITU-T T.81, annex G) of `side` × `side` pixels with `scans` refinements. Each
/// scan visits every coefficient. In a hundred bytes it says that none of them changes.
pub fn jpeg(side: u16, scans: usize) -> Vec<u8> {
    const LAST_OF_BAND: u8 = 63;
    /// Ends the band in the next 16,384 blocks, plus the number in the following 14 bits.
    const END_OF_BAND_RUN_14: u8 = 0xe0;
    let blocks = usize::from(side).div_ceil(8).pow(2);
    let mut file = vec![0xff, 0xd8];
    let mut quantisation = vec![0];
    quantisation.extend([1; 64]);
    file.extend(segment(0xdb, &quantisation));
    let [high, low] = side.to_be_bytes();
    file.extend(segment(0xc2, &[8, high, low, high, low, 1, 1, 0x11, 0]));
    // Each table has one code, the bit 0: "no difference" and the run.
    for (table, symbol) in [(0x00, 0), (0x10, END_OF_BAND_RUN_14)] {
        let mut huffman = vec![table, 1];
        huffman.extend([0; 15]);
        huffman.push(symbol);
        file.extend(segment(0xc4, &huffman));
    }
    let mut scan = |first: u8, last: u8, high_low: u8, bits: usize| {
        file.extend(segment(0xda, &[1, 1, 0x00, first, last, high_low]));
        file.extend(std::iter::repeat_n(0, bits.div_ceil(8)));
    };
    scan(0, 0, 0x00, blocks);
    let run_bits = blocks.div_ceil(1 << 14) * 15;
    scan(1, LAST_OF_BAND, 0x01, run_bits);
    for _ in 0..scans {
        scan(1, LAST_OF_BAND, 0x10, run_bits);
    }
    file.extend([0xff, 0xd9]);
    file
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xff, marker];
    segment.extend((data.len() as u16 + 2).to_be_bytes());
    segment.extend_from_slice(data);
    segment
}
