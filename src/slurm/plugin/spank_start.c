/* T: collects what the agent needs to know, starts the pod, and executes the agent. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <jansson.h>
#include <slurm/slurm.h>

#include "base/conf.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/slurmconf.h"
#include "base/util.h"
#include "pod/outer_namespaces.h"
#include "pod/pod.h"
#include "pod/pod_network.h"
#include "pod/pod_tmp.h"
#include "slurm/auth.h"
#include "slurm/option.h"
#include "slurm/plugin/spank_fsched.h"
#include "base/json.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#define CPUS_MAX    16384
#define ASK_TIMEOUT 20 /* s, for one answer of slurmctld */
/* us, for all answers: longer than SlurmdTimeout, after which Slurm takes the job from a node without network. */
#define ASK_BOUND   (INT64_C(600) * 1000000)
#define PATHS_MAX   64

struct start {
	struct conf conf;
	struct option_value option;
	struct option_signal hook_signal;
	const char *hook_before, *hook_after;
	uint32_t job_id, array_id, array_task;
	pid_t stepd;
	uint16_t cpus;
	char cluster[64], user[64], node[256];
	char cwd[PATH_MAX], script[PATH_MAX], out[PATH_MAX], errout[PATH_MAX];
	struct pod_spec spec; /* cred.groups belongs to Slurm */
	struct pod pod;
	pid_t script_pid;
	int gate;                    /* the agent's end of the socket pair; P3 has the other */
	volatile unsigned *restarts; /* set by P3 */
	bool node_network;           /* the job uses the node's network, whatever PodNetwork is */
	char tmp_warning[512];     /* why its /tmp is a directory although it should be an image; "" = it need not be */
	char network_warning[512]; /* why the job uses the node's network although it should have its own; "" = it need
				      not */
	mode_t umask;
	cpu_set_t *affinity; /* T's affinity before slurmstepd sets that of the job */
};

static void get_identity(spank_t sp, struct start *s, const struct spank_batch *batch)
{
	char **argv = NULL;
	int argc = 0;

	spank_get_item(sp, S_JOB_UID, &s->spec.cred.uid);
	spank_get_item(sp, S_JOB_GID, &s->spec.cred.gid);
	if (spank_get_item(sp, S_JOB_SUPPLEMENTARY_GIDS, &s->spec.cred.groups, &s->spec.cred.n_groups) != ESPANK_SUCCESS)
		s->spec.cred.n_groups = 0;
	spank_get_item(sp, S_JOB_ID, &s->job_id);
	if (spank_get_item(sp, S_JOB_ARRAY_TASK_ID, &s->array_task) != ESPANK_SUCCESS)
		s->array_task = NO_VAL;
	if (s->array_task != NO_VAL)
		spank_get_item(sp, S_JOB_ARRAY_ID, &s->array_id);
	spank_get_item(sp, S_JOB_NCPUS, &s->cpus);
	if (spank_get_item(sp, S_JOB_ARGV, &argc, &argv) == ESPANK_SUCCESS && argc > 0 && argv[0])
		snprintf(s->script, sizeof(s->script), "%s", argv[0]);
	snprintf(s->user, sizeof(s->user), "%s", batch->user);
	s->stepd = batch->stepd;
	if (spank_getenv(sp, "SLURM_CLUSTER_NAME", s->cluster, sizeof(s->cluster)) != ESPANK_SUCCESS)
		s->cluster[0] = '\0';
	snprintf(s->node, sizeof(s->node), "%s", getenv("SLURMD_NODENAME") ? getenv("SLURMD_NODENAME") : "");
	if (!s->node[0])
		gethostname(s->node, sizeof(s->node) - 1);
}

static int load_hooks(struct start *s, const struct spank_batch *batch, struct err *err)
{
	s->hook_before = batch->hook_before;
	s->hook_after = batch->hook_after;
	if (batch->hook_signal[0] && option_signal_parse(batch->hook_signal, &s->hook_signal, err))
		return err_wrap(err, "--checkpoint-signal");
	return 0;
}

