#include "pod/apart_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "pod/mount_table.h"

#define APART_TABLE_MAX (64u << 20)

/* Kinds of file systems that hold no files of anybody. */
static bool apart_is_of_kernel(const char *type)
{
	static const char *const types[] = { "autofs",    "binfmt_misc", "bpf",     "cgroup",     "cgroup2",
					     "configfs",  "debugfs",     "devpts",  "devtmpfs",   "efivarfs",
					     "fusectl",   "hugetlbfs",   "mqueue",  "nfsd",       "nsfs",
					     "proc",      "pstore",      "resctrl", "rpc_pipefs", "securityfs",
					     "selinuxfs", "sysfs",       "tracefs" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i], type))
			return true;
	return false;
}

enum apart_kind apart_kind_of(const char *line, const char *type, const char *at)
{
	if (!strcmp(at, "/proc") || (!strcmp(type, "sysfs") && !strcmp(at, "/sys")))
		return APART_NODE;
	/* cgroups may be delegated to a user */
	if (path_is_within(at, "/sys"))
		return APART_READ_ONLY;
	/* the root of this process is another directory than that of the node's mount, or there is nothing to show */
	if (!strcmp(at, "/") || path_is_within(at, "/proc") || path_is_within(at, "/dev") || mount_is_users(line) ||
	    apart_is_of_kernel(type))
		return APART_MISSING;
	return APART_OVERLAY;
}

bool apart_has_handles(void)
{
	struct utsname u;
	int major = 0, minor = 0;

	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 6));
}

static unsigned long apart_flags_of(const char *options)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} known[] = { { "ro", MS_RDONLY }, { "nodev", MS_NODEV }, { "noexec", MS_NOEXEC } };
	unsigned long flags = 0;
	size_t n;

	for (const char *p = options; *p && *p != ' '; p += n + (p[n] == ',')) {
		n = strcspn(p, ", ");
		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			if (n == strlen(known[i].name) && !strncmp(p, known[i].name, n))
				flags |= known[i].flag;
	}
	return flags;
}

/* ID PARENT MAJOR:MINOR ROOT AT OPTIONS [TAG]… - TYPE SOURCE SUPEROPTIONS. False: not a line of that form. */
static bool apart_parse_line(const char *line, struct apart_mount *m)
{
	const char *dash = strstr(line, " - ");
	unsigned long long id;
	int at = 0, options = 0;

	if (!dash || sscanf(line, "%llu %*s %*s %*s %n%*s %n", &id, &at, &options) != 1 || !options ||
	    sscanf(dash, " - %63s", m->type) != 1)
		return false;
	m->id = id;
	m->at = unescape_octal(xasprintf("%.*s", (int)strcspn(line + at, " "), line + at));
	m->flags = apart_flags_of(line + options);
	m->kind = apart_kind_of(line, m->type, m->at);
	return true;
}

int apart_list_mounts(struct apart_mount **v, size_t *n, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t room = 0;
	char *line, *rest;

	*v = NULL;
	*n = 0;
	if (read_file_at(AT_FDCWD, "/proc/self/mountinfo", APART_TABLE_MAX, &text) < 0)
		return err_sys(err, errno, "cannot read /proc/self/mountinfo");
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		array_reserve(*v, *n, room);
		(*v)[*n] = (struct apart_mount){ 0 };
		if (!apart_parse_line(line, &(*v)[*n]))
			continue;
		if ((*v)[*n].kind == APART_MISSING)
			free((*v)[*n].at);
		else
			++*n;
	}
	return 0;
}

void apart_free_mounts(struct apart_mount *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i].at);
	free(v);
}

int apart_open_mount(struct apart_mount *m)
{
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
				      .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	cleanup_close int fd = (int)syscall(SYS_openat2, AT_FDCWD, m->at, &how, sizeof(how));
	struct statx st;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_MNT_ID, &st) ||
	    !(st.stx_mask & STATX_MNT_ID) || st.stx_mnt_id != m->id)
		return -1;
	m->directory = S_ISDIR(st.stx_mode);
	if (!m->directory && !S_ISREG(st.stx_mode))
		return -1;
	if (!m->directory && m->kind == APART_OVERLAY)
		m->kind = APART_READ_ONLY;
	return steal_fd(&fd);
}
