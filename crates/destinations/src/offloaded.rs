//! Long work, away from the async threads, and its result.

use standpipe_flow::DeliveryError;
use standpipe_flow::offload::Offload;
use tokio::sync::oneshot;

/// Runs `work` through the seam and waits for it. A call that is dropped leaves the work to its end.
///
/// # Errors
/// When the job was dropped before it ran: to be tried again.
pub(crate) async fn offloaded<T: Send + 'static>(
    offload: &dyn Offload,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeliveryError> {
    let (sender, receiver) = oneshot::channel();
    offload.run(Box::new(move || {
        // Nobody waits any more when the call was dropped.
        let _ = sender.send(work());
    }));
    let lost = |_| DeliveryError::Retry { after: None, cause: "a job ended without its result".to_owned() };
    receiver.await.map_err(lost)
}
