#include "criu/dump_session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/util.h"

/* Opens path and returns "/proc/self/fd/N", which is valid in the pod's mount namespace as well. */
static char *dump_session_pin(struct dump_session *s, const char *path, struct err *err)
{
	int fd = s->n_paths < DUMP_PATHS_MAX ? open(path, O_PATH | O_CLOEXEC) : -1;

	if (fd < 0) {
		err_sys(err, errno, "cannot open %s", path);
		return NULL;
	}
	s->paths[s->n_paths++] = fd;
	return xasprintf("/proc/self/fd/%d", fd);
}

static int dump_session_build_command(struct dump_session *s, struct err *err)
{
	static const char prefix[] = "LD_PRELOAD=";
	int n = 0;

	s->argv = xcalloc(ARRAY_SIZE(s->bin->argv) + 4, sizeof(*s->argv));
	for (; s->bin->argv[n]; n++) {
		s->argv[n] = s->bin->argv[n][0] == '/' ? dump_session_pin(s, s->bin->argv[n], err)
						       : xstrdup(s->bin->argv[n]);
		if (!s->argv[n])
			return -1;
	}
	s->argv[n++] = xstrdup("--no-default-config");
	s->argv[n++] = xstrdup("swrk");
	s->fd_arg = s->argv[n] = xcalloc(1, DUMP_FD_ARG_LEN);
	s->envp = criu_envp(s->bin, s->dump->elide_parent != NULL, s->dump->elide_shared, s->remote_call[1],
			    s->dump->names_fd);
	for (int i = 0; s->envp[i]; i++) {
		cleanup_free char *old = NULL, *path = NULL;

		if (strncmp(s->envp[i], prefix, strlen(prefix)))
			continue;
		path = dump_session_pin(s, s->envp[i] + strlen(prefix), err);
		if (!path)
			return -1;
		old = s->envp[i];
		s->envp[i] = xasprintf("%s%s", prefix, path);
	}
	return 0;
}

static int dump_session_open_ns(pid_t pid, const char *name, struct err *err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err_sys(err, errno, "cannot open the pod's %s namespace (process %d)", name, pid);
	return fd;
}

static int dump_session_open_remote_call(struct dump_session *s, struct err *err)
{
	if (!s->dump->elide_parent)
		return 0;
	if (!s->bin->preload[0])
		return err_set(err, ENOENT, "the library that fsched loads into criu is missing");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->remote_call))
		return err_sys(err, errno, "cannot prepare descriptors for criu");
	s->dump->remote_call = s->remote_call[0];
	return 0;
}

int dump_session_open(struct dump_session *s, const struct criu_bin *b, struct criu_dump *d, struct err *err)
{
	*s = (struct dump_session){
		.bin = b,
		.dump = d,
		.pid_ns = -1,
		.mnt_ns = -1,
		.net_ns = -1,
		.uts_ns = -1,
		.relay = { -1, -1 },
		.remote_call = { -1, -1 },
		.null = -1,
		.errors = -1,
		.images_fd = d->images_fd,
		.work_fd = d->work_fd > 0 ? d->work_fd : d->images_fd,
	};
	if (dump_session_open_remote_call(s, err) || dump_session_build_command(s, err))
		return -1;
	s->pid_ns = dump_session_open_ns(s->dump->init, "pid", err);
	s->mnt_ns = s->pid_ns < 0 ? -1 : dump_session_open_ns(s->dump->init, "mnt", err);
	s->net_ns = s->mnt_ns < 0 ? -1 : dump_session_open_ns(s->dump->init, "net", err);
	s->uts_ns = s->net_ns < 0 ? -1 : dump_session_open_ns(s->dump->init, "uts", err);
	if (s->uts_ns < 0)
		return -1;
	s->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	s->errors = memfd_create("criu-stderr", MFD_CLOEXEC);
	if (s->null < 0 || s->errors < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->relay))
		return err_sys(err, errno, "cannot prepare descriptors for criu");
	return 0;
}

void dump_session_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void dump_session_close(struct dump_session *s)
{
	for (int i = 0; i < s->n_paths; i++)
		close(s->paths[i]);
	dump_session_close_fd(&s->pid_ns);
	dump_session_close_fd(&s->mnt_ns);
	dump_session_close_fd(&s->net_ns);
	dump_session_close_fd(&s->uts_ns);
	dump_session_close_fd(&s->null);
	dump_session_close_fd(&s->errors);
	dump_session_close_fd(&s->relay[0]);
	dump_session_close_fd(&s->relay[1]);
	dump_session_close_fd(&s->remote_call[0]);
	dump_session_close_fd(&s->remote_call[1]);
	criu_argv_free(s->argv);
	criu_argv_free(s->envp);
}
