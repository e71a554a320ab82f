//! What people see while the demo runs: a live picture on a terminal, a line every 2 s elsewhere. All of it on stderr.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::terminal::{self, grouped};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What stands before the text of an event: its second.
const EVENT_INDENT: usize = 7;

/// The demo at one moment.
#[derive(Debug)]
pub struct Moment {
    /// Since the first record.
    pub elapsed: Duration,
    /// Records in the stream.
    pub produced: u64,
    /// Rows in files.
    pub delivered: u64,
    /// Each worker with its shards, short.
    pub workers: Vec<(String, Vec<String>)>,
}

/// Shows moments and events.
pub enum Display {
    /// On a terminal.
    Live(Live),
    /// Elsewhere: when the last line was written.
    Lines(Option<Duration>),
}

/// The picture: a bar of the time, and two lines below it.
pub struct Live {
    all: MultiProgress,
    time: ProgressBar,
    records: ProgressBar,
    workers: ProgressBar,
}

impl Display {
    /// A display of a demo that produces for so long.
    pub fn new(duration: Duration) -> Self {
        if terminal::stderr_is_terminal() { Self::Live(Live::new(duration)) } else { Self::Lines(None) }
    }

    /// Shows the present moment.
    pub fn show(&mut self, moment: &Moment) {
        match self {
            Self::Live(live) => live.show(moment),
            Self::Lines(last) => {
                if last.is_none_or(|last| moment.elapsed >= last + LINE_EVERY) {
                    *last = Some(moment.elapsed);
                    terminal::err(&line(moment));
                }
            }
        }
    }

    /// Tells what just happened.
    pub fn event(&self, elapsed: Duration, text: &str) {
        let text = format!("{:5.1} s  {text}", elapsed.as_secs_f64());
        match self {
            // It cannot be told to a terminal that is gone.
            Self::Live(live) => {
                drop(live.all.println(terminal::wrapped(&text, terminal::stderr_columns(), EVENT_INDENT)))
            }
            Self::Lines(_) => terminal::err(&format!("{text}\n")),
        }
    }

    /// Takes the live picture away, for good; what was told stays.
    pub fn clear(&mut self) {
        if let Self::Live(live) = self {
            for bar in [&live.time, &live.records, &live.workers] {
                bar.finish_and_clear();
            }
            let _ = live.all.clear();
            // A bar that is dropped later would draw itself once more.
            *self = Self::Lines(None);
        }
    }
}

impl Live {
    fn new(duration: Duration) -> Self {
        let all = MultiProgress::new();
        let style = |template| ProgressStyle::with_template(template).expect("the template is sound");
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let time = all.add(
            ProgressBar::new(millis)
                .with_style(style("{prefix:>7}  {wide_bar:.cyan/dim}  {msg}").progress_chars("━━─")),
        );
        let records = all.add(ProgressBar::no_length().with_style(style("         {wide_msg}")));
        let workers = all.add(ProgressBar::no_length().with_style(style("         {wide_msg}")));
        Self { all, time, records, workers }
    }

    fn show(&self, moment: &Moment) {
        self.time.set_prefix(format!("{:.1} s", moment.elapsed.as_secs_f64()));
        self.time.set_position(u64::try_from(moment.elapsed.as_millis()).unwrap_or(u64::MAX));
        let done = self.time.length().is_some_and(|length| self.time.position() >= length);
        self.time.set_message(if done { "delivering the rest" } else { "producing" });
        self.records.set_message(records(moment));
        self.workers.set_message(workers(moment));
    }
}

fn line(moment: &Moment) -> String {
    format!("{:5.1} s  {}; {}\n", moment.elapsed.as_secs_f64(), records(moment), workers(moment))
}

fn records(moment: &Moment) -> String {
    let behind = moment.produced.saturating_sub(moment.delivered);
    let (produced, delivered) = (grouped(moment.produced), grouped(moment.delivered));
    format!("{produced} produced, {delivered} delivered, {} behind", grouped(behind))
}

/// `worker-1: shards 0 3`, ...
fn workers(moment: &Moment) -> String {
    let worker = |(name, shards): &(String, Vec<String>)| match shards.len() {
        0 => format!("{name}: none"),
        1 => format!("{name}: shard {}", shards[0]),
        _ => format!("{name}: shards {}", shards.join(" ")),
    };
    moment.workers.iter().map(worker).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_all() {
        let shards = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let moment = Moment {
            elapsed: Duration::from_millis(6_049),
            produced: 30_120,
            delivered: 24_000,
            workers: vec![("worker-1".to_owned(), shards(&["0", "3"])), ("worker-3".to_owned(), shards(&[]))],
        };
        let expected =
            "  6.0 s  30,120 produced, 24,000 delivered, 6,120 behind; worker-1: shards 0 3, worker-3: none\n";
        assert_eq!(line(&moment), expected);
    }
}
