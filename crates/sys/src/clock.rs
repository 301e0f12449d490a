//! Clocks: monotonic for every deadline, real time for logs and the Date field, local time for log lines.

use std::ffi::CString;
use std::fmt;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock; only differences mean anything.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Milliseconds of the monotonic clock, rounded down.
pub fn monotonic_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

/// Real time in microseconds since the Unix epoch.
pub fn unix_us() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}

/// Real time in seconds since the Unix epoch.
pub fn unix_seconds() -> u64 {
    unix_us() / 1_000_000
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment in local time, taken apart.
#[derive(Clone, Copy)]
pub struct LocalTime(libc::tm);

impl LocalTime {
    /// The moment so many seconds after the Unix epoch.
    pub fn at(unix_seconds: u64) -> Self {
        let time = libc::time_t::try_from(unix_seconds).unwrap_or(0);
        // SAFETY: an all-zero `tm` is a valid value (integers and a null zone name); `localtime_r` overwrites it.
        let mut tm: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live locals; `localtime_r` keeps neither.
        unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
        Self(tm)
    }

    /// As `ctime(3)` writes it, without the newline: `Sat Nov 21 19:27:38 2026` (24 characters).
    pub fn ctime(&self) -> String {
        let Self(tm) = self;
        let day = DAYS[usize::try_from(tm.tm_wday).unwrap_or(0) % 7];
        format!("{day} {} {:2} {} {}", self.month(), tm.tm_mday, self.time(), tm.tm_year + 1900)
    }

    /// As Apache's logs have it: `21/Nov/2026:19:27:38 +0000`.
    pub fn apache(&self) -> String {
        let Self(tm) = self;
        let (sign, offset) = if tm.tm_gmtoff < 0 { ('-', -tm.tm_gmtoff) } else { ('+', tm.tm_gmtoff) };
        format!(
            "{:02}/{}/{}:{} {sign}{:02}{:02}",
            tm.tm_mday,
            self.month(),
            tm.tm_year + 1900,
            self.time(),
            offset / 3600,
            offset / 60 % 60
        )
    }

    /// As `strftime(3)` writes it in `format`, of which only what is before a NUL counts. A result of more than
    /// [`Self::STRFTIME_BYTES`] bytes is empty.
    pub fn strftime(&self, format: &str) -> Vec<u8> {
        let before_nul = format.split('\0').next().unwrap_or_default();
        let Ok(format) = CString::new(before_nul) else { return Vec::new() };
        let mut out = vec![0_u8; Self::STRFTIME_BYTES + 1];
        // SAFETY: the buffer has as many bytes as is said, format and `tm` are live; `tm.tm_zone` is null or points to a
        // name that the C library keeps for the life of the process. Nothing is kept.
        let length =
            unsafe { libc::strftime(out.as_mut_ptr().cast(), out.len(), format.as_ptr(), &raw const self.0) };
        out.truncate(length);
        out
    }

    /// The longest text [`Self::strftime`] makes.
    pub const STRFTIME_BYTES: usize = 2048;

    fn month(&self) -> &'static str {
        MONTHS[usize::try_from(self.0.tm_mon).unwrap_or(0) % 12]
    }

    fn time(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.0.tm_hour, self.0.tm_min, self.0.tm_sec)
    }
}

impl fmt::Debug for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalTime({})", self.apache())
    }
}

/// [`LocalTime::ctime`] of a moment.
pub fn ctime(unix_seconds: u64) -> String {
    LocalTime::at(unix_seconds).ctime()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctime_has_the_shape_of_ctime() {
        let text = ctime(1_795_290_458);
        assert_eq!(text.len(), 24, "{text}");
        assert!(text.ends_with(" 2026"), "{text}");
    }

    #[test]
    fn the_forms_of_one_moment_agree() {
        let moment = LocalTime::at(1_795_290_458);
        let strftime = |format: &str| String::from_utf8(moment.strftime(format)).unwrap();
        // No locale is set in a test: names are the C locale's.
        assert_eq!(strftime("%a %b %e %H:%M:%S %Y"), moment.ctime());
        assert_eq!(strftime("%d/%b/%Y:%H:%M:%S %z"), moment.apache());
        assert_eq!(strftime("100%% é"), "100% é");
        assert_eq!(strftime("%Y\0%Y"), "2026");
        assert_eq!(strftime(""), "");
        assert_eq!(strftime(&"x".repeat(LocalTime::STRFTIME_BYTES)).len(), LocalTime::STRFTIME_BYTES);
        assert_eq!(strftime(&"x".repeat(LocalTime::STRFTIME_BYTES + 1)), "");
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
    }
}
