//! The metrics, for Prometheus and others: `OpenMetrics` text, and the older format of Prometheus for those that ask for it.
//!
//! Owns names, labels and help. Everything is per worker's number, never per core, and counters are sums over all processes
//! that ever had that number: they go back only when the instance starts anew.

use std::fmt::{self, Write as _};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::snapshot::{Picture, ProcessPicture, WorkerPicture, WorkerState};
use crate::scoreboard::{BOUNDS_US, Histogram, Sum};

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    /// `text/plain; version=0.0.4`.
    Prometheus,
}

impl Format {
    /// What the client would rather have, by its `Accept` field.
    pub(crate) fn accepted(accept: &[u8]) -> Self {
        // Clients that read OpenMetrics name it; the order of preference is theirs only among what they name.
        let wanted = b"application/openmetrics-text";
        if accept.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted)) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text.
pub(crate) fn text(picture: Picture, format: Format) -> String {
    let mut registry = Registry::with_prefix("greenloom");
    registry.register_collector(Box::new(Shown(picture)));
    let mut text = String::new();
    // Writing into memory cannot fail.
    let _ = encode(&mut text, &registry);
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => older(&text),
    }
}

/// The same in the older format: a counter is named with its suffix, and there are neither units nor an end mark.
fn older(text: &str) -> String {
    let is_counter = |name: &str| text.contains(&format!("# TYPE {name} counter\n"));
    let mut older = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (mark, kind, name, rest) = (words.next(), words.next(), words.next(), words.next());
        match (mark, kind, name, rest) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some("TYPE"), Some(name), Some("info")) => {
                let _ = writeln!(older, "# TYPE {name}_info gauge");
            }
            (Some("#"), Some(kind), Some(name), Some(rest)) => {
                let suffix = if is_counter(name) {
                    "_total"
                } else if text.contains(&format!("# TYPE {name} info\n")) {
                    "_info"
                } else {
                    ""
                };
                let _ = writeln!(older, "# {kind} {name}{suffix} {rest}");
            }
            _ => {
                older.push_str(line);
                older.push('\n');
            }
        }
    }
    older
}

/// A worker's counters: name, help, and which sum.
const COUNTERS: &[(&str, &str, Sum)] = &[
    ("exceptions", "Exceptions that the application let through", Sum::Exceptions),
    ("switches", "Yields, suspends and blocking waits of requests", Sum::Switches),
    ("connections_accepted", "Connections accepted", Sum::Accepted),
    ("connections_refused", "Connections refused for what they sent, or for limits", Sum::Refused),
    ("queue_full", "Requests that found all cores busy", Sum::QueueFull),
    ("clients_gone", "Requests whose client left before the end of its response", Sum::ClientsGone),
    ("deadlines", "Requests that were cancelled by --request-timeout", Sum::Deadlines),
    ("abandoned", "Requests whose coroutine would not end and was given up", Sum::Abandoned),
    ("write_errors", "Responses that could not be sent to their end", Sum::WriteErrors),
    ("read_errors", "Requests whose body could not be read to its end", Sum::ReadErrors),
    ("signals", "uwsgi signals handled", Sum::Signals),
    ("files", "Requests that were answered with a file, without an application", Sum::Files),
    ("scripts", "Requests for CGI scripts", Sum::Scripts),
    ("stale_wakes", "Wake-ups that were meant for a wait that was over", Sum::StaleWakes),
];

/// Status classes of responses.
const STATUSES: [(&str, Sum); 5] = [
    ("1xx", Sum::Status1xx),
    ("2xx", Sum::Status2xx),
    ("3xx", Sum::Status3xx),
    ("4xx", Sum::Status4xx),
    ("5xx", Sum::Status5xx),
];

#[derive(Debug)]
struct Shown(Picture);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.instance(&mut encoder)?;
        self.requests(&mut encoder)?;
        for (name, help, sum) in COUNTERS {
            self.worker_counter(&mut encoder, name, help, None, |worker| worker.sums.of(*sum))?;
        }
        self.lives(&mut encoder)?;
        self.present(&mut encoder)
    }
}

