/* The property test of names: names_random DIR FIRST COUNT
 *
 * For each seed, a random job makes, writes, renames, links and deletes in a tree below DIR, is stopped at a random
 * moment after an epoch, and its tree is put back. It must be as it was at the epoch, and after the job has gone on
 * from there it must be as after a run that nothing has interrupted. The job is a process of a PID and a mount
 * namespace, as in a pod; the code that watches, records and undoes is that of the agent, of fsched-init and of the
 * worker. What is left out is criu: the state of the job is the number of its next step. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/name_list.h"
#include "agent/write_list.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"
#include "files/files.h"
#include "pod/names_relay.h"

#define USER     65534
#define STEPS    120

#define BY_TURNS 1000000 /* from this seed on: link_by_turns() */

/* ---- the job ---------------------------------------------------------------- */

static uint64_t dice;
static unsigned failures; /* which steps fail is part of the randomness */

static unsigned roll(unsigned n)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return (unsigned)((dice >> 20) % n);
}

static const char *a_dir(char *buf)
{
	static const char *const dirs[] = { ".", "p", "q", "p/r", "q/r", "p/r/s" };

	return strcpy(buf, dirs[roll(6)]);
}

static const char *a_name(char *buf)
{
	char dir[32];

	sprintf(buf, "%s/%c", a_dir(dir), "abcdefpqrs"[roll(10)]);
	return buf;
}

static void write_some(const char *name, int flags)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | flags, 0644);
	char text[64];
	struct stat st;
	int n = sprintf(text, "%llx\n", (unsigned long long)dice);

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && write(fd, text, (size_t)n) != n)
		abort();
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path), 0;
}

/* What the job has not written does not come back once it is deleted. */
static int remove_file(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)type;
	(void)f;
	return S_ISREG(st->st_mode) ? remove(path) : 0;
}

static void replace_link(const char *name)
{
	char target[16];
	struct stat st;

	sprintf(target, "result.%u", roll(100));
	if (symlink(target, "tmp-link") == 0 && (lstat(name, &st) || !S_ISDIR(st.st_mode)) && rename("tmp-link", name))
		unlink("tmp-link");
	unlink("tmp-link");
}

static void replace_file(const char *name)
{
	write_some("tmp-file", O_TRUNC);
	if (rename("tmp-file", name))
		unlink("tmp-file");
}

/* The kernel merges the events of the first file, so they come before those of the second one. */
static void link_by_turns(int i)
{
	char first[16], second[16];

	unlink("a");
	if (i % 2)
		return;
	sprintf(first, "x%d", i);
	sprintf(second, "y%d", i);
	write_some(first, O_TRUNC);
	write_some(second, O_TRUNC);
	for (int k = 0; k < 3; k++) {
		unlink("a");
		failures += link(k % 2 ? second : first, "a") < 0;
	}
}

