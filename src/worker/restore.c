/* A restore. The worker verifies the epoch, puts the files of the shared file systems back, and makes and fills an
 * empty pod, whose pid 1 starts criu. From then on pid 1 reports to the agent over the control socket.
 *
 * criu, as root, does whatever an image says. Before anything is changed, the worker therefore checks the epoch's
 * signature and every digest, that the epoch is the job's, and that the credentials in criu's images are the job's. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/dir_tree.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "capture/file_data.h"
#include "pod/alone.h"
#include "pod/mount_table.h"
#include "pod/preflight.h"
#include "pod/pod.h"
#include "pod/pod_network.h"
#include "pod/pod_tmp.h"

#define SCRIPT_MAX   (64 << 20)
#define LEADER_MAX   (64 << 20)
#define KILL_WAIT_MS 30000
#define CLEAN_UP_US  INT64_C(1000000)

struct restore {
	struct worker *w;
	const struct restore_way *way;
	json_t *dirs; /* owned: see files_undo.dirs; NULL: none */
	struct manifest m;
	struct pod_spec spec;
	int epochfd, criufd, filesfd;
	char **argv, **envp;
	bool differs; /* this node differs from the one where the epoch was made in kernel, CPU model, C library or criu
		       */
	struct fill_memory memory;
	struct criu_terminals terminals;
	bool filled_in_vain;
	uint64_t *other_inodes; /* number of such files in /tmp; shared with the process that fills the pod */
};

static int restore_open_dirs(struct restore *r, struct err *err)
{
	r->epochfd = store_open_epoch(&r->w->store, r->w->req.epoch, err);
	if (r->epochfd < 0)
		return -1;
	r->criufd = openat(r->epochfd, "criu", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r->filesfd = openat(r->epochfd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r->criufd < 0 || r->filesfd < 0)
		return err_sys(err, errno, "epoch %u of %s is incomplete", r->w->req.epoch, r->w->store.path);
	return 0;
}

/* A checkpoint makes the same check. It is repeated here for epochs of versions that did not make it yet, and because
 * the rules may have changed since. The pod will have the mounts of this node. */
static int restore_check_files(const struct restore *r, struct err *err)
{
	struct mount_table *mounts = mount_table_read(0, err);
	int rc = mounts ? preflight_images(r->criufd, mounts, err) : -1;

	mount_table_free(mounts);
	return rc ? err_wrap(err, "epoch %u cannot be restored", r->w->req.epoch) : 0;
}

static int check_identity(const struct restore *r, struct err *err)
{
	const struct request *q = &r->w->req;
	const struct manifest *m = &r->m;

	if (m->epoch != q->epoch)
		return err_set(err, EBADMSG, "epoch %u was saved as epoch %u: its directory has been renamed", q->epoch,
			       m->epoch);
	if (strcmp(m->uuid, q->uuid))
		return err_set(err, EPERM, "epoch %u belongs to another job (uuid %s, this job has %s)", q->epoch,
			       m->uuid, q->uuid);
	if (m->uid != q->uid || m->gid != q->gid)
		return err_set(err, EPERM, "epoch %u was saved for uid %u gid %u, the job runs as uid %u gid %u",
			       q->epoch, m->uid, m->gid, q->uid, q->gid);
	if (m->private_tmp != q->private_tmp)
		return err_set(err, EINVAL, "epoch %u was saved %s a private /tmp, this pod is to be %s one", q->epoch,
			       m->private_tmp ? "with" : "without", q->private_tmp ? "with" : "without");
	if (criu_check_creds(r->criufd, q->uid, q->gid, q->groups, q->n_groups, err))
		return -1;
	return restore_check_files(r, err);
}

/* A different machine, page size or missing CPU instructions make a restore impossible. Other differences usually do no
 * harm, so they are warnings: if the restore fails, they are the likely reason. */
static int compare_nodes(struct restore *r, struct err *err)
{
	struct worker *w = r->w;
	struct manifest here = { 0 };
	const struct {
		const char *what, *then, *now;
	} soft[] = {
		{ "kernel", r->m.node.kernel, here.node.kernel },
		{ "CPU", r->m.node.cpu_model, here.node.cpu_model },
		{ "C library", r->m.node.glibc, here.node.glibc },
		{ "criu", r->m.node.criu, here.node.criu },
	};
	char missing[256];

	manifest_fingerprint(&here, w->criu.version);
	if (strcmp(here.node.machine, r->m.node.machine) || here.node.page_size != r->m.node.page_size)
		return err_set(
			err, EINVAL,
			"the epoch was saved on %s, a %s with pages of %ld bytes; this node is a %s with pages of %ld bytes",
			r->m.node.hostname, r->m.node.machine, r->m.node.page_size, here.node.machine,
			here.node.page_size);
	if (manifest_missing_flags(&r->m, &here, missing, sizeof(missing)))
		return err_set(err, EINVAL,
			       "this node's processor (%s) lacks what that of %s, where the epoch was saved, has: %s",
			       here.node.cpu_model, r->m.node.hostname, missing);
	for (size_t i = 0; i < ARRAY_SIZE(soft); i++) {
		if (!strcmp(soft[i].then, soft[i].now))
			continue;
		r->differs = true;
		worker_warn(w, "the %s differs from that of the checkpoint's node %s: %s there, %s here", soft[i].what,
			    r->m.node.hostname, soft[i].then, soft[i].now);
	}
	return 0;
}

/* ---- in the new pod's mount namespace, as root ---- */

/* Compares the file at path: 1 the same bytes, 0 something else, -1 there is nothing. */
static int same_content(const char *path, const char *want, size_t len)
{
	cleanup_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_free char *have = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -1 : 0;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (size_t)st.st_size != len)
		return 0;
	n = read_all(fd, len + 1, &have);
	return n >= 0 && (size_t)n == len && !memcmp(have, want, len);
}

