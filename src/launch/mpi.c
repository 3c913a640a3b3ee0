#include "launch/mpi.h"

#include <fcntl.h>
#include <stdio.h>

#include "launch/pmi.h"

int mpi_begin(struct mpi *m, const struct mpi_job *j, struct err *err)
{
	*m = (struct mpi){ 0 };
	if (j->type == MPI_PMIX)
		return err_set(err, 0, "--mpi=pmix does not work yet in a job that is checkpointed: start the program by mpirun");
	if (j->type == MPI_NONE)
		return 0;
	m->pmi = pmi_new(j->job_id, j->step, j->ntasks, err);
	m->job_id = j->job_id;
	m->step = j->step;
	m->ntasks = j->ntasks;
	return m->pmi ? 0 : -1;
}

int mpi_env(struct mpi *m, int task, struct env *e, struct err *err)
{
	if (m->pmi) {
		env_set(e, "PMI_FD", "%d", pmi_task_fd(m->pmi, task));
		env_set(e, "PMI_RANK", "%d", task);
		env_set(e, "PMI_SIZE", "%d", m->ntasks);
		env_set(e, "PMI_JOBID", "%s.%d", m->job_id, m->step);
		env_set(e, "SLURM_MPI_TYPE", "pmi2");
	}
	return 0;
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
	return m->pmi ? (size_t)m->ntasks : 0;
}

void mpi_prepare(const struct mpi *m, struct pollfd *p)
{
	if (m->pmi)
		pmi_prepare(m->pmi, p);
}

bool mpi_work(struct mpi *m, const struct pollfd *p, int *code)
{
	return m->pmi && pmi_work(m->pmi, p, code);
}

void mpi_end(struct mpi *m)
{
	if (m->pmi)
		pmi_free(m->pmi);
	*m = (struct mpi){ 0 };
}

void mpi_list(void)
{
	printf("MPI plugin types are...\n\tnone\n\tpmi2\n");
}
