/* What a proof is kept apart by: the view of the files, the network, the calls that are refused. */
#include "unit.h"
#include "scratch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sched.h>

#include "base/util.h"
#include "files/files.h"
#include "files/names.h"
#include "pod/alone.h"
#include "pod/apart.h"
#include "pod/apart_mounts.h"
#include "pod/pod_network.h"
#include "trace/alone_filter.h"

static gid_t groups[1];
static const struct pod_cred nobody = { 65534, 65534, groups, 0 };
static unsigned overlays;

/* In a child, which is to change the process for good. */
static void in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define CHECK(what)                                                                                     \
	do                                                                                              \
		if (!(what)) {                                                                          \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, strerror(errno)); \
			return 1;                                                                       \
		}                                                                                       \
	while (0)

static void on_overlay(void *arg, int over, int lower)
{
	overlays++;
	files_seen_through(over, lower);
}

static void on_read_only(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

static int enter(struct apart *a)
{
	const struct apart_opts o = {
		.dir = at("pod"), .cred = &nobody, .room = 256 << 20, .overlaid = on_overlay, .read_only = on_read_only
	};
	struct pod_spec s = { .tmp_mount = -1 };
	struct err err = { 0 };

	snprintf(s.dir, sizeof(s.dir), "%s", o.dir);
	if (pod_prepare(&s, &err) == 0 && apart_enter(a, &o, &err) == 0)
		return 0;
	fprintf(stderr, "%s\n", err.text);
	return -1;
}

static int connect_to(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	cleanup_close int sk = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	return connect(sk, (struct sockaddr *)&un, sizeof(un));
}

static int id_of(const char *path, char id[NAME_ID])
{
	cleanup_close int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct name_fs fs;

	return fd < 0 || name_fs_of(fd, &fs) || name_id_of(&fs, fd, "", id) ? -1 : 0;
}

/* Files of the node as they are seen, what can be done to them, and what remains of it. */
static int view(void)
{
	char *was = NULL, dir[NAME_ID], file[NAME_ID], root[NAME_ID], now[NAME_ID];
	struct apart a;
	struct stat st, before;
	struct statvfs v;

	CHECK(stat(at("f"), &before) == 0);
	CHECK(id_of(at("d"), dir) == 0 && id_of(at("f"), file) == 0 && id_of("/", root) == 0);
	CHECK(enter(&a) == 0);
	CHECK(overlays > 0);
	CHECK(stat(at("f"), &st) == 0 && st.st_ino == before.st_ino && st.st_dev != before.st_dev);
	CHECK((was = get_text(at("f"))) && !strcmp(was, "before"));
	free(was);
	put_text(at("f"), "after");
	put_text(at("new"), "new");
	CHECK(rename(at("d"), at("e")) == 0 && mkdir(at("e/sub"), 0700) == 0);
	/* The IDs are those of the node's files, also after a change. */
	CHECK(id_of(at("e"), now) == 0 && !strcmp(now, dir));
	CHECK(id_of(at("f"), now) == 0 && !strcmp(now, file));
	CHECK(id_of("/", now) == 0 && !strcmp(now, root));
	CHECK(unlink(at("g")) == 0);
	CHECK(connect_to(at("socket")) < 0 && errno == ECONNREFUSED);
	/* the pod's directory is the node's */
	put_text(at("pod/mark"), "mark");
	CHECK(statvfs("/", &v) == 0 && (v.f_flag & ST_NOSUID) && (v.f_flag & ST_NODEV));
	CHECK(access("/dev/null", W_OK) == 0 && access("/dev/urandom", R_OK) == 0 && access("/dev/kmsg", F_OK) < 0);
	CHECK(access("/proc/self/exe", F_OK) == 0 && access("/dev/shm", F_OK) == 0);
	CHECK(!apart_is_full(&a));
	apart_leave(&a);
	CHECK((was = get_text(at("f"))) && !strcmp(was, "before"));
	free(was);
	CHECK(access(at("new"), F_OK) < 0 && access(at("g"), F_OK) == 0 && access(at("d"), F_OK) == 0);
	CHECK(access(at("pod/mark"), F_OK) == 0 && connect_to(at("socket")) == 0);
	CHECK(stat(at("f"), &st) == 0 && st.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
	return 0;
}

/* A user must not have himself what root alone has: changes of the node's mounts do not appear, and his files do. */
static int as_user(void)
{
	struct apart a;

	CHECK(chmod(at("f"), 0600) == 0 && chown(at("f"), nobody.uid, nobody.gid) == 0);
	CHECK(enter(&a) == 0);
	CHECK(setgroups(0, NULL) == 0 && setgid(nobody.gid) == 0 && setuid(nobody.uid) == 0);
	CHECK(open(at("f"), O_RDWR | O_CLOEXEC) >= 0);
	CHECK(open(at("pod"), O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(open("/dev/loop-control", O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(open("/dev/null", O_RDWR | O_CLOEXEC) >= 0);
	return 0;
}

static int full(void)
{
	cleanup_free char *text = xcalloc(1, 65537);
	struct apart a;
	int fd, more = 1;

	CHECK(enter(&a) == 0);
	fd = open(at("large"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	memset(text, 'x', 65536);
	for (int i = 0; more && i < 8192; i++)
		more = write(fd, text, 65536) == 65536;
	CHECK(!more && errno == ENOSPC && apart_is_full(&a));
	close(fd);
	apart_leave(&a);
	CHECK(access(at("large"), F_OK) < 0);
	return 0;
}

static int connect_tcp(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(6817) };
	cleanup_close int sk = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, address, &in.sin_addr);
	return connect(sk, (struct sockaddr *)&in, sizeof(in));
}

static int network(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(4242) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(4243) };
	struct pod_spec s = { .net_ns = -1 };
	int sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), sk6, one;

	CHECK(alone_network_make(&s, NULL) == 0 && s.private_net && setns(s.net_ns, CLONE_NEWNET) == 0);
	pod_network_close(&s);
	close(sk);
	sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, "10.20.30.40", &in.sin_addr);
	CHECK(bind(sk, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(sk, 1) == 0);
	one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(connect(one, (struct sockaddr *)&in, sizeof(in)) == 0);
	CHECK(connect_tcp("10.20.30.41") < 0 && errno == ECONNREFUSED);
	CHECK(connect_tcp("8.8.8.8") < 0 && errno == ECONNREFUSED);
	sk6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET6, "2001:db8::7", &in6.sin6_addr);
	CHECK(sk6 < 0 || bind(sk6, (struct sockaddr *)&in6, sizeof(in6)) == 0);
	return 0;
}

static int filter(void)
{
	const struct sock_fprog program = { ARRAY_SIZE(alone_program), (struct sock_filter *)(uintptr_t)alone_program };

	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
	CHECK(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -3, 0) < 0 && errno == EPERM);
	CHECK(syscall(SYS_add_key, "user", "x", "y", 1, -3) < 0 && errno == EPERM);
	CHECK(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM);
	CHECK(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0 && socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
	return 0;
}

static void a_view_of_its_own(void **state)
{
	in_child(view);
	apart_cleanup(at("pod"));
	assert_int_equal(access(at("pod.changes"), F_OK), -1);
}

static void the_view_of_a_user(void **state)
{
	in_child(as_user);
	apart_cleanup(at("pod"));
}

static void a_view_that_is_full(void **state)
{
	in_child(full);
	apart_cleanup(at("pod"));
}

static void a_network_alone(void **state)
{
	in_child(network);
}

static void calls_that_are_refused(void **state)
{
	in_child(filter);
}

static void kinds(void **state)
{
	static const struct {
		const char *type, *at, *super;
		enum apart_kind kind;
	} cases[] = {
		{ "ext4", "/home", "rw", APART_OVERLAY },
		{ "nfs4", "/home/a b", "rw", APART_OVERLAY },
		{ "tmpfs", "/run", "rw", APART_OVERLAY },
		{ "overlay", "/mnt", "rw", APART_OVERLAY },
		{ "ext4", "/", "rw", APART_MISSING },
		{ "proc", "/proc", "rw", APART_NODE },
		{ "proc", "/chroot/proc", "rw", APART_MISSING },
		{ "sysfs", "/sys", "rw", APART_NODE },
		{ "cgroup2", "/sys/fs/cgroup", "rw", APART_READ_ONLY },
		{ "tmpfs", "/dev/shm", "rw", APART_MISSING },
		{ "devtmpfs", "/dev", "rw", APART_MISSING },
		{ "autofs", "/net", "rw", APART_MISSING },
		{ "fuse.sshfs", "/home/u/m", "rw,user_id=1000,group_id=1000", APART_MISSING },
		{ "fuse.glusterfs", "/data", "rw,user_id=0,group_id=0", APART_OVERLAY },
		{ "nsfs", "/run/netns/x", "rw", APART_MISSING },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *line = xasprintf("36 35 98:0 / %s rw,noatime - %s none %s", cases[i].at,
						    cases[i].type, cases[i].super);

		if (apart_kind_of(line, cases[i].type, cases[i].at) != cases[i].kind)
			fail_msg("%s", line);
	}
}

static int listener = -1;

static int prepare(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (scratch_make(0755))
		return -1;
	put_text(at("f"), "before");
	put_text(at("g"), "g");
	if (mkdir(at("d"), 0755))
		return -1;
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", at("socket"));
	return bind(listener, (struct sockaddr *)&un, sizeof(un)) || listen(listener, 5) ? -1 : 0;
}

static int finish(void **state)
{
	close(listener);
	pod_cleanup(at("pod"));
	scratch_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(a_view_of_its_own),
		cmocka_unit_test(the_view_of_a_user),
		cmocka_unit_test(a_view_that_is_full),
		cmocka_unit_test(a_network_alone),
		cmocka_unit_test(calls_that_are_refused),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, prepare, finish);
}
