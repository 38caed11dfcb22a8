//! Changes of links, addresses and filters inside a namespace, over netlink (rtnetlink(7), tc(8)).
//!
//! **Invariant.** Each change waits for the kernel's acknowledgement, at most a second.

use super::error::LabError;
use super::namespace::Namespace;
use futures_util::StreamExt;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort,
    InfoData, InfoKind, InfoPortData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    State as OperState,
};
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The index of the loopback interface in every namespace (net/core/dev.c, LOOPBACK_IFINDEX).
pub(crate) const LOOPBACK: u32 = 1;

const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The kernel brings links up in a work queue of its own, later than it acknowledges the change.
const READY_WITHIN: Duration = Duration::from_secs(5);
const READY_POLL: Duration = Duration::from_micros(500);
/// `htons(ETH_P_ALL)` in the lower half, priority 1 in the upper (net/sched/cls_api.c, tcm_info).
const PRIORITY_1_ALL_PROTOCOLS: TcHandle = TcHandle { major: 1, minor: 0x0003_u16.to_be() };
/// linux/pkt_cls.h
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;

/// One change, and the words for it in an error.
pub(crate) struct Change {
    step: &'static str,
    message: RouteNetlinkMessage,
    flags: u16,
}

/// Makes the changes in order, inside `namespace`.
pub(crate) fn apply(namespace: &Namespace, changes: Vec<Change>) -> Result<(), LabError> {
    namespace.run(|| {
        connected(async |handle| {
            for change in changes {
                ask(&handle, change).await?;
            }
            Ok(())
        })
    })?
}

/// The addresses of an interface inside `namespace`, with their prefix lengths.
pub(crate) fn addresses(namespace: &Namespace, interface: u32) -> Result<Vec<(IpAddr, u8)>, LabError> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let change = Change { step: "list addresses", message, flags: NLM_F_DUMP };
    let listed = namespace.run(|| connected(async |handle| ask(&handle, change).await))??;
    Ok(listed.iter().filter_map(|message| address_in(message, interface)).collect())
}

/// Waits until these interfaces inside `namespace` carry traffic; those of a bridge until they forward.
pub(crate) fn wait_until_ready(namespace: &Namespace, interfaces: &[u32]) -> Result<(), LabError> {
    let began = Instant::now();
    namespace.run(|| {
        connected(async |handle| {
            loop {
                let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
                let change = Change { step: "list interfaces", message, flags: NLM_F_DUMP };
                let listed = ask(&handle, change).await?;
                let ready = listed.iter().filter(|message| ready(message, interfaces)).count();
                if ready == interfaces.len() {
                    return Ok(());
                }
                if began.elapsed() > READY_WITHIN {
                    return Err(LabError::NotReady { waited_ms: READY_WITHIN.as_millis() });
                }
                tokio::time::sleep(READY_POLL).await;
            }
        })
    })?
}

fn ready(message: &RouteNetlinkMessage, interfaces: &[u32]) -> bool {
    let RouteNetlinkMessage::NewLink(link) = message else { return false };
    let up = link.attributes.contains(&LinkAttribute::OperState(OperState::Up));
    let forwarding = InfoBridgePort::State(BridgePortState::Forwarding);
    let infos = link.attributes.iter().filter_map(|attribute| {
        if let LinkAttribute::LinkInfo(infos) = attribute { Some(infos) } else { None }
    });
    let forwards = infos.flatten().any(|info| {
        matches!(info, LinkInfo::PortData(InfoPortData::BridgePort(port)) if port.contains(&forwarding))
    });
    let is_port = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Controller(_)));
    interfaces.contains(&link.header.index) && up && forwards == is_port
}

fn address_in(message: &RouteNetlinkMessage, interface: u32) -> Option<(IpAddr, u8)> {
    let RouteNetlinkMessage::NewAddress(found) = message else { return None };
    let ip = found
        .attributes
        .iter()
        .find_map(|attribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None })?;
    (found.header.index == interface).then_some((ip, found.header.prefix_len))
}

fn connected<T>(work: impl AsyncFnOnce(rtnetlink::Handle) -> Result<T, LabError>) -> Result<T, LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LabError::system("start an event loop"))?;
    runtime.block_on(async {
        let (connection, handle, _events) =
            rtnetlink::new_connection().map_err(LabError::system("open a netlink socket"))?;
        let driver = tokio::spawn(connection);
        let result = work(handle).await;
        driver.abort();
        result
    })
}

