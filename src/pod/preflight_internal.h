/* Shared by the preflight*.c files only. preflight.c calls the checks; the checks use preflight_scan.c. */
#ifndef FSCHED_POD_PREFLIGHT_INTERNAL_H
#define FSCHED_POD_PREFLIGHT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/err.h"
#include "pod/kernel_files.h"
#include "pod/mount_table.h"
#include "pod/preflight.h"

#define LEADER_PID 2 /* of fsched-leader inside the pod */

/* A process that has a socket open. */
struct socket_owner {
	unsigned long inode;
	pid_t pid;
};

/* The file system of a device number. */
struct device {
	uint64_t number;
	const struct kernel_fs *fs; /* NULL: an ordinary file system */
};

struct access_list;

/* A thread with no_new_privs, which could have confined itself with Landlock. */
struct suspect {
	pid_t pid, tid;
	bool comparable; /* all its group ids are the job's, so kcmp() with the leader gives an answer */
};

struct watch_file;
struct watch_list {
	struct watch_file *v;
	size_t n, room;
};
#define PATH_SHOWN 200 /* bytes of a path in a message */

/* A descriptor of a terminal of the pod. */
struct tty_fd {
	pid_t pid;
	char fd[12];
	bool master;
	int index; /* N of /dev/pts/N */
};

struct preflight_scan {
	const struct preflight_job *job;
	int proc;                     /* /proc of the node */
	pid_t leader;                 /* host pid */
	struct socket_owner *sockets; /* of all processes of the pod; preflight_tcp() sorts them by inode */
	size_t n_sockets, sockets_room;
	struct tty_fd *ttys;
	size_t n_ttys, ttys_room;
	struct device *devices; /* seen so far */
	size_t n_devices, devices_room;
	struct mount_table *pod_mounts, *own_mounts; /* read when they are first needed */
	uint64_t pod_proc;                           /* device number of the pod's /proc; 0: not known yet */
	struct access_list *access;                  /* files that the user must be able to open again */
	struct watch_list nameless, watches;         /* open files without a name; files that inotify watches */
	struct suspect *suspects;                    /* the threads of one process are next to each other */
	size_t n_suspects, suspects_room;
};

/* ---- preflight_scan.c: for the checks ---- */

/* Sets err to "process 17 (python3) WHAT, which cannot be checkpointed; ADVICE"; advice may be "". Returns -1. */
int preflight_refuse(pid_t pid, struct err *err, const char *what, const char *advice);
/* The pid inside the pod of a host pid, 0 if it is not a process of the job. */
int preflight_inner(const struct preflight_scan *s, pid_t pid);
/* Sets s->leader: pid 2 of the pod, whose namespaces all other processes must share. 0 or -1. */
int preflight_find_leader(struct preflight_scan *s, struct err *err);
/* What a process does that has an object of this kind ("uses a GPU"), by the text of a link in /proc/PID/fd or of a
 * line in /proc/PID/maps. NULL: not one of the kinds that cannot be checkpointed. */
const char *preflight_known_object(const char *link);

/* ---- the checks. 0, or -1 with err. A process that has ended meanwhile passes. ---- */

/* preflight_status.c: credentials, tracers, threads; namespaces. */
int preflight_status(struct preflight_scan *s, pid_t pid, struct err *err);
/* Credentials of the threads of pid alone; remembers those that could have confined themselves. */
int preflight_suspects(struct preflight_scan *s, pid_t pid, struct err *err);
int preflight_namespaces(const struct preflight_scan *s, pid_t pid, struct err *err);

/* preflight_fd.c: descriptors. Adds sockets to s->sockets and files to s->access. */
int preflight_fds(struct preflight_scan *s, pid_t pid, struct err *err);

/* preflight_maps.c: mappings, program, working and root directory. Adds files to s->access. */
int preflight_maps(struct preflight_scan *s, pid_t pid, struct err *err);

/* preflight_files.c: one file that a process has open or mapped. Adds it to s->access. */
struct preflight_file {
	pid_t pid;        /* host pid of the process */
	const char *as;   /* how it has the file: "descriptor 5", "a mapping" */
	const char *path; /* as the job sees it */
	unsigned mode;    /* bits of access(2) for which it is open; F_OK for O_PATH */
	bool own;         /* a restore opens the file in this process; true for descriptors only */
	int dirfd;        /* directory and name of the link in /proc to the open file */
	const char *name;
};
int preflight_check_file(struct preflight_scan *s, const struct preflight_file *f, const struct statx *st,
			 struct err *err);
/* Refuses a file whose path the kernel cannot tell (ENAMETOOLONG); as: like preflight_file.as. Returns -1. */
int preflight_too_long(pid_t pid, const char *as, struct err *err);
/* The access(2) bits for which the file of such a link is open, by the mode of the link. -1: the link is gone. */
int preflight_mode(int dirfd, const char *name);

/* preflight_watch.c: inotify watches. The first two functions remember an open file without a link, and the watches of
 * a descriptor. */
void preflight_remember_nameless(struct preflight_scan *s, pid_t pid, const struct statx *st, const char *path);
void preflight_remember_watches(struct preflight_scan *s, pid_t pid, const char *fd);
int preflight_watches(const struct preflight_scan *s, struct err *err);
void watch_list_free(struct watch_list *l);

/* preflight_tty.c: one descriptor, which may be that of a terminal. Adds it to s->ttys. */
int preflight_tty(struct preflight_scan *s, const struct preflight_file *f, const struct statx *st, struct err *err);
/* Whether the job has both ends of each of s->ttys. */
int preflight_tty_pairs(const struct preflight_scan *s, struct err *err);

/* preflight_access.c: the list of files to be opened again, and the question to the kernel, asked in the pod with the
 * user's rights. */
struct access_list *access_list_new(void);
void access_list_free(struct access_list *l);
void access_list_add(struct access_list *l, const struct preflight_file *f, const struct statx *st);
int preflight_access(const struct preflight_scan *s, struct err *err);

/* preflight_confined.c: whether one of s->suspects is confined. */
int preflight_confined(const struct preflight_scan *s, struct err *err);

/* preflight_tcp.c: the connections of s->sockets. */
int preflight_tcp(struct preflight_scan *s, struct err *err);

#endif
