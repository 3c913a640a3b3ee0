/* What fsched reads from criu's images: the freeze time, credentials, pids, facts for the memory engine. */
#include "criu/criu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu_images.pb-c.h"

#define RESERVED_PIDS 300  /* the first pid that the kernel uses again after pid_max */
#define CRIU_PIDS     512  /* more pids than criu needs for its own processes and helpers in a restore */
#define CHOICE        4096 /* the least number of positions of which one is chosen at random */

int64_t criu_read_frozen_us(int work_fd)
{
	cleanup_free char *buf = NULL;
	struct criu_message m;
	StatsEntry *s;
	int64_t us = 0;

	if (criu_image_first(work_fd, CRIU_STATS, CRIU_MAGIC_SERVICE, CRIU_MAGIC_STATS, &buf, &m))
		return 0;
	s = stats_entry__unpack(NULL, m.len, m.v);
	if (!s)
		return 0;
	if (s->dump)
		us = (int64_t)s->dump->freezing_time + s->dump->frozen_time;
	stats_entry__free_unpacked(s, NULL);
	return us;
}

static bool criu_job_has_group(uint32_t g, gid_t gid, const gid_t *groups, int n)
{
	if (g == gid)
		return true;
	for (int i = 0; i < n; i++)
		if (groups[i] == g)
			return true;
	return false;
}

static bool criu_any_capability(const uint32_t *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (v[i])
			return true;
	return false;
}

static int criu_check_thread(const char *name, const ThreadCreds *c, uid_t uid, gid_t gid, const gid_t *groups, int n,
			     struct err *err)
{
	const uint32_t uids[] = { c->uid, c->euid, c->suid, c->fsuid };
	const uint32_t gids[] = { c->gid, c->egid, c->sgid, c->fsgid };

	for (size_t i = 0; i < ARRAY_SIZE(uids); i++)
		if (uids[i] != uid)
			return err_set(err, EPERM, "image %s holds a process of uid %u, the job's is %u", name, uids[i],
				       uid);
	if (uid == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(gids); i++)
		if (!criu_job_has_group(gids[i], gid, groups, n))
			return err_set(err, EPERM, "image %s holds a process of group %u, which the job does not have",
				       name, gids[i]);
	for (size_t i = 0; i < c->n_groups; i++)
		if (!criu_job_has_group(c->groups[i], gid, groups, n))
			return err_set(err, EPERM, "image %s holds a process of group %u, which the job does not have",
				       name, c->groups[i]);
	if (criu_any_capability(c->cap_inh, c->n_cap_inh) || criu_any_capability(c->cap_prm, c->n_cap_prm) ||
	    criu_any_capability(c->cap_eff, c->n_cap_eff) || criu_any_capability(c->cap_amb, c->n_cap_amb))
		return err_set(err, EPERM, "image %s holds a process with capabilities", name);
	return 0;
}

static int criu_check_core(int dirfd, const char *name, uid_t uid, gid_t gid, const gid_t *groups, int n, struct err *err)
{
	cleanup_free char *buf = NULL;
	struct criu_message m;
	CoreEntry *core;
	int rc;

	if (criu_image_first(dirfd, name, CRIU_MAGIC_COMMON, CRIU_MAGIC_CORE, &buf, &m))
		return err_sys(err, errno, "cannot read image %s", name);
	core = core_entry__unpack(NULL, m.len, m.v);
	if (!core)
		return err_set(err, EBADMSG, "image %s cannot be understood", name);
	if (core->thread_core && core->thread_core->creds)
		rc = criu_check_thread(name, core->thread_core->creds, uid, gid, groups, n, err);
	else /* a zombie: it has only a state */
		rc = 0;
	core_entry__free_unpacked(core, NULL);
	return rc;
}

int criu_core_pid(const char *name)
{
	return criu_image_pid(name, "core-");
}

static int criu_dir_unreadable(struct err *err)
{
	return err_sys(err, errno, "cannot read the directory of criu's images");
}

