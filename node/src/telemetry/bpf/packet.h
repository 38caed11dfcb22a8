// SPDX-License-Identifier: GPL-2.0 OR MIT
//
// How the sensor reads a frame: Ethernet, VLAN tags, IPv4 or IPv6 with extension headers, TCP.
//
// Invariant: every loop is bounded, and what cannot be read counts as not read.

#define TAGS_MAX 4
#define EXTENSIONS_MAX 8

#define ETHERNET_BYTES 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_VRRP 112

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_DESTINATION 60

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_BYTES 20

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d; network order. */
struct address {
	__u32 word[4];
};

struct connection {
	struct address here, there;
	__be16 here_port, there_port;
};

struct asked {
	__u32 sequence; /* host order */
	__u32 payload;
	__u16 again;
	__u16 answered;
};

enum source { TCP, RAW, PACKET, FORWARDED, OTHER };

struct tcp {
	__be16 from_port, to_port;
	__be32 sequence, acknowledged;
	__u8 words, flags;
	__be16 window, checksum, urgent;
};

/* What is known of the packet at hand. It lies in a map and not on the stack, because the verifier forgets what
 * it knew about values that went through a map; otherwise it would follow every mix of headers by itself. */
struct packet {
	struct connection connection; /* here = from and there = to at egress */
	struct asked asked;
	struct tcp tcp;
	__u32 source;    /* enum source */
	__u32 times;     /* segments that it will become */
	__u32 transport; /* offset of what follows the IP headers */
	__u32 length;    /* its bytes, by the IP header */
	__u32 option;    /* offset in the TCP header */
	__u8 protocol;
	__u8 later_fragment;
};

enum glance { CLOSER, TCP_PLAIN, UDP_PLAIN };

/* Whether this is UDP, or TCP with none of `flags`, without anything special in the IP header: nearly every
 * packet. Whatever else it is needs a closer look. */
static __always_inline enum glance glance(struct __sk_buff *skb, __u8 flags)
{
	const __u8 *data = (const __u8 *)(long)skb->data, *end = (const __u8 *)(long)skb->data_end;
	__u8 protocol, tcp_flags;
	if (data + 54 > end)
		return CLOSER;
	if (data[12] == 0x08 && data[13] == 0x00) {
		if (data[14] != 0x45 || data[20] & 0x3f || data[21])
			return CLOSER;
		protocol = data[23];
		tcp_flags = data[47];
	} else if (data[12] == 0x86 && data[13] == 0xdd && data + 74 <= end) {
		protocol = data[20];
		tcp_flags = data[67];
	} else {
		return CLOSER;
	}
	if (protocol == PROTOCOL_UDP)
		return UDP_PLAIN;
	return protocol == PROTOCOL_TCP && !(tcp_flags & flags) ? TCP_PLAIN : CLOSER;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, __u32 offset, struct packet *packet,
				      struct address *from, struct address *to)
{
	struct {
		__u8 version_words, service;
		__be16 length, id, fragment;
		__u8 ttl, protocol;
		__be16 checksum;
		__be32 from, to;
	} header;
	if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)))
		return 0;
	__u32 bytes = (header.version_words & 15) * 4;
	/* A length of zero is what an offloaded packet beyond 64 KiB has. */
	__u32 total = header.length ? bpf_ntohs(header.length) : skb->len - offset;
	if (bytes < sizeof(header) || total < bytes)
		return 0;
	from->word[0] = from->word[1] = to->word[0] = to->word[1] = 0;
	from->word[2] = to->word[2] = bpf_htonl(0xffff);
	from->word[3] = header.from;
	to->word[3] = header.to;
	packet->protocol = header.protocol;
	packet->later_fragment = !!(header.fragment & bpf_htons(0x1fff));
	packet->transport = offset + bytes;
	packet->length = total - bytes;
	return 1;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, __u32 offset, struct packet *packet,
				      struct address *from, struct address *to)
{
	struct {
		__be32 version_class_flow;
		__be16 length;
		__u8 next, hops;
		struct address from, to;
	} header;
	if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)))
		return 0;
	*from = header.from;
	*to = header.to;
	__u32 start = offset + sizeof(header);
	packet->protocol = header.next;
	packet->later_fragment = 0;
	packet->transport = start;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct {
			__u8 next, length;
			__be16 fragment;
		} extension;
		__u8 next = packet->protocol;
		if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_FRAGMENT &&
		    next != NEXT_AUTHENTICATION && next != NEXT_DESTINATION)
			break;
		if (bpf_skb_load_bytes(skb, packet->transport, &extension, sizeof(extension)))
			return 0;
		packet->protocol = extension.next;
		if (next == NEXT_FRAGMENT) {
			packet->transport += 8;
			if (extension.fragment & bpf_htons(0xfff8)) {
				packet->later_fragment = 1;
				break;
			}
		} else if (next == NEXT_AUTHENTICATION) {
			packet->transport += (extension.length + 2) * 4;
		} else {
			packet->transport += (extension.length + 1) * 8;
		}
	}
	/* A length of zero is that of a jumbogram, or of an offloaded packet. */
	__u32 length = header.length ? bpf_ntohs(header.length) : skb->len - start;
	__u32 extensions = packet->transport - start;
	packet->length = length > extensions ? length - extensions : 0;
	return 1;
}

static __always_inline int parse(struct __sk_buff *skb, struct packet *packet, struct address *from, struct address *to)
{
	__u32 offset = ETHERNET_BYTES;
	__be16 type;
	if (bpf_skb_load_bytes(skb, offset - 2, &type, 2))
		return 0;
	for (int i = 0; i < TAGS_MAX; i++) {
		if (type != bpf_htons(ETHERTYPE_VLAN) && type != bpf_htons(ETHERTYPE_QINQ))
			break;
		offset += 4;
		if (bpf_skb_load_bytes(skb, offset - 2, &type, 2))
			return 0;
	}
	if (type == bpf_htons(ETHERTYPE_IPV4))
		return parse_ipv4(skb, offset, packet, from, to);
	if (type == bpf_htons(ETHERTYPE_IPV6))
		return parse_ipv6(skb, offset, packet, from, to);
	return 0;
}
