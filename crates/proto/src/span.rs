//! A byte range in a buffer that somebody else owns.
//!
//! Heads and packets are parsed in place; what they consist of is kept as ranges, so that a parsed request
//! needs no copy and no lifetime. Whoever moves the bytes calls [`Span::shift`] or parses again.

/// A byte range in the buffer a head or a packet was parsed from.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The range without bytes; also what a part that is absent is set to.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// A range from offsets; offsets beyond 4 GiB become a range that is empty in every buffer.
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::EMPTY,
        }
    }

    /// The bytes of this range in `buf`; empty when the range does not lie inside it.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Number of bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// True when there is no byte in it.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The same bytes after `by` bytes were put in front of the buffer.
    #[inline]
    #[must_use]
    pub fn shift(self, by: usize) -> Self {
        Self::new((self.start as usize).saturating_add(by), (self.end as usize).saturating_add(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_is_total() {
        let buf = b"abcdef";
        assert_eq!(Span::new(1, 3).of(buf), b"bc");
        assert_eq!(Span::new(4, 9).of(buf), b"");
        assert_eq!(Span { start: 5, end: 2 }.of(buf), b"");
        assert_eq!(Span { start: 5, end: 2 }.len(), 0);
        assert!(Span { start: 5, end: 2 }.is_empty());
        assert_eq!(Span::EMPTY.of(buf), b"");
    }

    #[test]
    fn offsets_beyond_four_gib_are_empty() {
        assert_eq!(Span::new(usize::MAX - 1, usize::MAX), Span::EMPTY);
        assert_eq!(Span::new(3, 5).shift(usize::MAX - 10), Span::EMPTY);
    }

    #[test]
    fn shift_follows_the_bytes() {
        assert_eq!(Span::new(1, 3).shift(4).of(b"....abcd"), b"bc");
    }
}
