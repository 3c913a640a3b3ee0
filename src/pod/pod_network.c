#include "pod/pod_network.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/helper.h"
#include "base/io.h"
#include "base/util.h"
#include "pod/pod_hosts.h"
#include "pod/pod_internal.h"

#define RECORD       "network"
#define ANSWER_MAX   1024
#define SYS          "sys" /* in the pod's directory, while its mounts are made */
#define RECORD_MAX   8192
#define SYSCTL_MAX   4096
#define OWN_NS       "/proc/thread-self/ns/net"
#define BOOT_ID      "/proc/sys/kernel/random/boot_id"
#define HELPER       "fsched-net"
/* Others may be at it, one at a time. The end of a job does not wait for long: the kernel removes the link too, and the
 * next pod that ends the rules. */
#define UP_WAIT_US   INT64_C(20000000)
#define DOWN_WAIT_US INT64_C(2000000)

/* Settings that a new network namespace does not inherit, and that a job may notice. */
static const char *const sysctls[] = {
	"/proc/sys/net/core/somaxconn",
	"/proc/sys/net/ipv4/ip_local_port_range",
	"/proc/sys/net/ipv4/ip_local_reserved_ports",
	"/proc/sys/net/ipv4/ip_unprivileged_port_start",
	"/proc/sys/net/ipv4/ping_group_range",
	"/proc/sys/net/ipv4/tcp_keepalive_intvl",
	"/proc/sys/net/ipv4/tcp_keepalive_probes",
	"/proc/sys/net/ipv4/tcp_keepalive_time",
	"/proc/sys/net/ipv4/tcp_rmem",
	"/proc/sys/net/ipv4/tcp_wmem",
};

/* ---- the namespace ------------------------------------------------------- */

static void network_read_sysctls(char *values[ARRAY_SIZE(sysctls)])
{
	for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++)
		if (read_file_at(AT_FDCWD, sysctls[i], SYSCTL_MAX, &values[i]) < 0)
			values[i] = NULL;
}

/* Frees the values. A setting that this kernel does not know stays as it is. */
static void network_write_sysctls(char *values[ARRAY_SIZE(sysctls)])
{
	for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++) {
		cleanup_close int fd = values[i] ? open(sysctls[i], O_WRONLY | O_CLOEXEC) : -1;

		if (fd >= 0 && write_all(fd, values[i], strlen(values[i])))
			errno = 0;
		free(values[i]);
	}
}

static int network_raise_loopback(struct err *err)
{
	cleanup_close int sk = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo" };

	if (sk < 0 || ioctl(sk, SIOCGIFFLAGS, &r))
		return err_sys(err, errno, "cannot examine the loopback interface of the pod");
	r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
	if (ioctl(sk, SIOCSIFFLAGS, &r))
		return err_sys(err, errno, "cannot start the loopback interface of the pod");
	return 0;
}

int pod_network_namespace(int (*more)(struct err *err), struct err *err)
{
	cleanup_close int own = open(OWN_NS, O_RDONLY | O_CLOEXEC), made = -1;
	char *values[ARRAY_SIZE(sysctls)];

	if (own < 0)
		return err_sys(err, errno, "cannot open %s", OWN_NS);
	network_read_sysctls(values);
	if (unshare(CLONE_NEWNET)) {
		err_sys(err, errno, "cannot make a network namespace for the pod");
	} else {
		made = open(OWN_NS, O_RDONLY | O_CLOEXEC);
		if (made < 0)
			err_sys(err, errno, "cannot open %s", OWN_NS);
		else if (network_raise_loopback(err) || (more && more(err)))
			close(steal_fd(&made));
	}
	network_write_sysctls(values); /* into the new namespace, or unchanged into the old one */
	if (setns(own, CLONE_NEWNET)) {
		fprintf(stderr, "fsched: cannot return to the network namespace of the node: %s\n", strerror(errno));
		abort();
	}
	return steal_fd(&made);
}

/* ---- the pod's directory ------------------------------------------------- */

static int network_open_dir(const char *dir, struct err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_sys(err, errno, "cannot open the pod's directory %s", dir) : fd;
}