static void step(uint64_t seed, int i)
{
	char a[64], b[64];

	dice = (seed * 1000003 + (uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	roll(2);
	if (seed >= BY_TURNS) {
		link_by_turns(i);
		return;
	}
	switch (roll(16)) {
	case 0:
	case 1:
	case 2: mkdir(a_name(a), 0755); break;
	case 3: rmdir(a_name(a)); break;
	case 4:
	case 5: write_some(a_name(a), O_TRUNC); break;
	case 6: write_some(a_name(a), O_APPEND); break;
	case 7: failures += symlink(a_name(b), a_name(a)) < 0; break;
	case 8: replace_link(a_name(a)); break;
	case 9:
		a_name(a);
		if (link(a, a_name(b)) == 0 && roll(3) == 0)
			unlink(a);
		break;
	case 10:
	case 11:
		a_name(a);
		if (rename(a, a_name(b)) == 0 && roll(3) == 0)
			rename(b, a_name(a));
		break;
	case 12:
		a_name(a);
		renameat2(AT_FDCWD, a, AT_FDCWD, a_name(b), RENAME_EXCHANGE);
		break;
	case 13: unlink(a_name(a)); break;
	case 14: roll(4) ? replace_file(a_name(a)) : (void)mkfifo(a_name(a), 0600); break;
	default:
		if (roll(3) == 0)
			nftw(a_name(a), remove_one, 16, FTW_DEPTH | FTW_PHYS);
	}
}

/* ---- the pod ----------------------------------------------------------------- */

struct order {
	char tree[256];
	uint64_t seed;
	int from, to;
	int stop_us; /* kill after that time; 0 = let it end */
	bool touch;  /* no steps: see touch_above() */
};

/* What was in a directory before the job comes back if the job has changed a name there before the epoch. */
static int touch_above(const char *path, const struct stat *st, int type, struct FTW *f)
{
	char name[256];

	(void)st;
	(void)type;
	snprintf(name, sizeof(name), "%.*stouched", f->base, path);
	return f->level && mkdir(name, 0755) == 0 ? rmdir(name) : 0;
}

static void pod_run(const struct order *o)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (chdir(o->tree) || setgid(USER) || setuid(USER))
			_exit(2);
		umask(022);
		if (o->touch)
			nftw(".", touch_above, 16, FTW_PHYS);
		for (int i = o->from; i < o->to; i++)
			step(o->seed, i);
		_exit(0);
	}
	if (o->stop_us) {
		usleep((useconds_t)o->stop_us);
		kill(pid, SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

static void pod_take_descriptors(struct names_relay *r, int ctl)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	char buf[16];
	struct iovec v = { buf, sizeof(buf) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control)
	};
	int fds[2];

	if (recvmsg(ctl, &m, 0) <= 0)
		exit(0);
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
	names_relay_begin(r, fds[0], fds[1]);
}

/* The relay has to work while the job runs, so the orders are carried out by another process. */
static void pod_main(int ctl, int orders)
{
	struct names_relay r = { .group = -1, .agent = -1 };
	struct order o;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fork() == 0) {
		while (read(orders, &o, sizeof(o)) == sizeof(o)) {
			pod_run(&o);
			if (write(orders, "", 1) != 1)
				break;
		}
		_exit(0);
	}
	close(orders);
	for (;;) {
		struct pollfd p[1 + NAMES_RELAY_POLLS] = { { ctl, POLLIN, 0 } };

		names_relay_poll(&r, p + 1);
		if (poll(p, 1 + NAMES_RELAY_POLLS, names_relay_wait_ms(&r)) <= 0)
			continue;
		if (p[0].revents)
			pod_take_descriptors(&r, ctl);
		names_relay_run(&r, p + 1);
	}
}

static pid_t pod;
static int ctl, orders;

/* Only children of the process that calls unshare() get into the new PID namespace, and all of them do. */
static void pod_parent(int a[2], int b[2], int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		_exit(2);
	pod = fork();
	if (pod == 0) {
		close(a[0]);
		close(b[0]);
		pod_main(a[1], b[1]);
	}
	if (write(out, &pod, sizeof(pod)) != sizeof(pod))
		_exit(2);
	waitpid(pod, NULL, 0);
	_exit(0);
}

static void pod_start(void)
{
	int a[2], b[2], number[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, a) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b) || pipe2(number, O_CLOEXEC))
		exit(2);
	if (fork() == 0)
		pod_parent(a, b, number[1]);
	if (read(number[0], &pod, sizeof(pod)) != sizeof(pod))
		exit(2);
	close(number[0]);
	close(number[1]);
	close(a[1]);
	close(b[1]);
	ctl = a[0];
	orders = b[0];
}

static void carry_out(struct order o, const char *tree)
{
	char c;

	snprintf(o.tree, sizeof(o.tree), "%s", tree);
	if (write(orders, &o, sizeof(o)) != sizeof(o) || read(orders, &c, 1) != 1)
		exit(2);
}

static void run(const char *tree, uint64_t seed, int from, int to, int stop_us)
{
	carry_out((struct order){ .seed = seed, .from = from, .to = to, .stop_us = stop_us }, tree);
}

/* ---- trees as text ------------------------------------------------------------- */

struct links {
	ino_t ino[1000];
	int n;
};

