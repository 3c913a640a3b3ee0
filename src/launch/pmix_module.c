#include "launch/pmix_module.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pmix.h>
#include <pmix_server.h>

#include "base/io.h"
#include "base/util.h"

/* libpmix calls back from threads of its own. */
static struct {
	struct pmix_step step;
	pmix_nspace_t name;
} server;

/* Waits for the end of an operation of libpmix. */
struct pmix_wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	pmix_status_t status;
};

static void pmix_done(pmix_status_t status, void *arg)
{
	struct pmix_wait *w = arg;

	pthread_mutex_lock(&w->lock);
	w->status = status;
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static int pmix_settle(pmix_status_t status, struct pmix_wait *w, const char *what, struct err *err)
{
	if (status == PMIX_SUCCESS) {
		pthread_mutex_lock(&w->lock);
		while (!w->done)
			pthread_cond_wait(&w->cond, &w->lock);
		pthread_mutex_unlock(&w->lock);
		status = w->status;
	}
	if (status == PMIX_SUCCESS || status == PMIX_OPERATION_SUCCEEDED)
		return 0;
	return err_set(err, 0, "PMIx cannot %s: %s", what, PMIx_Error_string(status));
}

/* ---- what the server is asked: all tasks are on this node, so data are handed back as they came ---- */

static pmix_status_t pmix_on_client(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t cb, void *data)
{
	if (cb)
		cb(PMIX_SUCCESS, data);
	return PMIX_SUCCESS;
}

static pmix_status_t pmix_on_abort(const pmix_proc_t *proc, void *object, int status, const char message[],
				   pmix_proc_t procs[], size_t n, pmix_op_cbfunc_t cb, void *data)
{
	const int code = status & 0xff ? status & 0xff : 1;

	if (write_all(server.step.abort_fd, &code, sizeof(code)))
		errno = 0; /* the launcher is ending */
	if (cb)
		cb(PMIX_SUCCESS, data);
	return PMIX_SUCCESS;
}

static pmix_status_t pmix_on_fence(const pmix_proc_t procs[], size_t n, const pmix_info_t info[], size_t n_info,
				   char *data, size_t len, pmix_modex_cbfunc_t cb, void *arg)
{
	cb(PMIX_SUCCESS, data, len, arg, NULL, NULL);
	return PMIX_SUCCESS;
}

static pmix_status_t pmix_on_modex(const pmix_proc_t *proc, const pmix_info_t info[], size_t n, pmix_modex_cbfunc_t cb,
				   void *arg)
{
	cb(PMIX_ERR_NOT_FOUND, NULL, 0, arg, NULL, NULL);
	return PMIX_SUCCESS;
}

static pmix_server_module_t pmix_calls_back = {
	.client_connected = pmix_on_client,
	.client_finalized = pmix_on_client,
	.abort = pmix_on_abort,
	.fence_nb = pmix_on_fence,
	.direct_modex = pmix_on_modex,
};

/* ---- what the server tells of the step ---- */

static void pmix_number(pmix_info_t *info, const char *key, uint32_t value)
{
	PMIX_INFO_LOAD(info, key, &value, PMIX_UINT32);
}

static void pmix_short(pmix_info_t *info, const char *key, uint16_t value)
{
	PMIX_INFO_LOAD(info, key, &value, PMIX_UINT16);
}

static void pmix_rank(pmix_info_t *info, const char *key, pmix_rank_t rank)
{
	PMIX_INFO_LOAD(info, key, &rank, PMIX_PROC_RANK);
}

static void pmix_of_task(pmix_info_t *info, int task)
{
	pmix_data_array_t array;
	pmix_info_t *v;

	PMIX_INFO_CREATE(v, 7);
	pmix_rank(&v[0], PMIX_RANK, (pmix_rank_t)task);
	pmix_short(&v[1], PMIX_LOCAL_RANK, (uint16_t)task);
	pmix_short(&v[2], PMIX_NODE_RANK, (uint16_t)task);
	pmix_rank(&v[3], PMIX_GLOBAL_RANK, (pmix_rank_t)task);
	pmix_number(&v[4], PMIX_APPNUM, 0);
	pmix_number(&v[5], PMIX_NODEID, 0);
	pmix_number(&v[6], PMIX_APP_RANK, (uint32_t)task);
	array = (pmix_data_array_t){ .type = PMIX_INFO, .size = 7, .array = v };
	PMIX_INFO_LOAD(info, PMIX_PROC_DATA, &array, PMIX_DATA_ARRAY);
	PMIX_INFO_FREE(v, 7);
}

enum { OF_STEP = 12 };

static pmix_info_t *pmix_describe(const char *peers, char *nodes, char *ranks)
{
	static const char *const sizes[] = { PMIX_UNIV_SIZE, PMIX_JOB_SIZE, PMIX_LOCAL_SIZE, PMIX_NODE_SIZE,
					     PMIX_MAX_PROCS };
	const int n = server.step.ntasks;
	pmix_info_t *info;
	size_t k = 0;

	PMIX_INFO_CREATE(info, (size_t)(OF_STEP + n));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		pmix_number(&info[k++], sizes[i], (uint32_t)n);
	pmix_number(&info[k++], PMIX_NUM_NODES, 1);
	pmix_number(&info[k++], PMIX_NODEID, 0);
	PMIX_INFO_LOAD(&info[k++], PMIX_NODE_MAP, nodes, PMIX_STRING);
	PMIX_INFO_LOAD(&info[k++], PMIX_PROC_MAP, ranks, PMIX_STRING);
	PMIX_INFO_LOAD(&info[k++], PMIX_LOCAL_PEERS, peers, PMIX_STRING);
	PMIX_INFO_LOAD(&info[k++], PMIX_JOBID, server.name, PMIX_STRING);
	pmix_rank(&info[k++], PMIX_LOCALLDR, 0);
	for (int i = 0; i < n; i++)
		pmix_of_task(&info[k++], i);
	return info;
}

static char *pmix_peers(int n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	for (int i = 0; i < n; i++)
		fprintf(out, "%s%d", i ? "," : "", i);
	fclose(out);
	return text;
}

static int pmix_register(struct err *err)
{
	struct pmix_wait w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };
	cleanup_free char *peers = pmix_peers(server.step.ntasks), *nodes = NULL, *ranks = NULL;
	const size_t n = (size_t)(OF_STEP + server.step.ntasks);
	pmix_info_t *info;
	int rc;

	if (PMIx_generate_regex(server.step.host, &nodes) != PMIX_SUCCESS ||
	    PMIx_generate_ppn(peers, &ranks) != PMIX_SUCCESS)
		return err_set(err, 0, "PMIx cannot describe the node %s", server.step.host);
	info = pmix_describe(peers, nodes, ranks);
	rc = pmix_settle(PMIx_server_register_nspace(server.name, server.step.ntasks, info, n, pmix_done, &w), &w,
			 "register the step", err);
	PMIX_INFO_FREE(info, n);
	return rc;
}

