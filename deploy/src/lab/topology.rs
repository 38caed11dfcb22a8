//! A lab: one switch, some nodes and a visitor, each in its own namespace.
//!
//! Node `i` has `<subnet>.(10+i)`, the visitor `<subnet>.200`, in IPv4 and IPv6, each on `eth0`. The machine's
//! own network is not reachable from any of them.
//!
//! **Invariant.** Interface indices and MAC addresses follow from the place alone, so nothing is looked up.

use super::error::LabError;
use super::namespace::Namespace;
use super::ready;
use super::route::{self, CableEnd, State};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;

/// The most nodes a lab holds: every pair of them can be cut, and set-up stays below a second.
pub const NODES_MAX: u8 = 32;
/// The prefix length of the lab's IPv4 subnet.
pub const PREFIX_IP4: u8 = 24;
/// The prefix length of the lab's IPv6 subnet.
pub const PREFIX_IP6: u8 = 64;

pub(crate) const BRIDGE: u32 = 2;
/// The index of `eth0` in the namespaces of nodes and visitor.
pub(crate) const UPLINK: u32 = 2;
const VISITOR_HOST: u8 = 200;

/// One of the two kinds of addresses; every place has one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    #[default]
    Ip4,
    /// IPv6.
    Ip6,
}

/// Somebody at the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A node, counted from 0.
    Node(u8),
    /// The visitor: a client of the site, outside the mesh.
    Visitor,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Visitor => f.write_str("the visitor"),
        }
    }
}

impl Place {
    /// The last number of its first addresses.
    const fn host(self) -> u8 {
        match self {
            Self::Node(node) => 10_u8.saturating_add(node),
            Self::Visitor => VISITOR_HOST,
        }
    }

    /// The MAC address of its `eth0`: locally administered, the last byte is the place.
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        [0x02, b's', b't', b'e', 0, self.host()]
    }

    /// The index of its port in the switch's namespace.
    pub(crate) fn port(self) -> u32 {
        100 + u32::from(self.host())
    }
}

/// How large a lab is and which addresses it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many nodes, 1 to [`NODES_MAX`].
    pub nodes: u8,
    /// The IPv4 subnet, /24.
    pub subnet_ip4: Ipv4Addr,
    /// The IPv6 subnet, /64.
    pub subnet_ip6: Ipv6Addr,
}

impl Shape {
    /// `nodes` nodes in 10.83.0.0/24 and fd83::/64.
    #[must_use]
    pub const fn of(nodes: u8) -> Self {
        Self {
            nodes,
            subnet_ip4: Ipv4Addr::new(10, 83, 0, 0),
            subnet_ip6: Ipv6Addr::new(0xfd83, 0, 0, 0, 0, 0, 0, 0),
        }
    }

    /// The IPv4 address with this last number.
    #[must_use]
    pub const fn ip4(&self, host: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.subnet_ip4.octets();
        Ipv4Addr::new(a, b, c, host)
    }

    /// The IPv6 address whose last group *reads* as this number: `::10` for 10.
    #[must_use]
    pub fn ip6(&self, host: u8) -> Ipv6Addr {
        let (hundreds, tens, ones) = (host / 100, host / 10 % 10, host % 10);
        let digits = (u128::from(hundreds) << 8) | (u128::from(tens) << 4) | u128::from(ones);
        let prefix = self.subnet_ip6.to_bits() >> (128 - PREFIX_IP6) << (128 - PREFIX_IP6);
        Ipv6Addr::from_bits(prefix | digits)
    }

    /// The address with this last number.
    #[must_use]
    pub fn address(&self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::Ip4 => self.ip4(host).into(),
            Family::Ip6 => self.ip6(host).into(),
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.nodes).map(Place::Node).chain([Place::Visitor])
    }
}

/// A running lab. Dropping it lets go of its namespaces; the kernel removes them once the processes in them
/// have ended.
#[derive(Debug)]
pub struct Lab {
    shape: Shape,
    switch: Namespace,
    nodes: Vec<Namespace>,
    visitor: Namespace,
    /// Directed: frames of the first do not reach the second.
    pub(crate) cuts: BTreeSet<(Place, Place)>,
    /// Whether the kernel has confirmed them.
    pub(crate) cuts_known: bool,
}

