/* The supervisor: the foreground process of run and restore while its pod exists. */
#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "base/clock.h"
#include "base/util.h"
#include "criu/criu.h"

struct supervisor {
	const struct pod_opts *o;
	struct pod_home *home;
	struct pod *pod;
	unsigned restoring; /* the epoch that criu is restoring; 0: none */
	bool exited;
	int status;        /* wait status of the command */
	int64_t due;       /* µs, of the next periodic checkpoint; 0 = none */
	pid_t saver;       /* the process of a periodic checkpoint, 0 = none */
	char failure[512]; /* of a restore */
};

/* Sends the signal to the process group of the command, as a terminal does. */
static void supervisor_forward(struct supervisor *s, int sig)
{
	pid_t script = pod_script(s->pod->init);

	if (script > 0 && kill(-script, sig) && errno == ESRCH)
		kill(script, sig);
}

static void start_saver(struct supervisor *s)
{
	sigset_t none;

	s->due += s->o->interval * 1000000;
	if (s->due < now_us())
		s->due = now_us() + s->o->interval * 1000000;
	if (s->saver)
		return;
	s->saver = fork();
	if (s->saver)
		return;
	/* The child closes the control socket: a copy of it would keep the pod alive if the supervisor dies. */
	close(s->pod->ctl);
	close(s->home->supervisor_lock);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(pod_cmd_checkpoint(s->o));
}

static void supervisor_read_signal(struct supervisor *s, int sigfd)
{
	struct signalfd_siginfo si;

	if (read(sigfd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo != SIGCHLD)
		supervisor_forward(s, (int)si.ssi_signo);
	else if (s->saver > 0 && waitpid(s->saver, NULL, WNOHANG) == s->saver)
		s->saver = 0;
}

static void supervisor_on_message(struct supervisor *s, const char *msg)
{
	if (sscanf(msg, "exit %d", &s->status) == 1) {
		s->exited = true;
	} else if (!strncmp(msg, "restored ", 9)) {
		cli_error("pod restore", "restored from epoch %u", s->restoring);
		s->restoring = 0;
	} else if (!strncmp(msg, "alone ", 6)) {
		cli_error("pod",
			  "a process of the command has killed fsched-leader (process 2 of the pod): no more checkpoints are possible; it runs on");
		s->due = 0;
	} else if (!strncmp(msg, "failed ", 7)) {
		snprintf(s->failure, sizeof(s->failure), "%s", msg + 7);
	}
}

/* Runs until the control socket closes, which happens when pid 1 ends. */
static void supervisor_watch(struct supervisor *s, int sigfd)
{
	const int64_t limit = s->restoring ? now_us() + (int64_t)s->o->conf.timeout * 1000000 : 0;
	struct pollfd p[2] = { { s->pod->ctl, POLLIN, 0 }, { sigfd, POLLIN, 0 } };
	char msg[512];

	for (;;) {
		if (poll(p, 2, s->due || s->restoring ? 200 : -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			supervisor_read_signal(s, sigfd);
		if (p[0].revents) {
			if (pod_recv(s->pod->ctl, msg, sizeof(msg)) <= 0)
				break;
			supervisor_on_message(s, msg);
		}
		if (s->restoring && now_us() > limit) {
			snprintf(s->failure, sizeof(s->failure), "criu did not finish within %u s (CheckpointTimeout)",
				 s->o->conf.timeout);
			break;
		}
		if (s->due && !s->restoring && now_us() >= s->due)
			start_saver(s);
	}
}

static int supervisor_exit_status(struct supervisor *s, enum intent intent)
{
	const char *name = s->home->store.path;
	char log[900];

	if (s->exited)
		return WIFSIGNALED(s->status) ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status);
	if (s->restoring) {
		criu_log_explain(s->home->store.dirfd, "restore.log", log, sizeof(log));
		cli_error("pod restore",
			  "epoch %u cannot be restored: %s%s%s. The epoch is kept; the whole log is %s/restore.log",
			  s->restoring, s->failure[0] ? s->failure : "the pod died", log[0] ? ": " : "", log, name);
		return POD_EXIT_FAILED;
	}
	if (intent == INTENT_VACATED) {
		cli_error("pod", "the command was saved and stopped; `fsched pod restore %s` continues it", name);
		return POD_EXIT_VACATED;
	}
	cli_error("pod",
		  "the pod was killed; `fsched pod restore %s` continues the command from the last epoch, if there is one",
		  name);
	return POD_EXIT_KILLED;
}

/* Reads the intent from the record on disk: another process with `checkpoint --kill` may have set it. */
static enum intent recorded_intent(const struct pod_home *h)
{
	cleanup_close int lock = pod_home_lock(h, NULL);
	cleanup_free struct job_record *rec = xcalloc(1, sizeof(*rec));

	return lock < 0 || store_load_record(&h->store, rec, NULL) ? INTENT_RUNNING : rec->intent;
}

static int supervisor_take_down(struct supervisor *s)
{
	enum intent intent = recorded_intent(s->home);
	const bool restored = !s->restoring;
	struct err err;
	char dir[4096];
	int status;

	if (pod_kill(s->pod->init, 10000, &err))
		cli_error("pod", "%s", err.text);
	close(s->pod->ctl);
	while (waitpid(s->pod->init, &status, 0) < 0 && errno == EINTR)
		;
	if (s->saver > 0)
		waitpid(s->saver, NULL, 0);
	pod_state_remove(s->home);
	pod_home_dir(s->home, dir, sizeof(dir));
	pod_cleanup(dir);
	if (restored && s->exited && pod_set_intent(s->home, INTENT_DONE, &err))
		cli_error("pod", "%s", err.text);
	return supervisor_exit_status(s, intent);
}

int pod_supervise(const struct pod_opts *o, struct pod_home *h, struct pod *pod, unsigned restored)
{
	static const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD };
	struct supervisor s = { .o = o, .home = h, .pod = pod, .restoring = restored };
	cleanup_close int sigfd = -1;
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC);
	if (o->interval)
		s.due = now_us() + o->interval * 1000000;
	supervisor_watch(&s, sigfd);
	return supervisor_take_down(&s);
}