/* Opens the directory of the script, which slurmd has made for root. If the job's user could write it, he could make
 * the path lead elsewhere before root follows it. */
static int open_script_dir(const char *dir, const char *path, struct err *err)
{
	cleanup_close int fd = open(dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return err_sys(err, errno, "cannot open the batch script's directory %s", dir);
	if (st.st_uid != 0 || st.st_mode & 022)
		return err_set(err, EPERM,
			       "the batch script %s is missing or was changed; put it back as it was and restart the job",
			       path);
	return steal_fd(&fd);
}

static int create_script(const struct restore *r, const char *path, const char *text, size_t len, struct err *err)
{
	const struct request *q = &r->w->req;
	cleanup_free char *dir = xstrdup(path);
	cleanup_close int dirfd = -1, fd = -1;
	char *name = strrchr(dir, '/');
	struct stat st;
	bool made;

	*name++ = '\0';
	made = stat(dir, &st) != 0;
	if (mkdir_parents(dir[0] ? dir : "/", 0750))
		return err_sys(err, errno, "cannot make the batch script's directory %s", dir);
	dirfd = open_script_dir(dir, path, err);
	if (dirfd < 0)
		return -1;
	if (made && (fchown(dirfd, 0, q->gid) || fchmod(dirfd, 0750)))
		return err_sys(err, errno, "cannot give %s to the job's group", dir);
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
	if (fd < 0 || write_all(fd, text, len) || fchown(fd, q->uid, q->gid))
		return err_sys(err, errno, "cannot recreate the batch script %s", path);
	return 0;
}

/* A file that differs is left as it is: in the pod alone the saved script is mounted over it. */
static int mount_script(const struct restore *r, const char *path, const char *text, size_t len, struct err *err)
{
	const struct request *q = &r->w->req;
	cleanup_free char *copy = xasprintf("%s/script", r->spec.dir);
	cleanup_free char *dir = xstrdup(path);
	cleanup_close int fd = -1, dirfd = -1, target = -1;
	char *name = strrchr(dir, '/'), over[40];
	struct stat st;

	*name++ = '\0';
	dirfd = open_script_dir(dir, path, err);
	if (dirfd < 0)
		return -1;
	target = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 || fstat(target, &st) || !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "the batch script %s is no regular file any more; remove what stands there",
			       path);
	unlink(copy);
	fd = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
	if (fd < 0 || write_all(fd, text, len) || fchown(fd, q->uid, q->gid))
		return err_sys(err, errno, "cannot write %s", copy);
	snprintf(over, sizeof(over), "/proc/self/fd/%d", target);
	if (mount(copy, over, NULL, MS_BIND, NULL))
		return err_sys(err, errno, "cannot mount the saved batch script over %s", path);
	return 0;
}