static int load_settings(struct start *s, const struct spank_args *args, const char *value, struct err *err)
{
	char uuid[UUID_TEXT_LEN + 1];

	if (option_parse(value, &s->option, err))
		return -1;
	if (s->array_task != NO_VAL) {
		option_uuid_of_task(s->option.uuid, s->array_task, uuid);
		memcpy(s->option.uuid, uuid, sizeof(uuid));
	}
	if (conf_load(&s->conf, args->conf[0] ? args->conf : NULL, err))
		return err_wrap(err, "node %s", s->node);
	return 0;
}

static int check_auth(const struct start *s, struct err *err)
{
	cleanup_free char *type = slurmconf_value(slurmconf_path(), "AuthType");

	return auth_check_munge(type, s->conf.munge_socket, err) ? err_wrap(err, "node %s", s->node) : 0;
}

static int check_node_and_job(spank_t sp, const struct start *s, struct err *err)
{
	char nodes[16];

	if (geteuid() != 0)
		return err_set(err, EPERM, "slurmd on node %s does not run as root, which checkpoints need", s->node);
	/* S_JOB_NNODES is 0 in a batch step. slurmd overwrites SLURM_JOB_NUM_NODES and SLURM_CLUSTER_NAME, so their
	 * values are not those of the user. */
	if (spank_getenv(sp, "SLURM_JOB_NUM_NODES", nodes, sizeof(nodes)) == ESPANK_SUCCESS && strcmp(nodes, "1") != 0)
		return err_set(err, EINVAL, "it runs on %s nodes; only jobs on one node can be checkpointed", nodes);
	if (!s->conf.criu_enabled)
		return err_set(err, 0,
			       "checkpointing is switched off on node %s (CheckpointType is not checkpoint/criu in %s)",
			       s->node, s->conf.path[0] ? s->conf.path : "fsched.conf, which does not exist there");
	return 0;
}

/* Before anything is made for the job: checks that the option is the one that slurmctld wrote. slurmctld may be busy or
 * restarting, so this waits for it: the job must start neither with an unchecked option nor without checkpoints. */
static int check_origin(const struct start *s, const struct spank_args *args, struct err *err)
{
	const int64_t end = now_us() + ASK_BOUND;
	json_t *arg = json_pack("{s:s, s:I, s:s}", "uuid", s->option.uuid, "interval", (json_int_t)s->option.interval,
				"dir", s->conf.dir);
	cleanup_free char *text = arg ? json_dumps(arg, JSON_COMPACT) : NULL;
	const struct slurm_question q = { args->libexec, s->node, "check-option", text, s->job_id, ASK_TIMEOUT };
	const char *why;
	json_t *answer;

	json_decref(arg);
	if (!text)
		return err_set(err, EINVAL, "JobCheckpointDir in %s is no UTF-8", s->conf.path);
	while (!(answer = ask_slurm(&q, err))) {
		if (now_us() >= end)
			return err_wrap(err,
					"slurmctld could not be asked for %d min whether the option is the job's own; what was saved of the job is "
					"kept, requeue or submit it again",
					(int)(ASK_BOUND / 60000000));
		sleep(1);
	}
	why = json_string_value(json_object_get(answer, "why"));
	if (why)
		err_set(err, EPERM, "%s", why);
	json_decref(answer);
	return why ? -1 : 0;
}

/* Lists the user's files that slurmstepd has open: the job's input, output and error. Descriptor 1 is not yet that of
 * the job. Returns their number, or -1: they cannot be listed. */
static int users_files(char paths[][PATH_MAX], int max)
{
	cleanup_dir DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;
	struct stat st;
	int n = 0, more = d ? 1 : -1;

	while (n < max && more > 0 && (more = dir_next(d, &e)) > 0) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, paths[n], PATH_MAX - 1);

		if (len <= 0 || paths[n][0] != '/' || fstat(atoi(e->d_name), &st) || !S_ISREG(st.st_mode) ||
		    st.st_uid == 0)
			continue;
		paths[n++][len] = '\0';
	}
	return more < 0 ? -1 : n;
}

