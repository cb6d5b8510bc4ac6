/// The 97.5 % quantile of the standard normal distribution, for an interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % score interval of a proportion of which `successes` of `trials` were observed (Wilson, *Probable Inference,
/// the Law of Succession, and Statistical Inference*, 1927): with `p̂ = successes / n` and the quantile z,
///
/// `(p̂ + z²/2n ± z √(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n)`.
///
/// It stays within 0 and 1, and has a width even if all trials succeed. Without trials it is everything from 0 to 1.
pub fn wilson_interval(successes: usize, trials: usize) -> [f64; 2] {
    if trials == 0 {
        return [0.0, 1.0];
    }
    let n = trials as f64;
    let p = successes as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let middle = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // The ends are exact there, but their difference is rounded.
    let low = if successes == 0 { 0.0 } else { middle - half };
    let high = if successes == trials { 1.0 } else { middle + half };
    [low, high]
}
