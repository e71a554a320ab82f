//! Says what keeps lines from being written, when nothing was for some seconds: a producer tries on for a minute, and
//! silence looks like work.
//!
//! Never: ends anything.

use std::sync::Arc;
use std::time::Duration;

use standpipe_source::Trouble;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::lanes::Written;
use crate::terminal;

/// Silence that is said aloud.
const SILENCE: Duration = Duration::from_secs(5);
/// How often it is said again.
const AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Watches beside everything else, until what it returns is dropped.
pub fn watch(written: Arc<Written>, troubles: Vec<Arc<Trouble>>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut lines = written.lines();
        let mut since = Instant::now();
        let mut tell_after = SILENCE;
        loop {
            sleep(LOOK).await;
            if written.lines() != lines || !written.is_behind() {
                (lines, since, tell_after) = (written.lines(), Instant::now(), SILENCE);
            } else if since.elapsed() >= tell_after {
                let cause = troubles.iter().find_map(|trouble| trouble.cause());
                terminal::err(&said(since.elapsed(), cause.as_deref()));
                tell_after += AGAIN;
            }
        }
    });
    task
}

fn said(silence: Duration, cause: Option<&str>) -> String {
    let seconds = silence.as_secs();
    match cause {
        Some(cause) => format!("nothing was put for {seconds} s, still trying: {cause}\n"),
        None => format!("nothing was put for {seconds} s, the stream does not answer\n"),
    }
}
