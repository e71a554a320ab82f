//! `redshift-peer`: see the library. Prints nothing but its address; `GET /counts` tells what happened.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use standpipe_redshift_peer::{Options, serve};
use tokio::net::TcpListener;

/// The Redshift Data API in front of PostgreSQL, for tests.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// PostgreSQL as libpq writes it, without a database.
    #[arg(long, default_value = "host=127.0.0.1 port=5439 user=rs")]
    postgres: String,
    /// The database, which must be there.
    #[arg(long, default_value = "dev")]
    database: String,
    /// Where S3 is.
    #[arg(long, env = "AWS_ENDPOINT_URL_S3")]
    s3: String,
    /// Rules of faults as JSON: [{"fault":"drop_ended","probability":0.1,"with_copy":true}].
    #[arg(long, default_value = "[]")]
    faults: String,
    /// Decides what a fault with a probability strikes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds that a statement waits before it starts.
    #[arg(long, default_value_t = 20)]
    queued_millis: u64,
    /// Most statements that are active at once.
    #[arg(long, default_value_t = 500)]
    active_max: usize,
}

#[allow(clippy::disallowed_methods, reason = "the binary is the one place that reads the wall clock")]
fn clock() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("http://{}", listener.local_addr()?);
    let options = Options {
        postgres: arguments.postgres,
        database: arguments.database,
        s3: arguments.s3,
        faults: arguments.faults,
        seed: arguments.seed,
        queued: Duration::from_millis(arguments.queued_millis),
        active_max: arguments.active_max,
        clock,
    };
    Ok(serve(options, listener).await?)
}
