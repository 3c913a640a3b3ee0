/* The private /tmp of a pod as a file system of its own (PodTmp = image): a sparse ext4 image on the node's disk, on a
 * loop device. In a file system that is the pod's alone the inode numbers are free, so a restore gives each file the
 * number that it had. Programs remember them: SQLite does not write to a database whose inode has changed.
 *
 * The pod's directory then holds, for root alone:
 *
 *   tmp.img    the image
 *   tmp.loop   its size and the number of the loop device, for a checkpoint of the job and for the removal
 *
 * Only the pod's mount namespace has it mounted. When the last process of the pod has ended, the kernel unmounts it and
 * detaches the loop device (LO_FLAGS_AUTOCLEAR), whatever became of the agent.
 *
 * Functions that return int return 0, or -1 with err, unless they say otherwise. */
#ifndef FSCHED_POD_POD_TMP_H
#define FSCHED_POD_POD_TMP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "pod/pod.h"

/* Makes the image for a pod whose directory pod_prepare() has made, and a mount of it that is nowhere yet
 * (spec->tmp_mount). spec->tmp says what an epoch has recorded; with size 0 the file system is as large as the free
 * space of the pod's directory, but not larger than most (PodTmpSize, 0 = no limit). After -1 nothing is left of it,
 * and the pod can be started with a directory. */
int pod_tmp_make(struct pod_spec *spec, uint64_t most, struct err *err);
/* Mounts it on a directory of the caller instead of in a pod. */
int pod_tmp_move(struct pod_spec *spec, const char *at, struct err *err);
/* Closes spec->tmp_mount, if there is one, when pid 1 has it. */
void pod_tmp_close(struct pod_spec *spec);

/* Fills *tmp with what the pod in dir has. Returns 1, or 0 if its /tmp is a directory, or -1. */
int pod_tmp_load(const char *dir, struct pod_tmp *tmp, struct err *err);

/* Removes the loop device of the pod whose directory is name below dirfd. Returns false while it is still in use. */
bool pod_tmp_remove(int dirfd, const char *name);
/* Takes the data away from an image that is in use although its pod has ended: gives the space back, and nothing can be
 * written to it any more. */
void pod_tmp_empty(int dirfd, const char *name);

/* In pid 1: mounts it on /tmp and opens the descriptors of pod/tmp_guard.h. */
int pod_tmp_mount(const struct pod_spec *spec, struct err *err);
/* Appends those descriptors to the *n that fsched-init gets. */
#define POD_TMP_FDS 4
void pod_tmp_keep(const struct pod_spec *spec, int *kept, int *n);

/* Opens the file of sysfs that sets the number of the next inode (root only; an unused number is taken as it is, and
 * the next free one otherwise). Returns a descriptor, or -1 with errno. */
int pod_tmp_open_goal(const struct pod_tmp *tmp);
/* Opens "stat" of the loop device in sysfs, if the kernel counts its writes. A descriptor, or -1. */
int pod_tmp_open_stat(const struct pod_tmp *tmp);
dev_t pod_tmp_device(const struct pod_tmp *tmp); /* st_dev of the files */

#endif
