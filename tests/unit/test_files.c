#include "unit.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/json.h"
#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#include "scratch.h"
#include "files/files.h"

#define USER 65534
#define GIB  (1ll << 30)

static struct err err;
static struct files_cred cred = { .uid = USER, .gid = USER };
static struct files_opts opts;

#define assert_ok(call)                                      \
	do {                                                 \
		if ((call) < 0)                              \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)
#define assert_refused(call, part)                                                  \
	do {                                                                        \
		err.text[0] = '\0';                                                 \
		assert_int_equal((call), -1);                                       \
		if (!strstr(err.text, part))                                        \
			fail_msg("%s: \"%s\" lacks \"%s\"", #call, err.text, part); \
	} while (0)

/* ---- a job ------------------------------------------------------------- */

struct job {
	pid_t pid;
	int filesfd;
	json_t *records, *warnings;
};

/* In the child: mounts of its own, so that /dev/shm and /tmp are private as in a pod. */
static void make_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777") < 0)
		_exit(2);
	if (opts.private_tmp && mount(at("private"), P_tmpdir, NULL, MS_BIND, NULL) < 0)
		_exit(3);
}

static void become_user(void)
{
	if (setgid(USER) < 0 || setuid(USER) < 0)
		_exit(4);
}

/* The job runs body as the user and then stands still. */
static void start(struct job *j, void (*body)(void))
{
	int ready[2];
	char c;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	j->pid = fork();
	if (j->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		make_mounts();
		if (chdir("/") < 0)
			_exit(5);
		become_user();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		if (write(ready[1], "r", 1) != 1)
			_exit(6);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		fail_msg("the job did not start");
	close(ready[0]);
	j->records = json_array();
	j->warnings = json_array();
	remove_tree_at(scratch_fd, "files");
	assert_int_equal(mkdir(at("files"), 0700), 0);
	j->filesfd = open(at("files"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(j->filesfd >= 0);
}

static int record(struct job *j)
{
	struct files_names names = { 0 };
	int rc = files_names_find(&names, &j->pid, 1, j->pid, &opts, false, &err);

	opts.names = &names;
	rc = rc ? rc : files_record(&j->pid, 1, j->pid, j->filesfd, &opts, j->records, j->warnings, &err);
	opts.names = NULL;
	files_names_free(&names);
	return rc;
}

static void kill_job(struct job *j)
{
	if (j->pid > 0) {
		kill(j->pid, SIGKILL);
		waitpid(j->pid, NULL, 0);
	}
	j->pid = -1;
}

static void end(struct job *j)
{
	kill_job(j);
	close(j->filesfd);
	json_decref(j->records);
	json_decref(j->warnings);
}

static int check(struct job *j)
{
	return files_check(j->records, j->filesfd, &cred, &err);
}
static int put_back(struct job *j)
{
	return files_put_back(j->records, j->filesfd, &cred, j->warnings, &err);
}

static json_t *find(const struct job *j, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach(j->records, i, o)
		if (strcmp(json_string_value(json_object_get(o, "path")), at(name)) == 0)
			return o;
	return NULL;
}

static const char *member(const struct job *j, const char *name, const char *key)
{
	json_t *o = find(j, name);

	if (!o)
		return "no record";
	o = json_object_get(o, key);
	return o ? json_string_value(o) : "none";
}

static bool warned(const struct job *j, const char *part)
{
	json_t *o;
	size_t i;

	json_array_foreach(j->warnings, i, o)
		if (strstr(json_string_value(o), part))
			return true;
	return false;
}

/* ---- files ------------------------------------------------------------- */

static int make(const char *name, int flags)
{
	int fd = open(at(name), flags | O_CREAT, 0640);

	if (fd < 0) {
		perror(name);
		_exit(10);
	}
	return fd;
}

static void say(int fd, const char *text)
{
	if (write_all(fd, text, strlen(text)) < 0)
		_exit(11);
}

static void change(const char *name, off_t off, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), off), strlen(text));
	close(fd);
}

