/* Which open files of the kernel's own file systems (procfs, sysfs, ...) can be opened again when the job is restored.
 *
 * A restored file is opened by a process with the job's user and without capabilities, before the job's threads exist.
 * A file that such a process cannot open, or that would not be the same file, cannot be part of a checkpoint. Pure
 * rules: preflight_access.c asks whether the mode of a file lets the user open it. */
#ifndef FSCHED_POD_KERNEL_FILES_H
#define FSCHED_POD_KERNEL_FILES_H

#include <stdbool.h>
#include <stddef.h>

struct kernel_fs;

/* Finds a file system by the magic number of statfs(), or by the type in /proc/PID/mountinfo. Static. NULL: an ordinary
 * file system. */
const struct kernel_fs *kernel_fs_by_magic(unsigned long magic);
const struct kernel_fs *kernel_fs_by_type(const char *type);
bool kernel_fs_is_proc(const struct kernel_fs *fs); /* fs may be NULL */

struct kernel_file {
	const struct kernel_fs *fs;
	const char *path; /* as the job sees it */
	bool writes;      /* open for writing */
	bool other_proc;  /* on a procfs that is not the one at /proc of the pod */
	int holder;       /* pid inside the pod of the process that has it open; 0: several, or not known */
	const int *pids;  /* pids inside the pod of all processes of the job */
	size_t n_pids;
};

/* NULL if the file can be opened again, provided that its mode allows it. Otherwise the reason as a part of a sentence,
 * such as "a file of sysfs that is open for writing"; it is static or in buf. */
const char *kernel_file_obstacle(const struct kernel_file *f, char *buf, size_t len);

#endif
