/* What fsched-init does for a /tmp that is an image (pod/pod_tmp.h).
 *
 * The image is sparse, so its file system does not notice that the node's disk becomes full: data that the job has
 * written would be lost when the kernel writes them back. So fsched-init reserves, once a second, as many blocks of the
 * file system as the disk has not got, and the job gets ENOSPC.
 *
 * At the end of the job the kernel would write what is only in memory to the image before it unmounts it, although
 * nobody reads it any more. That could take longer than Slurm waits for the end of a step. */
#ifndef FSCHED_POD_TMP_GUARD_H
#define FSCHED_POD_TMP_GUARD_H

#include <stdbool.h>

/* Descriptors of fsched-init; the first is missing if the pod's /tmp is no image. */
enum { TMP_GUARD_ROOT_FD = 507, TMP_GUARD_IMAGE_FD, TMP_GUARD_RESERVED_FD, TMP_GUARD_DELAYED_FD, TMP_GUARD_END };

#define TMP_GUARD_MS 1000 /* from one tmp_guard_reserve() to the next */

/* To be called first: the descriptors do not get to other programs. Returns whether there is such a /tmp. */
bool tmp_guard_begin(void);
void tmp_guard_reserve(void);
/* Gives up the data that are not on the disk, if there are many. All processes of the pod, except pid 1, must have
 * ended. root, delayed: the first and the last of the descriptors. */
void tmp_guard_drop(int root, int delayed);

#endif