impl Shown {
    fn instance(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let picture = &self.0;
        let mut info = encoder.encode_descriptor("build", "The server", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let mut reloads =
            encoder.encode_descriptor("reloads", "Reloads by how they ended", None, MetricType::Counter)?;
        for (result, count) in ["done", "failed"].into_iter().zip(picture.reloads) {
            counter(&mut reloads, &[("result", result)], count)?;
        }
        single_counter(encoder, "upgrades", "Replacements of the master's program", picture.upgrades)?;
        single_counter(
            encoder,
            "signals_dropped",
            "uwsgi signals that nobody could take",
            picture.signals_dropped,
        )?;
        let ready = u64::from(picture.is_ready());
        single_gauge(encoder, "ready", "Whether clients are welcome (/readyz)", ready)?;
        let serving = u64::from(picture.serving.unwrap_or(0));
        single_gauge(encoder, "generation", "The number of the generation that serves", serving)?;
        let mut states = encoder.encode_descriptor(
            "processes",
            "Processes of workers by what they do",
            None,
            MetricType::Gauge,
        )?;
        for state in WorkerState::ALL.into_iter().filter(|state| *state != WorkerState::Down) {
            let count = picture.processes().filter(|process| process.state == state).count();
            gauge(&mut states, &[("state", state.name())], count as u64)?;
        }
        for (name, help, value) in [
            (
                "listen_queue",
                "Connections in the queue of a listener (TCP only)",
                (|listener| listener.queue) as fn(&super::snapshot::ListenerPicture) -> u32,
            ),
            ("listen_queue_max", "Connections that fit into the queue of a listener", |listener| {
                listener.max_queue
            }),
        ] {
            let mut queues = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for listener in &picture.listeners {
                gauge(&mut queues, &[("socket", listener.name.as_str())], u64::from(value(listener)))?;
            }
        }
        Ok(())
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that have ended, by the class of their status";
        let mut requests = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (id, worker) in &self.0.workers {
            for (status, sum) in STATUSES {
                let labels = [("worker", id.to_string()), ("status", status.to_owned())];
                counter(&mut requests, &labels, worker.sums.of(sum))?;
            }
        }
        let help = "From the first byte of a request to the end of its response";
        let mut durations = encoder.encode_descriptor(
            "request_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (id, worker) in &self.0.workers {
            let labels = [("worker", id.to_string())];
            histogram(&mut durations.encode_family(&labels)?, &worker.sums.latency())?;
        }
        let help = "Bytes of responses, heads included";
        self.worker_counter(encoder, "sent", help, Some(&Unit::Bytes), |worker| {
            worker.sums.of(Sum::SentBytes)
        })
    }

    fn lives(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Processes that had to be started again";
        self.worker_counter(encoder, "respawns", help, None, |worker| worker.spawns.saturating_sub(1))?;
        let help = "Processes that were killed by harakiri";
        self.worker_counter(encoder, "harakiri", help, None, |worker| worker.harakiri)?;
        let help = "Processes that made room for a fresh one";
        self.worker_counter(encoder, "recycled", help, None, |worker| worker.recycled)
    }

    /// Gauges: of the living processes of a worker together, or of the one with the most.
    fn present(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now_ms = self.0.now_ms;
        let living = |worker: &WorkerPicture, of: &dyn Fn(&ProcessPicture) -> u64| -> u64 {
            worker.processes.iter().map(of).sum()
        };
        let longest = |worker: &WorkerPicture, of: &dyn Fn(&ProcessPicture) -> u64| -> u64 {
            worker.processes.iter().map(of).max().unwrap_or(0)
        };
        let help = "Cores by what they do";
        let mut cores = encoder.encode_descriptor("cores", help, None, MetricType::Gauge)?;
        for (id, worker) in &self.0.workers {
            for (at, state) in ["running", "suspended", "idle"].into_iter().enumerate() {
                let of = |process: &ProcessPicture| {
                    let cores = process.cores();
                    let idle = cores.all.saturating_sub(cores.running + cores.suspended);
                    [cores.running, cores.suspended, idle][at]
                };
                let labels = [("worker", id.to_string()), ("state", state.to_owned())];
                gauge(&mut cores, &labels, living(worker, &of))?;
            }
        }
        let help = "Open connections by what they do";
        let mut connections = encoder.encode_descriptor("connections", help, None, MetricType::Gauge)?;
        for (id, worker) in &self.0.workers {
            for (at, state) in ["idle", "reading", "busy", "draining", "parked"].into_iter().enumerate() {
                let of = |process: &ProcessPicture| {
                    process.seat.as_ref().map_or(0, |seat| {
                        let s = &seat.state;
                        [s.idle, s.reading, s.busy, s.draining, s.parked][at]
                    })
                };
                let labels = [("worker", id.to_string()), ("state", state.to_owned())];
                gauge(&mut connections, &labels, living(worker, &of))?;
            }
        }
        let help = "For how long the request that waits longest for a core does so";
        let mut ages =
            encoder.encode_descriptor("queue_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (id, worker) in &self.0.workers {
            let ms = longest(worker, &|process| process.queue_age_ms(now_ms));
            seconds(&mut ages, &[("worker", id.to_string())], ms * 1000)?;
        }
        let help =
            "For how long the loop did not look at its descriptors: the longest time of about a second";
        let mut lags =
            encoder.encode_descriptor("loop_lag", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (id, worker) in &self.0.workers {
            let us = longest(worker, &|process| process.lag_us(now_ms));
            seconds(&mut lags, &[("worker", id.to_string())], us)?;
        }
        let help = "Memory that is in RAM";
        let mut resident =
            encoder.encode_descriptor("resident", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for (id, worker) in &self.0.workers {
            let bytes = living(worker, &|process| process.rss);
            gauge(&mut resident, &[("worker", id.to_string())], bytes)?;
        }
        Ok(())
    }

    fn worker_counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&WorkerPicture) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (id, worker) in &self.0.workers {
            counter(&mut metric, &[("worker", id.to_string())], value(worker))?;
        }
        Ok(())
    }
}

/// No exemplars are given.
type Exemplars = NoLabelSet;

fn counter(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<Exemplars, u64, u64>(&value, None)
}

fn gauge(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(&value)
}

fn seconds(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, us: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(&in_seconds(us))
}

fn single_counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<Exemplars, u64, u64>(&value, None)
}

