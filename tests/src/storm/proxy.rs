//! A TCP proxy between the workers and the endpoints, one port a service: its connections are cut, stall, or are not
//! taken, while both ends live. It looks at no byte.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::simulation::Dice;

/// What is told to the workers, by service.
const VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_S3"];

/// The line to one service.
struct Line {
    address: String,
    /// Bytes do not move while it is true.
    stalled: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, CancellationToken>,
    /// New connections are closed at once until then.
    shut_until: Option<Instant>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines to the three services.
pub struct Proxy {
    lines: Vec<Arc<Line>>,
    tasks: JoinSet<()>,
}

impl Proxy {
    /// Opens three ports before the endpoints at `target`, `host:port`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn open(target: &str) -> io::Result<Self> {
        let mut proxy = Self { lines: Vec::new(), tasks: JoinSet::new() };
        for _ in VARIABLES {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?.to_string();
            let line = Arc::new(Line { address, stalled: watch::Sender::new(false), state: Mutex::default() });
            proxy.tasks.spawn(accept(listener, target.to_owned(), line.clone()));
            proxy.lines.push(line);
        }
        Ok(proxy)
    }

    /// What a worker that goes through it finds in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let url = |line: &Arc<Line>| format!("http://{}", line.address);
        VARIABLES.into_iter().zip(self.lines.iter().map(url)).collect()
    }

    /// Something happens to one of the lines: what, and to how many connections.
    pub fn strike(&mut self, dice: &mut Dice) -> (&'static str, u64) {
        let line = self.lines[dice.within(0, self.lines.len() as u64 - 1) as usize].clone();
        match dice.within(0, 9) {
            0..=2 => ("connections cut, all of a service", cut(&line, dice, 100)),
            3..=5 => ("connections cut, some of a service", cut(&line, dice, 40)),
            6 => {
                let millis = dice.within(300, 2_500);
                line.state().shut_until = Some(Instant::now() + Duration::from_millis(millis));
                ("connections cut by a service away", cut(&line, dice, 100))
            }
            _ => {
                let count = line.state().open.len() as u64;
                let millis = dice.within(300, 3_500);
                line.stalled.send_replace(true);
                self.tasks.spawn(async move {
                    sleep(Duration::from_millis(millis)).await;
                    line.stalled.send_replace(false);
                });
                ("connections stalled", count)
            }
        }
    }

    /// Ends whatever is wrong.
    pub fn calm(&mut self) {
        for line in &self.lines {
            line.state().shut_until = None;
            line.stalled.send_replace(false);
        }
    }
}

/// So many of a hundred connections end in the middle of what they carry.
fn cut(line: &Line, dice: &mut Dice, percent: u64) -> u64 {
    let state = line.state();
    let struck: Vec<_> = state.open.values().filter(|_| dice.percent(percent)).collect();
    struck.iter().for_each(|connection| connection.cancel());
    struck.len() as u64
}

async fn accept(listener: TcpListener, target: String, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => { connections.spawn(carry(client, target.clone(), line.clone())); }
                // Too many open files, say: it passes.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn carry(mut client: TcpStream, target: String, line: Arc<Line>) {
    let (number, cancelled) = {
        let mut state = line.state();
        if state.shut_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        state.next += 1;
        let (number, token) = (state.next, CancellationToken::new());
        state.open.insert(number, token.clone());
        (number, token)
    };
    if let Ok(mut server) = TcpStream::connect(&target).await {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = copy(from_client, to_server, line.stalled.subscribe());
        let back = copy(from_server, to_client, line.stalled.subscribe());
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {}
            // The one end has closed: what the other still says would reach nobody.
            () = there => {}
            () = back => {}
        }
    }
    line.state().open.remove(&number);
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut stalled: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if stalled.wait_for(|stalled| !stalled).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