static int pmix_register_task(int task, struct err *err)
{
	struct pmix_wait w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };
	pmix_proc_t proc;

	PMIX_LOAD_PROCID(&proc, server.name, (pmix_rank_t)task);
	return pmix_settle(PMIx_server_register_client(&proc, getuid(), getgid(), NULL, pmix_done, &w), &w,
			   "register a task", err);
}

static int pmix_begin(const struct pmix_step *s, struct err *err)
{
	pmix_info_t *info;
	pmix_status_t status;

	server.step = *s;
	snprintf(server.name, sizeof(server.name), "slurm.pmix.%s.%d", s->job_id, s->step);
	PMIX_INFO_CREATE(info, 1);
	PMIX_INFO_LOAD(&info[0], PMIX_SERVER_TMPDIR, s->tmpdir, PMIX_STRING);
	status = PMIx_server_init(&pmix_calls_back, info, 1);
	PMIX_INFO_FREE(info, 1);
	if (status != PMIX_SUCCESS)
		return err_set(err, 0, "PMIx cannot start its server: %s", PMIx_Error_string(status));
	if (pmix_register(err))
		return -1;
	for (int i = 0; i < s->ntasks; i++)
		if (pmix_register_task(i, err))
			return -1;
	return 0;
}

static int pmix_env(int task, char ***env, struct err *err)
{
	pmix_proc_t proc;
	pmix_status_t status;

	PMIX_LOAD_PROCID(&proc, server.name, (pmix_rank_t)task);
	status = PMIx_server_setup_fork(&proc, env);
	return status == PMIX_SUCCESS
		       ? 0
		       : err_set(err, 0, "PMIx cannot prepare task %d: %s", task, PMIx_Error_string(status));
}

static void pmix_end(void)
{
	PMIx_server_finalize();
}

extern __attribute__((visibility("default"))) const struct pmix_calls fsched_pmix;
const struct pmix_calls fsched_pmix = { pmix_begin, pmix_env, pmix_end };
