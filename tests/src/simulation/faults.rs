//! What goes wrong in a run, drawn from its seed.

use standpipe_emulator::{Fault, Faults, Latency, Rule, Service};

use super::Dice;

/// Travel times: most runs have some, a few have none at all.
pub fn latency(dice: &mut Dice) -> Latency {
    if dice.percent(10) {
        return Latency::default();
    }
    let slow = dice.within(1, 40);
    Latency { request: (0, slow), answer: (0, slow), transaction: (0, dice.within(1, 60)) }
}

/// Faults that strike single calls, now and then.
pub fn scatter(faults: &Faults, dice: &mut Dice, until: u64) {
    let mut maybe = |percent: u64, rule: Rule, probability: f64| {
        if dice.percent(percent) {
            faults.add(rule.probability(probability).between(0, until));
        }
    };
    maybe(50, Rule::new(Service::DynamoDb, Fault::DropAnswer), 0.03);
    maybe(30, Rule::new(Service::DynamoDb, Fault::DropRequest), 0.03);
    maybe(30, Rule::new(Service::DynamoDb, Fault::InternalErrorAfterEffect), 0.02);
    maybe(40, Rule::new(Service::DynamoDb, Fault::Throttle), 0.05);
    maybe(50, Rule::new(Service::DynamoDb, Fault::Repeat(700)).operation("TransactWriteItems"), 0.1);
    maybe(30, Rule::new(Service::DynamoDb, Fault::Repeat(4000)).operation("UpdateItem"), 0.05);
    maybe(30, Rule::new(Service::DynamoDb, Fault::DelayRequest(2500)).operation("TransactWriteItems"), 0.1);
    maybe(30, Rule::new(Service::DynamoDb, Fault::TransactionConflict), 0.03);
    maybe(30, Rule::new(Service::S3, Fault::DelayRequest(1800)).operation("UploadPart"), 0.2);
    maybe(40, Rule::new(Service::S3, Fault::DropAnswer), 0.03);
    maybe(30, Rule::new(Service::S3, Fault::Throttle), 0.05);
    maybe(40, Rule::new(Service::S3, Fault::NoSuchUploadAfterComplete).operation("CompleteMultipartUpload"), 0.1);
    maybe(30, Rule::new(Service::S3, Fault::OkWithError).operation("CompleteMultipartUpload"), 0.1);
    maybe(30, Rule::new(Service::S3, Fault::OkWithErrorAfterEffect).operation("CompleteMultipartUpload"), 0.1);
    maybe(30, Rule::new(Service::S3, Fault::DelayRequest(3000)).operation("CompleteMultipartUpload"), 0.1);
    maybe(50, Rule::new(Service::S3, Fault::DelayRequest(6000)).operation("CompleteMultipartUpload"), 0.15);
    maybe(30, Rule::new(Service::S3, Fault::Delay(2000)).operation("CompleteMultipartUpload"), 0.3);
    maybe(40, Rule::new(Service::Kinesis, Fault::Throttle), 0.05);
    maybe(40, Rule::new(Service::Kinesis, Fault::DropAnswer), 0.03);
    maybe(30, Rule::new(Service::Kinesis, Fault::NotFound).operation("GetRecords"), 0.01);
    maybe(40, Rule::new(Service::Kinesis, Fault::ExpiredIterator).operation("GetRecords"), 0.02);
}

/// What goes wrong with subscriptions: they are cut, fall silent, are refused, taken away, or lie.
pub fn subscriptions(faults: &Faults, until: u64) {
    let troubles = [
        (Fault::EventsCut(2), 0.1),
        (Fault::EventsSilent(3), 0.05),
        (Fault::EventInvalid(1), 0.1),
        (Fault::EventsFail(1), 0.05),
        (Fault::EventsTaken(1), 0.05),
        (Fault::Unanswered, 0.03),
        (Fault::InUse, 0.05),
        (Fault::NotFound, 0.02),
    ];
    for (fault, probability) in troubles {
        let rule = Rule::new(Service::Kinesis, fault).operation("SubscribeToShard");
        faults.add(rule.probability(probability).between(0, until));
    }
}

