/* The manifest of an epoch: what was saved, when, on which node, and a SHA-256 of every other file of the epoch. It is
 * written last and is signed by a MUNGE credential that root makes (manifest.cred; its payload is the SHA-256 of
 * manifest.json in hexadecimal). An expired credential still proves who made it.
 *
 * Of memory/chunks-* the manifest has the size only ("sums_in": "memory/image" in place of "sha256"): memory/image,
 * whose SHA-256 the manifest has, holds checksums of their bytes. mem_image_verify() (image/image.h) checks these.
 *
 * Functions that return int return 0, or -1 with err.
 */
#ifndef FSCHED_STORE_MANIFEST_H
#define FSCHED_STORE_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/err.h"

struct manifest {
	unsigned epoch, run;
	int64_t time;    /* Unix time at which the freeze began */
	char reason[16]; /* periodic | create | vacate */
	char uuid[37];
	uid_t uid;
	gid_t gid;
	int64_t frozen_us;  /* duration of the freeze; 0 in an epoch made by vacate, whose freeze is not over when the
			       manifest is written: the job's record has the duration */
	int64_t written_at; /* Unix us of the freeze, if the files include those that the job has written and closed;
			       otherwise 0 */
	int64_t names_from; /* the interval of the journal of names that began with the freeze; 0: there is no list of
			       names */
	uint64_t bytes;     /* of all files of the epoch, without their holes */
	uint64_t linked;    /* of bytes: in files that older epochs have as well. Set by manifest_write() only */
	bool private_tmp;
	struct { /* of a private /tmp that is an image (pod/pod_tmp.h); zero if it is a directory */
		uint64_t size;
		unsigned device;
		bool apart; /* large files of /tmp are beside its archive. Older versions cannot restore that */
	} tmp;
	struct {          /* of a job with a network of its own */
		bool own; /* false: it uses the node's, and the rest is empty. Older versions cannot restore it if true
			   */
		char hostname[65]; /* the node's, where the job began */
		char address[16];  /* IPv4, which the job's sockets may be bound to */
	} network;
	int32_t leader_pid; /* pid inside the pod: 2 */
	int32_t max_pid;    /* highest pid in the pod; at restore criu's own pids must be above it */
	char script[4096];  /* path under which the batch script was open */
	struct {            /* fingerprint of the node */
		char kernel[96], machine[32], cpu_model[128], cpu_flags[2048], glibc[32], criu[32], fsched[32],
			hostname[256];
		long page_size;
	} node;
	struct {           /* without `ours' only method, why and criu; all zero if an older fsched made the epoch */
		bool ours; /* memory/ holds the large areas and criu/ the rest, so criu alone cannot restore it */
		char method[16];  /* how the largest process was saved: direct | staged | fork. Without `ours': small
				     (fsched found no large area and wrote all of it into criu/) | criu (criu wrote it)
				   */
		char why[320];    /* why that method was chosen */
		bool increment;   /* unchanged pages are in files of older epochs, here as hard links, so that the older
				     epochs may be removed */
		uint64_t pages;   /* bytes of memory in memory/ */
		uint64_t zero;    /* of them, pages of zeros */
		uint64_t reused;  /* of them, in files of older epochs */
		uint64_t scanned; /* bytes read to find that out; 0 in manifests of older versions */
		uint64_t raw;     /* bytes written, before compression */
		uint64_t stored;  /* bytes written, after compression */
		uint64_t criu;    /* bytes that fsched has written into criu's images */
		uint64_t shared;  /* bytes that processes share since a fork */
		uint64_t objects; /* of pages: shared memory (MAP_SHARED), whose page lists in criu/ are empty. Older
				     versions of fsched cannot restore it */
		uint64_t ghosts;  /* of objects: deleted files, whose data is not in criu/. Older versions likewise */
		unsigned rounds;  /* of the pre-dump; 0 = there was none */
		char tracking[16]; /* how dirty pages were found, in the pre-dump or since the previous epoch: wp-async
				      | soft-dirty | none */
		uint64_t taken;    /* bytes saved during the freeze */
	} memory;
	json_t *files; /* owned: array of the records of files_record() */
	/* Owned; NULL in an epoch of an older fsched. */
	json_t *sockets; /* see worker/moved_sockets.c */
	json_t *threads; /* see worker/thread_attributes.c */
	json_t *options; /* see worker/socket_options.c */
	json_t *spaces;  /* see worker/space_attributes.c */
	/* Owned; NULL: there are none. See worker/closed_tcp.c. Older versions cannot restore an epoch with it. */
	json_t *closed;
	/* The same: scratch directories (files/scratch.c). */
	json_t *scratch;
};

void manifest_free(struct manifest *m);
/* Sets m->node to the fingerprint of this machine. criu: its version as text. */
void manifest_fingerprint(struct manifest *m, const char *criu);
/* Finds the instruction sets that the processor of m's node has and the one of `here` lacks. They matter because a
 * program may have detected them when it started. True if there are any; buf gets their names. False for an epoch of an
 * older fsched, which did not record them. */
bool manifest_missing_flags(const struct manifest *m, const struct manifest *here, char *buf, size_t len);

/* Computes the digest of every file below epochfd, sets m->bytes, and writes and syncs manifest.json and, if sign is
 * set, manifest.cred. munge_socket: "" = the default. */
int manifest_write(int epochfd, struct manifest *m, bool sign, const char *munge_socket, struct err *err);

/* Reads the manifest into *m and verifies the epoch: the credential if sign is set (made by uid 0, payload matches),
 * then presence, size and SHA-256 of every file (memory/chunks-*: see above), and that there is no other file. -1: err
 * names the first difference. */
int manifest_verify(int epochfd, struct manifest *m, bool sign, const char *munge_socket, struct err *err);

/* Describes how the memory was saved, without blanks:
 * "fork,2.0GiB,scanned:2.0GiB,dirty:120.0MiB,stored:80.1MiB,ratio:1.50". The fields are:
 * - the method
 * - memory saved by fsched
 * - memory read to find changes
 * - memory that differs from the previous epoch
 * - what that takes on disk
 * - the compression ratio
 * - "increment" for an incremental epoch
 * - "pre-dump:2" after two rounds of a pre-dump, or "tracked" if the kernel's tracking found the dirty pages
 *
 * "small,522.8KiB" if fsched has written all memory into criu's images, because there was no large area.
 * "criu" if criu has written all memory; also for an epoch of an older fsched that would be small. Returns buf. */
#define MANIFEST_MEMORY_TEXT 160
char *manifest_memory_text(const struct manifest *m, char buf[MANIFEST_MEMORY_TEXT]);

#define MANIFEST_SMALL "small"
#define MANIFEST_CRIU  "criu"
/* True if fsched has written all memory into criu's images. */
bool manifest_memory_small(const struct manifest *m);

/* Lists the TCP connections that are closed in the restored job, as far as there is room; "" = there are none. len: at
 * least 64. Returns buf. */
char *manifest_closed_text(const struct manifest *m, char *buf, size_t len);

/* True if dirty pages since the previous epoch were found by the kernel's tracking. */
bool manifest_tracked(const struct manifest *m);

/* Reads the manifest without verifying it (for `fsched show`). */
int manifest_load(int epochfd, struct manifest *m, struct err *err);

#endif
