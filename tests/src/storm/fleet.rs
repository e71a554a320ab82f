//! Worker processes: started, killed, frozen, thawed, told to stop, watched for their memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// One worker process.
#[derive(Debug)]
struct Process {
    child: Child,
    born: Instant,
    frozen: bool,
    /// CPU time so far.
    cpu: Duration,
}

/// The workers that live, and what is known of the others.
#[derive(Debug)]
pub struct Fleet {
    program: PathBuf,
    dir: PathBuf,
    living: BTreeMap<String, Process>,
    born: usize,
    /// The most resident memory that any worker had (VmHWM), KiB.
    pub peak_kib: u64,
    /// CPU time of those that live no more.
    cpu: Duration,
}

impl Fleet {
    /// No workers yet. The program lies beside the one that runs; the config and the logs lie in `dir`.
    ///
    /// # Errors
    /// When the program is not there, or the config cannot be written.
    pub fn new(dir: &Path, config: &str) -> io::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("standpipe");
        if !program.is_file() {
            let what = format!("{} is not there: cargo build --workspace --bins", program.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("standpipe.yaml"), config)?;
        Ok(Self { program, dir: dir.to_owned(), living: BTreeMap::new(), born: 0, peak_kib: 0, cpu: Duration::ZERO })
    }

    /// Starts a worker that finds the endpoints in its environment, as `endpoints` says.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self, endpoints: &[(&'static str, String)]) -> io::Result<String> {
        self.born += 1;
        let name = format!("worker-{:03}", self.born);
        let log = File::create(self.dir.join(format!("{name}.log")))?;
        let child = Command::new(&self.program)
            .args(["run", "-c"])
            .arg(self.dir.join("standpipe.yaml"))
            .env("STANDPIPE_WORKER", &name)
            .envs(endpoints.iter().map(|(name, url)| (name, url)))
            .env("AWS_REGION", "us-east-1")
            // What faults know it by.
            .env("AWS_ACCESS_KEY_ID", &name)
            .env("AWS_SECRET_ACCESS_KEY", "standpipe")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.living.insert(name.clone(), Process { child, born: Instant::now(), frozen: false, cpu: Duration::ZERO });
        Ok(name)
    }

    /// Workers that run and are not frozen, with their age.
    pub fn awake(&self) -> Vec<(String, Duration)> {
        let awake = self.living.iter().filter(|(_, process)| !process.frozen);
        awake.map(|(name, process)| (name.clone(), process.born.elapsed())).collect()
    }

    /// How many live, frozen ones included.
    pub fn len(&self) -> usize {
        self.living.len()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) {
        self.measure();
        if let Some(mut process) = self.forget(name) {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// SIGSTOP: it does not know that time passes.
    pub fn freeze(&mut self, name: &str) {
        if let Some(process) = self.living.get_mut(name) {
            process.frozen = true;
            signal(&process.child, "STOP");
        }
    }

    /// SIGCONT: it goes on as if nothing had happened.
    pub fn thaw(&mut self, name: &str) {
        if let Some(process) = self.living.get_mut(name) {
            process.frozen = false;
            signal(&process.child, "CONT");
        }
    }

    /// SIGTERM to one of them.
    pub fn stop(&self, name: &str) {
        if let Some(process) = self.living.get(name) {
            signal(&process.child, "TERM");
        }
    }

    /// Takes the reading of everybody's memory and CPU time.
    pub fn measure(&mut self) {
        for process in self.living.values_mut() {
            let pid = process.child.id();
            self.peak_kib = self.peak_kib.max(peak_kib(pid).unwrap_or(0));
            process.cpu = cpu(pid).unwrap_or(process.cpu);
        }
    }

    /// CPU time of all workers, as far as it was measured.
    pub fn cpu(&self) -> Duration {
        self.cpu + self.living.values().map(|process| process.cpu).sum::<Duration>()
    }

    fn forget(&mut self, name: &str) -> Option<Process> {
        let process = self.living.remove(name)?;
        self.cpu += process.cpu;
        Some(process)
    }

    /// A worker that ended though nobody told it to, with the end of its log: nothing else is worth looking at then.
    pub fn fallen(&mut self) -> Option<String> {
        let fallen = self.living.iter_mut().find_map(|(name, process)| {
            let status = process.child.try_wait().ok().flatten()?;
            Some((name.clone(), status))
        });
        let (name, status) = fallen?;
        self.living.remove(&name);
        let log = std::fs::read(self.dir.join(format!("{name}.log"))).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let last: Vec<&str> = log.lines().rev().take(12).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        Some(format!("{name} ended by itself with {status}:\n{last}"))
    }

    /// Waits until this worker has ended: how, or `None` when it has not in that time (it is then killed).
    pub async fn ended(&mut self, name: &str, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            self.measure();
            let process = self.living.get_mut(name)?;
            if let Ok(Some(status)) = process.child.try_wait() {
                self.forget(name);
                return Some(status);
            }
            if Instant::now() >= until {
                self.kill(name);
                return None;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM to all; what is wrong with how they ended.
    pub async fn drain(&mut self, within: Duration) -> Vec<String> {
        let names: Vec<String> = self.living.keys().cloned().collect();
        names.iter().for_each(|name| self.stop(name));
        let until = Instant::now() + within;
        let mut wrong = Vec::new();
        for name in names {
            match self.ended(&name, until.saturating_duration_since(Instant::now())).await {
                Some(status) if status.success() => {}
                Some(status) => wrong.push(format!("{name} ended with {status} after SIGTERM")),
                None => wrong.push(format!("{name} did not end within {} s of SIGTERM", within.as_secs())),
            }
        }
        wrong
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in self.living.values_mut() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// The shell has `kill` everywhere, the standard library has only SIGKILL.
fn signal(child: &Child, name: &str) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// User and system time. The name of the program stands in parentheses and may hold anything; utime and stime are fields
/// 14 and 15, in ticks, of which every Linux has 100 a second (proc(5), times(2)).
fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis((ticks.next()?? + ticks.next()??) * 10))
}
