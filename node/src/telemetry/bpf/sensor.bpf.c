// SPDX-License-Identifier: GPL-2.0 OR MIT
//
// The SYN sensor: counts the TCP connections that leave by an Ethernet uplink, by the kind of socket that asked
// for them, the answers that come back, and the SYNs that come in. tc classifier for tcx or clsact, egress and ingress.
//
// Invariant: it looks and counts, and takes hold of one thing only: SYNs of raw and packet sockets beyond the limit
// that user space wrote, which it drops before anybody has woken up. No program that serves a site makes SYNs by
// hand. To all else it answers "I do not care" (TC_ACT_UNSPEC, the same value as TCX_NEXT), so that other people's
// programs get their turn. Counters are per CPU; a packet that cannot be read counts as a segment and as nothing else.
//
// What is a SYN here: TCP with SYN and without ACK, in IPv4 or IPv6 behind at most EXTENSIONS_MAX extension
// headers and TAGS_MAX VLAN tags, not in a later fragment; and a TCP header made by hand that fragments tear apart. An offloaded packet counts once per segment that it
// will become, for each of them is a SYN on the wire.
//
// What is "again": the same 4-tuple *and* the same sequence number as a SYN without an answer, at most AGAIN_MAX
// times. That is how a kernel repeats itself; a flood from one port is not excused by it.
// What is foreign: a source that is not ours, of a raw or packet socket. A TCP socket has none of its own making:
// what looks like one is a container on a macvlan, or an address that a local route makes ours (AnyIP).
// What is an answer: a SYN-ACK or RST that acknowledges that sequence number; the first one per SYN counts.
//
// Deliberately absent: packets that never pass tc (PACKET_QDISC_BYPASS, AF_XDP), addresses inside tunnels,
// non-IP frames in `raw_other`.
//
// Needs Linux 5.8, like the gate. Built by ./build into sensor.bpf.o.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

#define OPTIONS_MAX 40
#define AGAIN_MAX 10
#define RECENT_MAX 65536
#define OWN_MAX 1024    /* = own.rs */
#define FOREIGN_MAX 256 /* = own.rs */
#define REGISTERS 1024  /* = sketch.rs */
#define BUCKETS 128     /* = sketch.rs */
#define SPARED_MAX 64   /* = guard.rs of stead-proto, ALLOWED_MAX */

#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_FAST_OPEN 34
#define OPTION_EXPERIMENT 254
#define FAST_OPEN_MAGIC 0xf989

#define FAMILY_INET 2
#define FAMILY_INET6 10
#define FAMILY_PACKET 17
#define SOCK_STREAM 1
#define SOCK_RAW 3

/* The order of the fields is that of egress.rs. */
struct counts {
	__u64 syn_tcp, syn_raw, syn_packet, syn_forwarded;
	__u64 syn_with_payload, syn_foreign;
	__u64 syn_ack_matched, rst_matched, syn_again;
	__u64 raw_other, segments;
	__u64 inbound;
	__u64 syn_cut;
};

struct bucket {
	struct address address;
	__u32 votes;
	__u32 total;
};

/* What was asked for since user space last looked: registers of a HyperLogLog over the destinations, and the
 * most frequent destination of each of BUCKETS groups by majority vote (MV-Sketch; Tang, Huang, Lee 2019). */
struct window {
	__u8 registers[REGISTERS];
	struct bucket buckets[BUCKETS];
};

struct settings {
	__u64 seed;
	__u32 window; /* the one being written; user space reads and clears the other */
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} sensor_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct window);
} sensor_windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} sensor_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RECENT_MAX);
	__type(key, struct connection);
	__type(value, struct asked);
} sensor_recent SEC(".maps");

/* This host's addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OWN_MAX);
	__type(key, struct address);
	__type(value, __u8);
} sensor_own SEC(".maps");

/* SYNs by source that was not ours when they left, so that user space can take back those of an address that
 * had become ours a moment before. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOREIGN_MAX);
	__type(key, struct address);
	__type(value, __u64);
} sensor_foreign SEC(".maps");

/* What raw and packet sockets may ask for: one SYN each `interval` nanoseconds, and at once as many as fit into
 * `slack`. An interval of zero is no limit. */
struct limit {
	__u64 interval, slack;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limit);
} sensor_limit SEC(".maps");

/* When the next such SYN is due (GCRA; ITU-T I.371). Two processors that write it in the same moment may let one
 * more through, which is cheaper than a lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sensor_due SEC(".maps");

struct prefix {
	__u32 bits;
	struct address address;
};

/* Destinations that the site allows at rates of their own, which the guard's rules know. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, SPARED_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u8);
} sensor_spared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} sensor_packet SEC(".maps");

static __always_inline enum source source_of(struct __sk_buff *skb)
{
	struct bpf_sock *socket = skb->sk;
	if (!socket)
		return FORWARDED;
	if (socket->family == FAMILY_PACKET)
		return PACKET;
	/* A macvtap device sends for its virtual machine with a SOCK_RAW of no family (drivers/net/tap.c). */
	if (socket->family != FAMILY_INET && socket->family != FAMILY_INET6)
		return FORWARDED;
	socket = bpf_sk_fullsock(socket);
	if (!socket)
		return TCP; /* a request or time-wait socket */
	if (socket->type == SOCK_RAW)
		return RAW;
	return socket->type == SOCK_STREAM ? TCP : OTHER;
}

