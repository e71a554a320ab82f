//! Each answer of the commit table to who freezes, reads and thaws columns.

use standpipe_emulator::Fault;

use super::*;
use crate::emulated::{MORNING, World};

fn lake() -> DestinationId {
    DestinationId::new("lake")
}

fn frozen(columns: &str) -> Frozen {
    Frozen { columns: columns.to_owned(), records: 7, at: MORNING }
}

/// Puts an item under the destination's key, as another version would.
async fn put(world: &World, commits: &CommitTable, attributes: &[(&str, AttributeValue)]) {
    let mut item = Item::from([(CID.to_owned(), text(key(&lake())))]);
    item.extend(attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    world.put_in(commits.name(), CID, item).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_first_decides_and_who_is_second_gets_the_first_ones() {
    let world = World::new();
    let (_, commits) = world.tables().await;
    assert_eq!(commits.frozen(&lake()).await.expect("an answer"), None);
    let (first, second) = (frozen("id bigint"), frozen("id string, total double"));
    assert_eq!(commits.freeze(&lake(), &first).await.expect("frozen"), first);
    assert_eq!(commits.freeze(&lake(), &second).await.expect("an answer"), first);
    assert_eq!(commits.frozen(&lake()).await.expect("an answer"), Some(first));
    let other = DestinationId::new("other");
    assert_eq!(commits.freeze(&other, &second).await.expect("frozen"), second, "each destination has its own");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_freeze_at_once_both_get_the_same() {
    let world = World::new();
    let (_, commits) = world.tables().await;
    let id = lake();
    let (a, b) = (frozen("a bigint"), frozen("b bigint"));
    let (one, two) = tokio::join!(commits.freeze(&id, &a), commits.freeze(&id, &b));
    let (one, two) = (one.expect("an answer"), two.expect("an answer"));
    assert_eq!(one, two);
    assert_eq!(commits.frozen(&id).await.expect("an answer"), Some(one));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_unclear_and_the_next_look_finds_what_was_written() {
    let world = World::new();
    let (_, commits) = world.tables().await;
    let given = frozen("id bigint");
    world.fault(Fault::DropAnswer, "PutItem", 1);
    let error = commits.freeze(&lake(), &given).await.expect_err("no answer");
    assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
    assert_eq!(commits.frozen(&lake()).await.expect("an answer"), Some(given.clone()));
    assert_eq!(commits.freeze(&lake(), &frozen("x string")).await.expect("an answer"), given);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_is_named_by_what_to_do() {
    let world = World::new();
    let (_, commits) = world.tables().await;
    for (fault, name) in [(Fault::Throttle, "throttled"), (Fault::InternalError, "unclear")] {
        world.fault(fault, "PutItem", 1);
        let error = commits.freeze(&lake(), &frozen("id bigint")).await.expect_err("refused").to_string();
        assert!(error.starts_with(name), "{error}");
        assert_eq!(commits.frozen(&lake()).await.expect("an answer"), None);
    }
    let nowhere = CommitTable::new(world.dynamo(&world.connect("test")), "nowhere", world.clock.clone());
    let error = nowhere.frozen(&lake()).await.expect_err("no table");
    assert!(matches!(error, CommitError::Denied { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_item_of_another_form_is_left_alone() {
    let world = World::new();
    let (_, commits) = world.tables().await;
    let columns = (COLUMNS, text("id bigint"));
    let forms: [(&[(&str, AttributeValue)], &str); 4] = [
        (&[(FORM, number(2)), columns.clone()], "has form 2: a newer version wrote it"),
        (std::slice::from_ref(&columns), "is none that this program wrote"),
        (&[(FORM, text("1")), columns.clone()], "is none that this program wrote"),
        (&[(FORM, number(1)), (COLUMNS, number(5))], "has no columns"),
    ];
    for (attributes, said) in forms {
        put(&world, &commits, attributes).await;
        let seen = frozen("id bigint");
        for error in [
            commits.frozen(&lake()).await.expect_err("unreadable"),
            commits.freeze(&lake(), &seen).await.expect_err("unreadable"),
        ] {
            assert!(matches!(&error, CommitError::Unreadable { cause } if cause.contains(said)), "{error}");
        }
        let thawed = commits.thaw(&lake(), &seen).await;
        assert!(matches!(thawed, Err(CommitError::Refused { .. })), "{thawed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_was_seen_is_thawed() {
    let world = World::new();
    let (_, commits) = world.tables().await;
    let given = frozen("id bigint");
    commits.freeze(&lake(), &given).await.expect("frozen");
    let thawed = commits.thaw(&lake(), &frozen("id string")).await;
    assert!(matches!(thawed, Err(CommitError::Refused { .. })), "{thawed:?}");
    commits.thaw(&lake(), &given).await.expect("thawed");
    assert_eq!(commits.frozen(&lake()).await.expect("an answer"), None);
    let again = commits.thaw(&lake(), &given).await;
    assert!(matches!(again, Err(CommitError::Refused { .. })), "{again:?}");
}