/// Where objects vanish as soon as they are read: a publication that was done is refused the second time, and when its
/// worker looks for the object, somebody has taken it.
pub fn beside_a_consumer(faults: &Faults, until: u64) {
    let done = Rule::new(Service::S3, Fault::NoSuchUploadAfterComplete).operation("CompleteMultipartUpload");
    faults.add(done.probability(0.15).between(0, until));
    let look = Rule::new(Service::S3, Fault::DelayRequest(1500)).operation("HeadObject");
    faults.add(look.probability(0.7).between(0, until));
}

/// Parts arrive late.
pub fn slow_parts(faults: &Faults, until: u64) {
    let late = Rule::new(Service::S3, Fault::DelayRequest(1800)).operation("UploadPart");
    faults.add(late.probability(0.6).between(0, until));
}

/// What is committed mostly is not published at once.
pub fn slow_publication(faults: &Faults, until: u64) {
    let lost = Rule::new(Service::S3, Fault::DropRequest).operation("CompleteMultipartUpload");
    faults.add(lost.probability(0.6).between(0, until));
}

/// What goes wrong with objects that are put: those that are staged together, and those that are written from them.
pub fn puts(faults: &Faults, until: u64) {
    let troubles = [
        (Fault::DelayRequest(2500), 0.05),
        (Fault::DropAnswer, 0.05),
        (Fault::DropRequest, 0.05),
        (Fault::InternalErrorAfterEffect, 0.03),
        (Fault::ConditionalConflict, 0.02),
    ];
    for (fault, probability) in troubles {
        faults.add(Rule::new(Service::S3, fault).operation("PutObject").probability(probability).between(0, until));
    }
    // Time to die in: what is staged is there, and its maker does not know it.
    let staged = Rule::new(Service::S3, Fault::DelayAnswer(1500)).operation("PutObject").detail("standpipe-staging/");
    faults.add(staged.probability(0.4).between(0, until));
    let read = Rule::new(Service::S3, Fault::DelayRequest(1500)).operation("GetObject");
    faults.add(read.probability(0.3).between(0, until));
}

/// Nothing can be asked of a bucket for a while.
pub fn bucket_down(faults: &Faults, dice: &mut Dice, now: u64, bucket: &str) {
    let bucket = format!("/{bucket}");
    let rule = Rule::new(Service::S3, Fault::InternalError).when(move |call| call.detail.starts_with(&bucket));
    faults.add(rule.between(now, now + dice.within(500, 15_000)));
}

/// A service that nobody reaches for a while.
pub fn away(faults: &Faults, dice: &mut Dice, now: u64) -> &'static str {
    let (service, name, longest) = match dice.within(0, 2) {
        0 => (Service::S3, "s3 away", 12_000),
        1 => (Service::DynamoDb, "dynamodb away", 6_000),
        _ => (Service::Kinesis, "kinesis away", 8_000),
    };
    faults.add(Rule::new(service, Fault::Away).between(now, now + dice.within(500, longest)));
    name
}

/// Nothing is made visible for a while; everything else works.
pub fn no_publication(faults: &Faults, now: u64, millis: u64) {
    let rule = Rule::new(Service::S3, Fault::DropRequest).operation("CompleteMultipartUpload");
    faults.add(rule.between(now, now + millis));
}

/// A worker whose requests take long to arrive: they do, after others have gone on.
pub fn slow(faults: &Faults, dice: &mut Dice, now: u64, connection: &str) {
    let late = Fault::DelayRequest(dice.within(500, 12_000));
    faults.add(Rule::everywhere(late).connection(connection).between(now, now + dice.within(200, 6_000)));
}