static void get_output_paths(struct start *s, char files[][PATH_MAX], int n)
{
	ssize_t len = readlink("/proc/self/fd/2", s->errout, sizeof(s->errout) - 1);
	int i;

	s->errout[len > 0 ? len : 0] = '\0';
	memcpy(s->out, s->errout, sizeof(s->out));
	for (i = 0; i < n; i++)
		if (strcmp(files[i], s->errout) != 0)
			memcpy(s->out, files[i], sizeof(s->out));
}

/* Whether the pod can have a private /tmp: it must not hide anything that the job or criu opens by path. */
static bool job_may_hide_tmp(struct start *s)
{
	bool conflict;
	char(*files)[PATH_MAX] = xcalloc(PATHS_MAX, PATH_MAX);
	const char *paths[PATHS_MAX + 8];
	int i, k = 0, n = users_files(files, PATHS_MAX);

	get_output_paths(s, files, n);
	paths[k++] = s->cwd;
	paths[k++] = s->script;
	paths[k++] = s->spec.libexec;
	paths[k++] = s->conf.dir;
	paths[k++] = s->conf.pod_dir;
	if (s->conf.criu[0])
		paths[k++] = s->conf.criu;
	for (i = 0; i < n; i++)
		paths[k++] = files[i];
	paths[k] = NULL;
	conflict = n < 0 || pod_tmp_conflict(paths);
	free(files);
	return !conflict;
}

/* The name of the pod's directory. It differs for each run: when a job is requeued to the same node, the pod of its
 * last run may still exist. */
static void pod_name(const struct start *s, char buf[64])
{
	snprintf(buf, 64, "%u.%d.%.8s", s->job_id, (int)s->stepd, s->option.uuid);
}

static int set_paths(struct start *s, const struct spank_args *args, struct err *err)
{
	char agent[sizeof(args->libexec) + 16], name[64];

	if (!getcwd(s->cwd, sizeof(s->cwd)))
		s->cwd[0] = '\0';
	memcpy(s->spec.libexec, args->libexec, sizeof(s->spec.libexec));
	snprintf(agent, sizeof(agent), "%s/fsched-agent", args->libexec);
	if (access(agent, X_OK))
		return err_sys(err, errno, "node %s cannot run %s (is fsched installed there?)", s->node, agent);
	pod_name(s, name);
	if (snprintf(s->spec.dir, sizeof(s->spec.dir), "%s/%s", s->conf.pod_dir, name) >= (int)sizeof(s->spec.dir))
		return err_set(err, ENAMETOOLONG, "PodDir in %s is too long", s->conf.path);
	memcpy(s->spec.srun, s->conf.srun, sizeof(s->spec.srun));
	s->spec.private_tmp = job_may_hide_tmp(s) && s->conf.private_tmp;
	return 0;
}

