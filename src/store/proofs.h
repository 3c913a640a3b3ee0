/* proofs.json of a job's directory: what real restores of its epochs, made to prove them (worker/prove.c), have shown.
 * The last result of each epoch. It lies beside the epochs: an epoch holds nothing that its manifest does not name. */
#ifndef FSCHED_STORE_PROOFS_H
#define FSCHED_STORE_PROOFS_H

#include "store/store.h"

struct proof {
	unsigned epoch;
	int64_t epoch_time; /* epoch_summary.time, since numbers may be used again when all epochs are gone */
	bool ok;            /* it was restored */
	int64_t time;       /* Unix, of the proof */
	int64_t took_us;    /* for the restore */
	int64_t ran_us;     /* for which the restored job has run; 0: it did not */
	unsigned processes;
	char node[256];
	char error[512]; /* why it could not be restored */
};

struct proofs {
	unsigned n;
	struct proof v[STORE_KEPT_MAX];
};

/* Adds p in place of an older proof of the same epoch, drops those of epochs that are gone, and writes the file and the
 * owner's copy. 0, or -1 with err. */
int proofs_add(const struct store *store, uid_t owner, const struct proof *p, struct err *err);
/* Reads proofs.json for root, or the owner's copy. path: that of the job's directory. 0; -1 with err: ENOENT if no
 * epoch was proved yet. */
int proofs_load(const char *path, bool copy, struct proofs *p, struct err *err);
/* The same for who only wants to show them; owned by the caller, NULL: no epoch was proved yet, or that cannot be read.
 */
struct proofs *proofs_new(const char *path, bool copy);
/* The proof of an epoch; NULL: there is none. p may be NULL. */
const struct proof *proofs_find(const struct proofs *p, unsigned epoch, int64_t epoch_time);
/* "by restore on n1 at 2026-11-22T23:01:02, 3 processes", "no: restore failed on n1 at …: why". Returns buf. */
#define PROOF_TEXT 1024
char *proof_text(const struct proof *p, char buf[PROOF_TEXT]);

#endif