/* bash keeps its script open and reads on from it. slurmd deletes its copy with the job, and puts another one there at
 * a requeue. */
static int restore_provide_script(const struct restore *r, struct err *err)
{
	const char *path = r->m.script;
	cleanup_free char *text = NULL;
	ssize_t n;

	if (!path[0])
		return 0;
	if (path[0] != '/')
		return err_set(err, EBADMSG, "the epoch's path of the batch script is not absolute");
	n = read_file_at(r->w->store.dirfd, "script", SCRIPT_MAX, &text);
	if (n < 0)
		return err_sys(err, errno, "cannot read the saved batch script %s/script", r->w->store.path);
	switch (same_content(path, text, (size_t)n)) {
	case 1: return 0;
	case 0: return mount_script(r, path, text, (size_t)n, err);
	default: return create_script(r, path, text, (size_t)n, err);
	}
}

/* The dumped leader maps its program file: after an upgrade of fsched it needs the old one. */
static int restore_provide_leader(const struct restore *r, struct err *err)
{
	cleanup_free char *installed = xasprintf("%s/fsched-leader", r->spec.libexec);
	cleanup_free char *saved = xasprintf("%s/leader", r->w->store.path);
	cleanup_free char *text = NULL;
	ssize_t n = read_file_at(r->w->store.dirfd, "leader", LEADER_MAX, &text);

	if (n < 0 && errno == ENOENT)
		return 0;
	if (n < 0)
		return err_sys(err, errno, "cannot read %s", saved);
	if (same_content(installed, text, (size_t)n) == 1)
		return 0;
	if (mount(saved, installed, NULL, MS_BIND, NULL))
		return err_sys(err, errno, "cannot mount %s over %s", saved, installed);
	return 0;
}

static int check_reachable(const struct restore *r, struct err *err)
{
	for (int i = 0; r->w->criu.argv[i]; i++)
		if (r->w->criu.argv[i][0] == '/' && access(r->w->criu.argv[i], R_OK))
			return err_sys(err, errno,
				       "%s cannot be reached inside the job's pod; it must not lie below /tmp",
				       r->w->criu.argv[i]);
	return 0;
}

/* Fills large files, which are holes in the archive. */
static int fill_shm(const struct restore *r, int root, struct err *err)
{
	cleanup_close int fd = -1;

	if (!r->memory.image || !mem_file_data_any(r->memory.image))
		return 0;
	fd = openat(root, "dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open /dev/shm of the pod");
	return mem_file_data_fill(r->memory.image, fd, (int)r->w->conf.threads, err);
}

static int fill_private(const struct restore *r, int root, struct err *err)
{
	struct files_inodes inodes = { .goal = r->spec.tmp_image ? pod_tmp_open_goal(&r->spec.tmp) : -1 };
	int rc;

	rc = files_unpack_private(root, r->filesfd, r->m.private_tmp, r->spec.tmp_image ? &inodes : NULL, err);
	*r->other_inodes = inodes.other;
	if (inodes.goal >= 0) {
		/* Files that the job makes get any free number. */
		if (pwrite(inodes.goal, "0", 1, 0) != 1 && rc == 0)
			rc = err_sys(err, errno, "cannot set inode_goal of loop device %u", r->spec.tmp.device);
		close(inodes.goal);
	}
	return rc;
}

static int fill_pod(void *arg, struct err *err)
{
	struct restore *r = arg;
	cleanup_close int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	umask(077);
	if (root < 0)
		return err_sys(err, errno, "cannot open / of the pod");
	if (check_reachable(r, err))
		return -1;
	if (fill_private(r, root, err))
		return err_wrap(err, "the job's private /tmp and /dev/shm cannot be filled");
	if (fill_shm(r, root, err))
		return -1;
	if (restore_provide_script(r, err) || restore_provide_leader(r, err))
		return -1;
	return restore_terminals_make(&r->terminals, &r->spec.cred, err);
}

