#include "cli/user/cred.h"

#include <munge.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static munge_ctx_t context(const char *socket, struct err *err)
{
	munge_ctx_t ctx = munge_ctx_create();

	if (!ctx) {
		err_set(err, 0, "MUNGE: out of memory");
		return NULL;
	}
	if (*socket && munge_ctx_set(ctx, MUNGE_OPT_SOCKET, socket) != EMUNGE_SUCCESS) {
		err_set(err, 0, "MUNGE: the socket %s is not accepted: %s", socket, munge_ctx_strerror(ctx));
		munge_ctx_destroy(ctx);
		return NULL;
	}
	return ctx;
}

static void explain(munge_ctx_t ctx, munge_err_t e, const char *what, const char *socket, struct err *err)
{
	const char *why = munge_ctx_strerror(ctx);
	const char *hint = "";

	if (e == EMUNGE_SOCKET)
		hint = "; the socket must be that of Slurm's MUNGE (MungeSocket in fsched.conf)";
	else if (e == EMUNGE_CRED_EXPIRED || e == EMUNGE_CRED_REWOUND)
		hint = "; the clocks of the two hosts differ";
	else if (e == EMUNGE_CRED_INVALID)
		hint = "; the two hosts have different MUNGE keys";
	err_set(err, 0, "MUNGE cannot %s a credential%s%s: %s%s", what, *socket ? " by " : "", socket,
		why ? why : munge_strerror(e), hint);
}

char *cred_encode(const char *socket, const char *payload, uid_t reader, struct err *err)
{
	munge_ctx_t ctx = context(socket, err);
	char *made = NULL, *copy = NULL;
	munge_err_t e;

	if (!ctx)
		return NULL;
	munge_ctx_set(ctx, MUNGE_OPT_UID_RESTRICTION, reader);
	e = munge_encode(&made, ctx, payload, (int)strlen(payload));
	if (e == EMUNGE_SUCCESS)
		copy = xstrdup(made);
	else
		explain(ctx, e, "make", socket, err);
	free(made);
	munge_ctx_destroy(ctx);
	return copy;
}

char *cred_decode(const char *socket, const char *cred, uid_t *maker, struct err *err)
{
	munge_ctx_t ctx = context(socket, err);
	char *copy = NULL;
	void *payload = NULL;
	gid_t gid;
	int len = 0;
	munge_err_t e;

	if (!ctx)
		return NULL;
	e = munge_decode(cred, ctx, &payload, &len, maker, &gid);
	if (e == EMUNGE_SUCCESS)
		copy = xasprintf("%.*s", len, len > 0 ? (char *)payload : "");
	else
		explain(ctx, e, "open", socket, err);
	free(payload);
	munge_ctx_destroy(ctx);
	return copy;
}
