//! The bounded worlds that are explored, and how large they are made.

use crate::scene::{Budget, Scenario};

/// How large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// In `cargo test`.
    Small,
    /// In a minute or so.
    Quick,
    /// Hours if it must be.
    Full,
}

const PLAIN: Scenario = Scenario::PLAIN;
const CALM: Budget = PLAIN.budget;

/// Every scenario in this size.
pub(crate) fn all(size: Size) -> Vec<Scenario> {
    let pick = |small: u8, quick: u8, full: u8| match size {
        Size::Small => small,
        Size::Quick => quick,
        Size::Full => full,
    };
    vec![
        Scenario {
            name: "S1",
            what: "one destination: zombies, crashes, lost, late and repeated transactions, late answers",
            budget: Budget {
                takes: 2,
                crashes: pick(0, 1, 1),
                unclear: pick(1, 1, 2),
                late: pick(0, 1, 1),
                attempts: pick(2, 2, 3),
                ..CALM
            },
            ..PLAIN
        },
        Scenario {
            name: "S2",
            what: "two destinations on one row, heartbeats late",
            old_heartbeats: true,
            destinations: 2,
            config: 3,
            records: pick(1, 1, 2),
            budget: Budget {
                takes: 2,
                crashes: pick(0, 0, 1),
                attempts: pick(2, 2, 3),
                unclear: pick(0, 1, 1),
                ..CALM
            },
            ..PLAIN
        },
        Scenario {
            name: "S3",
            what: "a Java worker takes the lease, moves the checkpoint, gives it back; the adopting write late or twice",
            records: pick(2, 3, 3),
            budget: Budget { takes: 2, java: 1, attempts: 2, unclear: pick(0, 0, 1), ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S4",
            what: "Java's leader gives the lease back while the tenure still stands, or moves it with checkpointOwner",
            budget: Budget { takes: pick(1, 1, 2), java: 1, assigns: pick(1, 1, 2), attempts: 2, unclear: 1, ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S5",
            what: "a rolling deploy adds a destination: config with and without it",
            destinations: 2,
            config: 1,
            configs: &[1, 3],
            records: pick(1, 2, 2),
            budget: Budget { takes: pick(2, 2, 3), restarts: 1, attempts: 2, ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S6",
            what: "a lane of two shards; an upload aborted by others",
            shards: 2,
            records: 1,
            budget: Budget { takes: pick(2, 3, 3), attempts: 2, aborts: 1, unclear: pick(0, 0, 1), ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S7",
            what: "two outputs of a commit: partial publication, an upload aborted by others",
            outputs: 2,
            budget: Budget { takes: pick(1, 2, 2), attempts: 2, aborts: pick(1, 1, 2), unclear: pick(0, 0, 1), ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S8",
            what: "an upload aborted by others at any moment, the lease stolen",
            budget: Budget { takes: pick(3, 3, 4), attempts: 2, aborts: 1, unclear: 1, ..CALM },
            records: pick(1, 1, 2),
            ..PLAIN
        },
        Scenario {
            name: "S9",
            what: "two destinations and a Java worker",
            destinations: 2,
            config: 3,
            records: pick(1, 2, 2),
            budget: Budget { takes: pick(1, 1, 2), java: 1, attempts: 2, ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S10",
            what: "destinations added, retired and brought back",
            destinations: 2,
            config: 1,
            configs: &[1, 2, 3],
            retire: true,
            budget: Budget { takes: pick(2, 2, 3), restarts: pick(1, 1, 2), attempts: 2, ..CALM },
            records: pick(1, 2, 2),
            ..PLAIN
        },
        Scenario {
            name: "S11",
            what: "parent and child, staging takes time and fails, a deadline passes",
            shards: 2,
            records: 1,
            child: true,
            staging: true,
            budget: Budget { takes: pick(2, 3, 3), attempts: pick(2, 3, 3), deadlines: pick(0, 1, 1), ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S12",
            what: "a lane, a Java worker that deletes the lease of an ended shard, the sweeper",
            shards: 2,
            records: 1,
            deletes: true,
            budget: Budget { takes: pick(2, 2, 3), java: 1, attempts: pick(1, 2, 2), aborts: pick(0, 0, 1), ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S13",
            what: "a lane, and Java's leader gives one of its leases back while the tenure still stands",
            shards: 2,
            records: 1,
            budget: Budget { takes: pick(1, 2, 2), java: 1, assigns: 1, attempts: pick(1, 1, 2), unclear: 1, ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S14",
            what: "an idempotent destination: delivered batches advance, refused records are committed",
            idempotent: true,
            staging: true,
            records: 3,
            budget: Budget {
                takes: pick(2, 2, 3),
                crashes: pick(0, 1, 1),
                attempts: pick(2, 2, 3),
                unclear: pick(0, 0, 1),
                ..CALM
            },
            ..PLAIN
        },
        Scenario {
            name: "S15",
            what: "an idempotent destination, a lane of two shards, and a Java worker",
            idempotent: true,
            staging: true,
            shards: 2,
            records: pick(1, 1, 2),
            budget: Budget { takes: 2, java: 1, attempts: pick(1, 2, 2), ..CALM },
            ..PLAIN
        },
        Scenario {
            name: "S16",
            what: "a declared destination: sent again under one id by whoever finds it, refused records are committed",
            declared: true,
            staging: true,
            records: pick(2, 3, 3),
            budget: Budget {
                takes: pick(2, 2, 3),
                crashes: pick(0, 1, 1),
                attempts: pick(2, 2, 3),
                unclear: pick(0, 1, 1),
                late: pick(0, 0, 1),
                ..CALM
            },
            ..PLAIN
        },
        Scenario {
            name: "S17",
            what: "a declared destination and a Java worker; its error objects aborted by others",
            declared: true,
            staging: true,
            records: pick(2, 2, 3),
            budget: Budget { takes: 2, java: 1, assigns: pick(0, 0, 1), attempts: 2, aborts: pick(0, 1, 1), ..CALM },
            ..PLAIN
        },
    ]
}

/// Larger than can be explored whole, for random walks.
pub(crate) fn walks() -> Vec<Scenario> {
    let wide = Budget {
        takes: 12,
        crashes: 3,
        attempts: 8,
        unclear: 3,
        late: 3,
        aborts: 2,
        java: 3,
        assigns: 2,
        restarts: 0,
        deadlines: 2,
    };
    let lane = Scenario {
        name: "W1",
        what: "two shards merged, two destinations, Java, everything at once",
        shards: 2,
        records: 3,
        destinations: 2,
        config: 3,
        staging: true,
        old_heartbeats: true,
        budget: wide,
        ..PLAIN
    };
    vec![
        Scenario { name: "W2", what: "the same, one shard, two outputs", shards: 1, outputs: 2, ..lane.clone() },
        Scenario {
            name: "W3",
            what: "the same, config changes",
            config: 1,
            configs: &[1, 2, 3],
            budget: Budget { restarts: 4, ..wide },
            ..lane.clone()
        },
        Scenario {
            name: "W4",
            what: "the same, config changes with retirement",
            config: 1,
            configs: &[1, 2, 3],
            retire: true,
            budget: Budget { restarts: 4, ..wide },
            ..lane.clone()
        },
        Scenario { name: "W5", what: "the same, parent and child", child: true, ..lane.clone() },
        Scenario { name: "W6", what: "the same, Java deletes ended leases", deletes: true, ..lane.clone() },
        Scenario { name: "W8", what: "the same, idempotent destinations", idempotent: true, ..lane.clone() },
        Scenario { name: "W9", what: "the same, declared destinations", declared: true, ..lane.clone() },
        Scenario {
            name: "W7",
            what: "one shard, one destination, one output, no Java",
            shards: 1,
            destinations: 1,
            config: 1,
            budget: Budget { java: 0, assigns: 0, ..wide },
            ..lane.clone()
        },
        lane,
    ]
}
