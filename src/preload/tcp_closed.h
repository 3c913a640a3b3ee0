/* TCP connections that leave the job and are closed in the restored job. */
#ifndef FSCHED_PRELOAD_TCP_CLOSED_H
#define FSCHED_PRELOAD_TCP_CLOSED_H

#define TCP_CLOSED_MAX 4096 /* connections of a job */

#endif
