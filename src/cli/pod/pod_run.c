/* fsched pod run and restore. Both start a pod and then stay as its supervisor. */
#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/worker_call.h"
#include "base/io.h"
#include "base/user.h"
#include "base/util.h"
#include "base/uuid_text.h"
#include "pod/pod_network.h"
#include "pod/pod_tmp.h"
#include "store/manifest.h"

enum { LEADER_MAX = 64 << 20 };

struct run {
	const struct pod_opts *o;
	struct pod_home home;
	struct pod_spec spec;
	struct pod_stdio stdio;
	struct job_record *rec;
	struct pod pod;
	pid_t script;
};

static void run_free(struct run *r)
{
	pod_home_close(&r->home);
	free(r->spec.cred.groups);
	json_decref(r->stdio.outside);
	free(r->rec);
}

/* ---- the process that becomes the command */

static int become_command_user(const struct run *r, struct err *err)
{
	const struct pod_cred *c = &r->spec.cred;
	const struct passwd *pw = r->o->user ? getpwnam(r->o->user) : NULL;

	if (pw) {
		setenv("HOME", pw->pw_dir, 1);
		setenv("SHELL", pw->pw_shell, 1);
		setenv("USER", pw->pw_name, 1);
		setenv("LOGNAME", pw->pw_name, 1);
	}
	if (user_set_ids(c->uid, c->gid, c->groups, c->n_groups))
		return err_sys(err, errno, "cannot become user %s", r->o->user ? r->o->user : "root");
	return 0;
}

__attribute__((noreturn)) static void run_command(const struct run *r, char **argv)
{
	struct err err;

	if (pod_stdio_apply(&r->stdio, &err) || become_command_user(r, &err)) {
		cli_error("pod run", "%s", err.text);
		_exit(POD_EXIT_FAILED);
	}
	close_range(3, ~0U, 0); /* descriptors that a shell has left open are not for the command, and could not be
				   saved */
	execvp(argv[0], argv);
	err_sys(&err, errno, "cannot run %s", argv[0]);
	cli_error("pod run", "%s", err.text);
	_exit(err.num == ENOENT ? POD_EXIT_ABSENT : POD_EXIT_NO_EXEC);
}

/* ---- run */

/* Whether the pod can have a private /tmp, which every epoch contains. It must not hide what the command or criu needs.
 */
static bool pod_may_hide_tmp(const struct run *r, const char *command)
{
	const char *paths[] = { r->home.store.path, r->spec.libexec, NULL, NULL, NULL, NULL, NULL, NULL, NULL };
	char cwd[PATH_MAX];
	int i, n = 2;

	if (getcwd(cwd, sizeof(cwd)))
		paths[n++] = cwd;
	if (command[0] == '/')
		paths[n++] = command;
	if (r->o->conf.criu[0])
		paths[n++] = r->o->conf.criu;
	for (i = 0; i < 3; i++)
		if (r->stdio.fd[i].path[0])
			paths[n++] = r->stdio.fd[i].path;
	return !pod_tmp_conflict(paths);
}

/* Keeps a copy of fsched-leader. It is part of the dumped tree, and an upgrade of fsched may replace the installed file
 * before a restore.
 */
static int save_leader(const struct run *r, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-leader", r->o->libexec);
	cleanup_free char *text = NULL;
	ssize_t len = read_file_at(AT_FDCWD, path, LEADER_MAX, &text);

	if (len < 0)
		return err_sys(err, errno, "cannot read %s (is fsched installed completely?)", path);
	if (write_file_atomic(r->home.store.dirfd, "leader", 0755, 0, text, (size_t)len))
		return err_sys(err, errno, "cannot write %s/leader", r->home.store.path);
	return 0;
}

