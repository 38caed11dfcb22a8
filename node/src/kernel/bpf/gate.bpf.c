// SPDX-License-Identifier: GPL-2.0 OR MIT
//
// The lease gate: drops frames that belong to a gated address once the clock has passed the expiry that
// the agent last wrote. tc classifier for clsact or tcx, ingress and egress of an Ethernet uplink.
//
// Invariant: it answers "drop" or "I do not care" (TC_ACT_UNSPEC, the same value as TCX_NEXT), never
// "accept", so that other people's programs on the same hook always get their turn. A slot that cannot be
// read counts as closed.
//
// What counts as belonging to an address:
//   egress   IPv4/IPv6 source; ARP sender; target of a neighbour advertisement.
//   ingress  IPv4/IPv6 destination; target of an ARP request; target of a neighbour solicitation.
// Deliberately not: soliciting *for* an address or receiving another host's announcement of it, or a node
// that does not hold the address could neither reach it nor probe for it. Addresses inside tunnels.
//
// Two maps instead of one: the address is looked up in a hash, its expiry lies in an array and is
// overwritten in place. A hash element would be replaced and its memory reused at once, so that a virtual
// CPU stalled between lookup and load might read another address's expiry.
//
// Needs Linux 5.8 (bpf_ktime_get_boot_ns, bounded loops). Built by ./build into gate.bpf.o.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ADDRESSES_MAX 64 /* = gate_bpf.rs */
#define TAGS_MAX 2
#define EXTENSIONS_MAX 8

#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2

#define ETHERNET_BYTES 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_ICMPV6 58
#define NEXT_DESTINATION 60

#define ARP_REQUEST 1
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d; network order. */
struct address {
	__u32 word[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ADDRESSES_MAX);
	__type(key, struct address);
	__type(value, __u32);
} gate_slots SEC(".maps");

/* CLOCK_BOOTTIME nanoseconds; 0 = closed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ADDRESSES_MAX);
	__type(key, __u32);
	__type(value, __u64);
} gate_expiries SEC(".maps");

static __always_inline int closed(const struct address *address)
{
	const __u32 *found = bpf_map_lookup_elem(&gate_slots, address);
	if (!found)
		return 0;
	__u32 slot = *found;
	const volatile __u64 *expiry = bpf_map_lookup_elem(&gate_expiries, &slot);
	if (!expiry)
		return 1;
	/* The expiry first: a stall between the two reads must close, not open. */
	__u64 until = *expiry;
	return bpf_ktime_get_boot_ns() >= until;
}

static __always_inline int closed_at(struct __sk_buff *skb, __u32 offset, int ipv4)
{
	struct address address = {};
	if (ipv4) {
		address.word[2] = bpf_htonl(0xffff);
		if (bpf_skb_load_bytes(skb, offset, &address.word[3], 4))
			return 0;
	} else if (bpf_skb_load_bytes(skb, offset, &address, 16)) {
		return 0;
	}
	return closed(&address);
}

static __always_inline int arp(struct __sk_buff *skb, __u32 offset, int egress)
{
	struct {
		__be16 hardware, protocol;
		__u8 hardware_bytes, protocol_bytes;
		__be16 operation;
	} header;
	if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)) || header.protocol_bytes != 4)
		return 0;
	__u32 sender = offset + sizeof(header) + header.hardware_bytes;
	if (egress)
		return closed_at(skb, sender, 1);
	if (header.operation != bpf_htons(ARP_REQUEST))
		return 0;
	/* An announcement (sender = target) must reach this host's own neighbour table. */
	__u32 target = sender + 4 + header.hardware_bytes;
	__u32 from, to;
	if (bpf_skb_load_bytes(skb, sender, &from, 4) || bpf_skb_load_bytes(skb, target, &to, 4) || from == to)
		return 0;
	return closed_at(skb, target, 1);
}

/* The target of a neighbour message behind at most EXTENSIONS_MAX extension headers. */
static __always_inline int neighbour(struct __sk_buff *skb, __u32 offset, __u8 next, int egress)
{
	for (int i = 0; i < EXTENSIONS_MAX && next != NEXT_ICMPV6; i++) {
		struct {
			__u8 next, length;
			__be16 fragment;
		} header;
		if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_FRAGMENT &&
		    next != NEXT_AUTHENTICATION && next != NEXT_DESTINATION)
			return 0;
		if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)))
			return 0;
		if (next == NEXT_FRAGMENT) {
			if (header.fragment & bpf_htons(0xfff8))
				return 0; /* not the first one: no ICMPv6 header here */
			offset += 8;
		} else if (next == NEXT_AUTHENTICATION) {
			offset += (header.length + 2) * 4;
		} else {
			offset += (header.length + 1) * 8;
		}
		next = header.next;
	}
	__u8 type;
	if (next != NEXT_ICMPV6 || bpf_skb_load_bytes(skb, offset, &type, 1))
		return 0;
	if (type != (egress ? ND_ADVERTISEMENT : ND_SOLICITATION))
		return 0;
	return closed_at(skb, offset + 8, 0);
}

static __always_inline int ipv6(struct __sk_buff *skb, __u32 offset, int egress)
{
	__u8 next;
	if (closed_at(skb, offset + (egress ? 8 : 24), 0))
		return 1;
	if (bpf_skb_load_bytes(skb, offset + 6, &next, 1))
		return 0;
	return neighbour(skb, offset + 40, next, egress);
}

static __always_inline int gate(struct __sk_buff *skb, int egress)
{
	__u32 offset = ETHERNET_BYTES;
	__be16 type;
	if (bpf_skb_load_bytes(skb, offset - 2, &type, 2))
		return TC_ACT_UNSPEC;
	for (int i = 0; i < TAGS_MAX; i++) {
		if (type != bpf_htons(ETHERTYPE_VLAN) && type != bpf_htons(ETHERTYPE_QINQ))
			break;
		offset += 4;
		if (bpf_skb_load_bytes(skb, offset - 2, &type, 2))
			return TC_ACT_UNSPEC;
	}
	int drop = 0;
	if (type == bpf_htons(ETHERTYPE_IPV4))
		drop = closed_at(skb, offset + (egress ? 12 : 16), 1);
	else if (type == bpf_htons(ETHERTYPE_IPV6))
		drop = ipv6(skb, offset, egress);
	else if (type == bpf_htons(ETHERTYPE_ARP))
		drop = arp(skb, offset, egress);
	return drop ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("classifier")
int stead_ingress(struct __sk_buff *skb)
{
	return gate(skb, 0);
}

SEC("classifier")
int stead_egress(struct __sk_buff *skb)
{
	return gate(skb, 1);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
