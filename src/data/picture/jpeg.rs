//! The markers of a JPEG (ITU-T T.81, annex B), as far as the decoder is too lenient to tell: it
//! fills up what is missing at the end of a file.

/// How often a JPEG goes over its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scans {
    /// Once.
    One,
    /// Progressive, or one colour after the other.
    Several,
}

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;
const PROGRESSIVE: u8 = 0xc2;

/// The scans of a JPEG; none, if the file stops before its end marker.
pub fn scans(bytes: &[u8]) -> Option<Scans> {
    let mut rest = bytes.get(2..)?;
    let mut scans = Scans::One;
    let mut seen = 0;
    loop {
        let (marker, behind) = next_marker(rest)?;
        rest = behind;
        if marker == END_OF_IMAGE {
            return Some(scans);
        }
        let (length, _) = rest.split_first_chunk::<2>()?;
        rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
        seen += usize::from(marker == START_OF_SCAN);
        if marker == PROGRESSIVE || seen > 1 {
            scans = Scans::Several;
        }
    }
}

/// The next marker and what follows it; stuffed zeros, restarts and fill bytes are none.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff);
    let start = bytes.windows(2).position(is_marker)?;
    Some((bytes[start + 1], &bytes[start + 2..]))
}
