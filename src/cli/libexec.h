/* Where fsched's internal programs are. */
#ifndef FSCHED_CLI_LIBEXEC_H
#define FSCHED_CLI_LIBEXEC_H

/* The directory that belongs to this very program: "../libexec/fsched" beside the directory of its executable (an
 * installation may lie below any prefix or DESTDIR), else the one it was configured for. The text stays valid; no error
 * is possible. */
const char *libexec_dir(void);

#endif
