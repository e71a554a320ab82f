//! Rounds of a stage -> what it costs: CPU time of the process around what is measured, and nothing else.

use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

/// Rounds that are counted, at least, so that there is a median.
const ROUNDS_MIN: usize = 3;

/// How long a stage is measured.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    cpu: Duration,
}

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Records that came out.
    pub records: u64,
    /// Records that were refused.
    pub rejected: u64,
    /// Bytes that came out.
    pub bytes: u64,
}

/// What the rounds of a stage came to.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// CPU time of a round: the median.
    pub cpu: Duration,
    /// Rounds that were counted.
    pub rounds: usize,
    /// Of the last round; all are alike.
    pub done: Done,
}

impl Budget {
    /// So many seconds of CPU time for each stage.
    pub fn new(seconds: f64) -> Self {
        Self { cpu: Duration::from_secs_f64(seconds) }
    }

    /// Rounds of `run`, the first of which warms up and does not count. What `prepare` gives it costs nothing.
    pub async fn rounds<T>(
        &self,
        mut prepare: impl FnMut() -> T,
        mut run: impl AsyncFnMut(T) -> Result<Done>,
    ) -> Result<Figures> {
        run(prepare()).await?;
        let mut rounds = Vec::new();
        let mut spent = Duration::ZERO;
        loop {
            let prepared = prepare();
            let before = cpu_time();
            let done = run(prepared).await?;
            let cpu = cpu_time().saturating_sub(before);
            spent += cpu;
            rounds.push(cpu);
            if rounds.len() >= ROUNDS_MIN && spent >= self.cpu {
                return Ok(Figures { cpu: median(&mut rounds), rounds: rounds.len(), done });
            }
        }
    }
}

fn median(rounds: &mut [Duration]) -> Duration {
    rounds.sort();
    let middle = rounds.len() / 2;
    if rounds.len().is_multiple_of(2) { (rounds[middle - 1] + rounds[middle]) / 2 } else { rounds[middle] }
}

/// What all threads of the process have used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        let millis = |millis: &[u64]| {
            let mut rounds: Vec<Duration> = millis.iter().copied().map(Duration::from_millis).collect();
            median(&mut rounds).as_millis()
        };
        assert_eq!((millis(&[9, 1, 2]), millis(&[4, 8, 1, 6])), (2, 5));
    }

    #[tokio::test]
    async fn the_first_round_warms_up_and_the_last_tells_what_was_done() {
        let mut runs = 0;
        let run = async |number: u64| {
            runs += 1;
            Ok(Done { records: number, ..Done::default() })
        };
        let mut prepared = 0;
        let prepare = || {
            prepared += 1;
            prepared
        };
        let figures = Budget { cpu: Duration::ZERO }.rounds(prepare, run).await.expect("rounds");
        assert_eq!((figures.rounds, figures.done.records, runs), (ROUNDS_MIN, 4, 4));
    }
}