int criu_check_creds(int images_fd, uid_t uid, gid_t gid, const gid_t *groups, int n_groups, struct err *err)
{
	cleanup_dir DIR *d = dir_open_at(images_fd, ".");
	const struct dirent *e;
	int n = 0, more = -1;

	while (d && (more = dir_next(d, &e)) > 0) {
		/* An image of criu before 1.8. No version that fsched accepts writes it, but a restore would read it.
		 */
		if (!strncmp(e->d_name, "creds-", 6))
			return err_set(err, EPERM, "unexpected image %s", e->d_name);
		if (strncmp(e->d_name, "core-", 5))
			continue;
		if (!criu_core_pid(e->d_name))
			return err_set(err, EPERM, "unexpected image %s", e->d_name);
		if (criu_check_core(images_fd, e->d_name, uid, gid, groups, n_groups, err))
			return -1;
		n++;
	}
	if (more < 0)
		return criu_dir_unreadable(err);
	return n > 0 ? 0 : err_set(err, ENOENT, "the images hold no process");
}

static void facts_add_core(struct criu_facts *f, int pid, const CoreEntry *core)
{
	if (core->thread_core && core->thread_core->rseq) {
		array_reserve(f->rseq, f->n_rseq, f->room_rseq);
		f->rseq[f->n_rseq++] = core->thread_core->rseq->rseq_abi_pointer;
	}
	if (core->tc && core->tc->task_state == CRIU_TASK_STOPPED) {
		array_reserve(f->stopped, f->n_stopped, f->room_stopped);
		f->stopped[f->n_stopped++] = pid;
	}
	if (core->tc && core->tc->child_subreaper && pid != CRIU_LEADER_PID)
		f->subreaper = true;
}

static int facts_compare_rseq(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* ---- shared memory: its size as criu will restore it ---- */

static int facts_compare_shared(const void *a, const void *b)
{
	const struct criu_shared *x = a, *y = b;

	return x->ino != y->ino ? (x->ino < y->ino ? -1 : 1) : (x->size > y->size) - (x->size < y->size);
}

static void facts_add_mappings(struct criu_facts *f, const MmEntry *mm)
{
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const VmaEntry *v = mm->vmas[i];

		if (!(v->status & CRIU_VMA_ANON_SHARED) || v->status & CRIU_VMA_SYSV || v->end < v->start)
			continue;
		array_reserve(f->shared, f->n_shared, f->room_shared);
		f->shared[f->n_shared++] = (struct criu_shared){ v->shmid, v->pgoff + (v->end - v->start) };
	}
}

/* Leaves one entry per object, the largest. */
static void facts_merge_shared(struct criu_facts *f)
{
	size_t n = 0;

	if (f->n_shared)
		qsort(f->shared, f->n_shared, sizeof(*f->shared), facts_compare_shared);
	for (size_t i = 0; i < f->n_shared; i++) {
		if (n && f->shared[n - 1].ino == f->shared[i].ino)
			n--;
		f->shared[n++] = f->shared[i];
	}
	f->n_shared = n;
}

static int facts_add_mm(struct criu_facts *f, int images_fd, int pid)
{
	cleanup_free char *buf = NULL;
	struct criu_message m;
	char name[32];
	MmEntry *mm;

	snprintf(name, sizeof(name), "mm-%d.img", pid);
	if (criu_image_first(images_fd, name, CRIU_MAGIC_COMMON, CRIU_MAGIC_MM, &buf, &m))
		return errno == ENOENT ? 0 : -1; /* a zombie has none */
	mm = mm_entry__unpack(NULL, m.len, m.v);
	if (!mm)
		return -1;
	facts_add_mappings(f, mm);
	mm_entry__free_unpacked(mm, NULL);
	return 0;
}

int criu_read_facts(int images_fd, struct criu_facts *f, struct err *err)
{
	cleanup_dir DIR *d = dir_open_at(images_fd, ".");
	const struct dirent *e;
	int pid, more = -1;

	*f = (struct criu_facts){ 0 };
	while (d && (more = dir_next(d, &e)) > 0) {
		cleanup_free char *buf = NULL;
		struct criu_message m;
		CoreEntry *core;

		pid = criu_core_pid(e->d_name);
		if (!pid)
			continue;
		if (criu_image_first(images_fd, e->d_name, CRIU_MAGIC_COMMON, CRIU_MAGIC_CORE, &buf, &m) ||
		    !(core = core_entry__unpack(NULL, m.len, m.v))) {
			criu_facts_free(f);
			return err_set(err, EBADMSG, "image %s cannot be understood", e->d_name);
		}
		facts_add_core(f, pid, core);
		core_entry__free_unpacked(core, NULL);
		if (facts_add_mm(f, images_fd, pid)) {
			criu_facts_free(f);
			return err_set(err, EBADMSG, "image mm-%d.img cannot be understood", pid);
		}
	}
	if (more < 0) {
		criu_dir_unreadable(err);
		criu_facts_free(f);
		return -1;
	}
	facts_merge_shared(f);
	if (f->n_rseq)
		qsort(f->rseq, f->n_rseq, sizeof(*f->rseq), facts_compare_rseq);
	return 0;
}

