//! S3: multipart uploads from creation to completion, abort, and what is refused on the way.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::complete_multipart_upload::{CompleteMultipartUploadError, CompleteMultipartUploadOutput};
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
};
use standpipe_emulator::{Options, RepeatComplete};

use crate::s3::world_with_bucket;
use crate::support::{World, clock, code, happened, pass, world_with};

const MIB: usize = 1 << 20;

type Completed = Result<CompleteMultipartUploadOutput, SdkError<CompleteMultipartUploadError>>;

async fn create(world: &World, key: &str) -> String {
    let create = world.s3.create_multipart_upload().bucket("bkt").key(key);
    let create = create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).send().await.expect("created");
    create.upload_id().expect("an id").to_owned()
}

async fn part(world: &World, key: &str, id: &str, number: i32, bytes: usize) -> CompletedPart {
    let upload = world.s3.upload_part().bucket("bkt").key(key).upload_id(id).part_number(number);
    let upload = upload.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    let output = upload.body(ByteStream::from(vec![number as u8; bytes])).send().await.expect("uploaded");
    completed(number, &output)
}

fn completed(number: i32, output: &UploadPartOutput) -> CompletedPart {
    let part = CompletedPart::builder().part_number(number).set_e_tag(output.e_tag().map(str::to_owned));
    let part = part.set_checksum_crc64_nvme(output.checksum_crc64_nvme().map(str::to_owned));
    part.set_checksum_crc32(output.checksum_crc32().map(str::to_owned)).build()
}

