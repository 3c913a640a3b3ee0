/* What the BPF program of open_watch.h and its reader have in common. */
#ifndef FSCHED_AGENT_OPEN_WATCH_SHARED_H
#define FSCHED_AGENT_OPEN_WATCH_SHARED_H

#define OPEN_WATCH_TYPES_MAX  8
#define OPEN_WATCH_PATH_MAX   4096
#define OPEN_WATCH_RING_BYTES (1u << 20) /* some 10000 paths of usual length */
#define OPEN_WATCH_LEVELS     8          /* of nested PID namespaces that are looked at, the first one included */

#endif