static json_t *task_json(const struct start *s)
{
	const struct {
		const char *key, *path;
	} paths[] = {
		{ "script", s->script },
		{ "cwd", s->cwd },
		{ "stdout", s->out },
		{ "stderr", s->errout },
		{ "pod_dir", s->spec.dir },
		{ "config", s->conf.path },
		{ "hook_before", s->hook_before },
		{ "hook_after", s->hook_after },
	};
	static const char *const tcp[] = {
		[OPTION_TCP_NONE] = "", [OPTION_TCP_REFUSE] = "refuse", [OPTION_TCP_CLOSE] = "close"
	};
	static const char *const limit[] = {
		[OPTION_LIMIT_NONE] = "", [OPTION_LIMIT_HOLD] = "hold", [OPTION_LIMIT_CONTINUE] = "continue"
	};
	static const char *const requeue[] = {
		[OPTION_REQUEUE_NONE] = "", [OPTION_REQUEUE_RESUME] = "resume", [OPTION_REQUEUE_RESTART] = "restart"
	};
	const bool task = s->array_task != NO_VAL;
	json_t *o;

	o = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:o, s:o, s:s, s:I, s:b, s:s, s:I, s:i, s:b, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:s, s:s, s:i, s:b, s:i}",
		"job_id", (json_int_t)s->job_id, "array_job_id", (json_int_t)(task ? s->array_id : 0), "array_task_id",
		(json_int_t)(task ? (json_int_t)s->array_task : -1), "step", (json_int_t)SLURM_BATCH_SCRIPT, "uid",
		(json_int_t)s->spec.cred.uid, "gid", (json_int_t)s->spec.cred.gid, "groups",
		json_gids(s->spec.cred.groups, s->spec.cred.n_groups), "user", json_text(s->user), "restart_count",
		(json_int_t)*s->restarts, "node", json_text(s->node), "cluster", json_text(s->cluster), "uuid",
		s->option.uuid, "interval", (json_int_t)s->option.interval, "truncate", (int)s->option.truncate,
		"at_limit", limit[s->option.at_limit], "total", (json_int_t)s->option.total, "cpus", (int)s->cpus,
		"private_tmp", (int)s->spec.private_tmp, "init_pid", (int)s->pod.init, "leader_pid", (int)s->pod.leader,
		"script_pid", (int)s->script_pid, "ctl_fd", s->pod.ctl, "gate_fd", s->gate, "network_warning",
		json_text(s->network_warning), "tmp_warning", json_text(s->tmp_warning), "tcp", tcp[s->option.tcp],
		"on_requeue", requeue[s->option.on_requeue], "hook_signal", s->hook_signal.number, "hook_script",
		(int)s->hook_signal.script_only, "hook_seconds", (int)s->hook_signal.seconds);
	/* paths may contain any bytes, and the agent opens them, so they are encoded (base/json.h) */
	for (size_t i = 0; o && i < ARRAY_SIZE(paths); i++)
		json_set_name(o, paths[i].key, paths[i].path);
	return o;
}

/* Writes the task file to a memfd. Returns its descriptor or -1. */
static int write_task(const struct start *s, struct err *err)
{
	cleanup_close int fd = memfd_create("fsched-task", MFD_CLOEXEC);
	cleanup_free char *line = NULL;
	json_t *task = task_json(s);

	line = task ? json_dumps(task, JSON_COMPACT) : NULL;
	json_decref(task);
	if (!line)
		return err_set(err, EINVAL, "cannot describe the job to the agent");
	if (fd < 0 || write_all(fd, line, strlen(line)) || lseek(fd, 0, SEEK_SET) != 0)
		return err_sys(err, errno, "cannot write the agent's task file");
	return steal_fd(&fd);
}

/* Gives T's affinity to the processes of the pod: slurmstepd has set it after the pod was forked. Later children of the
 * agent inherit it. */
static void share_affinity(const struct start *s)
{
	const pid_t pids[] = { s->pod.init, s->pod.leader, s->script_pid };
	const size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	cpu_set_t *now = CPU_ALLOC(CPUS_MAX);
	size_t i;

	if (!now || !s->affinity || sched_getaffinity(0, size, now) || CPU_EQUAL_S(size, now, s->affinity)) {
		CPU_FREE(now);
		return;
	}
	for (i = 0; i < ARRAY_SIZE(pids); i++)
		sched_setaffinity(pids[i], size, now);
	CPU_FREE(now);
}

static void keep_fd(int fd)
{
	fcntl(fd, F_SETFD, 0);
}

static void clean_process(const struct start *s, int task_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd, sig;

	for (fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC))
		for (fd = 3; fd < 4096; fd++)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	keep_fd(task_fd);
	keep_fd(s->pod.ctl);
	keep_fd(s->gate);
	for (sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (chdir("/"))
		_exit(1);
}