static int pod_new_record(struct run *r, struct err *err)
{
	unsigned epoch;
	int n = store_list_epochs(&r->home.store, &epoch, 1);

	if (n < 0)
		return err_sys(err, errno, "cannot list the epochs in %s", r->home.store.path);
	if (n > 0)
		return err_set(
			err, EEXIST,
			"%s holds the epochs of an earlier run: continue that with `fsched pod restore %s`, or take another directory",
			r->home.store.path, r->home.store.path);
	memset(r->rec, 0, sizeof(*r->rec));
	uuid_text_new(r->rec->uuid);
	snprintf(r->rec->user, sizeof(r->rec->user), "%s", r->o->user ? r->o->user : "root");
	gethostname(r->rec->host, sizeof(r->rec->host) - 1);
	r->rec->uid = r->spec.cred.uid;
	r->rec->gid = r->spec.cred.gid;
	r->rec->interval = r->o->interval;
	r->rec->intent = INTENT_RUNNING;
	r->rec->run = 1;
	return save_leader(r, err) || store_save_record(&r->home.store, r->rec, err) ? -1 : 0;
}

static int save_state(struct run *r, struct err *err)
{
	struct pod_state s = {
		.init = r->pod.init,
		.private_tmp = r->spec.private_tmp,
		.outside = r->stdio.outside,
		.supervisor = getpid(),
	};

	if (mailbox_make(&s.mailbox)) /* the mailbox exists as long as this process */
		errno = 0;
	snprintf(s.user, sizeof(s.user), "%s", r->rec->user);
	return pod_state_save(&r->home, &s, err);
}

static int prepare_run(struct run *r, const char *command, struct err *err)
{
	if (pod_user_cred(r->o->user, &r->spec.cred, err) || pod_home_open(&r->home, r->o->dir, true, &r->rec, err))
		return -1;
	if (pod_home_supervise(&r->home, err) || pod_new_record(r, err))
		return -1;
	store_remove_partials(&r->home.store);
	pod_home_dir(&r->home, r->spec.dir, sizeof(r->spec.dir));
	snprintf(r->spec.libexec, sizeof(r->spec.libexec), "%s", r->o->libexec);
	memcpy(r->spec.srun, r->o->conf.srun, sizeof(r->spec.srun));
	pod_stdio_plan(&r->stdio, &r->spec.cred);
	r->spec.private_tmp = r->o->conf.private_tmp && pod_may_hide_tmp(r, command);
	if (r->o->conf.private_tmp && !r->spec.private_tmp)
		cli_error("pod run",
			  "something that the command needs lies below /tmp: it gets no /tmp of its own, and only files that are open are saved");
	return pod_prepare(&r->spec, err);
}

static void run_make_network(struct run *r)
{
	struct err err;

	if (r->o->conf.network == CONF_NETWORK_PRIVATE && pod_network_make(&r->spec, r->o->conf.net_range, &err))
		cli_error("pod run",
			  "warning: the command uses the network of this machine and not one of its own (PodNetwork = private): %s",
			  err.text);
}

static void run_make_tmp(struct run *r)
{
	const struct conf *c = &r->o->conf;
	struct err err;

	if (r->spec.private_tmp && c->tmp == CONF_TMP_IMAGE && pod_tmp_make(&r->spec, c->tmp_size, &err))
		cli_error("pod run",
			  "warning: /tmp of the command is a directory and no image (PodTmp = image), so its files have other "
			  "inode numbers after a restore: %s",
			  err.text);
}

int pod_cmd_run(const struct pod_opts *o, char **argv)
{
	struct run r = { .o = o, .home = { .store = { .dirfd = -1, .epochsfd = -1 }, .supervisor_lock = -1 } };
	struct err err;
	int rc = POD_EXIT_FAILED, got;

	if (prepare_run(&r, argv[0], &err))
		goto fail;
	run_make_network(&r);
	run_make_tmp(&r);
	got = pod_start(&r.spec, 0, &r.pod, &r.script, &err);
	pod_network_close(&r.spec);
	pod_tmp_close(&r.spec);
	if (got == 1)
		run_command(&r, argv);
	if (got == 0 && !save_state(&r, &err)) {
		rc = pod_supervise(o, &r.home, &r.pod, 0);
		goto out;
	}
	if (got == 0) {
		pod_kill(r.pod.init, 10000, NULL);
		close(r.pod.ctl);
	}
	pod_cleanup(r.spec.dir);
fail:
	cli_error("pod run", "%s", err.text);
out:
	run_free(&r);
	return rc;
}

/* ---- restore */

