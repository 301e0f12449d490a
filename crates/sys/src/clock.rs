//! Clocks: monotonic for every deadline, real time for logs and the Date field, local time for log lines.

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

/// Local time as `ctime(3)` writes it, without the newline: `Sat Nov 21 19:27:38 2026` (24 characters).
pub fn ctime(unix_seconds: u64) -> String {
    let time = libc::time_t::try_from(unix_seconds).unwrap_or(0);
    // SAFETY: an all-zero `tm` is a valid value (integers and a null zone name); `localtime_r` overwrites it.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; `localtime_r` keeps neither.
    unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    let day = DAYS[usize::try_from(tm.tm_wday).unwrap_or(0) % 7];
    let month = MONTHS[usize::try_from(tm.tm_mon).unwrap_or(0) % 12];
    format!(
        "{day} {month} {:2} {:02}:{:02}:{:02} {}",
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        tm.tm_year + 1900
    )
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
    fn the_monotonic_clock_does_not_go_back() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
    }
}
