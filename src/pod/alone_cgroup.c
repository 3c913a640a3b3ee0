#include "pod/alone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "pod/pod_internal.h"

#define REMOVE_TRIES 200 /* the kernel counts processes out after they have ended */
#define REMOVE_US    10000

/* Hierarchies, as /proc/PID/cgroup names them; "" is version 2. */
static const char *const hierarchies[] = { "memory", "", "cpu" };

/* A file that is missing is left out. */
static bool cgroup_set(const char *dir, const char *file, const char *value)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, file);
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write_all(fd, value, strlen(value)) == 0;
}

static void cgroup_limit(struct alone_cgroup *c, const char *dir, uint64_t memory, bool low)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)memory);
	if (cgroup_set(dir, "memory.max", text) || cgroup_set(dir, "memory.limit_in_bytes", text)) {
		c->limits = true;
		cgroup_set(dir, "memory.swap.max", "0");
	}
	if (low && !cgroup_set(dir, "cpu.weight", "1"))
		cgroup_set(dir, "cpu.shares", "2");
}

static char *cgroup_path(const char *hierarchy, const char *name)
{
	cleanup_free char *root = pod_cgroup_directory(hierarchy, "/");

	return root ? xasprintf("%s/%s", root, name) : NULL;
}

void alone_cgroup_none(struct alone_cgroup *c)
{
	*c = (struct alone_cgroup){ .procs = { -1, -1, -1 } };
}

void alone_cgroup_make(struct alone_cgroup *c, const char *name, uint64_t memory, bool low)
{
	alone_cgroup_none(c);
	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		cleanup_free char *dir = cgroup_path(hierarchies[i], name);
		cleanup_free char *procs = dir ? xasprintf("%s/cgroup.procs", dir) : NULL;

		if (!dir || mkdir(dir, 0755))
			continue;
		c->procs[i] = open(procs, O_WRONLY | O_CLOEXEC);
		cgroup_limit(c, dir, memory, low);
		c->dirs[i] = steal_ptr(&dir);
	}
}

int alone_cgroup_enter(const struct alone_cgroup *c, struct err *err)
{
	cleanup_close int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (score < 0 || write(score, "1000", 4) != 4)
		return err_sys(err, errno, "cannot set oom_score_adj of the proof");
	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++)
		if (c->procs[i] >= 0 && write(c->procs[i], "0", 1) != 1)
			return err_sys(err, errno, "cannot move the proof to cgroup %s", c->dirs[i]);
	return 0;
}

bool alone_cgroup_was_full(const struct alone_cgroup *c)
{
	static const char *const files[] = { "memory.events", "memory.oom_control" };

	for (size_t i = 0; i < ARRAY_SIZE(hierarchies) * ARRAY_SIZE(files); i++) {
		const char *dir = c->dirs[i / ARRAY_SIZE(files)];
		cleanup_free char *path = dir ? xasprintf("%s/%s", dir, files[i % ARRAY_SIZE(files)]) : NULL;
		cleanup_free char *text = NULL;
		const char *count;

		if (!path || read_file_at(AT_FDCWD, path, 4096, &text) < 0)
			continue;
		count = strstr(text, "oom_kill ");
		if (count && atoi(count + strlen("oom_kill ")) > 0)
			return true;
	}
	return false;
}

static void cgroup_remove_dir(const char *dir)
{
	for (int i = 0; i < REMOVE_TRIES && rmdir(dir) && errno == EBUSY; i++)
		usleep(REMOVE_US);
}

void alone_cgroup_remove(struct alone_cgroup *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		cleanup_closep(&c->procs[i]);
		if (c->dirs[i])
			cgroup_remove_dir(c->dirs[i]);
		free(c->dirs[i]);
	}
	alone_cgroup_none(c);
}

void alone_cgroup_cleanup(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		cleanup_free char *dir = cgroup_path(hierarchies[i], name);

		if (dir)
			cgroup_remove_dir(dir);
	}
}