static void append(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static void assert_content(const char *name, const char *want)
{
	char *have = get_text(at(name));

	if (!have || strcmp(have, want) != 0)
		fail_msg("%s holds \"%s\" instead of \"%s\"", name, have ? have : "(nothing)", want);
	free(have);
}

static struct stat stat_of(const char *name)
{
	struct stat st;

	assert_int_equal(lstat(at(name), &st), 0);
	return st;
}

static int fresh(void **state)
{
	(void)state;
	remove_tree_at(scratch_fd, "d");
	remove_tree_at(scratch_fd, "private");
	opts = (struct files_opts){ .file_limit = 1 << 30, .tmp_limit = 1 << 30, .cred = cred };
	if (mkdir(at("d"), 0755) < 0 || chown(at("d"), USER, USER) < 0 || mkdir(at("private"), 0777) < 0)
		return -1;
	return chmod(at("private"), 01777);
}

/* ---- every way of writing ---------------------------------------------- */

static const char *const odd_names[] = { "d/new\nline", "d/quo\"te\\", "d/\303\274tf8", "d/\377\376bytes %41",
					 "d/ (deleted)" };

static void *map(int fd, size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		_exit(12);
	return p;
}

static void open_mapped(void)
{
	int fd = make("d/mapped", O_RDWR);

	say(fd, "mapped before");
	memcpy(map(fd, 4096, PROT_READ | PROT_WRITE), "MAPPED", 6);
	close(fd);
	/* readable now, may become writable */
	fd = make("d/mapped-ro", O_RDWR);
	say(fd, "quiet before");
	map(fd, 4096, PROT_READ);
	close(fd);
	/* can never be written to */
	fd = make("d/mapped-never", O_RDWR);
	say(fd, "never");
	close(fd);
	fd = open(at("d/mapped-never"), O_RDONLY);
	map(fd, 4096, PROT_READ);
}

static void open_sparse(void)
{
	int fd = make("d/sparse", O_RDWR);

	if (ftruncate(fd, GIB) < 0 || pwrite(fd, "one", 3, 0) != 3 || pwrite(fd, "two", 3, GIB / 2) != 3 ||
	    pwrite(fd, "three", 5, GIB - 5) != 5)
		_exit(13);
}

static void open_all(void)
{
	int fd;

	say(make("d/log", O_WRONLY | O_APPEND), "log 1\nlog 2\n");
	say(make("d/log-rw", O_RDWR | O_APPEND), "rwlog 1\n");
	say(make("d/seq", O_WRONLY), "seq 1\n");
	fd = make("d/header", O_WRONLY);
	say(fd, "HEAD 0000 body body");
	if (pwrite(fd, "0042", 4, 5) != 4 || lseek(fd, 9, SEEK_SET) != 9)
		_exit(14);
	say(make("d/rw", O_RDWR), "read and write");
	say(make("d/gone", O_RDWR), "deleted");
	unlink(at("d/gone"));
	say(make("d/linked", O_RDWR), "has another name");
	if (link(at("d/linked"), at("d/linked2")) < 0 || unlink(at("d/linked")) < 0)
		_exit(15);
	fd = make("d/closed", O_RDWR);
	close(fd);
	make("d/empty", O_RDWR | O_APPEND);
	make("d/readonly", O_RDONLY);
	open("/proc/self/oom_score_adj", O_RDWR);
	if (dup(make("d/twice", O_RDWR)) < 0)
		_exit(16);
	for (size_t i = 0; i < ARRAY_SIZE(odd_names); i++)
		say(make(odd_names[i], O_RDWR), "odd before");
	open_mapped();
	open_sparse();
}

static void all_kinds_are_recorded_and_put_back(void **state)
{
	struct stat before, after, header;
	struct job j;

	start(&j, open_all);
	assert_ok(record(&j));
	assert_string_equal(member(&j, "d/log", "class"), "append");
	assert_string_not_equal(member(&j, "d/log", "saved"), "none");
	assert_string_equal(member(&j, "d/log-rw", "class"), "append");
	assert_string_equal(member(&j, "d/seq", "class"), "append");
	assert_string_not_equal(member(&j, "d/seq", "saved"), "none");
	assert_string_equal(member(&j, "d/header", "class"), "inplace");
	assert_string_equal(member(&j, "d/rw", "class"), "inplace");
	assert_string_equal(member(&j, "d/mapped", "class"), "inplace");
	assert_string_equal(member(&j, "d/mapped-ro", "class"), "inplace");
	assert_null(find(&j, "d/mapped-never"));
	assert_null(find(&j, "d/readonly"));
	assert_null(find(&j, "d/gone"));
	assert_null(find(&j, "d/linked"));
	assert_string_equal(member(&j, "d/linked2", "class"), "inplace");
	assert_int_equal(json_array_size(j.records), 11 + ARRAY_SIZE(odd_names));
	assert_int_equal(json_array_size(j.warnings), 0);
	assert_ok(files_sync(j.records, &cred, &err));
	kill_job(&j);
	assert_ok(check(&j));
	assert_ok(put_back(&j));
	assert_int_equal(json_array_size(j.warnings), 0);
	before = stat_of("d/rw");
	header = stat_of("d/header");

	append("d/log", "log 3\n");
	append("d/log-rw", "rwlog 2\n");
	append("d/seq", "seq 2\n");
	change("d/seq", 0, "SEQ");
	change("d/header", 5, "9999");
	append("d/header", " and more");
	assert_int_equal(truncate(at("d/rw"), 4), 0);
	change("d/mapped", 2, "xxxx");
	change("d/linked2", 0, "HAS");
	assert_int_equal(unlink(at("d/mapped-ro")), 0);
	change("d/sparse", 100000, "where a hole was");
	change("d/sparse", GIB / 2, "TWO");
	assert_int_equal(truncate(at("d/sparse"), GIB - 2), 0);
	append("d/empty", "no longer");
	for (size_t i = 0; i < ARRAY_SIZE(odd_names); i++)
		append(odd_names[i], " and after");
	assert_int_equal(chmod(at("d/rw"), 0600), 0);

	assert_ok(check(&j));
	assert_content("d/rw", "read"); /* a check changes nothing */
	assert_ok(put_back(&j));
	assert_content("d/log", "log 1\nlog 2\n");
	assert_content("d/log-rw", "rwlog 1\n");
	assert_content("d/seq", "seq 1\n");
	assert_content("d/header", "HEAD 0042 body body");
	assert_content("d/rw", "read and write");
	assert_content("d/mapped", "MAPPED before");
	assert_content("d/linked2", "has another name");
	assert_content("d/mapped-ro", "quiet before");
	assert_content("d/empty", "");
	for (size_t i = 0; i < ARRAY_SIZE(odd_names); i++)
		assert_content(odd_names[i], "odd before");
	after = stat_of("d/rw");
	assert_int_equal(after.st_ino, before.st_ino);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(stat_of("d/header").st_mtim.tv_nsec, header.st_mtim.tv_nsec);
	after = stat_of("d/mapped-ro");
	assert_int_equal(after.st_uid, USER);
	assert_int_equal(after.st_mode & 07777, 0640);
	assert_true(warned(&j, "mapped-ro"));
	end(&j);
}

static void assert_bytes(int fd, off_t off, const char *want)
{
	char have[64] = "";

	assert_int_equal(pread(fd, have, strlen(want), off), strlen(want));
	assert_memory_equal(have, want, strlen(want));
}

static void holes_stay_holes(void **state)
{
	static const char zeros[16];
	struct stat st;
	char have[16];
	struct job j;
	int fd;

	start(&j, open_sparse);
	assert_ok(record(&j));
	kill_job(&j);
	assert_int_equal(fstatat(j.filesfd, member(&j, "d/sparse", "saved"), &st, 0), 0);
	assert_int_equal(st.st_size, GIB);
	assert_true(st.st_blocks < 256);
	for (int round = 0; round < 2; round++) {
		if (round == 0)
			change("d/sparse", 100000, "where a hole was");
		else
			assert_int_equal(unlink(at("d/sparse")), 0);
		assert_ok(put_back(&j));
		st = stat_of("d/sparse");
		assert_int_equal(st.st_size, GIB);
		assert_true(st.st_blocks < 256);
		fd = open(at("d/sparse"), O_RDONLY | O_CLOEXEC);
		assert_bytes(fd, 0, "one");
		assert_bytes(fd, GIB / 2, "two");
		assert_bytes(fd, GIB - 5, "three");
		assert_int_equal(pread(fd, have, 16, 100000), 16);
		assert_memory_equal(have, zeros, 16);
		close(fd);
	}
	end(&j);
}

/* ---- a mapping changes a file without its times ------------------------ */

static void writes_through_a_mapping_are_undone(void **state)
{
	struct timespec times[2];
	struct job j;
	struct stat st;
	int fd;

	start(&j, open_mapped);
	assert_ok(record(&j));
	kill_job(&j);
	st = stat_of("d/mapped");
	change("d/mapped", 0, "crept ");
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	fd = open(at("d/mapped"), O_RDWR | O_CLOEXEC);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	assert_ok(put_back(&j));
	assert_content("d/mapped", "MAPPED before");
	end(&j);
}

/* ---- append-only files that did not only grow -------------------------- */

static void open_long_logs(void)
{
	static char block[300000];

	memset(block, 'a', sizeof(block) - 1);
	say(make("d/log", O_WRONLY | O_APPEND), block);
	say(make("d/seq", O_WRONLY), block);
}

static void a_rewritten_header_is_undone(void **state)
{
	struct job j;
	struct stat st;
	char *text;

	start(&j, open_long_logs);
	assert_ok(record(&j));
	kill_job(&j);
	assert_int_equal(fstatat(j.filesfd, member(&j, "d/seq", "saved"), &st, 0), 0);
	assert_int_equal(st.st_size, 65536);
	change("d/seq", 10, "HEADER");
	append("d/seq", "more");
	assert_ok(check(&j));
	assert_ok(put_back(&j));
	text = get_text(at("d/seq"));
	assert_int_equal(strlen(text), 299999);
	assert_int_equal(strspn(text, "a"), 299999);
	free(text);
	end(&j);
}

static void a_changed_log_is_refused(void **state)
{
	struct job j;

	start(&j, open_long_logs);
	assert_ok(record(&j));
	kill_job(&j);
	change("d/log", 299990, "b");
	append("d/log", "more");
	assert_refused(check(&j), "d/log\" is now 300003 bytes, it was 299999 at the checkpoint");
	assert_refused(put_back(&j), "cannot continue byte-identical");
	assert_int_equal(stat_of("d/log").st_size, 300003);
	assert_int_equal(truncate(at("d/log"), 10), 0);
	assert_refused(check(&j), "is now 10 bytes");
	assert_int_equal(unlink(at("d/log")), 0);
	assert_refused(check(&j), "is gone, it had 299999 bytes");
	change("d/seq", 299990, "b");
	assert_refused(check(&j), "(and 1 more)");
	end(&j);
}

static void open_log(void)
{
	say(make("d/log", O_WRONLY | O_APPEND), "log\n");
	say(make("d/rw", O_RDWR), "read and write");
}

static void a_replaced_log_is_accepted_if_it_fits(void **state)
{
	struct job j;

	start(&j, open_log);
	assert_ok(record(&j));
	kill_job(&j);
	assert_int_equal(rename(at("d/log"), at("d/old")), 0);
	put_text(at("d/log"), "log\nlog\n");
	assert_int_equal(chown(at("d/log"), USER, USER), 0);
	assert_ok(put_back(&j));
	assert_content("d/log", "log\n");
	assert_content("d/old", "log\n");
	end(&j);
}

/* ---- paths that lead elsewhere ----------------------------------------- */

static void other_things_in_its_place_are_refused(void **state)
{
	struct job j;

	start(&j, open_log);
	assert_ok(record(&j));
	kill_job(&j);
	assert_int_equal(unlink(at("d/rw")), 0);
	assert_int_equal(mkfifo(at("d/rw"), 0666), 0);
	assert_refused(check(&j), "now it is a fifo");
	assert_refused(put_back(&j), "now it is a fifo");
	assert_int_equal(unlink(at("d/rw")), 0);
	assert_int_equal(mkdir(at("d/rw"), 0777), 0);
	assert_refused(put_back(&j), "now it is a directory");
	assert_int_equal(rmdir(at("d/rw")), 0);
	put_text(at("victim"), "root's own");
	assert_int_equal(symlink("../victim", at("d/rw")), 0);
	assert_refused(put_back(&j), "now it is a symbolic link");
	assert_int_equal(unlink(at("d/rw")), 0);
	assert_int_equal(symlink("/dev/null", at("d/rw")), 0);
	assert_refused(put_back(&j), "now it is a symbolic link");
	assert_content("victim", "root's own");
	end(&j);
}

/* The attack on a restore by root: a directory on the way is swapped for root's. */
static void only_the_users_rights_count(void **state)
{
	struct job j;

	start(&j, open_log);
	assert_ok(record(&j));
	kill_job(&j);
	assert_int_equal(rename(at("d"), at("mine")), 0);
	assert_int_equal(mkdir(at("roots"), 0755), 0);
	assert_int_equal(symlink("roots", at("d")), 0);
	put_text(at("roots/log"), "log\n precious");
	put_text(at("roots/rw"), "root's own");
	assert_refused(check(&j), "may not write to it: it belongs to uid 0, mode 0644");
	assert_refused(put_back(&j), "may not write to it");
	assert_content("roots/log", "log\n precious");
	assert_content("roots/rw", "root's own");
	put_text(at("roots/log"), "log\n");
	assert_int_equal(unlink(at("roots/rw")), 0);
	assert_refused(put_back(&j), "cannot be made again in");
	assert_int_equal(access(at("roots/rw"), F_OK), -1);
	assert_int_equal(chmod(at("roots"), 0700), 0);
	assert_refused(put_back(&j), "cannot be reached: Permission denied");
	assert_int_equal(unlink(at("d")), 0);
	assert_refused(check(&j), "make the directory again");
	assert_refused(put_back(&j), at("d"));
	assert_int_equal(rename(at("mine"), at("d")), 0);
	assert_ok(put_back(&j));
	remove_tree_at(scratch_fd, "roots");
	end(&j);
}

static void open_protected(void)
{
	int fd = make("d/ro", O_RDWR);

	say(fd, "before");
	fchmod(fd, 0444);
}

static void a_file_of_mode_0444_is_put_back(void **state)
{
	struct job j;

	start(&j, open_protected);
	assert_ok(record(&j));
	kill_job(&j);
	change("d/ro", 0, "BEFORE and after");
	assert_ok(check(&j));
	assert_int_equal(stat_of("d/ro").st_mode & 07777, 0444);
	assert_ok(put_back(&j));
	assert_content("d/ro", "before");
	assert_int_equal(stat_of("d/ro").st_mode & 07777, 0444);
	end(&j);
}

/* ---- limits ------------------------------------------------------------ */

static void open_big(void)
{
	static char block[100000];

	memset(block, 'a', sizeof(block) - 1);
	say(make("d/big", O_RDWR), block);
	say(make("d/small", O_RDWR), "small");
}

static void a_file_over_the_limit_is_not_saved(void **state)
{
	struct job j;

	opts.file_limit = 50000;
	start(&j, open_big);
	assert_ok(record(&j));
	kill_job(&j);
	assert_string_equal(member(&j, "d/big", "saved"), "none");
	assert_string_not_equal(member(&j, "d/small", "saved"), "none");
	assert_true(warned(&j, "CheckpointFileLimit"));
	assert_true(warned(&j, "d/big"));
	change("d/small", 0, "SMALL");
	assert_ok(check(&j));
	assert_ok(put_back(&j));
	assert_content("d/small", "small");
	usleep(20000);
	change("d/big", 5, "b");
	assert_refused(check(&j), "d/big\" was changed after the checkpoint");
	assert_refused(put_back(&j), "d/big");
	assert_int_equal(unlink(at("d/big")), 0);
	assert_refused(check(&j), "CheckpointFileLimit");
	end(&j);
}

/* The job, or somebody else, changes it: such an epoch could not be restored. */
static void it_refuses_the_checkpoint(void **state)
{
	struct job j;

	opts.file_limit = 50000;
	opts.must_save = true;
	start(&j, open_big);
	assert_refused(record(&j), "without a copy the epoch could not be restored");
	assert_refused(files_can_record(&j.pid, 1, j.pid, &opts, NULL, &err), "the administrator can raise it");
	opts.file_limit = 200000;
	assert_ok(files_can_record(&j.pid, 1, j.pid, &opts, NULL, &err));
	opts.file_limit = 50000;
	opts.must_save = false;
	assert_ok(files_can_record(&j.pid, 1, j.pid, &opts, NULL, &err));
	end(&j);
}

static void a_full_disk_fails_the_checkpoint(void **state)
{
	struct job j;
	int fd;

	start(&j, open_big);
	assert_int_equal(mkdir(at("small-disk"), 0700), 0);
	assert_int_equal(mount("t", at("small-disk"), "tmpfs", 0, "size=64k"), 0);
	fd = open(at("small-disk"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err.text[0] = '\0';
	assert_int_equal(files_record(&j.pid, 1, j.pid, fd, &opts, j.records, j.warnings, &err), -1);
	close(fd);
	assert_int_equal(umount2(at("small-disk"), MNT_DETACH), 0);
	rmdir(at("small-disk"));
	if (!strstr(err.text, "No space left"))
		fail_msg("%s", err.text);
	end(&j);
}

static void open_many(void)
{
	for (int i = 0; i < 700; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d/f%d", i);
		say(make(name, i % 2 ? O_RDWR : O_WRONLY | O_APPEND), "text");
	}
}

static void many_files_go_in_batches(void **state)
{
	struct job j;
	char name[32];
	int64_t t;

	start(&j, open_many);
	t = now_us();
	assert_ok(record(&j));
	t = now_us() - t;
	kill_job(&j);
	assert_int_equal(json_array_size(j.records), 700);
	print_message("700 files recorded in %lld us\n", (long long)t);
	for (int i = 0; i < 700; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		append(name, "more");
	}
	assert_ok(check(&j));
	assert_ok(put_back(&j));
	for (int i = 0; i < 700; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		assert_content(name, "text");
	}
	end(&j);
}

/* ---- the user's signals --------------------------------------------------- */

/* A process that stops whoever opens the file, while that waits for the answer. */
static pid_t start_stopper(const char *path)
{
	int fan = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
	pid_t pid;

	if (fan < 0 || fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		struct fanotify_event_metadata e;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(fan, &e, sizeof(e)) == sizeof(e)) {
			const struct fanotify_response yes = { e.fd, FAN_ALLOW };

			if (kill(e.pid, SIGSTOP) < 0 || write(fan, &yes, sizeof(yes)) != sizeof(yes))
				_exit(1);
			close(e.fd);
		}
		_exit(1);
	}
	close(fan);
	return pid;
}

static void what_puts_files_back_is_stopped(void **state)
{
	struct job j;
	pid_t stopper;

	start(&j, open_log);
	assert_ok(record(&j));
	kill_job(&j);
	append("d/log", "more");
	stopper = start_stopper(at("d/log"));
	if (stopper < 0) {
		end(&j);
		skip(); /* a kernel without permission events */
	}
	assert_ok(put_back(&j));
	kill(stopper, SIGKILL);
	assert_int_equal(waitpid(stopper, NULL, 0), stopper);
	end(&j);
}

/* ---- files that were written and closed --------------------------------- */

static struct files_write_list *written;

/* Names in the journal, as the agent would append them. */
static void note(const char *name)
{
	int fd = openat(scratch_fd, FILES_JOURNAL, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	const char *path = name[0] == '/' ? name : at(name);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, path, strlen(path) + 1), 0);
	close(fd);
}

static int begin_written(struct job *j, const json_t *previous, int previous_filesfd)
{
	written = files_write_list_open(scratch_fd, j->pid, j->filesfd, &opts, &err);
	if (!written)
		return -1;
	return files_write_list_prepare(written, previous, previous_filesfd, &err);
}

static int end_written(struct job *j)
{
	int rc = files_write_list_freeze(written, j->records, &err);

	if (rc == 0)
		rc = files_write_list_finish(written, j->records, j->warnings, &err);
	files_write_list_close(written);
	written = NULL;
	return rc;
}

static int record_written(struct job *j)
{
	return record(j) < 0 || begin_written(j, NULL, -1) < 0 || end_written(j) < 0 ? -1 : 0;
}

static int64_t real_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static int undo(struct job *j, int64_t frozen_at)
{
	const struct files_undo u = {
		.epoch = 7, .frozen_at = frozen_at, .records = j->records, .private_tmp = opts.private_tmp, .cred = &cred
	};

	return files_undo_written(scratch_fd, &u, j->warnings, &err);
}

static void as_user(void (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		become_user();
		umask(022);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void put(const char *name, const char *text)
{
	int fd = make(name, O_WRONLY | O_TRUNC);

	say(fd, text);
	close(fd);
}

static void write_closed(void)
{
	static char block[1500000];

	memset(block, 'a', sizeof(block) - 1);
	if (mkdir(at("d/sub"), 0755) < 0)
		_exit(30);
	put("d/state", "41\n");
	put("d/log", "line 1\nline 2\n");
	put("d/sub/deep", "deep\n");
	put("d/new\nline", "odd\n");
	put("d/ro", "protected\n");
	chmod(at("d/ro"), 0444);
	put("d/zero", "");
	put("d/biglog", block);
	put("d/big", block);
	say(make("d/open", O_RDWR), "open");
}

static const char *const closed_names[] = { "d/state", "d/log",    "d/sub/deep", "d/new\nline", "d/ro",
					    "d/zero",  "d/biglog", "d/big",      "d/open" };

static void start_closed(struct job *j)
{
	unlink(at(FILES_JOURNAL));
	start(j, write_closed);
	for (size_t i = 0; i < ARRAY_SIZE(closed_names); i++)
		note(closed_names[i]);
}

static void change_closed(void)
{
	put("d/state", "77\n");
	append("d/log", "line 3\n");
	append("d/biglog", "more");
	append("d/zero", "something");
	unlink(at("d/ro"));
	unlink(at("d/sub/deep"));
	rmdir(at("d/sub"));
	rename(at("d/new\nline"), at("d/elsewhere"));
}

static void closed_files_are_put_back(void **state)
{
	struct stat st, before;
	struct job j;

	start_closed(&j);
	note("d/never");
	assert_ok(record_written(&j));
	kill_job(&j);
	assert_string_equal(member(&j, "d/state", "class"), "closed");
	assert_string_equal(member(&j, "d/zero", "class"), "closed");
	assert_string_equal(member(&j, "d/biglog", "class"), "append");
	assert_string_equal(member(&j, "d/open", "class"), "inplace");
	assert_string_equal(member(&j, "d/never", "class"), "absent");
	assert_int_equal(json_array_size(j.records), ARRAY_SIZE(closed_names) + 1);
	assert_int_equal(json_array_size(j.warnings), 0);
	assert_ok(files_sync(j.records, &cred, &err));
	before = stat_of("d/state");
	assert_ok(put_back(&j));
	st = stat_of("d/state");
	assert_int_equal(st.st_ctim.tv_nsec, before.st_ctim.tv_nsec); /* left alone */

	as_user(change_closed);
	assert_ok(check(&j));
	assert_content("d/state", "77\n");
	assert_int_equal(access(at("d/sub"), F_OK), -1);
	assert_ok(put_back(&j));
	assert_content("d/state", "41\n");
	assert_content("d/log", "line 1\nline 2\n");
	assert_content("d/sub/deep", "deep\n");
	assert_content("d/new\nline", "odd\n");
	assert_content("d/ro", "protected\n");
	assert_content("d/zero", "");
	assert_int_equal(stat_of("d/ro").st_mode & 07777, 0444);
	assert_int_equal(stat_of("d/biglog").st_size, 1499999);
	assert_int_equal(stat_of("d/state").st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	assert_true(warned(&j, "3 files that the job had deleted after the checkpoint were made again"));
	end(&j);
}

static void a_large_closed_file_that_changed_is_refused(void **state)
{
	struct job j;

	start_closed(&j);
	assert_ok(record_written(&j));
	kill_job(&j);
	change("d/big", 1499990, "b");
	assert_refused(check(&j), "d/big\" is now 1499999 bytes");
	assert_int_equal(unlink(at("d/big")), 0);
	assert_refused(check(&j), "d/big\" is gone");
	end(&j);
}

/* An epoch with its files/ in another directory, as the one before. */
static void keep_as_previous(struct job *j, json_t **records, int *filesfd)
{
	remove_tree_at(scratch_fd, "previous");
	assert_int_equal(rename(at("files"), at("previous")), 0);
	assert_int_equal(mkdir(at("files"), 0700), 0);
	*records = j->records;
	*filesfd = j->filesfd;
	j->records = json_array();
	j->filesfd = open(at("files"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(j->filesfd >= 0);
}

static void end_with_previous(struct job *j, json_t *records, int filesfd)
{
	json_decref(records);
	close(filesfd);
	end(j);
	remove_tree_at(scratch_fd, "previous");
}

static void assert_bytes_of(const char *name, off_t at_byte, const char *text)
{
	int fd = open(at(name), O_RDONLY | O_CLOEXEC);

	assert_bytes(fd, at_byte, text);
	close(fd);
}

static struct stat stat_of_copy(const struct job *j, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(j->filesfd, member(j, name, "saved"), &st, 0), 0);
	return st;
}

static void change_big(void)
{
	change("d/big", 10, "rewritten");
	change("d/big", 1499990, "b");
	append("d/biglog", "more");
	append("d/log", "line 3\n");
}

static void later_epochs_copy_little(void **state)
{
	json_t *previous;
	int previous_filesfd;
	struct job j;

	start_closed(&j);
	assert_ok(record_written(&j));
	keep_as_previous(&j, &previous, &previous_filesfd);
	as_user(change_big);
	usleep(150000); /* from then on the times tell */
	assert_ok(record(&j));
	assert_ok(begin_written(&j, previous, previous_filesfd));
	append("d/log", "line 4\n"); /* between the first look and the freeze */
	put_text(at("d/latest"), "latest\n");
	note("d/latest");
	assert_ok(end_written(&j));
	kill_job(&j);
	assert_int_equal(stat_of_copy(&j, "d/state").st_nlink, 2);
	assert_int_equal(stat_of_copy(&j, "d/log").st_nlink, 1);
	assert_int_equal(stat_of_copy(&j, "d/log").st_size, 28);
	assert_string_equal(member(&j, "d/biglog", "class"), "append");
	assert_string_equal(member(&j, "d/big", "class"), "closed");
	assert_string_equal(member(&j, "d/latest", "class"), "closed");
	change("d/big", 1499990, "c");
	assert_ok(put_back(&j));
	assert_bytes_of("d/big", 1499989, "ab");
	assert_content("d/log", "line 1\nline 2\nline 3\nline 4\n");
	end_with_previous(&j, previous, previous_filesfd);
}

static void change_middle(void)
{
	change("d/biglog", 700000, "round and round");
}

/* A large file that is written in place and does not grow is copied whole as soon as that is seen. Before, it is said.
 */
static void a_large_file_that_does_not_grow(void **state)
{
	json_t *previous;
	int previous_filesfd;
	struct job j;

	start_closed(&j);
	assert_ok(record_written(&j));
	assert_string_equal(member(&j, "d/biglog", "class"), "append");
	usleep(20000);
	as_user(change_middle);
	assert_ok(put_back(&j));
	assert_true(warned(&j, "d/biglog\" was written to after the checkpoint without becoming longer"));
	keep_as_previous(&j, &previous, &previous_filesfd);
	usleep(150000);
	assert_ok(record(&j));
	assert_ok(begin_written(&j, previous, previous_filesfd));
	assert_ok(end_written(&j));
	kill_job(&j);
	assert_string_equal(member(&j, "d/biglog", "class"), "closed");
	change("d/biglog", 700000, "later");
	assert_ok(put_back(&j));
	assert_bytes_of("d/biglog", 700000, "round and round");
	end_with_previous(&j, previous, previous_filesfd);
}

static void a_damaged_copy_is_not_passed_on(void **state)
{
	json_t *previous;
	int previous_filesfd, fd;
	struct job j;

	start_closed(&j);
	assert_ok(record_written(&j));
	fd = openat(j.filesfd, member(&j, "d/log", "saved"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "X", 1, 3), 1);
	close(fd);
	keep_as_previous(&j, &previous, &previous_filesfd);
	usleep(150000);
	assert_ok(record(&j));
	assert_ok(begin_written(&j, previous, previous_filesfd));
	assert_ok(end_written(&j));
	kill_job(&j);
	assert_int_equal(stat_of_copy(&j, "d/state").st_nlink, 2);
	assert_int_equal(stat_of_copy(&j, "d/log").st_nlink, 1);
	put_text(at("d/log"), "");
	assert_ok(put_back(&j));
	assert_content("d/log", "line 1\nline 2\n");
	end_with_previous(&j, previous, previous_filesfd);
}

/* What root can read and the user cannot must not get into a copy that a restore would give to him. */
static void only_what_the_user_can_read_is_copied(void **state)
{
	struct job j;

	start_closed(&j);
	assert_int_equal(mkdir(at("roots"), 0755), 0);
	put_text(at("roots/state"), "secret\n");
	put_text(at("roots/log"), "secret\n");
	assert_int_equal(chmod(at("roots/state"), 0600), 0);
	assert_int_equal(chmod(at("roots/log"), 0640), 0); /* group root, which the worker has */
	assert_int_equal(rename(at("d"), at("mine")), 0);
	assert_int_equal(symlink("roots", at("d")), 0);
	assert_ok(record_written(&j));
	assert_string_equal(member(&j, "d/state", "saved"), "none");
	assert_string_equal(member(&j, "d/log", "saved"), "none");
	assert_string_equal(member(&j, "d/log", "tail"), "none");
	assert_true(warned(&j, "cannot be read (Permission denied)"));
	assert_int_equal(geteuid(), 0);
	assert_int_equal(access(at("roots/state"), R_OK), 0);
	{
		int fd = open(at("roots/state"), O_RDONLY | O_CLOEXEC);

		assert_true(fd >= 0); /* root's rights are back */
		close(fd);
	}
	kill_job(&j);
	assert_int_equal(unlink(at("d")), 0);
	assert_int_equal(rename(at("mine"), at("d")), 0);
	remove_tree_at(scratch_fd, "roots");
	end(&j);
}

static void other_things_in_a_journal_do_no_harm(void **state)
{
	static const char *const odd[] = { "/./relative", "/",      "/a/../../etc/passwd", "/dev/shm/x", "/dev/null",
					   "d/fifo",      "d/link", "d/state/below" };
	struct job j;

	start_closed(&j);
	assert_int_equal(mkfifo(at("d/fifo"), 0666), 0);
	assert_int_equal(symlink("/etc/passwd", at("d/link")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		note(odd[i]);
	{
		int fd = openat(scratch_fd, FILES_JOURNAL, O_WRONLY | O_APPEND | O_CLOEXEC);

		assert_int_equal(write_all(fd, "relative\0/torn", 14), 0);
		close(fd);
	}
	assert_ok(record_written(&j));
	kill_job(&j);
	assert_int_equal(json_array_size(j.records), ARRAY_SIZE(closed_names) + 1);
	assert_string_equal(member(&j, "d/state/below", "class"), "absent");
	end(&j);
}

static void the_limit_holds_for_closed_files(void **state)
{
	struct job j;

	opts.file_limit = 60000;
	start_closed(&j);
	assert_ok(record_written(&j));
	kill_job(&j);
	assert_string_equal(member(&j, "d/state", "class"), "closed");
	assert_string_not_equal(member(&j, "d/state", "saved"), "none");
	assert_string_equal(member(&j, "d/big", "class"), "append");
	assert_string_equal(member(&j, "d/big", "saved"), "none");
	assert_true(warned(&j, "CheckpointFileLimit"));
	end(&j);
}

/* ---- files that came after the epoch ----------------------------------- */

static void write_later(void)
{
	if (mkdir(at("d/later"), 0755) < 0 || mkdir(at("d/later/on"), 0755) < 0 || mkdir(at("d/shared"), 0755) < 0)
		_exit(31);
	put("d/later/on/a", "a");
	put("d/later/b", "b");
	put("d/shared/c", "c");
	put("d/shared/kept", "kept");
	put("d/gone", "again");
	put("d/target", "target");
	if (symlink("target", at("d/symlink")) < 0)
		_exit(32);
	append("d/old", "more");
	append("d/log", "line 3\n");
}

static void later_files_are_removed(void **state)
{
	static const char *const later[] = { "d/later/on/a", "d/later/b", "d/shared/c", "d/symlink",
					     "d/old",        "d/roots",   "d/missing" };
	struct job j;
	int64_t frozen_at;

	start_closed(&j);
	put_text(at("d/old"), "old");
	assert_int_equal(chown(at("d/old"), USER, USER), 0);
	note("d/gone");
	usleep(20000);
	frozen_at = real_us();
	assert_ok(record_written(&j));
	kill_job(&j);
	usleep(20000);
	as_user(write_later);
	put_text(at("d/roots"), "root's");
	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		note(later[i]);
	assert_ok(put_back(&j));
	assert_ok(undo(&j, frozen_at));
	assert_int_equal(access(at("d/later"), F_OK), -1);
	assert_int_equal(access(at("d/shared/c"), F_OK), -1);
	assert_int_equal(access(at("d/gone"), F_OK), -1);
	assert_content("d/shared/kept", "kept");
	assert_content("d/target", "target");
	assert_content("d/old", "oldmore");
	assert_content("d/roots", "root's");
	assert_content("d/log", "line 1\nline 2\n");
	assert_true(warned(&j, "removed 4 files that were first written after epoch 7"));
	assert_true(warned(&j, "2 files were changed after epoch 7 and not saved"));
	/* Nothing is left to do. */
	json_array_clear(j.warnings);
	assert_ok(undo(&j, frozen_at));
	assert_false(warned(&j, "removed"));
	end(&j);
}

/* A file that was elsewhere under another name at the epoch. */
static void a_file_that_was_moved_there_stays(void **state)
{
	struct job j;
	int64_t frozen_at;

	start_closed(&j);
	note("d/moved");
	usleep(20000);
	frozen_at = real_us();
	assert_ok(record_written(&j));
	kill_job(&j);
	assert_string_equal(member(&j, "d/moved", "class"), "absent");
	assert_int_equal(rename(at("d/state"), at("d/moved")), 0);
	assert_ok(put_back(&j));
	assert_ok(undo(&j, frozen_at));
	assert_content("d/moved", "41\n");
	assert_content("d/state", "41\n");
	end(&j);
}

static void write_thousands(void)
{
	for (int i = 0; i < 5000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d/f%d", i);
		put(name, "some text of a small file\n");
	}
}

static void thousands_of_files_do_not_lengthen_the_freeze(void **state)
{
	json_t *previous;
	int previous_filesfd;
	struct job j;
	char name[32];
	int64_t t[5];

	unlink(at(FILES_JOURNAL));
	start(&j, write_thousands);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		note(name);
	}
	usleep(200000);
	assert_ok(record_written(&j));
	keep_as_previous(&j, &previous, &previous_filesfd);
	t[0] = now_us();
	assert_ok(begin_written(&j, previous, previous_filesfd));
	t[1] = now_us();
	assert_ok(files_write_list_freeze(written, j.records, &err));
	t[2] = now_us();
	assert_ok(files_write_list_finish(written, j.records, j.warnings, &err));
	t[3] = now_us();
	files_write_list_close(written);
	kill_job(&j);
	assert_int_equal(json_array_size(j.records), 5000);
	assert_ok(put_back(&j));
	t[4] = now_us();
	print_message(
		"5000 closed files: before the freeze %lld us, in it %lld us, behind it %lld us, put back %lld us\n",
		(long long)(t[1] - t[0]), (long long)(t[2] - t[1]), (long long)(t[3] - t[2]), (long long)(t[4] - t[3]));
	/* On a busy machine all takes longer: there, less than what is done before the freeze. */
	assert_true(t[2] - t[1] < 300000 || t[2] - t[1] < t[1] - t[0]);
	end_with_previous(&j, previous, previous_filesfd);
}

/* ---- records that lie -------------------------------------------------- */

static json_t *with(const char *key, json_t *value)
{
	json_t *o = json_pack("{s:s,s:i,s:i,s:i,s:i,s:[i,i],s:[i,i],s:s,s:s,s:i}", "path", at("victim"), "dev", 1,
			      "ino", 1, "size", 4, "mode", 0644, "mtime", 1, 1, "ctime", 1, 1, "class", "inplace",
			      "saved", "000001.data", "saved_size", 4);

	if (key && value)
		json_object_set_new(o, key, value);
	else if (key)
		json_object_del(o, key);
	return json_pack("[o]", o);
}

static void hostile_records_are_errors(void **state)
{
	struct {
		const char *key;
		json_t *value;
	} bad[] = {
		{ "path", json_string("relative") },
		{ "path", json_string("/a/../b") },
		{ "path", json_string("/a//b") },
		{ "path", json_string("/") },
		{ "path", json_string("/a/.") },
		{ "path", json_integer(1) },
		{ "path", NULL },
		{ "path_encoding", json_string("rot13") },
		{ "path_encoding", json_integer(1) },
		{ "size", json_integer(-1) },
		{ "size", json_string("4") },
		{ "size", NULL },
		{ "mode", json_integer(-5) },
		{ "mtime", json_integer(1) },
		{ "mtime", json_pack("[i,i]", 1, 1000000000) },
		{ "mtime", json_array() },
		{ "class", json_string("other") },
		{ "class", json_null() },
		{ "saved", json_string("../../../etc/shadow") },
		{ "saved", json_string("1.data") },
		{ "saved", json_string("000001.data/x") },
		{ "saved", json_string("000000000000000000000000001.data") },
		{ "saved", json_integer(1) },
		{ "saved_size", json_integer(5) },
		{ "saved_size", json_integer(-1) },
		{ "tail", json_integer(1) },
		{ "saved", json_string("000009.data") },
	};
	int fd;

	put_text(at("victim"), "root's own");
	remove_tree_at(scratch_fd, "files");
	assert_int_equal(mkdir(at("files"), 0700), 0);
	put_text(at("files/000001.data"), "user");
	fd = open(at("files"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *r = with(bad[i].key, bad[i].value);

		if (files_put_back(r, fd, &cred, NULL, &err) == 0)
			fail_msg("case %zu (%s) was accepted", i, bad[i].key);
		json_decref(r);
	}
	put_text(at("files/000001.data"), "longer than it was");
	{
		json_t *r = with(NULL, NULL), *o = json_object();

		assert_refused(files_put_back(r, fd, &cred, NULL, &err), "000001.data of the checkpoint is damaged");
		assert_refused(files_put_back(o, fd, &cred, NULL, &err), "list");
		assert_refused(files_put_back(NULL, fd, &cred, NULL, &err), "list");
		json_decref(r);
		json_decref(o);
	}
	close(fd);
	assert_content("victim", "root's own");
}

static void percent_encoding_is_strict(void **state)
{
	static const char *const bad[] = { "/a%", "/a%4", "/a%4g", "/a%00", "/a%ff", "%2F%2E%2E%2Fetc", "/a%2F..%2Fb" };
	json_t *empty = json_array();

	assert_ok(files_put_back(empty, -1, &cred, NULL, &err));
	json_decref(empty);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *r = with("path_encoding", json_string("percent"));

		json_object_set_new(json_array_get(r, 0), "path", json_string(bad[i]));
		if (files_check(r, -1, &cred, &err) == 0)
			fail_msg("%s was accepted", bad[i]);
		if (!strstr(err.text, "record of file 0"))
			fail_msg("%s: %s", bad[i], err.text);
		json_decref(r);
	}
}

/* ---- private trees ----------------------------------------------------- */

static void need(int rc, int line)
{
	if (rc < 0) {
		dprintf(2, "line %d: %m\n", line);
		_exit(20);
	}
}
#define need(call) need((int)(call), __LINE__)

static void fill_tree(const char *top)
{
	struct timespec old[2] = { { 1000000000, 1 }, { 1000000001, 123456789 } };
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int fd;

	need(chdir(top));
	umask(0);
	need(fd = open("plain", O_RDWR | O_CREAT, 0640));
	say(fd, "plain text");
	need(futimens(fd, old));
	need(link("plain", "hardlink"));
	need(fd = open("sparse", O_RDWR | O_CREAT, 0600));
	need(ftruncate(fd, GIB));
	need(pwrite(fd, "one", 3, 0));
	need(pwrite(fd, "two", 3, GIB / 2));
	need(link("sparse", "sparse-link"));
	need(fd = open("hole", O_RDWR | O_CREAT, 0600));
	need(ftruncate(fd, 1 << 20));
	need(open("empty", O_RDWR | O_CREAT, 0400));
	need(open("set-uid", O_RDWR | O_CREAT, 04711));
	need(open("new\nline", O_RDWR | O_CREAT, 0600));
	need(open("\303\274\377\376", O_RDWR | O_CREAT, 0600));
	need(symlink("/nowhere/at/all", "dangling"));
	need(symlink("../..", "up"));
	need(symlink("\377\n", "odd-target"));
	need(mkfifo("fifo", 0620));
	need(mkdir("sub", 0700));
	need(mkdir("sub/deep", 02755));
	need(fd = open("sub/deep/file", O_RDWR | O_CREAT, 0666));
	say(fd, "deep");
	setxattr("sub/deep/file", "user.colour", "blue", 4, 0);
	need(chmod("sub/deep", 0500));
	need(utimensat(AT_FDCWD, "sub/deep", old, 0));
	need(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&addr, sizeof(addr)));
	need(chdir("/"));
}

static void fill_private(void)
{
	fill_tree("/dev/shm");
	fill_tree(P_tmpdir);
}

static void assert_same_stat(int a, int b, const char *name, bool times)
{
	struct stat x, y;

	assert_int_equal(fstatat(a, name, &x, AT_SYMLINK_NOFOLLOW), 0);
	if (fstatat(b, name, &y, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s is missing", name);
	assert_int_equal(x.st_mode, y.st_mode);
	assert_int_equal(x.st_uid, y.st_uid);
	assert_int_equal(x.st_gid, y.st_gid);
	if (!S_ISDIR(x.st_mode)) {
		assert_int_equal(x.st_nlink, y.st_nlink);
		assert_int_equal(x.st_size, y.st_size);
	}
	if (!times)
		return;
	assert_int_equal(x.st_mtim.tv_sec, y.st_mtim.tv_sec);
	assert_int_equal(x.st_mtim.tv_nsec, y.st_mtim.tv_nsec);
}

static void assert_same_tree(int a, int b)
{
	static const char *const names[] = {
		"plain",   "hardlink",  "sparse",           "sparse-link",  "hole", "empty",
		"set-uid", "new\nline", "\303\274\377\376", "dangling",     "up",   "odd-target",
		"fifo",    "sub",       "sub/deep",         "sub/deep/file"
	};
	char x[4096] = "", y[4096] = "";
	struct stat st;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_same_stat(a, b, names[i], true);
	assert_int_equal(fstatat(b, "socket", &st, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(readlinkat(a, "odd-target", x, sizeof(x)), readlinkat(b, "odd-target", y, sizeof(y)));
	assert_memory_equal(x, y, sizeof(x));
	fd = openat(b, "plain", O_RDONLY | O_CLOEXEC);
	assert_bytes(fd, 0, "plain text");
	close(fd);
	fd = openat(b, "sub/deep/file", O_RDONLY | O_CLOEXEC);
	assert_bytes(fd, 0, "deep");
	if (fgetxattr(fd, "user.colour", x, sizeof(x)) < 0)
		print_message("no user.* attributes on this file system\n");
	close(fd);
	fd = openat(b, "sparse", O_RDONLY | O_CLOEXEC);
	assert_bytes(fd, 0, "one");
	assert_bytes(fd, GIB / 2, "two");
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, GIB);
	assert_true(st.st_blocks < 256);
	close(fd);
	assert_int_equal(fstatat(b, "sparse-link", &st, 0), 0);
	assert_true(st.st_blocks < 256);
	assert_int_equal(fstatat(b, "hole", &st, 0), 0);
	assert_int_equal(st.st_blocks, 0);
}

static int open_proc_root(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/root%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void private_trees_come_back(void **state)
{
	cleanup_close int newroot = -1, shm = -1, tmp = -1, new_shm = -1, new_tmp = -1;
	char *cwd = getcwd(NULL, 0), *cwd2;
	struct job j;
	struct stat st;

	opts.private_tmp = true;
	start(&j, fill_private);
	shm = open_proc_root(j.pid, "/dev/shm");
	tmp = open_proc_root(j.pid, P_tmpdir);
	assert_ok(record(&j));
	assert_int_equal(json_array_size(j.records), 0);
	assert_int_equal(json_array_size(j.warnings), 0);
	assert_int_equal(stat(at("files/shm.tar"), &st), 0);
	assert_true(st.st_size < 200000);
	remove_tree_at(scratch_fd, "new");
	assert_int_equal(mkdir(at("new"), 0755) | mkdir(at("new/dev"), 0755) | mkdir(at("new/dev/shm"), 0755) |
				 mkdir(at("new/tmp"), 0755),
			 0);
	newroot = open(at("new"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(files_unpack_private(newroot, j.filesfd, true, NULL, &err));
	new_shm = open(at("new/dev/shm"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	new_tmp = open(at("new/tmp"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_same_tree(shm, new_shm);
	assert_same_tree(tmp, new_tmp);
	cwd2 = getcwd(NULL, 0);
	assert_string_equal(cwd, cwd2);
	free(cwd);
	free(cwd2);
	remove_tree_at(scratch_fd, "new");
	end(&j);
}

static void fill_a_little(void)
{
	say(open("/dev/shm/a", O_RDWR | O_CREAT, 0600), "some bytes");
	say(make("d/rw", O_RDWR), "read and write");
}

static void a_damaged_archive_is_an_error(void **state)
{
	struct job j;
	struct stat st;
	char *tar;
	int root;

	start(&j, fill_a_little);
	assert_ok(record(&j));
	assert_int_equal(stat(at("files/shm.tar"), &st), 0);
	assert_int_equal(access(at("files/tmp.tar"), F_OK), -1);
	remove_tree_at(scratch_fd, "new");
	assert_int_equal(mkdir(at("new"), 0755) | mkdir(at("new/dev"), 0755) | mkdir(at("new/dev/shm"), 0755), 0);
	root = open(at("new"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(read_file_at(AT_FDCWD, at("files/shm.tar"), 1 << 20, &tar), st.st_size);
	srandom(1);
	for (int i = 0; i < 300; i++) {
		int fd = open(at("files/shm.tar"), O_WRONLY | O_TRUNC | O_CLOEXEC);
		size_t n = i % 2 ? (size_t)st.st_size : (size_t)random() % (size_t)st.st_size;

		for (int k = 0; k < 4; k++)
			tar[(size_t)random() % (size_t)st.st_size] ^= (char)(1 << random() % 8);
		assert_int_equal(write_all(fd, tar, n), 0);
		close(fd);
		files_unpack_private(root, j.filesfd, false, NULL, &err);
	}
	free(tar);
	close(root);
	remove_tree_at(scratch_fd, "new");
	end(&j);
}

static void trees_over_the_limit_are_refused(void **state)
{
	struct job j;

	opts.tmp_limit = 1000;
	start(&j, fill_a_little);
	assert_refused(record(&j), "CheckpointTmpLimit");
	assert_refused(files_can_record(&j.pid, 1, j.pid, &opts, NULL, &err), "CheckpointTmpLimit");
	end(&j);
	opts.tmp_limit = 2000;
	start(&j, fill_a_little);
	assert_ok(record(&j));
	end(&j);
}

static void fill_attributes(void)
{
	char value[1500];

	memset(value, 'x', sizeof(value));
	fill_a_little();
	put_text("/dev/shm/attributes", "");
	setxattr("/dev/shm/attributes", "user.much", value, sizeof(value), 0);
}

/* Of which a user can have megabytes where no file has a byte. */
static void attributes_count(void **state)
{
	struct job j;

	/* tmpfs has them since Linux 6.6 */
	put_text("/dev/shm/fsched-test", "");
	if (setxattr("/dev/shm/fsched-test", "user.x", "", 0, 0))
		skip();
	unlink("/dev/shm/fsched-test");
	opts.tmp_limit = 5000;
	start(&j, fill_attributes);
	assert_refused(record(&j), "CheckpointTmpLimit");
	assert_refused(files_can_record(&j.pid, 1, j.pid, &opts, NULL, &err), "CheckpointTmpLimit");
	end(&j);
	opts.tmp_limit = 8000;
	start(&j, fill_attributes);
	assert_ok(record(&j));
	end(&j);
}

static void nothing(void)
{
}

static void empty_trees_make_no_archive(void **state)
{
	struct job j;
	int root;

	opts.private_tmp = true;
	start(&j, nothing);
	assert_ok(record(&j));
	assert_int_equal(access(at("files/shm.tar"), F_OK), -1);
	assert_int_equal(access(at("files/tmp.tar"), F_OK), -1);
	root = open_proc_root(j.pid, "");
	assert_ok(files_unpack_private(root, j.filesfd, true, NULL, &err));
	close(root);
	end(&j);
}

static void nest(void)
{
	need(chdir("/dev/shm"));
	for (int i = 0; i < 300; i++) {
		need(mkdir("d", 0700));
		need(chdir("d"));
	}
	need(chdir("/"));
}

static void too_deep_a_tree_is_refused(void **state)
{
	struct job j;

	start(&j, nest);
	assert_refused(record(&j), "nested more than");
	end(&j);
}

static int setup(void **state)
{
	(void)state;
	return scratch_make(0755);
}

static int teardown(void **state)
{
	(void)state;
	scratch_remove();
	return 0;
}

/* Puts an empty scratch directory back that is missing below a directory of this mode and group. */
static int put_back_below(mode_t mode, gid_t gid)
{
	cleanup_free char *roots = xstrdup(at("scratches")), *path = xstrdup(at("scratches/job-7"));
	struct files_scratch_dir dir = { path, 0700 };
	const struct files_scratch s = { .v = &dir, .n = 1 };
	cleanup_json json_t *warnings = json_array();
	struct stat st;
	int rc;

	remove_tree_at(scratch_fd, "scratches");
	if (mkdir(roots, 0700) || chown(roots, 0, gid) || chmod(roots, mode))
		fail_msg("%s: %s", roots, strerror(errno));
	rc = files_scratch_put_back(&s, roots, scratch_fd, &cred, warnings, &err);
	if (rc == 0 && stat(path, &st) == 0)
		assert_int_equal(st.st_uid, USER);
	remove_tree_at(scratch_fd, "scratches");
	return rc;
}

/* Root gives the directory away that it has made. Where others can rename it, it could be another one by then. */
static void root_makes_scratch_only_where_nobody_can_rename_it(void **state)
{
	(void)state;
	assert_ok(put_back_below(0755, 0));
	assert_ok(put_back_below(0775, 0));
	assert_ok(put_back_below(01777, 4711));
	assert_ok(put_back_below(01775, 4711));
	assert_ok(put_back_below(0777, 4711)); /* by the user */
	assert_refused(put_back_below(0775, 4711), "job-7");
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_kinds_are_recorded_and_put_back),
		TEST(holes_stay_holes),
		TEST(writes_through_a_mapping_are_undone),
		TEST(a_rewritten_header_is_undone),
		TEST(a_changed_log_is_refused),
		TEST(a_replaced_log_is_accepted_if_it_fits),
		TEST(other_things_in_its_place_are_refused),
		TEST(only_the_users_rights_count),
		TEST(a_file_of_mode_0444_is_put_back),
		TEST(a_file_over_the_limit_is_not_saved),
		TEST(it_refuses_the_checkpoint),
		TEST(a_full_disk_fails_the_checkpoint),
		TEST(many_files_go_in_batches),
		TEST(what_puts_files_back_is_stopped),
		TEST(closed_files_are_put_back),
		TEST(a_large_closed_file_that_changed_is_refused),
		TEST(later_epochs_copy_little),
		TEST(a_large_file_that_does_not_grow),
		TEST(a_damaged_copy_is_not_passed_on),
		TEST(only_what_the_user_can_read_is_copied),
		TEST(other_things_in_a_journal_do_no_harm),
		TEST(the_limit_holds_for_closed_files),
		TEST(later_files_are_removed),
		TEST(a_file_that_was_moved_there_stays),
		TEST(thousands_of_files_do_not_lengthen_the_freeze),
		TEST(hostile_records_are_errors),
		TEST(percent_encoding_is_strict),
		TEST(private_trees_come_back),
		TEST(a_damaged_archive_is_an_error),
		TEST(trees_over_the_limit_are_refused),
		TEST(attributes_count),
		TEST(empty_trees_make_no_archive),
		TEST(too_deep_a_tree_is_refused),
		TEST(root_makes_scratch_only_where_nobody_can_rename_it),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, setup, teardown);
}