/* What an end of the node needs to be removed. */
struct network_link {
	char name[16];
	unsigned index;
	char boot[40];      /* after a reboot another end may have that name and index */
	char libexec[4096]; /* directory of the program that made it */
};

static void network_read_boot_id(char boot[40])
{
	cleanup_free char *text = NULL;

	snprintf(boot, 40, "%.36s", read_file_at(AT_FDCWD, BOOT_ID, 64, &text) > 0 ? text : "-");
}

/* Without fsync: after a crash of the node there is no pod that the file describes. */
static int network_write_file(int dir, const char *name, mode_t mode, const char *text)
{
	cleanup_close int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);

	return fd < 0 || fchmod(fd, mode) || write_all(fd, text, strlen(text)) ? -1 : 0;
}

static int network_save(const struct pod_spec *spec, const struct network_link *l, struct err *err)
{
	cleanup_close int dir = network_open_dir(spec->dir, err);
	cleanup_free char *text = NULL, *hosts = NULL;

	if (dir < 0)
		return -1;
	text = xasprintf("%s %s %s %u %s %s\n", spec->net.hostname, spec->net.address, l->name, l->index, l->boot,
			 l->libexec);
	hosts = pod_hosts_text(spec->net.hostname, spec->net.address, err);
	if (!hosts)
		return -1;
	if (network_write_file(dir, POD_HOSTS, 0644, hosts) || network_write_file(dir, RECORD, 0600, text))
		return err_sys(err, errno, "cannot write the pod's network into %s", spec->dir);
	return 0;
}

