/* The manifest of an epoch: what, when, from which node, and a SHA-256 of every
 * other file of the epoch. It is the last thing written into the epoch and is
 * signed by a MUNGE credential made by root (manifest.cred, payload: the
 * SHA-256 of manifest.json in hex). An expired credential still proves its maker.
 *
 * Of memory/chunks-* it has the size only ("sums_in": "memory/image" in place of "sha256"): their bytes are covered by
 * the checksums in memory/image, whose SHA-256 the manifest has, and mem_image_verify() (image/image.h) is what reads
 * them.
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
	int64_t time;    /* Unix, when the freeze began */
	char reason[16]; /* periodic | create | vacate */
	char uuid[37];
	uid_t uid;
	gid_t gid;
	int64_t frozen_us;  /* 0 in an epoch made by vacate: not over yet, the job's record tells */
	int64_t written_at; /* Unix us of the freeze, if files that the job has written and closed are among the files;
			       else 0 */
	uint64_t bytes;     /* of all files of the epoch, apparent size */
	bool private_tmp;
	int32_t leader_pid; /* in the pod: 2 */
	int32_t max_pid;    /* highest pid in the pod: criu's own pids must lie above at restore */
	char script[4096];  /* path under which the batch script was open */
	struct {            /* fingerprint of the node */
		char kernel[96], machine[32], cpu_model[128], cpu_flags[2048], glibc[32], criu[32], fsched[32],
			hostname[256];
		long page_size;
	} node;
	struct {                 /* all zero in an epoch whose memory criu has written */
		bool ours;       /* memory/ holds the large areas, criu/ the rest: not for criu alone */
		char method[16]; /* how the largest process was taken: direct | staged | fork */
		char why[320];
		bool increment; /* what has not changed lies in files of older epochs (hard links: they may be removed)
				 */
		uint64_t pages, zero, reused; /* bytes: in memory/, of them zeros and in files of older epochs */
		uint64_t scanned;             /* bytes read to find that out; 0 in manifests of older versions */
		uint64_t raw, stored;         /* written data, before and after compression */
		uint64_t criu;                /* bytes left to criu's images */
		uint64_t shared;              /* bytes that processes had in common after a fork */
		uint64_t objects;  /* of pages: shared memory (MAP_SHARED), whose lists in criu/ are empty. Older
				      versions of fsched do not restore it */
		uint64_t ghosts;   /* of objects: deleted files, of which criu/ has no data. Likewise */
		unsigned rounds;   /* of a pre-dump; 0 = there was none */
		char tracking[16]; /* how was known what was written, in a pre-dump or since the epoch before: wp-async
				      | soft-dirty | none */
		uint64_t taken;    /* bytes that were taken in the freeze */
	} memory;
	json_t *files; /* owned: records of files_record(), array */
};

void manifest_free(struct manifest *m);
/* Fills m->node with this machine's. criu: version text. */
void manifest_fingerprint(struct manifest *m, const char *criu);
/* The instruction sets that the processor of m's node has and that of here lacks: a program may have found out at its
 * start that it can use them. True if there are any; buf gets their names. An epoch of an older fsched, which did not
 * record them, lacks none. */
bool manifest_missing_flags(const struct manifest *m, const struct manifest *here, char *buf, size_t len);

/* Digests every file below epochfd and writes manifest.json (+ manifest.cred if
 * sign), fsyncs both. munge_socket: "" = default. Sets m->bytes. */
int manifest_write(int epochfd, struct manifest *m, bool sign, const char *munge_socket, struct err *err);

/* Reads and verifies: credential (made by uid 0, payload matches) if sign, then
 * presence, size and SHA-256 of every file (memory/chunks-*: see above), and that there is no other file. The first
 * difference is named. */
int manifest_verify(int epochfd, struct manifest *m, bool sign, const char *munge_socket, struct err *err);

/* "fork,2.0GiB,scanned:2.0GiB,dirty:120.0MiB,stored:80.1MiB,ratio:1.50", with ",increment" behind it if it is one and
 * ",pre-dump:2" after so many rounds of a pre-dump, or ",tracked" if the kernel has told what was written since the
 * epoch before: the way of the ladder, the memory that fsched has taken, what was read of it, what is not as in the
 * epoch before, what that takes on the disk, and how much smaller that is. "criu" if criu has written all of it. Holds
 * no blank. */
#define MANIFEST_MEMORY_TEXT 160
char *manifest_memory_text(const struct manifest *m, char buf[MANIFEST_MEMORY_TEXT]);

/* The kernel has told what was written since the epoch before. */
bool manifest_tracked(const struct manifest *m);

/* Reads without verifying (for `fsched show`). */
int manifest_load(int epochfd, struct manifest *m, struct err *err);

#endif
