//! The parts together: registrations of processes, what raises signals, and reloads.

use super::*;

const NOTHING: [(i32, u8); 0] = [];
const LOADING: Registrant = Registrant::Worker { id: 1, loading: true };

/// A clock that the test moves, the system under test, and the processes of the tree.
struct Instance {
    signals: UwsgiSignals,
    settings: SignalSettings,
    now: Now,
    views: Vec<WorkerView>,
}

impl Instance {
    fn new(settings: &SignalSettings) -> Self {
        let now = Now { monotonic_ms: 5000, unix_ms: 1_000_000 };
        Self { signals: UwsgiSignals::new(settings, now), settings: settings.clone(), now, views: Vec::new() }
    }

    /// Two workers of generation 1, which serves, and which has a handler for signal 1 on any worker.
    fn serving() -> Self {
        let mut instance = Self::new(&SignalSettings::default());
        instance.handler(1, 1, "");
        instance.fork(1, true);
        instance.serves(1);
        instance
    }

    fn register(&mut self, generation: u32, registration: Registration) -> Result<(), String> {
        self.signals.register(generation, 2, LOADING, registration, self.now)
    }

    fn handler(&mut self, generation: u32, number: u8, target: &str) {
        self.register(generation, Registration::Handler { number, target: target.to_owned() }).unwrap();
    }

    fn timer(&mut self, generation: u32, number: u8, interval_ms: u64) {
        self.register(generation, Registration::Timer { number, interval_ms, iterations: 0 }).unwrap();
    }

    /// Two worker processes of a generation.
    fn fork(&mut self, generation: u32, accepts: bool) {
        for id in 1..=2 {
            let pid = Pid::new(i32::try_from(generation * 100 + id).unwrap()).unwrap();
            self.views.push(WorkerView { generation, id, pid, accepts });
        }
    }

    fn serves(&mut self, generation: u32) {
        self.signals.generation_serves(generation, &self.settings, 2, self.now);
    }

    fn gone(&mut self, generation: u32) {
        let left: Vec<u32> = (1..10).filter(|&number| number != generation).collect();
        self.signals.keep_generations(&left);
    }

    fn accept(&mut self, generation: u32, accepts: bool) {
        self.views
            .iter_mut()
            .filter(|view| view.generation == generation)
            .for_each(|view| view.accepts = accepts);
    }

    /// A round of the master; which worker processes took which signals.
    fn round(&mut self, passed_ms: u64) -> Vec<(i32, u8)> {
        self.now.monotonic_ms += passed_ms;
        self.now.unix_ms += passed_ms;
        self.signals.on_readable(self.now);
        self.signals.tick(self.now);
        let delivered = self.signals.deliver(self.now, &self.views);
        for &(index, number) in &delivered {
            self.signals.taken(self.views[index].pid, number);
        }
        delivered.into_iter().map(|(index, number)| (self.views[index].pid.get(), number)).collect()
    }

    fn dropped(&self, number: u8) -> u64 {
        self.signals.counts().find(|&(counted, _)| counted == number).map_or(0, |(_, counts)| counts.dropped)
    }
}

#[test]
fn a_signal_goes_from_who_raises_it_to_who_runs_it() {
    let mut instance = Instance::serving();
    instance.handler(1, 2, "workers");
    instance.signals.raise(Some(1), 1);
    instance.signals.raise(None, 2);
    assert_eq!(instance.round(0), [(102, 2), (101, 2), (101, 1)]);
    assert_eq!(instance.round(0), NOTHING);
    let counts: Vec<_> = instance.signals.counts().collect();
    assert_eq!(counts[1], (2, SignalCounts { routed: 2, dropped: 0 }));
}

#[test]
fn a_signal_without_a_handler_is_dropped_and_counted() {
    let mut instance = Instance::serving();
    for _ in 0..3 {
        instance.signals.raise(None, 9);
    }
    assert_eq!(instance.round(0), NOTHING);
    assert_eq!(instance.dropped(9), 3);
}

