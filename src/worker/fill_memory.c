/* The restore of an epoch that has memory in memory/.
 *
 * criu reads a directory made for it, epochs/restore.partial (for a proof epochs/prove.partial): links to the epoch's
 * images, and page lists without the pages in memory/. criu restores the processes without these pages and waits before
 * it lets the processes run; fsched then fills the pages in with all processors. If that is not possible or fails, the
 * directory gets the whole memory as plain images, and criu restores everything. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"
#include "image/restore_dir.h"
#include "capture/headroom.h"
#include "trace/tracer.h"

/* The next start of the job removes one that is left behind. */
#define DIR_NAME    "restore.partial"
/* Bytes shared since a fork from which on criu restores these pages, so that the processes share them again. */
#define SHARED_MIN  (8ull << 20)
/* If this much was shared and the image does not tell which pages, criu restores all memory. */
#define UNKNOWN_MIN (64ull << 20)
#define LIST_MAX    65536

/* ---- the directory of criu's images ------------------------------------------ */

/* The job may be restored during a proof. */
static const char *restore_dir_name(const struct worker *w)
{
	return w->req.op == OP_PROVE ? STORE_PROOF_DIR : DIR_NAME;
}

static int make_restore_dir(struct fill_memory *b, const struct worker *w, struct err *err)
{
	const char *name = restore_dir_name(w);
	int fd;

	if (remove_tree_at(w->store.epochsfd, name) || mkdirat(w->store.epochsfd, name, 0700))
		return err_sys(err, errno, "cannot make %s in %s", name, w->store.path);
	fd = openat(w->store.epochsfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open %s in %s", name, w->store.path);
	b->dirfd = fd;
	if (getrandom(b->token, sizeof(b->token), 0) != sizeof(b->token))
		return err_sys(err, errno, "no random numbers");
	return mem_restore_dir_make(b->image, b->criufd, fd, b->fill ? b->token : NULL, &b->family,
				    (int)w->conf.threads, err);
}

static int fill_memory_open_image(struct fill_memory *b, int epochfd, struct err *err)
{
	cleanup_close int fd = openat(epochfd, "memory", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open the epoch's memory");
	b->image = mem_image_open(fd, err);
	if (!b->image)
		return -1;
	mem_fork_family_find(b->image, SHARED_MIN, &b->family);
	return 0;
}

/* Reads the image into the page cache while criu makes the processes. The child closes standard output and the control
 * socket: as long as it had them open, their readers would see no end of file. */
static void start_reader(struct fill_memory *b, const struct worker *w)
{
	const uint64_t max = mem_headroom(getpid()) / 4;
	const pid_t parent = getpid();

	b->reader = fork();
	if (b->reader < 0)
		b->reader = 0; /* without it the restore only takes longer */
	if (b->reader)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(STDOUT_FILENO);
	close(w->req.ctl_fd);
	if (getppid() == parent)
		mem_image_read_ahead(b->image, max);
	_exit(0);
}

static void end_reader(struct fill_memory *b)
{
	if (!b->reader)
		return;
	kill(b->reader, SIGKILL);
	while (waitpid(b->reader, NULL, 0) < 0 && errno == EINTR)
		;
	b->reader = 0;
}

/* Why criu is to restore the whole memory, or NULL. */
static const char *why_criu_restores(const struct fill_memory *b, const struct worker *w, const struct manifest *m)
{
	const uint64_t known = b->family.pages * MEM_PAGE + m->memory.criu;

	if (memory_why_criu(w))
		return memory_why_criu(w);
	if (m->memory.shared >= UNKNOWN_MIN + 2 * known)
		return "processes of the job share memory since a fork, which criu knows how to restore";
	return NULL;
}

/* Whether the epoch has anything beside criu's images and memory. */
static bool restores_more(const struct manifest *m)
{
	return thread_attributes_any(m->threads) || socket_options_any(m->options) || space_attributes_any(m->spaces);
}

int fill_memory_begin(struct fill_memory *b, struct worker *w, int epochfd, int criufd, const struct manifest *m,
		      bool fill, struct err *err)
{
	const char *why;

	*b = (struct fill_memory){ .on = m->memory.ours, .criufd = criufd, .dirfd = -1, .tracer = { -1, -1 } };
	b->stops = w->criu.preload[0] && (b->on || restores_more(m));
	if (b->stops && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b->tracer))
		return err_sys(err, errno, "cannot make a socket pair");
	if (!b->on)
		return 0;
	if (fill_memory_open_image(b, epochfd, err))
		return -1;
	why = why_criu_restores(b, w, m);
	b->fill = fill && !why;
	if (why && fill)
		worker_warn(w, "the memory is restored by criu itself, which takes longer: %s", why);
	if (!w->criu.preload[0])
		return err_set(err, ENOENT, "%s", why);
	start_reader(b, w);
	return make_restore_dir(b, w, err);
}

/* ---- filling ------------------------------------------------------------------- */

struct target {
	const struct tree *t;
	const struct mem_shared *objects;
};

static int fill_memory_put_pages(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	const struct target *to = arg;
	struct iovec local = { (void *)(uintptr_t)buf, len }, remote = { (void *)(uintptr_t)addr, len };
	pid_t host;
	ssize_t n;

	if (mem_is_shared(id))
		return mem_shared_write(to->objects, id, addr, buf, len);
	host = tree_host_of(to->t, id);

	if (!host) {
		errno = ESRCH;
		return -1;
	}
	n = process_vm_writev(host, &local, 1, &remote, 1, 0);
	if (n >= 0 && n != (ssize_t)len)
		errno = EFAULT;
	return n == (ssize_t)len ? 0 : -1;
}

/* If criu is killed while memory is filled, its processes must die, not run with incomplete memory. */
static int die_with_criu(int tracer_fd, pid_t host, struct err *err)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64], name[300];
	int more = -1;

	snprintf(path, sizeof(path), "/proc/%d/task", host);
	d = opendir(path);
	while (d && (more = dir_next(d, &e)) > 0) {
		cleanup_free char *status = NULL;

		snprintf(name, sizeof(name), "%s/status", e->d_name);
		if (read_file_at(dirfd(d), name, LIST_MAX, &status) <= 0)
			continue;
		tracer_set_options(tracer_fd, (pid_t)proc_status_number(status, "NSpid", 0),
				   PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
	}
	return more < 0 ? err_sys(err, errno, "cannot list the threads of process %d", host) : 0;
}

