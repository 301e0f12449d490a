//! Signals at times of the local clock: five fields, and when they come next. Pure: time and zone come in.
//!
//! Fields are uWSGI's: a value, -1 for any, -n for every n units (values that n divides); day and weekday both given
//! (not -1): either will do. What daylight saving does is what cron daemons agree on:
//!
//! | hour field | a local hour that comes twice | a local hour that does not come |
//! | --- | --- | --- |
//! | a value: a job of that time of the day | once, the first time | once, when the clock has jumped over it |
//! | -1 or -n: a job at intervals | both times: time goes on | not at all |

use std::cell::OnceCell;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// Cron entries of one application.
pub(crate) const MOST_CRONS: usize = 64;
/// How far ahead a time is looked for: from one 29 February to the next are up to eight years.
const HORIZON_DAYS: u32 = 9 * 366;
/// Above so many seconds between two looks, the clock was set or the machine slept: each job that was due in between
/// runs once. Below, the master was busy, and each minute counts.
const BUSY_SECONDS: i64 = 300;
const MINUTE: i64 = 60;

/// When a signal is raised; two registrations of the same are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CronSpec {
    /// The signal to raise.
    pub(crate) number: u8,
    minute: i32,
    hour: i32,
    day: i32,
    month: i32,
    weekday: i32,
}