static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return x;
}

/* One more than the number of zero bits at the low end of `word`, at most 33. */
static __always_inline __u8 rank(__u32 word)
{
	__u8 zeros = 0;
	if (!word)
		return 33;
	if (!(word & 0xffff)) {
		zeros += 16;
		word >>= 16;
	}
	if (!(word & 0xff)) {
		zeros += 8;
		word >>= 8;
	}
	if (!(word & 0xf)) {
		zeros += 4;
		word >>= 4;
	}
	if (!(word & 0x3)) {
		zeros += 2;
		word >>= 2;
	}
	return zeros + !(word & 1) + 1;
}

static __always_inline void note_destination(const struct address *to, __u32 times)
{
	__u32 zero = 0;
	const struct settings *settings = bpf_map_lookup_elem(&sensor_settings, &zero);
	if (!settings)
		return;
	__u32 which = settings->window & 1;
	struct window *window = bpf_map_lookup_elem(&sensor_windows, &which);
	if (!window)
		return;
	__u64 high = (__u64)to->word[0] << 32 | to->word[1], low = (__u64)to->word[2] << 32 | to->word[3];
	__u64 hash = mix(mix(high ^ settings->seed) ^ low);
	__u8 *seen = &window->registers[(hash >> 32) & (REGISTERS - 1)];
	__u8 now = rank((__u32)hash);
	if (now > *seen)
		*seen = now;

	struct bucket *bucket = &window->buckets[(hash >> 48) & (BUCKETS - 1)];
	bucket->total += times;
	if (bucket->address.word[0] == to->word[0] && bucket->address.word[1] == to->word[1] &&
	    bucket->address.word[2] == to->word[2] && bucket->address.word[3] == to->word[3]) {
		bucket->votes += times;
	} else if (bucket->votes >= times) {
		bucket->votes -= times;
	} else {
		bucket->votes = times - bucket->votes;
		bucket->address = *to;
	}
}

/* Bytes that a SYN carries, unless it says that it opens fast (RFC 7413, or the option it was tried with). */
static __always_inline int illegal_payload(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet->asked.payload)
		return 0;
	packet->option = TCP_BYTES;
	for (int i = 0; i < OPTIONS_MAX; i++) {
		struct {
			__u8 kind, length;
			__be16 magic;
		} option = {};
		__u32 at = packet->option;
		if (at >= (packet->tcp.words >> 4) * 4u)
			return 1;
		/* Behind the last option there is payload, so four bytes can be read. */
		if (bpf_skb_load_bytes(skb, packet->transport + at, &option, sizeof(option)) &&
		    bpf_skb_load_bytes(skb, packet->transport + at, &option, 1))
			return 1;
		if (option.kind == OPTION_END)
			return 1;
		if (option.kind == OPTION_FAST_OPEN ||
		    (option.kind == OPTION_EXPERIMENT && option.magic == bpf_htons(FAST_OPEN_MAGIC)))
			return 0;
		if (option.kind != OPTION_NOP && option.length < 2)
			return 1;
		packet->option = at + (option.kind == OPTION_NOP ? 1 : option.length);
	}
	return 1;
}

static __always_inline void note_foreign(const struct packet *packet)
{
	__u64 times = packet->times;
	__u64 *known = bpf_map_lookup_elem(&sensor_foreign, &packet->connection.here);
	if (known)
		__sync_fetch_and_add(known, times);
	else
		bpf_map_update_elem(&sensor_foreign, &packet->connection.here, &times, BPF_ANY);
}

/* Whether a SYN is one more try of a known one; makes it known if not. */
static __always_inline int again(const struct packet *packet)
{
	struct asked *known = bpf_map_lookup_elem(&sensor_recent, &packet->connection);
	if (!known || known->answered || known->sequence != packet->asked.sequence) {
		bpf_map_update_elem(&sensor_recent, &packet->connection, &packet->asked, BPF_ANY);
		return 0;
	}
	if (known->again >= AGAIN_MAX)
		return 0;
	known->again++;
	return 1;
}

/* Whether a SYN made by hand is beyond the limit. */
static __always_inline int beyond_limit(const struct packet *packet)
{
	__u32 zero = 0;
	const struct limit *limit = bpf_map_lookup_elem(&sensor_limit, &zero);
	__u64 *due = bpf_map_lookup_elem(&sensor_due, &zero);
	if (!limit || !due || !limit->interval)
		return 0;
	struct prefix to = { .bits = 128, .address = packet->connection.there };
	if (bpf_map_lookup_elem(&sensor_spared, &to))
		return 0;
	__u64 now = bpf_ktime_get_ns(), next = *due > now ? *due : now;
	next += limit->interval * packet->times;
	if (next - now > limit->slack)
		return 1;
	*due = next;
	return 0;
}

