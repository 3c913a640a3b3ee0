/* The directory of fsched's internal programs. */
#ifndef FSCHED_CLI_LIBEXEC_H
#define FSCHED_CLI_LIBEXEC_H

/* "../libexec/fsched" relative to the directory of the running executable if fsched-worker is there (an installation
 * may be below any prefix or DESTDIR), else the directory of the build configuration. The string is static. Never
 * fails. */
const char *libexec_dir(void);

#endif