static int choose_epoch(const struct run *r, unsigned *epoch, struct err *err)
{
	cleanup_free unsigned *list = xcalloc(STORE_KEPT_MAX, sizeof(*list));
	int n = store_list_epochs(&r->home.store, list, STORE_KEPT_MAX), i;

	*epoch = r->o->epoch;
	if (n < 0)
		return err_sys(err, errno, "cannot list the epochs in %s", r->home.store.path);
	if (n == 0)
		return err_set(err, ENOENT, "%s holds no complete epoch, there is nothing to restore",
			       r->home.store.path);
	if (!*epoch)
		*epoch = list[n - 1];
	for (i = 0; i < n; i++)
		if (list[i] == *epoch)
			return 0;
	return err_set(err, ENOENT, "%s has no epoch %u; `fsched pod list %s` shows those that it has",
		       r->home.store.path, *epoch, r->home.store.path);
}

/* The pod gets a private /tmp if that of the epoch had one. */
static int read_manifest(struct run *r, unsigned epoch, struct err *err)
{
	cleanup_close int fd = store_open_epoch(&r->home.store, epoch, err);
	struct manifest *m;
	int rc;

	if (fd < 0)
		return -1;
	m = xcalloc(1, sizeof(*m));
	rc = manifest_load(fd, m, err);
	if (!rc) {
		r->spec.private_tmp = m->private_tmp;
		manifest_free(m);
	}
	free(m);
	return rc;
}

static int prepare_restore(struct run *r, unsigned *epoch, struct err *err)
{
	if (pod_home_open(&r->home, r->o->dir, false, &r->rec, err))
		return -1;
	if (pod_home_supervise(&r->home, err) || pod_user_cred(r->rec->user, &r->spec.cred, err))
		return -1;
	if (r->spec.cred.uid != r->rec->uid || r->spec.cred.gid != r->rec->gid)
		return err_set(err, EPERM, "user %s has another uid or group than when %s was made", r->rec->user,
			       r->home.store.path);
	pod_home_dir(&r->home, r->spec.dir, sizeof(r->spec.dir));
	r->stdio.outside = json_array();
	pod_state_remove(&r->home);
	store_remove_partials(&r->home.store);
	pod_cleanup(r->spec.dir);
	if (choose_epoch(r, epoch, err) || read_manifest(r, *epoch, err))
		return -1;
	return pod_set_intent(&r->home, INTENT_RUNNING, err);
}

/* Lets the worker make the pod. The pod's pid 1 becomes a child of this process, a sub-reaper, when the worker exits.
 */
static int start_restore(struct run *r, unsigned epoch, struct err *err)
{
	json_t *req = pod_request(r->o, &r->home, r->rec, &r->spec.cred, r->spec.private_tmp, epoch), *result;
	int ctl[2];

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl)) {
		json_decref(req);
		return err_sys(err, errno, "cannot make the pod's control socket");
	}
	json_object_set_new(req, "ctl_fd", json_integer(ctl[1]));
	result = pod_worker(r->o, "restore", req, ctl[1], NULL, NULL, err);
	close(ctl[1]);
	worker_call_print_warnings("pod restore", result);
	r->pod = (struct pod){ .init = (pid_t)json_integer_value(json_object_get(result, "init_pid")),
			       .leader = -1,
			       .ctl = ctl[0] };
	json_decref(result);
	if (r->pod.init > 0)
		return 0;
	close(ctl[0]);
	return result ? err_set(err, 0, "fsched-worker did not say which process it restored") : -1;
}

int pod_cmd_restore(const struct pod_opts *o)
{
	struct run r = { .o = o, .home = { .store = { .dirfd = -1, .epochsfd = -1 }, .supervisor_lock = -1 } };
	struct err err;
	unsigned epoch = 0;
	int rc = POD_EXIT_FAILED;

	if (!prepare_restore(&r, &epoch, &err) && !start_restore(&r, epoch, &err)) {
		if (save_state(&r, &err))
			cli_error("pod restore", "%s: the pod runs, but cannot be saved", err.text);
		rc = pod_supervise(o, &r.home, &r.pod, epoch);
	} else {
		cli_error("pod restore", "%s", err.text);
	}
	run_free(&r);
	return rc;
}
