/* What slurmctld's configuration says. */
#ifndef FSCHED_CLI_DOCTOR_SETTINGS_H
#define FSCHED_CLI_DOCTOR_SETTINGS_H

struct settings {
	const char *running; /* running_config_load(); NULL: slurmctld does not answer, and conf is read */
	const char *conf;    /* path of slurm.conf */
};

/* munge_socket: MungeSocket of fsched.conf */
void settings_check(const struct settings *s, const char *munge_socket);

#endif
