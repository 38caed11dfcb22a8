//! Whether a snapshot is believed: so many others have the same image of that checkpoint that one of them is honest.
//!
//! **Invariant.** With at most ⌊(n−1)/2⌋ liars among n voters, no snapshot that an honest node did not make comes to
//! openraft. Where too few can be asked, the node goes on lagging: it votes, and agrees to leases, as before.

use super::Consensus;
use super::checkpoints::digest;
use super::courier::{Courier, CourierError};
use super::inbound::HandleError;
use super::wire::{Answer, Frame};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stead_proto::codec;
use stead_proto::id::NodeId;
use stead_proto::limits::RAFT_FRAME_BYTES_MAX;

/// How long one peer may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(1);

type Call = BoxFuture<'static, Result<Vec<u8>, CourierError>>;
/// Asks one peer.
pub(super) type Asker = Box<dyn Fn(u64, Vec<u8>) -> Call + Send + Sync>;

/// Asks by way of a courier.
pub(super) fn asker<C: Courier>(courier: Arc<C>) -> Asker {
    Box::new(move |to, frame| {
        let courier = courier.clone();
        async move {
            let asked = tokio::time::timeout(PATIENCE, courier.call(to, frame, PATIENCE));
            asked.await.unwrap_or(Err(CourierError::Timeout))
        }
        .boxed()
    })
}

impl Consensus {
    /// Whether enough others have the same image of the checkpoint at `index` as `leader` sent.
    pub(super) async fn check_vouchers(
        &self,
        leader: u64,
        index: u64,
        image: &[u8],
    ) -> Result<(), HandleError> {
        let digest = digest(image);
        let (memberships, newest) = self.memberships().await?;
        let electorate = self.elections.electorate(memberships, newest);
        let voters = electorate.memberships.iter().flatten().map(BTreeSet::len).max().unwrap_or_default();
        let needed = voters.saturating_sub(1) / 2 + 1;
        let frame = codec::encode(&Frame::Vouch { index }, RAFT_FRAME_BYTES_MAX)?;
        let others = electorate.keys.keys().filter(|node| ![NodeId(self.me), NodeId(leader)].contains(node));
        let mut asked: FuturesUnordered<_> =
            others.map(|node| (self.voucher)(node.0, frame.clone())).collect();
        // The leader has said so by sending it.
        let mut given = 1;
        while given < needed {
            let Some(answer) = asked.next().await else {
                return Err(HandleError::Unvouched { index, given, needed });
            };
            let answer = answer.ok().and_then(|bytes| codec::decode(&bytes, RAFT_FRAME_BYTES_MAX).ok());
            given += usize::from(answer == Some(Answer::Vouch { digest: Some(digest) }));
        }
        Ok(())
    }

    /// What this node can swear to of the checkpoint at `index`.
    pub(super) fn vouch(&self, index: u64) -> Answer {
        Answer::Vouch { digest: self.checkpoints.sworn(index) }
    }
}
