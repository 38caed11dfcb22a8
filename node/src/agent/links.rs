//! What happens to interfaces and addresses behind our back: told to the driver, which repairs, and to the
//! core, which distrusts a node whose uplink is gone.
//!
//! **Invariant.** A gate stands on the one interface for which it was opened. So when the uplink's name comes to
//! another interface than that, or back to one that was gone, [`run`] returns and the agent ends, to be
//! started again on it; the lease records survive that.
//!
//! Deliberately absent: moving the gate, the driver and the probes to another interface while they work.

use stead_proto::mesh::Event;
use stead_proto::report::Unwell;
use tokio::sync::mpsc;

use super::orders::{Drive, DriverHandle};
use super::owner::tell_unwell;
use crate::vip::rtnl::{Link, Rtnl};
use crate::vip::watch::{Event as Change, Watch};

/// The uplink as the agent found it at its start.
pub(super) struct Uplink {
    /// What `agent.toml` calls it.
    pub(super) name: String,
    /// Its index; nothing if it was not there.
    pub(super) ifindex: Option<u32>,
}

/// Watches until there is another uplink than the one that was found; if the kernel ends the subscription,
/// addresses are not repaired any more, and that is said.
pub(super) async fn run(mut uplink: Uplink, driver: DriverHandle, events: mpsc::Sender<Event>) {
    let mut watch = match Watch::open() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::error!(%error, "cannot watch interfaces: a deleted address stays deleted");
            return std::future::pending().await;
        }
    };
    // It may have come or gone before the subscription stood.
    let mut look = true;
    loop {
        if std::mem::take(&mut look) {
            match find(&uplink.name) {
                Some(link) if Some(link.ifindex) != uplink.ifindex => return,
                Some(link) => tell_unwell(&events, Unwell::UplinkMissing, !link.running).await,
                None => tell_unwell(&events, Unwell::UplinkMissing, true).await,
            }
        }
        match watch.next().await {
            Ok(Change::AddressGone { .. }) => driver.tell(Drive::Look),
            Ok(Change::Missed) => {
                driver.tell(Drive::Look);
                look = true;
            }
            Ok(Change::LinkUp { ifindex, name }) if uplink.is(ifindex) => {
                tracing::info!(name, "the uplink is up");
                tell_unwell(&events, Unwell::UplinkMissing, false).await;
                driver.tell(Drive::Look);
                driver.tell(Drive::Announce);
            }
            Ok(Change::LinkDown { ifindex, name }) if uplink.is(ifindex) => {
                tracing::warn!(name, "the uplink is down");
                tell_unwell(&events, Unwell::UplinkMissing, true).await;
            }
            Ok(Change::LinkGone { ifindex, name }) if uplink.is(ifindex) => {
                tracing::warn!(name, "the uplink is gone: no address can be served until it comes back");
                uplink.ifindex = None;
                tell_unwell(&events, Unwell::UplinkMissing, true).await;
            }
            Ok(Change::LinkRenamed { ifindex, from, to }) if uplink.is(ifindex) => {
                tracing::warn!(
                    from,
                    to,
                    "the uplink was renamed: change `uplink` in agent.toml before the next start"
                );
            }
            Ok(
                Change::LinkUp { name, .. }
                | Change::LinkDown { name, .. }
                | Change::LinkRenamed { to: name, .. },
            ) if name == uplink.name => return,
            Ok(
                Change::AddressPut { .. }
                | Change::LinkUp { .. }
                | Change::LinkDown { .. }
                | Change::LinkGone { .. }
                | Change::LinkRenamed { .. },
            ) => {}
            Err(error) => {
                tracing::error!(%error, "the kernel tells no more of interfaces");
                return std::future::pending().await;
            }
        }
    }
}

impl Uplink {
    fn is(&self, ifindex: u32) -> bool {
        self.ifindex == Some(ifindex)
    }
}

/// The interface of this name.
pub(super) fn find(name: &str) -> Option<Link> {
    let links = Rtnl::open().and_then(|mut rtnl| rtnl.links());
    links.unwrap_or_default().into_iter().find(|link| link.name == name)
}