fn single_gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn histogram(metric: &mut MetricEncoder<'_>, latency: &Histogram) -> fmt::Result {
    let bounds = BOUNDS_US.iter().map(|&us| in_seconds(us)).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(latency.buckets).collect();
    metric.encode_histogram::<Exemplars>(in_seconds(latency.sum_us), latency.count(), &buckets, None)
}

#[expect(clippy::cast_precision_loss, reason = "the format knows floats only")]
fn in_seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::tree;

    fn shown(format: Format) -> String {
        let (tree, totals) = tree();
        let seat = tree.generations[1].scoreboard.seat(0).unwrap();
        seat.ended(200, 622, 341, 3);
        seat.ended(503, 1, 2_000_000, 1);
        text(Picture::take(&tree, &totals, false), format)
    }

    #[test]
    fn open_metrics() {
        let text = shown(Format::OpenMetrics);
        for line in [
            "# TYPE greenloom_requests counter",
            "greenloom_requests_total{worker=\"1\",status=\"2xx\"} 1",
            "greenloom_requests_total{worker=\"2\",status=\"2xx\"} 0",
            "# UNIT greenloom_request_duration_seconds seconds",
            "greenloom_request_duration_seconds_bucket{le=\"0.00025\",worker=\"1\"} 0",
            "greenloom_request_duration_seconds_bucket{le=\"0.0005\",worker=\"1\"} 1",
            "greenloom_request_duration_seconds_bucket{le=\"+Inf\",worker=\"1\"} 2",
            "greenloom_request_duration_seconds_count{worker=\"1\"} 2",
            "greenloom_request_duration_seconds_sum{worker=\"1\"} 2.000341",
            "greenloom_switches_total{worker=\"1\"} 4",
            "greenloom_sent_bytes_total{worker=\"1\"} 623",
            "greenloom_processes{state=\"draining\"} 1",
            "greenloom_cores{worker=\"1\",state=\"idle\"} 6",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_older_format() {
        let text = shown(Format::Prometheus);
        for line in [
            "# TYPE greenloom_requests_total counter",
            "greenloom_requests_total{worker=\"1\",status=\"2xx\"} 1",
            "# TYPE greenloom_request_duration_seconds histogram",
            "# TYPE greenloom_build_info gauge",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT") && !text.contains("requests counter"));
    }

    #[test]
    fn the_format_is_the_clients_choice() {
        assert_eq!(
            Format::accepted(b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
            Format::OpenMetrics
        );
        assert_eq!(Format::accepted(b"Application/OpenMetrics-Text"), Format::OpenMetrics);
        assert_eq!(Format::accepted(b"*/*"), Format::Prometheus);
        assert_eq!(Format::accepted(b""), Format::Prometheus);
    }
}
