use std::collections::HashSet;

/// 2⁶⁴ divided in the golden section, to the nearest odd number: its multiples lie evenly in 2⁶⁴, and all are different.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// So many different places below `length`, all where there are no more: from a seeded start a golden section apart,
/// so that they lie evenly (Knuth, *The Art of Computer Programming*, section 6.4, theorem S).
pub fn chosen(length: u64, count: usize, seed: u64) -> Vec<u64> {
    if count as u64 >= length {
        return (0..length).collect();
    }
    let mut taken = HashSet::with_capacity(count);
    let turns = (0..).map(|turn| seed.wrapping_add(turn).wrapping_mul(GOLDEN));
    // The place of a fraction of 2⁶⁴.
    let places = turns.map(|fraction| ((u128::from(fraction) * u128::from(length)) >> 64) as u64);
    places.filter(|&place| taken.insert(place)).take(count).collect()
}