static int network_load(const char *dir, struct pod_network *net, struct network_link *l, struct err *err)
{
	cleanup_close int fd = network_open_dir(dir, err);
	cleanup_free char *text = NULL;

	memset(net, 0, sizeof(*net));
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (read_file_at(fd, RECORD, RECORD_MAX, &text) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot read %s/" RECORD, dir);
	if (sscanf(text, "%64s %15s %15s %u %39s %4095[^\n]", net->hostname, net->address, l->name, &l->index, l->boot,
		   l->libexec) != 6)
		return err_set(err, EBADMSG, "%s/" RECORD " is damaged", dir);
	return 1;
}

int pod_network_load(const char *dir, struct pod_network *net, struct err *err)
{
	struct network_link l;

	return network_load(dir, net, &l, err);
}

/* ---- the link to the node ------------------------------------------------- */

/* argv[0]: the program's path. keep: a descriptor for it, -1 = none. *answer, to be freed: its line, which begins with
 * "ok". */
static int network_run_helper(char *const *argv, int keep, int64_t wait_us, char **answer, struct err *err)
{
	const struct helper h = { .argv = argv, .keep = keep, .until = now_us() + wait_us, .answer_max = ANSWER_MAX };
	int status;

	*answer = helper_run(&h, &status, err);
	if (!*answer)
		return -1;
	(*answer)[strcspn(*answer, "\n")] = '\0';
	if (!strncmp(*answer, "failed ", 7))
		return err_set(err, 0, "%s", *answer + 7);
	return !strncmp(*answer, "ok", 2)
		       ? 0
		       : err_set(err, 0, "%s gave no answer (is fsched installed completely?)", argv[0]);
}

static int network_link(struct pod_spec *spec, int ns, const char *range, struct network_link *l, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/" HELPER, spec->libexec), *fd = xasprintf("%d", ns);
	cleanup_free char *range_copy = xstrdup(range);
	char address[16];
	char *argv[] = { path, (char[]){ "up" }, fd, range_copy, address, spec->net.hostname, NULL };
	cleanup_free char *answer = NULL;

	snprintf(address, sizeof(address), "%s", spec->net.address[0] ? spec->net.address : "-");
	memcpy(l->libexec, spec->libexec, sizeof(l->libexec));
	network_read_boot_id(l->boot);
	if (network_run_helper(argv, ns, UP_WAIT_US, &answer, err))
		return -1;
	if (sscanf(answer, "ok %15s %u %15s", l->name, &l->index, spec->net.address) != 3)
		return err_set(err, EBADMSG, "%s answered \"%s\"", path, answer);
	return 0;
}

static void network_unlink(const struct network_link *l)
{
	cleanup_free char *path = xasprintf("%s/" HELPER, l->libexec), *index = xasprintf("%u", l->index);
	cleanup_free char *name = xstrdup(l->name);
	char *argv[] = { path, (char[]){ "down" }, name, index, NULL };
	cleanup_free char *answer = NULL;

	network_run_helper(argv, -1, DOWN_WAIT_US, &answer, NULL);
}

/* The pod will use the node's network. */
static void network_forget(const char *dir)
{
	cleanup_close int fd = network_open_dir(dir, NULL);

	if (fd >= 0)
		unlinkat(fd, RECORD, 0);
}

void pod_network_remove(const char *dir)
{
	struct pod_network net;
	struct network_link l;
	char boot[40];

	network_read_boot_id(boot);
	if (network_load(dir, &net, &l, NULL) > 0 && !strcmp(boot, l.boot))
		network_unlink(&l);
}

/* ---- making --------------------------------------------------------------- */

int pod_network_make(struct pod_spec *spec, const char *range, struct err *err)
{
	cleanup_close int ns = -1;
	struct network_link l;

	if (!spec->net.hostname[0] && gethostname(spec->net.hostname, sizeof(spec->net.hostname) - 1))
		return err_sys(err, errno, "cannot read the name of the node");
	ns = pod_network_namespace(NULL, err);
	if (ns < 0 || network_link(spec, ns, range, &l, err))
		return -1;
	if (network_save(spec, &l, err)) {
		network_unlink(&l);
		network_forget(spec->dir);
		return -1;
	}
	spec->net_ns = steal_fd(&ns);
	spec->private_net = true;
	return 0;
}

void pod_network_close(struct pod_spec *spec)
{
	if (spec->private_net)
		cleanup_closep(&spec->net_ns);
	spec->net_ns = -1;
}

/* ---- in pid 1 ------------------------------------------------------------- */

int pod_network_enter(const struct pod_spec *spec, struct err *err)
{
	if (!spec->private_net)
		return 0;
	if (setns(spec->net_ns, CLONE_NEWNET))
		return err_sys(err, errno, "cannot enter the network namespace of the pod");
	if (unshare(CLONE_NEWUTS))
		return err_sys(err, errno, "cannot make a UTS namespace for the pod");
	if (sethostname(spec->net.hostname, strlen(spec->net.hostname)))
		return err_sys(err, errno, "cannot give the pod the host name %s", spec->net.hostname);
	return 0;
}

/* Programs find the network interfaces in these directories (UCX does), which show those of the namespace in which /sys
 * was mounted. */
static int network_mount_sys(const struct pod_spec *spec, struct err *err)
{
	static const char *const parts[] = { "class/net", "devices/virtual/net" };
	cleanup_free char *place = xasprintf("%s/" SYS, spec->dir);
	int rc = 0;

	if (mkdir(place, 0700) && errno != EEXIST)
		return err_sys(err, errno, "cannot make %s", place);
	if (mount("sysfs", place, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return err_sys(err, errno, "cannot mount /sys of the pod");
	for (size_t i = 0; i < ARRAY_SIZE(parts) && rc == 0; i++) {
		cleanup_free char *from = xasprintf("%s/%s", place, parts[i]);
		cleanup_free char *to = xasprintf("/sys/%s", parts[i]);

		rc = mount(from, to, NULL, MS_BIND, NULL);
		if (rc && (errno == ENOENT || errno == ENOTDIR))
			rc = 0; /* no /sys on this node */
		if (rc)
			err_sys(err, errno, "cannot mount %s of the pod", to);
	}
	umount2(place, MNT_DETACH);
	rmdir(place);
	return rc;
}

int pod_network_mount(const struct pod_spec *spec, struct err *err)
{
	cleanup_free char *hosts = NULL;

	if (!spec->private_net)
		return 0;
	hosts = xasprintf("%s/" POD_HOSTS, spec->dir);
	if (mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL) && errno != ENOENT)
		return err_sys(err, errno, "cannot mount %s on /etc/hosts of the pod", hosts);
	return network_mount_sys(spec, err);
}