/* ---- worker ---- */

static int verify_epoch(struct restore *r, struct err *err)
{
	struct worker *w = r->w;

	event_phase("verify");
	if (restore_open_dirs(r, err) || manifest_verify(r->epochfd, &r->m, w->req.sign, w->conf.munge_socket, err))
		return -1;
	if (r->way->verified)
		w->req.private_tmp = r->spec.private_tmp = r->m.private_tmp;
	if (check_identity(r, err))
		return -1;
	w->node_fault = true;
	if (criu_locate(w->conf.criu, w->libexec, &w->criu, err) || compare_nodes(r, err) ||
	    thread_attributes_check(w, r->m.threads, err) ||
	    criu_act_for(&w->criu, w->req.uid, w->req.gid, w->req.groups, w->req.n_groups, err))
		return -1;
	w->node_fault = false;
	return files_scratch_parse(&w->scratch, r->m.scratch, err);
}

/* The pod has a network of its own if the epoch's had one, whatever the configuration says of new jobs: the sockets of
 * the job belong to it. */
static int restore_make_network(struct restore *r, struct err *err)
{
	r->spec.private_net = false;
	memcpy(r->spec.net.hostname, r->m.network.hostname, sizeof(r->spec.net.hostname));
	memcpy(r->spec.net.address, r->m.network.address, sizeof(r->spec.net.address));
	if (r->way->alone)
		return alone_network_make(&r->spec, err);
	if (!r->m.network.own)
		return 0;
	return pod_network_make(&r->spec, r->w->conf.net_range, err)
		       ? err_wrap(err, "this node cannot give the job a network of its own")
		       : 0;
}

/* A restore in a directory is better than none. Only the size of the image must be the same: it decides which inode
 * numbers there are. */
static void restore_make_tmp(struct restore *r)
{
	struct worker *w = r->w;
	struct err err;

	r->spec.tmp_image = false;
	r->spec.tmp = (struct pod_tmp){ r->m.tmp.size, r->m.tmp.device };
	if (!r->spec.private_tmp || !r->m.tmp.size || w->conf.tmp == CONF_TMP_DIRECTORY)
		return;
	if (pod_tmp_make(&r->spec, 0, &err))
		worker_warn(w,
			    "the job's /tmp is now a directory of this node and no image (PodTmp = image), so its files have other "
			    "inode numbers than before: %.500s",
			    err.text);
}

static void restore_warn_of_inodes(const struct restore *r)
{
	if (*r->other_inodes)
		worker_warn(r->w, "%llu files in /tmp have other inode numbers than before",
			    (unsigned long long)*r->other_inodes);
}

/* Makes criu's command line and environment. */
static int restore_make_command(struct restore *r, struct err *err)
{
	struct worker *w = r->w;
	const bool library = w->criu.preload[0] != '\0';
	char *sockets = NULL;

	if (moved_sockets_env(r->m.sockets, &sockets, err) ||
	    (library && restore_terminals_read(r->criufd, &r->terminals, err))) {
		free(sockets);
		return -1;
	}
	r->argv = criu_restore_argv(
		&w->criu, r->memory.stops || (library && (json_array_size(r->m.sockets) || criu_has_tcp(r->criufd))),
		r->way->leave_stopped);
	r->envp = criu_envp(&w->criu, false, false, r->memory.stops ? CRIU_REMOTE_CALL_FD : -1, -1);
	criu_envp_add(&r->envp, sockets);
	criu_envp_add(&r->envp, thread_attributes_env(w, r->m.threads));
	criu_envp_add(&r->envp, restore_terminals_env(&r->terminals));
	criu_envp_add(&r->envp, r->way->alone ? xstrdup("FSCHED_ALONE=1") : NULL);
	return 0;
}

