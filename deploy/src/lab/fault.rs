//! Faults of the network, made by the kernel at the switch.
//!
//! A *cut* is directed: while it stands, no frame of one place reaches the other. It is a filter on the
//! egress of the receiver's port (clsact with classic BPF and direct action) that drops frames by source MAC,
//! so any set of pairs can be cut, and it works without eBPF, nft, or being root of the machine.
//!
//! **Invariant.** The filter of a port is replaced as a whole in one step; a frame is judged by the old or
//! the new set of cuts, never by a mixture.
//!
//! Absent on purpose: a cut does not stop a node that forges its source MAC; [`Lab::link_down`] does.

use super::error::LabError;
use super::filter::{self, Instruction};
use super::ready;
use super::route::{self, State};
use super::topology::{Lab, PREFIX_IP4, PREFIX_IP6, Place, UPLINK};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Lab {
    /// Stops frames from `from` to `to`; the other direction goes on.
    ///
    /// # Errors
    /// [`LabError`] if a place is unknown or the kernel refuses.
    pub fn cut(&mut self, from: Place, to: Place) -> Result<(), LabError> {
        let mut cuts = self.cuts.clone();
        cuts.insert((from, to));
        self.set_cuts(cuts)
    }

    /// Lets frames from `from` to `to` pass again.
    ///
    /// # Errors
    /// [`LabError`] if the kernel refuses.
    pub fn heal(&mut self, from: Place, to: Place) -> Result<(), LabError> {
        let mut cuts = self.cuts.clone();
        cuts.remove(&(from, to));
        self.set_cuts(cuts)
    }

    /// Takes all cuts away.
    ///
    /// # Errors
    /// [`LabError`] if the kernel refuses.
    pub fn heal_all(&mut self) -> Result<(), LabError> {
        self.set_cuts(BTreeSet::new())
    }

    /// Cuts both ways between every two places of different groups; whoever is in no group keeps its links.
    ///
    /// # Errors
    /// [`LabError`] if a place is unknown or the kernel refuses.
    pub fn partition(&mut self, groups: &[&[Place]]) -> Result<(), LabError> {
        let mut cuts = self.cuts.clone();
        for (at, group) in groups.iter().enumerate() {
            let others =
                groups.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, g)| g.iter());
            for other in others {
                cuts.extend(group.iter().map(|place| (*place, *other)));
            }
        }
        self.set_cuts(cuts)
    }

    /// Cuts a place off from all others, both ways; its interface stays up, unlike after [`Lab::link_down`].
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown or the kernel refuses.
    pub fn isolate(&mut self, place: Place) -> Result<(), LabError> {
        let others: Vec<Place> = self.places().filter(|other| *other != place).collect();
        self.partition(&[&[place], &others])
    }

    /// Makes exactly these cuts stand.
    ///
    /// # Errors
    /// [`LabError`] if a place is unknown or the kernel refuses; after a refusal the next call sets all anew.
    pub fn set_cuts(&mut self, cuts: BTreeSet<(Place, Place)>) -> Result<(), LabError> {
        for (from, to) in &cuts {
            self.namespace(*from).and(self.namespace(*to))?;
        }
        let changed: BTreeSet<Place> = if self.cuts_known {
            cuts.symmetric_difference(&self.cuts).map(|(_, to)| *to).collect()
        } else {
            self.places().collect()
        };
        let changes = changed.iter().map(|to| {
            let senders: Vec<[u8; 6]> =
                cuts.iter().filter(|cut| cut.1 == *to).map(|cut| cut.0.mac()).collect();
            let program: Vec<u8> =
                filter::drop_from(&senders).into_iter().flat_map(Instruction::bytes).collect();
            route::set_egress_filter(to.port(), &program)
        });
        let changes = changes.collect();
        self.cuts_known = false;
        route::apply(self.switch(), changes)?;
        (self.cuts, self.cuts_known) = (cuts, true);
        Ok(())
    }

    /// The cuts that stand: frames of the first do not reach the second.
    #[must_use]
    pub const fn cuts(&self) -> &BTreeSet<(Place, Place)> {
        &self.cuts
    }

    /// Pulls the cable at the switch: the node loses its carrier and keeps its addresses.
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown or the kernel refuses.
    pub fn link_down(&self, place: Place) -> Result<(), LabError> {
        self.set_link(place, State::Down)
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown or the kernel refuses.
    pub fn link_up(&self, place: Place) -> Result<(), LabError> {
        self.set_link(place, State::Up)
    }

    fn set_link(&self, place: Place, state: State) -> Result<(), LabError> {
        self.namespace(place)?;
        route::apply(self.switch(), vec![route::set_state(place.port(), state)])
    }

    /// Replaces all addresses that a place has in the family of `new` by `new`; link-local ones stay.
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown or the kernel refuses.
    pub fn set_address(&self, place: Place, new: IpAddr) -> Result<(), LabError> {
        let namespace = self.namespace(place)?;
        let held = route::addresses(namespace, UPLINK)?;
        let old = |ip: IpAddr| ip.is_ipv4() == new.is_ipv4() && ip != new && !link_local(ip);
        let mut changes: Vec<_> = held
            .iter()
            .filter(|(ip, _)| old(*ip))
            .map(|(ip, prefix)| route::delete_address(UPLINK, *ip, *prefix))
            .collect();
        if !held.iter().any(|(ip, _)| *ip == new) {
            let prefix = if new.is_ipv4() { PREFIX_IP4 } else { PREFIX_IP6 };
            changes.push(route::add_address(UPLINK, new, prefix));
        }
        route::apply(namespace, changes)?;
        ready::until_solicitable(namespace, &[new])
    }

    /// Gives a place one more address, /32 or /128, as a driver or an operator's mistake would.
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown, has the address already, or the kernel refuses.
    pub fn add_address(&self, place: Place, ip: IpAddr) -> Result<(), LabError> {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        let namespace = self.namespace(place)?;
        route::apply(namespace, vec![route::add_address(UPLINK, ip, prefix)])?;
        ready::until_solicitable(namespace, &[ip])
    }

    /// Deletes one address of a place, as a DHCP client or a network manager would; `true` if it was there.
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown or the kernel refuses.
    pub fn delete_address(&self, place: Place, ip: IpAddr) -> Result<bool, LabError> {
        let namespace = self.namespace(place)?;
        let held = route::addresses(namespace, UPLINK)?.into_iter().filter(|(held, _)| *held == ip);
        let changes: Vec<_> = held.map(|(ip, prefix)| route::delete_address(UPLINK, ip, prefix)).collect();
        let found = !changes.is_empty();
        route::apply(namespace, changes).map(|()| found)
    }

    /// The addresses of a place now, without link-local ones.
    ///
    /// # Errors
    /// [`LabError`] if the place is unknown or the kernel refuses.
    pub fn addresses(&self, place: Place) -> Result<Vec<IpAddr>, LabError> {
        let held = route::addresses(self.namespace(place)?, UPLINK)?;
        Ok(held.into_iter().map(|(ip, _)| ip).filter(|ip| !link_local(*ip)).collect())
    }
}

fn link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
