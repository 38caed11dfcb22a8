//! What all tasks of one transport share.

use super::inbound::Inboxes;
use super::links::Links;
use super::profile::Profile;
use quinn::Endpoint;
use stead_proto::id::NodeId;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) me: NodeId,
    /// The mesh's name in the handshake.
    pub(super) name: String,
    pub(super) profile: Profile,
    pub(super) endpoint: Endpoint,
    pub(super) links: Links,
    pub(super) inboxes: Inboxes,
}
