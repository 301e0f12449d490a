//! Dates of request lines. Requests that begin in the same second share their texts: to take local time apart costs
//! more than all the rest of a line.

use greenloom_sys::clock::LocalTime;

/// The texts of one second.
#[derive(Debug)]
pub(super) struct Dates {
    /// Which second; `None`: none yet.
    second: Option<u64>,
    ctime: String,
    apache: String,
    /// In the form of `--log-date`, if that has one.
    own: Vec<u8>,
    own_format: Option<String>,
}

impl Dates {
    pub(super) fn new(own_format: Option<String>) -> Self {
        // An empty format is ctime's, which belongs to the server's log.
        let own_format = own_format.filter(|format| !format.is_empty());
        Self { second: None, ctime: String::new(), apache: String::new(), own: Vec::new(), own_format }
    }

    /// Makes the texts those of this second. `None`: they were already.
    pub(super) fn set(&mut self, second: u64) -> Option<LocalTime> {
        if self.second == Some(second) {
            return None;
        }
        self.second = Some(second);
        let local = LocalTime::at(second);
        self.ctime = local.ctime();
        self.apache = local.apache();
        if let Some(format) = &self.own_format {
            self.own = local.strftime(format);
        }
        Some(local)
    }

    /// `Sat Nov 21 19:27:38 2026`.
    pub(super) fn ctime(&self) -> &[u8] {
        self.ctime.as_bytes()
    }

    /// `21/Nov/2026:19:27:38 +0000`.
    pub(super) fn apache(&self) -> &[u8] {
        self.apache.as_bytes()
    }

    /// In the form of `--log-date`, else Apache's.
    pub(super) fn own(&self) -> &[u8] {
        if self.own_format.is_some() { &self.own } else { self.apache() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_change_with_the_second() {
        let mut dates = Dates::new(Some("%S".to_owned()));
        assert!(dates.set(1_795_290_458).is_some());
        assert!(dates.set(1_795_290_458).is_none());
        assert_eq!((dates.ctime().len(), dates.own()), (24, &b"38"[..]));
        assert!(dates.set(1_795_290_459).is_some());
        assert_eq!(dates.own(), b"39");
        for format in [None, Some(String::new())] {
            let mut dates = Dates::new(format);
            dates.set(1_795_290_458);
            assert!(!dates.own().is_empty());
            assert_eq!(dates.own(), dates.apache());
        }
    }
}
