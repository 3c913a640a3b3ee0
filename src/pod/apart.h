/* A process that is apart: it and its children see every file system of the node through an overlay, so that nothing
 * that they change reaches the node's files. What they change goes to a file system of limited size, which disappears
 * with them. For a proof (worker/prove.c).
 *
 *   directories of file systems   overlays; the node's file is the lower layer
 *   mounted files                 read-only
 *   /proc                         the node's; a pod covers it by its own
 *   /sys and below                the node's; what is mounted below is read-only
 *   /dev                          of its own, with the usual devices alone
 *   file systems of users (FUSE)  missing, and so are kinds that are no file systems elsewhere than below /sys
 *
 * A Unix socket of the node cannot be reached by its path, since the kernel finds a listening socket by its inode, and
 * an overlay has inodes of its own. Nothing is setuid there, and later mounts of the node do not appear.
 *
 * Functions that return int return 0, or -1 with err, unless they say otherwise. */
#ifndef FSCHED_POD_APART_H
#define FSCHED_POD_APART_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "pod/pod.h"

struct apart_opts {
	const char *dir; /* a pod's directory, pod_prepare() has made it. It remains as it is on the node, writable for
			    root */
	const struct pod_cred *cred; /* with whose ids a file server is asked: it may refuse root */
	uint64_t room;               /* bytes for changes; less if the disk has less */
	/* Called for each overlay, with descriptors of its root and of that of the lower layer. */
	void (*overlaid)(void *arg, int over, int lower);
	/* Called with a sentence for each file system that is read-only because no overlay is possible there. */
	void (*read_only)(void *arg, const char *text);
	void *arg;
};

struct apart {
	int host;                /* the mount namespace that the process comes from; -1: it is not apart */
	struct pod_spec changes; /* the file system for changes; its tmp_mount is closed */
	int changes_fd;          /* its root; -1 */
};

/* The caller has no threads, and is in the mount namespace of the node. On failure it is there again. */
int apart_enter(struct apart *a, const struct apart_opts *o, struct err *err);
/* Whether there was no room left for changes, or too little to tell. */
bool apart_is_full(const struct apart *a);
/* Returns to the mount namespace of the node. Does nothing if the process is not apart. If that fails, the process
 * ends. */
void apart_leave(struct apart *a);
/* Removes what a process that was apart has left of its changes. dir: as in struct apart_opts. To be called on the
 * node. */
void apart_cleanup(const char *dir);

#endif