static void show_file(FILE *out, int dir, const char *name, const struct stat *st, struct links *l)
{
	cleanup_free char *text = NULL;
	int i = 0;

	while (i < l->n && l->ino[i] != st->st_ino)
		i++;
	if (i == l->n && l->n < 999)
		l->ino[l->n++] = st->st_ino;
	if (read_file_at(dir, name, 1 << 20, &text) >= 0)
		fprintf(out, "file %d %s", i, text);
	fputc('\n', out);
}

static void show_tree(FILE *out, int at, const char *path, struct links *l)
{
	struct dirent **v;
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY), n = scandirat(at, path, &v, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char target[100] = "";
		const char *name = v[i]->d_name;
		struct stat st;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
			free(v[i]);
			continue;
		}
		fprintf(out, "%s %o ", name, st.st_mode);
		if (S_ISREG(st.st_mode))
			show_file(out, fd, name, &st, l);
		else if (S_ISLNK(st.st_mode) && readlinkat(fd, name, target, 99) > 0)
			fprintf(out, "%s\n", target);
		else
			fprintf(out, "{\n");
		if (S_ISDIR(st.st_mode))
			show_tree(out, fd, name, l);
		if (S_ISDIR(st.st_mode))
			fprintf(out, "}\n");
		free(v[i]);
	}
	if (n >= 0)
		free(v);
	close(fd);
}

static char *tree_text(const char *tree)
{
	struct links l = { .n = 0 };
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	show_tree(f, AT_FDCWD, tree, &l);
	fclose(f);
	return text;
}

/* ---- one seed -------------------------------------------------------------------- */

static struct err err;

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	printf("%s: %s\n", what, err.text);
	exit(2);
}

struct epoch {
	json_t *records, *warnings;
	int64_t frozen_at, names_from;
	int files;
};

static int64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static void on_mount(void *names, const char *path, const char *fstype, bool has_cwd)
{
	(void)fstype;
	(void)has_cwd;
	name_list_add_mount(names, path);
}

/* As a checkpoint begins. */
static void next_interval(struct name_list *n, uint64_t seed)
{
	name_list_shorten(n, seed % 2 ? 0 : UINT64_MAX, 1500000);
	check(name_list_begin_interval(n, 1500000), "interval");
}

/* Takes the steps of agent and worker; the job goes from `from` to `to` between the preparation and the freeze. */
static void make_epoch(struct epoch *e, int job, struct write_list *w, struct name_list *n, const struct files_opts *o,
		       const char *tree, uint64_t seed, int from, int to)
{
	struct files_write_list *fw;
	struct files_name_list *fn;

	write_list_drain(w, 1500000);
	next_interval(n, seed);
	fw = files_write_list_open(job, pod, e->files, o, &err);
	fn = files_name_list_open(job, pod, e->files, o, &err);
	check(fw && fn && files_name_list_prepare(fn, &err) == 0, "prepare");
	files_name_list_give(fn, files_write_list_add, fw);
	check(files_write_list_prepare(fw, NULL, -1, &err) == 0, "prepare");
	run(tree, seed, from, to, 0);
	e->frozen_at = clock_us();
	write_list_drain(w, 1500000);
	check(name_list_begin_interval(n, 1500000), "interval");
	check(files_name_list_freeze(fn, &e->names_from, &err) == 0, "freeze");
	files_name_list_give(fn, files_write_list_add, fw);
	check(files_write_list_freeze(fw, e->records, &err) == 0, "freeze");
	check(files_write_list_finish(fw, e->records, e->warnings, &err) == 0 &&
		      files_name_list_finish(fn, e->warnings, &err) == 0,
	      "finish");
	files_write_list_close(fw);
	files_name_list_close(fn);
	/* A real freeze is longer than a tick, by which the kernel's clock of files may be late. */
	usleep(20000);
}

static void put_back(const struct epoch *e, int job, const struct files_cred *cred)
{
	const struct files_undo u = {
		.epoch = 1, .frozen_at = e->frozen_at, .names_from = e->names_from, .records = e->records, .cred = cred
	};

	check(files_undo_names(job, e->files, &u, e->warnings, &err) == 0, "undo names");
	check(files_check(e->records, e->files, cred, &err) == 0, "check");
	check(files_put_back(e->records, e->files, cred, e->warnings, &err) == 0, "put back");
	check(files_undo_written(job, &u, e->warnings, &err) == 0, "undo written");
	check(files_link_names(job, e->files, &u, e->warnings, &err) == 0, "link");
}