async fn complete(world: &World, key: &str, id: &str, parts: Vec<CompletedPart>) -> Completed {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    world.s3.complete_multipart_upload().bucket("bkt").key(key).upload_id(id).multipart_upload(parts).send().await
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_invisible_until_it_is_complete() {
    let world = world_with_bucket().await;
    let create =
        world.s3.create_multipart_upload().bucket("bkt").key("k").metadata("cid", "c-1").content_encoding("gzip");
    let create =
        create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).server_side_encryption(ServerSideEncryption::AwsKms);
    let create = create.ssekms_key_id("key-1").send().await.expect("created");
    assert_eq!(create.server_side_encryption(), Some(&ServerSideEncryption::AwsKms));
    assert_eq!(create.checksum_type(), Some(&ChecksumType::FullObject));
    let id = create.upload_id().expect("an id");
    let parts = vec![part(&world, "k", id, 1, 5 * MIB).await, part(&world, "k", id, 2, 300_000).await];
    assert!(world.emulator.objects("bkt").is_empty());
    pass(60_000).await;

    let done = complete(&world, "k", id, parts).await.expect("completed");
    assert!(done.e_tag().expect("an etag").ends_with("-2\""));
    assert_eq!(done.ssekms_key_id(), Some("key-1"));
    let object = world.s3.get_object().bucket("bkt").key("k").checksum_mode(ChecksumMode::Enabled).send().await;
    let object = object.expect("there");
    assert_eq!(object.e_tag(), done.e_tag());
    assert_eq!(object.checksum_crc64_nvme(), done.checksum_crc64_nvme());
    assert_eq!(object.metadata().expect("metadata")["cid"], "c-1");
    assert_eq!(object.content_encoding(), Some("gzip"));
    assert!(happened(object.last_modified().expect("a time").secs() as u64 * 1000, 60_000), "when it appeared");
    let data = object.body.collect().await.expect("the checksum fits").to_vec();
    assert_eq!(data.len(), 5 * MIB + 300_000);
    assert!(data[..5 * MIB].iter().all(|byte| *byte == 1) && data[5 * MIB..].iter().all(|byte| *byte == 2));
    assert!(world.emulator.open_uploads("bkt").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_part_can_be_replaced_and_left_out() {
    let world = world_with_bucket().await;
    let id = create(&world, "k").await;
    let old = part(&world, "k", &id, 1, 10).await;
    let new = part(&world, "k", &id, 1, 20).await;
    part(&world, "k", &id, 2, 10).await;
    assert_eq!(code(complete(&world, "k", &id, vec![old]).await), "InvalidPart", "the etag is another's now");
    complete(&world, "k", &id, vec![new]).await.expect("completed");
    assert_eq!(world.emulator.object("bkt", "k").expect("there").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn wrong_lists_of_parts_are_refused_and_leave_the_upload() {
    let world = world_with_bucket().await;
    let id = create(&world, "k").await;
    let one = part(&world, "k", &id, 1, 100).await;
    let two = part(&world, "k", &id, 2, 100).await;
    assert_eq!(code(complete(&world, "k", &id, vec![one.clone(), two.clone()]).await), "EntityTooSmall");
    assert_eq!(code(complete(&world, "k", &id, vec![two, one.clone()]).await), "InvalidPartOrder");
    assert_eq!(code(complete(&world, "k", &id, vec![]).await), "MalformedXML");
    let absent = CompletedPart::builder().part_number(3).e_tag("\"5d41402abc4b2a76b9719d911017c592\"").build();
    assert_eq!(code(complete(&world, "k", &id, vec![absent]).await), "InvalidPart");
    assert_eq!(code(complete(&world, "k", "no-such-id", vec![one.clone()]).await), "NoSuchUpload");
    assert_eq!(code(complete(&world, "other", &id, vec![one.clone()]).await), "NoSuchUpload");
    complete(&world, "k", &id, vec![one]).await.expect("it is still there");
}

#[tokio::test(start_paused = true)]
async fn the_checksum_of_the_whole_is_checked() {
    let world = world_with_bucket().await;
    let id = create(&world, "k").await;
    let parts = CompletedMultipartUpload::builder().parts(part(&world, "k", &id, 1, 9).await).build();
    let complete = |sum: &str| {
        let complete = world.s3.complete_multipart_upload().bucket("bkt").key("k").upload_id(&id);
        complete.multipart_upload(parts.clone()).checksum_crc64_nvme(sum).send()
    };
    assert_eq!(code(complete("AAAAAAAAAAA=").await), "BadDigest");
    let sum = parts.parts()[0].checksum_crc64_nvme().expect("a checksum").to_owned();
    let done = complete(&sum).await.expect("one part: the whole is the part");
    assert_eq!(done.checksum_crc64_nvme(), Some(sum.as_str()));
}

#[tokio::test(start_paused = true)]
async fn composite_checksums_are_of_the_parts() {
    let world = world_with_bucket().await;
    let create = world.s3.create_multipart_upload().bucket("bkt").key("k").checksum_algorithm(ChecksumAlgorithm::Crc32);
    let create = create.send().await.expect("created");
    assert_eq!(create.checksum_type(), Some(&ChecksumType::Composite));
    let id = create.upload_id().expect("an id");
    let upload = world.s3.upload_part().bucket("bkt").key("k").upload_id(id).part_number(1);
    let upload = upload.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from_static(b"123456789"));
    let output = upload.send().await.expect("uploaded");
    let bare = CompletedPart::builder().part_number(1).set_e_tag(output.e_tag().map(str::to_owned)).build();
    assert_eq!(code(complete(&world, "k", id, vec![bare]).await), "InvalidRequest");
    let done = complete(&world, "k", id, vec![completed(1, &output)]).await.expect("completed");
    assert!(done.checksum_crc32().expect("a checksum").ends_with("-1"));
}

#[tokio::test(start_paused = true)]
async fn a_checksum_the_upload_was_not_created_for_is_refused() {
    let world = world_with_bucket().await;
    let create = world.s3.create_multipart_upload().bucket("bkt").key("k").customize();
    // The SDK would name an algorithm by itself.
    let create = create.mutate_request(|request| {
        request.headers_mut().remove("x-amz-checksum-algorithm");
    });
    let create = create.send().await.expect("created");
    let id = create.upload_id().expect("an id");
    let upload = world.s3.upload_part().bucket("bkt").key("k").upload_id(id).part_number(1);
    let upload = upload.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from_static(b"x"));
    let output = upload.send().await.expect("uploaded");
    assert_eq!(code(complete(&world, "k", id, vec![completed(1, &output)]).await), "InvalidPart");

    let id = create_with_crc64(&world).await;
    let upload = world.s3.upload_part().bucket("bkt").key("k").upload_id(id).part_number(1);
    let upload = upload.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from_static(b"x"));
    assert_eq!(code(upload.send().await), "InvalidRequest", "another algorithm than the upload's");
}

async fn create_with_crc64(world: &World) -> String {
    create(world, "k").await
}

#[tokio::test(start_paused = true)]
async fn a_complete_can_be_conditional() {
    let world = world_with_bucket().await;
    let (first, second) = (create(&world, "k").await, create(&world, "k").await);
    let complete = async |id: &str| {
        let part = part(&world, "k", id, 1, 10).await;
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = world.s3.complete_multipart_upload().bucket("bkt").key("k").upload_id(id).if_none_match("*");
        complete.multipart_upload(parts).send().await
    };
    complete(&first).await.expect("the first");
    assert_eq!(code(complete(&second).await), "PreconditionFailed");
    assert_eq!(world.emulator.open_uploads("bkt").len(), 1, "the second upload is still open");
}

#[tokio::test(start_paused = true)]
async fn an_aborted_upload_leaves_nothing() {
    let world = world_with_bucket().await;
    let id = create(&world, "k").await;
    let one = part(&world, "k", &id, 1, 10).await;
    let abort = || world.s3.abort_multipart_upload().bucket("bkt").key("k").upload_id(&id).send();
    abort().await.expect("aborted");
    assert_eq!(code(abort().await), "NoSuchUpload");
    assert_eq!(code(complete(&world, "k", &id, vec![one]).await), "NoSuchUpload");
    let late = world.s3.upload_part().bucket("bkt").key("k").upload_id(&id).part_number(2);
    assert_eq!(code(late.body(ByteStream::from_static(b"x")).send().await), "NoSuchUpload");
    assert!(world.emulator.open_uploads("bkt").is_empty() && world.emulator.objects("bkt").is_empty());
}

#[tokio::test(start_paused = true)]
async fn parts_are_listed_in_pages() {
    let world = world_with_bucket().await;
    let id = create(&world, "k").await;
    for number in [1, 2, 5] {
        part(&world, "k", &id, number, 10 * number as usize).await;
    }
    let list = || world.s3.list_parts().bucket("bkt").key("k").upload_id(&id).max_parts(2);
    let first = list().send().await.expect("listed");
    assert_eq!(first.parts().iter().map(|part| part.part_number().expect("a number")).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(first.is_truncated(), Some(true));
    let marker = first.next_part_number_marker().expect("a marker");
    let second = list().part_number_marker(marker).send().await.expect("listed");
    assert_eq!(second.parts()[0].size(), Some(50));
    assert!(second.parts()[0].checksum_crc64_nvme().is_some());
    assert_eq!(second.is_truncated(), Some(false));
    assert_eq!(code(world.s3.list_parts().bucket("bkt").key("k").upload_id("x").send().await), "NoSuchUpload");
}

#[tokio::test(start_paused = true)]
async fn open_uploads_are_listed_by_key_and_age_in_pages() {
    let world = world_with_bucket().await;
    let mut expected = Vec::new();
    for key in ["p/a", "p/b", "p/b", "q/c"] {
        expected.push((key.to_owned(), create(&world, key).await));
        pass(1000).await;
    }
    let mut seen = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let page = world.s3.list_multipart_uploads().bucket("bkt").max_uploads(1);
        let page = page.set_key_marker(key_marker).set_upload_id_marker(id_marker).send().await.expect("listed");
        for upload in page.uploads() {
            let initiated = upload.initiated().expect("a time").secs() as u64;
            assert!(happened(initiated * 1000, seen.len() as u64 * 1000));
            seen.push((upload.key().expect("a key").to_owned(), upload.upload_id().expect("an id").to_owned()));
        }
        if page.is_truncated() != Some(true) {
            break;
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_upload_id_marker().map(str::to_owned);
    }
    assert_eq!(seen, expected);
    let prefixed = world.s3.list_multipart_uploads().bucket("bkt").prefix("p/b").send().await.expect("listed");
    assert_eq!(prefixed.uploads().len(), 2);
    let grouped = world.s3.list_multipart_uploads().bucket("bkt").delimiter("/").send().await.expect("listed");
    assert_eq!(grouped.common_prefixes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_complete_finds_no_upload() {
    let world = world_with_bucket().await;
    let id = create(&world, "k").await;
    let parts = vec![part(&world, "k", &id, 1, 10).await];
    complete(&world, "k", &id, parts.clone()).await.expect("completed");
    assert_eq!(code(complete(&world, "k", &id, parts).await), "NoSuchUpload");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_complete_can_succeed() {
    let options = Options { repeat_complete: RepeatComplete::Succeeds, ..Options::new(clock()) };
    let world = world_with(options).await;
    world.emulator.create_bucket("bkt").expect("made");
    let id = create(&world, "k").await;
    let parts = vec![part(&world, "k", &id, 1, 10).await];
    let first = complete(&world, "k", &id, parts.clone()).await.expect("completed");
    let second = complete(&world, "k", &id, parts).await.expect("completed once more");
    assert_eq!(first.e_tag(), second.e_tag());
}