void criu_facts_free(struct criu_facts *f)
{
	free(f->rseq);
	free(f->stopped);
	free(f->shared);
	*f = (struct criu_facts){ 0 };
}

static int last_pid_compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int last_pid_max(void)
{
	cleanup_free char *text = NULL;
	int max = 32768;

	if (read_file_at(AT_FDCWD, "/proc/sys/kernel/pid_max", 32, &text) > 0)
		sscanf(text, "%d", &max);
	return max;
}

/* Counts the positions in the gaps between pids that have room for CRIU_PIDS more, from `from` on. at, if not NULL:
 * returns the k-th position. */
static int64_t last_pid_positions(const int *pids, int n, int from, int pid_max, int64_t k, int *at)
{
	int last = from;
	int64_t sum = 0;

	for (int i = 0; i <= n; i++) {
		int next = i < n ? pids[i] : pid_max;
		int64_t room = (int64_t)next - last - CRIU_PIDS;

		if (room > 0) {
			if (at && k < sum + room) {
				*at = last + (int)(k - sum);
				return sum;
			}
			sum += room;
		}
		if (next > last)
			last = next;
	}
	return sum;
}

/* The position is random, so that no process of the job can foresee it: above all pids if there is enough choice, else
 * in any gap. */
static int last_pid_choose(const int *pids, int n, int min, int pid_max)
{
	const int above = pids[n - 1] > min ? pids[n - 1] : min;
	int from = above, at = pids[n - 1];
	int64_t count = last_pid_positions(pids, n, above, pid_max, 0, NULL);
	uint64_t r;

	if (count < CHOICE) {
		from = RESERVED_PIDS;
		count = last_pid_positions(pids, n, from, pid_max, 0, NULL);
	}
	if (count > 0 && getrandom(&r, sizeof(r), 0) == sizeof(r))
		last_pid_positions(pids, n, from, pid_max, (int64_t)(r % (uint64_t)count), &at);
	return at;
}

int criu_last_pid(int images_fd, int min, struct err *err)
{
	cleanup_dir DIR *d = dir_open_at(images_fd, ".");
	cleanup_free int *pids = NULL;
	int n = 0, pid, more = -1;
	size_t room = 0;
	const struct dirent *e;

	while (d && (more = dir_next(d, &e)) > 0) {
		pid = criu_core_pid(e->d_name);
		if (!pid)
			continue;
		array_reserve(pids, (size_t)n, room);
		pids[n++] = pid;
	}
	if (more < 0)
		return criu_dir_unreadable(err);
	if (n == 0)
		return err_set(err, ENOENT, "the images hold no process");
	qsort(pids, (size_t)n, sizeof(*pids), last_pid_compare);
	return last_pid_choose(pids, n, min, last_pid_max());
}

bool criu_has_tcp(int images_fd)
{
	static const char prefix[] = "tcp-stream-";
	int fd = openat(images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (!strncmp(e->d_name, prefix, strlen(prefix)))
			return true;
	return false;
}

bool criu_has_semaphores(int images_fd)
{
	static const char prefix[] = "ipcns-sem-";
	const size_t magic_numbers = 2 * sizeof(uint32_t);
	cleanup_dir DIR *d = dir_open_at(images_fd, ".");
	const struct dirent *e;
	struct stat st;

	while (d && dir_next(d, &e) > 0)
		if (!strncmp(e->d_name, prefix, strlen(prefix)) && fstatat(images_fd, e->d_name, &st, 0) == 0 &&
		    (size_t)st.st_size > magic_numbers)
			return true;
	return false;
}
