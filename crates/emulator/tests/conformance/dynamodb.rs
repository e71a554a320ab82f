//! DynamoDB: conditional writes, transactions, their conflicts, tables.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, Get, KeySchemaElement, KeyType,
    KeysAndAttributes, PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, Put, ReturnValue,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
    TransactGetItem, TransactWriteItem, Update,
};
use standpipe_emulator::{Fault, Rule, Service};

use crate::support::{World, code, world};

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

async fn table(world: &World) {
    let hash =
        KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().expect("complete");
    let attribute = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S);
    let create = world.dynamodb.create_table().table_name("leases").key_schema(hash);
    let create = create.attribute_definitions(attribute.build().expect("complete"));
    create.billing_mode(BillingMode::PayPerRequest).send().await.expect("made");
}

async fn world_with_table() -> World {
    let world = world().await;
    table(&world).await;
    world
}

async fn lease(world: &World, key: &str, counter: u64) {
    let put = world.dynamodb.put_item().table_name("leases").item("leaseKey", s(key)).item("leaseCounter", n(counter));
    put.send().await.expect("put");
}

async fn counter(world: &World, key: &str) -> Option<String> {
    let get = world.dynamodb.get_item().table_name("leases").key("leaseKey", s(key)).consistent_read(true).send().await;
    let item = get.expect("read").item?;
    Some(item["leaseCounter"].as_n().expect("a number").clone())
}

fn bump(key: &str, from: u64) -> Update {
    Update::builder()
        .table_name("leases")
        .key("leaseKey", s(key))
        .update_expression("SET leaseCounter = :next")
        .condition_expression("leaseCounter = :now")
        .expression_attribute_values(":now", n(from))
        .expression_attribute_values(":next", n(from + 1))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("complete")
}

fn action(update: Update) -> TransactWriteItem {
    TransactWriteItem::builder().update(update).build()
}