static int restore_start_pod(struct restore *r, struct pod *pod, struct err *err)
{
	struct worker *w = r->w;
	struct pod_restore pr = {
		.images_fd = r->memory.on ? r->memory.dirfd : r->criufd,
		.work_fd = r->way->work_fd,
		.remote_call = r->memory.tracer[1],
		.ctl = w->req.ctl_fd,
		.last_pid = criu_last_pid(r->criufd, r->m.max_pid, err),
		.pre = fill_pod,
		.arg = r,
	};
	int rc = -1;

	if (pr.last_pid < 0 || pod_prepare(&r->spec, err) || restore_make_command(r, err))
		return -1;
	/* Removes the log of an earlier failure, which must not explain the next one. */
	unlinkat(r->way->work_fd, "restore.log", 0);
	pr.n_terminal_fds = 2 * (int)r->terminals.n;
	pr.argv = r->argv;
	pr.envp = r->envp;
	if (restore_make_network(r, err) == 0) {
		restore_make_tmp(r);
		rc = pod_restore(&r->spec, &pr, pod, err);
	}
	pod_network_close(&r->spec);
	pod_tmp_close(&r->spec);
	if (!rc)
		restore_warn_of_inodes(r);
	criu_argv_free(r->argv);
	criu_argv_free(r->envp);
	criu_terminals_free(&r->terminals);
	return rc;
}

static void restore_fill_spec(struct restore *r)
{
	const struct request *q = &r->w->req;

	snprintf(r->spec.dir, sizeof(r->spec.dir), "%s", q->pod_dir);
	snprintf(r->spec.libexec, sizeof(r->spec.libexec), "%s", r->w->libexec);
	memcpy(r->spec.srun, r->w->conf.srun, sizeof(r->spec.srun));
	r->spec.private_tmp = q->private_tmp;
	r->spec.cred = (struct pod_cred){ q->uid, q->gid, q->groups, q->n_groups };
	r->spec.alone = r->way->alone;
}

static struct files_undo restore_undo(const struct restore *r, const struct files_cred *cred)
{
	const struct worker *w = r->w;

	return (struct files_undo){
		.epoch = w->req.epoch,
		.frozen_at = r->m.written_at,
		.names_from = r->m.names_from,
		.records = r->m.files,
		.private_tmp = w->req.private_tmp,
		.scratch = &w->scratch,
		.cred = cred,
		.dirs = r->dirs,
	};
}

/* For a proof: what has to be known of the files before the process sees them through overlays. */
static int restore_say_verified(struct restore *r, struct err *err)
{
	const struct files_cred cred = worker_cred(r->w);
	const struct files_undo u = restore_undo(r, &cred);

	if (!r->way->verified)
		return 0;
	r->dirs = files_undo_locate(r->w->store.dirfd, r->filesfd, &u, err);
	return r->dirs ? r->way->verified(r->way->arg, &r->m, r->filesfd, err) : -1;
}

/* Names come first: the files of the epoch are found by the names that they had then. *refused becomes false when a
 * failure can have left files of the job changed. */
static int restore_put_files_back(struct restore *r, bool *refused, struct err *err)
{
	struct worker *w = r->w;
	const struct files_cred cred = worker_cred(w);
	const struct files_undo u = restore_undo(r, &cred);

	if (files_undo_names(w->store.dirfd, r->filesfd, &u, w->warnings, err))
		return err_wrap(err, "what the job did to names after the epoch cannot be undone");
	if (files_check(r->m.files, r->filesfd, &cred, err))
		return -1;
	*refused = false;
	event_phase("files");
	if (files_put_back(r->m.files, r->filesfd, &cred, w->warnings, err))
		return err_wrap(err, "the job's files cannot be put back");
	if (r->m.written_at && files_undo_written(w->store.dirfd, &u, w->warnings, err))
		return err_wrap(err, "files that the job wrote after the epoch cannot be removed");
	if (files_link_names(w->store.dirfd, r->filesfd, &u, w->warnings, err))
		return err_wrap(err, "the names of the job's files cannot be linked again");
	return 0;
}

/* A proof is in a mount namespace that a process which removes the directory must not keep. */
static void restore_clean_up(const struct restore *r)
{
	const int64_t end = now_us() + CLEAN_UP_US;

	if (!r->way->alone) {
		pod_cleanup(r->spec.dir);
		return;
	}
	while (!pod_tmp_remove(AT_FDCWD, r->spec.dir) && now_us() < end)
		usleep(10000);
}

