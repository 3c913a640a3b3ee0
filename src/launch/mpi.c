#include "launch/mpi.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "launch/pmi.h"
#include "launch/pmix_module.h"
#include "launch/real.h"

static void *mpi_load(char *why, size_t len)
{
	cleanup_free char *beside = launcher_file("fsched-pmix.so");
	void *module = beside ? dlopen(beside, RTLD_NOW | RTLD_GLOBAL) : NULL;

	if (!module)
		snprintf(why, len, "%s", beside ? dlerror() : "fsched-pmix.so is not installed");
	return module;
}

/* libpmix makes directories and files with names that others can guess, and follows links there. Where other users can
 * write (a /tmp that is not the pod's own), they would choose which files of the job's user it overwrites. */
static int mpi_make_tmpdir(struct mpi *m, struct err *err)
{
	const char *place = getenv("TMPDIR");

	m->tmpdir = xasprintf("%s/fsched-pmix.XXXXXX", place && *place ? place : "/tmp");
	if (mkdtemp(m->tmpdir))
		return 0;
	err_sys(err, errno, "cannot make a directory for PMIx, %s", m->tmpdir);
	free(m->tmpdir);
	m->tmpdir = NULL;
	return -1;
}

static void mpi_remove_tmpdir(struct mpi *m)
{
	if (m->tmpdir)
		remove_tree_at(AT_FDCWD, m->tmpdir);
	free(m->tmpdir);
	m->tmpdir = NULL;
}

static int mpi_start_pmix(struct mpi *m, const struct mpi_job *j, struct err *err)
{
	char host[256] = "";
	struct pmix_step step = { j->job_id, host, m->tmpdir, j->step, j->ntasks, -1 };

	/* Not Slurm's name of the node: libpmix compares it with this one. */
	if (gethostname(host, sizeof(host) - 1))
		return err_sys(err, errno, "cannot get the host name");
	if (pipe2(m->abort, O_CLOEXEC))
		return err_sys(err, errno, "cannot make a pipe for PMIx");
	step.abort_fd = m->abort[1];
	return m->pmix->begin(&step, err);
}

static int mpi_begin_pmix(struct mpi *m, const struct mpi_job *j, struct err *err)
{
	char why[512];
	void *module = mpi_load(why, sizeof(why));

	if (!module)
		return err_set(
			err, 0,
			"--mpi=pmix needs libpmix, which cannot be loaded (%s): install it, or start the program by mpirun",
			why);
	m->pmix = dlsym(module, PMIX_SYMBOL);
	if (!m->pmix)
		return err_set(err, 0, "cannot use fsched-pmix.so");
	if (mpi_make_tmpdir(m, err))
		return -1;
	if (mpi_start_pmix(m, j, err) == 0)
		return 0;
	mpi_remove_tmpdir(m);
	return -1;
}

int mpi_begin(struct mpi *m, const struct mpi_job *j, struct err *err)
{
	*m = (struct mpi){ .job_id = j->job_id, .step = j->step, .ntasks = j->ntasks, .abort = { -1, -1 } };
	if (j->type == MPI_NONE)
		return 0;
	if (j->type == MPI_PMIX)
		return mpi_begin_pmix(m, j, err);
	m->pmi = pmi_new(j->job_id, j->step, j->ntasks, err);
	return m->pmi ? 0 : -1;
}

int mpi_env(struct mpi *m, int task, struct env *e, struct err *err)
{
	char **v = e->v;
	int rc = 0;

	if (m->pmi) {
		env_set(e, "PMI_FD", "%d", pmi_task_fd(m->pmi, task));
		env_set(e, "PMI_RANK", "%d", task);
		env_set(e, "PMI_SIZE", "%d", m->ntasks);
		env_set(e, "PMI_JOBID", "%s.%d", m->job_id, m->step);
		env_set(e, "SLURM_MPI_TYPE", "pmi2");
	}
	if (m->pmix) {
		env_set(e, "SLURM_MPI_TYPE", "pmix");
		v = e->v;
		rc = m->pmix->env(task, &v, err);
		env_adopt(e, v);
	}
	return rc;
}

void mpi_in_task(const struct mpi *m, int task)
{
	if (m->pmi)
		fcntl(pmi_task_fd(m->pmi, task), F_SETFD, 0);
}

void mpi_forked(struct mpi *m, int task)
{
	if (m->pmi)
		pmi_forked(m->pmi, task);
}

size_t mpi_count(const struct mpi *m)
{
	return m->pmi ? (size_t)m->ntasks : 1;
}

void mpi_prepare(const struct mpi *m, struct pollfd *p)
{
	if (m->pmi)
		pmi_prepare(m->pmi, p);
	else
		*p = (struct pollfd){ .fd = m->abort[0], .events = POLLIN };
}

bool mpi_work(struct mpi *m, const struct pollfd *p, int *code)
{
	*code = 0;
	if (m->pmi)
		return pmi_work(m->pmi, p);
	return p->fd >= 0 && p->revents & POLLIN && read(p->fd, code, sizeof(*code)) == sizeof(*code);
}

void mpi_end(struct mpi *m)
{
	if (m->pmi)
		pmi_free(m->pmi);
	if (m->pmix)
		m->pmix->end();
	mpi_remove_tmpdir(m);
	*m = (struct mpi){ 0 };
}

void mpi_list(void)
{
	cleanup_free char *pmix = launcher_file("fsched-pmix.so");

	printf("MPI plugin types are...\n\tnone\n\tpmi2\n%s", pmix && !access(pmix, R_OK) ? "\tpmix\n" : "");
}
