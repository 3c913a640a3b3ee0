/* Whether a host can serve jobs with checkpoints if Slurm does not use MUNGE. */
#include "unit.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "scratch.h"
#include "slurm/auth.h"

static void munge_as_auth_type_is_not_tried(void **state)
{
	struct err err;

	assert_int_equal(auth_check_munge(NULL, "/nowhere", &err), 0);
	assert_int_equal(auth_check_munge("auth/munge", "/nowhere", &err), 0);
}

static void another_auth_type_needs_munge_besides(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err err;

	strcpy(a.sun_path, at("socket"));
	assert_int_equal(auth_check_munge("auth/slurm", at("socket"), &err), -1);
	assert_non_null(strstr(err.text, "AuthType of this cluster is auth/slurm, and no munged answers"));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(auth_check_munge("auth/slurm", at("socket"), &err), -1);
	assert_int_equal(listen(fd, 0), 0);
	for (int i = 0; i < 4; i++) /* also when it is busy */
		assert_int_equal(auth_check_munge("auth/slurm", at("socket"), &err), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(munge_as_auth_type_is_not_tried),
		cmocka_unit_test(another_auth_type_needs_munge_besides),
	};
	int rc;

	if (scratch_make(0700) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	scratch_remove();
	return rc;
}
