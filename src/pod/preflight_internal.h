/* Shared by the preflight*.c files only. */
#ifndef FSCHED_POD_PREFLIGHT_INTERNAL_H
#define FSCHED_POD_PREFLIGHT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/err.h"
#include "pod/kernel_files.h"
#include "pod/preflight.h"

struct owner {
	unsigned long inode;
	pid_t pid;
};

/* Which file system a device number is. */
struct device {
	uint64_t number;
	const struct kernel_fs *fs;
};

struct access_list;

/* A thread that could have confined itself with Landlock. */
struct suspect {
	pid_t pid, tid;
	bool comparable;
};

struct scan {
	const struct preflight_job *job;
	int proc;              /* /proc */
	pid_t leader;          /* host pid */
	struct owner *sockets; /* of all processes of the pod, sorted by inode before use */
	int n_sockets, room;
	struct device *devices;
	size_t n_devices;
	uint64_t pod_proc;          /* device number of the pod's /proc; 0: not known */
	struct access_list *access; /* what the user must be able to open again */
	struct suspect *suspects;   /* those of a process one after another */
	size_t n_suspects;
};

/* "process 17 (python3) WHAT, which cannot be checkpointed; ADVICE". Returns -1. */
int preflight_refuse(const struct scan *s, pid_t pid, struct err *err, const char *what, const char *advice);
/* The pid inside the pod, 0 if it is none of the job's. */
int preflight_inner(const struct scan *s, pid_t pid);

/* All checks: 0, or -1 with err. A process that has ended meanwhile passes. */

/* preflight_status.c: credentials, tracers, namespaces. */
int preflight_find_leader(struct scan *s, struct err *err);
int preflight_status(struct scan *s, pid_t pid, struct err *err);
int preflight_namespaces(const struct scan *s, pid_t pid, struct err *err);

/* preflight_fd.c: descriptors. Remembers sockets for preflight_tcp(), files for preflight_access(). */
int preflight_fds(struct scan *s, pid_t pid, struct err *err);
/* NULL: unknown. Otherwise what the process does that has such an object, by the text of a link in /proc. */
const char *preflight_known_object(const char *link);

/* preflight_maps.c: mappings, program, working and root directory. */
int preflight_maps(struct scan *s, pid_t pid, struct err *err);

/* preflight_files.c. One file that a process has, open as `as` ("descriptor 5", "a mapping"): */
struct open_file {
	pid_t pid;
	const char *as;
	const char *path; /* as the job sees it */
	unsigned mode;    /* of access(2): with what it is open; F_OK for O_PATH */
	bool own;         /* a restore opens it in this process: so with descriptors alone */
	int dirfd;        /* the link to it in /proc */
	const char *name;
};
int preflight_file(struct scan *s, const struct open_file *f, const struct statx *st, struct err *err);
/* What the link says of how it is open. -1: it is gone. */
int preflight_mode(int dirfd, const char *name);

/* preflight_access.c */
struct access_list *access_list_new(void);
void access_list_free(struct access_list *l);
void access_list_add(struct access_list *l, const struct open_file *f, const struct statx *st);
/* Asks for all of them, in the pod, with the user's rights. */
int preflight_access(const struct scan *s, struct err *err);

/* preflight_confined.c: whether one of the suspects is confined. */
int preflight_confined(const struct scan *s, struct err *err);

/* preflight_tcp.c: connections of the sockets seen so far. */
int preflight_tcp(struct scan *s, struct err *err);

#endif
