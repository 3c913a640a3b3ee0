#include "base/credential.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <munge.h>

#include "base/util.h"

static munge_ctx_t credential_context(const char *socket, struct err *err)
{
	munge_ctx_t ctx = munge_ctx_create();

	if (!ctx) {
		err_set(err, ENOMEM, "MUNGE: out of memory");
		return NULL;
	}
	if (*socket && munge_ctx_set(ctx, MUNGE_OPT_SOCKET, socket) != EMUNGE_SUCCESS) {
		err_set(err, EINVAL, "MUNGE: the socket %s is not accepted: %s", socket, munge_ctx_strerror(ctx));
		munge_ctx_destroy(ctx);
		return NULL;
	}
	return ctx;
}

/* The message of the context has more details than the code alone: the socket and errno. */
static void credential_explain(munge_ctx_t ctx, munge_err_t code, const char *what, const char *socket, struct err *err)
{
	const char *why = munge_ctx_strerror(ctx), *hint = "";

	if (code == EMUNGE_SOCKET)
		hint = "; is munged running on this host? Its socket must be that of Slurm's MUNGE (MungeSocket in fsched.conf)";
	else if (code == EMUNGE_CRED_EXPIRED || code == EMUNGE_CRED_REWOUND)
		hint = "; the clocks of the two hosts differ";
	else if (code == EMUNGE_CRED_INVALID)
		hint = "; the two hosts have different MUNGE keys";
	err_set(err, EPROTO, "MUNGE cannot %s a credential%s%s: %s%s", what, *socket ? " by " : "", socket,
		why ? why : munge_strerror(code), hint);
}

char *credential_make(const char *socket, const char *text, uid_t reader, struct err *err)
{
	munge_ctx_t ctx = credential_context(socket, err);
	char *made = NULL;
	munge_err_t code = EMUNGE_SUCCESS;

	if (!ctx)
		return NULL;
	if (reader != CREDENTIAL_ANYBODY)
		code = munge_ctx_set(ctx, MUNGE_OPT_UID_RESTRICTION, reader);
	if (code == EMUNGE_SUCCESS)
		code = munge_encode(&made, ctx, text, (int)strlen(text));
	if (code != EMUNGE_SUCCESS) {
		credential_explain(ctx, code, "make", socket, err);
		free(made);
		made = NULL;
	}
	munge_ctx_destroy(ctx);
	return made;
}

/* In all of these cases MUNGE has verified the key, the payload and the maker. */
static bool credential_is_authentic(munge_err_t code)
{
	return code == EMUNGE_SUCCESS || code == EMUNGE_CRED_EXPIRED || code == EMUNGE_CRED_REWOUND ||
	       code == EMUNGE_CRED_REPLAYED;
}

/* aged: accepts a credential that has expired, comes from the future or was decoded before. */
static char *credential_decode(const char *socket, const char *cred, bool aged, uid_t *maker, struct err *err)
{
	munge_ctx_t ctx = credential_context(socket, err);
	cleanup_free void *payload = NULL;
	char *text = NULL;
	munge_err_t code;
	int len = 0;
	gid_t gid;

	if (!ctx)
		return NULL;
	code = munge_decode(cred, ctx, &payload, &len, maker, &gid);
	if (!(aged ? credential_is_authentic(code) : code == EMUNGE_SUCCESS))
		credential_explain(ctx, code, "open", socket, err);
	else if (len > 0 && memchr(payload, 0, (size_t)len))
		err_set(err, EBADMSG, "a MUNGE credential of uid %u holds a NUL byte: it is no text", (unsigned)*maker);
	else
		text = xasprintf("%.*s", len, len > 0 ? (char *)payload : "");
	munge_ctx_destroy(ctx);
	return text;
}

char *credential_open(const char *socket, const char *cred, uid_t *maker, struct err *err)
{
	return credential_decode(socket, cred, false, maker, err);
}

int credential_check(const char *socket, const char *cred, const char *text, struct err *err)
{
	uid_t uid = (uid_t)-1;
	cleanup_free char *signed_text = credential_decode(socket, cred, true, &uid, err);

	if (!signed_text)
		return err_wrap(err, "the checkpoint's signature cannot be verified");
	if (uid != 0)
		return err_set(err, EPERM, "the checkpoint was signed by uid %u, not by root", (unsigned)uid);
	if (strcmp(signed_text, text) != 0)
		return err_set(
			err, EBADMSG,
			"the checkpoint's signature belongs to another manifest.json: it was changed after it was signed");
	return 0;
}