static void exec_agent(const struct start *s, int task_fd)
{
	static const char *const kept[] = { "SLURM_CONF", "TZ", "FSCHED_DEBUG" };
	cleanup_free char *path = xasprintf("%s/fsched-agent", s->spec.libexec);
	char number[16];
	char *argv[] = { (char[]){ "fsched-agent" }, (char[]){ "--task" }, number, NULL };
	char *envp[ARRAY_SIZE(kept) + 2];
	size_t i, n = 0;

	snprintf(number, sizeof(number), "%d", task_fd);
	envp[n++] = (char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };
	/* the environment of T is that of slurmd, not of the job */
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		if (getenv(kept[i]))
			envp[n++] = xasprintf("%s=%s", kept[i], getenv(kept[i]));
	envp[n] = NULL;
	execve(path, argv, envp);
}

/* Makes P3 fail the job with this text, and removes the pod. */
static _Noreturn void fail_start(const struct start *s, const char *why)
{
	cleanup_free char *answer = xasprintf("fail %s", why);
	struct pollfd p = { .fd = s->gate, .events = 0 };

	send(s->gate, answer, strlen(answer), MSG_NOSIGNAL);
	poll(&p, 1, 5000);
	pod_kill(s->pod.init, 5000, NULL);
	pod_cleanup(s->spec.dir);
	_exit(1);
}

static _Noreturn void become_agent(struct start *s)
{
	struct pollfd p = { .fd = s->gate, .events = POLLIN };
	struct err err;
	sigset_t all;
	int task_fd;

	/* Signals from now on are for the agent, which starts with all signals blocked. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* slurmstepd now moves T to its process group and cgroup. setpgid() of a child fails after an exec, so T waits:
	 * slurmstepd lets P3 continue, which then writes to the gate, only when all this is done. End of file: P3 has
	 * died, and the agent finds out why. */
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	task_fd = write_task(s, &err);
	if (task_fd < 0)
		fail_start(s, err.text);
	share_affinity(s);
	clean_process(s, task_fd);
	exec_agent(s, task_fd);
	err_sys(&err, errno, "cannot run %s/fsched-agent on node %s", s->spec.libexec, s->node);
	fail_start(s, err.text);
}

/* A job whose /tmp is a directory is better than one that does not begin. */
static void make_tmp(struct start *s)
{
	struct err err;

	if (s->spec.private_tmp && s->conf.tmp == CONF_TMP_IMAGE && pod_tmp_make(&s->spec, s->conf.tmp_size, &err))
		snprintf(s->tmp_warning, sizeof(s->tmp_warning), "%.500s", err.text);
}

/* Whether the user has chosen Slurm's own srun for the job: tasks and slurmctld connect to it, and nothing reaches a
 * network of the job's own. This is the only place that knows. */
static bool job_needs_node_network(spank_t sp)
{
	char choice[8];

	return spank_getenv(sp, "FSCHED_SRUN", choice, sizeof(choice)) == ESPANK_SUCCESS && !strcmp(choice, "real");
}

/* A job that begins without a network of its own is better than one that does not begin. */
static void make_network(struct start *s)
{
	struct err err;

	if (s->conf.network == CONF_NETWORK_PRIVATE && !s->node_network &&
	    pod_network_make(&s->spec, s->conf.net_range, &err))
		snprintf(s->network_warning, sizeof(s->network_warning), "%.500s", err.text);
}

static int start_job_pod(struct start *s, struct spank_script *script, struct err *err)
{
	int pair[2], rc;

	if (pod_prepare(&s->spec, err))
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		err_sys(err, errno, "cannot make the socket pair for the script's start");
		pod_cleanup(s->spec.dir);
		return -1;
	}
	make_network(s);
	make_tmp(s);
	rc = pod_start(&s->spec, getpid(), &s->pod, &s->script_pid, err);
	pod_network_close(&s->spec);
	pod_tmp_close(&s->spec);
	if (rc == 1) {
		close(pair[0]);
		*script = (struct spank_script){ pair[1], s->restarts };
		return 1;
	}
	close(pair[1]);
	s->gate = pair[0];
	if (rc == 0)
		return 0;
	close(pair[0]);
	pod_cleanup(s->spec.dir);
	return -1;
}

