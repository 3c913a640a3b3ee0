/* criu's log in words for people. */
#include "unit.h"

#include <string.h>

#include "base/util.h"
#include "criu/criu.h"
#include "policy/obstacle.h"
#include "scratch.h"

static char *explained(const char *log, char *buf, size_t len)
{
	put_text(at("restore.log"), log);
	return criu_log_explain(scratch_fd, "restore.log", buf, len);
}

static void causes_of_a_restore(void **state)
{
	static const struct {
		const char *log, *told;
		enum obstacle_class class;
	} cases[] = {
		{ "(00.071234)     12: Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 52): Address already in use\n"
		  "(00.080000) Error (criu/cr-restore.c:1258): 12 exited, status=1\n(00.09) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
		  "a port that the job had open is in use on this node: it is free a minute", OBSTACLE_PASSES },
		{ "(00.07)     12: Error (criu/sk-unix.c:1651): unix: Can't bind id 0x3 ino 77 addr @x: Address already in use\n",
		  "the name of a Unix socket of the job is in use", OBSTACLE_PASSES },
		{ "(00.07)     12: Error (criu/tty.c:625): tty: Unable to open /dev/ptmx with specified index 3\n",
		  "criu did not get the number that a terminal", OBSTACLE_PASSES },
		{ "(00.07)     12: Error (criu/files-reg.c:2353): Can't open file dev/ptmx on restore: No space left on device\n",
		  "all terminals (ptys) that this node allows are in use: close some, or raise kernel.pty.max",
		  OBSTACLE_PASSES },
		{ "(00.07) Error (criu/tty.c:2286): tty: ctty inheritance detected sid/pgrp 4 (ctty pid_real 4 pty pid_real 3)\n",
		  "a process of the job has /dev/tty open: close it", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/tty.c:345): tty: Found slave peer index 4 without correspond master peer\n",
		  "is open outside the job only", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/../soccr/soccr.c:441): ?recv failed (6, want 7): Success\n(00.08) Error (criu/sk-tcp.c:222): tcp: libsoccr_save() failed with -5\n",
		  "has urgent data (MSG_OOB) that its program has not read: try again", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/sk-queue.c:211): skqueue: Control messages in queue, not supported\n",
		  "together with a descriptor, credentials or a time stamp: try again", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/tty.c:1850): tty: Found dangling tty with sid 7 pgid 7 (pts) on peer fd 3.\n",
		  "belongs to a session outside the job", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/cr-restore.c:1230): Can't fork for 44: File exists\n",
		  "a process id of the job is in use", OBSTACLE_PASSES },
		{ "(00.07) Error (criu/cr-restore.c:1230): Can't fork for 44: Resource temporarily unavailable\n",
		  "the limit of processes", OBSTACLE_PASSES },
		{ "(00.07)pie: 44: Error (criu/pie/restorer.c:2185): Unable to create a thread: -11\n",
		  "the limit of processes", OBSTACLE_PASSES },
		{ "(00.07) pie: 44: Error (criu/pie/restorer.c:944): Ring setup failed with -11\n",
		  "asynchronous I/O is reached: raise fs.aio-max-nr", OBSTACLE_PASSES },
		{ "(00.07) Error (criu/cr-restore.c:1262): 44 killed by signal 9: Killed\n",
		  "a process was killed, as for lack of memory", OBSTACLE_PASSES },
		{ "(00.07) 9: Error (criu/files-reg.c:2267): Can't open file data/x on restore: No such file or directory\n",
		  "a file that the job had open is not there on this node: mount its file system", OBSTACLE_PASSES },
		{ "(00.07) 9: Error (criu/files-reg.c:2267): Can't open file data/x: Permission denied\n",
		  "may not open a file any more", OBSTACLE_JOB },
		{ "(00.07) 9: Error (criu/files-reg.c:2175): File usr/lib/libm.so.6 has bad size 5 (expect 6)\n",
		  "another size than at the checkpoint", OBSTACLE_NODE },
		{ "(00.07) 9: Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 1): Cannot assign requested address\n",
		  "a network address that the job had bound", OBSTACLE_NODE },
		{ "(00.07) Error (criu/sk-inet.c:502): inet: Can't dump corked dgram socket 2e1b57a\n",
		  "holds back what it writes to a UDP socket (UDP_CORK): try again", OBSTACLE_EPOCH },
		{ "(00.07) Error (compel/src/lib/infect.c:452): Can't dump the 5 thread with a pending SIGTRAP.\n",
		  "a trap (SIGTRAP) that it has not handled yet: try again", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/namespaces.c:739): Can't dump nested time_for_children namespace for 5\n",
		  "a time namespace for its children", OBSTACLE_EPOCH },
		{ "(00.07) Error (criu/cr-restore.c:2492): Image corrupted on pid 3\n", "the epoch is damaged",
		  OBSTACLE_EPOCH },
		{ "(00.09) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
		  "criu gives no reason: look at restore.log", OBSTACLE_UNKNOWN },
		{ "(00.09) Error (criu/new.c:1): A text of a later criu\n", "criu: A text of a later criu",
		  OBSTACLE_UNKNOWN },
	};
	char buf[900];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		explained(cases[i].log, buf, sizeof(buf));
		if (!strstr(buf, cases[i].told) || obstacle_class(buf) != cases[i].class)
			fail_msg("%s: \"%s\", class %d", cases[i].log, buf, obstacle_class(buf));
	}
}

static void what_is_not_an_error(void **state)
{
	char buf[900];

	assert_string_equal(explained("", buf, sizeof(buf)), "");
	assert_string_equal(
		explained("(00.1) 1: Opening Error (criu/x.c:1): No space left on device\n", buf, sizeof(buf)), "");
	assert_string_equal(explained("(00.1) Warn (criu/x.c:1): Address already in use\n", buf, sizeof(buf)), "");
}

/* No sentence may be classed in another way than the text that it explains. */
static void a_sentence_has_the_class_of_its_text(void **state)
{
	static const char *const texts[] = { "Address already in use",
					     "unix: Address already in use",
					     "Cannot allocate memory",
					     "No space left on device",
					     "has bad size",
					     "Can't open file: No such file",
					     "io_uring",
					     "fork: Resource temporarily unavailable" };
	char told[900];

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const struct obstacle *o = obstacle_find(texts[i]);

		assert_non_null(o);
		snprintf(told, sizeof(told), "%s: %s (criu: %s)", o->sentence, o->hint ? o->hint : "", texts[i]);
		assert_int_equal(obstacle_class(told), o->class);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(causes_of_a_restore),
		cmocka_unit_test(what_is_not_an_error),
		cmocka_unit_test(a_sentence_has_the_class_of_its_text),
	};

	int rc;

	if (scratch_make(0700) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	scratch_remove();
	return rc;
}