static __always_inline void count_source(struct counts *counts, const struct packet *packet)
{
	__u32 source = packet->source, times = packet->times;
	if (source == RAW)
		counts->syn_raw += times;
	else if (source == PACKET)
		counts->syn_packet += times;
	else if (source == FORWARDED)
		counts->syn_forwarded += times;
	else
		counts->syn_tcp += times;
}

static __always_inline void asks(struct __sk_buff *skb, struct counts *counts, struct packet *packet)
{
	count_source(counts, packet);
	__u32 bytes = (packet->tcp.words >> 4) * 4;
	packet->asked.sequence = bpf_ntohl(packet->tcp.sequence);
	packet->asked.payload = packet->length > bytes ? packet->length - bytes : 0;
	packet->asked.again = packet->asked.answered = 0;
	if (illegal_payload(skb, packet))
		counts->syn_with_payload += packet->times;
	if ((packet->source == RAW || packet->source == PACKET) && !bpf_map_lookup_elem(&sensor_own, &packet->connection.here)) {
		counts->syn_foreign += packet->times;
		note_foreign(packet);
	}
	note_destination(&packet->connection.there, packet->times);

	packet->connection.here_port = packet->tcp.from_port;
	packet->connection.there_port = packet->tcp.to_port;
	if (again(packet))
		counts->syn_again += 1;
}

SEC("classifier")
int sensor_egress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct counts *counts = bpf_map_lookup_elem(&sensor_counts, &zero);
	if (!counts)
		return TC_ACT_UNSPEC;
	/* Who builds a packet by hand may leave the number of segments to the kernel. */
	__u32 times = skb->gso_segs;
	if (!times)
		times = skb->gso_size ? skb->len / skb->gso_size + 1 : 1;
	counts->segments += times;
	enum glance seen = glance(skb, TCP_SYN);
	if (seen == TCP_PLAIN)
		return TC_ACT_UNSPEC;
	enum source source = source_of(skb);
	if (seen == UDP_PLAIN && source != RAW && source != PACKET)
		return TC_ACT_UNSPEC;

	struct packet *packet = bpf_map_lookup_elem(&sensor_packet, &zero);
	if (!packet || !parse(skb, packet, &packet->connection.here, &packet->connection.there))
		return TC_ACT_UNSPEC;
	packet->times = times;
	packet->source = source;
	__u8 protocol = packet->protocol;
	int by_hand = source == RAW || source == PACKET;
	if (protocol == PROTOCOL_TCP && !packet->later_fragment) {
		int torn = bpf_skb_load_bytes(skb, packet->transport, &packet->tcp, sizeof(packet->tcp));
		/* Who tears a TCP header into fragments hides what it is; no kernel does. */
		if (torn ? !by_hand : (packet->tcp.flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return TC_ACT_UNSPEC;
		if (torn)
			count_source(counts, packet);
		else
			asks(skb, counts, packet);
		if (!by_hand || !beyond_limit(packet))
			return TC_ACT_UNSPEC;
		counts->syn_cut += packet->times;
		counts->segments -= packet->times; /* it does not reach the uplink */
		return TC_ACT_SHOT;
	} else if (protocol == PROTOCOL_TCP || protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6 ||
		   protocol == PROTOCOL_VRRP) {
		return TC_ACT_UNSPEC;
	}
	if (by_hand)
		counts->raw_other += packet->times;
	return TC_ACT_UNSPEC;
}

SEC("classifier")
int sensor_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	if (glance(skb, TCP_SYN | TCP_RST) != CLOSER)
		return TC_ACT_UNSPEC;
	struct packet *packet = bpf_map_lookup_elem(&sensor_packet, &zero);
	if (!packet || !parse(skb, packet, &packet->connection.there, &packet->connection.here))
		return TC_ACT_UNSPEC;
	if (packet->protocol != PROTOCOL_TCP || packet->later_fragment ||
	    bpf_skb_load_bytes(skb, packet->transport, &packet->tcp, sizeof(packet->tcp)))
		return TC_ACT_UNSPEC;
	__u8 flags = packet->tcp.flags;
	if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		struct counts *asked_us = bpf_map_lookup_elem(&sensor_counts, &zero);
		if (asked_us)
			asked_us->inbound += 1;
		return TC_ACT_UNSPEC;
	}
	if (!(flags & TCP_ACK) || !(flags & (TCP_SYN | TCP_RST)))
		return TC_ACT_UNSPEC;

	packet->connection.here_port = packet->tcp.to_port;
	packet->connection.there_port = packet->tcp.from_port;
	struct asked *asked = bpf_map_lookup_elem(&sensor_recent, &packet->connection);
	if (!asked || asked->answered ||
	    bpf_ntohl(packet->tcp.acknowledged) - asked->sequence - 1 > asked->payload)
		return TC_ACT_UNSPEC;
	asked->answered = 1;

	struct counts *counts = bpf_map_lookup_elem(&sensor_counts, &zero);
	if (!counts)
		return TC_ACT_UNSPEC;
	if (flags & TCP_RST)
		counts->rst_matched += 1;
	else
		counts->syn_ack_matched += 1;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
