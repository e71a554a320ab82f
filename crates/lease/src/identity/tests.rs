use super::*;
use crate::emulated::{World, stream};

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_under_one_name_is_another_stream() {
    let (_, commits) = World::new().tables().await;
    commits.pin_stream(&stream()).await.expect("pinned");
    commits.pin_stream(&stream()).await.expect("the same");
    let anew = StreamIdentity { created_at: Millis(2), ..stream() };
    assert_ne!(anew.hash(), stream().hash());
    let error = commits.pin_stream(&anew).await.expect_err("another stream");
    assert!(matches!(&error, PinError::Stream { pinned, given } if **pinned == stream() && **given == anew), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_destinations_id_keeps_its_meaning_until_it_is_adopted() {
    let (_, commits) = World::new().tables().await;
    let (lake, at) = (DestinationId::new("lake"), DestinationId::new("at"));
    commits.pin_destination(&lake, "s3 acme-lake", false).await.expect("pinned");
    commits.pin_destination(&at, "s3 other", false).await.expect("pinned");
    commits.pin_destination(&lake, "s3 acme-lake", false).await.expect("the same");
    let error = commits.pin_destination(&lake, "s3 elsewhere", false).await.expect_err("another bucket");
    assert!(matches!(&error, PinError::Destination { pinned, .. } if pinned == "s3 acme-lake"), "{error}");
    commits.pin_destination(&lake, "s3 elsewhere", true).await.expect("adopted");
    commits.pin_destination(&lake, "s3 elsewhere", false).await.expect("the new meaning");
}

#[tokio::test(start_paused = true)]
async fn a_start_is_pinned_once() {
    let (_, commits) = World::new().tables().await;
    assert_eq!(commits.pin_start(Millis(5)).await.expect("an answer"), (Millis(5), true));
    assert_eq!(commits.pin_start(Millis(9)).await.expect("an answer"), (Millis(5), false));
}
