//! Dates as HTTP writes and reads them (RFC 9110 §5.6.7). The clock is the caller's.
//!
//! Written is one form, read are all three that the RFC asks a recipient to understand.

use super::chars::decimal;

const DAYS: &[u8; 21] = b"SunMonTueWedThuFriSat";
const LONG_DAYS: [&[u8]; 7] =
    [b"Sunday", b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday"];
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const DAY_SECONDS: u64 = 86_400;
/// Days of 400 years.
const CYCLE_DAYS: u64 = 146_097;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: u64 = 719_468;
/// The last second of the year 9999, the last that has a date of 29 bytes.
const LAST: u64 = 253_402_300_799;

/// The IMF-fixdate of a time in seconds since 1970, such as `Sun, 06 Nov 1994 08:49:37 GMT`. Times after the
/// year 9999 become its last second.
pub fn http_date(unix_seconds: u64) -> [u8; 29] {
    let seconds = unix_seconds.min(LAST);
    let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let (year, month, day) = civil(days);
    let mut text = *b"___, __ ___ ____ __:__:__ GMT";
    // 1 January 1970 was a Thursday.
    copy(&mut text[0..3], name(DAYS, (days + 4) % 7));
    digits(&mut text[5..7], day);
    copy(&mut text[8..11], name(MONTHS, month - 1));
    digits(&mut text[12..16], year);
    digits(&mut text[17..19], second / 3600);
    digits(&mut text[20..22], second / 60 % 60);
    digits(&mut text[23..25], second % 60);
    text
}

/// The seconds since 1970 that a date names, in any of the three forms of RFC 9110 §5.6.7; at most the last second
/// of the year 9999. `now_s`, in the same unit, says which century a year of two digits belongs to. `None` for
/// anything else, for a day that its month does not have, and for times before 1970. The name of the weekday must be
/// one, but need not fit the date.
pub fn parse_http_date(value: &[u8], now_s: u64) -> Option<u64> {
    let mut text = Text { rest: value };
    let date = match value.iter().position(|&byte| byte == b',') {
        Some(3) => text.imf_fixdate(),
        Some(_) => text.rfc850_date(now_s),
        None => text.asctime_date(),
    }?;
    if text.rest.is_empty() { date.unix_seconds() } else { None }
}

/// A date as its text gives it; ordered as time is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
    /// Of the day; 86400 in a leap second.
    second: u64,
}

impl Date {
    fn of(unix_seconds: u64) -> Self {
        let (year, month, day) = civil(unix_seconds / DAY_SECONDS);
        Self { year, month, day, second: unix_seconds % DAY_SECONDS }
    }

    fn unix_seconds(self) -> Option<u64> {
        let Self { year, month, day, second } = self;
        if year < 1970 || day == 0 || day > month_days(year, month) {
            return None;
        }
        Some((days(year, month, day) * DAY_SECONDS + second).min(LAST))
    }
}