fn reasons(error: SdkError<TransactWriteItemsError>) -> Vec<String> {
    match error.into_service_error() {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default().to_owned()).collect()
        }
        other => panic!("a cancellation was expected, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_is_made_described_and_deleted() {
    let world = world_with_table().await;
    let described = world.dynamodb.describe_table().table_name("leases").send().await.expect("described");
    let described = described.table().expect("a table");
    assert_eq!(described.table_status(), Some(&TableStatus::Active));
    assert_eq!(described.key_schema()[0].attribute_name(), "leaseKey");
    let listed = world.dynamodb.list_tables().send().await.expect("listed");
    assert_eq!(listed.table_names(), ["leases"]);
    world.dynamodb.delete_table().table_name("leases").send().await.expect("deleted");
    assert_eq!(code(world.dynamodb.describe_table().table_name("leases").send().await), "ResourceNotFoundException");
    let get = world.dynamodb.get_item().table_name("leases").key("leaseKey", s("a")).send().await;
    assert_eq!(code(get), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_table_is_made_once() {
    let world = world_with_table().await;
    let hash =
        KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().expect("complete");
    let attribute = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S);
    let create = world.dynamodb.create_table().table_name("leases").key_schema(hash);
    let create = create.attribute_definitions(attribute.build().expect("complete"));
    assert_eq!(code(create.billing_mode(BillingMode::PayPerRequest).send().await), "ResourceInUseException");
}

#[tokio::test(start_paused = true)]
async fn every_attribute_type_comes_back() {
    let world = world_with_table().await;
    let attributes = [
        ("leaseKey", s("a")),
        ("b", AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new([0, 255]))),
        ("flag", AttributeValue::Bool(true)),
        ("none", AttributeValue::Null(true)),
        ("strings", AttributeValue::Ss(vec!["x".into(), "y".into()])),
        ("list", AttributeValue::L(vec![n(1), s("two")])),
        ("map", AttributeValue::M([("k".to_owned(), s("v"))].into())),
        ("empty", s("")),
    ];
    let put = world.dynamodb.put_item().table_name("leases");
    let put = attributes.iter().fold(put, |put, (name, value)| put.item(*name, value.clone()));
    put.send().await.expect("put");
    let get = world.dynamodb.get_item().table_name("leases").key("leaseKey", s("a")).send().await.expect("read");
    let item = get.item().expect("there");
    assert_eq!(item.len(), attributes.len());
    for (name, value) in &attributes {
        assert_eq!(&item[*name], value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_created_once() {
    let world = world_with_table().await;
    let create = || {
        let put = world.dynamodb.put_item().table_name("leases").item("leaseKey", s("a")).item("leaseCounter", n(0));
        put.condition_expression("attribute_not_exists(leaseKey)").send()
    };
    create().await.expect("the first");
    assert_eq!(code(create().await), "ConditionalCheckFailedException");
}

#[tokio::test(start_paused = true)]
async fn a_failed_condition_shows_the_item() {
    let world = world_with_table().await;
    lease(&world, "a", 7).await;
    let update = world.dynamodb.update_item().table_name("leases").key("leaseKey", s("a"));
    let update = update.update_expression("SET leaseCounter = :n").condition_expression("leaseCounter = :c");
    let update = update.expression_attribute_values(":n", n(2)).expression_attribute_values(":c", n(1));
    let update = update.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    match update.send().await.expect_err("it was 7").into_service_error() {
        UpdateItemError::ConditionalCheckFailedException(failed) => {
            assert_eq!(failed.item().expect("the item")["leaseCounter"], n(7));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(counter(&world, "a").await.as_deref(), Some("7"));
}

#[tokio::test(start_paused = true)]
async fn an_update_sets_adds_removes_and_answers_with_the_new_item() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    let update = world.dynamodb.update_item().table_name("leases").key("leaseKey", s("a"));
    let update = update.update_expression("SET leaseOwner = :me ADD leaseCounter :one REMOVE nothing");
    let update = update.expression_attribute_values(":me", s("w1")).expression_attribute_values(":one", n(1));
    let answer = update.return_values(ReturnValue::AllNew).send().await.expect("updated");
    let item = answer.attributes().expect("the new item");
    assert_eq!((&item["leaseOwner"], &item["leaseCounter"]), (&s("w1"), &n(2)));
}

#[tokio::test(start_paused = true)]
async fn a_delete_can_be_conditional() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    let delete = |wanted| {
        let delete = world.dynamodb.delete_item().table_name("leases").key("leaseKey", s("a"));
        delete.condition_expression("leaseCounter = :c").expression_attribute_values(":c", n(wanted)).send()
    };
    assert_eq!(code(delete(2).await), "ConditionalCheckFailedException");
    delete(1).await.expect("deleted");
    assert_eq!(counter(&world, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn scans_come_in_pages_and_segments() {
    let world = world_with_table().await;
    for index in 0..25 {
        lease(&world, &format!("k{index:02}"), index).await;
    }
    let pages = world.dynamodb.scan().table_name("leases").limit(10).into_paginator().send();
    let pages = pages.collect::<Result<Vec<_>, _>>().await.expect("scanned");
    assert_eq!(pages.iter().map(|page| page.items().len()).sum::<usize>(), 25);
    assert!(pages.len() >= 3);
    let mut keys = std::collections::BTreeSet::new();
    for segment in 0..4 {
        let scan = world
            .dynamodb
            .scan()
            .table_name("leases")
            .segment(segment)
            .total_segments(4)
            .send()
            .await
            .expect("scanned");
        for item in scan.items() {
            assert!(keys.insert(item["leaseKey"].as_s().expect("a key").clone()), "segments are disjoint");
        }
    }
    assert_eq!(keys.len(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_query_finds_one_key() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    lease(&world, "b", 2).await;
    let query = world.dynamodb.query().table_name("leases").key_condition_expression("leaseKey = :k");
    let found = query.expression_attribute_values(":k", s("b")).send().await.expect("queried");
    assert_eq!(found.items().len(), 1);
    assert_eq!(found.items()[0]["leaseCounter"], n(2));
}

#[tokio::test(start_paused = true)]
async fn batches_and_transactions_read_several_items() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    lease(&world, "b", 2).await;
    let key = |name: &str| ("leaseKey".to_owned(), s(name));
    let keys = KeysAndAttributes::builder()
        .keys([key("a")].into())
        .keys([key("b")].into())
        .keys([key("c")].into())
        .build()
        .expect("complete");
    let batch = world.dynamodb.batch_get_item().request_items("leases", keys).send().await.expect("read");
    assert_eq!(batch.responses().expect("answers")["leases"].len(), 2);
    let get = |name: &str| {
        let get = Get::builder().table_name("leases").key("leaseKey", s(name)).build().expect("complete");
        TransactGetItem::builder().get(get).build()
    };
    let read = world.dynamodb.transact_get_items().transact_items(get("b")).transact_items(get("c")).send().await;
    let read = read.expect("read");
    assert_eq!(read.responses()[0].item().expect("there")["leaseCounter"], n(2));
    assert!(read.responses()[1].item().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_writes_all_or_nothing() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    lease(&world, "b", 1).await;
    let write = |a, b| {
        let write = world.dynamodb.transact_write_items().transact_items(action(bump("a", a)));
        write.transact_items(action(bump("b", b))).send()
    };
    assert_eq!(reasons(write(1, 5).await.expect_err("b is 1")), ["None", "ConditionalCheckFailed"]);
    assert_eq!(counter(&world, "a").await.as_deref(), Some("1"), "nothing was written");
    write(1, 1).await.expect("written");
    assert_eq!(counter(&world, "a").await.as_deref(), Some("2"));
    assert_eq!(counter(&world, "b").await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_transaction_shows_the_item() {
    let world = world_with_table().await;
    lease(&world, "a", 9).await;
    let write = world.dynamodb.transact_write_items().transact_items(action(bump("a", 1))).send().await;
    match write.expect_err("a is 9").into_service_error() {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            let item = cancelled.cancellation_reasons()[0].item().expect("the item");
            assert_eq!(item["leaseCounter"], n(9));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_condition_check_and_a_put_are_actions_too() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    let check = |expected| {
        let check = ConditionCheck::builder().table_name("leases").key("leaseKey", s("a"));
        let check = check.condition_expression("leaseCounter = :c").expression_attribute_values(":c", n(expected));
        TransactWriteItem::builder().condition_check(check.build().expect("complete")).build()
    };
    let put = Put::builder().table_name("leases").item("leaseKey", s("c")).item("leaseCounter", n(1));
    let put = TransactWriteItem::builder().put(put.build().expect("complete")).build();
    let write = |expected| {
        let write = world.dynamodb.transact_write_items().transact_items(check(expected));
        write.transact_items(put.clone()).send()
    };
    assert_eq!(reasons(write(2).await.expect_err("a is 1")), ["ConditionalCheckFailed", "None"]);
    assert_eq!(counter(&world, "c").await, None);
    write(1).await.expect("written");
    assert_eq!(counter(&world, "c").await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn of_32_racers_one_wins() {
    let world = world_with_table().await;
    lease(&world, "a", 0).await;
    // Each write takes a different time, so that the racers truly overlap.
    if let Some(emulator) = world.emulator.inside() {
        let mut turn = 0;
        emulator.faults().set_hook(move |call| {
            turn = (turn * 7 + 3) % 32;
            (call.operation == "UpdateItem").then_some(Fault::DelayRequest(turn))
        });
    }
    for round in 0..10 {
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let update = world.dynamodb.update_item().table_name("leases").key("leaseKey", s("a"));
            let update = update.update_expression("SET leaseCounter = :n").condition_expression("leaseCounter = :c");
            let update = update.expression_attribute_values(":n", n(round + 1));
            racers.spawn(update.expression_attribute_values(":c", n(round)).send());
        }
        let results = racers.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "round {round}");
        for lost in results.into_iter().filter(|result| result.is_err()) {
            assert_eq!(code(lost), "ConditionalCheckFailedException");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_conflicts_with_a_transaction_under_way() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    lease(&world, "b", 1).await;
    let slow = Rule::new(Service::DynamoDb, Fault::Delay(50)).operation("TransactWriteItems").times(1);
    world.emulator.faults().add(slow);
    let transaction = world.dynamodb.transact_write_items().transact_items(action(bump("a", 1))).send();
    let others = async {
        crate::support::pass(10).await;
        let update = |key: &str| {
            let update = world.dynamodb.update_item().table_name("leases").key("leaseKey", s(key));
            update.update_expression("SET x = :x").expression_attribute_values(":x", n(1)).send()
        };
        assert_eq!(code(update("a").await), "TransactionConflictException");
        update("b").await.expect("another item is free");
        let second = world.dynamodb.transact_write_items().transact_items(action(bump("b", 1)));
        let second = second.transact_items(action(bump("a", 1))).send().await;
        assert_eq!(reasons(second.expect_err("a is held")), ["None", "TransactionConflict"]);
        assert_eq!(counter(&world, "a").await.as_deref(), Some("1"), "a plain read sees what was before");
    };
    let (transaction, ()) = tokio::join!(transaction, others);
    transaction.expect("the first one holds its items");
    assert_eq!(counter(&world, "a").await.as_deref(), Some("2"));
    assert_eq!(counter(&world, "b").await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_conflicts_with_a_slow_write() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    world.emulator.faults().add(Rule::new(Service::DynamoDb, Fault::Delay(50)).operation("UpdateItem").times(1));
    let update = world.dynamodb.update_item().table_name("leases").key("leaseKey", s("a"));
    let update = update.update_expression("SET x = :x").expression_attribute_values(":x", n(1)).send();
    let transaction = async {
        crate::support::pass(10).await;
        world.dynamodb.transact_write_items().transact_items(action(bump("a", 1))).send().await
    };
    let (update, transaction) = tokio::join!(update, transaction);
    update.expect("a plain write is not refused");
    assert_eq!(reasons(transaction.expect_err("the item is being written")), ["TransactionConflict"]);
}

#[tokio::test(start_paused = true)]
async fn time_to_live_and_recovery_are_remembered() {
    let world = world_with_table().await;
    let specification =
        TimeToLiveSpecification::builder().enabled(true).attribute_name("ttl").build().expect("complete");
    let update = world.dynamodb.update_time_to_live().table_name("leases").time_to_live_specification(specification);
    update.send().await.expect("accepted");
    let described = world.dynamodb.describe_time_to_live().table_name("leases").send().await.expect("described");
    let described = described.time_to_live_description().expect("a description");
    assert_eq!(described.time_to_live_status(), Some(&TimeToLiveStatus::Enabled));

    let specification = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
    let update = world.dynamodb.update_continuous_backups().table_name("leases");
    let update = update.point_in_time_recovery_specification(specification.build().expect("complete"));
    update.send().await.expect("accepted");
    let described = world.dynamodb.describe_continuous_backups().table_name("leases").send().await.expect("described");
    let recovery = described.continuous_backups_description().and_then(|d| d.point_in_time_recovery_description());
    assert_eq!(recovery.and_then(|r| r.point_in_time_recovery_status()), Some(&PointInTimeRecoveryStatus::Enabled));
    let missing = world.dynamodb.describe_continuous_backups().table_name("nowhere").send().await;
    assert!(["ResourceNotFoundException", "TableNotFoundException"].contains(&code(missing).as_str()));
}

#[tokio::test(start_paused = true)]
async fn bad_expressions_are_refused() {
    let world = world_with_table().await;
    let update =
        world.dynamodb.update_item().table_name("leases").key("leaseKey", s("a")).update_expression("SET = nonsense");
    assert_eq!(code(update.send().await), "ValidationException");
    let get = world.dynamodb.get_item().table_name("leases").key("wrong", s("a")).send().await;
    assert_eq!(code(get), "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn faults_cancel_transactions_with_their_reason() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    lease(&world, "b", 1).await;
    for (fault, reason) in
        [(Fault::Throttle, "ProvisionedThroughputExceeded"), (Fault::TransactionConflict, "TransactionConflict")]
    {
        world.emulator.faults().add(Rule::new(Service::DynamoDb, fault).operation("TransactWriteItems").times(1));
        let write = world.dynamodb.transact_write_items().transact_items(action(bump("a", 1)));
        let write = write.transact_items(action(bump("b", 1))).send().await;
        assert_eq!(reasons(write.expect_err("refused")), [reason, "None"]);
    }
    assert_eq!(counter(&world, "a").await.as_deref(), Some("1"), "without effect");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_arrives_twice_counts_once() {
    let world = world_with_table().await;
    lease(&world, "a", 1).await;
    world.emulator.faults().add(Rule::new(Service::DynamoDb, Fault::Repeat(100)).operation("TransactWriteItems"));
    let write = world.dynamodb.transact_write_items().transact_items(action(bump("a", 1)));
    write.client_request_token("once").send().await.expect("written");
    crate::support::pass(200).await;
    assert_eq!(counter(&world, "a").await.as_deref(), Some("2"));
}
