/* The program of open_watch.h; see open_watch.c. Compiled by clang for BPF. The structures of the kernel have only the
 * members that are used: libbpf finds where those are in the kernel that runs. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "agent/open_watch_shared.h"

#define FOR_WRITE    0x2 /* FMODE_WRITE */
#define FILE_TYPE    0170000
#define REGULAR_FILE 0100000

#define KERNEL       __attribute__((preserve_access_index))

struct super_block {
	unsigned long s_magic;
} KERNEL;

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
} KERNEL;

struct path {
	void *dentry;
} KERNEL;

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
} KERNEL;

struct ns_common {
	unsigned int inum;
} KERNEL;

struct pid_namespace {
	struct ns_common ns;
} KERNEL;

struct upid {
	struct pid_namespace *ns;
} KERNEL;

struct pid {
	struct upid numbers[1]; /* one for each level */
} KERNEL;

struct task_struct {
	struct pid *thread_pid;
} KERNEL;

const volatile unsigned pid_namespace; /* inode number of the pod's */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OPEN_WATCH_TYPES_MAX);
	__type(key, __u64);
	__type(value, __u8);
} types SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[OPEN_WATCH_PATH_MAX]);
} path_buffer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, OPEN_WATCH_RING_BYTES);
} paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Whether the caller is in the pod's PID namespace or in one below it. A process has a number in each namespace from
 * the first one down to its own. */
static int of_pod(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	char *numbers = (char *)BPF_CORE_READ(task, thread_pid) + bpf_core_field_offset(struct pid, numbers);

#pragma unroll
	for (int level = 1; level < OPEN_WATCH_LEVELS; level++) {
		struct upid *number = (void *)(numbers + level * bpf_core_type_size(struct upid));

		/* Beyond the process's own level these are other bytes, and reading what they point to may fail. */
		if (BPF_CORE_READ(number, ns, ns.inum) == pid_namespace)
			return 1;
	}
	return 0;
}

static void count_lost(void)
{
	__u32 first = 0;
	__u64 *n = bpf_map_lookup_elem(&lost, &first);

	if (n)
		__sync_fetch_and_add(n, 1);
}

SEC("fentry/security_file_open")
int BPF_PROG(on_open, struct file *file)
{
	__u64 type = file->f_inode->i_sb->s_magic;
	__u32 first = 0;
	char *path;
	long len;

	if (!(file->f_mode & FOR_WRITE) || (file->f_inode->i_mode & FILE_TYPE) != REGULAR_FILE ||
	    !bpf_map_lookup_elem(&types, &type) || !of_pod())
		return 0;
	path = bpf_map_lookup_elem(&path_buffer, &first);
	if (!path)
		return 0;
	len = bpf_d_path(&file->f_path, path, OPEN_WATCH_PATH_MAX);
	if (len <= 0 || len > OPEN_WATCH_PATH_MAX || bpf_ringbuf_output(&paths, path, len, 0))
		count_lost();
	return 0;
}

char terms[] SEC("license") = "GPL";