static int one_dir(const char *dir, const char *name, mode_t mode, uid_t uid, char path[256])
{
	cleanup_close int above = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	snprintf(path, 256, "%s/%s", dir, name);
	remove_tree_at(above, name);
	check(mkdir(path, mode) == 0 && chown(path, uid, uid) == 0, path);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool same(const char *what, uint64_t seed, char *want, char *is, const struct epoch *e)
{
	const bool ok = strcmp(want, is) == 0;

	if (!ok) {
		printf("seed %llu: the tree %s is wrong\n--- wanted\n%s--- is\n%s", (unsigned long long)seed, what,
		       want, is);
		json_dumpf(e->warnings, stdout, JSON_INDENT(1));
	}
	free(want);
	free(is);
	return ok;
}

static bool try_seed(const char *dir, uint64_t seed)
{
	char tree[256], whole[256], jobdir[256], files[256];
	const struct files_cred cred = { .uid = USER, .gid = USER };
	const struct files_opts o = { .file_limit = 1 << 30, .tmp_limit = 1 << 30, .cred = cred };
	struct epoch e = { .records = json_array(), .warnings = json_array() };
	struct store store = { .epochsfd = -1 };
	bool ok;

	close(one_dir(dir, "whole", 0755, USER, whole));
	close(one_dir(dir, "tree", 0755, USER, tree));
	store.dirfd = one_dir(dir, "job", 0700, 0, jobdir);
	snprintf(store.path, sizeof(store.path), "%s", jobdir);
	e.files = one_dir(dir, "files", 0700, 0, files);
	dice = seed * 77 + 5;
	roll(2);
	const int start = (int)roll(20), first = start + (int)roll(STEPS / 2), frozen = first + (int)roll(8),
		  last = frozen + (int)roll((unsigned)(STEPS - frozen));
	run(whole, seed, 0, start, 0);
	nftw(whole, remove_file, 16, FTW_PHYS);
	run(whole, seed, start, STEPS, 0);
	const int stop_us = roll(4) ? 0 : 1 + (int)roll(3000), later = frozen + (int)roll((unsigned)(last - frozen + 1));
	run(tree, seed, 0, start, 0); /* what was there before the job */
	nftw(tree, remove_file, 16, FTW_PHYS);
	struct write_list *w = write_list_open(&store, pod, false, true, tree, &err);
	struct name_list *n = name_list_open(&store, pod, ctl, false, true, &err);
	check(w && n, "watch");
	write_list_tell_mounts(w, on_mount, n);
	carry_out((struct order){ .touch = true }, tree);
	run(tree, seed, start, first, 0);
	make_epoch(&e, store.dirfd, w, n, &o, tree, seed, first, frozen);
	char *at_epoch = tree_text(tree);
	run(tree, seed, frozen, later, 0);
	next_interval(n, seed);
	run(tree, seed, later, last, stop_us);
	write_list_drain(w, 1500000);
	next_interval(n, seed);
	put_back(&e, store.dirfd, &cred);
	ok = same("of the epoch", seed, at_epoch, tree_text(tree), &e);
	run(tree, seed, frozen, STEPS, 0);
	ok = ok && same("at the end", seed, tree_text(whole), tree_text(tree), &e);
	write_list_close(w);
	name_list_close(n);
	json_decref(e.records);
	json_decref(e.warnings);
	close(e.files);
	close(store.dirfd);
	return ok;
}

int main(int argc, char **argv)
{
	uint64_t first, count, bad = 0;

	if (argc != 4)
		return 2;
	first = strtoull(argv[2], NULL, 10);
	count = strtoull(argv[3], NULL, 10);
	setvbuf(stdout, NULL, _IOLBF, 0);
	pod_start();
	for (uint64_t i = first; i < first + count; i++)
		bad += !try_seed(argv[1], i);
	kill(pod, SIGKILL);
	while (wait(NULL) > 0)
		;
	printf("%llu of %llu seeds failed\n", (unsigned long long)bad, (unsigned long long)count);
	return bad > 0;
}