/* Makes a pod with all its memory. On failure there is no pod. */
static int fill_and_start(struct restore *r, bool fill, struct pod *pod, struct err *err)
{
	struct worker *w = r->w;
	int rc = fill_memory_begin(&r->memory, w, r->epochfd, r->criufd, &r->m, fill, err);

	if (!rc) {
		w->node_fault = true;
		rc = restore_start_pod(r, pod, err);
	}
	if (!rc) {
		/* if the nodes differ, another node that is like that of the epoch may succeed */
		w->node_fault = r->differs;
		event_send("pod", json_pack("{s:i}", "init_pid", (int)pod->init));
	}
	if (!rc && fill_memory_finish(&r->memory, w, pod->init, &r->m, err)) {
		/* So far pid 1 has told the agent only that it is up. */
		pod_kill(pod->init, KILL_WAIT_MS, NULL);
		waitpid(pod->init, NULL, 0);
		event_send("pod", json_pack("{s:i}", "init_pid", 0));
		restore_clean_up(r);
		r->filled_in_vain = r->memory.fill;
		rc = -1;
	}
	fill_memory_end(&r->memory, w);
	return rc;
}

static int restore_scratch(const struct restore *r, struct err *err)
{
	struct worker *w = r->w;
	const struct files_cred cred = worker_cred(w);

	return files_scratch_put_back(&w->scratch, w->conf.scratch, r->filesfd, &cred, w->warnings, err);
}

static void restore_warn_of_closed(const struct restore *r)
{
	char text[512];

	if (json_array_size(r->m.closed))
		worker_warn(r->w, "TCP connections out of the job are closed now: %s",
			    manifest_closed_text(&r->m, text, sizeof(text)));
}

static int restore_epoch(struct restore *r, struct pod *pod, bool *refused, struct err *err)
{
	struct worker *w = r->w;
	struct err first = { 0 };

	restore_fill_spec(r);
	if (verify_epoch(r, err) || restore_say_verified(r, err) || restore_put_files_back(r, refused, err))
		return -1;
	w->node_fault = true;
	if (restore_scratch(r, err))
		return -1;
	w->node_fault = false;
	fault_die(w, FAULT_DIE_BEFORE_POD);
	event_phase("restore");
	if (fill_and_start(r, true, pod, &first)) {
		if (!r->filled_in_vain) {
			if (err)
				*err = first;
			return -1;
		}
		worker_warn(w, "the memory is restored by criu itself, which takes longer: %.500s", first.text);
		if (fill_and_start(r, false, pod, err))
			return -1;
	}
	restore_warn_of_closed(r);
	return 0;
}

int restore_run(struct worker *w, const struct restore_way *way, struct restored *done, bool *refused, struct err *err)
{
	struct restore r = { .w = w, .way = way, .epochfd = -1, .criufd = -1, .filesfd = -1 };
	int rc;

	*refused = true;
	r.other_inodes = mmap(NULL, sizeof(*r.other_inodes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r.other_inodes == MAP_FAILED)
		return err_sys(err, errno, "cannot map memory");
	rc = restore_epoch(&r, &done->pod, refused, err);
	munmap(r.other_inodes, sizeof(*r.other_inodes));
	done->differs = r.differs;
	done->files = json_array_size(r.m.files);
	manifest_free(&r.m);
	json_decref(r.dirs);
	cleanup_closep(&r.epochfd);
	cleanup_closep(&r.criufd);
	cleanup_closep(&r.filesfd);
	return rc;
}

int worker_restore(struct worker *w, bool *refused, struct err *err)
{
	const struct restore_way way = { .work_fd = w->store.dirfd };
	struct restored done;

	if (restore_run(w, &way, &done, refused, err)) {
		/* The damage may be in files that later epochs share with this one. */
		if (!w->node_fault)
			store_want_full(&w->store);
		return -1;
	}
	event_send("result", json_pack("{s:b, s:b, s:i, s:i, s:I, s:I, s:O}", "ok", 1, "differs", done.differs ? 1 : 0,
				       "init_pid", (int)done.pod.init, "epoch", (int)w->req.epoch, "total_us",
				       (json_int_t)(now_us() - w->began), "files", (json_int_t)done.files, "warnings",
				       w->warnings));
	return 0;
}