#[test]
fn what_is_registered_wrongly_is_refused() {
    let mut instance = Instance::serving();
    for (target, part) in
        [("mule1", "mules"), ("nobody", "UNSUPPORTED"), ("worker9", "worker9 (signal 4, 2 workers)")]
    {
        let registration = Registration::Handler { number: 4, target: target.to_owned() };
        let reason = instance.register(1, registration).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
    let cron = Registration::Cron { number: 4, fields: [61, -1, -1, -1, -1] };
    assert!(instance.register(1, cron).unwrap_err().contains("minute 61"));
    let timer = Registration::Timer { number: 4, interval_ms: 0, iterations: 0 };
    assert!(instance.register(1, timer).unwrap_err().contains("above 0"));
}

#[test]
fn timers_run_from_the_first_worker_that_accepts() {
    let mut instance = Instance::new(&SignalSettings { timers: vec![(1, 100)], ..SignalSettings::default() });
    instance.handler(1, 1, "");
    instance.timer(1, 1, 100);
    instance.fork(1, false);
    assert_eq!(instance.round(60_000), NOTHING);
    assert_eq!(instance.signals.deadline_ms(instance.now), None);
    instance.views[0].accepts = true;
    assert_eq!(instance.round(50), NOTHING);
    assert_eq!(instance.signals.deadline_ms(instance.now), Some(instance.now.monotonic_ms + 100));
    // That of the application and that of the configuration.
    assert_eq!(instance.round(100), [(101, 1), (101, 1)]);
}

#[test]
fn a_reload_keeps_timers_single_and_in_their_pace() {
    let mut instance = Instance::serving();
    instance.timer(1, 1, 100);
    instance.round(0);
    assert_eq!(instance.round(170).len(), 1);
    instance.handler(2, 1, "");
    instance.timer(2, 1, 100);
    instance.fork(2, true);
    assert_eq!(instance.round(40).len(), 1);
    instance.serves(2);
    instance.accept(1, false);
    assert_eq!(instance.round(80), NOTHING);
    assert_eq!(instance.round(10), [(201, 1)]);
    instance.views.retain(|view| view.generation == 2);
    instance.gone(1);
    assert_eq!(instance.round(1000).len(), 10);
}

#[test]
fn a_reload_loses_no_signal() {
    let mut instance = Instance::serving();
    instance.handler(2, 1, "worker2");
    instance.fork(2, false);
    // The new application raises one while it starts: for its own workers.
    instance.signals.raise(Some(2), 1);
    assert_eq!(instance.round(0), NOTHING);
    instance.signals.raise(Some(1), 1);
    assert_eq!(instance.round(0), [(101, 1)]);
    instance.accept(1, false);
    instance.signals.raise(Some(1), 1);
    assert_eq!(instance.round(0), NOTHING);
    instance.accept(2, true);
    instance.serves(2);
    instance.signals.raise(Some(1), 1);
    let mut got = instance.round(0);
    got.sort_unstable();
    assert_eq!(got, [(201, 1), (202, 1), (202, 1)]);
}

#[test]
fn the_workers_of_a_dead_generation_are_served_until_another_serves() {
    let mut instance = Instance::serving();
    instance.timer(1, 1, 100);
    instance.round(0);
    instance.handler(2, 1, "");
    assert_eq!(instance.round(100).len(), 1);
    // The second fails to load.
    instance.gone(2);
    assert_eq!(instance.round(100).len(), 1);
    // And the first loses its workers before the third serves: what is raised now waits.
    instance.views.clear();
    instance.gone(1);
    instance.signals.raise(None, 1);
    assert_eq!(instance.round(0), NOTHING);
    instance.handler(3, 1, "");
    instance.fork(3, true);
    instance.serves(3);
    assert_eq!(instance.round(0), [(301, 1)]);
}

#[test]
fn what_is_raised_while_the_master_is_replaced_waits_for_the_next_generation() {
    let mut instance = Instance::new(&SignalSettings::default());
    instance.signals.adopt(3);
    instance.fork(3, true);
    instance.serves(3);
    instance.signals.raise(Some(3), 1);
    assert_eq!(instance.round(0), NOTHING);
    instance.handler(4, 1, "workers");
    instance.fork(4, false);
    assert_eq!(instance.round(0), NOTHING);
    instance.accept(4, true);
    instance.serves(4);
    let mut got = instance.round(0);
    got.sort_unstable();
    assert_eq!(got, [(401, 1), (402, 1)]);
}

#[test]
fn what_waits_for_a_generation_is_bounded() {
    let mut instance = Instance::new(&SignalSettings::default());
    for _ in 0..MOST_EARLY + 5 {
        instance.signals.raise(None, 1);
    }
    assert_eq!(instance.round(0), NOTHING);
    assert_eq!(instance.dropped(1), 5);
    assert_eq!(instance.signals.raised.len(), MOST_EARLY);
}

#[test]
fn crons_follow_the_clock() {
    let mut instance = Instance::serving();
    let cron = Registration::Cron { number: 1, fields: [-1; 5] };
    instance.register(1, cron).unwrap();
    instance.round(0);
    // 1,000 s after the epoch: the next minute begins 20 s later.
    assert_eq!(instance.signals.deadline_ms(instance.now), Some(instance.now.monotonic_ms + 20_000));
    assert_eq!(instance.round(19_999), NOTHING);
    assert_eq!(instance.round(1).len(), 1);
    assert_eq!(instance.round(120_000).len(), 2);
}

#[test]
fn files_of_the_configuration_raise_signals_whatever_the_generation() {
    let directory = std::env::temp_dir().join(format!("greenloom-signals-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("file");
    let settings = SignalSettings { file_monitors: vec![(1, file.clone())], ..SignalSettings::default() };
    let mut instance = Instance::new(&settings);
    instance.handler(1, 1, "");
    instance.fork(1, true);
    instance.serves(1);
    instance.round(0);
    std::fs::write(&file, "1").unwrap();
    assert_eq!(instance.round(1000), NOTHING);
    assert_eq!(instance.round(100), [(101, 1)]);
    let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::as_bytes(file.as_os_str()).to_vec();
    instance.handler(1, 2, "workers");
    instance.register(1, Registration::FileMonitor { number: 2, path }).unwrap();
    std::fs::write(&file, "22").unwrap();
    assert_eq!(instance.round(50), NOTHING);
    let mut got = instance.round(100);
    got.sort_unstable();
    assert_eq!(got, [(101, 2), (102, 1), (102, 2)]);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_reload_changes_what_the_configuration_raises_and_how_many_workers_there_are() {
    let mut instance =
        Instance::new(&SignalSettings { timers: vec![(1, 100), (2, 70)], ..SignalSettings::default() });
    instance.handler(1, 1, "");
    instance.handler(1, 2, "");
    instance.fork(1, true);
    instance.serves(1);
    instance.round(0);
    instance.round(60);
    instance.settings.timers = vec![(1, 100), (3, 10)];
    instance.handler(2, 1, "workers");
    instance.handler(2, 3, "worker2");
    instance.fork(2, true);
    instance.serves(2);
    assert_eq!(instance.round(0), NOTHING);
    let mut got = instance.round(40);
    got.sort_unstable();
    assert_eq!(got, [(201, 1), (202, 1), (202, 3), (202, 3), (202, 3), (202, 3)]);
    instance.accept(2, false);
    instance.signals.raise(None, 3);
    instance.round(0);
    instance.signals.generation_serves(2, &instance.settings, 1, instance.now);
    assert_eq!(instance.dropped(3), 1);
}

/// 60 s of 10 Hz against a master whose rounds are late and workers that take what they get only now and then.
#[test]
fn ten_ticks_a_second_arrive_however_busy_everybody_is() {
    let mut instance = Instance::serving();
    instance.timer(1, 1, 100);
    instance.round(0);
    let end_ms = instance.now.monotonic_ms + 60_000;
    let mut untaken = Vec::new();
    let mut got = 0;
    for round in 0u64.. {
        let passed_ms = (37 + 91 * (round % 7)).min(end_ms - instance.now.monotonic_ms);
        instance.now.monotonic_ms += passed_ms;
        instance.now.unix_ms += passed_ms;
        instance.signals.tick(instance.now);
        for (index, number) in instance.signals.deliver(instance.now, &instance.views) {
            got += 1;
            untaken.push((instance.views[index].pid, number));
        }
        if round % 10 == 0 {
            untaken.drain(..).for_each(|(pid, number)| instance.signals.taken(pid, number));
        }
        if instance.now.monotonic_ms == end_ms {
            break;
        }
    }
    assert_eq!((got, instance.dropped(1)), (600, 0));
}
