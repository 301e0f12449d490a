//! How long requests took: counts in fixed buckets, the same in shared memory and in what is shown.

/// Upper bounds of the buckets in microseconds; one more bucket takes what is longer. Fine below a second, where
/// applications live, and up to a minute, for those that stream or wait.
pub const BOUNDS_US: [u64; 19] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// Buckets, the last one without a bound.
pub(super) const BUCKETS: usize = BOUNDS_US.len() + 1;

/// The bucket of a duration.
pub(super) fn bucket(us: u64) -> usize {
    // Most requests are short: the scan ends early.
    BOUNDS_US.iter().position(|&bound| us <= bound).unwrap_or(BOUNDS_US.len())
}

/// A copy of the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Requests in each bucket alone (not cumulative), in the order of [`BOUNDS_US`], then those that took longer.
    pub buckets: [u64; BUCKETS],
    /// Microseconds of all of them together.
    pub sum_us: u64,
}

impl Histogram {
    /// All requests.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        assert_eq!((bucket(0), bucket(100), bucket(101)), (0, 0, 1));
        assert_eq!((bucket(300_000_000), bucket(300_000_001)), (18, 19));
        assert!(BOUNDS_US.is_sorted());
    }
}
