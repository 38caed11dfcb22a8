//! What happens to interfaces and addresses behind our back: told to the driver, which repairs, and to the
//! core, which distrusts a node whose uplink is gone.

use stead_proto::mesh::Event;
use stead_proto::report::Unwell;
use tokio::sync::mpsc;

use super::orders::{Drive, DriverHandle};
use super::owner::tell_unwell;
use crate::vip::watch::{Event as Change, Watch};

/// Watches for ever; if the kernel ends the subscription, addresses are not repaired any more, and that is said.
pub(super) async fn run(uplink: u32, driver: DriverHandle, events: mpsc::Sender<Event>) {
    let mut watch = match Watch::open() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::error!(%error, "cannot watch interfaces: a deleted address stays deleted");
            return std::future::pending().await;
        }
    };
    loop {
        match watch.next().await {
            Ok(Change::AddressGone { .. } | Change::Missed) => driver.tell(Drive::Look),
            Ok(Change::LinkUp { ifindex, name }) if ifindex == uplink => {
                tracing::info!(name, "the uplink is up");
                tell_unwell(&events, Unwell::UplinkMissing, false).await;
                driver.tell(Drive::Look);
                driver.tell(Drive::Announce);
            }
            Ok(Change::LinkDown { ifindex, name } | Change::LinkGone { ifindex, name })
                if ifindex == uplink =>
            {
                tracing::warn!(name, "the uplink is down");
                tell_unwell(&events, Unwell::UplinkMissing, true).await;
            }
            Ok(Change::LinkRenamed { ifindex, from, to }) if ifindex == uplink => {
                tracing::warn!(
                    from,
                    to,
                    "the uplink was renamed: change `uplink` in agent.toml before the next start"
                );
            }
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
