/* The memory and the disk space that a proof takes. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "capture/headroom.h"
#include "pod/pod.h"

#define ROOM_EXTRA (UINT64_C(256) << 20) /* criu, page tables, growth */

/* Bytes of memory that the restored processes have, with their /dev/shm. */
static uint64_t prove_memory_needed(const struct manifest *m, int filesfd)
{
	uint64_t need = m->memory.ours ? m->memory.pages + m->memory.criu : m->bytes;
	struct stat st;

	if (fstatat(filesfd, "shm.tar", &st, AT_SYMLINK_NOFOLLOW) == 0)
		need += (uint64_t)st.st_size;
	return need;
}

/* An overlay copies a file when it is opened for writing, and so it does when its content is put back. */
static uint64_t prove_copied(const json_t *files)
{
	const json_t *f;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(files, i, f) {
		const char *class = json_string_value(json_object_get(f, "class"));

		if (class && (!strcmp(class, "append") || !strcmp(class, "inplace")))
			sum += (uint64_t)json_integer_value(json_object_get(f, "size"));
	}
	return sum;
}

static int prove_check_disk(const struct worker *w, const struct manifest *m, struct err *err)
{
	const uint64_t copied = prove_copied(m->files);
	char need[16], have[16];
	struct statvfs v;
	uint64_t room;

	if (statvfs(w->req.pod_dir, &v))
		return err_sys(err, errno, "cannot look up the free space of PodDir");
	/* What the epoch has of /tmp, which is unpacked there, is part of its size. */
	room = (uint64_t)v.f_bavail * v.f_frsize / (w->req.low ? 4 : 2);
	if (copied + m->bytes <= room)
		return 0;
	return err_set(err, ENOSPC, "it would copy up to %s to PodDir of this node, where it may take %s",
		       format_size(copied + m->bytes, need, sizeof(need)), format_size(room, have, sizeof(have)));
}

int prove_room(const struct worker *w, const struct manifest *m, int filesfd, uint64_t *memory, struct err *err)
{
	const uint64_t need = prove_memory_needed(m, filesfd), free = mem_headroom(getpid());
	const uint64_t room = w->req.low ? free / 2 : free;
	char want[16], have[16];

	*memory = need + need / 4 + ROOM_EXTRA;
	if (*memory > room)
		return err_set(err, ENOMEM, "it takes up to %s of memory, and it may take %s on this node now",
			       format_size(*memory, want, sizeof(want)), format_size(room, have, sizeof(have)));
	return prove_check_disk(w, m, err);
}

uint64_t prove_memory_of(pid_t init)
{
	cleanup_free pid_t *pids = NULL;
	const int n = pod_pids(init, &pids, NULL);
	uint64_t pages = 0;

	for (int i = 0; i < n; i++) {
		cleanup_free char *text = NULL;
		unsigned long resident, shared;
		char path[40];

		snprintf(path, sizeof(path), "/proc/%d/statm", pids[i]);
		if (read_file_at(AT_FDCWD, path, 256, &text) > 0 &&
		    sscanf(text, "%*u %lu %lu", &resident, &shared) == 2 && resident > shared)
			pages += resident - shared;
	}
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
