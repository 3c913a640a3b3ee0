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

#include "base/io.h"
#include "base/util.h"
#include "pod/pod_hosts.h"

#define RECORD     "network"
#define HOSTS      "hosts"
#define SYS        "sys" /* in the pod's directory, while the pod's mounts are made */
#define RECORD_MAX 8192
#define SYSCTL_MAX 4096
#define OWN_NS     "/proc/thread-self/ns/net"

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

/* Returns a descriptor of a new namespace with a loopback interface. The caller is in its own again; if that fails, the
 * process must not go on. */
static int network_make_namespace(struct err *err)
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
		else if (network_raise_loopback(err))
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

static int network_save(const struct pod_spec *spec, struct err *err)
{
	cleanup_close int dir = network_open_dir(spec->dir, err);
	cleanup_free char *text = NULL, *hosts = NULL;

	if (dir < 0)
		return -1;
	text = xasprintf("%s %s\n", spec->net.hostname, spec->net.address);
	hosts = pod_hosts_text(spec->net.hostname, spec->net.address, err);
	if (!hosts)
		return -1;
	if (write_file_atomic(dir, RECORD, 0600, 0, text, strlen(text)) ||
	    write_file_atomic(dir, HOSTS, 0644, 0, hosts, strlen(hosts)))
		return err_sys(err, errno, "cannot write the pod's network into %s", spec->dir);
	return 0;
}

int pod_network_load(const char *dir, struct pod_network *net, struct err *err)
{
	cleanup_close int fd = network_open_dir(dir, err);
	cleanup_free char *text = NULL;

	memset(net, 0, sizeof(*net));
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (read_file_at(fd, RECORD, RECORD_MAX, &text) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot read %s/" RECORD, dir);
	if (sscanf(text, "%64s %15s", net->hostname, net->address) != 2)
		return err_set(err, EBADMSG, "%s/" RECORD " is damaged", dir);
	return 1;
}

/* ---- making --------------------------------------------------------------- */

int pod_network_make(struct pod_spec *spec, struct err *err)
{
	cleanup_close int ns = -1;

	if (!spec->net.hostname[0] && gethostname(spec->net.hostname, sizeof(spec->net.hostname) - 1))
		return err_sys(err, errno, "cannot read the name of the node");
	if (!spec->net.address[0])
		strcpy(spec->net.address, "127.0.0.1");
	ns = network_make_namespace(err);
	if (ns < 0 || network_save(spec, err))
		return -1;
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
	hosts = xasprintf("%s/" HOSTS, spec->dir);
	if (mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL) && errno != ENOENT)
		return err_sys(err, errno, "cannot mount %s on /etc/hosts of the pod", hosts);
	return network_mount_sys(spec, err);
}
