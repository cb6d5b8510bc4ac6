use std::collections::HashSet;

/// 2⁶⁴ divided by the golden ratio, rounded to an odd number. Its multiples modulo 2⁶⁴ are all different and
/// evenly spread.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `count` different indices below `length`, or all of them if there are no more. They start at a point given
/// by `seed` and advance by the golden ratio, which spreads them evenly (Knuth, *The Art of Computer
/// Programming*, section 6.4, theorem S).
pub fn chosen(length: u64, count: usize, seed: u64) -> Vec<u64> {
    if count as u64 >= length {
        return (0..length).collect();
    }
    let mut taken = HashSet::with_capacity(count);
    let turns = (0..).map(|turn| seed.wrapping_add(turn).wrapping_mul(GOLDEN));
    // The index at this fraction of 2⁶⁴.
    let places = turns.map(|fraction| ((u128::from(fraction) * u128::from(length)) >> 64) as u64);
    places.filter(|&place| taken.insert(place)).take(count).collect()
}