/* What fsched has to fill: everything except files and the pages that criu has restored as shared. Writing to those
 * would give each process a copy. */
static void list_holes(const struct fill_memory *b, struct mem_ranges *holes)
{
	cleanup_free struct mem_range *all = NULL;
	struct mem_ranges common = { 0 };
	size_t n;

	all = mem_shared_spaces(b->image, false, &n);
	mem_fork_family_pages(&b->family, &common);
	mem_ranges_without(holes, all, n, common.v, common.n);
	mem_ranges_free(&common);
}

static int fill_memory_spaces(struct fill_memory *b, struct worker *w, pid_t init, struct err *err)
{
	struct mem_read_opts o = { .threads = (int)w->conf.threads };
	struct mem_ranges only = { 0 };
	struct mem_sink sink = { .write = fill_memory_put_pages }; /* zero pages need no write: new memory is zero */
	struct target to;
	struct tree t;
	int rc = 0;

	if (tree_read(init, &t, err))
		return -1;
	/* Files were filled before criu began. */
	list_holes(b, &only);
	o.only = only.v;
	o.n_only = only.n;
	b->objects = mem_shared_new();
	fault_die(w, FAULT_DIE_IN_FILL);
	for (int i = 0; i < t.n && !rc; i++)
		rc = die_with_criu(b->tracer[0], t.pids[i], err);
	fault_criu_dies(w, FAULT_CRIU_DIES_IN_FILL, init);
	to = (struct target){ &t, b->objects };
	sink.arg = &to;
	if (fault(w, FAULT_FILL_FAILS))
		rc = err_set(err, 0, "a fault on purpose");
	if (!rc)
		rc = mem_shared_open_restored(b->objects, b->image, b->token, t.pids, t.n, err);
	if (!rc && only.n) /* mem_image_read_pages() takes an empty list for everything */
		rc = mem_image_read_pages(b->image, &sink, &o, NULL, err);
	mem_ranges_free(&only);
	tree_free(&t);
	return rc ? err_wrap(err, "the job's memory cannot be restored") : 0;
}

int fill_memory_finish(struct fill_memory *b, struct worker *w, pid_t init, const struct manifest *m, struct err *err)
{
	int got;

	if (!b->stops)
		return 0;
	close(steal_fd(&b->tracer[1]));
	fault_die(w, FAULT_DIE_IN_RESTORE);
	got = tracer_await_ready(b->tracer[0], (int)w->conf.timeout * 1000);
	if (got < 0)
		return err_sys(err, errno, "criu has not made the processes of the job");
	if (got == 0)
		return 0; /* criu has failed; pid 1 reports that to the agent */
	if (b->on)
		event_phase("memory");
	if (space_attributes_set(w, b->tracer[0], init, m->spaces, err) ||
	    (b->fill && fill_memory_spaces(b, w, init, err)) ||
	    thread_attributes_set(w, b->tracer[0], init, m->threads, err) || socket_options_set(w, init, m->options, err))
		return -1;
	return tracer_go(b->tracer[0]) ? err_sys(err, errno, "criu has ended while the memory was filled") : 0;
}

void fill_memory_end(struct fill_memory *b, const struct worker *w)
{
	for (int i = 0; i < 2; i++)
		if (b->tracer[i] >= 0)
			close(b->tracer[i]);
	if (!b->on)
		return;
	end_reader(b);
	if (b->dirfd >= 0)
		close(b->dirfd);
	if (b->image)
		mem_image_close(b->image);
	mem_fork_family_free(&b->family);
	mem_shared_free(b->objects);
	remove_tree_at(w->store.epochsfd, restore_dir_name(w));
	*b = (struct fill_memory){ .dirfd = -1, .tracer = { -1, -1 } };
}
