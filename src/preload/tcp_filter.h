/* A socket filter that keeps segments from a TCP socket while the socket is saved or restored. It accepts only segments
 * that criu makes; these have a mark. */
#ifndef FSCHED_PRELOAD_TCP_FILTER_H
#define FSCHED_PRELOAD_TCP_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>

#define TCP_FILTER_MARK 0xC114 /* criu's SOCCR_MARK */
#define TCP_FILTER_LEN  4

static const struct sock_filter tcp_filter[TCP_FILTER_LEN] = {
	{ BPF_LD | BPF_W | BPF_ABS, 0, 0, (unsigned)(SKF_AD_OFF + SKF_AD_MARK) },
	{ BPF_JMP | BPF_JEQ | BPF_K, 0, 1, TCP_FILTER_MARK },
	{ BPF_RET | BPF_K, 0, 0, 0xffffffff },
	{ BPF_RET | BPF_K, 0, 0, 0 },
};

static inline bool tcp_filter_is(const struct sock_filter *got)
{
	for (int i = 0; i < TCP_FILTER_LEN; i++)
		if (got[i].code != tcp_filter[i].code || got[i].jt != tcp_filter[i].jt ||
		    got[i].jf != tcp_filter[i].jf || got[i].k != tcp_filter[i].k)
			return false;
	return true;
}

#endif
