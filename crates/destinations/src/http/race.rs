//! `addresses of one name -> the first connection that stands`.
//!
//! They are tried one after the other without waiting for the end of each (RFC 8305): the next one's turn comes when the one
//! before has failed, or has said nothing for a quarter of a second. So an address that swallows packets takes that and no
//! more from the time that all have together, which the caller bounds.
//! Never here: a name, which addresses are allowed.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// What an address has for itself before the next one is tried beside it: the RFC's advice.
const TURN: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried; a name may have hundreds.
const TRIED_MAX: usize = 16;

/// The first connection that stands; the others are dropped.
///
/// # Errors
/// What the last address said, when none can be connected to; `None` without addresses. Cancel-safe.
pub(super) async fn first<T, E, F: Future<Output = Result<T, E>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<E>> {
    let mut waiting = in_turn(addresses).into_iter().take(TRIED_MAX).peekable();
    let mut trying = FuturesUnordered::new();
    let mut last = None;
    loop {
        if trying.is_empty() {
            let Some(address) = waiting.next() else { return Err(last) };
            trying.push(connect(address));
        }
        tokio::select! {
            biased;
            Some(done) = trying.next() => match done {
                Ok(stands) => return Ok(stands),
                Err(error) => {
                    last = Some(error);
                    trying.extend(waiting.next().map(&connect));
                }
            },
            () = tokio::time::sleep(TURN), if waiting.peek().is_some() => trying.extend(waiting.next().map(&connect)),
        }
    }
}

/// IPv6 and IPv4 by turns, beginning with the resolver's first: a machine may have only one of them that works.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (begin, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|one| one.is_ipv6() == begins_with_6);
    let (mut begin, mut other) = (begin.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        let (one, two) = (begin.next(), other.next());
        if one.is_none() && two.is_none() {
            return turns;
        }
        turns.extend(one.into_iter().chain(two));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    /// Even ports stand after so many milliseconds, odd ones fail then.
    async fn connect(address: SocketAddr) -> Result<u16, u16> {
        let port = address.port();
        tokio::time::sleep(Duration::from_millis(u64::from(port))).await;
        if port.is_multiple_of(2) { Ok(port) } else { Err(port) }
    }

    async fn timed(texts: &[&str]) -> (Result<u16, Option<u16>>, u128) {
        let begin = tokio::time::Instant::now();
        let found = first(at(texts), connect).await;
        (found, begin.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_says_nothing_holds_the_next_up_for_a_moment_only() {
        // The first two say nothing for a minute.
        assert_eq!(timed(&["1.1.1.1:60000", "1.1.1.2:60000", "1.1.1.3:20"]).await, (Ok(20), 520));
        // One that is refused makes room at once.
        assert_eq!(timed(&["1.1.1.1:3", "1.1.1.2:20"]).await, (Ok(20), 23));
        // The first may still be the first.
        assert_eq!(timed(&["1.1.1.1:300", "1.1.1.2:100"]).await, (Ok(300), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn when_none_can_be_connected_to_the_last_says_why() {
        assert_eq!(timed(&["1.1.1.1:5", "1.1.1.2:601"]).await, (Err(Some(601)), 606));
        assert_eq!(timed(&[]).await, (Err(None), 0));
    }

    #[test]
    fn families_take_turns() {
        let order = in_turn(at(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]));
        assert_eq!(order, at(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]));
        let order = in_turn(at(&["1.1.1.1:1", "[::1]:1"]));
        assert_eq!(order, at(&["1.1.1.1:1", "[::1]:1"]));
    }
}