async fn ask(handle: &rtnetlink::Handle, change: Change) -> Result<Vec<RouteNetlinkMessage>, LabError> {
    let Change { step, message, flags } = change;
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let refused = |source| LabError::Netlink { step, source };
    let mut answers = handle.clone().request(request).map_err(refused)?;
    let mut told = Vec::new();
    loop {
        let answer = tokio::time::timeout(ANSWER_WITHIN, answers.next()).await;
        let Some(answer) = answer.map_err(|_| LabError::NetlinkSilent { step })? else { return Ok(told) };
        if let NetlinkPayload::InnerMessage(message) = answer.payload {
            told.push(message);
        } else if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(refused(rtnetlink::Error::NetlinkError(error)));
        }
    }
}

/// A bridge that forwards at once and keeps to itself: no STP, no forward delay, no multicast snooping.
pub(crate) fn add_bridge(index: u32, name: &str) -> Change {
    let data = InfoData::Bridge(vec![
        InfoBridge::ForwardDelay(0),
        InfoBridge::StpState(BridgeStpState::Disabled),
        InfoBridge::MulticastSnooping(false),
    ]);
    let mut link = named(index, name);
    link.attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)]));
    new_link("make a bridge", link)
}

/// One end of a cable.
pub(crate) struct CableEnd<'a> {
    pub(crate) index: u32,
    pub(crate) name: &'a str,
}

/// A cable from a port of the bridge to an interface inside `peer_namespace`.
pub(crate) fn add_cable(
    port: CableEnd<'_>,
    bridge: u32,
    peer: CableEnd<'_>,
    peer_mac: [u8; 6],
    peer_namespace: &Namespace,
) -> Change {
    let mut far = named(peer.index, peer.name);
    far.attributes.push(LinkAttribute::Address(peer_mac.to_vec()));
    far.attributes.push(LinkAttribute::NetNsFd(peer_namespace.as_raw_fd()));
    let data = InfoData::Veth(InfoVeth::Peer(far));
    let mut near = named(port.index, port.name);
    near.attributes.push(LinkAttribute::Controller(bridge));
    near.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
    new_link("make a cable between namespaces", near)
}

fn named(index: u32, name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::IfName(name.into()));
    link
}

fn new_link(step: &'static str, link: LinkMessage) -> Change {
    Change { step, message: RouteNetlinkMessage::NewLink(link), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// No address that the kernel makes up: what an interface says is then known beforehand.
pub(crate) fn no_automatic_addresses(index: u32) -> Change {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
    Change { step: "turn off automatic addresses", message: RouteNetlinkMessage::SetLink(link), flags: 0 }
}

/// Administrative state of an interface.
#[derive(Clone, Copy)]
pub(crate) enum State {
    Up,
    Down,
}

pub(crate) fn set_state(index: u32, state: State) -> Change {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask = LinkFlags::Up;
    link.header.flags = match state {
        State::Up => LinkFlags::Up,
        State::Down => LinkFlags::empty(),
    };
    Change { step: "set an interface up or down", message: RouteNetlinkMessage::SetLink(link), flags: 0 }
}

/// An address, usable at once (no duplicate address detection).
pub(crate) fn add_address(index: u32, ip: IpAddr, prefix: u8) -> Change {
    let mut message = address_message(index, ip, prefix);
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    let message = RouteNetlinkMessage::NewAddress(message);
    Change { step: "add an address", message, flags: NLM_F_CREATE | NLM_F_EXCL }
}

pub(crate) fn delete_address(index: u32, ip: IpAddr, prefix: u8) -> Change {
    let message = RouteNetlinkMessage::DelAddress(address_message(index, ip, prefix));
    Change { step: "delete an address", message, flags: 0 }
}

fn address_message(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// The hooks for filters on an interface.
pub(crate) fn add_filter_hooks(index: u32) -> Change {
    let mut message = tc_message(index, TcHandle::CLSACT);
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    let message = RouteNetlinkMessage::NewQueueDiscipline(message);
    Change { step: "add filter hooks to a port", message, flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// Sets, or replaces in one step, the classic BPF program (encoded `sock_filter`s) that judges each frame
/// leaving by an interface. What it returns is the verdict (`TC_ACT_*`).
pub(crate) fn set_egress_filter(index: u32, program: &[u8]) -> Change {
    let length = u16::try_from(program.len() / 8).expect("programs are far shorter than BPF_MAXINSNS");
    let bpf = |option| TcOption::Bpf(option);
    let mut message = tc_message(index, TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS });
    message.header.handle = TcHandle { major: 0, minor: 1 };
    message.header.info = PRIORITY_1_ALL_PROTOCOLS.into();
    message.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(vec![
            bpf(TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS_LEN, length.to_ne_bytes().into()))),
            bpf(TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS, program.into()))),
            bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    let message = RouteNetlinkMessage::NewTrafficFilter(message);
    Change { step: "set the filter of a port", message, flags: NLM_F_CREATE }
}

fn tc_message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(i32::try_from(index).expect("interface indices are small"));
    message.header.parent = parent;
    message
}
