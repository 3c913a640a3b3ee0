/* Which open files of the kernel's own file systems (procfs, sysfs, ...) can be opened again when the job is restored.
 *
 * A restored file is opened by a process that has the job's user and no capability, before the threads of the job
 * exist. What such a process cannot open, and what would not be the same file, is no part of a checkpoint. Pure rules:
 * whether the user may open a file by its mode is asked elsewhere (preflight_access.c). */
#ifndef FSCHED_POD_KERNEL_FILES_H
#define FSCHED_POD_KERNEL_FILES_H

#include <stdbool.h>
#include <stddef.h>

struct kernel_fs;

/* By the magic number of statfs(), and by the type in /proc/PID/mountinfo. NULL: an ordinary file system. */
const struct kernel_fs *kernel_fs_by_magic(unsigned long magic);
const struct kernel_fs *kernel_fs_by_type(const char *type);
bool kernel_fs_is_proc(const struct kernel_fs *fs);

struct kernel_file {
	const struct kernel_fs *fs;
	const char *path; /* as the job sees it */
	bool writes;      /* open for writing */
	bool other_proc;  /* of a procfs, but not of the one that the pod has at /proc */
	int holder;       /* pid inside the pod of the process that has it open; 0: several, or not known */
	const int *pids;  /* inside the pod, of all processes of the job */
	size_t n_pids;
};

/* NULL: it can be opened again, if its mode allows it. Else why not, for a sentence: "... (a file of sysfs that is open
 * for writing)"; buf: room for it. */
const char *kernel_file_obstacle(const struct kernel_file *f, char *buf, size_t len);

#endif