impl Lab {
    /// Makes the namespaces, the switch and the cables. At return every link carries traffic.
    ///
    /// # Errors
    /// [`LabError`]; what was made until then is gone when this returns.
    pub fn start(shape: Shape) -> Result<Self, LabError> {
        if shape.nodes == 0 || shape.nodes > NODES_MAX {
            return Err(LabError::TooManyNodes { asked: shape.nodes, max: NODES_MAX });
        }
        let mut nodes = Vec::new();
        for _ in 0..shape.nodes {
            nodes.push(Namespace::create()?);
        }
        let (switch, visitor) = (Namespace::create()?, Namespace::create()?);
        let lab = Self { shape, switch, nodes, visitor, cuts: BTreeSet::new(), cuts_known: true };
        lab.make_switch()?;
        let (first, rest): (Vec<Place>, Vec<Place>) = shape.places().partition(|place| place.host() % 2 == 0);
        thread::scope(|scope| {
            let half = scope.spawn(|| lab.configure_all(&rest));
            lab.configure_all(&first).and(half.join().unwrap_or(Err(LabError::Panicked("set-up"))))
        })?;
        let ports: Vec<u32> = shape.places().map(Place::port).collect();
        route::wait_until_ready(&lab.switch, &ports)?;
        Ok(lab)
    }

    /// Size and addresses.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// All nodes and the visitor.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        self.shape.places()
    }

    /// The namespace of a node or of the visitor.
    ///
    /// # Errors
    /// [`LabError::NoSuchPlace`].
    pub fn namespace(&self, place: Place) -> Result<&Namespace, LabError> {
        match place {
            Place::Node(node) => self.nodes.get(usize::from(node)).ok_or(LabError::NoSuchPlace(place)),
            Place::Visitor => Ok(&self.visitor),
        }
    }

    /// The namespace of the switch, for a capture of one's own.
    #[must_use]
    pub const fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// The IPv4 address that a place has at the start.
    #[must_use]
    pub const fn ip4(&self, place: Place) -> Ipv4Addr {
        self.shape.ip4(place.host())
    }

    /// The IPv6 address that a place has at the start.
    #[must_use]
    pub fn ip6(&self, place: Place) -> Ipv6Addr {
        self.shape.ip6(place.host())
    }

    /// The address that a place has at the start.
    #[must_use]
    pub fn address(&self, family: Family, place: Place) -> IpAddr {
        self.shape.address(family, place.host())
    }

    fn make_switch(&self) -> Result<(), LabError> {
        let mut changes = vec![route::add_bridge(BRIDGE, "switch"), route::no_automatic_addresses(BRIDGE)];
        for place in self.shape.places() {
            let (index, name) = (place.port(), format!("port{}", place.host()));
            let port = CableEnd { index, name: &name };
            let uplink = CableEnd { index: UPLINK, name: "eth0" };
            changes.push(route::add_cable(port, BRIDGE, uplink, place.mac(), self.namespace(place)?));
            changes.push(route::no_automatic_addresses(index));
            changes.push(route::add_filter_hooks(index));
            changes.push(route::set_state(index, State::Up));
        }
        changes.push(route::set_state(BRIDGE, State::Up));
        changes.push(route::set_state(route::LOOPBACK, State::Up));
        route::apply(&self.switch, changes)
    }

    fn configure_all(&self, places: &[Place]) -> Result<(), LabError> {
        places.iter().try_for_each(|place| self.configure(*place))
    }

    /// Addresses are there at once: none is checked for duplicates, the link-local one is set by hand.
    fn configure(&self, place: Place) -> Result<(), LabError> {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(place.host()));
        let changes = vec![
            route::set_state(route::LOOPBACK, State::Up),
            route::no_automatic_addresses(UPLINK),
            route::set_state(UPLINK, State::Up),
            route::add_address(UPLINK, IpAddr::V6(link_local), PREFIX_IP6),
            route::add_address(UPLINK, IpAddr::V4(self.ip4(place)), PREFIX_IP4),
            route::add_address(UPLINK, IpAddr::V6(self.ip6(place)), PREFIX_IP6),
        ];
        let namespace = self.namespace(place)?;
        route::apply(namespace, changes)?;
        route::wait_until_ready(namespace, &[UPLINK])?;
        ready::until_solicitable(namespace, &[IpAddr::V6(link_local), IpAddr::V6(self.ip6(place))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_alike_in_both_families() {
        let shape = Shape::of(3);
        assert_eq!(shape.ip4(12).to_string(), "10.83.0.12");
        assert_eq!(shape.ip6(12).to_string(), "fd83::12");
        assert_eq!(shape.ip6(200).to_string(), "fd83::200");
    }

    #[test]
    fn every_place_has_a_mac_address_and_a_port_of_its_own() {
        let places: Vec<Place> = Shape::of(NODES_MAX).places().collect();
        let macs: BTreeSet<[u8; 6]> = places.iter().map(|place| place.mac()).collect();
        let ports: BTreeSet<u32> = places.iter().map(|place| place.port()).collect();
        assert_eq!((macs.len(), ports.len()), (33, 33));
    }
}
