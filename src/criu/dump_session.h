/* What the processes of a dump share (criu_dump.c): criu's command line, and all descriptors. They are opened before
 * the pod's namespaces are entered, because a private /tmp may hide the files. */
#ifndef FSCHED_CRIU_DUMP_SESSION_H
#define FSCHED_CRIU_DUMP_SESSION_H

#include <stdbool.h>
#include "criu/criu.h"

#define DUMP_PATHS_MAX  8
#define DUMP_FD_ARG_LEN 12

struct dump_session {
	const struct criu_bin *bin;
	struct criu_dump *dump;
	char **argv, **envp;
	char *fd_arg; /* the element of argv that names criu's socket */
	int pid_ns, mnt_ns, net_ns, uts_ns;
	int paths[DUMP_PATHS_MAX], n_paths; /* O_PATH descriptors of criu's files */
	int relay[2];                       /* worker's, driver's end */
	int remote_call[2];                 /* worker's, criu's end; -1 unless memory is elided */
	int null, errors;
	int images_fd, work_fd;
	struct err callback; /* why stopped() or frozen() has failed */
	bool killed;
};

/* Opens everything for a dump by b. The session is to be closed after an error too. Returns 0 or -1. */
int dump_session_open(struct dump_session *s, const struct criu_bin *b, struct criu_dump *d, struct err *err);
void dump_session_close(struct dump_session *s);
/* Closes one of its descriptors early. */
void dump_session_close_fd(int *fd);

/* dump_driver.c: the driver, in the pod's namespaces. Starts criu, forwards its notifications to the worker and
 * enforces the limit of the freeze. Exits. */
_Noreturn void dump_driver_main(const struct dump_session *s);

#endif
