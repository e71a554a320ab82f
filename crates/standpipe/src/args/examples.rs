//! The examples that every help begins with. The escape codes are those of clap's headings; clap takes them out where
//! there is no terminal, or `NO_COLOR`.

macro_rules! examples {
    ($($line:literal)+) => { concat!("\x1b[1m\x1b[4mExamples:\x1b[0m\n", $("  ", $line, "\n"),+) };
}

#[cfg(feature = "emulator")]
pub(super) const PROGRAM: &str = examples!(
    "standpipe demo                      see it work, without AWS, network or config"
    "standpipe check -c orders.yaml      is the config right?"
    "standpipe run -c orders.yaml        deliver"
);
#[cfg(not(feature = "emulator"))]
pub(super) const PROGRAM: &str = examples!(
    "standpipe check -c orders.yaml      is the config right?"
    "standpipe run -c orders.yaml        deliver"
);

pub(super) const RUN: &str = examples!(
    "standpipe run -c orders.yaml"
    "standpipe run -c /etc/standpipe/ --pipeline orders"
    "standpipe run -c orders.yaml --until caught-up     deliver what is there, then end"
);

#[cfg(feature = "emulator")]
pub(super) const DEMO: &str = examples!(
    "standpipe demo"
    "standpipe demo --duration 60s --rate 20000 --workers 5"
    "standpipe demo --keep               look around in it afterwards"
    "standpipe demo --destination redshift         into a table; it says what to start for that"
);

#[cfg(feature = "emulator")]
pub(super) const EMULATOR: &str = examples!(
    "standpipe emulator --stream orders:4 --bucket lake --data ./aws"
    "standpipe emulator --listen 127.0.0.1:4700        then set the variables that it prints"
);

pub(super) const PUT: &str = examples!(
    "standpipe put orders orders.jsonl"
    "standpipe put orders *.jsonl.zst --rate 20MB"
    "standpipe put orders orders.jsonl.gz --partition-key .customer.id"
    "standpipe put orders orders.jsonl --aggregate"
    "tail -f app.log | standpipe put app-logs -"
);

pub(super) const LEASES: &str = examples!(
    "standpipe leases list -c orders.yaml              who holds what, and how far it is"
    "standpipe leases reset -c orders.yaml --all --to -6h --dry-run"
);

pub(super) const LEASES_LIST: &str = examples!(
    "standpipe leases list -c orders.yaml"
    "standpipe leases list -c orders.yaml --once --output json"
);

pub(super) const LEASES_RELEASE: &str = examples!(
    "standpipe leases release -c orders.yaml --lease shardId-000000000003"
    "standpipe leases release -c orders.yaml --lease shardId-000000000003 --force --yes"
);

pub(super) const REDRIVE: &str = examples!(
    "standpipe redrive -c orders.yaml --dry-run"
    "standpipe redrive -c orders.yaml --pipeline orders-dw --yes"
);

pub(super) const LEASES_RESET: &str = examples!(
    "standpipe leases reset -c orders.yaml --all --to 2026-01-31T12:00:00Z --dry-run"
    "standpipe leases reset -c orders.yaml --all --to -6h"
    "standpipe leases reset -c orders.yaml --lease shardId-000000000003 --to latest --yes"
);

pub(super) const LEASES_SETTLE: &str = examples!(
    "standpipe leases settle -c orders.yaml --lease shardId-000000000003 --cid 01KABCDEFGHJKMNPQRSTVWXYZ0 --publish"
    "standpipe leases settle -c orders.yaml --lease shardId-000000000003 --cid 01KABCDEFGHJKMNPQRSTVWXYZ0 --replay --dry-run"
);

pub(super) const LEASES_THAW: &str = examples!(
    "standpipe leases thaw -c orders.yaml --destination lake --dry-run     show the columns"
    "standpipe leases thaw -c orders.yaml --destination lake --yes"
);

#[cfg(feature = "emulator")]
pub(super) const TRY: &str = examples!(
    "standpipe try -c orders.yaml --input orders.jsonl"
    "standpipe try -c orders.yaml --input orders.jsonl.gz --out ./objects"
    "standpipe try -c logs.yaml --whole --input envelope.gz"
);

#[cfg(feature = "emulator")]
pub(super) const TEST: &str = examples!(
    "standpipe test -c orders.yaml cases/*"
    "standpipe test -c orders.yaml cases/refunds --update     what comes now is what is wanted"
);

pub(super) const PLAN: &str = examples!(
    "standpipe plan -c orders.yaml"
    "standpipe plan -c orders.yaml --shards 400 --workers 12 --output json"
);

pub(super) const INFER: &str = examples!(
    "standpipe infer orders.jsonl"
    "standpipe infer orders.jsonl.gz --rows 0          all lines, not only the first 10,000"
);

pub(super) const CHECK: &str = examples!(
    "standpipe check -c orders.yaml"
    "standpipe check -c orders.yaml --online              is all there, and are we let in?"
    "standpipe check -c /etc/standpipe/ --output json"
);

pub(super) const BENCH: &str = examples!(
    "standpipe bench"
    "standpipe bench --input orders.jsonl.zst --stage parquet --stage gzip"
    "standpipe bench --config orders.yaml --input orders.jsonl.zst     what a pipeline of yours costs"
);

pub(super) const SCHEMA: &str = examples!("standpipe schema > config.schema.json");

pub(super) const VERSION: &str = examples!(
    "standpipe version"
    "standpipe version --output json"
);

pub(super) const HEALTHCHECK: &str = examples!(
    "standpipe healthcheck"
    "standpipe healthcheck --url http://127.0.0.1:9464/readyz"
);
