// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT
//
// Takes new TCP connections to one address away from whoever listens there.
//
// The kernel asks this program before it looks for a listening socket (sk_lookup, Linux 5.9). A port in
// PORTS is either steered to the socket in LISTENER or refused; everything else is left alone. So the
// application may hold its port, hung, or take it again when it comes back: nobody has to bind it.
//
// ADDRESS is filled in before loading: 16 bytes, IPv4 as ::ffff:a.b.c.d.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FAMILY_INET 2
#define FAMILY_INET6 10
#define PROTOCOL_TCP 6

// What is done with a port; anything else than these means to leave it alone.
#define STEER 1
#define REFUSE 2

const volatile __u32 ADDRESS[4];

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} LISTENER SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} PORTS SEC(".maps");

static __always_inline int is_ours(struct bpf_sk_lookup *ctx)
{
	if (ctx->family == FAMILY_INET)
		return ADDRESS[0] == 0 && ADDRESS[1] == 0 && ADDRESS[2] == bpf_htonl(0xffff) &&
		       ADDRESS[3] == ctx->local_ip4;
	return ctx->family == FAMILY_INET6 && ADDRESS[0] == ctx->local_ip6[0] &&
	       ADDRESS[1] == ctx->local_ip6[1] && ADDRESS[2] == ctx->local_ip6[2] &&
	       ADDRESS[3] == ctx->local_ip6[3];
}

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	__u32 port = ctx->local_port, zero = 0, *what;
	struct bpf_sock *listener;

	if (ctx->protocol != PROTOCOL_TCP || !is_ours(ctx))
		return SK_PASS;
	what = bpf_map_lookup_elem(&PORTS, &port);
	if (!what)
		return SK_PASS;
	if (*what == REFUSE)
		return SK_DROP;
	if (*what != STEER)
		return SK_PASS;
	listener = bpf_map_lookup_elem(&LISTENER, &zero);
	if (!listener)
		return SK_PASS;
	// If it cannot be assigned, the connection goes where it would have gone without us.
	bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
