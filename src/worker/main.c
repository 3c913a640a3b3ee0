/* fsched-worker checkpoint|preflight|restore|prove: see worker.h; fsched-worker faults: see fault.c */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/util.h"
#include "pod/preflight.h"

/* Slurm sends its signals to every process of a job, also to this one. A checkpoint that is to end on SIGTERM is ended
 * by the agent. */
static void worker_ignore_signals(void)
{
	static const int kept[] = { SIGCHLD, SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP };
	sigset_t none;

	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		bool keep = false;

		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			keep |= kept[i] == sig;
		signal(sig, keep ? SIG_DFL : SIG_IGN);
	}
	/* until deadline_set() installs its handler */
	signal(SIGALRM, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A core dump of criu would contain the job's memory and land in the job's directory. Restored processes get their own
 * limit from the image. */
static void dump_no_core(void)
{
	struct rlimit core;

	if (getrlimit(RLIMIT_CORE, &core) == 0) {
		core.rlim_cur = 0;
		setrlimit(RLIMIT_CORE, &core);
	}
}

/* Opens descriptors 0-2 if they are closed, so that none of criu's or the pod's gets one of these numbers. */
static void fill_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

static int worker_find_libexec(char *buf, size_t len, struct err *err)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_sys(err, errno, "cannot find out where fsched-worker is installed");
	self[n] = '\0';
	snprintf(buf, len, "%s", dirname(self));
	return 0;
}

static int worker_prepare(struct worker *w, enum op op, struct err *err)
{
	if (request_read(&w->req, op, err) || worker_find_libexec(w->libexec, sizeof(w->libexec), err))
		return -1;
	if (op == OP_PROVE && prove_guard(&w->req, err))
		return -1;
	if (conf_load(&w->conf, w->req.config[0] ? w->req.config : NULL, err) ||
	    deadline_set(op == OP_CHECKPOINT ? conf_checkpoint_seconds(&w->conf) : w->conf.timeout + w->req.seconds, err))
		return -1;
	/* A mailbox that cannot be opened is ignored: the next worker then finds nothing to continue. */
	if (w->req.keeper)
		mailbox_open(&w->mailbox, w->req.keeper, w->req.keeper_in, w->req.keeper_out);
	/* Only the pod's pid 1 gets the socket, from pod_restore(). */
	if (op == OP_RESTORE && fcntl(w->req.ctl_fd, F_SETFD, FD_CLOEXEC))
		return err_sys(err, errno, "descriptor %d (ctl_fd) is not open", w->req.ctl_fd);
	return store_open_path(&w->store, w->req.job_dir, false, err);
}

static int worker_run(struct worker *w, bool *refused, struct err *err)
{
	switch (w->req.op) {
	case OP_CHECKPOINT: return worker_checkpoint(w, refused, err);
	case OP_PREFLIGHT: return worker_preflight(w, err);
	case OP_PROVE: return worker_prove(w, refused, err);
	default: return worker_restore(w, refused, err);
	}
}

static int parse_op(const char *name, enum op *op)
{
	static const char *const names[] = {
		[OP_CHECKPOINT] = "checkpoint",
		[OP_PREFLIGHT] = "preflight",
		[OP_RESTORE] = "restore",
		[OP_PROVE] = "prove",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i])) {
			*op = (enum op)i;
			return 0;
		}
	return -1;
}

int main(int argc, char **argv)
{
	static struct worker w;
	struct err err = { 0 };
	bool refused = true;
	enum op op;
	int rc;

	if (argc == 2 && !strcmp(argv[1], "faults")) {
		fault_list(stdout);
		return 0;
	}
	if (argc != 2 || parse_op(argv[1], &op)) {
		fprintf(stderr,
			"usage: fsched-worker checkpoint|preflight|restore|prove\n       fsched-worker faults\nThe agent runs it, with the request on standard input.\n");
		return 2;
	}
	fill_stdio();
	worker_ignore_signals();
	dump_no_core();
	umask(077);
	w.began = now_us();
	w.warnings = json_array();
	w.store.dirfd = w.store.epochsfd = -1;
	w.mailbox = (struct mailbox){ -1, -1 };
	w.trace_lock = -1;
	w.turn = (struct turn){ .dirfd = -1, .fd = -1 };
	w.node_fault = true;
	rc = worker_prepare(&w, op, &err);
	w.node_fault = false;
	if (rc == 0)
		rc = worker_run(&w, &refused, &err);
	if (rc)
		event_failed(&w, err.text, refused, err.num == PREFLIGHT_ASKER);
	criu_bin_free(&w.criu);
	if (w.store.dirfd >= 0)
		store_close(&w.store);
	mailbox_close(&w.mailbox);
	writers_end(&w);
	if (w.trace_lock >= 0)
		close(w.trace_lock);
	request_free(&w.req);
	json_decref(w.warnings);
	files_names_free(&w.names);
	files_scratch_free(&w.scratch);
	return rc ? 1 : 0;
}
