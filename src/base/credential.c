#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <munge.h>

#include "base/util.h"

static munge_ctx_t open_context(const char *munge_socket, struct err *err)
{
	munge_ctx_t ctx = munge_ctx_create();

	if (!ctx) {
		err_set(err, ENOMEM, "MUNGE: out of memory");
		return NULL;
	}
	if (*munge_socket && munge_ctx_set(ctx, MUNGE_OPT_SOCKET, munge_socket) != EMUNGE_SUCCESS) {
		err_set(err, EINVAL, "MUNGE: %s", munge_ctx_strerror(ctx));
		munge_ctx_destroy(ctx);
		return NULL;
	}
	return ctx;
}

/* The context knows more (which socket, which errno) than the bare code. */
static int munge_failed(munge_ctx_t ctx, munge_err_t code, const char *what, struct err *err)
{
	const char *text = munge_ctx_strerror(ctx);

	return err_set(err, EPROTO, "%s: MUNGE says \"%s\"%s", what, text ? text : munge_strerror(code),
		       code == EMUNGE_SOCKET ? "; is munged running on this node?" : "");
}

int credential_make(const char *text, const char *munge_socket, char **cred, struct err *err)
{
	munge_ctx_t ctx = open_context(munge_socket, err);
	munge_err_t code;
	int rc = 0;

	*cred = NULL;
	if (!ctx)
		return -1;
	code = munge_encode(cred, ctx, text, (int)strlen(text));
	if (code != EMUNGE_SUCCESS)
		rc = munge_failed(ctx, code, "cannot sign the checkpoint", err);
	munge_ctx_destroy(ctx);
	return rc;
}

/* With these MUNGE has checked the seal: key, payload and maker are true. */
static bool seal_is_true(munge_err_t code)
{
	return code == EMUNGE_SUCCESS || code == EMUNGE_CRED_EXPIRED || code == EMUNGE_CRED_REWOUND ||
	       code == EMUNGE_CRED_REPLAYED;
}

int credential_check(const char *cred, const char *text, const char *munge_socket, struct err *err)
{
	munge_ctx_t ctx = open_context(munge_socket, err);
	cleanup_free void *payload = NULL;
	uid_t uid = (uid_t)-1;
	gid_t gid;
	munge_err_t code;
	int len = 0, rc = 0;

	if (!ctx)
		return -1;
	code = munge_decode(cred, ctx, &payload, &len, &uid, &gid);
	if (!seal_is_true(code))
		rc = munge_failed(ctx, code, "the checkpoint's signature cannot be verified", err);
	else if (uid != 0)
		rc = err_set(err, EPERM, "the checkpoint was signed by uid %u, not by root", (unsigned)uid);
	else if (!payload || len != (int)strlen(text) || memcmp(payload, text, (size_t)len) != 0)
		rc = err_set(
			err, EBADMSG,
			"the checkpoint's signature belongs to another manifest.json: it was changed after it was signed");
	munge_ctx_destroy(ctx);
	return rc;
}
