/* Requests to fsched-worker. */
#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>

#include "base/json.h"
#include "base/user_groups.h"
#include "base/util.h"
#include "cli/worker_call.h"

int pod_user_cred(const char *user, struct pod_cred *cred, struct err *err)
{
	const struct passwd *pw;

	memset(cred, 0, sizeof(*cred));
	errno = 0;
	pw = user ? getpwnam(user) : getpwuid(0);
	if (!pw)
		return err_set(err, errno, "there is no user \"%s\" on this machine", user ? user : "root");
	cred->uid = pw->pw_uid;
	cred->gid = pw->pw_gid;
	cred->n_groups = user_groups(pw->pw_name, pw->pw_gid, &cred->groups);
	return 0;
}

json_t *pod_request(const struct pod_opts *o, const struct pod_home *h, const struct job_record *rec,
		    const struct pod_cred *cred, bool private_tmp, unsigned epoch)
{
	char dir[4096];
	json_t *req;

	pod_home_dir(h, dir, sizeof(dir));
	req = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:b, s:b}", "uuid", rec->uuid, "script", "", "epoch",
			(json_int_t)epoch, "run", (json_int_t)rec->run, "uid", (json_int_t)cred->uid, "gid",
			(json_int_t)cred->gid, "groups", json_gids(cred->groups, cred->n_groups), "private_tmp",
			(int)private_tmp, "sign", 0);
	json_set_name(req, "job_dir", h->store.path);
	json_set_name(req, "pod_dir", dir);
	json_set_name(req, "config", o->conf.path);
	return req;
}

json_t *pod_worker(const struct pod_opts *o, const char *op, json_t *req, int keep_fd,
		   bool (*held)(void *arg, const json_t *event), void *arg, struct err *err)
{
	const struct worker_call c = { .libexec = o->libexec,
				       .op = op,
				       .label = "pod",
				       .keep_fd = keep_fd,
				       .seconds = conf_checkpoint_seconds(&o->conf),
				       .timeout = o->conf.timeout,
				       .held = held,
				       .arg = arg };
	json_t *result = NULL;

	if (worker_call(&c, req, &result, err) == 0)
		return result;
	json_decref(result);
	return NULL;
}