impl CronSpec {
    /// A signal and its fields: minute, hour, day, month, weekday.
    ///
    /// # Errors
    /// A field is out of its range, or the date never comes.
    pub(crate) fn new(number: u8, fields: [i32; 5]) -> Result<Self, String> {
        const RANGES: [(&str, i32, i32); 5] =
            [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7)];
        for (field, (name, low, high)) in fields.into_iter().zip(RANGES) {
            if field > high || (field < low && field >= 0) {
                return Err(format!(
                    "cron of signal {number}: {name} {field} is not in {low}..{high} (-1 is any, -n is every n)"
                ));
            }
        }
        let [minute, hour, day, month, weekday] = fields;
        let spec = Self { number, minute, hour, day, month, weekday: if weekday == 7 { 0 } else { weekday } };
        if spec.next_after(0, &TimeZone::UTC).is_none() {
            return Err(format!("cron of signal {number}: no day is the {day} of month {month}"));
        }
        Ok(spec)
    }

    /// The first time (seconds since the epoch) in a later minute than `unix_s`.
    pub(crate) fn next_after(&self, unix_s: i64, zone: &TimeZone) -> Option<i64> {
        let earliest_s = (unix_s.div_euclid(MINUTE) + 1) * MINUTE;
        if self.hour >= 0 {
            self.next_of_day(earliest_s, zone)
        } else {
            self.next_at_interval(earliest_s, zone)
        }
    }

    /// A job of a time of the day: looked for in local time.
    fn next_of_day(&self, earliest_s: i64, zone: &TimeZone) -> Option<i64> {
        let hour = i8::try_from(self.hour).ok()?;
        let mut date = local(earliest_s, zone)?.0;
        for _ in 0..HORIZON_DAYS {
            if self.is_on(date) {
                let minutes = (0..60).filter(|&minute| matches(self.minute, minute));
                let mut times = minutes.filter_map(|minute| first_instant(date, hour, minute, zone));
                if let Some(at_s) = times.find(|&at_s| at_s >= earliest_s) {
                    return Some(at_s);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// A job at intervals: looked for in real time.
    fn next_at_interval(&self, earliest_s: i64, zone: &TimeZone) -> Option<i64> {
        let mut at_s = earliest_s;
        let horizon_s = earliest_s + i64::from(HORIZON_DAYS) * 86_400;
        while at_s < horizon_s {
            let (date, time) = local(at_s, zone)?;
            if !self.is_on(date) {
                // Back by an hour at midnight, this may have been already.
                let tomorrow_s = first_instant(date.tomorrow().ok()?, 0, 0, zone)?;
                at_s = tomorrow_s.max(at_s + MINUTE);
            } else if matches(self.hour, time.hour()) && matches(self.minute, time.minute()) {
                return Some(at_s);
            } else {
                at_s += MINUTE;
            }
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let day = matches(self.day, date.day());
        let weekday = matches(self.weekday, date.weekday().to_sunday_zero_offset());
        let either = self.day != -1 && self.weekday != -1;
        matches(self.month, date.month()) && if either { day || weekday } else { day && weekday }
    }
}

fn matches(field: i32, value: i8) -> bool {
    if field < 0 {
        i32::from(value).unsigned_abs() % field.unsigned_abs() == 0
    } else {
        i32::from(value) == field
    }
}

fn local(unix_s: i64, zone: &TimeZone) -> Option<(Date, Time)> {
    let local = zone.to_datetime(Timestamp::from_second(unix_s).ok()?);
    Some((local.date(), local.time()))
}

/// When the local clock shows this for the first time, or jumps over it.
fn first_instant(date: Date, hour: i8, minute: i8, zone: &TimeZone) -> Option<i64> {
    let ambiguous = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
    let in_a_gap = matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
    let first = ambiguous.earlier().ok()?;
    // In a gap, the earlier of the two readings lies before the jump.
    let first = if in_a_gap { zone.following(first).next()?.timestamp() } else { first };
    Some(first.as_second())
}

/// The cron entries of one application.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crons {
    /// Looked for when it is needed: the search reads many files.
    zone: OnceCell<TimeZone>,
    entries: Vec<Entry>,
    /// When they were looked at last; `None`: time does not run yet.
    seen_s: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    spec: CronSpec,
    /// When it is due; `None`: time does not run yet, or it never is.
    next_s: Option<i64>,
}

impl Crons {
    #[cfg(test)]
    fn new(zone: TimeZone) -> Self {
        Self { zone: OnceCell::from(zone), ..Self::default() }
    }

    /// The machine's time zone.
    fn zone(&self) -> TimeZone {
        self.zone.get_or_init(TimeZone::system).clone()
    }

    /// Adds an entry; one that is there already stands for it.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn add(&mut self, spec: CronSpec, unix_s: i64) -> Result<(), String> {
        if self.entries.iter().any(|entry| entry.spec == spec) {
            return Ok(());
        }
        if self.entries.len() >= MOST_CRONS {
            return Err(format!("you can register max {MOST_CRONS} cron !!!"));
        }
        let next_s = self.seen_s.and_then(|_| spec.next_after(unix_s, &self.zone()));
        self.entries.push(Entry { spec, next_s });
        Ok(())
    }

    /// Time begins to run; the minute that runs already is left to whoever was there before.
    pub(crate) fn start(&mut self, unix_s: i64) {
        if self.seen_s.replace(unix_s).is_none() {
            self.compute(unix_s);
        }
    }

    fn compute(&mut self, unix_s: i64) {
        if self.entries.is_empty() {
            return;
        }
        let zone = self.zone();
        for entry in &mut self.entries {
            entry.next_s = entry.spec.next_after(unix_s, &zone);
        }
    }

    /// The numbers of the signals that are due, each once for every minute since the last call.
    pub(crate) fn tick(&mut self, unix_s: i64) -> Vec<u8> {
        let Some(seen_s) = self.seen_s.replace(unix_s) else {
            self.seen_s = None;
            return Vec::new();
        };
        if unix_s < seen_s - MINUTE {
            // The clock was set back: what it shows now is what counts.
            self.compute(unix_s);
        }
        let was_busy = unix_s - seen_s <= BUSY_SECONDS;
        let mut due = Vec::new();
        if self.entries.is_empty() {
            return Vec::new();
        }
        let zone = self.zone();
        for entry in &mut self.entries {
            let Some(mut next_s) = entry.next_s.filter(|&next_s| next_s <= unix_s) else { continue };
            if !was_busy {
                next_s = unix_s;
            }
            entry.next_s = Some(next_s);
            while let Some(at_s) = entry.next_s.filter(|&at_s| at_s <= unix_s) {
                due.push((at_s, entry.spec.number));
                entry.next_s = entry.spec.next_after(at_s, &zone);
            }
        }
        due.sort_by_key(|&(at_s, _)| at_s);
        due.into_iter().map(|(_, number)| number).collect()
    }

    /// When the next signal is due, in seconds since the epoch.
    pub(crate) fn deadline_s(&self) -> Option<i64> {
        self.entries.iter().filter_map(|entry| entry.next_s).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOTHING: [u8; 0] = [];

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
    /// Half an hour, in the south.
    const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
    /// At midnight: a day that begins at one, and a last hour that comes twice.
    const ASUNCION: &str = "<-04>4<-03>,M10.1.0/0,M3.4.0/0";
    const KOLKATA: &str = "IST-5:30";

    fn zone(text: &str) -> TimeZone {
        TimeZone::posix(text).unwrap()
    }

    fn cron(fields: [i32; 5]) -> CronSpec {
        CronSpec::new(1, fields).unwrap()
    }

    fn at(text: &str, zone: &TimeZone) -> i64 {
        let local: jiff::civil::DateTime = text.parse().unwrap();
        local.to_zoned(zone.clone()).unwrap().timestamp().as_second()
    }

    /// The next `count` times after `from`, in local time.
    fn next(fields: [i32; 5], from: &str, count: usize, zone: &TimeZone) -> Vec<String> {
        let mut at_s = at(from, zone);
        let mut times = Vec::new();
        for _ in 0..count {
            at_s = cron(fields).next_after(at_s, zone).unwrap();
            times.push(
                Timestamp::from_second(at_s)
                    .unwrap()
                    .to_zoned(zone.clone())
                    .strftime("%F %R %:z")
                    .to_string(),
            );
        }
        times
    }

    #[test]
    fn fields_as_documented() {
        let utc = TimeZone::UTC;
        assert_eq!(
            next([59, 2, -1, -1, -1], "2026-11-22 02:59:00", 2, &utc),
            ["2026-11-23 02:59 +00:00", "2026-11-24 02:59 +00:00"]
        );
        assert_eq!(
            next([-20, -1, -1, -1, -1], "2026-11-22 02:15:33", 3, &utc),
            ["2026-11-22 02:20 +00:00", "2026-11-22 02:40 +00:00", "2026-11-22 03:00 +00:00"]
        );
        // 22 November 2026 is a Sunday: 0 and 7.
        for sunday in [0, 7] {
            assert_eq!(
                next([0, 12, -1, -1, sunday], "2026-11-16 00:00:00", 1, &utc),
                ["2026-11-22 12:00 +00:00"]
            );
        }
        // Day and weekday: either.
        assert_eq!(
            next([0, 0, 25, -1, 1], "2026-11-22 00:00:00", 3, &utc),
            ["2026-11-23 00:00 +00:00", "2026-11-25 00:00 +00:00", "2026-11-30 00:00 +00:00"]
        );
        assert_eq!(
            next([0, 0, 29, 2, -1], "2026-01-01 00:00:00", 2, &utc),
            ["2028-02-29 00:00 +00:00", "2032-02-29 00:00 +00:00"]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (fields, reason) in [
            ([60, -1, -1, -1, -1], "minute 60 is not in 0..59"),
            ([0, 24, -1, -1, -1], "hour 24"),
            ([0, 0, 0, -1, -1], "day 0 is not in 1..31"),
            ([0, 0, -1, 13, -1], "month 13"),
            ([0, 0, -1, -1, 8], "weekday 8"),
            ([0, 0, 31, 2, -1], "no day is the 31 of month 2"),
        ] {
            let error = CronSpec::new(5, fields).unwrap_err();
            assert!(error.contains(reason) && error.contains("signal 5"), "{error}");
        }
        assert!(CronSpec::new(5, [i32::MIN, -1, -1, -1, -1]).is_ok());
    }

    #[test]
    fn a_job_of_a_time_of_the_day_runs_once_a_day_through_daylight_saving() {
        let berlin = zone(BERLIN);
        assert_eq!(
            next([30, 2, -1, -1, -1], "2026-03-28 12:00:00", 2, &berlin),
            ["2026-03-29 03:00 +02:00", "2026-03-30 02:30 +02:00"]
        );
        assert_eq!(
            next([30, 2, -1, -1, -1], "2026-10-24 12:00:00", 2, &berlin),
            ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]
        );
        assert_eq!(
            next([0, 0, -1, -1, -1], "2026-10-03 12:00:00", 2, &zone(ASUNCION)),
            ["2026-10-04 01:00 -03:00", "2026-10-05 00:00 -03:00"]
        );
    }

    #[test]
    fn a_job_at_intervals_goes_on_through_daylight_saving() {
        let berlin = zone(BERLIN);
        assert_eq!(
            next([0, -1, -1, -1, -1], "2026-10-25 01:30:00", 3, &berlin),
            ["2026-10-25 02:00 +02:00", "2026-10-25 02:00 +01:00", "2026-10-25 03:00 +01:00"]
        );
        assert_eq!(
            next([30, -1, -1, -1, -1], "2026-03-29 01:00:00", 2, &berlin),
            ["2026-03-29 01:30 +01:00", "2026-03-29 03:30 +02:00"]
        );
    }

    fn crons(specs: &[[i32; 5]], unix_s: i64) -> Crons {
        let mut crons = Crons::new(TimeZone::UTC);
        crons.start(unix_s);
        for (number, fields) in (0..).zip(specs) {
            crons.add(CronSpec::new(number, *fields).unwrap(), unix_s).unwrap();
        }
        crons
    }

    #[test]
    fn each_minute_counts_once_also_when_the_master_is_late() {
        let mut crons = crons(&[[-1, -1, -1, -1, -1]], 0);
        assert_eq!(crons.deadline_s(), Some(60));
        assert_eq!(crons.tick(59), NOTHING);
        assert_eq!(crons.tick(60), [0]);
        assert_eq!(crons.tick(61), NOTHING);
        assert_eq!(crons.tick(119), NOTHING);
        assert_eq!(crons.tick(250), [0, 0, 0]);
        assert_eq!(crons.deadline_s(), Some(300));
    }

    #[test]
    fn a_clock_that_jumps_runs_what_was_due_once() {
        let mut crons = crons(&[[-1, -1, -1, -1, -1], [0, 2, -1, -1, -1]], 0);
        assert_eq!(crons.tick(1_000_000_000), [0, 1]);
        assert_eq!(crons.deadline_s(), Some(1_000_000_020));
        // Back: no minute is waited for twice, and none for years.
        assert_eq!(crons.tick(1_000_000_000 - 30), NOTHING);
        assert_eq!(crons.tick(10), NOTHING);
        assert_eq!(crons.deadline_s(), Some(60));
        assert_eq!(crons.tick(60), [0]);
    }

    #[test]
    fn entries_wait_for_the_start_and_have_a_limit() {
        let mut crons = Crons::new(TimeZone::UTC);
        for minute in 0..64 {
            let spec = CronSpec::new(1, [minute % 60, minute / 60, -1, -1, -1]).unwrap();
            crons.add(spec, 0).unwrap();
            crons.add(spec, 0).unwrap();
        }
        assert_eq!(crons.tick(60), NOTHING);
        assert_eq!(crons.deadline_s(), None);
        let spec = CronSpec::new(2, [-1; 5]).unwrap();
        assert_eq!(crons.add(spec, 0).unwrap_err(), "you can register max 64 cron !!!");
        crons.start(70);
        assert_eq!(crons.deadline_s(), Some(120));
    }

    /// What a cron that looks at every minute would do: the slow way round.
    fn brute_force(spec: CronSpec, from_s: i64, days: i64, zone: &TimeZone) -> Vec<i64> {
        let minute_matches = |local: jiff::civil::DateTime| {
            spec.is_on(local.date())
                && matches(spec.hour, local.hour())
                && matches(spec.minute, local.minute())
        };
        let mut runs = Vec::new();
        let mut at_s = (from_s - 86_400).div_euclid(MINUTE) * MINUTE;
        let local_at = |at_s| zone.to_datetime(Timestamp::from_second(at_s).unwrap());
        let mut shown = local_at(at_s);
        while at_s < from_s + days * 86_400 {
            at_s += MINUTE;
            let local = local_at(at_s);
            let due = if spec.hour < 0 {
                minute_matches(local)
            } else {
                // Everything the clock shows for the first time since it was looked at last.
                let mut due = false;
                while shown < local {
                    shown = shown.checked_add(jiff::Span::new().minutes(1)).unwrap();
                    due |= minute_matches(shown);
                }
                due
            };
            if due && at_s > from_s {
                runs.push(at_s);
            }
        }
        runs
    }

    fn field(low: i32, high: i32) -> impl Strategy<Value = i32> {
        prop_oneof![3 => Just(-1), 2 => -high..=-1, 3 => low..=high]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn next_times_are_those_of_a_look_at_every_minute(
            name in prop::sample::select(vec![BERLIN, NEW_YORK, LORD_HOWE, ASUNCION, KOLKATA]),
            // Around the days on which the clocks of these zones change, and anywhere else.
            month_and_day in prop::sample::select(vec![
                (3, 7), (3, 21), (3, 28), (4, 4), (10, 3), (10, 24), (10, 31), (12, 30), (2, 27), (7, 1),
            ]),
            year in 2024i16..2029,
            second in 0i64..86_400,
            minute in field(0, 59), hour in field(0, 23),
            day in prop_oneof![3 => Just(-1), 1 => -9..=-1, 1 => 1..=28],
            month in prop_oneof![5 => Just(-1), 1 => -3..=-1],
            weekday in prop_oneof![3 => Just(-1), 1 => -3..=-1, 1 => 0..=7],
        ) {
            let zone = zone(name);
            let (from_month, from_day) = month_and_day;
            let date = Date::new(year, from_month, from_day).unwrap();
            let from_s = date.to_zoned(zone.clone()).unwrap().timestamp().as_second() + second;
            let spec = CronSpec::new(1, [minute, hour, day, month, weekday]).unwrap();
            let end_s = from_s + 4 * 86_400;
            let mut at_s = from_s;
            // A minute that runs already has been looked at.
            let expected = brute_force(spec, from_s, 5, &zone).into_iter().filter(|&due_s| due_s - MINUTE >= from_s - from_s % MINUTE);
            for due_s in expected.take_while(|&due_s| due_s <= end_s) {
                at_s = spec.next_after(at_s, &zone).unwrap();
                prop_assert_eq!(at_s, due_s);
            }
            prop_assert!(spec.next_after(at_s, &zone).unwrap() > end_s);
        }
    }
}