static void save_affinity(struct start *s)
{
	s->affinity = CPU_ALLOC(CPUS_MAX);
	if (s->affinity && sched_getaffinity(0, CPU_ALLOC_SIZE(CPUS_MAX), s->affinity)) {
		CPU_FREE(s->affinity);
		s->affinity = NULL;
	}
}

static int share_page(struct start *s, struct err *err)
{
	void *page = mmap(NULL, sizeof(*s->restarts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return err_sys(err, errno, "cannot map memory");
	s->restarts = page;
	return 0;
}

int start_checkpointed(spank_t sp, const struct spank_args *args, const struct spank_batch *batch,
		       struct spank_script *script, struct err *err)
{
	cleanup_free struct start *s = xcalloc(1, sizeof(*s));
	int rc;

	get_identity(sp, s, batch);
	if (load_settings(s, args, batch->value, err) || load_hooks(s, batch, err) || check_node_and_job(sp, s, err) ||
	    outer_namespaces_check(batch->user_ns, err) || check_auth(s, err) || check_origin(s, args, err) ||
	    set_paths(s, args, err) || share_page(s, err))
		return -1;
	s->node_network = job_needs_node_network(sp);
	save_affinity(s);
	/* The job's umask must not apply to the pod's directories. P3 restores it for the script. */
	s->umask = umask(022);
	rc = start_job_pod(s, script, err);
	if (rc == 0)
		become_agent(s);
	umask(s->umask);
	CPU_FREE(s->affinity);
	if (rc < 0)
		return err_wrap(err, "node %s", s->node);
	return 0;
}

/* The agent was killed, and the kernel has killed its pod with it. The job's Checkpoint entry must not name that agent
 * any more, unless the job has been moved from this node: then the entry belongs to another agent (fsched-slurm checks
 * the node). Slurm accepts the update only while the job has not ended. A job that has ended, for example one that was
 * cancelled and killed after KillWait because its script ignores SIGTERM, takes no comment, and nothing needs to be
 * said. */
static void publish_killed_agent(const struct start *s, const char *libexec)
{
	const struct slurm_question q = {
		libexec,
		s->node,
		"publish",
		"{\"state\":\"ended\",\"agent\":\"\",\"error\":\"fsched-agent was killed and the job ended with it; its epochs are kept\"}",
		s->job_id,
		5
	};
	json_t *answer = ask_slurm(&q, NULL);

	if (answer)
		slurm_error("fsched: job %u: fsched-agent was killed; the job has ended with it, its epochs are kept",
			    s->job_id);
	json_decref(answer);
}

void cleanup_checkpointed(spank_t sp, const struct spank_args *args, const struct spank_batch *batch)
{
	cleanup_free struct start *s = xcalloc(1, sizeof(*s));
	const struct dirent *e;
	bool killed = false;
	char name[64];

	get_identity(sp, s, batch);
	if (load_settings(s, args, batch->value, NULL))
		return;
	pod_name(s, name);
	cleanup_dir DIR *d = opendir(s->conf.pod_dir);
	while (d && dir_next(d, &e) > 0) {
		const size_t len = strlen(name);

		/* the agent adds a suffix to the names of pods in which it restores */
		if (strncmp(e->d_name, name, len) != 0 || (e->d_name[len] && e->d_name[len] != '.'))
			continue;
		cleanup_free char *path = xasprintf("%s/%s", s->conf.pod_dir, e->d_name);

		pod_cleanup(path);
		killed = true;
	}
	pod_cleanup_rest(s->conf.pod_dir);
	if (killed)
		publish_killed_agent(s, args->libexec);
}
