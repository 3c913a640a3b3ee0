/* criu, MUNGE and the clock. */
#include "cli/doctor/doctor.h"

#include <stdio.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

#include "base/credential.h"
#include "cli/plugstack.h"
#include "base/slurmconf.h"
#include "base/util.h"
#include "cli/doctor/doctor_report.h"
#include "trace/arch.h"
#include "capture/probe.h"
#include "criu/criu.h"

#define GET_CRIU \
	"install criu 4.2 or later, or make a private copy with " FSCHED_LIBEXECDIR "/get-criu and name it as CriuPath"
#define CHECK_TIMEOUT 60

static bool check_criu_version(const struct criu_bin *b)
{
	int major = 0, minor = 0;

	if (sscanf(b->version, "%d.%d", &major, &minor) != 2) {
		doctor_report(FINDING_WARNING, "criu", "%s has a version that is not understood: %s", b->argv[0],
			      b->version);
		return true;
	}
	if (major < 4 || (major == 4 && minor < 1)) {
		doctor_report(FINDING_FAILED, "criu", "%s is too old; " GET_CRIU, b->version);
		return false;
	}
	if (major == 4 && minor < 2)
		doctor_report(FINDING_WARNING, "criu",
			      "%s cannot save programs with threads under glibc 2.42 and later; " GET_CRIU, b->version);
	else
		doctor_report(FINDING_OK, "criu", "%s", b->version);
	return true;
}

static void check_engine(const struct conf *c, const struct criu_bin *b, bool root)
{
	char fork[64] = "is not possible on this kind of machine";
	struct mem_node n;
	struct err err;

	if (c->engine == CONF_ENGINE_CRIU) {
		doctor_report(FINDING_OK, "memory engine", "criu writes all memory (MemoryEngine = criu)");
		return;
	}
	if (!root) {
		doctor_needs_root("memory engine");
		return;
	}
	if (criu_check_elide(b, CHECK_TIMEOUT, &err) < 0) {
		doctor_report(FINDING_WARNING, "memory engine", "criu writes all memory while jobs stand still: %s",
			      err.text);
		return;
	}
	mem_probe_node(&n);
	if (arch_can_inject())
		snprintf(fork, sizeof(fork), "%.0f ms and then %.1f us per page that is rewritten",
			 n.fork_us_per_mb * 1.024, n.cow_us);
	doctor_report(FINDING_OK, "memory engine", "fsched's own; per GiB a copy takes %.0f ms, a fork %s",
		      n.copy_us_per_mb * 1.024, fork);
}

void doctor_criu(const struct conf *c, bool root)
{
	cleanup_free char *libexec = plugstack_libexec();
	struct criu_bin b;
	struct err err;

	memset(&b, 0, sizeof(b));
	if (criu_locate(c->criu, libexec, &b, &err) < 0) {
		doctor_report(FINDING_FAILED, "criu", "%s", err.text);
		return;
	}
	if (check_criu_version(&b)) {
		if (!root)
			doctor_needs_root("criu check");
		else if (criu_check(&b, CHECK_TIMEOUT, &err) < 0)
			doctor_report(FINDING_FAILED, "criu check", "%s", err.text);
		else
			doctor_report(FINDING_OK, "criu check", "criu can work on this kernel");
		check_engine(c, &b, root);
	}
	criu_bin_free(&b);
}

void doctor_munge(const struct conf *c)
{
	cleanup_free char *info = slurmconf_value(slurmconf_path(), "AuthInfo");
	cleanup_free char *slurm_socket = slurmconf_option(info, "socket");
	cleanup_free char *cred = NULL, *payload = NULL;
	struct err err;
	uid_t maker;

	cred = credential_make(c->munge_socket, "fsched doctor", geteuid(), &err);
	if (cred)
		payload = credential_open(c->munge_socket, cred, &maker, &err);
	if (!payload)
		doctor_report(FINDING_FAILED, "munge", "%s", err.text);
	else if (maker != geteuid() || strcmp(payload, "fsched doctor") != 0)
		doctor_report(FINDING_FAILED, "munge", "a credential came back changed; is the socket munged's?");
	else
		doctor_report(FINDING_OK, "munge", "a credential was made and opened");
	if (slurm_socket && strcmp(slurm_socket, c->munge_socket) != 0)
		doctor_report(FINDING_WARNING, "munge",
			      "Slurm's AuthInfo names the socket %s, fsched uses %s; set MungeSocket = %s in fsched.conf",
			      slurm_socket, *c->munge_socket ? c->munge_socket : "MUNGE's default", slurm_socket);
}

/* MUNGE refuses credentials that are older than some minutes or from the future. */
void doctor_clock(void)
{
	struct timex t = { 0 };
	int state = adjtimex(&t);

	if (state == TIME_ERROR || (t.status & STA_UNSYNC))
		doctor_report(FINDING_WARNING, "clock",
			      "is not synchronised as far as the kernel knows; run an NTP service on all nodes, "
			      "or MUNGE may refuse credentials");
	else
		doctor_report(FINDING_OK, "clock", "is synchronised");
}
