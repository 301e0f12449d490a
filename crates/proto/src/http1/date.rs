//! Dates as HTTP writes them (RFC 9110 §5.6.7). The clock is the caller's.

const DAYS: &[u8; 21] = b"SunMonTueWedThuFriSat";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const DAY_SECONDS: u64 = 86_400;
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

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1 January 1970. Counts in years that begin
/// on 1 March, so that the leap day is the last of its year, and in cycles of 400 such years.
fn civil(days: u64) -> (u64, u64, u64) {
    const CYCLE_DAYS: u64 = 146_097;
    // From 1 March of the year 0 to 1 January 1970.
    let days = days + 719_468;
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

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..60_000 {
            assert_eq!(civil(days), (year, month, day), "day {days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
