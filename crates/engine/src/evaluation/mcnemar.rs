/// Fewer differing examples than this are tested exactly. The χ² distribution is only an approximation for them.
const EXACT_BELOW: usize = 25;

/// McNemar's test of whether two classifiers err equally often, on the same examples (McNemar, *Note on the Sampling
/// Error of the Difference Between Correlated Proportions or Percentages*, 1947). Only the examples count that one of
/// them reads rightly and the other wrongly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// χ² with continuity correction (Edwards, 1948). `None` if fewer than 25 examples differ.
    pub statistic: Option<f64>,
    /// Probability of a difference at least as large between classifiers that err equally often.
    pub p_value: f64,
}

impl McNemar {
    /// The test, where `only_a` examples are read rightly by the first classifier alone, and `only_b` by the second.
    ///
    /// If fewer than 25 differ, `p` is the two-sided binomial probability `2 Σ_{k ≤ min} C(n, k) / 2ⁿ`, at most 1.
    /// Otherwise it is the probability of a larger `χ² = (|a − b| − 1)² / (a + b)` with one degree of freedom. The
    /// correction never makes a difference larger than it is.
    pub fn of(only_a: usize, only_b: usize) -> Self {
        let differing = only_a + only_b;
        if differing < EXACT_BELOW {
            return Self { statistic: None, p_value: binomial(only_a.min(only_b), differing) };
        }
        let difference = only_a.abs_diff(only_b).saturating_sub(1) as f64;
        let statistic = difference * difference / differing as f64;
        Self { statistic: Some(statistic), p_value: libm::erfc((statistic / 2.0).sqrt()) }
    }
}

/// Twice the probability of at most `few` heads in `tosses` of a fair coin, at most 1.
fn binomial(few: usize, tosses: usize) -> f64 {
    let mut ways = 1.0;
    let mut sum = 1.0;
    for heads in 1..=few {
        ways *= (tosses - heads + 1) as f64 / heads as f64;
        sum += ways;
    }
    (2.0 * sum / 2_f64.powi(tosses as i32)).min(1.0)
}