/// What is left of a date to read; each call takes its part off the front, or the date is none.
struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    fn imf_fixdate(&mut self) -> Option<Date> {
        self.index(DAYS)?;
        self.literal(b", ")?;
        let day = self.number(2)?;
        self.literal(b" ")?;
        let month = self.index(MONTHS)?;
        self.literal(b" ")?;
        let year = self.number(4)?;
        self.literal(b" ")?;
        let second = self.time()?;
        self.literal(b" GMT")?;
        Some(Date { year, month, day, second })
    }

    /// `Sunday, 06-Nov-94 08:49:37 GMT`. What seems to be more than 50 years ahead was in the century before.
    fn rfc850_date(&mut self, now_s: u64) -> Option<Date> {
        self.rest = LONG_DAYS.iter().find_map(|name| self.rest.strip_prefix(*name))?;
        self.literal(b", ")?;
        let day = self.number(2)?;
        self.literal(b"-")?;
        let month = self.index(MONTHS)?;
        self.literal(b"-")?;
        let last_digits = self.number(2)?;
        self.literal(b" ")?;
        let second = self.time()?;
        self.literal(b" GMT")?;
        let now = Date::of(now_s.min(LAST));
        let latest = Date { year: now.year + 50, ..now };
        // The last year that ends with these digits and is not behind the latest.
        let year = latest.year - (latest.year - last_digits) % 100;
        let date = Date { year, month, day, second };
        Some(if date > latest { Date { year: year - 100, ..date } } else { date })
    }

    /// `Sun Nov  6 08:49:37 1994`.
    fn asctime_date(&mut self) -> Option<Date> {
        self.index(DAYS)?;
        self.literal(b" ")?;
        let month = self.index(MONTHS)?;
        self.literal(b" ")?;
        let day = if self.literal(b" ").is_some() { self.number(1) } else { self.number(2) }?;
        self.literal(b" ")?;
        let second = self.time()?;
        self.literal(b" ")?;
        let year = self.number(4)?;
        Some(Date { year, month, day, second })
    }

    /// `08:49:37` as second of the day. The 60th second is a leap second.
    fn time(&mut self) -> Option<u64> {
        let hour = self.number(2)?;
        self.literal(b":")?;
        let minute = self.number(2)?;
        self.literal(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// Exactly `count` digits.
    fn number(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        decimal(digits)
    }

    /// Which of the three-letter `names` comes next, counted from 1.
    fn index(&mut self, names: &[u8]) -> Option<u64> {
        let (wanted, rest) = self.rest.split_at_checked(3)?;
        self.rest = rest;
        (1..).zip(names.chunks_exact(3)).find_map(|(index, name)| (name == wanted).then_some(index))
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1 January 1970. Counts in years that begin
/// on 1 March, so that the leap day is the last of its year, and in cycles of 400 such years.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let (cycle, day_of_cycle) = (days / CYCLE_DAYS, days % CYCLE_DAYS);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // Months from March on have 153 days in every five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) =
        if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (cycle * 400 + year_of_cycle + next_year, month, day)
}

/// The day of a date, counted from 1 January 1970, which it must not precede: [`civil`] backwards.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (cycle, year_of_cycle) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    cycle * CYCLE_DAYS + 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year
        - DAYS_TO_1970
}

/// How many days a month (1 to 12) has.
fn month_days(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The `index`th three-letter name.
fn name(names: &[u8], index: u64) -> &[u8] {
    usize::try_from(index).ok().and_then(|index| names.get(3 * index..3 * index + 3)).unwrap_or(b"___")
}

fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Fills `to` with the last digits of `number`.
fn digits(to: &mut [u8], number: u64) {
    let mut rest = number;
    for place in to.iter_mut().rev() {
        let digit = (rest % 10) as u8;
        *place = b'0' + digit;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64) -> alloc::string::String {
        alloc::string::String::from_utf8(http_date(seconds).to_vec()).unwrap()
    }

    #[test]
    fn rfc9110_5_6_7_imf_fixdate() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT", "the example of the RFC");
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(1_709_251_199), "Thu, 29 Feb 2024 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT", "2100 has no leap day");
        assert_eq!(text(LAST), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(LAST));
    }

    /// 29 November 2026, 12:00:00.
    const NOW_S: u64 = 1_795_953_600;

    fn parse(text: &str) -> Option<u64> {
        parse_http_date(text.as_bytes(), NOW_S)
    }

    #[test]
    fn rfc9110_5_6_7_the_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text), Some(784_111_777), "{text}");
        }
        assert_eq!(parse("Wed Nov 16 00:00:00 1994"), Some(784_944_000), "two digits of the day");
        assert_eq!(text(NOW_S), "Sun, 29 Nov 2026 12:00:00 GMT");
    }

    #[test]
    fn rfc9110_5_6_7_years_of_two_digits() {
        let year = |text: &str| parse(text).map(|seconds| Date::of(seconds).year);
        assert_eq!(year("Sunday, 29-Nov-26 12:00:00 GMT"), Some(2026));
        assert_eq!(year("Sunday, 29-Nov-76 12:00:00 GMT"), Some(2076), "50 years ahead, not more");
        assert_eq!(year("Sunday, 29-Nov-76 12:00:01 GMT"), Some(1976));
        assert_eq!(year("Sunday, 01-Jan-99 00:00:00 GMT"), Some(1999));
        assert_eq!(year("Sunday, 01-Jan-70 00:00:00 GMT"), Some(2070));
        assert_eq!(year("Sunday, 29-Feb-00 00:00:00 GMT"), Some(2000));
        let at_the_end = parse_http_date(b"Sunday, 01-Jan-05 00:00:00 GMT", 3_950_000_000);
        assert_eq!(at_the_end.map(|seconds| Date::of(seconds).year), Some(2105), "seen from 2095");
        assert_eq!(parse_http_date(b"Sunday, 01-Jan-26 00:00:00 GMT", 0), None, "1926, seen from 1970");
        assert_eq!(
            parse_http_date(b"Friday, 31-Dec-99 00:00:00 GMT", u64::MAX),
            Some(LAST / 86_400 * 86_400)
        );
    }

    #[test]
    fn rfc9110_5_6_7_days_and_times_that_do_not_exist() {
        for bad in [
            "Sun, 30 Feb 2024 00:00:00 GMT",
            "Sun, 29 Feb 2023 00:00:00 GMT",
            "Sun, 29 Feb 2100 00:00:00 GMT",
            "Sun, 31 Apr 2024 00:00:00 GMT",
            "Sun, 00 Jan 2024 00:00:00 GMT",
            "Sun, 01 Jan 2024 24:00:00 GMT",
            "Sun, 01 Jan 2024 00:60:00 GMT",
            "Sun, 01 Jan 2024 00:00:61 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Wed, 01 Jan 0000 00:00:00 GMT",
            "Sun Feb 30 00:00:00 2024",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_800), "a leap second");
        assert_eq!(parse("Fri, 31 Dec 9999 23:59:60 GMT"), Some(LAST));
    }

    #[test]
    fn rfc9110_5_6_7_nothing_but_a_date() {
        for bad in [
            "",
            ",",
            "0",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 08:49:37 GMTx",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 06 08:49:37 94",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun, 06 \u{e9}ov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..60_000 {
            assert_eq!(civil(days), (year, month, day), "day {days}");
            assert_eq!(super::days(year, month, day), days);
            day += 1;
            if day > month_days(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
