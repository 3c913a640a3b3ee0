/* What the checks of the preflight share: the job's processes and the text of a refusal. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "base/proc.h"

int preflight_refuse(pid_t pid, struct err *err, const char *what, const char *advice)
{
	char who[PROC_DESCRIBED];

	return err_set(err, 0, "%s %s, which cannot be checkpointed%s%s", proc_describe(pid, who, sizeof(who)), what,
		       advice[0] ? "; " : "", advice);
}

int preflight_inner(const struct preflight_scan *s, pid_t pid)
{
	for (int i = 0; i < s->job->n; i++)
		if (s->job->pids[i] == pid)
			return s->job->inner[i];
	return 0;
}

int preflight_find_leader(struct preflight_scan *s, struct err *err)
{
	for (int i = 0; i < s->job->n; i++)
		if (s->job->inner[i] == LEADER_PID) {
			s->leader = s->job->pids[i];
			return 0;
		}
	return err_set(err, ESRCH, "the job's first process is gone, the job is ending");
}

/* clang-format off */
static const struct { const char *prefix, *what; } devices[] = {
	{ "/dev/nvidia",     "uses a GPU" },
	{ "/dev/dri/",       "uses a GPU" },
	{ "/dev/kfd",        "uses a GPU" },
	{ "/dev/infiniband", "uses an RDMA network card" },
	{ "/dev/hfi1",       "uses an Omni-Path network card" },
	{ "/dev/knem",       "uses the KNEM device" },
	{ "/dev/xpmem",      "uses the XPMEM device" },
	{ "/dev/kvm",        "runs a virtual machine" },
};

static const struct { const char *link, *what; } anon_inodes[] = {
	{ "anon_inode:[io_uring]",    "uses io_uring" },
	{ "anon_inode:[perf_event]",  "has a performance counter open" },
	{ "anon_inode:kvm",           "runs a virtual machine" },
	{ "anon_inode:[userfaultfd]", "uses userfaultfd" },
	{ "anon_inode:bpf",           "has a BPF object open" },
	{ "anon_inode:btf",           "has a BPF object open" },
	{ "anon_inode:dmabuf",        "shares a buffer with a device" },
};
/* clang-format on */

const char *preflight_known_object(const char *link)
{
	for (size_t i = 0; i < ARRAY_SIZE(anon_inodes); i++)
		if (!strncmp(link, anon_inodes[i].link, strlen(anon_inodes[i].link)))
			return anon_inodes[i].what;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		if (!strncmp(link, devices[i].prefix, strlen(devices[i].prefix)))
			return devices[i].what;
	return NULL;
}
